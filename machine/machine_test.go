package machine

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"howdah/nodefile"
	"howdah/postgres"
	"howdah/problem"
	"howdah/spec"
	"howdah/spec/pigsty"
)

const inventory = `
all:
  vars: { pg_version: %d }
  children:
    pg-a:
      vars: { pg_cluster: pg-a, pg_libs: '%s' }
      hosts: { 10.10.10.11: { pg_seq: 1, pg_role: primary }, 10.10.10.12: { pg_seq: 2, pg_role: replica } }
    pg-b:
      vars: { pg_cluster: pg-b, pg_port: 5532, pg_default_services: [] }
      hosts: { 10.10.10.12: { pg_seq: 1, pg_role: primary } }
`

// world reads the inventory for a PostgreSQL that is here.
func world(t *testing.T, libs string) spec.World {
	t.Helper()
	all := postgres.FindAll()
	if len(all) == 0 {
		t.Skip("there is no PostgreSQL")
	}
	w := pigsty.Read("site.yml", fmt.Appendf(nil, inventory, all[0].Major, libs))
	if err := w.Err(); err != nil {
		t.Fatal(err)
	}
	return w
}

func refused(t *testing.T, err error, code string, words ...string) {
	t.Helper()
	if problem.Code(err) != code {
		t.Errorf("%v; want %s", err, code)
		return
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%v does not say %q", err, w)
		}
	}
}

// A machine that cannot be set up is told why before anything is written.
func TestTakeRefuses(t *testing.T) {
	w := world(t, "")
	take := func(dir, host string, w spec.World) error {
		t.Helper()
		_, err := Take(dir, host, w)
		return err
	}
	dir := t.TempDir()
	untouched := func() {
		t.Helper()
		if files, _ := os.ReadDir(dir); len(files) != 0 {
			t.Errorf("%v was written", files)
		}
	}
	refused(t, take(dir, "10.10.10.99", w), "host-unknown", "10.10.10.11, 10.10.10.12")
	refused(t, take(dir, "10.10.10.12", w), "host-several", "pg-a-2 and pg-b-1")
	refused(t, take(dir, "10.10.10.11", w), "keys-missing", "ca.pem", "ca.key", "secrets.json", "howdah keys")
	refused(t, take(dir, "10.10.10.11", world(t, "nowhere")), "library-missing", "nowhere")
	untouched()

	old := w
	old.Clusters = append([]spec.Cluster{}, w.Clusters...)
	old.Clusters[0].Major = 13
	if err := take(dir, "10.10.10.11", old); problem.Code(err) == "" {
		t.Errorf("PostgreSQL 13: %v", err)
	}
	named := w
	named.Clusters = append([]spec.Cluster{}, w.Clusters...)
	named.Clusters[1].Name = authority
	refused(t, take(dir, "10.10.10.11", named), "dir-occupied", "where the authority is kept")
	untouched()

	play := t.TempDir()
	if err := os.WriteFile(filepath.Join(play, "playground.json"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	refused(t, take(play, "10.10.10.11", w), "dir-occupied", "playground")
	if _, err := Keys(play, w); problem.Code(err) != "dir-occupied" {
		t.Errorf("keys in a playground: %v", err)
	}
}

// Who was one host is not taken for another, and nothing is set up without what
// all machines have alike.
func TestTakeKeepsToItsHost(t *testing.T) {
	w := world(t, "")
	dir := t.TempDir()
	paths, err := Keys(dir, w)
	if err != nil || len(paths) != 3 {
		t.Fatalf("Keys = %v, %v", paths, err)
	}
	before, _ := os.ReadFile(SecretsOf(dir, "pg-a"))
	if _, err := Keys(dir, w); err != nil {
		t.Fatal(err)
	}
	if now, _ := os.ReadFile(SecretsOf(dir, "pg-a")); string(now) != string(before) {
		t.Error("keys made other passwords the second time")
	}
	n, err := plan(dir, "10.10.10.11", w)
	if err != nil {
		t.Fatal(err)
	}
	if n.Address != "10.10.10.11" || n.Member != "pg-a-1" || n.Paths.Dir != filepath.Join(dir, "pg-a", "pg-a-1") || n.Agent.Founder != "pg-a-1" {
		t.Errorf("it would run %+v", n)
	}
	if err := complete(dir, n, w.Clusters[0]); err != nil {
		t.Errorf("with its keys: %v", err)
	}
	was := n
	was.Host = "10.10.10.12"
	if err := os.MkdirAll(n.Paths.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := nodefile.Write(was, -1, -1); err != nil {
		t.Fatal(err)
	}
	refused(t, same(n), "host-other", "10.10.10.12")
	if err := os.WriteFile(n.Paths.Secrets, []byte(`{"postgres": "x"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	refused(t, complete(dir, n, w.Clusters[0]), "keys-missing", "gateway in ")
	if err := os.Remove(filepath.Join(dir, authority, "ca.key")); err != nil {
		t.Fatal(err)
	}
	refused(t, complete(dir, n, w.Clusters[0]), "keys-missing", "ca.key")
}
