package keep

import (
	"context"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"howdah/backup/repo"
	"howdah/backup/stanza"
	"howdah/pki"
	"howdah/spec"
)

// inBucket is a keeper of a member whose cluster archives into a bucket.
func inBucket(t *testing.T) *Keeper {
	t.Helper()
	dir := t.TempDir()
	ca, err := pki.OpenAuthority(filepath.Join(dir, "ca"), "test")
	if err != nil {
		t.Fatal(err)
	}
	n := spec.Node{Cluster: "t", Member: "a", Paths: spec.Paths{Run: dir, Secrets: filepath.Join(dir, "secrets.json")}, Postgres: spec.Postgres{Data: filepath.Join(dir, "data"), Port: 5432}}
	n.Backup = spec.Backup{Repo: "/pgbackrest", Config: filepath.Join(dir, "pgbackrest.conf")}
	n.Backup.Repository = spec.Repository{
		Bucket: spec.Bucket{Name: "pgsql", Endpoint: "s3.lab", Region: "r", PathStyle: true, Port: 9000, CAFile: ca.File},
		Cipher: "aes-256-cbc", Full: 14, ByTime: true, BundleSize: 1 << 20,
	}
	if err := os.WriteFile(n.Paths.Secrets, []byte(`{"bucket_key":"KEY","bucket_key_secret":"HUSH","cipher_pass":"PHRASE"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	k, err := New(n, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// The file that archive_command reads leads to the bucket, and is its owner's alone.
func TestConfigurationOfABucket(t *testing.T) {
	k := inBucket(t)
	if k.stanza().Pass.Reveal() != "PHRASE" || k.stanza().Name != "t" {
		t.Errorf("the repository is opened with %q as %s", k.stanza().Pass.Reveal(), k.stanza().Name)
	}
	if err := k.configure(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(k.node.Backup.Config)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"repo1-type=s3", "repo1-path=/pgbackrest", "repo1-s3-bucket=pgsql", "repo1-s3-endpoint=s3.lab", "repo1-s3-region=r", "repo1-s3-key=KEY", "repo1-s3-key-secret=HUSH",
		"repo1-s3-uri-style=path", "repo1-storage-port=9000", "repo1-storage-ca-file=" + k.node.Backup.Bucket.CAFile, "repo1-cipher-type=aes-256-cbc", "repo1-cipher-pass=PHRASE",
		"repo1-retention-full=14", "repo1-retention-full-type=time", "repo1-bundle-size=1048576",
	} {
		if !slices.Contains(strings.Split(string(text), "\n"), line) {
			t.Errorf("%s is not in it", line)
		}
	}
	if st, err := os.Stat(k.node.Backup.Config); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
}

// Without the keys nothing begins.
func TestBucketWithoutKeys(t *testing.T) {
	n := inBucket(t).node
	if err := os.Remove(n.Paths.Secrets); err != nil {
		t.Fatal(err)
	}
	if _, err := New(n, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("it begins")
	}
	if s := Look(t.Context(), n); s.Unwell == "" || s.Bucket != "bucket pgsql at s3.lab" {
		t.Errorf("%+v", s)
	}
}

// counting counts what a store was asked.
type counting struct {
	repo.Storage
	asked int
}

func (c *counting) List(ctx context.Context, dir string) ([]repo.Entry, error) {
	c.asked++
	return c.Storage.List(ctx, dir)
}

// Who leads says what is in the bucket, and looks now and then, not whenever
// somebody asks; the others do not look at all.
func TestWhoSpeaksOfABucket(t *testing.T) {
	k := inBucket(t)
	store := &counting{Storage: led(t).Storage}
	k.desk.Stanzas[0] = &stanza.Stanza{Storage: store, Name: "t", Repo: 1}
	k.leads = func() bool { return false }
	if s := k.State(t.Context()); len(s.Backups) != 0 || s.Bucket == "" || s.Unwell != "" || store.asked != 0 {
		t.Errorf("a standby says %+v after %d requests", s, store.asked)
	}
	k.leads = func() bool { return true }
	if s := k.State(t.Context()); len(s.Backups) != 2 || s.Newest != "000000020000000000000005" || store.asked == 0 {
		t.Errorf("the leader says %+v", s)
	}
	was := store.asked
	if s := k.State(t.Context()); len(s.Backups) != 2 || store.asked != was {
		t.Errorf("asked again, it asks the bucket %d times", store.asked-was)
	}
}

// A cluster of the same name elsewhere may be whose backups these are.
func TestBucketOfAnother(t *testing.T) {
	k := inBucket(t)
	from := led(t)
	k.desk.Stanzas[0] = from
	before := names(t, from, "")
	err := k.introduce(t.Context())
	if err == nil || !strings.Contains(err.Error(), "another database") || strings.Contains(err.Error(), "HUSH") {
		t.Errorf("it ends with %v", err)
	}
	if after := names(t, from, ""); !slices.Equal(before, after) {
		t.Errorf("there was %v, is %v", before, after)
	}
	k.desk.Stanzas[0] = opened()
	if err := k.introduce(t.Context()); err == nil || !strings.Contains(err.Error(), fs.ErrNotExist.Error()) && !strings.Contains(err.Error(), "no such file") {
		t.Errorf("an empty one is not made: %v", err) // only because there is no data directory
	}
}

// Several repositories have a keeper each, and one file by which pgBackRest finds all
// of them, in the order of the inventory.
func TestSeveralRepositories(t *testing.T) {
	n := inBucket(t).node
	lab := spec.Further{Path: "/pgbackrest", Repository: n.Backup.Repository}
	lab.Name = "lab"
	dir := t.TempDir()
	n.Backup.Repo, n.Backup.Copies = filepath.Join(dir, "backup"), 2
	n.Backup.Members = []spec.Holder{{Member: "a"}, {Member: "b"}}
	n.Backup.Repository, n.Backup.More = spec.Repository{Name: "disk", Full: 3}, []spec.Further{lab}
	if err := os.WriteFile(n.Paths.Secrets, []byte(`{"bucket_key_2":"KEY","bucket_key_secret_2":"HUSH","cipher_pass_2":"PHRASE"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	k, err := New(n, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := k.configure(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(n.Backup.Config)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"repo1-path=" + n.Backup.Repo, "repo1-retention-full=3", "repo2-type=s3", "repo2-path=/pgbackrest", "repo2-s3-key=KEY", "repo2-s3-key-secret=HUSH", "repo2-cipher-pass=PHRASE",
		"repo2-retention-full=14", "repo2-retention-full-type=time", "repo1-bundle=y", "repo2-bundle=y",
	} {
		if !slices.Contains(strings.Split(string(text), "\n"), line) {
			t.Errorf("%s is not in it:\n%s", line, text)
		}
	}
	if st, err := os.Stat(n.Backup.Config); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
	far := k.named("lab")
	if k.named("2") != far || k.named("") != k || k.named("disk") != k || k.named("tape") != nil || far == k || k.disk() != k {
		t.Error("they are not found by their names")
	}
	if far.stanza().Repo != 2 || far.stanza().Pass.Reveal() != "PHRASE" || k.stanza().Repo != 1 || k.stanza().Pass != "" || k.stanza().Mark() == far.stanza().Mark() {
		t.Errorf("%+v, %+v", k.stanza(), far.stanza())
	}
	if got := k.node.Backup.Holders("a"); len(got) != 2 {
		t.Errorf("of the disks %v hold what a makes", got)
	}
	if got := far.node.Backup.Holders("a"); len(got) != 1 {
		t.Errorf("of the bucket %v hold what a makes", got)
	}
	for name, own := range map[string]spec.Backup{"disk": k.node.Backup, "lab": far.node.Backup} {
		said := State{Member: "b", Repository: "disk", Also: []State{{Member: "b", Repository: "lab", Bucket: "bucket pgsql at s3.lab"}}}
		if got := said.of(own); got.Repository != name {
			t.Errorf("of %s another says %+v", name, got)
		}
	}
	// Who has the bucket alone says nothing of disks.
	if got := (State{Member: "b", Bucket: "bucket pgsql at s3.lab"}).of(k.node.Backup); got.Member != "" {
		t.Errorf("it is taken for %+v", got)
	}
}
