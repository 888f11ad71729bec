package api

import (
	"fmt"
	"math"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"howdah/cluster"
	"howdah/ha"
	"howdah/pg"
)

// A moment is what the agent knew last, and when it is asked.
type moment struct {
	ha.Shown
	now  time.Duration // boot clock
	view time.Duration // for how long what the store said last is believed
}

// leads says that this node holds the leader key for certain.
func (m moment) leads() bool { return m.Leads(m.now) }

// backed says that it does by the word of the others, since the store is silent.
func (m moment) backed() bool { return m.leads() && len(m.By) > 0 }

// hears says that the store was heard of lately enough for what it said to count.
func (m moment) hears() bool { return m.Known && m.Heard > 0 && m.now-m.Heard < m.view }

func (m moment) paused() bool { return m.State.Config.Pause() }

// role is the server's role, as it says itself or else as it was last known.
func (m moment) role() string {
	switch {
	case !m.Server.Answers:
		return m.Member.Role
	case !m.Server.Recovering:
		return cluster.RolePrimary
	case m.State.Standby() && m.leads():
		return cluster.RoleStandbyLeader
	}
	return cluster.RoleReplica
}

// state is the server's state in Patroni's words.
func (m moment) state() string {
	if m.Member.State == cluster.StateRunning && !m.Server.Answers {
		return "unknown"
	}
	return m.Member.State
}

// listed says that the member is in the list of synchronous standbys, and by which rule.
func (m moment) listed() (sync, quorum bool) {
	if m.role() != cluster.RoleReplica || !m.hears() || !m.State.Sync.Has(m.name()) {
		return false, false
	}
	mode := m.State.SynchronousMode()
	return mode == cluster.SyncOn, mode == cluster.SyncQuorum
}

func (m moment) name() string { return m.Member.Name }

// healthy says whether a health check of path passes. The order of the words is
// Patroni's (do_GET): they are looked for anywhere in the path.
func (m moment) healthy(path string, q url.Values) bool {
	if path == "/" || path == "" {
		path = "/primary"
	}
	has := func(words ...string) bool {
		for _, w := range words {
			if strings.Contains(path, w) {
				return true
			}
		}
		return false
	}
	switch {
	case has("standby_leader", "standby-leader"):
		return m.standbyLeader()
	case has("leader"):
		return m.leader()
	case has("master", "primary", "read-write"):
		return m.primary()
	}
	return m.serves(path, q, has) && m.tagged(q)
}

func (m moment) serves(path string, q url.Values, has func(...string) bool) bool {
	sync, quorum := m.listed()
	replica := m.replica(q)
	leads := m.primary() || m.standbyLeader()
	switch {
	case has("replica"):
		return replica
	case has("read-only") && !has("sync", "quorum"):
		return leads || replica
	case has("health"):
		return m.state() == cluster.StateRunning
	case !m.hears():
		return false
	}
	switch path {
	case "/sync", "/synchronous":
		return sync && replica
	case "/quorum":
		return quorum && replica
	case "/async", "/asynchronous":
		return !sync && !quorum && replica
	case "/read-only-quorum":
		return leads || quorum && replica
	case "/read-only-sync", "/read-only-synchronous":
		return leads || sync && replica
	}
	return false
}

// leader says that the node holds the leader key. Under maintenance, with the
// store away, its server says what it is.
func (m moment) leader() bool {
	if m.paused() && !m.hears() {
		return m.role() == cluster.RolePrimary || m.role() == cluster.RoleStandbyLeader
	}
	return m.leads()
}

// primary says that the node leads and, as far as it can see, its server takes
// writes. Patroni asks for the key alone, and so sends clients to a server that
// is down or not promoted yet. One that is too busy to answer is not taken out.
func (m moment) primary() bool {
	s := m.Server
	if m.paused() && !m.hears() {
		return m.role() == cluster.RolePrimary
	}
	return m.leads() && !m.State.Standby() && s.Process == pg.ProcessRunning && !(s.Answers && s.Recovering) && !s.Shut
}

func (m moment) standbyLeader() bool {
	if m.paused() && !m.hears() {
		return m.role() == cluster.RoleStandbyLeader
	}
	role := m.role()
	return m.leads() && m.State.Standby() && (role == cluster.RoleReplica || role == cluster.RoleStandbyLeader)
}

// replica is a standby that may be read from.
func (m moment) replica(q url.Values) bool {
	if m.Member.Tags.NoLoadBalance() || m.role() != cluster.RoleReplica || m.state() != cluster.StateRunning {
		return false
	}
	if m.leads() && m.State.Standby() {
		return false
	}
	if lag, ok := size(q.Get("lag")); ok && m.behind(m.Server.Replayed) > lag {
		return false
	}
	return !q.Has("replication_state") || q.Get("replication_state") == m.Member.ReplicationState
}

// behind is how far a position lies behind the leader's last known one.
func (m moment) behind(at pg.LSN) int64 {
	if !m.hears() {
		return 0
	}
	return at.Behind(m.State.Status.Optime)
}

// tagged says that the member has every tag that is asked for.
func (m moment) tagged(q url.Values) bool {
	for key, values := range q {
		name, ok := strings.CutPrefix(key, "tag_")
		if !ok {
			continue
		}
		have, ok := m.Member.Tags[name]
		if !ok || have == nil {
			return false
		}
		said, ok := have.(string)
		if !ok {
			said = strings.ToLower(fmt.Sprint(have))
		}
		if said != values[0] {
			return false
		}
	}
	return true
}

var amount = regexp.MustCompile(`(?i)^\s*([0-9]*\.?[0-9]+)\s*(b|kb|mb|gb|tb)?\s*$`)

// size reads "100", "10MB" or "1 GB" as Patroni's parse_int does; what it can
// not read is no limit.
func size(text string) (int64, bool) {
	m := amount.FindStringSubmatch(text)
	if m == nil {
		return 0, false
	}
	n, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		return 0, false
	}
	switch strings.ToLower(m[2]) {
	case "kb":
		n *= 1 << 10
	case "mb":
		n *= 1 << 20
	case "gb":
		n *= 1 << 30
	case "tb":
		n *= 1 << 40
	}
	if n >= math.MaxInt64 {
		return 0, false
	}
	return int64(n), true
}

// check answers a health check. GET also tells what GET /patroni tells.
func (s *Server) check(w http.ResponseWriter, r *http.Request) {
	m := s.now()
	code := http.StatusServiceUnavailable
	if m.healthy(r.URL.Path, r.URL.Query()) {
		code = http.StatusOK
	}
	if r.Method != http.MethodGet {
		w.WriteHeader(code)
		return
	}
	answer(w, code, s.document(m))
}

// liveness says that the agent takes its turns.
func (s *Server) liveness(w http.ResponseWriter, r *http.Request) {
	m := s.now()
	late := m.State.Config.TTL()
	if m.role() != cluster.RolePrimary {
		late *= 2
	}
	ok(w, m.paused() || m.At > 0 && m.now < m.Next+late)
}

// readiness says that the member leads, or streams close behind the leader.
func (s *Server) readiness(w http.ResponseWriter, r *http.Request) {
	m, q := s.now(), r.URL.Query()
	if m.leader() {
		ok(w, true)
		return
	}
	most, given := size(q.Get("lag"))
	if !given {
		most = m.State.Config.MaximumLagOnFailover()
	}
	at := m.Server.Replayed
	if q.Get("mode") == "write" {
		at = max(at, m.Server.Flushed)
	}
	ok(w, m.state() == cluster.StateRunning && m.Member.ReplicationState == cluster.ReplicationStreaming &&
		m.hears() && m.behind(at) <= most)
}

func ok(w http.ResponseWriter, yes bool) {
	if !yes {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
}
