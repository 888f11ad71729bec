package api

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"howdah/cluster"
	"howdah/pg"
)

// A document is the answer of GET /patroni, and of every health check.
type document struct {
	State            string                           `json:"state"`
	Started          string                           `json:"postmaster_start_time,omitempty"`
	Role             string                           `json:"role"`
	ServerVersion    int                              `json:"server_version,omitempty"`
	Xlog             any                              `json:"xlog,omitempty"`
	SyncStandby      bool                             `json:"sync_standby,omitempty"`
	QuorumStandby    bool                             `json:"quorum_standby,omitempty"`
	Timeline         pg.Timeline                      `json:"timeline,omitempty"`
	ReplicationState string                           `json:"replication_state,omitempty"`
	Replication      []receiver                       `json:"replication,omitempty"`
	Pause            bool                             `json:"pause,omitempty"`
	Unlocked         bool                             `json:"cluster_unlocked,omitempty"`
	Failsafe         bool                             `json:"failsafe_mode_is_active,omitempty"`
	LastSeen         int64                            `json:"dcs_last_seen"`
	Tags             cluster.Tags                     `json:"tags,omitempty"`
	System           string                           `json:"database_system_identifier,omitempty"`
	PendingRestart   bool                             `json:"pending_restart,omitempty"`
	PendingReason    map[string]cluster.PendingChange `json:"pending_restart_reason,omitempty"`
	Patroni          identity                         `json:"patroni"`
	ScheduledRestart map[string]any                   `json:"scheduled_restart,omitempty"`
	WatchdogFailed   bool                             `json:"watchdog_failed,omitempty"`
}

type identity struct {
	Version string `json:"version"`
	Scope   string `json:"scope"`
	Name    string `json:"name"`
}

type primaryXlog struct {
	Location pg.LSN `json:"location"`
}

type replicaXlog struct {
	Received  pg.LSN  `json:"received_location"`
	Replayed  pg.LSN  `json:"replayed_location"`
	Timestamp *string `json:"replayed_timestamp"`
	Paused    bool    `json:"paused"`
}

type receiver struct {
	User      string  `json:"usename"`
	Name      string  `json:"application_name"`
	Client    *string `json:"client_addr"`
	State     string  `json:"state"`
	SyncState string  `json:"sync_state"`
	Priority  int     `json:"sync_priority"`
}

// document is what this node tells of itself.
func (s *Server) document(m moment) document {
	d := document{
		State: m.state(), Role: m.role(), Pause: m.paused(), Unlocked: !m.hears() || m.State.Leader == nil, Failsafe: m.backed(),
		LastSeen: m.lastSeen(), Tags: m.Member.Tags,
		PendingRestart: m.Member.PendingRestart, PendingReason: m.Member.PendingRestartReason,
		Patroni: identity{cluster.PatroniVersion, s.Node.Cluster, s.Node.Member}, ScheduledRestart: m.Member.ScheduledRestart, WatchdogFailed: m.Unwatched,
	}
	if sys := m.Server.Control.System; sys != 0 {
		d.System = sys.String()
	}
	srv := m.Server
	if !srv.Answers {
		return d
	}
	d.Started, d.ServerVersion, d.Timeline = cluster.Stamp(srv.Started), srv.Version, srv.Timeline
	d.SyncStandby, d.QuorumStandby = m.listed()
	d.ReplicationState = m.Member.ReplicationState
	if srv.Recovering {
		x := replicaXlog{Received: srv.Flushed, Replayed: srv.Replayed, Paused: srv.ReplayPaused}
		if !srv.Replaying.IsZero() {
			at := cluster.Stamp(srv.Replaying)
			x.Timestamp = &at
		}
		d.Xlog = x
	} else {
		d.Xlog = primaryXlog{srv.Flushed}
	}
	for _, r := range srv.Replicas {
		row := receiver{User: r.User, Name: r.Name, State: r.State, SyncState: r.SyncState, Priority: r.SyncPriority}
		if r.Client != "" {
			row.Client = &r.Client
		}
		d.Replication = append(d.Replication, row)
	}
	return d
}

// lastSeen is when the store was last heard of, in seconds of the epoch.
func (m moment) lastSeen() int64 {
	if m.Heard == 0 {
		return 0
	}
	return m.Wall.Add(m.Heard - m.At).Unix()
}

func (s *Server) patroni(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, s.document(s.now()))
}

// readWithin is the time allowed to reading the store for an answer.
const readWithin = 2 * time.Second

// state is what the store says now; while it does not answer, or too many ask
// at once, what the agent heard last. ok is false if nothing was ever heard.
func (s *Server) state(ctx context.Context) (cluster.State, bool) {
	select {
	case s.reads <- struct{}{}:
		defer func() { <-s.reads }()
		ctx, cancel := context.WithTimeout(ctx, readWithin)
		defer cancel()
		if st, err := s.Cluster.State(ctx); err == nil {
			return st, true
		}
	default:
	}
	m := s.now()
	return m.State, m.Known
}

// A clusterDocument is the answer of GET /cluster.
type clusterDocument struct {
	Members   []clusterMember `json:"members"`
	Pause     bool            `json:"pause,omitempty"`
	Scheduled *schedule       `json:"scheduled_switchover,omitempty"`
	Scope     string          `json:"scope"`
}

type schedule struct {
	At   string `json:"at"`
	From string `json:"from,omitempty"`
	To   string `json:"to,omitempty"`
}

type clusterMember struct {
	Name             string                           `json:"name"`
	Role             cluster.Role                     `json:"role"`
	State            string                           `json:"state"`
	APIURL           string                           `json:"api_url"`
	Host             string                           `json:"host,omitempty"`
	Port             int                              `json:"port,omitempty"`
	Timeline         pg.Timeline                      `json:"timeline,omitempty"`
	PendingRestart   bool                             `json:"pending_restart,omitempty"`
	PendingReason    map[string]cluster.PendingChange `json:"pending_restart_reason,omitempty"`
	ScheduledRestart map[string]any                   `json:"scheduled_restart,omitempty"`
	Tags             cluster.Tags                     `json:"tags,omitempty"`
	ReceiveLSN       string                           `json:"receive_lsn,omitempty"`
	ReceiveLag       any                              `json:"receive_lag,omitempty"`
	ReplayLSN        string                           `json:"replay_lsn,omitempty"`
	ReplayLag        any                              `json:"replay_lag,omitempty"`
	LSN              string                           `json:"lsn,omitempty"`
	Lag              any                              `json:"lag,omitempty"`
}

func (s *Server) cluster(w http.ResponseWriter, r *http.Request) {
	st, known := s.state(r.Context())
	if !known {
		text(w, http.StatusServiceUnavailable, "the store was not heard of yet")
		return
	}
	answer(w, http.StatusOK, clusterOf(st, s.Node.Cluster))
}

func clusterOf(st cluster.State, scope string) clusterDocument {
	p := cluster.PictureOf(st)
	d := clusterDocument{Members: make([]clusterMember, 0, len(p.Members)), Pause: p.Paused, Scope: scope}
	if f := st.Failover; f.Asked() && !f.ScheduledAt.IsZero() {
		d.Scheduled = &schedule{cluster.FormatTime(f.ScheduledAt), f.Leader, f.Member}
	}
	for _, row := range p.Members {
		m, _ := st.Member(row.Name)
		c := clusterMember{
			Name: row.Name, Role: row.Role, State: row.State, APIURL: row.APIURL, Host: row.Host, Port: row.Port,
			Timeline: row.Timeline, PendingRestart: m.PendingRestart, PendingReason: m.PendingRestartReason,
			ScheduledRestart: m.ScheduledRestart, Tags: m.Tags,
		}
		if row.Name != p.Leader {
			c.ReceiveLSN, c.ReceiveLag = position(m.ReceiveLSN, p.Optime)
			c.ReplayLSN, c.ReplayLag = position(m.ReplayLSN, p.Optime)
			c.LSN, c.Lag = position(max(m.XlogLocation, m.ReceiveLSN, m.ReplayLSN), p.Optime)
		}
		d.Members = append(d.Members, c)
	}
	return d
}

// position is where a member stands and how far behind, or twice "unknown".
func position(at, leader pg.LSN) (string, any) {
	if at == 0 {
		return "unknown", "unknown"
	}
	return at.String(), max(0, at.Behind(leader))
}

func (s *Server) history(w http.ResponseWriter, _ *http.Request) {
	h := s.now().State.History
	if h == nil {
		h = cluster.History{}
	}
	answer(w, http.StatusOK, h)
}

func (s *Server) config(w http.ResponseWriter, _ *http.Request) {
	c := s.now().State.Config
	if c.Data == nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	answer(w, http.StatusOK, c.Data)
}

func (s *Server) failsafe(w http.ResponseWriter, _ *http.Request) {
	f := s.now().State.Failsafe
	if f == nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	answer(w, http.StatusOK, f)
}

// A metric is one of Patroni's, in its order and with its words.
type metric struct {
	name, kind, help string
	value            string
}

// metrics are GET /metrics.
func (s *Server) metrics(w http.ResponseWriter, _ *http.Request) {
	m := s.now()
	srv, role := m.Server, m.role()
	sync, quorum := m.listed()
	answers := srv.Answers
	primary, replica := answers && !srv.Recovering, answers && srv.Recovering
	started, replayed := "0", "0"
	if answers && !srv.Started.IsZero() {
		started = seconds(srv.Started)
	}
	if replica && !srv.Replaying.IsZero() {
		replayed = seconds(srv.Replaying)
	}
	lsn := func(when bool, at pg.LSN) string {
		if !when {
			return "0"
		}
		return strconv.FormatUint(uint64(at), 10)
	}
	all := []metric{
		{"version", "gauge", "Patroni semver without periods.", padded(cluster.PatroniVersion)},
		{"postgres_running", "gauge", "Value is 1 if Postgres is running, 0 otherwise.", digit(m.state() == cluster.StateRunning)},
		{"postmaster_start_time", "gauge", "Epoch seconds since Postgres started.", started},
		{"primary", "gauge", "Value is 1 if this node is the leader, 0 otherwise.", digit(role == cluster.RolePrimary)},
		{"xlog_location", "counter", "Current location of the Postgres transaction log, 0 if this node is not the leader.", lsn(primary, srv.Flushed)},
		{"standby_leader", "gauge", "Value is 1 if this node is the standby_leader, 0 otherwise.", digit(role == cluster.RoleStandbyLeader)},
		{"replica", "gauge", "Value is 1 if this node is a replica, 0 otherwise.", digit(role == cluster.RoleReplica)},
		{"sync_standby", "gauge", "Value is 1 if this node is a sync standby, 0 otherwise.", digit(sync)},
		{"quorum_standby", "gauge", "Value is 1 if this node is a quorum standby, 0 otherwise.", digit(quorum)},
		{"xlog_received_location", "counter", "Current location of the received Postgres transaction log, 0 if this node is not a replica.", lsn(replica, srv.Flushed)},
		{"xlog_replayed_location", "counter", "Current location of the replayed Postgres transaction log, 0 if this node is not a replica.", lsn(replica, srv.Replayed)},
		{"xlog_replayed_timestamp", "gauge", "Current timestamp of the replayed Postgres transaction log, 0 if null.", replayed},
		{"xlog_paused", "gauge", "Value is 1 if the Postgres xlog is paused, 0 otherwise.", digit(replica && srv.ReplayPaused)},
	}
	if answers {
		all = append(all,
			metric{"postgres_streaming", "gauge", "Value is 1 if Postgres is streaming, 0 otherwise.", digit(m.Member.ReplicationState == cluster.ReplicationStreaming)},
			metric{"postgres_in_archive_recovery", "gauge", "Value is 1 if Postgres is replicating from archive, 0 otherwise.", digit(m.Member.ReplicationState == cluster.ReplicationInRecovery)},
		)
	}
	priority := m.Member.Tags.FailoverPriority()
	version := 0
	if answers {
		version = srv.Version
	}
	timeline := pg.Timeline(0)
	if answers {
		timeline = srv.Timeline
	}
	_, member := m.State.Failsafe[s.Node.Member]
	all = append(all,
		metric{"postgres_server_version", "gauge", "Version of Postgres (if running), 0 otherwise.", strconv.Itoa(version)},
		metric{"cluster_unlocked", "gauge", "Value is 1 if the cluster is unlocked, 0 if locked.", digit(!m.hears() || m.State.Leader == nil)},
		metric{"failsafe_mode_is_active", "gauge", "Value is 1 if failsafe mode is active, 0 if inactive.", digit(m.backed())},
		metric{"failsafe_mode_enabled", "gauge", "Value is 1 if failsafe mode is enabled, 0 if disabled.", digit(m.State.Config.FailsafeMode())},
		metric{"failsafe_member", "gauge", "Value is 1 if this node is in the failsafe list, 0 otherwise.", digit(member)},
		metric{"postgres_timeline", "gauge", "Postgres timeline of this node (if running), 0 otherwise.", timeline.String()},
		metric{"dcs_last_seen", "gauge", "Epoch timestamp when DCS was last contacted successfully by Patroni.", strconv.FormatInt(m.lastSeen(), 10)},
		metric{"pending_restart", "gauge", "Value is 1 if the node needs a restart, 0 otherwise.", digit(m.Member.PendingRestart)},
		metric{"is_paused", "gauge", "Value is 1 if auto failover is disabled, 0 otherwise.", digit(m.paused())},
		metric{"postgres_state", "gauge", "Numeric representation of Postgres state.", strconv.Itoa(slices.Index(cluster.States[:], m.state()))},
		metric{"failover_priority", "gauge", "Failover priority of this node, 0 if it never leads.", strconv.Itoa(priority)},
	)
	if srv.Size > 0 {
		bytes := func(n int64) string { return strconv.FormatInt(n, 10) }
		all = append(all,
			metric{ours + "disk_size_bytes", "gauge", "Size of the file system that has least room, of data and log.", bytes(srv.Size)},
			metric{ours + "disk_free_bytes", "gauge", "Bytes that are free on it.", bytes(srv.Free)},
			metric{ours + "disk_low_bytes", "gauge", "Below so many free bytes the disk guard tells a person.", bytes(m.Disk.Low)},
			metric{ours + "disk_last_bytes", "gauge", "Below so many free bytes a leader hands over, or takes no writes.", bytes(m.Disk.Last)},
			metric{ours + "disk_mark", "gauge", "Mark that the disk guard is at: 0 none, 1 low, 2 last.", strconv.Itoa(m.Disk.Mark)},
			metric{ours + "disk_read_only", "gauge", "Value is 1 if the disk guard has closed the server to writes, 0 otherwise.", digit(m.Disk.Shut)},
		)
	}
	send(w, http.StatusOK, "text/plain", exposition(all, s.Node.Cluster, s.Node.Member))
}

// ours begins the names of metrics that Patroni does not have.
const ours = "howdah_"

// exposition writes metrics in Prometheus's text format.
func exposition(all []metric, scope, member string) []byte {
	var b []byte
	labels := `{scope="` + label.Replace(scope) + `",name="` + label.Replace(member) + `"}`
	for _, m := range all {
		name := m.name
		if !strings.HasPrefix(name, ours) {
			name = "patroni_" + name
		}
		b = fmt.Appendf(b, "# HELP %s %s\n", name, m.help)
		if m.name == "postgres_state" {
			b = fmt.Appendf(b, "# Values: %s\n", stateNames)
		}
		b = fmt.Appendf(b, "# TYPE %s %s\n%s%s %s\n", name, m.kind, name, labels, m.value)
	}
	return b
}

// label escapes a label's value.
var label = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

// stateNames are Patroni's names for the numbers of cluster.States.
const stateNames = "0=initdb, 1=initdb_failed, 2=custom_bootstrap, 3=custom_bootstrap_failed, 4=creating_replica, 5=running, " +
	"6=starting, 7=bootstrap_starting, 8=start_failed, 9=restarting, 10=restart_failed, 11=stopping, 12=stopped, 13=stop_failed, 14=crashed"

func digit(yes bool) string {
	if yes {
		return "1"
	}
	return "0"
}

func seconds(t time.Time) string { return strconv.FormatFloat(float64(t.UnixMicro())/1e6, 'f', 6, 64) }

// padded writes 4.1.4 as 040104.
func padded(version string) string {
	var b strings.Builder
	for part := range strings.SplitSeq(version, ".") {
		if len(part) < 2 {
			b.WriteByte('0')
		}
		b.WriteString(part)
	}
	return b.String()
}
