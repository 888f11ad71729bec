package api

import (
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"howdah/cluster"
	"howdah/ha"
	"howdah/pg"
)

// restartWithin is the time allowed to a restart beyond that of its start: a
// shutdown checkpoint may take minutes.
const restartWithin = 2 * time.Minute

// restart restarts this member's PostgreSQL, now or later.
func (s *Server) restart(w http.ResponseWriter, r *http.Request) {
	body, ok := object(w, r, true)
	if !ok {
		return
	}
	m := s.now()
	_, later := body["schedule"]
	if later && m.paused() {
		text(w, http.StatusInternalServerError, "Can't schedule restart in the paused state")
		return
	}
	q, v := wanted(body)
	switch {
	case v.bad():
		text(w, v.status, v.said)
	case later:
		q.Started = cluster.Stamp(m.Server.Started)
		s.schedule(w, r, q)
	default:
		v := s.restartNow(w, r, m, q)
		text(w, v.status, v.said)
	}
}

// wanted reads the request, key by key as Patroni does.
func wanted(body map[string]any) (q cluster.Request, bad verdict) {
	q.Kind = cluster.RequestRestart
	keys := make([]string, 0, len(body))
	for k := range body {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		v := body[k]
		switch k {
		case "schedule":
			if q.Schedule, bad = when(v, "restart"); bad.bad() {
				return q, bad
			}
		case "role":
			q.Role, _ = v.(string)
			if !slices.Contains([]string{cluster.RolePrimary, cluster.RoleStandbyLeader, cluster.RoleReplica}, q.Role) {
				return q, verdict{http.StatusBadRequest, "PostgreSQL role should be either primary, standby_leader, or replica"}
			}
		case "postgres_version":
			q.Version = fmt.Sprint(v)
			if _, err := pg.VersionNum(q.Version); err != nil {
				return q, verdict{http.StatusBadRequest, err.Error()}
			}
		case "timeout":
			if q.Timeout = secondsOf(v); q.Timeout <= 0 {
				return q, verdict{http.StatusBadRequest, "Timeout should be a positive number of seconds"}
			}
		case "restart_pending":
			q.Pending = true
		default:
			return q, verdict{http.StatusBadRequest, "Unknown filter for the scheduled restart: " + k}
		}
	}
	return q, verdict{}
}

// secondsOf reads a number of seconds, or "2min".
func secondsOf(v any) int64 {
	switch v := v.(type) {
	case float64:
		if v < math.MaxInt32 {
			return int64(v)
		}
	case string:
		c := cluster.Config{Data: map[string]any{"t": v}}
		if d := c.Duration(0, "t"); d > 0 {
			return int64(d / time.Second)
		}
		if n, ok := strings.CutSuffix(strings.TrimSpace(v), "min"); ok {
			return 60 * secondsOf(strings.TrimSpace(n))
		}
	}
	return 0
}

// published is how long an answer waits for the agent to say in the store what it rests on.
const published = time.Second

func (s *Server) schedule(w http.ResponseWriter, r *http.Request, q cluster.Request) {
	q.By = r.RemoteAddr
	rev, ok, err := s.Cluster.Ask(r.Context(), s.Node.Member, q)
	switch {
	case err != nil:
		text(w, http.StatusServiceUnavailable, err.Error())
	case !ok:
		text(w, http.StatusConflict, "Another restart is already scheduled")
	default:
		s.seen(r, rev)
		// patronictl flush asks the store whether there is one: it should be there by then.
		s.await(r.Context(), published, func(shown ha.Shown) bool {
			m, _ := shown.State.Member(s.Node.Member)
			return len(m.ScheduledRestart) > 0
		})
		text(w, http.StatusAccepted, "Restart scheduled")
	}
}

// passing is work of a moment that leaves the server the one that it is: a request waits
// for its end, as the agent carries it out after it.
var passing = []string{"admit", "checkpoint", "configure", "follow", "slots", "synchronize", "whole"}

// occupied is the work beside which nothing else can be asked of the server; "" is none.
func (m moment) occupied() string {
	if slices.Contains(passing, m.Job) {
		return ""
	}
	return m.Job
}

func (s *Server) restartNow(w http.ResponseWriter, r *http.Request, m moment, q cluster.Request) verdict {
	no := func(said string) verdict { return verdict{http.StatusServiceUnavailable, said} }
	version, _ := pg.VersionNum(q.Version)
	switch {
	case q.Role != "" && q.Role != m.role(), q.Version != "" && version <= m.Server.Version, q.Pending && !m.Member.PendingRestart:
		return no("restart conditions are not satisfied")
	case m.occupied() != "":
		return no(m.occupied() + " already in progress")
	case m.Server.PID == 0:
		return no("restart failed") // there is nothing to restart; the agent starts it by itself
	}
	long(w)
	q.By = r.RemoteAddr
	rev, ok, err := s.Cluster.Ask(r.Context(), s.Node.Member, q)
	switch {
	case err != nil:
		return no(err.Error())
	case !ok:
		return no("restart already in progress")
	}
	within := restartWithin + m.State.Config.PrimaryStartTimeout()
	if q.Timeout > 0 {
		within = time.Duration(q.Timeout) * time.Second
	}
	down := false
	done := s.await(r.Context(), within, func(shown ha.Shown) bool {
		down = down || shown.Server.PID != m.Server.PID
		// Another turn begins at once; the state that counts is the published one.
		return shown.State.Revision >= rev && shown.Server.PID != m.Server.PID && shown.Server.Answers && shown.Member.State == cluster.StateRunning
	})
	switch {
	case done:
		return verdict{http.StatusOK, "restarted successfully"}
	case down:
		return no("postgres is still starting")
	}
	return no("restart failed")
}

// unschedule takes a scheduled restart back.
func (s *Server) unschedule(w http.ResponseWriter, r *http.Request) {
	done, err := s.Cluster.Unschedule(r.Context(), s.Node.Member)
	switch {
	case err != nil:
		text(w, http.StatusServiceUnavailable, err.Error())
	case done:
		text(w, http.StatusOK, "scheduled restart deleted")
	default:
		text(w, http.StatusNotFound, "no restarts are scheduled")
	}
}

// reload has the agent read its configuration anew. One that is on its way does.
func (s *Server) reload(w http.ResponseWriter, r *http.Request) {
	s.again()
	if _, _, err := s.Cluster.Ask(r.Context(), s.Node.Member, cluster.Request{Kind: cluster.RequestReload, By: r.RemoteAddr}); err != nil {
		text(w, http.StatusServiceUnavailable, err.Error())
		return
	}
	text(w, http.StatusAccepted, "reload scheduled")
}

// reinitialize has this member take a fresh copy.
func (s *Server) reinitialize(w http.ResponseWriter, r *http.Request) {
	body, ok := object(w, r, true)
	if !ok {
		return
	}
	force := cluster.Config{Data: body}.Bool("force")
	m := s.now()
	no := func(said string) { text(w, http.StatusServiceUnavailable, said) }
	switch {
	case !m.hears() || m.State.Leader == nil:
		no("Cluster has no leader, can not reinitialize")
		return
	case m.leads() || m.State.LeaderName() == s.Node.Member:
		no("I am the leader, can not reinitialize")
		return
	case m.occupied() != "" && !force:
		no(m.occupied() + " already in progress")
		return
	}
	long(w)
	rev, ok, err := s.Cluster.Ask(r.Context(), s.Node.Member, cluster.Request{Kind: cluster.RequestReinit, Force: force, By: r.RemoteAddr})
	switch {
	case err != nil:
		no(err.Error())
		return
	case !ok:
		no("reinitialize already in progress")
		return
	}
	// Who waits for the copy looks at the state, which has to say so by then.
	const begins = 5 * time.Second
	s.await(r.Context(), begins, func(shown ha.Shown) bool {
		return shown.State.Revision >= rev && shown.Member.State == cluster.StateCreatingReplica
	})
	text(w, http.StatusOK, "reinitialize started")
}

// peerFailsafe answers a primary of Patroni's own that has lost the store and asks whether
// it may live on (those of ours ask at a path of their own: word). To agree is to promise
// not to stand for election for as long as it counts on that, which ha.Agree knows.
func (s *Server) peerFailsafe(w http.ResponseWriter, r *http.Request) {
	body, ok := object(w, r, false)
	if !ok {
		return
	}
	name, _ := body["name"].(string)
	m := s.now()
	switch {
	case !m.State.Config.FailsafeMode():
		w.WriteHeader(http.StatusBadGateway)
	case m.state() == cluster.StateRunning && m.role() == cluster.RolePrimary:
		text(w, http.StatusInternalServerError, "Running as a leader")
	case name == "":
		text(w, http.StatusBadRequest, "Bad request: who asks is not named")
	default:
		if err := s.Agree(r.Context(), ha.Plea{Name: name}); err != nil {
			text(w, http.StatusInternalServerError, err.Error()) // whoever hears anything but 200 demotes itself
			return
		}
		// How far the asker's slot for this member may be moved.
		w.Header().Set("lsn", strconv.FormatUint(uint64(m.Server.Flushed), 10))
		text(w, http.StatusOK, "Accepted")
	}
}

// sigterm is answered and does nothing, as in Patroni outside its own tests.
func (s *Server) sigterm(w http.ResponseWriter, _ *http.Request) {
	text(w, http.StatusAccepted, "shutdown scheduled")
}
