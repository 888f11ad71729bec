package take

import (
	"context"
	"sync"
	"time"

	"howdah/backup/repo"
	"howdah/backup/server"
	"howdah/backup/stanza"
)

// A brake holds a backup back while servers that follow the primary fall behind: what
// it reads and sends is for them to have first. It holds between one object and the
// next, for a store gives up a connection on which nothing moves. A nil one holds nobody.
type brake struct {
	most   int64  // bytes that one may be behind
	from   string // the standby that is copied from, whose replay counts as well
	behind func(ctx context.Context) ([]server.Behind, error)
	voice  stanza.Voice
	tell   func(waits string) // what it waits for; "": it goes on
	every  time.Duration
	limit  time.Duration // it holds no longer than that, and then not again
	since  time.Time     // when it began to hold; zero: it does not

	mu   sync.Mutex
	held chan struct{} // closed when it goes on; nil: it goes
}

// How often it looks, and how long it waits for those who do not catch up.
const (
	brakeEvery = time.Second
	brakeLimit = 10 * time.Minute
)

// wait returns when there is nothing to wait for.
func (b *brake) wait(ctx context.Context) error {
	if b == nil {
		return nil
	}
	for {
		b.mu.Lock()
		held := b.held
		b.mu.Unlock()
		if held == nil {
			return nil
		}
		select {
		case <-held:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// run looks until quit is closed.
func (b *brake) run(ctx context.Context, quit <-chan struct{}) {
	tick := time.NewTicker(b.every)
	defer tick.Stop()
	defer b.release()
	for {
		select {
		case <-tick.C:
		case <-quit:
			return
		}
		if b.look(ctx) {
			return
		}
	}
}

// look holds or lets go; true: it will not hold any more. A look that comes to nothing
// holds nobody.
func (b *brake) look(ctx context.Context) (over bool) {
	all, err := b.behind(ctx)
	worst, lag := "", int64(0)
	for _, s := range all {
		far := s.Flush
		if s.Name == b.from {
			far = max(far, s.Replay)
		}
		if far > lag {
			worst, lag = s.Name, far
		}
	}
	switch holds := !b.since.IsZero(); {
	case holds && (err != nil || lag <= b.most/2):
		b.voice.Info("no standby is behind any more, the backup goes on after %s", time.Since(b.since).Round(time.Second))
		b.since = time.Time{}
		b.release()
	case holds && time.Since(b.since) > b.limit:
		b.voice.Warn("%s has not caught up within %s (%s behind): the backup goes on, and waits no more", worst, b.limit, repo.Size(lag))
		return true
	case !holds && err == nil && lag > b.most:
		b.voice.Info("%s is %s behind: the backup waits for it", worst, repo.Size(lag))
		b.since = time.Now()
		b.hold(worst + " to catch up, which is " + repo.Size(lag) + " behind")
	}
	return false
}

func (b *brake) hold(why string) {
	b.mu.Lock()
	b.held = make(chan struct{})
	b.mu.Unlock()
	if b.tell != nil {
		b.tell(why)
	}
}

func (b *brake) release() {
	b.mu.Lock()
	held := b.held
	b.held = nil
	b.mu.Unlock()
	if held == nil {
		return
	}
	close(held)
	if b.tell != nil {
		b.tell("")
	}
}
