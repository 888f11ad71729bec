package api

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"howdah/cluster"
	"howdah/ha"
	"howdah/problem"
)

// A verdict is an answer in words.
type verdict struct {
	status int
	said   string
}

func (v verdict) bad() bool { return v.said != "" }

// switchover and failover are planned changes of leader (do_POST_failover).
func (s *Server) switchover(w http.ResponseWriter, r *http.Request) { s.change(w, r, "switchover") }
func (s *Server) failover(w http.ResponseWriter, r *http.Request)   { s.change(w, r, "failover") }

func (s *Server) change(w http.ResponseWriter, r *http.Request, action string) {
	body, ok := object(w, r, false)
	if !ok {
		return
	}
	st, known := s.state(r.Context())
	if !known {
		text(w, http.StatusServiceUnavailable, "failed to write failover key into DCS")
		return
	}
	f := cluster.Failover{Leader: word(body, "leader"), Member: word(body, "candidate", "member")}
	at, scheduled := body["scheduled_at"]
	scheduled = scheduled && at != nil && at != ""
	v := s.judge(st, action, &f, at, scheduled)
	if v.bad() {
		text(w, v.status, v.said)
		return
	}
	if f.Leader != "" {
		action = "switchover" // a failover from a leader that is named is one
	}
	long(w)
	seen := s.now().State.Revision
	rev, ok, err := s.Cluster.AskChange(r.Context(), st, f)
	switch {
	case err != nil || !ok:
		s.Log.Warn("change of leader not asked for", "action", action, "error", err)
		text(w, http.StatusServiceUnavailable, "failed to write failover key into DCS")
	case scheduled:
		text(w, http.StatusAccepted, title(action)+" scheduled")
	default:
		v := s.outcome(r.Context(), st, f, max(rev, seen), action)
		text(w, v.status, v.said)
	}
}

// judge checks a request in Patroni's order, and reads its time into f.
func (s *Server) judge(st cluster.State, action string, f *cluster.Failover, at any, scheduled bool) verdict {
	paused := st.Config.Pause()
	switch {
	case action == "failover" && f.Member == "":
		return verdict{http.StatusBadRequest, "Failover could be performed only to a specific candidate"}
	case action == "switchover" && f.Leader == "":
		return verdict{http.StatusBadRequest, "Switchover could be performed only from a specific leader"}
	case scheduled && action == "failover":
		return verdict{http.StatusBadRequest, "Failover can't be scheduled"}
	case scheduled && paused:
		return verdict{http.StatusBadRequest, "Can't schedule switchover in the paused state"}
	}
	if scheduled {
		when, v := when(at, action)
		if v.bad() {
			return v
		}
		f.ScheduledAt = when
	}
	if f.Leader != "" {
		action = "switchover"
	}
	switch {
	case paused && f.Member == "":
		return verdict{http.StatusBadRequest, "Switchover is possible only to a specific candidate in a paused state"}
	case f.Leader == f.Member:
		return verdict{http.StatusBadRequest, "Switchover target and source are the same"}
	case scheduled:
		return verdict{}
	}
	return possible(st, action, *f)
}

// possible looks for somebody to go to.
func possible(st cluster.State, action string, f cluster.Failover) verdict {
	fails := func(said string) verdict { return verdict{http.StatusPreconditionFailed, said} }
	sync := st.SynchronousMode() == cluster.SyncOn
	if f.Leader != "" && f.Leader != st.LeaderName() {
		return fails("leader name does not match")
	}
	var may []cluster.Member
	for _, m := range st.Members {
		switch {
		case f.Member != "" && m.Name != f.Member:
		case f.Member == "" && (m.Name == st.LeaderName() || sync && !st.Sync.Has(m.Name)):
		default:
			may = append(may, m)
		}
	}
	switch {
	case f.Member != "" && action == "switchover" && sync && !st.Sync.Has(f.Member):
		return fails("candidate name does not match with sync_standby")
	case f.Member != "" && len(may) == 0:
		return fails("candidate does not exists")
	case len(may) == 0 && sync:
		return fails(action + " is not possible: can not find sync_standby")
	case len(may) == 0:
		return fails(action + " is not possible: cluster does not have members except leader")
	case !slices.ContainsFunc(may, func(m cluster.Member) bool { return m.Running() && !m.Tags.NoFailover() }):
		return fails(action + " is not possible: no good candidates have been found")
	}
	return verdict{}
}

// outcome waits for what becomes of a request that was put at rev.
func (s *Server) outcome(ctx context.Context, st cluster.State, f cluster.Failover, rev int64, action string) verdict {
	within := 2 * max(10*time.Second, st.Config.LoopWait())
	past := strings.TrimSuffix(action, "over") + "ed over" // switched over, failed over
	if action == "switchover" {
		past = "switched over"
	}
	v := verdict{http.StatusServiceUnavailable, fmt.Sprintf("%s status unknown after %d seconds; operation may still be in progress", title(action), int(within.Seconds()))}
	gone := time.Time{}
	s.await(ctx, within, func(shown ha.Shown) bool {
		now := shown.State
		leader := now.LeaderName()
		switch {
		case now.Revision < rev:
			return false
		case leader != "" && leader != st.LeaderName():
			if m, ok := now.Member(leader); !ok || !m.Heads() {
				return false // it took the key, and is on its way
			}
			v = verdict{http.StatusOK, fmt.Sprintf("Successfully %s to %q", past, leader)}
			if f.Member != "" && f.Member != leader {
				v.said = fmt.Sprintf("%s to %q instead of %q", title(past), leader, f.Member)
			}
			return true
		case now.Failover.Asked(), leader == "", now.Handover != nil && now.Handover.Open():
			gone = time.Time{}
			return false
		}
		// The request is gone and nothing changed; a stop may have begun all the same.
		if m, ok := now.Member(st.LeaderName()); ok && !m.Running() {
			return false
		}
		if gone.IsZero() {
			gone = time.Now()
		}
		if time.Since(gone) < settled {
			return false
		}
		v = verdict{http.StatusServiceUnavailable, title(action) + " failed"}
		return true
	})
	return v
}

// settled is how long a request has to be gone before that counts as a no.
const settled = 500 * time.Millisecond

// await waits until so says yes to what the agent knows.
func (s *Server) await(ctx context.Context, within time.Duration, so func(ha.Shown) bool) bool {
	const look = 100 * time.Millisecond
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	tick := time.NewTicker(look)
	defer tick.Stop()
	for {
		shown, version := s.Shown.Get()
		if so(shown) {
			return true
		}
		select {
		case <-s.Shown.Changed(version):
		case <-tick.C:
		case <-ctx.Done():
			return false
		}
	}
}

// cancel takes a scheduled switchover back.
func (s *Server) cancel(w http.ResponseWriter, r *http.Request) {
	f, err := s.Cluster.Scheduled(r.Context())
	if err == nil {
		err = s.Cluster.Cancel(r.Context(), f)
	}
	switch problem.Code(err) {
	case "":
		text(w, http.StatusOK, "scheduled switchover deleted")
	case "schedule-none":
		text(w, http.StatusNotFound, "no switchover is scheduled")
	default:
		text(w, http.StatusConflict, err.Error())
	}
}

// when reads the time of something scheduled.
func when(v any, action string) (time.Time, verdict) {
	said, _ := v.(string)
	at, err := cluster.ParseTime(strings.TrimSpace(said))
	switch {
	case err == nil && said != "" && at.After(time.Now()):
		return at, verdict{}
	case err == nil && said != "":
		return at, verdict{http.StatusUnprocessableEntity, "Cannot schedule " + action + " in the past"}
	}
	if _, err := cluster.ParseTime(strings.TrimSpace(said) + "Z"); err == nil && said != "" {
		return at, verdict{http.StatusBadRequest, "Timezone information is mandatory for the scheduled " + action}
	}
	return at, verdict{http.StatusUnprocessableEntity, "Unable to parse scheduled timestamp. It should be in an unambiguous format, e.g. ISO 8601"}
}

func title(s string) string { return strings.ToUpper(s[:1]) + s[1:] }
