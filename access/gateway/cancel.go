package gateway

import (
	"context"
	"encoding/binary"
	"io"
	"sync"
	"time"

	"howdah/access/pooler"
	"howdah/access/route"
	"howdah/logkey"
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
// service sends one: right where there is one server. What waits for standbys to
// confirm a commit is let be (pooler.Withhold), where this node may ask.
func (p *port) cancel(ctx context.Context, x *session) {
	ctx, cancel := context.WithTimeout(ctx, cancelWithin)
	defer cancel()
	var all []route.Backend
	s, _ := p.route()
	p.mu.Lock()
	owner := p.keys[pgwire.Key(x.first.Body)]
	for _, b := range s.Backends {
		if b.Addr != "" && (owner == nil && b.Up || owner != nil && b.Member == owner.member) {
			all = append(all, b)
		}
	}
	p.mu.Unlock()
	var wg sync.WaitGroup
	for _, b := range all {
		wg.Go(func() {
			if p.front.withholds(ctx, b, pgwire.Key(x.first.Body)) {
				return
			}
			server, err := x.dial(ctx, b.Addr)
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

// withholds says that a cancel request for the session of key is not to reach b.
func (f *front) withholds(ctx context.Context, b route.Backend, key pgwire.Key) bool {
	if b.Epoch == 0 || len(key) < 4 {
		return false // nothing commits there; it is no key
	}
	withheld, err := pooler.Withhold(ctx, binary.BigEndian.Uint32([]byte(key)), f.waits(b), func() {
		f.log.Info("cancel request withheld while a commit waits for standbys", logkey.Member, b.Member)
	})
	if err != nil {
		f.log.Warn("it is not known what a cancel request would end", logkey.Member, b.Member, logkey.Error, err)
	}
	return withheld
}

// waits asks the leader b as the pools do; nil: there are none, and nobody may.
func (f *front) waits(b route.Backend) func(context.Context, uint32) (bool, error) {
	for _, p := range f.ports {
		if p.way == nil {
			continue
		}
		s, _ := p.route()
		if is, ok := s.Backend(b.Member); ok && is.Epoch == b.Epoch {
			return p.way.waits(is)
		}
	}
	return nil
}
