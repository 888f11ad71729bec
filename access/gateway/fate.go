package gateway

import (
	"context"
	"net"
	"strconv"
	"sync"
	"time"

	"howdah/access/pooler"
	"howdah/access/route"
	"howdah/logkey"
)

// What became of a COMMIT whose server was lost is asked of whoever leads now, and
// said only while that one's right to write is proven.

// judges ask the members of a service.
type judges struct {
	mu  sync.Mutex
	all map[string]*pooler.Judge // by address
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
	j := w.judgeOf(b)
	if j == nil {
		return pooler.Unknown, errNobody
	}
	fate, err := j.Ask(ctx, x)
	if err == nil && !open() {
		err = errNobody // it may be another one's by now to say so
	}
	return fate, err
}

// judgeOf asks b; nil: we may not.
func (w *way) judgeOf(b route.Backend) *pooler.Judge {
	own := b.Member == w.node.Member
	if !own && (w.config == nil || w.Superuser == "") {
		return nil
	}
	w.judges.mu.Lock()
	defer w.judges.mu.Unlock()
	if j := w.judges.all[b.Addr]; j != nil {
		return j
	}
	c := w.roll.Copy()
	if !own {
		host, port, _ := net.SplitHostPort(b.Addr)
		number, _ := strconv.Atoi(port)
		c.Host, c.Port, c.Password = host, uint16(number), w.Superuser.Reveal()
		c.TLSConfig = w.config.Clone()
		c.TLSConfig.ServerName = host
	}
	j := &pooler.Judge{Config: c}
	if w.judges.all == nil {
		w.judges.all = map[string]*pooler.Judge{}
	}
	w.judges.all[b.Addr] = j
	return j
}

func (j *judges) close() {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, one := range j.all {
		one.Close()
	}
}
