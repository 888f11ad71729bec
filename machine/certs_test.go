package machine

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"howdah/node"
	"howdah/node/process"
	"howdah/nodefile"
	"howdah/pki"
)

// The certificates of a machine are renewed where there is a reason, and a member of
// the store is deaf to an authority that came after it began.
func TestCertificatesOfAMachine(t *testing.T) {
	w := world(t, "")
	dir := t.TempDir()
	if _, err := Keys(dir, w); err != nil {
		t.Fatal(err)
	}
	nodes, err := plan(dir, "10.10.10.12", w)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes {
		n.User, n.Paths.Run = "", filepath.Join(t.TempDir(), n.Member) // as we are
		n.Paths.Sockets = filepath.Join(n.Paths.Run, "sql")
		n.Etcd.Member = n.Member
		if _, err := write(dir, n, clusterOf(w, n)); err != nil {
			t.Fatal(err)
		}
	}
	if nodes, err = Nodes(dir); err != nil || len(nodes) != 2 {
		t.Fatalf("%d nodes, %v", len(nodes), err)
	}
	renew := func(anew, want bool) {
		t.Helper()
		for _, n := range nodes {
			if changed, err := Renew(dir, n, anew); err != nil || changed != want {
				t.Errorf("%s: Renew = %v, %v; want %v", n.Member, changed, err, want)
			}
		}
	}
	renew(false, false)
	renew(true, true)

	n := nodes[0]
	past := time.Now().Add(-time.Minute)
	if err := os.Chtimes(n.TLS.CA, past, past); err != nil {
		t.Fatal(err)
	}
	store := exec.Command("sleep", "600")
	if err := store.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Process.Kill(); _ = store.Wait() })
	if _, deaf := Deaf(n); deaf {
		t.Error("a member that does not run is deaf")
	}
	id, ok := process.Of(store.Process.Pid)
	if !ok {
		t.Fatal("it does not run")
	}
	if err := node.RoleFile(n, "etcd").Write(id); err != nil {
		t.Fatal(err)
	}
	if _, deaf := Deaf(n); deaf {
		t.Error("a member is deaf to the authority that was there before")
	}
	if at, err := pki.Turn(AuthorityDir(dir), "howdah"); at != pki.Announced || err != nil {
		t.Fatal(at, err)
	}
	soon := time.Now().Add(time.Second) // the clock of a process ticks a hundred times a second
	renew(false, true)
	if err := os.Chtimes(n.TLS.CA, soon, soon); err != nil {
		t.Fatal(err)
	}
	if who, deaf := Deaf(n); !deaf || who != id {
		t.Errorf("it is %v that is deaf: %v", who, deaf)
	}
	renew(false, false)
	if at, err := pki.Turn(AuthorityDir(dir), "howdah"); at != pki.Signing || err != nil {
		t.Fatal(at, err)
	}
	renew(false, true)

	// Without the authority nothing is made in its place.
	if err := os.Rename(AuthorityDir(dir), filepath.Join(dir, "elsewhere")); err != nil {
		t.Fatal(err)
	}
	_, err = Renew(dir, n, false)
	refused(t, err, "keys-missing", "ca.pem")
	if _, err := os.Stat(AuthorityDir(dir)); err == nil {
		t.Error("another authority was made")
	}
	if got, err := nodefile.Load(n.Paths.Dir); err != nil || got.TLS != n.TLS {
		t.Errorf("%+v, %v", got.TLS, err)
	}
}
