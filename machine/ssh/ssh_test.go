package ssh

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"howdah/problem"
	"howdah/test/testssh"
)

// A person who knows the server and is known to it.
func known(t *testing.T) (*testssh.Server, Target, Person) {
	t.Helper()
	dir := t.TempDir()
	mine := filepath.Join(dir, "id_ed25519")
	host := testssh.Key(t, "")
	s := testssh.Serve(t, testssh.Key(t, mine).PublicKey(), host)
	p := Person{Keys: []string{mine}, Known: []string{filepath.Join(dir, "ssh", "known_hosts")}}
	target := Target{Host: "127.0.0.1", Port: s.At.Port, User: "ann"}
	if err := record(p.Known[0], target.addr(), host.PublicKey()); err != nil {
		t.Fatal(err)
	}
	return s, target, p
}

func dial(t *testing.T, target Target, p Person) *Machine {
	t.Helper()
	m, err := Dial(t.Context(), target, p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// refuses dials and wants the problem called code, which says the words.
func refuses(t *testing.T, target Target, p Person, code string, words ...string) {
	t.Helper()
	m, err := Dial(t.Context(), target, p)
	if err == nil {
		m.Close()
	}
	if problem.Code(err) != code {
		t.Fatalf("%v; want %s", err, code)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%v does not say %q", err, w)
		}
	}
}

func TestCommands(t *testing.T) {
	_, target, p := known(t)
	m := dial(t, target, p)
	out, err := m.Run(t.Context(), `echo "$LC_ALL it's"; cat`, strings.NewReader("what came in"))
	if err != nil || out != "C it's\nwhat came in" {
		t.Errorf("got %q, %v", out, err)
	}
	out, err = m.Run(t.Context(), "echo half; echo no room >&2; exit 7", nil)
	if f, ok := errors.AsType[*Failed](err); !ok || f.Code != 7 || f.Error() != "no room" || out != "half\n" {
		t.Errorf("got %q, %v", out, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	read, write := io.Pipe()
	defer write.Close()
	cancel()
	if _, err = m.Run(ctx, "cat", read); !errors.Is(err, context.Canceled) {
		t.Errorf("ended: %v", err)
	}
}

func TestHostKeys(t *testing.T) {
	_, target, p := known(t)
	file := p.Known[0]
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	// Unknown: refused, with the fingerprint and what to do; nothing is written.
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	k, _, _, _, err := ssh.ParseAuthorizedKey(whole[bytes.IndexByte(whole, ' ')+1:])
	if err != nil {
		t.Fatal(err)
	}
	print := ssh.FingerprintSHA256(k)
	refuses(t, target, p, "ssh-host-unknown", print, "ssh_host_ed25519_key.pub", "--accept-new")
	if _, err := os.Stat(file); err == nil {
		t.Error("a refused key was written down")
	}
	// Accepted: known from then on, also without being asked to.
	if err := os.WriteFile(file, []byte("other.example "+strings.SplitN(string(whole), " ", 2)[1][:40]), 0o600); err != nil {
		t.Fatal(err)
	}
	refuses(t, target, p, "ssh-known-hosts")
	if err := os.WriteFile(file, []byte("# no end of line"), 0o600); err != nil {
		t.Fatal(err)
	}
	accept := p
	accept.Accept = true
	if m := dial(t, target, accept); !strings.Contains(m.Accepted, print) {
		t.Errorf("accepted %q, want %s", m.Accepted, print)
	}
	if m := dial(t, target, p); m.Accepted != "" {
		t.Errorf("accepted again: %q", m.Accepted)
	}
	// Another key than the known one is never accepted.
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := record(file, target.addr(), testssh.Key(t, "").PublicKey()); err != nil {
		t.Fatal(err)
	}
	before, _ := os.ReadFile(file)
	refuses(t, target, accept, "ssh-host-changed", print, file+":1", "ssh-keygen -R")
	if after, _ := os.ReadFile(file); !bytes.Equal(before, after) {
		t.Error("a changed key was written down")
	}
}

// A server with several keys is asked for the one that is known.
func TestTheKnownKindOfKeyIsAskedFor(t *testing.T) {
	dir := t.TempDir()
	mine := filepath.Join(dir, "key")
	first := testssh.Key(t, "")
	second := testssh.RSAKey(t)
	s := testssh.Serve(t, testssh.Key(t, mine).PublicKey(), first, second)
	p := Person{Keys: []string{mine}, Known: []string{filepath.Join(dir, "known_hosts")}}
	target := Target{Host: "127.0.0.1", Port: s.At.Port, User: "ann"}
	if err := record(p.Known[0], target.addr(), second.PublicKey()); err != nil {
		t.Fatal(err)
	}
	dial(t, target, p)
}

func TestRefusedAtTheDoor(t *testing.T) {
	_, target, p := known(t)
	other := filepath.Join(t.TempDir(), "other")
	testssh.Key(t, other)
	locked := filepath.Join(t.TempDir(), "locked")
	block := &pem.Block{Type: "RSA PRIVATE KEY", Headers: map[string]string{"Proc-Type": "4,ENCRYPTED", "DEK-Info": "AES-128-CBC,00"}, Bytes: []byte("locked")}
	if err := os.WriteFile(locked, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	stranger := p
	stranger.Keys = []string{other, locked, "/nowhere/id_rsa"}
	refuses(t, target, stranger, "ssh-refused", "ann@127.0.0.1", other, locked+" has a passphrase", "authorized_keys")
	stranger.Keys = nil
	refuses(t, target, stranger, "ssh-refused", "there is no key to log in with")
	stranger.Named = []string{"/nowhere/key"}
	refuses(t, target, stranger, "ssh-key", "/nowhere/key")

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := target
	nobody.Port = l.Addr().(*net.TCPAddr).Port
	l.Close()
	refuses(t, nobody, p, "ssh-unreachable", "refused")
}

func TestTheAgentsKey(t *testing.T) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ring := agent.NewKeyring()
	if err := ring.Add(agent.AddedKey{PrivateKey: &private}); err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "agent")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	l, err := net.Listen("unix", filepath.Join(dir, "a"))
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { _ = agent.ServeAgent(ring, conn) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		all.Wait()
	})
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	host := testssh.Key(t, "")
	s := testssh.Serve(t, signer.PublicKey(), host)
	p := Person{Agent: l.Addr().String(), Known: []string{filepath.Join(t.TempDir(), "known_hosts")}, Accept: true}
	dial(t, Target{Host: "127.0.0.1", Port: s.At.Port, User: "ann"}, p)
}

func TestSudo(t *testing.T) {
	s, target, p := known(t)
	s.Program("id", "echo 1000")
	s.Program("sudo", "echo sudo: a password is required >&2; exit 1")
	refuses(t, target, p, "sudo-missing", "a password is required", "ann ALL=(ALL) NOPASSWD: ALL")
	s.Program("sudo", `[ "$1" = -n ] || exit 1; shift; AS=root exec "$@"`)
	m := dial(t, target, p)
	if out, err := m.Run(t.Context(), `echo "as $AS"`, nil); err != nil || out != "as root\n" || !m.Sudo() {
		t.Errorf("got %q, %v", out, err)
	}
}

func sumOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func TestPut(t *testing.T) {
	_, target, p := known(t)
	m := dial(t, target, p)
	dir := t.TempDir()
	path := filepath.Join(dir, "a dir", "it's")
	put := func(mode os.FileMode, text string) error {
		return m.Put(t.Context(), File{Path: path, Mode: mode, Sum: sumOf([]byte("new"))}, strings.NewReader(text))
	}
	is := func(text string, mode os.FileMode) {
		t.Helper()
		got, _ := os.ReadFile(path)
		st, err := os.Stat(path)
		if err != nil || string(got) != text || st.Mode().Perm() != mode {
			t.Errorf("got %q, %v, %v; want %q with %v", got, st, err, text, mode)
		}
		if all, _ := os.ReadDir(filepath.Dir(path)); len(all) != 1 {
			t.Errorf("there is more: %v", all)
		}
	}
	if err := put(0o600, "new"); err != nil {
		t.Fatal(err)
	}
	is("new", 0o600)
	if err := os.WriteFile(path, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path+".new.left", []byte("half"), 0o600); err != nil { // by one that was killed
		t.Fatal(err)
	}
	if err := put(0o755, "spoiled"); problem.Code(err) != "copy-failed" {
		t.Errorf("another content: %v", err)
	}
	is("old", 0o600)
	if err := put(0o755, "new"); err != nil {
		t.Fatal(err)
	}
	is("new", 0o755)
}

// A connection that is cut in the middle of a copy leaves what was there.
func TestACutConnectionLeavesTheOldFile(t *testing.T) {
	s, target, p := known(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "program")
	if err := os.WriteFile(path, []byte("old"), 0o755); err != nil {
		t.Fatal(err)
	}
	content := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	m := dial(t, target, p)
	s.Cut.Store(int64(len(content) / 3))
	err := m.Put(t.Context(), File{Path: path, Mode: 0o755, Sum: sumOf(content)}, bytes.NewReader(content))
	if problem.Code(err) != "ssh-lost" {
		t.Errorf("cut: %v", err)
	}
	m.Close()
	s.Cut.Store(0)
	again := dial(t, target, p)
	// What was under way there ends when it has no input any more.
	if _, err := again.Run(t.Context(), fmt.Sprintf("for i in $(seq 600); do [ \"$(ls %s)\" = program ] && exit; sleep 0.1; done; exit 1", Quote(dir)), nil); err != nil {
		t.Errorf("something was left: %v", err)
	}
	if got, _ := os.ReadFile(path); string(got) != "old" {
		t.Errorf("there are %d bytes of something else", len(got))
	}
	if err := again.Put(t.Context(), File{Path: path, Mode: 0o755, Sum: sumOf(content)}, bytes.NewReader(content)); err != nil {
		t.Error(err)
	}
	if got, _ := os.ReadFile(path); !bytes.Equal(got, content) {
		t.Errorf("%d bytes arrived, want %d", len(got), len(content))
	}
}
