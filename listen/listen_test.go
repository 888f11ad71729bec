package listen

import (
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// child makes this test binary the role that serves the sockets.
const child = "LISTEN_TEST_CHILD"

func TestMain(m *testing.M) {
	path := os.Getenv(child)
	if path == "" {
		os.Exit(m.Run())
	}
	all, err := Inherited()
	if err != nil {
		panic(err)
	}
	for name, l := range all {
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				io.WriteString(c, name)
				c.Close()
			}
		}()
	}
	panic(Offer(context.Background(), path, all))
}

// free is a port that was free a moment ago.
func free(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func places(t *testing.T) []Place {
	return []Place{{"demo-primary", "127.0.0.1", free(t)}, {"stats", "*", free(t)}}
}

func start(t *testing.T, s *Sockets, path string) *os.Process {
	t.Helper()
	fds, env := s.Pass()
	p, err := os.StartProcess(os.Args[0], os.Args[:1], &os.ProcAttr{
		Env: append(os.Environ(), env, child+"="+path), Files: files(fds),
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func files(fds []uintptr) []*os.File {
	out := []*os.File{nil, os.Stdout, os.Stderr}
	for _, fd := range fds {
		d, err := syscall.Dup(int(fd))
		if err != nil {
			panic(err)
		}
		out = append(out, os.NewFile(uintptr(d), ""))
	}
	return out
}

// says connects and reads what the role answers.
func says(p Place) (string, error) {
	host := strings.Replace(p.Addr(), "[::]", "127.0.0.1", 1)
	if strings.HasPrefix(host, ":") {
		host = "127.0.0.1" + host
	}
	c, err := net.DialTimeout("tcp", host, 5*time.Second)
	if err != nil {
		return "", err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	b, err := io.ReadAll(c)
	return string(b), err
}

func TestAKilledRoleRefusesNobody(t *testing.T) {
	s := Want(places(t))
	defer s.Close()
	if failed := s.Open(); len(failed) > 0 {
		t.Fatal(failed)
	}
	path := filepath.Join(t.TempDir(), "s")
	for range 3 {
		role := start(t, s, path)
		for _, p := range s.places {
			if got, err := says(p); got != p.Name || err != nil {
				t.Errorf("%s says %q, %v", p.Name, got, err)
			}
		}
		role.Kill()
		role.Wait()
		answer := make(chan string, 1)
		c, err := net.Dial("tcp", s.places[0].Addr())
		if err != nil {
			t.Fatalf("connect while no role runs: %v", err)
		}
		go func() {
			b, _ := io.ReadAll(c)
			answer <- string(b)
		}()
		next := start(t, s, path)
		if got := <-answer; got != "demo-primary" {
			t.Errorf("who waited hears %q from the next role", got)
		}
		c.Close()
		next.Kill()
		next.Wait()
	}
}

func TestASuccessorGetsTheSocketsBack(t *testing.T) {
	old := Want(places(t))
	if failed := old.Open(); len(failed) > 0 {
		t.Fatal(failed)
	}
	path := filepath.Join(t.TempDir(), "s")
	role := start(t, old, path)
	if _, err := says(old.places[0]); err != nil {
		t.Fatal(err)
	}
	old.Close() // the supervisor dies; the role lives
	next := Want(old.places)
	defer next.Close()
	until := time.Now().Add(10 * time.Second)
	for err := next.Ask(path); err != nil; err = next.Ask(path) {
		if time.Now().After(until) {
			t.Fatal(err)
		}
	}
	if failed := next.Open(); len(failed) > 0 || len(next.fds) != 2 {
		t.Fatalf("has %v, %v", next.fds, failed)
	}
	role.Kill()
	role.Wait()
	role = start(t, next, path)
	defer role.Wait()
	defer role.Kill()
	for _, p := range next.places {
		if got, err := says(p); got != p.Name || err != nil {
			t.Errorf("%s says %q, %v", p.Name, got, err)
		}
	}
	other := Want([]Place{{"demo-primary", "127.0.0.1", free(t)}})
	defer other.Close()
	for err := other.Ask(path); err != nil && time.Now().Before(until); err = other.Ask(path) {
	}
	if len(other.fds) != 0 {
		t.Errorf("took a socket of another place: %v", other.fds)
	}
}

func TestATakenPortIsNamedAndCostsOnlyItself(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s := Want([]Place{{"demo-replica", "127.0.0.1", l.Addr().(*net.TCPAddr).Port}, {"demo-primary", "127.0.0.1", free(t)}})
	defer s.Close()
	failed := s.Open()
	if len(failed) != 1 || !strings.Contains(failed[0].Error(), "demo-replica") || !strings.Contains(failed[0].Error(), "held by") {
		t.Errorf("Open = %v; want the one that is taken, and by whom", failed)
	}
	if fds, env := s.Pass(); len(fds) != 1 || env != "HOWDAH_LISTENERS=demo-primary" {
		t.Errorf("Pass = %v, %q", fds, env)
	}
}

func TestARoleAloneHasNone(t *testing.T) {
	if all, err := Inherited(); len(all) != 0 || err != nil {
		t.Errorf("Inherited = %v, %v", all, err)
	}
	if err := Want(nil).Ask(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("sockets from nobody")
	}
}
