// Package testssh is an SSH server for tests. It runs in the test's process and
// runs commands as whoever runs the tests, with programs of the test's own before
// the machine's: id says that it is root.
package testssh

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/crypto/ssh"
)

// A Server is an SSH server that runs commands as whoever runs the tests.
type Server struct {
	At   *net.TCPAddr
	Cut  atomic.Int64 // the connection is cut after so many bytes of a command's input; 0: never
	t    *testing.T
	path string // a directory of programs that go before the machine's own
	busy sync.WaitGroup
}

// Key makes a private key, and its file if path is not "".
func Key(t *testing.T, path string) ssh.Signer {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	if path != "" {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// RSAKey is a key of another kind.
func RSAKey(t *testing.T) ssh.Signer {
	t.Helper()
	private, err := rsa.GenerateKey(rand.Reader, 1024) // small: it is made in every run
	if err != nil {
		t.Fatal(err)
	}
	s, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Serve starts a server that shows the host keys and takes whom it knows.
func Serve(t *testing.T, takes ssh.PublicKey, host ...ssh.Signer) *Server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{t: t, At: l.Addr().(*net.TCPAddr), path: t.TempDir()}
	config := &ssh.ServerConfig{PublicKeyCallback: func(_ ssh.ConnMetadata, k ssh.PublicKey) (*ssh.Permissions, error) {
		if !bytes.Equal(k.Marshal(), takes.Marshal()) {
			return nil, errors.New("nobody's key")
		}
		return nil, nil
	}}
	for _, h := range host {
		config.AddHostKey(h)
	}
	s.Program("id", "echo 0") // root, unless a test says otherwise
	s.busy.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			s.busy.Go(func() { s.converse(conn, config) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		s.busy.Wait()
	})
	return s
}

// Program puts a shell script into the server's path.
func (s *Server) Program(name, script string) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.path, name), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
		s.t.Fatal(err)
	}
}

func (s *Server) converse(conn net.Conn, config *ssh.ServerConfig) {
	defer conn.Close()
	c, chans, reqs, err := ssh.NewServerConn(conn, config)
	if err != nil {
		return
	}
	s.busy.Go(func() { ssh.DiscardRequests(reqs) })
	for ch := range chans {
		channel, requests, err := ch.Accept()
		if err != nil {
			continue
		}
		s.busy.Go(func() {
			defer channel.Close()
			for r := range requests {
				if r.Type != "exec" {
					_ = r.Reply(false, nil)
					continue
				}
				_ = r.Reply(true, nil)
				var command struct{ Text string }
				_ = ssh.Unmarshal(r.Payload, &command)
				_, _ = channel.SendRequest("exit-status", false, ssh.Marshal(struct{ Code uint32 }{s.exec(c, channel, command.Text)}))
				return
			}
		})
	}
}

// exec runs a command and, like sshd, closes its input when the connection ends.
func (s *Server) exec(c ssh.Conn, channel ssh.Channel, text string) uint32 {
	cmd := exec.Command("sh", "-c", text)
	cmd.Env = append(os.Environ(), "PATH="+s.path+":"+os.Getenv("PATH"))
	cmd.Stdout, cmd.Stderr = channel, channel.Stderr()
	in, err := cmd.StdinPipe()
	if err != nil || cmd.Start() != nil {
		return 255
	}
	s.busy.Go(func() {
		defer in.Close()
		if s.Cut.Load() == 0 {
			_, _ = io.Copy(in, channel)
			return
		}
		_, _ = io.CopyN(in, channel, s.Cut.Load())
		c.Close()
	})
	_ = cmd.Wait()
	return uint32(cmd.ProcessState.ExitCode())
}
