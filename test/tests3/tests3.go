// Package tests3 starts a real S3 server for tests: versitygw, over a directory,
// behind TLS with an authority of its own.
//
// The server itself listens on a unix socket; what is in front of it is ours,
// and can lose a connection in the middle of an answer. Without the program,
// which scripts/test-setup --s3 builds, a test is skipped; it fails instead where
// REQUIRE_S3 is set.
package tests3

import (
	"crypto/tls"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"howdah/pki"
	"howdah/spec"
)

// What the server is asked with. Its certificate is localhost's; buckets in the
// host's name are below Domain.
const (
	Key    = "test"
	Secret = "s3cr3t-of-the-test"
	Region = "us-east-1"
	Domain = "s3.test"
)

// A Server is one that runs.
type Server struct {
	Endpoint string // localhost:port
	Port     int
	CAFile   string
	Objects  string // directory with a directory for each bucket

	socket string
	Lag    time.Duration // before the answer to each request; to be set before the first

	away atomic.Bool  // no connection is answered
	cut  atomic.Int64 // bytes after which the next connections lose their answer; 0: never
	cuts atomic.Int64 // how many more connections do
}

// Program is where the server's program is, and skips the test if it is nowhere.
func Program(t testing.TB) string {
	t.Helper()
	program := filepath.Join(os.Getenv("HOWDAH_PEERS"), "versitygw/bin/versitygw")
	if _, err := os.Stat(program); os.Getenv("HOWDAH_PEERS") == "" || err != nil {
		if os.Getenv("REQUIRE_S3") != "" {
			t.Fatal("REQUIRE_S3 is set, and HOWDAH_PEERS has no versitygw: scripts/test-setup --s3 builds it")
		}
		t.Skip("no S3 server: scripts/test-setup --s3 builds one, and HOWDAH_PEERS says where to")
	}
	return program
}

// Start starts a server with empty buckets, which ends with the test.
func Start(t testing.TB, buckets ...string) *Server {
	t.Helper()
	program := Program(t)
	place := "/dev/shm" // in memory if there is some: what is stored here need not last
	if st := (unix.Statfs_t{}); unix.Statfs(place, &st) != nil || int64(st.Bavail)*st.Bsize < 2<<30 {
		place = ""
	}
	dir, err := os.MkdirTemp(place, "s3-") // short: the path of a socket has 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil { // PostgreSQL's user reads the authority's certificate
		t.Fatal(err)
	}
	s := &Server{Objects: filepath.Join(dir, "objects"), socket: filepath.Join(dir, "s")}
	for _, b := range buckets {
		if err := os.MkdirAll(filepath.Join(s.Objects, b), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(program, dir, s.socket)
	stdin, err := cmd.StdinPipe() // ends with us, and with it the server
	if err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	t.Cleanup(func() {
		_ = stdin.Close()
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			_ = cmd.Process.Kill()
			<-ended
		}
		if t.Failed() {
			t.Logf("the S3 server said:\n%s", said.String())
		}
	})
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for limit := time.After(time.Minute); ; {
		if conn, err := net.Dial("unix", s.socket); err == nil {
			conn.Close()
			break
		}
		select {
		case <-tick.C:
		case <-ended:
			t.Fatalf("the S3 server ended:\n%s", said.String())
		case <-limit:
			t.Fatal("the S3 server does not listen after a minute")
		}
	}
	s.front(t, dir)
	return s
}

// front makes what stands before the server.
func (s *Server) front(t testing.TB, dir string) {
	t.Helper()
	authority, err := pki.OpenAuthority(dir, "the S3 server's authority")
	if err != nil {
		t.Fatal(err)
	}
	files, err := authority.Issue(filepath.Join(dir, "front"), "localhost")
	if err != nil {
		t.Fatal(err)
	}
	config, err := serving(files)
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		t.Fatal(err)
	}
	s.CAFile, s.Port = authority.File, l.Addr().(*net.TCPAddr).Port
	s.Endpoint = net.JoinHostPort("localhost", strconv.Itoa(s.Port))
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go s.pass(conn) // until either side has had enough; the server goes with the test
		}
	}()
	t.Cleanup(func() { l.Close() })
}

func serving(files spec.TLS) (*tls.Config, error) {
	cert, err := tls.LoadX509KeyPair(files.Cert, files.Key)
	return &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}, err
}

// CutNext has the next n connections that answer so much lose the rest.
func (s *Server) CutNext(n int, after int64) {
	s.cut.Store(after)
	s.cuts.Store(int64(n))
}

// Away has the server answer no more, or again.
func (s *Server) Away(is bool) { s.away.Store(is) }

// seen is set by every write.
type seen struct{ *atomic.Bool }

func (s seen) Write(p []byte) (int, error) {
	s.Store(true)
	return len(p), nil
}

// pass moves bytes between a client and the server.
func (s *Server) pass(client net.Conn) {
	defer client.Close()
	if s.away.Load() {
		return
	}
	server, err := net.Dial("unix", s.socket)
	if err != nil {
		return
	}
	defer server.Close()
	var asked atomic.Bool // since the last answer began
	go func() {
		_, _ = io.Copy(server, io.TeeReader(client, seen{&asked}))
		_ = server.(*net.UnixConn).CloseWrite()
	}()
	buffer := make([]byte, 32<<10)
	for sent := int64(0); ; {
		n, err := server.Read(buffer)
		if s.Lag > 0 && asked.Swap(false) {
			<-time.After(s.Lag)
		}
		if after := s.cut.Load(); after > 0 && sent+int64(n) > after && s.cuts.Add(-1) >= 0 {
			_, _ = client.Write(buffer[:max(after-sent, 0)])
			return
		}
		if s.away.Load() {
			return
		}
		if _, failed := client.Write(buffer[:n]); failed != nil || err != nil {
			return
		}
		sent += int64(n)
	}
}
