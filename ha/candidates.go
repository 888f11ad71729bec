package ha

import (
	"fmt"

	"howdah/cluster"
	"howdah/pg"
)

// A Candidate is a member as the leader judges it when a planned change is asked for.
type Candidate struct {
	Member string `json:"member"`
	At     pg.LSN `json:"lsn,omitempty"` // how much of the leader's log it has
	Behind int64  `json:"behind"`        // bytes of it that it lacks
	No     string `json:"no,omitempty"`  // why it may not take over; "": it may
}

// Candidates is to whom a planned change would go that was asked for now, to a member or ("") to
// whoever comes first, and what keeps the others; "": to nobody, as things are. It is
// the rule of the leader's own turn (candidate), asked of what the store shows: positions are
// as old as the last renewal.
func Candidates(s cluster.State, to string) (first string, all []Candidate) {
	t := &turn{View: View{State: s, Self: Self{Name: s.LeaderName()}}}
	leader, _ := s.Member(t.Self.Name)
	t.Server.Flushed = max(s.Status.Optime, leader.XlogLocation)
	for _, m := range s.Members {
		if m.Name == t.Self.Name || m.ReplicationState != cluster.ReplicationStreaming || t.elsewhere(m.Name) {
			continue
		}
		at := max(s.Status.Slots[cluster.SlotName(m.Name)], m.XlogLocation)
		t.Server.Flushed = max(t.Server.Flushed, at) // told later than the leader's
		t.Server.Replicas = append(t.Server.Replicas, pg.Replica{Name: m.Name, State: "streaming", Flushed: at})
	}
	best, _ := t.candidate(cluster.Failover{Leader: t.Self.Name, Member: to})
	for _, name := range s.Names() {
		if name == t.Self.Name {
			continue
		}
		c := Candidate{Member: name}
		for _, r := range t.Server.Replicas {
			if r.Name == name {
				c.At, c.Behind = r.Flushed, r.Flushed.Behind(t.Server.Flushed)
			}
		}
		switch r, why := t.candidate(cluster.Failover{Leader: t.Self.Name, Member: name}); {
		case r.Name == "":
			c.No = t.hindrance(c, why)
		case to != "" && name != to:
			c.No = "another one was named"
		}
		all = append(all, c)
	}
	return best.Name, all
}

// hindrance says in words why candidate passes a member over.
func (t *turn) hindrance(c Candidate, why string) string {
	m, live := t.State.Member(c.Member)
	switch {
	case !live:
		return "it does not show itself"
	case m.Tags.NoFailover():
		return "its tag nofailover"
	case m.State == cluster.StateStopping:
		return "it is being stopped"
	case t.barred(c.Member):
		return "its watchdog is required and missing"
	case !m.Running():
		return "it is " + m.State
	case t.elsewhere(c.Member):
		return "it streams from " + t.sourceOf(c.Member, m.Tags) + ", not from the leader"
	case c.At == 0:
		return "it does not stream"
	case c.Behind > switchMaxLag:
		return fmt.Sprintf("it is more than %d MB behind", switchMaxLag>>20)
	}
	return why
}
