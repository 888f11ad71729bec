package postgres

import (
	"context"
	"sync"
	"time"

	"howdah/logkey"
)

// Died has a value whenever a postmaster that Run watched has died, within
// milliseconds. It is a hint to look, not a count.
func (s *Server) Died() <-chan struct{} { return s.died }

// Run watches the postmaster, ours or adopted, until ctx ends, and knocks at its door now
// and then. Start and Look tell it which one that is.
func (s *Server) Run(ctx context.Context) error {
	knocks, cancel := context.WithCancel(ctx)
	var knocking sync.WaitGroup
	knocking.Go(func() { s.knocking(knocks) })
	defer knocking.Wait()
	defer cancel()
	s.watched.Lock()
	s.watched.Proc = Proc{} // an earlier Run may have ended while it watched
	s.watched.Unlock()
	for {
		if p, ok := Postmaster(s.data); ok {
			s.watch(p)
		}
		select {
		case <-ctx.Done():
			return s.Close()
		case p := <-s.found:
			if err := p.waitExit(ctx); err != nil {
				return s.Close()
			}
			now := time.Now()
			s.diedAt.Store(&now)
			s.log.Info("postmaster died", logkey.PID, p.PID)
			select {
			case s.died <- struct{}{}:
			default:
			}
		}
	}
}

// watch tells Run about a postmaster that it does not know yet.
func (s *Server) watch(p Proc) {
	s.watched.Lock()
	defer s.watched.Unlock()
	if s.watched.PID == p.PID && s.watched.Ticks == p.Ticks {
		return
	}
	s.watched.Proc = p
	select {
	case <-s.found: // an older one that Run never came to: it is dead
	default:
	}
	s.found <- p
}
