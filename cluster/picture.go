package cluster

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"howdah/pg"
)

// A Role is what a member is to the cluster, in the words of Patroni's REST.
type Role string

// Roles of a picture.
const (
	Leads         Role = "leader"
	LeadsStandby  Role = "standby_leader"
	Replicates    Role = "replica"
	SyncStandby   Role = "sync_standby"
	QuorumStandby Role = "quorum_standby"
)

// Title is the role as patronictl prints it: "Sync Standby".
func (r Role) Title() string {
	words := strings.Split(string(r), "_")
	for i, w := range words {
		if w != "" {
			words[i] = strings.ToUpper(w[:1]) + w[1:]
		}
	}
	return strings.Join(words, " ")
}

// A Picture is the cluster as people and gateways see it. Everyone computes it
// from a State by PictureOf; nobody stores it.
type Picture struct {
	Generation int64            `json:"generation"` // revision of the snapshot
	Epoch      int64            `json:"epoch"`
	Before     int64            `json:"before,omitempty"` // the epoch that this one continues, if the leader only moved its key; else 0
	System     pg.SystemID      `json:"system,string"`    // 0: not initialized
	Starting   bool             `json:"initializing"`     // a bootstrap is under way
	Leader     string           `json:"leader"`           // "": nobody, or unknown
	Timeline   pg.Timeline      `json:"timeline"`
	Optime     pg.LSN           `json:"optime"` // the leader's last published position
	Paused     bool             `json:"paused"`
	Handover   *PictureHandover `json:"handover,omitempty"`
	Drain      *PictureDrain    `json:"drain,omitempty"`
	Scheduled  *PictureSchedule `json:"scheduled_switchover,omitempty"`
	Members    []PictureMember  `json:"members"` // sorted by name
	Away       []string         `json:"away"`    // recorded members that do not show themselves
	Problems   []string         `json:"problems,omitempty"`
}

// A PictureHandover says that the key is on its way.
type PictureHandover struct {
	From string `json:"from"`
	To   string `json:"to"`
}

// A PictureSchedule is a switchover that was asked for and did not begin.
type PictureSchedule struct {
	From string    `json:"from,omitempty"`
	To   string    `json:"to,omitempty"`
	At   time.Time `json:"at,omitzero"` // zero: now
}

// A PictureMember is one row of the table.
type PictureMember struct {
	Name           string      `json:"name"`
	Role           Role        `json:"role"`
	State          string      `json:"state"` // how it replicates, else what its server does
	Running        bool        `json:"running"`
	Primary        bool        `json:"-"` // what it says of itself: its promotion is over
	Host           string      `json:"host"`
	Port           int         `json:"port"`
	APIURL         string      `json:"api_url"`
	Timeline       pg.Timeline `json:"timeline,omitempty"`
	Receive        *Lag        `json:"receive,omitempty"` // nil: the leader, or unknown
	Replay         *Lag        `json:"replay,omitempty"`
	Tags           Tags        `json:"tags,omitempty"`
	PendingRestart bool        `json:"pending_restart,omitempty"`
	Paused         bool        `json:"pause,omitempty"` // it has seen the pause
}

// A Lag is a standby's position and how far it lies behind the leader's last
// published one.
type Lag struct {
	LSN    pg.LSN `json:"lsn"`
	Behind int64  `json:"behind"` // bytes
	Known  bool   `json:"known"`  // false: the leader's position is unknown, and so is Behind
}

// Leads says that the member holds the leader key.
func (m PictureMember) Leads() bool { return m.Role == Leads || m.Role == LeadsStandby }

// Lag is how many bytes of WAL the member does not have: what it would lose as
// the leader. It is unknown for who does not say where it stands.
func (m PictureMember) Lag() (bytes int64, known bool) {
	if m.Leads() {
		return 0, true
	}
	for _, lag := range []*Lag{m.Receive, m.Replay} { // what was replayed is there too, however it came
		if lag != nil && lag.Known && (!known || lag.Behind < bytes) {
			bytes, known = lag.Behind, true
		}
	}
	return bytes, known
}

// PictureOf draws the picture of s.
func PictureOf(s State) Picture {
	p := Picture{
		Generation: s.Revision,
		Epoch:      s.Epoch(),
		System:     s.Initialize.System,
		Starting:   s.Initialize.Running() && !s.Unknown(KeyInitialize),
		Leader:     s.LeaderName(),
		Timeline:   s.Timeline(),
		Optime:     s.Status.Optime,
		Paused:     s.Config.Pause(),
		Members:    make([]PictureMember, 0, len(s.Members)),
		Away:       []string{},
	}
	if t := s.Term; t != nil && s.Leader != nil && t.Mod == s.Leader.Mod && t.Leader == p.Leader && t.Kind == TermRetaken {
		p.Before = t.Over
	}
	if s.Handover != nil && s.Handover.Open() {
		p.Handover = &PictureHandover{From: s.Handover.From, To: s.Handover.To}
	}
	p.Drain = drainOf(s)
	if s.Failover.Asked() {
		p.Scheduled = &PictureSchedule{From: s.Failover.Leader, To: s.Failover.Member, At: s.Failover.ScheduledAt}
	}
	for _, m := range s.Members {
		p.Members = append(p.Members, pictureMember(s, m))
	}
	for _, r := range s.Recorded {
		if _, present := s.Member(r.Name); !present {
			p.Away = append(p.Away, r.Name)
		}
	}
	for _, problem := range s.Problems {
		p.Problems = append(p.Problems, problem.Key+": "+problem.Why)
	}
	return p
}

func pictureMember(s State, m Member) PictureMember {
	row := PictureMember{
		Name: m.Name, Role: roleOf(s, m.Name), State: m.State, Running: m.Running(),
		Primary: m.Role == RolePrimary || m.Role == RoleStandbyLeader,
		APIURL:  m.APIURL, Timeline: m.Timeline, Tags: m.Tags,
		PendingRestart: m.PendingRestart, Paused: m.Pause,
	}
	host, port := m.Host()
	row.Host = host
	row.Port, _ = strconv.Atoi(port)
	if m.ReplicationState != "" && row.Role != Leads {
		row.State = m.ReplicationState
	}
	if row.Leads() {
		return row
	}
	row.Receive = lagOf(s, m.ReceiveLSN)
	row.Replay = lagOf(s, m.ReplayLSN)
	if row.Receive == nil && row.Replay == nil { // Patroni before 4.1 says it in one number
		row.Receive = lagOf(s, m.XlogLocation)
	}
	return row
}

func lagOf(s State, at pg.LSN) *Lag {
	if at == 0 {
		return nil
	}
	return &Lag{LSN: at, Behind: at.Behind(s.Status.Optime), Known: s.Status.Optime != 0}
}

func roleOf(s State, name string) Role {
	switch {
	case name == s.LeaderName() && s.Standby():
		return LeadsStandby
	case name == s.LeaderName():
		return Leads
	case s.Sync.Active() && s.Sync.Has(name) && s.SynchronousMode() == SyncQuorum:
		return QuorumStandby
	case s.Sync.Active() && s.Sync.Has(name) && s.SynchronousMode() == SyncOn:
		return SyncStandby
	}
	return Replicates
}

// Member returns the row called name.
func (p Picture) Member(name string) (PictureMember, bool) {
	i := slices.IndexFunc(p.Members, func(m PictureMember) bool { return m.Name == name })
	if i < 0 {
		return PictureMember{}, false
	}
	return p.Members[i], true
}
