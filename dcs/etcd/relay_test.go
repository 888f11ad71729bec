package etcd_test

import (
	"io"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
)

// A relay stands between a client and one member and can spoil what passes.
type relay struct {
	url     string
	target  string
	swallow atomic.Bool // requests pass, answers do not

	mu    sync.Mutex
	conns map[net.Conn]bool
	wg    sync.WaitGroup
}

func newRelay(t *testing.T, endpoint string) *relay {
	t.Helper()
	u, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{target: u.Host, conns: map[net.Conn]bool{}}
	u.Host = l.Addr().String()
	r.url = u.String()
	r.wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			r.wg.Go(func() { r.serve(conn) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		r.cut()
		r.wg.Wait()
	})
	return r
}

func (r *relay) serve(client net.Conn) {
	server, err := net.Dial("tcp", r.target)
	if err != nil {
		client.Close()
		return
	}
	r.mu.Lock()
	r.conns[client], r.conns[server] = true, true
	r.mu.Unlock()
	var wg sync.WaitGroup
	both := func() { client.Close(); server.Close() }
	wg.Go(func() { _, _ = io.Copy(server, client); both() })
	wg.Go(func() { _, _ = io.Copy(answers{r, client}, server); both() })
	wg.Wait()
	r.mu.Lock()
	delete(r.conns, client)
	delete(r.conns, server)
	r.mu.Unlock()
}

// answers passes bytes on to the client, or loses them.
type answers struct {
	*relay
	to net.Conn
}

func (a answers) Write(p []byte) (int, error) {
	if a.swallow.Load() {
		return len(p), nil
	}
	return a.to.Write(p)
}

// cut ends every connection; new ones pass.
func (r *relay) cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for c := range r.conns {
		c.Close()
	}
}

// lose makes answers vanish. Afterwards the connections that lost some are of
// no use to anyone.
func (r *relay) lose(on bool) {
	r.swallow.Store(on)
	if !on {
		r.cut()
	}
}
