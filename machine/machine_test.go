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
	nodes, err := plan(dir, "10.10.10.11", w)
	if err != nil || len(nodes) != 1 {
		t.Fatalf("%d nodes, %v", len(nodes), err)
	}
	n := nodes[0]
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

// A host of two servers has a node for each: with ports, directories and a share of
// the machine of its own.
func TestTwoServersOfOneHost(t *testing.T) {
	w := world(t, "")
	dir := t.TempDir()
	if _, err := Keys(dir, w); err != nil {
		t.Fatal(err)
	}
	whole, err := plan(dir, "10.10.10.11", w)
	if err != nil {
		t.Fatal(err)
	}
	nodes, err := plan(dir, "10.10.10.12", w)
	if err != nil || len(nodes) != 2 {
		t.Fatalf("%d nodes, %v", len(nodes), err)
	}
	listens := map[string]string{}
	for i, want := range []string{"pg-a-2", "pg-b-1"} {
		n := &nodes[i]
		if n.Member != want || n.Paths.Dir != filepath.Join(dir, n.Cluster, want) {
			t.Errorf("node %d is %s in %s", i, n.Member, n.Paths.Dir)
		}
		if is, all := shared(t, *n), shared(t, whole[0]); is > all/2+1 {
			t.Errorf("%s counts on shared_buffers of %d MB, where one server has %d", n.Member, is, all)
		}
		for _, p := range Subject(dir, *n).Ports {
			key := fmt.Sprint(p.Port)
			if other, ok := listens[key]; ok {
				t.Errorf("%s of %s has the port %s, as %s", p.Name, n.Member, key, other)
			}
			listens[key] = p.Name + " of " + n.Member
		}
		n.User, n.Paths.Run = "", filepath.Join(t.TempDir(), want) // as we are
		n.Paths.Sockets = filepath.Join(n.Paths.Run, "sql")
		if *n, err = write(dir, *n, clusterOf(w, *n)); err != nil {
			t.Fatal(err)
		}
		if got, err := nodefile.Load(n.Paths.Dir); err != nil || got.Member != want {
			t.Errorf("%+v, %v", got, err)
		}
	}
	if nodes[0].TLS.Cert == nodes[1].TLS.Cert || nodes[0].Paths.Secrets == nodes[1].Paths.Secrets {
		t.Errorf("they share %s or %s", nodes[0].TLS.Cert, nodes[0].Paths.Secrets)
	}
	if len(nodes[0].Gateway.Fronts) != 1 || len(nodes[1].Gateway.Fronts) != 0 {
		t.Errorf("fronts: %+v, %+v", nodes[0].Gateway.Fronts, nodes[1].Gateway.Fronts)
	}
}

// shared are the megabytes of a node's shared_buffers.
func shared(t *testing.T, n spec.Node) int64 {
	t.Helper()
	b := buffers(n.Postgres.Parameters["shared_buffers"])
	if b == 0 {
		t.Fatalf("shared_buffers is %q", n.Postgres.Parameters["shared_buffers"])
	}
	return b >> 20
}
