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

// A network that loses packets is not a machine that is silent. While one attempt waits
// another is begun, so that in the 800 ms after which the machine is suspected some
// twenty are lost one after the other, or none was answered. A machine that stays
// silent is asked at leisure.
const (
	beatEvery  = 300 * time.Millisecond
	beatWithin = 350 * time.Millisecond // a machine of the same network that is well needs a thousandth of it
	beatAgain  = 25 * time.Millisecond
	beatEager  = 2 * time.Second
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
	listens, since := "", time.Duration(0)
	for {
		b.Lock()
		addr := b.addr
		b.Unlock()
		if addr != listens {
			listens, since = addr, lease.Now()
		}
		if addr == "" {
			select {
			case <-ctx.Done():
				return nil
			case <-b.wake:
			}
			continue
		}
		again := beatAgain
		if lease.Now()-max(b.last(), since) > beatEager {
			again = beatWithin
		}
		if at, ok := hear(ctx, addr, again); ok {
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

// hear says when the machine at addr was asked for the answer that it gave; ok if there
// was one within beatWithin. It is asked anew each time that again is over.
func hear(ctx context.Context, addr string, again time.Duration) (asked time.Duration, ok bool) {
	ctx, cancel := context.WithTimeout(ctx, beatWithin)
	defer cancel()
	answers := make(chan time.Duration)
	tick := time.NewTicker(again)
	defer tick.Stop()
	for {
		go func(at time.Duration) {
			if there(ctx, addr) {
				select {
				case answers <- at:
				case <-ctx.Done():
				}
			}
		}(lease.Now())
		select {
		case at := <-answers:
			return at, true
		case <-ctx.Done():
			return 0, false
		case <-tick.C:
		}
	}
}

// there says that the machine at addr answers something.
func there(ctx context.Context, addr string) bool {
	conn, err := (&net.Dialer{KeepAlive: -1}).DialContext(ctx, "tcp", addr)
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
