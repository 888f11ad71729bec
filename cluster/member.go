package cluster

import (
	"net/url"
	"strings"

	"howdah/pg"
)

// States of a member's PostgreSQL, as Patroni names them; the order is that of
// its metric patroni_postgres_state and will not change.
const (
	StateInitializing     = "initializing new cluster"
	StateInitdbFailed     = "initdb failed"
	StateCustomBootstrap  = "running custom bootstrap script"
	StateCustomFailed     = "custom bootstrap failed"
	StateCreatingReplica  = "creating replica"
	StateRunning          = "running"
	StateStarting         = "starting"
	StateStartingCustom   = "starting after custom bootstrap"
	StateStartFailed      = "start failed"
	StateRestarting       = "restarting"
	StateRestartFailed    = "restart failed"
	StateStopping         = "stopping"
	StateStopped          = "stopped"
	StateStopFailed       = "stop failed"
	StateCrashed          = "crashed"
	ReplicationStreaming  = "streaming"
	ReplicationInRecovery = "in archive recovery"
)

// States are the states in the order of Patroni's metric.
var States = [...]string{
	StateInitializing, StateInitdbFailed, StateCustomBootstrap, StateCustomFailed, StateCreatingReplica,
	StateRunning, StateStarting, StateStartingCustom, StateStartFailed, StateRestarting, StateRestartFailed,
	StateStopping, StateStopped, StateStopFailed, StateCrashed,
}

// Roles that a member publishes.
const (
	RolePrimary       = "primary"
	RoleReplica       = "replica"
	RoleStandbyLeader = "standby_leader"
	RoleUninitialized = "uninitialized"
	RoleDemoted       = "demoted"
	RolePromoted      = "promoted"
)

// PatroniVersion is the version that members publish: peers and patronictl
// decide by it what they may expect of us.
const PatroniVersion = "4.1.4"

// A Member is what one agent says of itself, below members/ on its own lease.
type Member struct {
	Name  string `json:"-"`
	Mod   int64  `json:"-"`
	Lease int64  `json:"-"`

	ConnURL                string                   `json:"conn_url"` // postgres://host:port/postgres
	APIURL                 string                   `json:"api_url"`  // http://host:8008/patroni
	State                  string                   `json:"state"`
	Role                   string                   `json:"role"`
	Version                string                   `json:"version"`
	ProxyURL               string                   `json:"proxy_url,omitempty"`
	CheckpointAfterPromote *bool                    `json:"checkpoint_after_promote,omitempty"` // false until a new primary may serve as rewind source, then absent
	Tags                   Tags                     `json:"tags,omitempty"`
	PendingRestart         bool                     `json:"pending_restart,omitempty"`
	PendingRestartReason   map[string]PendingChange `json:"pending_restart_reason,omitempty"`
	XlogLocation           pg.LSN                   `json:"xlog_location,omitempty"` // leader: flushed; standby: the further of received and replayed
	ReplayLSN              pg.LSN                   `json:"replay_lsn,omitempty"`    // standby only
	ReceiveLSN             pg.LSN                   `json:"receive_lsn,omitempty"`   // standby only
	ReplicationState       string                   `json:"replication_state,omitempty"`
	Timeline               pg.Timeline              `json:"timeline,omitempty"`
	ScheduledRestart       map[string]any           `json:"scheduled_restart,omitempty"`
	Pause                  bool                     `json:"pause,omitempty"` // this member has seen the pause
}

// A PendingChange is a setting that waits for a restart.
type PendingChange struct {
	Old string `json:"old_value"`
	New string `json:"new_value"`
}

// Encode is the value to put.
func (m Member) Encode() string { return encode(m) }

// Equal says that both publish the same value: what Encode gives, without the
// writing. An agent asks at every turn.
func (m *Member) Equal(o *Member) bool {
	if m.ConnURL != o.ConnURL || m.APIURL != o.APIURL || m.State != o.State || m.Role != o.Role ||
		m.Version != o.Version || m.ProxyURL != o.ProxyURL || m.PendingRestart != o.PendingRestart ||
		m.XlogLocation != o.XlogLocation || m.ReplayLSN != o.ReplayLSN || m.ReceiveLSN != o.ReceiveLSN ||
		m.ReplicationState != o.ReplicationState || m.Timeline != o.Timeline || m.Pause != o.Pause ||
		(m.CheckpointAfterPromote == nil) != (o.CheckpointAfterPromote == nil) ||
		m.CheckpointAfterPromote != nil && *m.CheckpointAfterPromote != *o.CheckpointAfterPromote {
		return false
	}
	if len(m.Tags)+len(m.PendingRestartReason)+len(m.ScheduledRestart) == 0 &&
		len(o.Tags)+len(o.PendingRestartReason)+len(o.ScheduledRestart) == 0 {
		return true
	}
	return m.Encode() == o.Encode() // these hold whatever JSON can
}

// ParseMember reads a member's value. What can be read is returned even when
// something else in it is malformed.
func ParseMember(name string, value []byte) (Member, error) {
	m := Member{Name: name}
	// Patroni's ancestor published a bare URL and hid the other one in it.
	if text := string(value); strings.HasPrefix(text, "postgres") {
		u, err := url.Parse(text)
		if err != nil {
			return m, err
		}
		q := u.Query()
		m.APIURL = q.Get("application_name")
		q.Del("application_name")
		u.RawQuery = q.Encode()
		m.ConnURL = u.String()
		return m, nil
	}
	err := decode(value, &m)
	m.Name, m.Role = name, modernRole(m.Role)
	return m, err
}

// modernRole reads the word that Patroni 3 still writes.
func modernRole(role string) string {
	if role == "master" {
		return RolePrimary
	}
	return role
}

// Running says that the member's PostgreSQL runs, as far as it says.
func (m *Member) Running() bool { return m.State == StateRunning }

// Source says that the member is one that the others can copy and stream from: a
// primary, or the leader of a standby cluster while its own log grows. A primary
// that lets no client in yet, since what it shows is not confirmed, is starting for
// them; unlike one that recovers it says where its log ends.
func (m Member) Source() bool {
	switch m.Role {
	case RolePrimary:
		return m.Running() || m.State == StateStarting && m.Timeline > 0
	case RoleStandbyLeader:
		return m.Running() && m.ReplicationState == ReplicationStreaming
	}
	return false
}

// Heads says that the member's server does what a leader's is for: it takes writes,
// or it leads a standby cluster.
func (m *Member) Heads() bool {
	return (m.Role == RolePrimary || m.Role == RoleStandbyLeader) && m.Running()
}

// RewindSource says that the member, as a primary, has made its checkpoint
// after the promotion: before it pg_rewind would read the old timeline there.
func (m *Member) RewindSource() bool {
	return m.Role == RolePrimary && (m.CheckpointAfterPromote == nil || *m.CheckpointAfterPromote)
}

// Host is host and port of the member's PostgreSQL, as published.
func (m *Member) Host() (host, port string) {
	// The common form, which every turn of every standby reads.
	if rest, ok := strings.CutPrefix(m.ConnURL, "postgres://"); ok {
		authority, _, _ := strings.Cut(rest, "/")
		if host, port, ok := strings.Cut(authority, ":"); ok && within(host, plainHost) && within(port, digits) {
			return host, port
		}
	}
	u, err := url.Parse(m.ConnURL)
	if err != nil || u.Host == "" {
		return "", ""
	}
	if port = u.Port(); port == "" {
		port = "5432"
	}
	return u.Hostname(), port
}

const (
	digits    = "0123456789"
	plainHost = digits + "abcdefghijklmnopqrstuvwxyz.-"
)

// within says that s is not empty and made of nothing but chars.
func within(s, chars string) bool {
	for i := range len(s) {
		if strings.IndexByte(chars, s[i]) < 0 {
			return false
		}
	}
	return s != ""
}

// Tags are a member's tags: Patroni's own and any other. Values are what JSON
// gives: bool, string, float64.
type Tags map[string]any

// Tag names that mean something.
const (
	TagNoFailover       = "nofailover"
	TagFailoverPriority = "failover_priority"
	TagNoSync           = "nosync"
	TagSyncPriority     = "sync_priority"
	TagNoLoadBalance    = "noloadbalance"
	TagCloneFrom        = "clonefrom"
	TagReplicateFrom    = "replicatefrom"
	TagNoStream         = "nostream"
)

// NoFailover says that the member must never lead.
func (t Tags) NoFailover() bool { return t.excluded(TagNoFailover, TagFailoverPriority) }

// FailoverPriority breaks ties between equal positions; 0 means never.
func (t Tags) FailoverPriority() int { return t.priority(TagNoFailover, TagFailoverPriority) }

// NoSync says that the member must never be a synchronous standby.
func (t Tags) NoSync() bool { return t.excluded(TagNoSync, TagSyncPriority) }

// SyncPriority says who is preferred as synchronous standby; 0 means never.
func (t Tags) SyncPriority() int { return t.priority(TagNoSync, TagSyncPriority) }

// NoLoadBalance says that the member takes no read traffic.
func (t Tags) NoLoadBalance() bool { return t.is(TagNoLoadBalance) }

// CloneFrom says that the member is a preferred source of base backups.
func (t Tags) CloneFrom() bool { return t.is(TagCloneFrom) }

// NoStream says that the member lives from the archive alone.
func (t Tags) NoStream() bool { return t.is(TagNoStream) }

// ReplicateFrom names the member to stream from instead of the leader.
func (t Tags) ReplicateFrom() string {
	s, _ := t[TagReplicateFrom].(string)
	return s
}

func (t Tags) is(name string) bool {
	b, _ := boolOf(t[name])
	return b
}

// excluded follows Patroni's _priority_tag: the word no wins over a number, and
// without the word a priority of zero or less means the same.
func (t Tags) excluded(no, priority string) bool {
	if b, ok := boolOf(t[no]); ok {
		return b
	}
	n, ok := intOf(t[priority])
	return ok && n <= 0
}

func (t Tags) priority(no, priority string) int {
	if t.excluded(no, priority) {
		return 0
	}
	if n, ok := intOf(t[priority]); ok && n > 0 {
		return int(n)
	}
	return 1
}
