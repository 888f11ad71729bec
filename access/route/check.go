package route

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"howdah/cluster"
)

// A check is a health path as an agent would answer it.
type check struct {
	path  string // as it was written, "/" if nothing was
	kind  kindOfCheck
	query url.Values
}

type kindOfCheck int

const (
	never kindOfCheck = iota
	standbyLeader
	leader
	primary
	replica
	readOnly
	health
	sync
	quorum
	async
	readOnlyQuorum
	readOnlySync
)

// parseCheck follows Patroni's matching: the first word that the path contains,
// in this order; some must be the whole path.
func parseCheck(text string) check {
	c := check{path: text}
	if text == "" {
		c.path = "/"
	}
	path, query, _ := strings.Cut(c.path, "?")
	c.query, _ = url.ParseQuery(query) // what can be read of it counts, as there
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
		c.kind = standbyLeader
	case has("leader"):
		c.kind = leader
	case path == "/" || has("master", "primary", "read-write"):
		c.kind = primary
	case has("replica"):
		c.kind = replica
	case has("read-only") && !has("sync", "quorum"):
		c.kind = readOnly
	case has("health"):
		c.kind = health
	case path == "/sync" || path == "/synchronous":
		c.kind = sync
	case path == "/quorum":
		c.kind = quorum
	case path == "/async" || path == "/asynchronous":
		c.kind = async
	case path == "/read-only-quorum":
		c.kind = readOnlyQuorum
	case path == "/read-only-sync" || path == "/read-only-synchronous":
		c.kind = readOnlySync
	}
	return c
}

// leading says that only a leader passes.
func (c check) leading() bool {
	return c.kind == standbyLeader || c.kind == leader || c.kind == primary
}

// passes says whether the agent of m would answer 200, and why or why not.
func (c check) passes(p cluster.Picture, m cluster.PictureMember) (bool, string) {
	switch c.kind {
	case standbyLeader:
		return holds(m, m.Role == cluster.LeadsStandby, "standby_leader")
	case leader:
		return holds(m, m.Leads(), "leader")
	case primary:
		return holds(m, m.Role == cluster.Leads, "leader")
	case replica:
		return c.follows(m)
	case readOnly:
		return c.either(m, true, "")
	case readOnlySync:
		return c.either(m, m.Role == cluster.SyncStandby, "sync")
	case readOnlyQuorum:
		return c.either(m, m.Role == cluster.QuorumStandby, "quorum")
	case health:
		if why := c.tags(m); why != "" {
			return false, why
		}
		return m.Running, "state=" + m.State
	case sync:
		return c.named(m, m.Role == cluster.SyncStandby, "sync")
	case quorum:
		return c.named(m, m.Role == cluster.QuorumStandby, "quorum")
	case async:
		return c.named(m, m.Role != cluster.SyncStandby && m.Role != cluster.QuorumStandby, "async")
	}
	return false, "path=unknown"
}

// holds says whether m, if it holds the lock, may be sent clients. Patroni says
// yes as soon as the lock is taken, and its clients then see a server that is
// still promoting; here they wait until it says itself that it is the primary.
func holds(m cluster.PictureMember, lock bool, name string) (bool, string) {
	switch {
	case !lock:
		return false, name + "=no"
	case !m.Running:
		return false, name + "=yes state=" + strings.ReplaceAll(m.State, " ", "-")
	case !m.Primary:
		return false, name + "=yes promoting"
	}
	return true, name + "=yes"
}

// either is: holds the lock, or replicates and is of the kind.
func (c check) either(m cluster.PictureMember, kind bool, name string) (bool, string) {
	if m.Leads() {
		return holds(m, true, "leader")
	}
	return c.named(m, kind, name)
}

func (c check) named(m cluster.PictureMember, kind bool, name string) (bool, string) {
	if !kind {
		return false, name + "=no"
	}
	ok, why := c.follows(m)
	if name != "" {
		why = name + "=yes " + why
	}
	return ok, why
}

// follows is Patroni's condition for a replica.
func (c check) follows(m cluster.PictureMember) (bool, string) {
	switch {
	case m.Leads():
		return false, "leader=yes"
	case m.Primary:
		return false, "primary without the lock" // deposed, and does not know it yet
	case !m.Running:
		return false, "state=" + strings.ReplaceAll(m.State, " ", "-")
	case m.Tags.NoLoadBalance():
		return false, "noloadbalance"
	}
	if why := c.tags(m); why != "" {
		return false, why
	}
	if want := c.query.Get("replication_state"); want != "" && m.State != want {
		return false, "replication=" + strings.ReplaceAll(m.State, " ", "-")
	}
	if limit, ok := lagLimit(c.query.Get("lag")); ok {
		// Patroni measures what was replayed.
		if m.Replay != nil && m.Replay.Known && m.Replay.Behind > limit {
			return false, fmt.Sprintf("lag=%d over %d", m.Replay.Behind, limit)
		}
	}
	return true, "state=" + strings.ReplaceAll(m.State, " ", "-")
}

// tags says which tag filter fails, or "".
func (c check) tags(m cluster.PictureMember) string {
	for key, values := range c.query { // every one must hold: the order does not matter but for the words
		name, ok := strings.CutPrefix(key, "tag_")
		if !ok {
			continue
		}
		have, ok := m.Tags[name]
		if !ok || len(values) == 0 || tagText(have) != values[0] && !strings.EqualFold(tagText(have), values[0]) {
			return "tags"
		}
	}
	return ""
}

// tagText is a tag as a query writes it.
func tagText(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case bool:
		return strconv.FormatBool(v)
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	}
	return ""
}

// lagLimit reads "16MB"; what can not be read limits nothing.
func lagLimit(text string) (bytes int64, ok bool) {
	number := strings.TrimRight(text, "kKMGTBb ")
	unit := strings.TrimSpace(text[len(number):])
	n, err := strconv.ParseInt(strings.TrimSpace(number), 10, 64)
	if err != nil || n < 0 {
		return 0, false
	}
	factor, ok := map[string]int64{"": 1, "B": 1, "kB": 1 << 10, "KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30, "TB": 1 << 40}[unit]
	if !ok || n > (1<<62)/factor {
		return 0, false
	}
	return n * factor, true
}
