package interop

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"howdah/backup/repo"
	"howdah/test/tests3"
)

// bucket are the lines that lead to a repository in a bucket of a server.
func bucket(s *tests3.Server, repo int) string {
	var b strings.Builder
	for _, line := range []string{
		"type=s3", "path=/pgbackrest", "s3-bucket=pgsql", "s3-endpoint=localhost", "s3-region=" + tests3.Region,
		"s3-key=" + tests3.Key, "s3-key-secret=" + tests3.Secret, "s3-uri-style=path",
		fmt.Sprintf("storage-port=%d", s.Port), "storage-ca-file=" + s.CAFile,
	} {
		fmt.Fprintf(&b, "repo%d-%s\n", repo, line)
	}
	return b.String()
}

// A repository in a bucket, over TLS: a chain that both make in turn, WAL of
// one's archiver, the same answers, and restores by both.
func TestBucket(t *testing.T) {
	both := map[string]string{"ours": ours, "theirs": theirs}
	type chain struct {
		setting
		by []string
	}
	chains := []chain{{setting{compress: "zst", cipher: "it's a secret", bundle: true, archiver: theirs}, []string{"ours", "theirs"}}}
	if *wide {
		chains = append(
			chains, chain{setting{compress: "zst"}, []string{"theirs", "ours", "theirs"}},
			chain{setting{compress: "none", bundle: true}, []string{"ours", "theirs", "ours"}},
			chain{setting{compress: "gz", cipher: "secret"}, []string{"theirs", "ours", "theirs"}},
		)
	}
	for _, c := range chains {
		t.Run(fmt.Sprintf("%s_cipher=%t_bundle=%t_%s", c.compress, c.cipher != "", c.bundle, strings.Join(c.by, "-")), func(t *testing.T) {
			c.store = bucket(tests3.Start(t, "pgsql"), 1)
			l := newLab(t, c.setting)
			l.with(both[c.by[0]], "stanza-create")
			l.with(both[c.by[1]], "stanza-create")
			l.with(ours, "check")
			l.with(theirs, "check")
			l.fill()
			for i, by := range c.by {
				l.grow()
				l.with(both[by], "--type="+[]string{"full", "incr", "diff"}[i], "--process-max=2", "backup")
			}
			l.sameInfo()
			l.clean()
			want := l.grow()
			l.archived()
			for name, program := range both {
				if got := l.restore(program).query(rows); got != want {
					t.Errorf("restored by %s: %s, want %s", name, got, want)
				}
			}
			// What is too old goes from the bucket.
			l.with(ours, "--type=full", "--repo1-retention-full=1", "backup")
			l.with(theirs, "--repo1-retention-full=1", "expire")
			l.sameInfo()
			if *wide {
				l.with(theirs, "--type=full", "--repo1-retention-full=1", "backup")
				l.with(ours, "--repo1-retention-full=1", "expire")
				l.sameInfo()
				l.clean()
			}
		})
	}
}

// A newer one stores blocks in bundles in a bucket, which ours restores.
func TestBucketBlocks(t *testing.T) {
	newest := newer(t)
	if !*wide {
		t.Skip("only with -interop: blocks and buckets are each tested without")
	}
	l := newLab(t, setting{compress: "zst", cipher: "secret", bundle: true, archiver: newest, store: bucket(tests3.Start(t, "pgsql"), 1), lines: "repo1-block=y\nrepo1-bundle-limit=100KiB\n"})
	l.with(newest, "stanza-create")
	l.fill()
	l.with(newest, "--type=full", "backup")
	l.server.Query("update t set m = 'changed' where g % 5000 = 0")
	l.with(newest, "--type=incr", "backup")
	want := l.grow()
	l.archived()
	if got := l.restore(ours).query(rows); got != want {
		t.Errorf("restored %s, want %s", got, want)
	}
}

// Two repositories, a directory and a bucket: WAL goes to both, a backup to the
// one that is named, and what one has lost comes from the other.
func TestSeveralRepositories(t *testing.T) {
	server := tests3.Start(t, "pgsql")
	l := newLab(t, setting{compress: "zst", lines: bucket(server, 2) + "repo2-bundle=y\nrepo2-cipher-type=aes-256-cbc\nrepo2-cipher-pass=another\nrepo2-retention-full=2\n"})
	l.with(ours, "stanza-create")
	l.with(theirs, "check")
	l.with(ours, "check")
	l.fill()
	l.with(ours, "--repo=2", "--type=full", "backup")
	atBackup := l.grow()
	l.with(theirs, "--type=full", "backup")
	l.archived()
	l.sameInfo()
	want := l.grow()
	l.archived()
	// The directory loses its backups and its WAL.
	for _, dir := range []string{"repo/backup/t", "repo/archive/t/15-1"} {
		if err := os.RemoveAll(filepath.Join(l.dir, dir)); err != nil {
			t.Fatal(err)
		}
	}
	r := l.restore(ours)
	if got := r.query(rows); got != want {
		t.Errorf("restored %s, want %s, or at least %s", got, want, atBackup)
	}
	// And the bucket the rest: then there is nothing, and it is said of both.
	if err := os.RemoveAll(filepath.Join(server.Objects, "pgsql/pgbackrest")); err != nil {
		t.Fatal(err)
	}
	out, code := r.try(ours, "--config="+r.conf, "--stanza=t", "restore")
	if code != int(repo.BackupSetInvalid) || !strings.Contains(out, "repo1: ") || !strings.Contains(out, "repo2: ") {
		t.Errorf("a restore of nothing ends with %d, want %d, and a word on either repository:\n%s", code, repo.BackupSetInvalid, out)
	}
}
