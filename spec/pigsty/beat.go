package pigsty

import (
	"cmp"
	"fmt"
	"math"
	"time"

	"howdah/spec"
)

const (
	electionKey  = "etcd_election_timeout"
	heartbeatKey = "etcd_heartbeat_interval"
)

// electionMost and beats are etcd's own bounds (embed.Config.Validate): an election
// takes at most so long, and holds at least so many heartbeats.
const (
	electionMost = 50 * time.Second
	beats        = 5
)

// A pace is how fast an inventory wants its etcd to be; 0: it does not say.
type pace struct {
	election, heartbeat time.Duration
	line                int
}

// shortest is an election that the pace has room for; 0: any.
func (p pace) shortest() time.Duration { return cmp.Or(p.election, beats*p.heartbeat) }

// least is the shortest lease over such a store, in whole seconds as etcd counts them.
func (p pace) least() time.Duration {
	e := max(p.shortest(), spec.Election)
	return (spec.Leased(e) + time.Second - 1).Truncate(time.Second)
}

// pace reads how fast etcd is to be: of its group, or of all hosts where there is
// none. It is the store's, so all must have it alike.
func (r *reader) pace(inv *inventory) (p pace) {
	hosts := inv.hosts
	if g := inv.group("etcd"); g != nil {
		hosts = nil
		for _, e := range inv.members(g) {
			hosts = append(hosts, e.host)
		}
	}
	read := func(h *host) (p pace) {
		s := r.scope(inv, h, nil)
		for _, f := range []struct {
			name string
			into *time.Duration
		}{{heartbeatKey, &p.heartbeat}, {electionKey, &p.election}} {
			if !s.given(f.name) {
				continue
			}
			if n := s.int(f.name); !s.ill[f.name] {
				*f.into, p.line = time.Duration(n)*time.Millisecond, s.line(f.name)
			}
		}
		return p
	}
	for i, h := range hosts {
		own := read(h)
		if i == 0 {
			p = own
		} else if own.election != p.election || own.heartbeat != p.heartbeat {
			r.find(spec.Problem, max(own.line, p.line), fmt.Sprintf("%s or %s of host %s are others than those of host %s, and a store has one pace", electionKey, heartbeatKey, h.name, hosts[0].name),
				"say them once, in the variables of group etcd or of all")
			return pace{}
		}
	}
	switch e := p.shortest(); {
	case e < beats*p.heartbeat:
		r.find(spec.Problem, p.line, fmt.Sprintf("%s is %s and %s %s: an election of etcd holds five heartbeats at least", electionKey, e, heartbeatKey, p.heartbeat),
			fmt.Sprintf("raise %s to %d, or lower %s to %d", electionKey, (beats*p.heartbeat).Milliseconds(), heartbeatKey, (e/beats).Milliseconds()))
		return pace{}
	case e > electionMost:
		r.find(spec.Problem, p.line, fmt.Sprintf("%s is %s: an election of etcd holds five heartbeats, and takes %s at most", heartbeatKey, p.heartbeat, electionMost),
			fmt.Sprintf("lower %s to %d", heartbeatKey, (electionMost/beats).Milliseconds()))
		return pace{}
	}
	return p
}

// beat gives the store that the clusters share its pace: the inventory's, or else
// that of the fastest of them.
func (r *reader) beat(w *spec.World, store pace) {
	if len(w.Clusters) == 0 {
		return
	}
	quickest := time.Duration(math.MaxInt64)
	for _, c := range w.Clusters {
		quickest = min(quickest, c.Timers.Lease)
	}
	w.Beat = spec.Beat{Election: store.election, Heartbeat: store.heartbeat, Origin: r.place(store.line)}
	if w.Beat.Election == 0 {
		w.Beat.Election = max(spec.ElectionFor(quickest), beats*store.heartbeat)
	}
	if store.line == 0 {
		w.Beat.Origin = fmt.Sprintf("default: what suits a lease of %s", quickest)
	}
	for i := range w.Clusters {
		c := &w.Clusters[i]
		c.Timers.Election = w.Beat.Election
		if need := spec.Leased(w.Beat.Election); c.Timers.Lease < need {
			r.find(spec.Problem, store.line, fmt.Sprintf("an election of etcd takes %s, and the lease of cluster %s is %s by its pg_rto, which must hold five of them and 2 s (%s)", w.Beat.Election, c.Name, c.Timers.Lease, need),
				fmt.Sprintf("have elections of %d ms at most, or a slower pg_rto", ((c.Timers.Lease-2*time.Second)/5).Milliseconds()))
		}
	}
}
