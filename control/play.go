package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"howdah/cluster"
	"howdah/nodefile"
	"howdah/playground"
	"howdah/problem"
	"howdah/secret"
	"howdah/spec"
)

// How long a cluster that comes up may stand still before waiting for it makes
// no sense.
const (
	patience = 2 * time.Minute // while nobody is at work
	// While somebody is: of a copy a percent shows, which of a terabyte takes
	// minutes, of recovery and rewind and the sync after a copy nothing does.
	workPatience = 15 * time.Minute
)

// door says how this machine reaches the nodes of a cluster: those of a
// playground through the host's 127.x addresses, others directly.
func (h House) door(nodes []spec.Node) door {
	if all, err := playground.Nodes(h.Dir); err == nil {
		nodes = all // the store may be on others
	} else if _, err := playground.Load(h.Dir); err != nil {
		return direct
	}
	doors := map[string]string{}
	for _, n := range nodes {
		doors[n.Host], doors[n.Address] = playground.Door(n), playground.Door(n)
	}
	return func(host string) string {
		if d, ok := doors[host]; ok {
			return d
		}
		return host
	}
}

// A Raised playground is up, healthy or not.
type Raised struct {
	Clusters    []*Cluster
	Ground      string
	Substituted []string    // what differs from production, in words
	Metrics     string      // URL of the store of metrics; "": none is kept
	Console     string      // URL of the page for people
	Password    secret.Text // for looking at it
	Operator    secret.Text // and for changing something there
}

// Close gives up the connections.
func (r Raised) Close() error {
	var errs []error
	for _, c := range r.Clusters {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// PlanUp says what Up would do; "" if there is nothing to do but to wait.
func (h House) PlanUp(ground string, inv Inventory, observe *bool) (string, error) {
	if _, err := playground.ParseGround(ground); err != nil {
		return "", err
	}
	nodes, err := playground.Nodes(h.Dir)
	switch {
	case problem.Code(err) == "playground-none" && inv.World.File != "":
		return "make " + inv.what() + " in " + h.Dir + " and start " + plural(len(inv.World.Clusters), "it", "them"), nil
	case problem.Code(err) == "playground-none":
		return "make cluster demo of three nodes in " + h.Dir + " and start it", nil
	case err != nil:
		return "", err
	}
	var down []string
	for _, n := range nodes {
		if !playground.Running(n) {
			down = append(down, n.Member)
		}
	}
	switch {
	case len(down) == 0 && inv.World.File != "":
		return "give " + inv.what() + " in " + h.Dir + " what the inventory has now", nil
	case len(down) == 0 && observe != nil && *observe != slices.ContainsFunc(nodes, func(n spec.Node) bool { return n.Observe.On() }):
		if *observe {
			return "keep metrics on " + nodes[0].Member, nil
		}
		return "keep no metrics; those that are there stay", nil
	case len(down) == 0:
		return "", nil
	}
	return "start " + strings.Join(down, ", ") + " in " + h.Dir, nil
}

// what names the clusters of the inventory.
func (inv Inventory) what() string {
	var names []string
	hosts := map[string]bool{}
	for _, c := range inv.World.Clusters {
		names = append(names, c.Name)
		for _, m := range c.Members {
			hosts[m.Host] = true
		}
	}
	for _, o := range inv.World.Others {
		hosts[o.Host] = true
	}
	return fmt.Sprintf("%s %s on %d %s", plural(len(names), "cluster", "clusters"), strings.Join(names, ", "), len(hosts), plural(len(hosts), "host", "hosts"))
}

func plural(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}

// Up starts the playground's clusters: files, keeper, supervisors. Without an
// inventory they are those that are there, or the demo, of which a lost host may
// cost maxLoss bytes. observe says whether metrics are kept; nil leaves that as it
// is. Call AwaitHealthy and Provision of each next, and Close at the end.
func (h House) Up(ctx context.Context, ground string, inv Inventory, maxLoss int64, observe *bool) (Raised, error) {
	g, err := playground.ParseGround(ground)
	if err != nil {
		return Raised{}, err
	}
	var was []spec.Node
	if inv.World.File != "" || observe != nil {
		was, _ = playground.Nodes(h.Dir) // none yet; whatever is wrong with them Up says
	}
	s, nodes, err := playground.Up(ctx, playground.Options{Dir: h.Dir, Ground: g, World: inv.World, MaxLoss: maxLoss, Observe: observe}, slog.New(slog.DiscardHandler))
	if err != nil {
		if problem.Code(err) != "" || ctx.Err() != nil {
			return Raised{}, err
		}
		return Raised{}, &problem.Error{
			Code: "up-failed", What: "cannot start the playground in " + h.Dir,
			Do: "read keeper.log and the nodes' logs there; `howdah up` again continues where it stopped", Err: err,
		}
	}
	for _, n := range nodes {
		if err := renew(arrangement{was: was}.old(n), n, false); err != nil {
			return Raised{}, err
		}
	}
	up := Raised{Ground: string(s.Ground), Substituted: substituted(s, nodes)}
	for _, n := range nodes {
		if n.Observe.On() {
			_, port, err := net.SplitHostPort(n.Observe.Listen[0])
			if err != nil {
				return up, err
			}
			up.Metrics = "http://" + net.JoinHostPort(playground.Door(n), port)
			if up.Console, up.Password, up.Operator, err = consoleOf(n); err != nil {
				return up, err
			}
		}
		if n.Alone() || slices.ContainsFunc(up.Clusters, func(c *Cluster) bool { return c.Name == n.Cluster }) {
			continue
		}
		c, err := h.Open(n.Cluster)
		if err != nil {
			return up, errors.Join(err, up.Close())
		}
		up.Clusters = append(up.Clusters, c)
	}
	return up, nil
}

// consoleOf is where the page for people is in a playground, and its passwords.
func consoleOf(n spec.Node) (page string, password, operator secret.Text, err error) {
	_, port, err := net.SplitHostPort(n.Observe.Console)
	if err != nil {
		return "", "", "", nil // there is none
	}
	secrets, err := nodefile.Secrets(spec.Node{Cluster: n.Cluster, Paths: spec.Paths{Secrets: n.Observe.Secrets}})
	return "http://" + net.JoinHostPort(playground.Door(n), port), secrets[spec.SecretConsole], secrets[spec.SecretOperator], err
}

// substituted lists what the playground made different from production.
func substituted(s playground.State, nodes []spec.Node) []string {
	var subs []string
	if s.Reason != "" {
		subs = append(subs, "ground loopback instead of isolated ("+s.Reason+"): the network can not be cut")
	}
	var hosts, here []string
	for _, n := range nodes {
		if !slices.Contains(hosts, n.Host) {
			hosts, here = append(hosts, n.Host), append(here, playground.Door(n))
		}
	}
	span := func(all []string) string {
		if len(all) == 1 {
			return all[0]
		}
		return all[0] + " to " + all[len(all)-1]
	}
	if s.Ground == playground.Isolated {
		subs = append(subs, fmt.Sprintf("hosts %s are network namespaces of this machine; from here they are %s", span(hosts), span(here)))
	} else {
		subs = append(subs, fmt.Sprintf("hosts %s have the addresses %s of this machine, and every client one of 127.0.0.0/8, also to access rules", span(hosts), span(here)))
	}
	return append(subs, s.Substituted...)
}

// A Step is how far one member is on its way up.
type Step struct {
	Member string
	State  string // in words
	Copied int    // percent of the copy of the data that it takes; -1: it takes none
	Failed string // what it tried for that in vain, and why; ""
}

// AwaitHealthy waits until the cluster has a leader and every node that is
// meant to run serves: the leader writes, the others stream. progress hears of
// every change of a member. What goes on is waited for however long it takes.
func (c *Cluster) AwaitHealthy(ctx context.Context, progress func(Step)) (cluster.State, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	still, limit := errors.New("nothing moves"), patience
	stuck := time.AfterFunc(limit, func() { cancel(still) })
	defer stuck.Stop()
	shown, signs, failed := map[string]Step{}, "", map[string]string{}
	var last cluster.State
	whole := func(s cluster.State) bool {
		last = s
		ready, works, now := true, false, ""
		p := cluster.PictureOf(s)
		for _, n := range c.Nodes {
			if playground.Stopped(n) {
				continue
			}
			step, ok := stage(s, p, n.Member)
			job := work(s, n.Member)
			ready, works = ready && ok, works || job != ""
			if shown[n.Member] != step {
				shown[n.Member] = step
				progress(step)
			}
			m, _ := s.Member(n.Member)
			switch {
			case step.Failed != "":
				failed[n.Member] = step.Failed
			case ok, step.Copied > 0:
				delete(failed, n.Member)
			}
			if why := failed[n.Member]; why != "" { // to try the same again is not to get on
				now += fmt.Sprintln(n.Member, why)
				continue
			}
			now += fmt.Sprintln(step, job)
			if !ok { // what a leader writes is no sign that the others get on
				now += fmt.Sprintln(m.ReceiveLSN, m.ReplayLSN)
			}
		}
		if now != signs {
			signs, limit = now, patience
			if works {
				limit = workPatience
			}
			stuck.Reset(limit)
		}
		return ready
	}
	err := c.watch(ctx, whole)
	for err == nil {
		// The store may still show what was true before everything was killed.
		if c.serves(ctx, last) {
			return last, nil
		}
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
		err = c.watch(ctx, whole)
	}
	if !errors.Is(err, still) {
		return last, err
	}
	why := Unwell(cluster.PictureOf(last))
	if last.Revision == 0 {
		why = []string{"the store does not answer"}
	}
	why = append(why, awaited(last)...)
	return last, &problem.Error{
		Code: "up-unhealthy", What: "cluster " + c.Name + " is started, but not healthy",
		Why: strings.Join(why, "; ") + "; nothing changed for " + limit.String(),
		Do:  "see `howdah why " + c.Name + "` and the logs below " + c.Dir,
	}
}

// stage says how far a member is, and whether that is all the way.
func stage(s cluster.State, p cluster.Picture, name string) (step Step, ready bool) {
	step = Step{Member: name, State: "starting", Copied: -1}
	m, ok := p.Member(name)
	switch {
	case !ok:
		return step, false
	case m.Leads():
		published, _ := s.Member(name)
		step.State = "leader, " + m.State
		return step, m.Running && published.Source()
	}
	step.State = "replica, " + m.State
	step.Failed = failure(s, name)
	if percent, ok := strings.CutPrefix(work(s, name), "clone("); ok && m.State == cluster.StateCreatingReplica {
		if n, err := strconv.Atoi(strings.TrimSuffix(percent, "%)")); err == nil {
			step.Copied = n
		}
	}
	return step, p.Leader != "" && m.Running && m.State == cluster.ReplicationStreaming && counts(s, name)
}

// counts says that commits wait for a standby that streams, as they are to: until
// then a strict cluster acknowledges nothing, and nobody else could be promoted.
func counts(s cluster.State, name string) bool {
	m, _ := s.Member(name)
	switch {
	case s.SynchronousMode() == cluster.SyncOff, m.Tags.NoSync(), m.Tags.NoStream(), m.Tags.ReplicateFrom() != "":
		return true
	case s.SynchronousMode() == cluster.SyncOn, s.Config.MaximumLagOnSyncnode() > 0:
		return len(s.Sync.Standby) > 0 // not all are to be there
	}
	return s.Sync.Has(name)
}

// work is what a member that shows itself is doing with its server, as the
// trail of its last decision has it ("clone(37%)"); "" is nothing.
func work(s cluster.State, name string) string {
	w, ok := s.Why(name)
	if _, shows := s.Member(name); !ok || !shows {
		return ""
	}
	for _, note := range w.Trail {
		if job, ok := strings.CutPrefix(note, "job="); ok {
			return job
		}
	}
	return ""
}

// failure is what a member tried in vain and is to try again, without how often.
func failure(s cluster.State, name string) string {
	w, _ := s.Why(name)
	for _, waits := range w.Waiting {
		if what, rest, ok := strings.Cut(waits, " failed "); ok {
			_, why, _ := strings.Cut(rest, ": ")
			return what + " failed: " + why
		}
	}
	return ""
}

// PlanDown says what Down would do; found is false when there is nothing.
func (h House) PlanDown(purge bool) (what string, found bool, err error) {
	nodes, err := playground.Nodes(h.Dir)
	switch {
	case problem.Code(err) == "playground-none":
		return "", false, nil
	case err != nil:
		return "", false, err
	case len(nodes) == 0:
		return "", false, nil
	}
	var names []string
	for _, n := range nodes {
		if !n.Alone() && !slices.Contains(names, n.Cluster) {
			names = append(names, n.Cluster)
		}
	}
	what = fmt.Sprintf("stop %s %s (%d %s)", plural(len(names), "cluster", "clusters"), strings.Join(names, ", "), len(nodes), plural(len(nodes), "node", "nodes"))
	if purge {
		what += " and delete its data in " + h.Dir
	}
	return what, true, nil
}

// Stopped says that there is a playground, and that nothing of it runs.
func (h House) Stopped() bool {
	nodes, err := playground.Nodes(h.Dir)
	return err == nil && playground.Quiet(nodes)
}

// Down stops the playground, and with purge deletes it.
func (h House) Down(ctx context.Context, purge bool, say func(string)) error {
	err := playground.Down(ctx, h.Dir, say)
	if err == nil && purge {
		say("deleting the data")
		err = playground.Purge(h.Dir)
	}
	if err == nil || problem.Code(err) != "" || ctx.Err() != nil {
		return err
	}
	return &problem.Error{
		Code: "down-failed", What: "cannot stop the playground in " + h.Dir,
		Do: "`howdah down` again continues where it stopped", Err: err,
	}
}
