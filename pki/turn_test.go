package pki

import (
	"crypto/tls"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"howdah/problem"
	"howdah/spec"
)

// A resident is a node that runs throughout: it listens, and dials, as it began.
type resident struct {
	t     *testing.T
	files spec.TLS
	peers *Peers
	at    string
}

func reside(t *testing.T, files spec.TLS) *resident {
	t.Helper()
	peers, err := Open(files)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	of := tls.NewListener(l, peers.Server())
	go func() {
		for {
			c, err := of.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = c.Write([]byte("ok")) // the handshake may fail
			}()
		}
	}()
	return &resident{t: t, files: files, peers: peers, at: l.Addr().String()}
}

func (r *resident) dial(other *resident) error {
	c, err := r.peers.Dial(&net.Dialer{Timeout: 30 * time.Second})(r.t.Context(), "tcp", other.at)
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = io.ReadFull(c, make([]byte, 2))
	return err
}

// Nodes that are given another authority know each other at every moment of it,
// whoever of them is first, and without beginning anew; in the end nobody is let in by
// the first authority.
func TestTurn(t *testing.T) {
	dir := t.TempDir()
	a, err := OpenAuthority(dir, "demo")
	if err != nil {
		t.Fatal(err)
	}
	one, two := reside(t, issue(t, a, "demo-1")), reside(t, issue(t, a, "demo-2"))
	stranded := reside(t, issue(t, a, "demo-3")) // whom nobody tells
	know := func(when string) {
		t.Helper()
		if err := errors.Join(one.dial(two), two.dial(one), one.dial(one)); err != nil {
			t.Fatalf("%s: %v", when, err)
		}
	}
	know("before")
	serial := func(r *resident) string {
		t.Helper()
		c, _, err := load(r.files.Cert, r.files.Key)
		if err != nil {
			t.Fatal(err)
		}
		return c.SerialNumber.String()
	}
	for _, step := range []struct {
		want Stage
		anew bool // certificates are other ones
	}{{Announced, false}, {Signing, true}, {Settled, false}} {
		before, certs := mustRead(t, filepath.Join(dir, "ca.pem"), filepath.Join(dir, "ca.key")), [2]string{serial(one), serial(two)}
		got, err := Turn(dir, "demo")
		if err != nil || got != step.want {
			t.Fatalf("Turn = %s, %v; want %s", got, err, step.want)
		}
		if now, err := StageOf(dir); err != nil || now != got {
			t.Errorf("StageOf = %s, %v; want %s", now, err, got)
		}
		if former, err := Former(dir); err != nil || !slices.Contains(former, before[0]) || !slices.Contains(former, before[1]) {
			t.Errorf("Former = %v, %v; want %v in it", former, err, before)
		}
		a, err := OpenAuthority(dir, "demo")
		if err != nil {
			t.Fatal(err)
		}
		know(string(got) + ", and nobody was told")
		for _, r := range []*resident{two, one} {
			cert, trust, err := a.Renew(r.files, false)
			if err != nil || cert != step.anew || trust == step.anew {
				t.Errorf("%s: Renew = %v, %v, %v", got, cert, trust, err)
			}
			know(string(got) + ", and one was told")
		}
		if cert, trust, err := a.Renew(one.files, false); cert || trust || err != nil {
			t.Errorf("%s: again Renew = %v, %v, %v", got, cert, trust, err)
		}
		if anew := serial(one) != certs[0] && serial(two) != certs[1]; anew != step.anew {
			t.Errorf("%s: other certificates: %v", got, anew)
		}
		if err := stranded.dial(one); got == Announced && err != nil || got == Settled && err == nil {
			t.Errorf("%s: who missed it is told %v", got, err)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "next.key")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("next.key is left: %v", err)
	}
}

// mustRead gives the checksums of files, as Former does.
func mustRead(t *testing.T, files ...string) []string {
	t.Helper()
	dir := t.TempDir()
	if err := remember(dir, files...); err != nil {
		t.Fatal(err)
	}
	all, err := Former(dir)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// A certificate that ends soon is replaced, with its names and addresses, and one that
// does not is not; both are when somebody wants it.
func TestRenew(t *testing.T) {
	a := authority(t)
	files := issue(t, a, "demo-1")
	same := func(anew, want bool) {
		t.Helper()
		before := mustRead(t, files.Cert, files.Key)
		cert, trust, err := a.Renew(files, anew)
		if after := mustRead(t, files.Cert, files.Key); err != nil || trust || cert != want || (before[0] != after[0]) != want || (before[1] != after[1]) != want {
			t.Errorf("Renew = %v, %v, %v; want %v", cert, trust, err, want)
		}
	}
	same(false, false)
	same(true, true)
	same(false, false)

	// One that has a day left.
	key := a.key
	template, _, err := load(files.Cert, files.Key)
	if err != nil {
		t.Fatal(err)
	}
	template.NotAfter = time.Now().Add(24 * time.Hour)
	cert, secret, err := pair(template, a.cert, key, a.key)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(write(files.Cert, cert, 0o644, nil), write(files.Key, secret, 0o600, nil)); err != nil {
		t.Fatal(err)
	}
	same(false, true)
	one := reside(t, files) // by the address that the one before had
	if err := one.dial(one); err != nil {
		t.Error(err)
	}
	if own, _, err := load(files.Cert, files.Key); err != nil || own.Subject.CommonName != "demo-1" || time.Until(own.NotAfter) < renewal {
		t.Errorf("%v, %v", own, err)
	}
}

// Half of a pair is no reason to be without: what was known before stays.
func TestPeersKeepWhatTheyKnow(t *testing.T) {
	a := authority(t)
	one, two := reside(t, issue(t, a, "demo-1")), reside(t, issue(t, a, "demo-2"))
	other, err := os.ReadFile(two.files.Key)
	if err != nil {
		t.Fatal(err)
	}
	if err := write(one.files.Key, other, 0o600, nil); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(one.dial(two), two.dial(one)); err != nil {
		t.Error(err)
	}
	if err := os.Remove(one.files.Cert); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(one.dial(two), two.dial(one)); err != nil {
		t.Error(err)
	}
}

// A key that is damaged is told with what to do, and is not taken for one that is missing.
func TestADamagedAuthorityIsTold(t *testing.T) {
	dir := t.TempDir()
	if _, err := StageOf(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without one: %v", err)
	}
	if _, err := OpenAuthority(dir, "test"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "ca.key"), []byte("garbage\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := StageOf(dir); problem.Code(err) != "ca-unusable" || !strings.Contains(err.Error(), "ca.key") {
		t.Errorf("with a damaged key: %v", err)
	}
}
