package gateway

import (
	"context"
	"io"
	"sync"
	"time"

	"howdah/pgwire"
)

// cancelWithin bounds the delivery of one cancel request.
const cancelWithin = 5 * time.Second

// learn remembers which session the key names.
func (p *port) learn(x *session, key pgwire.Key) {
	p.mu.Lock()
	defer p.mu.Unlock()
	x.key = key
	p.keys[key] = x
}

// cancel delivers a cancel request to the server that has its session. The key
// of an encrypted session is not known here: then every server of the service
// gets the request, and the one that knows the key obeys. One that is encrypted
// itself (libpq 17's PQcancelCreate) looks like any client, and goes where the
// service sends one: right where there is one server.
func (p *port) cancel(ctx context.Context, x *session) {
	ctx, cancel := context.WithTimeout(ctx, cancelWithin)
	defer cancel()
	var addrs []string
	s, _ := p.route()
	p.mu.Lock()
	owner := p.keys[pgwire.Key(x.first.Body)]
	for _, b := range s.Backends {
		if b.Addr != "" && (owner == nil && b.Up || owner != nil && b.Member == owner.member) {
			addrs = append(addrs, b.Addr)
		}
	}
	p.mu.Unlock()
	var wg sync.WaitGroup
	for _, addr := range addrs {
		wg.Go(func() {
			server, err := x.dial(ctx, addr)
			if err != nil {
				return
			}
			defer server.Close()
			deadline, _ := ctx.Deadline()
			if server.SetDeadline(deadline) != nil {
				return
			}
			if _, err := server.Write(x.head); err != nil {
				return
			}
			// The server closes when it has sent the signal; until then the
			// client must not think that it has.
			_, _ = io.Copy(io.Discard, server)
		})
	}
	wg.Wait()
}
