package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"howdah/cluster"
	"howdah/listen"
	"howdah/machine"
	"howdah/node"
	"howdah/node/process"
	"howdah/nodefile"
	"howdah/playground"
	"howdah/problem"
	"howdah/secret"
	"howdah/spec"
	"howdah/spec/apply"
	"howdah/spec/plan"
)

// A Choice is how much of an inventory is meant, and how far it goes.
type Choice struct {
	Only   []string // clusters, and members as CLUSTER/MEMBER; empty: all
	Prune  bool     // what nobody declared is to go
	Purge  bool     // what members had who leave is deleted, and not kept
	Ground string   // of a playground that is not there yet
}

// whole says that a cluster is meant, and not some of its members alone.
func (o Choice) whole(cluster string) bool {
	return len(o.Only) == 0 || slices.Contains(o.Only, cluster)
}

func (o Choice) member(cluster, member string) bool {
	return o.whole(cluster) || slices.Contains(o.Only, cluster+"/"+member)
}

// touches says that some of a cluster is meant.
func (o Choice) touches(cluster string) bool {
	return o.whole(cluster) || slices.ContainsFunc(o.Only, func(only string) bool { return strings.HasPrefix(only, cluster+"/") })
}

// A Review is what applying an inventory would change.
type Review struct {
	Clusters []Reviewed `json:"clusters"`
}

// A Reviewed cluster, or group of hosts without servers.
type Reviewed struct {
	Cluster string `json:"cluster"`
	New     bool   `json:"new,omitempty"` // nothing of it is there yet
	plan.Plan
	refused error // why apply would not begin
}

// Refused is why Apply would not begin; nil: it would.
func (r Review) Refused() error {
	for _, c := range r.Clusters {
		if c.refused != nil {
			return c.refused
		}
	}
	return nil
}

// Empty says that there is nothing to change.
func (r Review) Empty() bool { return r.Count() == 0 }

// Count is how many changes there are.
func (r Review) Count() int {
	n := 0
	for _, c := range r.Clusters {
		n += len(c.Steps)
	}
	return n
}

// Risk is the worst of all changes.
func (r Review) Risk() plan.Risk {
	worst := plan.Safe
	for _, c := range r.Clusters {
		if k := c.Plan.Risk(); k.Over(worst) {
			worst = k
		}
	}
	return worst
}

// An arrangement is what the nodes are, and what they are to be.
type arrangement struct {
	machine   bool // a real one: other nodes are on others
	want, was []spec.Node
	gone      []spec.Node // of was: the inventory has no such host; on a real machine

	store []spec.EtcdMember // of a playground: who is to carry it; the nodes of want carry what they do
}

// old is what a node was; nil: it was not there, or is another one on another host.
func (a arrangement) old(n spec.Node) *spec.Node {
	for _, w := range a.was {
		if w.Paths.Dir == n.Paths.Dir && w.Host == n.Host {
			return &w
		}
	}
	return nil
}

// clusters are the names of clusters and groups, in their order.
func (a arrangement) clusters() []string {
	var names []string
	for _, n := range slices.Concat(a.want, a.gone) {
		if !slices.Contains(names, n.Cluster) {
			names = append(names, n.Cluster)
		}
	}
	return names
}

// of are the nodes of a cluster.
func (a arrangement) of(cluster string) (nodes []spec.Node) {
	for _, n := range a.want {
		if n.Cluster == cluster {
			nodes = append(nodes, n)
		}
	}
	return nodes
}

// arrange finds out what there is: a playground, this machine's share of real
// ones, or nothing, which becomes a playground.
func (h House) arrange(inv Inventory, o Choice) (arrangement, error) {
	_, err := playground.Load(h.Dir)
	var a arrangement
	if problem.Code(err) == "playground-none" {
		if a.was, err = h.all(); err != nil {
			return a, err
		}
		left, _ := filepath.Glob(filepath.Join(h.Dir, "*", playground.Leavers)) // only a malformed pattern is an error
		if a.machine = len(a.was) > 0 || len(left) > 0; a.machine {             // also one whose member has left
			if err := h.here(inv, &a); err != nil {
				return a, err
			}
			return a, o.known(a)
		}
	}
	g, err := playground.ParseGround(o.Ground)
	if err != nil {
		return a, err
	}
	a.want, a.was, err = playground.Preview(playground.Options{Dir: h.Dir, Ground: g, World: inv.World})
	if err != nil {
		return a, err
	}
	for _, n := range a.want {
		if i := slices.IndexFunc(a.was, func(w spec.Node) bool { return w.Paths.Dir == n.Paths.Dir }); i >= 0 && a.was[i].Host != n.Host && a.was[i].Etcd.Member != "" {
			return a, storeFixed(n.Member, a.was[i].Host, n.Host)
		}
	}
	a.store = playground.Hold(a.was, a.want)
	return a, o.known(a)
}

// here finds out what this machine is to be, which is a host of the inventory.
func (h House) here(inv Inventory, a *arrangement) error {
	var hosts []string
	for _, w := range a.was {
		if slices.Contains(hosts, w.Host) {
			continue
		}
		hosts = append(hosts, w.Host)
		nodes, err := machine.Preview(h.Dir, w.Host, inv.World)
		if problem.Code(err) == "host-unknown" && len(inv.declared(w.Cluster)) > 0 {
			continue
		}
		if err != nil {
			return err
		}
		a.want = append(a.want, nodes...)
	}
	for _, w := range a.was {
		if slices.ContainsFunc(a.want, func(n spec.Node) bool { return n.Paths.Dir == w.Paths.Dir }) {
			continue
		}
		a.gone = append(a.gone, w)
		i := slices.IndexFunc(a.want, func(n spec.Node) bool { return n.Host == w.Host })
		switch {
		case i < 0:
		case w.Etcd.Member != "":
			return &problem.Error{
				Code: "store-fixed", What: "cannot change " + w.Member + " to what " + inv.World.File + " says",
				Why: "host " + w.Host + " is " + a.want[i].Member + " there, and what the machine carries would begin anew",
				Do:  "keep the host's place in the inventory; a server that is not wanted needs a machine without a member of etcd to leave",
			}
		case len(inv.declared(w.Cluster)) == 0:
			return &problem.Error{
				Code: "member-needed", What: "cannot remove " + w.Member + " from cluster " + w.Cluster, Why: "the inventory has nothing of that cluster, and no other member would be left",
				Do: "keep it in the inventory; a cluster on machines ends with its last one",
			}
		}
	}
	return nil
}

// known refuses to choose what is not there.
func (o Choice) known(a arrangement) error {
	if len(o.Only) > 0 && len(a.was) == 0 {
		return &problem.Error{
			Code: "cluster-none", What: "cannot choose a part of the inventory", Why: "nothing of it is there yet, and its clusters share a store",
			Do: "leave out what you chose, or `howdah up` with the inventory first",
		}
	}
	for _, only := range o.Only {
		name, member, one := strings.Cut(only, "/")
		if slices.ContainsFunc(slices.Concat(a.want, a.was), func(n spec.Node) bool { return n.Cluster == name && (!one || n.Member == member) }) {
			continue
		}
		code := "cluster-unknown"
		if one {
			code = "member-unknown"
		}
		return &problem.Error{
			Code: code, What: "cannot choose " + only, Why: "the inventory has no such part; it has " + strings.Join(a.clusters(), ", "),
			Do: "name a cluster, or a member as CLUSTER/MEMBER",
		}
	}
	return nil
}

// Review says what applying the inventory would change. It changes nothing.
func (h House) Review(ctx context.Context, inv Inventory, o Choice) (Review, error) {
	a, err := h.arrange(inv, o)
	if err != nil {
		return Review{}, err
	}
	var all Review
	var store Reviewed
	if o.whole(storeGroup) {
		store = a.reviewStore(o)
	}
	for _, name := range a.clusters() {
		if !o.touches(name) {
			continue
		}
		r, err := h.review(ctx, inv, o, a, name)
		if err != nil {
			return all, err
		}
		all.Clusters = append(all.Clusters, r)
	}
	all.add(store)
	return all, nil
}

func (h House) review(ctx context.Context, inv Inventory, o Choice, a arrangement, name string) (Reviewed, error) {
	nodes := a.of(name)
	r := Reviewed{Cluster: name, New: len(nodes) > 0}
	for _, n := range nodes {
		r.New = r.New && a.old(n) == nil
	}
	describe := func(contexts map[string]string) {
		for _, n := range nodes {
			if o.member(name, n.Member) {
				r.Add(plan.Node(a.old(n), n, contexts))
			}
		}
	}
	i := slices.IndexFunc(nodes, func(n spec.Node) bool { return !n.Alone() })
	if i < 0 && !slices.ContainsFunc(a.gone, func(n spec.Node) bool { return n.Cluster == name }) {
		describe(nil)
		return r, nil
	}
	if r.New {
		describe(nil)
		if first := nodes[i]; o.whole(name) && !a.machine { // there it may be on others
			r.Add(plan.Server(plan.Want{Objects: first.Objects}, plan.Pristine(first.Postgres.Major)))
		}
		return r, nil
	}
	c, err := h.Open(name)
	if err != nil {
		return r, err
	}
	defer c.Close()
	s, err := c.configured(ctx)
	if err != nil {
		return r, err
	}
	var leader *spec.Node
	for _, n := range nodes {
		if n.Member == s.LeaderName() {
			leader = &n
		}
	}
	for _, w := range a.was { // who is to leave leads still
		if leader == nil && w.Member == s.LeaderName() && i >= 0 {
			w.Objects = nodes[i].Objects
			leader = &w
		}
	}
	var contexts map[string]string
	var sqlOrder apply.Order
	if leader != nil {
		if sqlOrder, err = order(*leader, secretsOf(inv, name)); err != nil {
			return r, err
		}
		if contexts, err = apply.Contexts(ctx, sqlOrder.Connect); err != nil {
			return r, &problem.Error{
				Code: "leader-silent", What: "cannot look at cluster " + name, Why: "its leader " + leader.Member + " does not answer",
				Do: "see `howdah status " + name + "`, and try again", Err: err,
			}
		}
	}
	waiting := c.waiting(s)
	if o.whole(name) && i >= 0 {
		p, _ := plan.Config(nodes[i].Agent.Config, nodes[i].Agent.Begin, s.Config, contexts, nodes[i].Postgres.Parameters, o.Prune)
		for _, st := range p.Steps {
			for _, set := range st.Settings {
				if set.Name = strings.TrimPrefix(set.Name, plan.Below); plan.Context(contexts[set.Name]) == plan.Restart {
					for _, m := range s.Members {
						waiting[m.Name] = append(waiting[m.Name], set)
					}
				}
			}
		}
		r.Add(p)
	}
	describe(contexts)
	for _, st := range r.Steps {
		if st.Member != "" && st.Risk == plan.Restart && len(st.Settings) > 0 {
			for _, set := range st.Settings {
				if plan.Context(contexts[set.Name]) == plan.Restart {
					waiting[st.Member] = append(waiting[st.Member], set)
				}
			}
		}
	}
	if err := r.leave(c, s, o, a.leavers(name, inv.declared(name), s)); err != nil {
		return r, err
	}
	for _, st := range r.Steps {
		if leaves(st) {
			delete(waiting, st.Member)
		}
	}
	switch {
	case !o.whole(name):
		maps.DeleteFunc(waiting, func(m string, _ []plan.Setting) bool { return !o.member(name, m) })
	case i < 0: // what is to be in it the machines that stay know
	case leader == nil && s.LeaderName() == "":
		r.Cannot = append(r.Cannot, plan.Note{Object: "roles and databases", What: "look at them", Why: "the cluster has no leader just now"})
	case s.Standby():
		r.Cannot = append(r.Cannot, plan.Note{Object: "roles and databases", What: "make them", Why: "it is a standby cluster: what it has is a copy of another's"})
	case leader == nil:
		r.Cannot = append(r.Cannot, plan.Note{
			Object: "roles and databases", What: "look at them", Why: "the leader " + s.LeaderName() + " is on another machine: plan and apply there",
		})
	default:
		sqlOrder.Prune = o.Prune
		p, err := apply.Plan(ctx, sqlOrder)
		if err != nil {
			return r, err
		}
		r.Add(p)
	}
	for m, all := range waiting { // what waits already may change again
		slices.SortStableFunc(all, func(a, b plan.Setting) int { return strings.Compare(a.Name, b.Name) })
		waiting[m] = slices.CompactFunc(all, func(a, b plan.Setting) bool { return a.Name == b.Name })
	}
	r.Add(plan.Pending(waiting, s.LeaderName()))
	return r, nil
}

// waiting are the members that wait for a restart, with what waits for it.
func (c *Cluster) waiting(s cluster.State) map[string][]plan.Setting {
	all := map[string][]plan.Setting{}
	for _, m := range s.Members {
		if !m.PendingRestart {
			continue
		}
		for _, name := range slices.Sorted(maps.Keys(m.PendingRestartReason)) {
			r := m.PendingRestartReason[name]
			all[m.Name] = append(all[m.Name], plan.Setting{Name: name, From: r.Old, To: r.New})
		}
		if all[m.Name] == nil {
			all[m.Name] = []plan.Setting{{Name: "a parameter"}}
		}
	}
	return all
}

// secretsOf are the passwords that an inventory gives a cluster.
func secretsOf(inv Inventory, name string) map[string]secret.Text {
	for _, c := range inv.World.Clusters {
		if c.Name == name {
			return c.Secrets
		}
	}
	return nil
}

// An Applying is how an inventory is applied, and who hears of it.
type Applying struct {
	Choice
	What   string // for the record: apply pigsty.yml
	Before func(cluster string, s plan.Step) error
	After  func(cluster string, s plan.Step, err error)
	Climb  func(Step) // how members come up
}

// An Outcome is what was done to a cluster.
type Outcome struct {
	Cluster string      `json:"cluster"`
	Done    []string    `json:"done"`
	Left    []string    `json:"left"`
	Missing []string    `json:"missing"`
	Cannot  []plan.Note `json:"cannot"`
}

// Apply makes the clusters what the inventory says: descriptions of members
// first, then the dynamic configuration, roles and databases, and restarts at
// the end. Given again after anything ended it, it does what is left.
func (h House) Apply(ctx context.Context, inv Inventory, o Applying) ([]Outcome, error) {
	a, err := h.arrange(inv, o.Choice)
	if err != nil {
		return nil, err
	}
	moved, err := h.move(ctx, inv, &o, a)
	if err != nil {
		return nil, err
	}
	members, err := h.describe(ctx, inv, &o, a)
	if err != nil {
		return nil, err
	}
	var all []Outcome
	switch out, err := h.carry(ctx, &o, &a); {
	case err != nil:
		return append(all, out), err
	case len(out.Done) > 0:
		all = append(all, out)
	}
	for _, name := range a.clusters() {
		if !o.touches(name) || !slices.ContainsFunc(slices.Concat(a.of(name), a.gone), func(n spec.Node) bool { return n.Cluster == name && !n.Alone() }) {
			continue
		}
		if len(a.of(name)) == 0 && !slices.Contains(h.Clusters(), name) { // it moved to another machine
			all = append(all, Outcome{Cluster: name, Done: moved[name]})
			continue
		}
		out, err := h.applyTo(ctx, inv, &o, a, name, members[name])
		out.Done = append(moved[name], out.Done...)
		all = append(all, out)
		if err != nil {
			return all, err
		}
	}
	return all, nil
}

// described are the steps of a cluster's members that were taken.
type described []plan.Step

// describe writes the nodes anew that are to be others, and has them obey.
func (h House) describe(ctx context.Context, inv Inventory, o *Applying, a arrangement) (map[string]described, error) {
	taken := map[string]described{}
	var only []string
	for _, n := range a.want {
		if !o.member(n.Cluster, n.Member) {
			continue
		}
		p := plan.Node(a.old(n), n, nil)
		for _, s := range p.Steps {
			switch err := o.before(n.Cluster, s); {
			case errors.Is(err, apply.ErrSkip):
				p.Steps = nil // it is described as a whole, or not
			case err != nil:
				return nil, err
			}
		}
		if len(p.Steps) > 0 || other(a.old(n), n) {
			only = append(only, n.Cluster+"/"+n.Member)
			taken[n.Cluster] = append(taken[n.Cluster], p.Steps...)
		}
	}
	// Passwords of a cluster that is meant are written even if no node changes.
	for _, name := range a.clusters() {
		if !o.whole(name) || slices.ContainsFunc(only, func(s string) bool { return strings.HasPrefix(s, name+"/") }) {
			continue
		}
		for _, n := range a.of(name) {
			if was := a.old(n); was != nil && unwritten(*was, secretsOf(inv, name)) {
				only = append(only, name+"/"+n.Member)
				break
			}
		}
	}
	switch {
	case a.machine:
		for _, n := range a.want {
			if slices.Contains(only, n.Cluster+"/"+n.Member) {
				if _, err := machine.Take(h.Dir, n.Host, inv.World, n.Member); err != nil {
					return nil, err
				}
			}
		}
	case len(only) == 0:
		return taken, nil
	default:
		g, err := playground.ParseGround(o.Ground)
		if err != nil {
			return nil, err
		}
		_, _, err = playground.Up(ctx, playground.Options{Dir: h.Dir, Ground: g, World: inv.World, Only: only, Keep: true}, slog.New(slog.DiscardHandler))
		if err != nil {
			return nil, err
		}
	}
	var errs []error
	for _, n := range a.want {
		if slices.Contains(only, n.Cluster+"/"+n.Member) {
			errs = append(errs, renew(a.old(n), n, a.machine))
		}
	}
	for _, n := range a.want {
		was := a.old(n)
		if was == nil || n.Etcd.Member == "" || was.Etcd.Member == "" || was.Etcd.Alike(n.Etcd) || !slices.Contains(only, n.Cluster+"/"+n.Member) {
			continue
		}
		if id, runs := node.RoleFile(n, "etcd").Read(); runs {
			errs = append(errs, h.again(ctx, n, id))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(taken)) {
		for _, s := range taken[name] {
			o.after(name, s, nil)
		}
	}
	return taken, nil
}

// unwritten says that passwords of the inventory are not with the node yet.
func unwritten(n spec.Node, given map[string]secret.Text) bool {
	have, err := nodefile.Secrets(n)
	for name, value := range given {
		if have[name] == "" || value != "" && have[name] != value {
			return true
		}
	}
	return err != nil
}

// other says that two descriptions would be written otherwise.
func other(a, b any) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX != nil || errY != nil || !bytes.Equal(x, y)
}

// renew has the roles of a node start anew whose part of its description has
// changed. In a playground the supervisor and the agent did already.
func renew(was *spec.Node, n spec.Node, machine bool) error {
	if was == nil && machine {
		return &problem.Error{
			Code: "restart-needed", What: "cannot begin to run " + n.Member, Why: "the supervisor of this machine runs since before",
			Do: "restart it (`systemctl restart howdah`), and apply again",
		}
	}
	if was == nil {
		return nil
	}
	end := func(role string, sig unix.Signal) error {
		id, ok := node.RoleFile(n, role).Read()
		if !ok {
			return nil
		}
		if err := id.Signal(sig); err != nil && !errors.Is(err, process.ErrGone) {
			return fmt.Errorf("%s of %s: %w", role, n.Member, err)
		}
		return nil
	}
	var errs []error
	if other(was.Gateway, n.Gateway) || other(was.Pool, n.Pool) || !slices.Equal(plan.Pooled(was.Objects), plan.Pooled(n.Objects)) {
		errs = append(errs, end("gateway", unix.SIGTERM))
	}
	if other(was.Jobs, n.Jobs) || other(was.Backup, n.Backup) || other(was.Logs, n.Logs) || other(was.Remotes, n.Remotes) {
		errs = append(errs, end("jobs", unix.SIGTERM))
	}
	if other(was.VIP, n.VIP) {
		errs = append(errs, end("vip", unix.SIGTERM)) // the address goes with it
		if machine && (was.VIP.Address == "") != (n.VIP.Address == "") {
			errs = append(errs, &problem.Error{
				Code: "restart-needed", What: "cannot begin or end a virtual address on " + n.Member,
				Why: "its role is kept by the supervisor, which runs since before", Do: "restart it (`systemctl restart howdah`), and apply again",
			})
		}
	}
	if machine && other(was.Watchdog, n.Watchdog) {
		errs = append(errs, &problem.Error{
			Code: "restart-needed", What: "cannot have " + n.Member + " watched otherwise",
			Why: "its watchdog is the supervisor's, which runs since before", Do: "restart it (`systemctl restart howdah`), and apply again",
		})
	}
	if other(was.DNS, n.DNS) {
		errs = append(errs, end("dns", unix.SIGTERM))
		if machine && (was.DNS.On() != n.DNS.On() || was.DNS.Hosts != n.DNS.Hosts || n.DNS.Hosts != "" && len(was.DNS.Zones) != len(n.DNS.Zones)) {
			errs = append(errs, &problem.Error{
				Code: "restart-needed", What: "cannot begin or end to keep names on " + n.Member,
				Why: "that is kept by the supervisor, which runs since before", Do: "restart it (`systemctl restart howdah`), and apply again",
			})
		}
	}
	if other(was.Observe, n.Observe) {
		errs = append(errs, end("observe", unix.SIGTERM))
		if machine && was.Observe.On() != n.Observe.On() {
			errs = append(errs, &problem.Error{
				Code: "restart-needed", What: "cannot begin or end the store of metrics of " + n.Member,
				Why: "its role is kept by the supervisor, which runs since before", Do: "restart it (`systemctl restart howdah`), and apply again",
			})
		}
	}
	x, y := *was, n
	x.Observe, y.Observe, x.Logs, y.Logs = spec.Observe{}, spec.Observe{}, spec.Logs{}, spec.Logs{}
	x.DNS, y.DNS = spec.DNS{}, spec.DNS{}
	x.Objects, y.Objects = spec.Objects{}, spec.Objects{} // no other role of the node reads them
	if machine && other(x, y) {
		// As an older program is replaced: the next agent takes the server over.
		errs = append(errs, end("agent", unix.SIGKILL))
		if other(listen.Gateway(*was), listen.Gateway(n)) {
			errs = append(errs, &problem.Error{
				Code: "restart-needed", What: "cannot have " + n.Member + " listen on other ports",
				Why: "its sockets are kept by the supervisor, which runs since before", Do: "restart it (`systemctl restart howdah`), and apply again",
			})
		}
	}
	return errors.Join(errs...)
}

func (o *Applying) before(cluster string, s plan.Step) error {
	if o.Before == nil {
		return nil
	}
	return o.Before(cluster, s)
}

func (o *Applying) after(cluster string, s plan.Step, err error) {
	if o.After != nil {
		o.After(cluster, s, err)
	}
}

// applyTo does what concerns a cluster as a whole.
func (h House) applyTo(ctx context.Context, inv Inventory, o *Applying, a arrangement, name string, taken described) (out Outcome, err error) {
	out.Cluster = name
	c, err := h.Open(name)
	if err != nil {
		return out, err
	}
	defer c.Close()
	j := c.journal(o.What)
	defer func() { err = errors.Join(err, j.end(ctx)) }()
	did := func(s plan.Step, err error) {
		if err == nil {
			out.Done = append(out.Done, s.Done())
			j.note(ctx, s.Done(), nil)
		} else {
			j.note(ctx, s.What, err)
		}
	}
	if len(taken) > 0 && !a.machine {
		climb := o.Climb
		if climb == nil {
			climb = func(Step) {}
		}
		stay := *c // who is to leave need not be well
		declared := inv.declared(name)
		stay.Nodes = slices.DeleteFunc(slices.Clone(c.Nodes), func(n spec.Node) bool { return o.Prune && declared[n.Member] == "" })
		if _, err := stay.AwaitHealthy(ctx, climb); err != nil {
			return out, err
		}
	}
	for _, s := range taken {
		did(s, nil)
	}
	nodes := a.of(name)
	first := slices.IndexFunc(nodes, func(n spec.Node) bool { return !n.Alone() })
	if o.whole(name) && first >= 0 {
		if err := c.configure(ctx, o, nodes[first], did); err != nil {
			return out, err
		}
	}
	if err := c.leave(ctx, inv, o, a, did); err != nil || first < 0 {
		return out, err
	}
	if o.whole(name) {
		var before func(plan.Step) error
		if o.Before != nil {
			before = func(s plan.Step) error { return o.Before(name, s) }
		}
		report, err := c.provision(ctx, Provisioning{
			What: o.What, Prune: o.Prune, Before: before,
			After: func(s plan.Step, err error) {
				if err == nil {
					out.Done = append(out.Done, s.Done())
				}
				o.after(name, s, err)
			},
		}, j)
		out.Missing, out.Cannot, out.Left = report.Missing, report.Cannot, report.Left
		if problem.Code(err) == "leader-elsewhere" && a.machine {
			out.Cannot = append(out.Cannot, plan.Note{Object: "roles and databases", What: "look at them", Why: "the leader is on another machine: apply there"})
		} else if err != nil {
			return out, err
		}
	}
	changed := slices.ContainsFunc(out.Done, func(d string) bool { return strings.HasPrefix(d, "changed the dynamic configuration") }) ||
		slices.ContainsFunc(taken, func(s plan.Step) bool { return len(s.Settings) > 0 })
	return out, c.restartWaiting(ctx, o, changed, did)
}

// configure puts the dynamic configuration that is declared.
func (c *Cluster) configure(ctx context.Context, o *Applying, n spec.Node, did func(plan.Step, error)) error {
	s, err := c.configured(ctx)
	if err != nil {
		return err
	}
	p, next := plan.Config(n.Agent.Config, n.Agent.Begin, s.Config, nil, n.Postgres.Parameters, o.Prune)
	if p.Empty() {
		return nil
	}
	step := p.Steps[0]
	switch err := o.before(c.Name, step); {
	case errors.Is(err, apply.ErrSkip):
		return nil
	case err != nil:
		return err
	}
	_, err = c.PutConfig(ctx, next, s.Config.Mod)
	did(step, err)
	o.after(c.Name, step, err)
	return err
}

// seenWithin is how long a member may take to say that something waits for a
// restart: it takes its description up, reloads its server, and asks it.
const seenWithin = 5 * time.Second

// restartWaiting restarts the members that wait for it, one by one: replicas
// first, and the leader after somebody else leads, as plan.Pending has it.
func (c *Cluster) restartWaiting(ctx context.Context, o *Applying, changed bool, did func(plan.Step, error)) error {
	const rounds = 3 // a replica can not have less than its primary until that was restarted
	skipped := map[string]bool{}
	for range rounds {
		s, err := c.settled(ctx, changed)
		if err != nil {
			return err
		}
		changed = false
		waiting := c.waiting(s)
		maps.DeleteFunc(waiting, func(m string, _ []plan.Setting) bool { return skipped[m] || !o.member(c.Name, m) })
		p := plan.Pending(waiting, s.LeaderName())
		if p.Empty() {
			return nil
		}
		for _, step := range p.Steps {
			switch err := o.before(c.Name, step); {
			case errors.Is(err, apply.ErrSkip):
				skipped[step.Member] = true
				continue
			case err != nil:
				return err
			}
			err := c.restartRolling(ctx, step)
			did(step, err)
			o.after(c.Name, step, err)
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// settled is the state: if something was just changed, once every member says
// that it waits for a restart, or after a while.
func (c *Cluster) settled(ctx context.Context, changed bool) (cluster.State, error) {
	if !changed {
		return c.State(ctx)
	}
	short, cancel := context.WithTimeout(ctx, seenWithin)
	defer cancel()
	var last cluster.State
	err := c.watch(short, func(s cluster.State) bool {
		last = s
		return len(c.waiting(s)) == len(s.Members)
	})
	if last.Revision == 0 || ctx.Err() != nil {
		return last, err
	}
	return last, nil
}

// restartRolling restarts a member. A leader first lets another lead, if any can
// and it is of use.
func (c *Cluster) restartRolling(ctx context.Context, step plan.Step) error {
	s, err := c.State(ctx)
	if err != nil {
		return err
	}
	member := step.Member
	if s.LeaderName() == member && !step.InPlace {
		change, err := c.PlanSwitchover(ctx, "", time.Time{})
		switch {
		case problem.Code(err) == "candidate-none": // alone: nobody can be spared the restart
		case err != nil:
			return err
		default:
			if _, err := change.Do(ctx); err != nil {
				return err
			}
			if err := c.streams(ctx, member); err != nil {
				return err
			}
		}
	}
	if _, err := c.Restart(ctx, member); err != nil {
		return err
	}
	return c.streams(ctx, member)
}

// streams waits until a member leads, or streams from who does: before that the
// next one is not restarted.
func (c *Cluster) streams(ctx context.Context, member string) error {
	ctx, cancel := context.WithTimeout(ctx, restartWithin)
	defer cancel()
	err := c.watch(ctx, func(s cluster.State) bool {
		m, ok := cluster.PictureOf(s).Member(member)
		return ok && m.Running && (m.Leads() || m.State == cluster.ReplicationStreaming)
	})
	if errors.Is(err, context.DeadlineExceeded) {
		return &problem.Error{
			Code: "restart-unknown", What: "cannot go on restarting cluster " + c.Name, Why: member + " is not seen to stream after " + restartWithin.String(),
			Do: "see `howdah why " + c.Name + "`; `howdah apply` again goes on",
		}
	}
	return err
}

// ErrSkip is what Before answers to leave a step out.
var ErrSkip = apply.ErrSkip
