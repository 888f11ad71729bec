package machine

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"howdah/machine/doctor"
	"howdah/nodefile"
	"howdah/pki"
	"howdah/spec"
)

// What is seen of this machine is what it has.
func TestLook(t *testing.T) {
	w := world(t, "")
	dir := t.TempDir()
	if _, err := Keys(dir, w); err != nil {
		t.Fatal(err)
	}
	nodes, err := plan(dir, "10.10.10.11", w)
	if err != nil {
		t.Fatal(err)
	}
	n := nodes[0]
	n.User = "" // as we are
	n.Paths.Run = t.TempDir()
	if err := os.MkdirAll(n.Postgres.Data, 0o700); err != nil {
		t.Fatal(err)
	}
	a, err := pki.OpenAuthority(filepath.Join(dir, authority), "howdah")
	if err != nil {
		t.Fatal(err)
	}
	if n.TLS, err = a.Issue(filepath.Join(n.Paths.Dir, "tls"), n.Member); err != nil {
		t.Fatal(err)
	}
	n.Postgres.Parameters["shared_buffers"] = "2GB"
	if err := nodefile.Write(n, -1, -1); err != nil {
		t.Fatal(err)
	}
	s := Subject(dir, n)
	names := map[string]int{}
	for _, p := range s.Ports {
		names[p.Name] = p.Port
	}
	for name, port := range map[string]int{"PostgreSQL": 5432, "the agent": 8008, "etcd": 2379, "etcd's peers": 2380, "the gateway's pg-a-primary": 5433} {
		if names[name] != port {
			t.Errorf("the ports are %v, want %s on %d", names, name, port)
		}
	}
	f := Look(t.Context(), doctor.Subject{Dir: s.Dir, Server: true, Major: s.Major})
	if f.Subject.Shared != 2<<30 || f.Subject.Member != "pg-a-1" || len(f.Certs) != 2 || time.Until(f.Certs[0].Until) < 24*time.Hour {
		t.Errorf("it was set up, and is seen as %+v with %+v", f.Subject, f.Certs)
	}
	if f.OpenFiles == 0 || f.MemoryKB == 0 || len(f.Flushes) == 0 || len(f.Kernel) == 0 || len(f.Postgres) == 0 || len(f.Disks) != 1 || len(f.Addresses) == 0 {
		t.Errorf("something is not seen: %+v", f)
	}
	if left, _ := filepath.Glob(filepath.Join(n.Paths.Dir, ".howdah-doctor-*")); len(left) > 0 {
		t.Errorf("it left %v", left)
	}
}

func TestBuffers(t *testing.T) {
	for text, want := range map[string]int64{"": 0, "16384": 128 << 20, "409MB": 409 << 20, "1GB": 1 << 30, "'2 GB'": 2 << 30, "x": 0, "1XB": 0} {
		if got := buffers(text); got != want {
			t.Errorf("buffers(%q) = %d, want %d", text, got, want)
		}
	}
}

// The nodes of machines are those that each takes, whatever machine is asked.
func TestHosts(t *testing.T) {
	w := world(t, "")
	nodes := Hosts("/d", "/r", w)
	if len(nodes) != 3 {
		t.Fatalf("%v", nodes)
	}
	if n := nodes[0]; n.Paths.Dir != "/d/pg-a/pg-a-1" || n.Paths.Run != "/r/pg-a-1" || n.User != spec.Superuser {
		t.Errorf("got %+v", n)
	}
}
