package control

import (
	"os"
	"path/filepath"
	"testing"

	"howdah/backup/keep"
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
		for _, s := range c.sources(b) {
			got += s.member
		}
		if got != want {
			t.Errorf("leader %q: %s, want %s", leader, got, want)
		}
	}
}
