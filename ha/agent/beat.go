package agent

import (
	"context"
	"errors"
	"net"
	"net/url"
	"sync"
	"syscall"
	"time"

	"howdah/lease"
)

// One that is lost leaves time for the next before the machine is suspected after 800 ms:
// it is given up 650 ms after the one before it at the latest, and the next follows at once.
const (
	beatEvery  = 300 * time.Millisecond
	beatWithin = 350 * time.Millisecond // a machine of the same network that is well needs a thousandth of it
)

// beats listens to one machine: is anything of it there? A connection to its
// agent that is taken or refused says so, whatever becomes of the agent; only
// silence does not.
type beats struct {
	sync.Mutex
	addr  string // host:port of the agent there; "": nobody is listened to
	heard time.Duration
	wake  chan struct{}
}

// of is when addr was last heard; from now on it is the one that is listened to.
func (b *beats) of(addr string) time.Duration {
	b.Lock()
	defer b.Unlock()
	if b.addr != addr {
		b.addr, b.heard = addr, 0
		select {
		case b.wake <- struct{}{}:
		default:
		}
	}
	return b.heard
}

// last is when whoever is listened to was last heard.
func (b *beats) last() time.Duration {
	b.Lock()
	defer b.Unlock()
	return b.heard
}

// run listens until ctx ends.
func (b *beats) run(ctx context.Context) error {
	tick := time.NewTicker(beatEvery)
	defer tick.Stop()
	for {
		b.Lock()
		addr := b.addr
		b.Unlock()
		if addr == "" {
			select {
			case <-ctx.Done():
				return nil
			case <-b.wake:
			}
			continue
		}
		at := lease.Now()
		if there(ctx, addr) {
			b.Lock()
			if b.addr == addr {
				b.heard = at
			}
			b.Unlock()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// there says that the machine at addr answers something.
func there(ctx context.Context, addr string) bool {
	conn, err := (&net.Dialer{Timeout: beatWithin, KeepAlive: -1}).DialContext(ctx, "tcp", addr)
	if err == nil {
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // nothing was said: nothing is to be waited for
		}
		_ = conn.Close()
		return true
	}
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ECONNRESET)
}

// Heard implements Hands.
func (h *hands) Heard(member string) time.Duration {
	if member == "" {
		return h.beats.of("")
	}
	m, ok := h.state.Member(member)
	if u, err := url.Parse(m.APIURL); ok && err == nil && u.Port() != "" {
		return h.beats.of(u.Host)
	}
	return h.beats.last() // its key is gone, and its address with it
}
