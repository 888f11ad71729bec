package control

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"howdah/machine/doctor"
	"howdah/problem"
	"howdah/test/testssh"
)

func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "doctor" && os.Args[2] == "--look" { // this program, lent to a machine
		err := Look(context.Background(), os.Stdin, os.Stdout)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// oneMachine is an inventory of one machine, and a person who can log in to it.
func oneMachine(t *testing.T, more string) (s *testssh.Server, inv Inventory, l Login) {
	t.Helper()
	home := t.TempDir()
	if err := os.Mkdir(filepath.Join(home, ".ssh"), 0o700); err != nil {
		t.Fatal(err)
	}
	mine := testssh.Key(t, filepath.Join(home, ".ssh", "id_ed25519"))
	s = testssh.Serve(t, mine.PublicKey(), testssh.Key(t, ""))
	file := filepath.Join(t.TempDir(), "pigsty.yml")
	text := fmt.Sprintf(`all:
  vars: { pg_version: 17, ansible_port: %d, ansible_user: ann }
  children:
    pg-one:
      vars: { pg_cluster: pg-one, pg_replication_password: '%s' }
      hosts: { 127.0.0.1: { pg_seq: 1, pg_role: primary } }
`, s.At.Port, more)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	inv, err := ReadInventory(file)
	if err != nil {
		t.Fatal(err)
	}
	// What the machine says of itself, whatever this one is.
	s.Program("uname", "echo "+map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[runtime.GOARCH])
	s.Program("ip", "echo '1: lo inet 127.0.0.1/8 scope host lo'")
	s.Program("apt-get", "exit 1")
	s.Program("systemctl", "exit 1")
	return s, inv, Login{Home: home}
}

// Looking at machines changes nothing, there or here.
func TestInstallLooksFirst(t *testing.T) {
	s, inv, l := oneMachine(t, "secret")
	h := House{Dir: t.TempDir()}
	o := Installation{Login: l, Init: "none", Wait: time.Minute}
	look := func() *Installer {
		t.Helper()
		i, err := h.Installer(t.Context(), inv, o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(i.Close)
		return i
	}
	if err := look().Lacking(); problem.Code(err) != "ssh-host-unknown" || !strings.Contains(err.Error(), "SHA256:") {
		t.Errorf("an unknown machine: %v", err)
	}
	o.Login.AcceptNew = true
	i := look()
	if err := i.Lacking(); err != nil {
		t.Fatal(err)
	}
	plans := i.Plans()
	if len(plans) != 1 || plans[0].Member != "pg-one-1" || !strings.HasPrefix(plans[0].Key, ssh.KeyAlgoED25519+" SHA256:") {
		t.Fatalf("got %+v", plans)
	}
	var steps []string
	for _, s := range plans[0].Steps {
		steps = append(steps, s.What)
	}
	for _, want := range []string{"the authority's key", "the passwords of cluster pg-one", "the inventory", "the program"} {
		if !strings.Contains(strings.Join(steps, "\n"), "copy "+want+" to /") {
			t.Errorf("nothing copies %s: %q", want, steps)
		}
	}
	if made, _ := os.ReadDir(h.Dir); len(made) > 0 {
		t.Errorf("to look made %v", made)
	}
	s.Program("ip", "echo '1: eth0 inet 10.9.9.9/8 scope global eth0'")
	s.Program("hostname", "echo 10.9.9.9")
	if err := look().Lacking(); problem.Code(err) != "host-elsewhere" || !strings.Contains(err.Error(), "10.9.9.9") {
		t.Errorf("another machine: %v", err)
	}
	o.Hosts = []string{"10.0.0.7"}
	if _, err := h.Installer(t.Context(), inv, o); problem.Code(err) != "host-unknown" {
		t.Errorf("no such host: %v", err)
	}
}

// What an inventory names and no other machine would find is refused before anybody
// logs in.
func TestInstallRefusesReferences(t *testing.T) {
	t.Setenv("HOWDAH_TEST_SECRET", "x")
	_, inv, l := oneMachine(t, "env:HOWDAH_TEST_SECRET")
	if _, err := (House{Dir: t.TempDir()}).Installer(t.Context(), inv, Installation{Login: l}); problem.Code(err) != "install-reference" || !strings.Contains(err.Error(), "env:HOWDAH_TEST_SECRET") {
		t.Errorf("got %v", err)
	}
}

// Doctor looks through a copy of this program, and takes it away again.
func TestDoctorLendsItself(t *testing.T) {
	s, inv, l := oneMachine(t, "secret")
	l.AcceptNew = true
	there := t.TempDir()
	s.Program("mktemp", "mkdir "+there+"/lent && echo "+there+"/lent")
	d, err := (House{Dir: t.TempDir()}).DoctorAll(t.Context(), inv, Examination{Login: l})
	if err != nil {
		t.Fatal(err)
	}
	all := d.Findings
	grades := map[string]doctor.Grade{}
	for _, f := range all {
		grades[f.Check] = f.Grade
	}
	if grades["login"] != doctor.OK || grades["address"] != doctor.OK || grades["kernel"] == "" || grades["flush"] == "" {
		t.Errorf("got %+v", all)
	}
	if left, _ := os.ReadDir(there); len(left) > 0 {
		t.Errorf("it left %v", left)
	}
	l.AcceptNew, l.Home = false, t.TempDir()
	d, err = (House{Dir: t.TempDir()}).DoctorAll(t.Context(), inv, Examination{Login: l})
	all = d.Findings
	if err != nil || len(all) != 1 || all[0].Grade != doctor.Fail || all[0].Check != "login" {
		t.Errorf("a machine that nobody knows: %+v, %v", all, err)
	}
}
