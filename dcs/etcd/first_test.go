package etcd

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// Whoever asked the nearest member in vain comes back to it, the more seldom the
// longer it fails.
func TestTheNearestIsAskedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Store{}
		for _, name := range []string{"near", "far", "farther"} {
			m := &member{endpoint: name}
			m.trusted, m.distr = context.WithCancel(t.Context())
			s.members = append(s.members, m)
		}
		near, far := s.members[0], s.members[1]
		s.home = near
		asks := func(want string) {
			t.Helper()
			if got := s.order()[0].endpoint; got != want {
				t.Errorf("after %s it asks %s first, want %s", time.Since(began), got, want)
			}
			if n := len(s.order()); n != 3 {
				t.Errorf("%d members", n)
			}
		}
		pass := func(d time.Duration) { <-time.After(d) }
		asks("near")
		watch := near.trust()
		s.prefer(far)
		asks("far")
		if watch.Err() == nil {
			t.Error("who watches the silent member goes on")
		}
		pass(awayMin)
		asks("near")
		s.prefer(far) // in vain
		asks("far")
		pass(awayMin)
		asks("far")
		pass(awayMin)
		asks("near")
		for range 10 {
			s.prefer(far)
			pass(awayMax)
			asks("near")
		}
		watch = far.trust()
		s.prefer(near)
		if watch.Err() == nil {
			t.Error("who watches the one that is not asked any more goes on")
		}
		asks("near")
		s.demote(near) // soon after it was away for long
		asks("far")
		pass(awayMin)
		asks("near")
		s.prefer(far)  // in vain, for longer now
		s.prefer(near) // which answers before it was due
		s.prefer(far)
		pass(awayMin)
		asks("near")
	})
}
