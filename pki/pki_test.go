package pki

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"howdah/problem"
	"howdah/spec"
)

var loopback = netip.MustParseAddr("127.0.0.1")

func authority(t *testing.T) *Authority {
	t.Helper()
	a, err := OpenAuthority(t.TempDir(), "demo")
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func issue(t *testing.T, a *Authority, name string) spec.TLS {
	t.Helper()
	files, err := a.Issue(t.TempDir(), name, loopback)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// handshake lets client dial server and returns what each side thought of it.
func handshake(t *testing.T, server, client spec.TLS) (serverErr, clientErr error) {
	t.Helper()
	p, err := Open(server)
	if err != nil {
		t.Fatal(err)
	}
	sc := p.Server()
	cc, err := ClientConfig(client)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	done := make(chan error, 1)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			done <- err
			return
		}
		defer conn.Close()
		tc := tls.Server(conn, sc)
		if err := tc.Handshake(); err != nil {
			done <- err
			return
		}
		_, err = tc.Write([]byte("ok"))
		done <- err
	}()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	cc.ServerName = "127.0.0.1"
	// With TLS 1.3 a refused client learns it from the first read.
	_, clientErr = io.ReadFull(tls.Client(conn, cc), make([]byte, 2))
	conn.Close()
	return <-done, clientErr
}

func TestNodesOfOneClusterKnowEachOther(t *testing.T) {
	a := authority(t)
	one, two := issue(t, a, "demo-1"), issue(t, a, "demo-2")
	for _, pair := range [][2]spec.TLS{{one, two}, {two, one}} {
		if s, c := handshake(t, pair[0], pair[1]); s != nil || c != nil {
			t.Errorf("handshake = %v (server), %v (client); want none", s, c)
		}
	}
}

func TestAForeignClusterIsRefusedByBothSides(t *testing.T) {
	ours, theirs := issue(t, authority(t), "demo-1"), issue(t, authority(t), "demo-1")
	if _, c := handshake(t, theirs, ours); c == nil {
		t.Error("our client trusts a foreign server")
	}
	// A foreign client that trusts us: only its own certificate is wrong.
	theirs.CA = ours.CA
	if s, c := handshake(t, ours, theirs); s == nil || c == nil {
		t.Errorf("our server takes a foreign client: %v (server), %v (client)", s, c)
	}
}

func TestMakingThemAgainKeepsThem(t *testing.T) {
	dir := t.TempDir()
	read := func() (all [][]byte) {
		a, err := OpenAuthority(dir, "demo")
		if err != nil {
			t.Fatal(err)
		}
		files, err := a.Issue(filepath.Join(dir, "n"), "demo-1", loopback)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range []string{files.CA, files.Cert, files.Key, filepath.Join(dir, "ca.key")} {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, b)
		}
		return all
	}
	first, second := read(), read()
	for i := range first {
		if !bytes.Equal(first[i], second[i]) {
			t.Errorf("file %d changed", i)
		}
	}
}

func TestANewAddressGetsANewCertificate(t *testing.T) {
	a, dir := authority(t), t.TempDir()
	files, err := a.Issue(dir, "demo-1", loopback)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Issue(dir, "demo-1", netip.MustParseAddr("10.10.10.11")); err != nil {
		t.Fatal(err)
	}
	cert, _, err := load(files.Cert, files.Key)
	if err != nil {
		t.Fatal(err)
	}
	if err := cert.VerifyHostname("10.10.10.11"); err != nil {
		t.Error(err)
	}
}

func TestKeysAreTheOwnersAlone(t *testing.T) {
	a := authority(t)
	files, err := a.For(&Owner{os.Getuid(), os.Getgid()}).Issue(t.TempDir(), "demo-1", loopback)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{files.Key, filepath.Join(filepath.Dir(a.File), "ca.key")} {
		info, err := os.Stat(f)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != 0o600 {
			t.Errorf("%s has mode %o; want 600", f, got)
		}
	}
}

func TestAnAuthorityWithoutItsKeyIsNotReplaced(t *testing.T) {
	dir := t.TempDir()
	if _, err := OpenAuthority(dir, "demo"); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "ca.key")); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenAuthority(dir, "demo"); problem.Code(err) != "ca-unusable" {
		t.Errorf("OpenAuthority = %v; want ca-unusable", err)
	}
}

func TestWithoutFilesThereIsNoTLS(t *testing.T) {
	if c, err := ClientConfig(spec.TLS{}); c != nil || err != nil {
		t.Errorf("ClientConfig = %v, %v; want nil, nil", c, err)
	}
}
