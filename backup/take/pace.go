package take

import (
	"context"
	"io"
	"sync"
	"time"
)

// A pace keeps the workers of a backup, all together, to so many bytes of the cluster
// in a second, so that it leaves the server's disk to the server. A nil one keeps
// nobody.
type pace struct {
	rate int64 // bytes

	mu   sync.Mutex
	free time.Time // when what was taken so far is paid for
}

func newPace(rate int64) *pace {
	if rate <= 0 {
		return nil
	}
	return &pace{rate: rate}
}

// take waits until n bytes more may be read.
func (p *pace) take(ctx context.Context, n int64) error {
	if p == nil {
		return nil
	}
	p.mu.Lock()
	now := time.Now()
	if p.free.Before(now) { // what was not used is not made up for
		p.free = now
	}
	wait := p.free.Sub(now)
	p.free = p.free.Add(time.Duration(float64(n) / float64(p.rate) * float64(time.Second)))
	p.mu.Unlock()
	if wait == 0 {
		return nil
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// reader is r at that pace.
func (p *pace) reader(ctx context.Context, r io.Reader) io.Reader {
	if p == nil {
		return r
	}
	return paced{ctx, r, p}
}

type paced struct {
	ctx context.Context
	io.Reader
	pace *pace
}

// Read takes as much as it got from the time that comes.
func (p paced) Read(b []byte) (int, error) {
	n, err := p.Reader.Read(b)
	if late := p.pace.take(p.ctx, int64(n)); late != nil {
		return n, late
	}
	return n, err
}
