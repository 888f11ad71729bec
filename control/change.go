package control

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"howdah/cluster"
	"howdah/dcs"
	"howdah/ha"
	"howdah/pg"
	"howdah/problem"
)

// changeWithin is how long a change of leader may take: the leader itself gives
// up after 30 s, and the checkpoint of its shutdown comes on top.
const changeWithin = 45 * time.Second

// A Change is a checked change of leader that nobody was asked for yet.
type Change struct {
	Kind string    // cluster.KindSwitchover or KindFailover
	From string    // the present leader; "" if there is none
	To   string    // the candidate; "" leaves the choice to the leader
	At   time.Time // zero: now

	cluster  *Cluster
	seen     cluster.State
	replaces *cluster.Failover // a scheduled change that this one takes the place of
}

// A Changed is the outcome of a change of leader.
type Changed struct {
	From     string        `json:"from"`
	To       string        `json:"to"`
	Timeline pg.Timeline   `json:"timeline"`
	Took     time.Duration `json:"-"` // from the request until the new leader wrote
	MS       float64       `json:"ms"`
	At       time.Time     `json:"scheduled_at,omitzero"` // it was scheduled, and did not begin
	Page     int64         `json:"failover,omitempty"`    // number of its page, if that is written already
}

// PlanSwitchover checks a planned change of leader, in the order of Patroni's
// POST /switchover.
func (c *Cluster) PlanSwitchover(ctx context.Context, to string, at time.Time) (*Change, error) {
	s, err := c.State(ctx)
	if err != nil {
		return nil, err
	}
	ch := &Change{Kind: cluster.KindSwitchover, From: s.LeaderName(), To: to, At: at, cluster: c, seen: s}
	switch {
	case s.Leader == nil:
		return nil, ch.refuse("leader-none", "the cluster has no leader to switch from",
			fmt.Sprintf("see `howdah why %s`; `howdah failover %s --to MEMBER` names a leader", c.Name, c.Name))
	case !at.IsZero() && s.Config.Pause():
		return nil, ch.refuse("switchover-paused", "a switchover can not be scheduled while the cluster is paused",
			fmt.Sprintf("`howdah resume %s` first", c.Name))
	case !at.IsZero() && !at.After(c.now()):
		return nil, ch.refuse("schedule-past", at.Format(time.RFC3339)+" is over", "give a time to come, or leave --at out")
	case to == "" && s.Config.Pause():
		return nil, ch.refuse("switchover-paused", "while the cluster is paused a switchover needs to know to whom",
			"add --to MEMBER")
	}
	return ch, ch.check()
}

// PlanFailover checks a change of leader that a person decides: also when there
// is no leader, and whatever the candidate's position.
func (c *Cluster) PlanFailover(ctx context.Context, to string) (*Change, error) {
	s, err := c.State(ctx)
	if err != nil {
		return nil, err
	}
	ch := &Change{Kind: cluster.KindFailover, From: s.LeaderName(), To: to, cluster: c, seen: s}
	if to == "" {
		return nil, ch.refuse("candidate-needed", "a failover needs to know to whom", "add --to MEMBER")
	}
	return ch, ch.check()
}

// check looks at the candidate and at what is under way.
func (ch *Change) check() error {
	s, c := ch.seen, ch.cluster
	sync := s.SynchronousMode() == cluster.SyncOn && s.Sync.Active() && ch.Kind == cluster.KindSwitchover
	candidates := slices.DeleteFunc(slices.Clone(s.Members), func(m cluster.Member) bool {
		return m.Name == ch.From || ch.To != "" && m.Name != ch.To || sync && !s.Sync.Has(m.Name)
	})
	switch {
	case s.Unknown(cluster.KeySync):
		return ch.refuse("sync-unreadable", "/sync, which says whom commits wait for, can not be read, and who may lead is decided by it",
			"put it right in the store (`howdah status "+c.Name+"` shows what is there); while the leader runs it may be deleted, and is written again")
	case ch.To != "" && ch.To == ch.From:
		return ch.refuse("candidate-leads", ch.To+" is the leader already", "name another member, or leave --to out")
	case ch.To != "" && !slices.Contains(s.Names(), ch.To):
		return c.unknownMember(ch.To, s)
	case ch.To != "" && sync && !s.Sync.Has(ch.To):
		return ch.refuse("candidate-async", ch.To+" is not a synchronous standby, so commits could be lost",
			"choose one of "+strings.Join(s.Sync.Standby, ", ")+", or decide it with `howdah failover --to`")
	case ch.To != "" && len(candidates) == 0:
		return ch.refuse("candidate-away", ch.To+" does not show itself",
			"start it (`howdah status "+c.Name+"` says who is up), or choose another member")
	case len(candidates) == 0 && sync:
		return ch.refuse("candidate-none", "there is no synchronous standby", "wait for one (`howdah status "+c.Name+"`)")
	case len(candidates) == 0:
		return ch.refuse("candidate-none", "the cluster has no member besides its leader", "start another member")
	}
	var why []string
	for _, m := range candidates {
		switch {
		case m.Tags.NoFailover():
			why = append(why, m.Name+" is tagged nofailover")
		case !m.Running():
			why = append(why, m.Name+" is "+m.State)
		}
	}
	if len(why) == len(candidates) {
		return ch.refuse("candidate-none", strings.Join(why, ", "), "see `howdah why "+c.Name+"`")
	}
	if f := s.Failover; f.Asked() || s.Unknown(cluster.KeyFailover) {
		if f.ScheduledAt.IsZero() && s.Leader != nil {
			return ch.refuse("change-underway", "another change of leader was asked for and has not ended",
				"wait for it (`howdah status "+c.Name+"`) and try again")
		}
		ch.replaces = &f
	}
	return nil
}

func (ch *Change) refuse(code, why, do string) error {
	what := "cannot switch over " + ch.cluster.Name
	if ch.Kind == cluster.KindFailover {
		what = "cannot fail over " + ch.cluster.Name
	}
	return &problem.Error{Code: code, What: what, Why: why, Do: do}
}

// String says what Do would do.
func (ch *Change) String() string {
	var b strings.Builder
	if ch.Kind == cluster.KindFailover {
		fmt.Fprintf(&b, "fail over cluster %s", ch.cluster.Name)
	} else {
		fmt.Fprintf(&b, "switch over cluster %s", ch.cluster.Name)
	}
	if ch.From != "" {
		b.WriteString(" from " + ch.From)
	}
	if ch.To != "" {
		b.WriteString(" to " + ch.To)
	} else {
		b.WriteString(" to the most advanced replica")
	}
	if !ch.At.IsZero() {
		b.WriteString(" at " + ch.At.Format(time.RFC3339))
	}
	if r := ch.replaces; r != nil && !r.ScheduledAt.IsZero() {
		b.WriteString(", instead of the switchover scheduled at " + r.ScheduledAt.Format(time.RFC3339))
	}
	return b.String()
}

// Candidates are the members besides the leader as it judges them, and who of them would lead
// if the change began now; "": nobody, as things are.
func (ch *Change) Candidates() (first string, all []ha.Candidate) {
	return ha.Candidates(ch.seen, ch.To)
}

// Do asks for the change and, unless it is scheduled, waits for its outcome.
func (ch *Change) Do(ctx context.Context) (Changed, error) {
	c, s := ch.cluster, ch.seen
	f := cluster.Failover{Member: ch.To, ScheduledAt: ch.At}
	leader := dcs.Absent(cluster.KeyLeader)
	if s.Leader != nil {
		leader = dcs.ModIs(cluster.KeyLeader, s.Leader.Mod)
	}
	if ch.Kind == cluster.KindSwitchover {
		f.Leader = ch.From
	}
	began := c.now()
	mod, ok, err := c.commit(ctx, []dcs.Op{dcs.Put(cluster.KeyFailover, f.Encode(), 0)},
		unless(cluster.KeyFailover, s.Failover.Mod), leader)
	switch {
	case err != nil:
		return Changed{}, err
	case !ok:
		return Changed{}, ch.refuse("change-conflict", "the leader or the request changed while this was asked", "look at `howdah list "+c.Name+"` and try again")
	case !ch.At.IsZero():
		return Changed{From: ch.From, To: ch.To, At: ch.At}, nil
	}
	return ch.outcome(ctx, began, mod)
}

// Scheduled is the change of leader that waits for its time.
func (c *Cluster) Scheduled(ctx context.Context) (cluster.Failover, error) {
	s, err := c.State(ctx)
	if err != nil {
		return cluster.Failover{}, err
	}
	if f := s.Failover; f.Asked() && !f.ScheduledAt.IsZero() {
		return f, nil
	}
	return cluster.Failover{}, &problem.Error{
		Code: "schedule-none", What: "cannot cancel a switchover of " + c.Name, Why: "none is scheduled",
		Do: "nothing needs to be done; `howdah list " + c.Name + "` shows one that is",
	}
}

// Cancel takes a scheduled change back, unless it is another one by now.
func (c *Cluster) Cancel(ctx context.Context, f cluster.Failover) error {
	_, ok, err := c.commit(ctx, []dcs.Op{dcs.Put(cluster.KeyFailover, cluster.Failover{}.Encode(), 0)}, dcs.ModIs(cluster.KeyFailover, f.Mod))
	if err == nil && !ok {
		err = &problem.Error{
			Code: "change-conflict", What: "cannot cancel the switchover of " + c.Name, Why: "it changed, or began, while this was asked",
			Do: "look at `howdah list " + c.Name + "` and try again",
		}
	}
	return err
}

// outcome waits until someone else leads and writes, or the request was turned down.
func (ch *Change) outcome(ctx context.Context, began time.Time, mod int64) (Changed, error) {
	const undecided = 3 * time.Second // a request may vanish a moment before its effect shows
	c := ch.cluster
	ctx, cancel := context.WithTimeout(ctx, changeWithin)
	defer cancel()
	var done Changed
	var refused string
	var gone time.Time
	var last cluster.State
	err := c.watch(ctx, func(s cluster.State) bool {
		last = s
		if s.Revision < mod {
			return false
		}
		if l := s.Leader; l != nil && l.Name != "" && l.Name != ch.From {
			if m, ok := s.Member(l.Name); ok && m.Heads() {
				done = Changed{From: ch.From, To: l.Name, Timeline: m.Timeline, Took: c.now().Sub(began)}
				return true
			}
			return false
		}
		if s.Failover.Mod == mod && s.Failover.Asked() {
			gone = time.Time{}
			return false
		}
		if s.Handover != nil && s.Handover.Open() || s.Leader == nil {
			return false
		}
		if m, ok := s.Member(ch.From); ok && !m.Running() {
			return false
		}
		if gone.IsZero() {
			gone = c.now()
		}
		if w, ok := s.Why(ch.From); ok && w.Mod > mod {
			refused = reason(w)
		}
		return refused != "" || c.now().Sub(gone) > undecided
	})
	switch {
	case done.To != "":
		done.MS = float64(done.Took.Microseconds()) / 1000
		for _, p := range last.Failovers {
			if last.Leader != nil && p.Epoch == last.Leader.Mod {
				done.Page = p.Number
			}
		}
		return done, nil
	case err == nil:
		why := ch.From + " turned the request down"
		if refused != "" {
			why += ": " + refused
		}
		return Changed{}, ch.refuse("change-refused", why, "see `howdah why "+c.Name+"`, and try again when a replica streams without lag")
	case errors.Is(err, context.DeadlineExceeded):
		return Changed{}, ch.refuse("change-unknown", fmt.Sprintf("nobody else leads after %s; the change may still be under way", changeWithin),
			"see `howdah status "+c.Name+"` and `howdah why "+c.Name+"`")
	}
	return Changed{}, ch.refuse("change-unknown", "interrupted; the change may be under way", "see `howdah status "+c.Name+"`")
}

// reason finds in a decision why a switchover was refused.
func reason(w cluster.Why) string {
	for _, note := range w.Trail {
		if r, ok := strings.CutPrefix(note, "switchover=refused("); ok {
			return strings.TrimSuffix(r, ")")
		}
	}
	return ""
}
