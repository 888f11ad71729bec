package gateway

import (
	"context"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"howdah/access/pooler"
	"howdah/access/route"
	"howdah/logkey"
)

// What became of a COMMIT whose server was lost is asked of whoever leads now, and
// said only while that one's right to write is proven.

// asked are the members of a service that are asked something as their superuser.
type asked struct {
	mu  sync.Mutex
	all map[string]*oracle // by address
}

// An oracle is one of them.
type oracle struct {
	judge   pooler.Judge
	lookout pooler.Lookout
}

// fateEvery is the pause before the leader, or the next one, is asked again.
const fateEvery = 50 * time.Millisecond

// fate is Door.Fate of all doors of the front.
func (f *front) fate(ctx context.Context, x pooler.Doubt) pooler.Fate {
	tick := time.NewTicker(fateEvery)
	defer tick.Stop()
	for {
		fate, err := f.judge(ctx, x)
		if err == nil {
			return fate
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			f.log.Warn("nobody can say what became of a commit", logkey.Error, err)
			return pooler.Unknown
		}
	}
}

// judge asks whoever leads now.
func (f *front) judge(ctx context.Context, x pooler.Doubt) (pooler.Fate, error) {
	var w *way
	var b route.Backend
	for _, p := range f.ports {
		if p.way == nil {
			continue
		}
		for _, to := range p.usable() {
			if to.Epoch != 0 {
				w, b = p.way, to
			}
		}
	}
	if w == nil {
		return pooler.Unknown, errNobody
	}
	open, let, err := w.gate(b)
	if err != nil {
		return pooler.Unknown, err
	}
	defer let()
	o := w.oracle(b)
	if o == nil {
		return pooler.Unknown, errNobody
	}
	fate, err := o.judge.Ask(ctx, x)
	if err == nil && !open() {
		err = errNobody // it may be another one's by now to say so
	}
	return fate, err
}

// oracle asks b; nil: we may not.
func (w *way) oracle(b route.Backend) *oracle {
	c := w.asks(b)
	if c == nil {
		return nil
	}
	w.asked.mu.Lock()
	defer w.asked.mu.Unlock()
	o := w.asked.all[b.Addr]
	if o == nil {
		o = &oracle{pooler.Judge{Config: c}, pooler.Lookout{Config: c}}
		if w.asked.all == nil {
			w.asked.all = map[string]*oracle{}
		}
		w.asked.all[b.Addr] = o
	}
	return o
}

// asks is how b is reached as its superuser, each time anew; nil: we may not.
func (w *way) asks(b route.Backend) func() *pgconn.Config {
	if b.Member == w.node.Member {
		return w.roll.Copy
	}
	if w.peers == nil || w.Superuser == "" {
		return nil
	}
	host, port, _ := net.SplitHostPort(b.Addr)
	number, _ := strconv.Atoi(port)
	return func() *pgconn.Config {
		c := w.roll.Copy()
		c.Host, c.Port, c.Password = host, uint16(number), w.Superuser.Reveal()
		c.TLSConfig = w.peers.To(host)
		return c
	}
}

// waits is Backend.Waits of b's connections; nil: nobody can say.
func (w *way) waits(b route.Backend) func(context.Context, uint32) (bool, error) {
	if o := w.oracle(b); o != nil {
		return o.lookout.Waits
	}
	return nil
}

func (a *asked) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, o := range a.all {
		o.judge.Close()
		o.lookout.Close()
	}
}
