package control

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"howdah/cluster"
	"howdah/node"
	"howdah/playground"
	"howdah/problem"
)

// settle is how long Why waits for the end of a change of leader that is under
// way: most are over by then, and whoever looks at one that is not wants to
// know now.
const settle = 2 * time.Second

// A Why is the last decision of each member and the page of one change of leader.
type Why struct {
	Members  []cluster.Why
	Page     *cluster.FailoverPage // nil: there was no change yet
	Underway string                // a change that has no page yet, in words; "": none
}

// Why reads the last decisions, of all members or of those named, and the page
// of the last change of leader; for the page of one that is under way it waits a moment.
func (c *Cluster) Why(ctx context.Context, members ...string) (Why, error) {
	s, err := c.State(ctx)
	if err != nil {
		return Why{}, err
	}
	for _, name := range members {
		if !slices.Contains(s.Names(), name) {
			return Why{}, c.unknownMember(name, s)
		}
	}
	if c.underway(s) != "" {
		until, cancel := context.WithTimeout(ctx, settle)
		defer cancel()
		_ = c.watch(until, func(now cluster.State) bool { // its end is no error: what is there is shown
			s = now
			return c.underway(now) == ""
		})
		if err := ctx.Err(); err != nil {
			return Why{}, err
		}
	}
	w := Why{Members: s.Whys, Underway: c.underway(s)}
	if len(members) > 0 {
		w.Members = slices.DeleteFunc(slices.Clone(s.Whys), func(w cluster.Why) bool { return !slices.Contains(members, w.Member) })
	}
	if n := len(s.Failovers); n > 0 {
		w.Page = &s.Failovers[n-1]
	}
	return w, nil
}

// Failover reads the page of one change of leader.
func (c *Cluster) Failover(ctx context.Context, number int64) (cluster.FailoverPage, error) {
	s, err := c.State(ctx)
	if err != nil {
		return cluster.FailoverPage{}, err
	}
	var have []string
	for _, p := range s.Failovers {
		if p.Number == number {
			return p, nil
		}
		have = append(have, strconv.FormatInt(p.Number, 10))
	}
	p := &problem.Error{
		Code: "failover-unknown", What: fmt.Sprintf("cannot show failover %d of cluster %s", number, c.Name),
		Why: "there are pages of " + strings.Join(have, ", "), Do: "give one of these numbers; without --failover the last one is shown",
	}
	if len(have) == 0 {
		p.Why, p.Do = "its leader never changed", "leave --failover out"
	}
	return cluster.FailoverPage{}, p
}

// underway says which change of leader has begun and not ended, by what the
// store shows and, where the leader's node is on this machine, by what runs: a
// store knows of a lost node only when its lease ends.
func (c *Cluster) underway(s cluster.State) string {
	name := s.LeaderName()
	m, shows := s.Member(name)
	switch {
	case s.Config.Pause() || s.Initialize.System == 0:
		return "" // nobody would act
	case s.Leader == nil:
		return "nobody leads"
	case s.Handover != nil && s.Handover.Open() && s.Handover.Epoch == s.Leader.Mod:
		return name + " hands over"
	case s.Failover.Switchover() && s.Failover.ScheduledAt.IsZero():
		return "a switchover was asked for"
	case shows && !m.Running():
		return name + " leads and is " + m.State
	case shows && !m.Heads():
		return name + " leads and does not write yet"
	case !c.local:
		return ""
	}
	n, here := c.node(name)
	switch _, runs := node.Postmaster(n); {
	case here && playground.Stopped(n):
		return name + " is down, and its lease has not ended yet"
	case here && !runs:
		return "PostgreSQL of " + name + " does not run"
	}
	return ""
}

// History is every change of timeline, oldest first.
func (c *Cluster) History(ctx context.Context) (cluster.History, error) {
	s, err := c.State(ctx)
	if err != nil {
		return nil, err
	}
	if s.Unknown(cluster.KeyHistory) {
		return nil, &problem.Error{
			Code: "history-unreadable", What: "cannot show the history of cluster " + c.Name,
			Why: "its key does not hold a JSON array", Do: "the leader writes it again at its next promotion",
		}
	}
	return s.History, nil
}
