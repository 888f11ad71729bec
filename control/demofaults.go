package control

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"howdah/cluster"
	"howdah/playground"
	"howdah/problem"
)

// A demoStep is one fault of the demonstration, always on the primary.
type demoStep struct {
	name    string
	network bool // needs the isolated ground
	does    string
	options FaultOptions
	hold    time.Duration // how long it lasts; 0: it is over when it is done
	undo    string        // the fault that takes it away; "": nothing has to
	why     string        // what happens without a change of leader
}

// demoSteps are every way in which a primary can be lost, the quick ones first.
func demoSteps(lease time.Duration) []demoStep {
	long := lease + 3*time.Second
	all := []string{AllPeers}
	return []demoStep{
		{name: "switchover", does: "switchover"},
		{name: "kill-postgres", does: "kill-postgres"},
		{name: "kill-agent", does: "kill-agent", hold: 2 * time.Second, why: "PostgreSQL goes on; the next agent adopts it and the lease"},
		{name: "stop-node", does: "stop-node", undo: "start-node"},
		{name: "freeze --role agent, short", does: "freeze", options: FaultOptions{Role: "agent"}, hold: 2 * time.Second, undo: "thaw", why: "thawed before its lease ended"},
		{name: "freeze --role agent", does: "freeze", options: FaultOptions{Role: "agent"}, hold: long, undo: "thaw"},
		{name: "freeze", does: "freeze", hold: long, undo: "thaw"},
		{name: "kill-node", does: "kill-node", hold: time.Second, undo: "start-node"},
		{name: "partition", network: true, does: "partition", hold: long, undo: "heal"},
		{name: "one-way --to all", network: true, does: "one-way", options: FaultOptions{To: all}, hold: long, undo: "heal"},
		{name: "one-way --from all", network: true, does: "one-way", options: FaultOptions{From: all}, hold: long, undo: "heal"},
		{
			name: "slow --delay 50ms", network: true, does: "slow", options: FaultOptions{Slow: Slow{Delay: 50 * time.Millisecond}},
			hold: 4 * time.Second, undo: "heal", why: "slow is not lost: nobody else is elected",
		},
	}
}

// A Shown is what one fault of the demonstration cost.
type Shown struct {
	Fault  string        `json:"fault"`
	From   string        `json:"from"` // who led before
	To     string        `json:"to"`   // who leads after
	Outage time.Duration `json:"-"`    // the longest time between two acknowledged rows
	MS     float64       `json:"outage_ms"`
	Rows   int           `json:"rows"`      // acknowledged meanwhile
	Lost   int           `json:"rows_lost"` // of them, not there afterwards
	Why    string        `json:"why"`
	Skip   string        `json:"skipped,omitempty"` // why it was not tried
}

// A Demo is every fault, one after another, under a writer.
type Demo struct {
	Cluster string  `json:"cluster"`
	Through string  `json:"through"` // where the writer connects
	Shown   []Shown `json:"faults"`
	steps   []demoStep
	house   House
	play    playground.State
}

// PlanDemo looks whether the demonstration can be held, of all faults or of
// those that only names.
func (h House) PlanDemo(clusterName string, only ...string) (*Demo, error) {
	name, play, nodes, err := h.playing(clusterName)
	if err != nil {
		return nil, err
	}
	if len(nodes) < 3 {
		return nil, &problem.Error{
			Code: "demo-small", What: "cannot show the faults on cluster " + name,
			Why: fmt.Sprintf("it has %d nodes, and without a majority that is left every fault is an outage", len(nodes)),
			Do:  "use a cluster of three: `howdah up --dir ANOTHER`",
		}
	}
	d := &Demo{Cluster: name, house: h, play: play, steps: demoSteps(nodes[0].Agent.Timers.Lease), Shown: []Shown{}}
	for _, verb := range only {
		if !slices.ContainsFunc(d.steps, func(s demoStep) bool { return s.does == verb }) {
			return nil, &problem.Error{
				Code: "demo-unknown", What: "cannot show " + verb, Why: "it is no fault of the demonstration",
				Do: "give --only some of " + strings.Join(DemoFaults(), ", "),
			}
		}
	}
	if len(only) > 0 {
		d.steps = slices.DeleteFunc(d.steps, func(s demoStep) bool { return !slices.Contains(only, s.does) })
	}
	return d, nil
}

// DemoFaults are the verbs of the demonstration, in its order.
func DemoFaults() (verbs []string) {
	for _, s := range demoSteps(0) {
		if !slices.Contains(verbs, s.does) {
			verbs = append(verbs, s.does)
		}
	}
	return verbs
}

// String says what Run would do.
func (d *Demo) String() string {
	return fmt.Sprintf("lay %d faults on the primary of cluster %s, one after another, and take each off again", len(d.steps), d.Cluster)
}

// Run holds the demonstration; shown hears of each fault when it is over. The
// cluster is whole when it returns, also early.
func (d *Demo) Run(ctx context.Context, shown func(Shown)) (err error) {
	c, err := d.house.Open(d.Cluster)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := d.settle(ctx, c); err != nil {
		return err
	}
	w, err := c.newDemoWriter(ctx)
	if err != nil {
		return err
	}
	d.Through = w.through
	defer w.stop()
	defer func() {
		// Whatever was laid when it broke off.
		late, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		for _, undo := range []string{"thaw", "heal", "start-node"} {
			if f, planned := d.house.PlanFault(late, d.Cluster, undo, FaultOptions{}); planned == nil && !f.Nothing() {
				err = errors.Join(err, f.Do(late))
			}
		}
	}()
	for _, step := range d.steps {
		s := Shown{Fault: step.name}
		if step.network && d.play.Ground != playground.Isolated {
			s.Skip = "the ground is loopback, whose network can not be cut"
		} else if err := d.one(ctx, c, w, step, &s); err != nil {
			if problem.Code(err) != "" || ctx.Err() != nil {
				return err
			}
			return &problem.Error{
				Code: "demo-failed", What: "cannot show " + step.name,
				Do: "see `howdah status` and `howdah why`; `howdah up` sets everything right", Err: err,
			}
		}
		d.Shown = append(d.Shown, s)
		shown(s)
	}
	return nil
}

// settled is how long rows must have flowed before and after a fault.
const settled = time.Second

func (d *Demo) one(ctx context.Context, c *Cluster, w *demoWriter, step demoStep, s *Shown) error {
	before, err := c.State(ctx)
	if err != nil {
		return err
	}
	s.From = before.LeaderName()
	at, count := time.Now(), w.count()
	if err := d.do(ctx, c, step, s.From); err != nil {
		return err
	}
	if err := pause(ctx, step.hold); err != nil {
		return err
	}
	// Where the fault goes on, somebody else has to write meanwhile.
	if step.undo != "" {
		if err := w.flowing(ctx); err != nil {
			return err
		}
		f, err := d.house.PlanFault(ctx, d.Cluster, step.undo, FaultOptions{}, s.From)
		if err != nil {
			return err
		}
		if err := f.Do(ctx); err != nil {
			return err
		}
	}
	if err := d.settle(ctx, c); err != nil {
		return err
	}
	if err := w.flowing(ctx); err != nil {
		return err
	}
	s.Outage = w.longest(at, time.Now())
	s.MS = float64(s.Outage.Microseconds()) / 1000
	if s.Rows, s.Lost, err = w.check(ctx, count); err != nil {
		return err
	}
	after, err := c.State(ctx)
	if err != nil {
		return err
	}
	s.To = after.LeaderName()
	s.Why = demoWhy(before, after, step.why)
	return nil
}

func (d *Demo) do(ctx context.Context, c *Cluster, step demoStep, leader string) error {
	if step.does == "switchover" {
		ch, err := c.PlanSwitchover(ctx, "", time.Time{})
		if err != nil {
			return err
		}
		_, err = ch.Do(ctx)
		return err
	}
	f, err := d.house.PlanFault(ctx, d.Cluster, step.does, step.options, leader)
	if err != nil {
		return err
	}
	return f.Do(ctx)
}

// settle waits until every member serves.
func (d *Demo) settle(ctx context.Context, c *Cluster) error {
	_, err := c.AwaitHealthy(ctx, func(Step) {})
	return err
}

// demoWhy tells in a line what the cluster says of the changes of leader.
func demoWhy(before, after cluster.State, without string) string {
	var says []string
	for _, p := range after.Failovers {
		if slices.ContainsFunc(before.Failovers, func(o cluster.FailoverPage) bool { return o.Number == p.Number }) {
			continue
		}
		text := fmt.Sprintf("#%d %s: %s", p.Number, p.Kind, strings.Join(p.Reason, ", "))
		if p.LostBytes != nil && *p.LostBytes > 0 {
			text += fmt.Sprintf(", %d bytes lost", *p.LostBytes)
		}
		says = append(says, text)
	}
	if len(says) == 0 {
		return "the leader stays: " + without
	}
	return strings.Join(says, "; ")
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
