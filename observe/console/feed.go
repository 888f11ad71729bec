package console

import (
	"context"
	"encoding/json"
	"slices"
	"sync/atomic"
	"time"

	"howdah/latest"
)

// A feed is what watchers of one cluster see: it is looked at once for all of
// them, and not at all while there are none.
type feed struct {
	name     string
	of       Looked
	seen     latest.Value[glance]
	watchers atomic.Int32
	wanted   chan struct{}
	again    chan struct{} // something has changed: look at once
	acts     ledger
}

// A glance is what one look found.
type glance struct {
	view []byte // a View in JSON
	at   time.Time
}

// stale is when a glance is one of earlier watchers, and says nothing of now.
const stale = 3 * lookEvery

// join says that somebody watches; false: too many do.
func (f *feed) join() bool {
	if f.watchers.Add(1) > maxWatchers {
		f.watchers.Add(-1)
		return false
	}
	select {
	case f.wanted <- struct{}{}:
	default: // it is awake
	}
	return true
}

// poke has watchers see at once what has become of an order.
func (f *feed) poke() {
	select {
	case f.again <- struct{}{}:
	default: // it will
	}
}

func (f *feed) part() { f.watchers.Add(-1) }

// run looks until ctx ends.
func (f *feed) run(ctx context.Context) {
	for ctx.Err() == nil {
		if f.watchers.Load() == 0 {
			select {
			case <-f.wanted:
			case <-ctx.Done():
				return
			}
		}
		began := time.Now()
		f.look(ctx)
		select {
		case <-time.After(lookEvery - min(lookEvery, time.Since(began))):
		case <-f.again:
		case <-ctx.Done():
		}
	}
}

// lookWithin is what a look may take: as long as the store has to answer, and more.
const lookWithin = 8 * time.Second

func (f *feed) look(ctx context.Context) {
	within, cancel := context.WithTimeout(ctx, lookWithin)
	defer cancel()
	st, err := f.of.Status(within)
	if ctx.Err() != nil {
		return
	}
	text, err := json.Marshal(viewOf(f.name, st, f.acts.newest(), err))
	if err == nil {
		f.seen.Set(glance{text, time.Now()})
	}
}

func sorted(names []string) []string {
	slices.Sort(names)
	return names
}
