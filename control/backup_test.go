package control

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"howdah/backup/keep"
	"howdah/cluster"
	"howdah/spec"
)

// What was restored without a leader must not be from an archive that a former
// leader left behind.
func TestSources(t *testing.T) {
	c := &Cluster{Name: "demo", door: direct}
	b := Backups{}
	for name, newest := range map[string]string{"a": "000000010000000000000007", "b": "00000002000000000000000A", "c": "000000020000000000000009"} {
		n := spec.Node{Cluster: "demo", Member: name, Backup: spec.Backup{Repo: filepath.Join(t.TempDir(), name), Config: name, Members: []spec.Holder{{Member: "a"}, {Member: "b"}, {Member: "c"}}}}
		if err := os.Mkdir(n.Backup.Repo, 0o700); err != nil {
			t.Fatal(err)
		}
		c.Nodes = append(c.Nodes, n)
		b.Members = append(b.Members, keep.State{Member: name, Newest: newest})
	}
	for leader, want := range map[string]string{"": "bca", "a": "abc", "c": "cba"} {
		b.Leader = leader
		got := ""
		all, err := c.sources(spec.Node{}, b)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range all {
			got += s.member
		}
		if got != want {
			t.Errorf("leader %q: %s, want %s", leader, got, want)
		}
	}
}

// inLab is a member's backup in a bucket, with its keys in a file.
func inLab(t *testing.T) spec.Node {
	t.Helper()
	n := spec.Node{Cluster: "demo", Member: "a", Paths: spec.Paths{Secrets: filepath.Join(t.TempDir(), "secrets.json")}}
	n.Backup = spec.Backup{Repo: "/pgbackrest", Config: "its own", Copies: 1, Members: []spec.Holder{{Member: "a"}, {Member: "b"}}}
	n.Backup.Bucket = spec.Bucket{Name: "pgsql", Endpoint: "s3.lab", Region: "r"}
	if err := os.WriteFile(n.Paths.Secrets, []byte(`{"bucket_key":"k","bucket_key_secret":"s"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	return n
}

// A bucket is one source, whoever leads.
func TestSourceOfABucket(t *testing.T) {
	n := inLab(t)
	all, err := (&Cluster{Name: "demo", Nodes: []spec.Node{n}, door: direct}).sources(n, Backups{Members: []keep.State{{Member: "b", Leads: true}}})
	if err != nil || len(all) != 1 || all[0].member != "bucket pgsql at s3.lab" || all[0].config != "its own" || all[0].stanza.Name != "demo" {
		t.Errorf("%+v, %v", all, err)
	}
}

// What is in the bucket is not lost with the leader's host.
func TestExposureWithABucket(t *testing.T) {
	s := cluster.State{Members: []cluster.Member{{Name: "a", XlogLocation: 0x5000100}}}
	lost := func(n int64) *int64 { return &n }
	for _, tt := range []struct {
		name             string
		lost             *int64
		bucket, archived string
		want             int64
	}{
		{"alone", lost(0x5000100), "bucket", "0/5000000", 0x100},
		{"a standby is nearer", lost(0x10), "bucket", "0/5000000", 0x10},
		{"nothing is archived yet", lost(7), "bucket", "", 7},
		{"every member for itself", lost(7), "", "0/5000100", 7},
	} {
		b := Backups{Bucket: tt.bucket, Leader: "a", Members: []keep.State{{Member: "a", Leads: true, Bucket: tt.bucket, Archived: tt.archived}}}
		if got := inBucket(tt.lost, s, b); got == nil || *got != tt.want {
			t.Errorf("%s: %v, want %d", tt.name, got, tt.want)
		}
	}
	if got := inBucket(nil, s, Backups{Bucket: "b", Leader: "a"}); got != nil {
		t.Errorf("of nothing known comes %d", *got)
	}
}

// Backups in a bucket are held by it, once, and said by whoever leads.
func TestBackupsInABucket(t *testing.T) {
	at := time.Unix(1, 0)
	b := Backups{Members: []keep.State{
		{Member: "a", Bucket: "bucket x", Leads: true, Backups: []keep.Backup{{Label: "20261121-120000F", Stop: at}}},
		{Member: "b", Bucket: "bucket x", Leads: true, Backups: []keep.Backup{{Label: "20261121-120000F", Stop: at}}}, // it has just lost it
		{Member: "c", Bucket: "bucket x"},
	}}
	b.gather()
	if len(b.Backups) != 1 || len(b.Backups[0].Members) != 1 || b.Backups[0].Members[0] != "bucket x" || b.Bucket != "bucket x" {
		t.Errorf("%+v", b.Backups)
	}
}

// Of several repositories each has its own backups, and holders.
func TestBackupsInSeveral(t *testing.T) {
	one, other := []keep.Backup{{Label: "20261121-120000F"}}, []keep.Backup{{Label: "20261121-120100F"}}
	b := Backups{Copies: 2, Members: []keep.State{
		{Member: "a", Repository: "disk", Path: "/d", Leads: true, Backups: one},
		{Member: "a", Repository: "lab", Path: "/p", Bucket: "bucket x", Leads: true, Backups: other},
		{Member: "b", Repository: "disk", Path: "/d", Backups: one},
		{Member: "b", Repository: "lab", Path: "/p", Bucket: "bucket x"},
	}}
	b.gather()
	var got []string
	for _, h := range b.Backups {
		got = append(got, fmt.Sprint(h.Label, " ", h.Repository, " ", h.Members, " ", h.Copies))
	}
	if want := "[20261121-120000F disk [a b] 2 20261121-120100F lab [bucket x] 1]"; fmt.Sprint(got) != want || b.Bucket != "" || b.Leader != "a" {
		t.Errorf("got  %v\nwant %s; %q, %s", got, want, b.Bucket, b.Leader)
	}
}
