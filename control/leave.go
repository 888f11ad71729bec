package control

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"howdah/cluster"
	"howdah/dcs"
	"howdah/machine/install"
	"howdah/node"
	"howdah/node/process"
	"howdah/nodefile"
	"howdah/playground"
	"howdah/problem"
	"howdah/spec"
	"howdah/spec/plan"
)

// leaveWithin is how long a member that was stopped may take to be out of what the
// cluster counts on: its lease has to end, and commits to wait for others.
const leaveWithin = time.Minute

// A Leaving member is in no host of the inventory any more, or on another one.
type leaving struct {
	member string
	node   *spec.Node // nil: it is not on this machine
	to     string     // the host that it moves to; "": it goes for good
}

// step is what is shown of it, and asked.
func (l leaving) step(purge bool) plan.Step {
	s := plan.Step{Object: "member " + l.member, Member: l.member, Risk: plan.Restart}
	if l.node == nil {
		s.What, s.Why, s.Risk = "forget member "+l.member, "no host of the inventory has it, and it does not show itself", plan.Safe
		s.Lines = []string{"its slot and its keys in the store go, and what its machine has stays"}
		return s
	}
	fate := "its data are kept in " + filepath.Join(filepath.Dir(l.node.Paths.Dir), playground.Leavers)
	if purge {
		s.Risk, fate = plan.Destructive, "its data are deleted"
	}
	s.What, s.Why = "remove member "+l.member+" from host "+l.node.Host, "no host of the inventory has it"
	if l.to != "" {
		s.What, s.Why = "move member "+l.member+" from host "+l.node.Host+" to "+l.to, "the inventory has it there; it takes a copy of the leader's data"
		if !purge {
			s.Risk = plan.Rewrite
		}
	}
	s.Lines = []string{"its clients are led to the others, and sessions with it end", "its slot and its keys in the store go, and " + fate}
	if l.node.Etcd.Member != "" {
		s.Lines = append(s.Lines, "host "+l.node.Host+" goes on as a member of the store")
	}
	return s
}

// leavers are the members of a cluster that are to leave it, those that do not
// lead first. all are the members that the store knows, or this machine has.
func (a arrangement) leavers(name string, declared map[string]string, s cluster.State) []leaving {
	var all []leaving
	for _, n := range a.was {
		if n.Cluster != name || n.Alone() || n.Postgres.Data == "" {
			continue
		}
		if host, there := declared[n.Member]; !there || host != n.Host {
			all = append(all, leaving{member: n.Member, node: &n, to: host})
		}
	}
	for _, member := range s.Names() {
		_, there := declared[member]
		if !there && !slices.ContainsFunc(all, func(l leaving) bool { return l.member == member }) {
			all = append(all, leaving{member: member})
		}
	}
	slices.SortStableFunc(all, func(x, y leaving) int {
		switch leader := s.LeaderName(); {
		case x.member == leader && y.member != leader:
			return 1
		case y.member == leader && x.member != leader:
			return -1
		}
		return strings.Compare(x.member, y.member)
	})
	return all
}

// declared are the hosts of a cluster's members, by their names.
func (inv Inventory) declared(name string) map[string]string {
	hosts := map[string]string{}
	for _, c := range inv.World.Clusters {
		for _, m := range c.Members {
			if c.Name == name {
				hosts[m.Name] = m.Host
			}
		}
	}
	return hosts
}

// leave adds to what is reviewed who is to leave the cluster.
func (r *Reviewed) leave(c *Cluster, s cluster.State, o Choice, all []leaving) error {
	var parting []leaving
	for _, l := range all {
		switch {
		case o.goes(c.Name, s, l):
			parting = append(parting, l)
		case l.to == "" && o.Prune && o.member(c.Name, l.member):
			r.Drift = append(r.Drift, plan.Note{
				Object: "member " + l.member, What: "is in no host of the inventory", Why: "it is on another machine: apply there, with --prune",
			})
		case l.to != "" || !o.member(c.Name, l.member): // on another day
		default:
			r.Drift = append(r.Drift, plan.Note{
				Object: "member " + l.member, What: "is in no host of the inventory", Why: "it goes on as it is; --prune has it leave",
			})
		}
	}
	if err := c.stays(s, parting); err != nil {
		p := problem.Plain(err)
		for _, l := range parting {
			r.Cannot = append(r.Cannot, plan.Note{Object: "member " + l.member, What: "have it leave", Why: p.Why})
		}
		r.refused = err
		return nil
	}
	for _, l := range parting {
		r.Steps = append(r.Steps, l.step(o.Purge))
	}
	return nil
}

// leaves says that a step ends a member where it is.
func leaves(s plan.Step) bool {
	return s.Member != "" && slices.ContainsFunc([]string{"remove ", "move ", "forget "}, func(verb string) bool { return strings.HasPrefix(s.What, verb) })
}

// leave has those leave who are to, one after the other.
func (c *Cluster) leave(ctx context.Context, inv Inventory, o *Applying, a arrangement, did func(plan.Step, error)) error {
	s, err := c.State(ctx)
	if err != nil {
		return err
	}
	return c.part(ctx, o, slices.DeleteFunc(a.leavers(c.Name, inv.declared(c.Name), s), func(l leaving) bool { return l.to != "" || !o.goes(c.Name, s, l) }), did)
}

// part takes members out of the cluster.
func (c *Cluster) part(ctx context.Context, o *Applying, all []leaving, did func(plan.Step, error)) error {
	if len(all) == 0 {
		return nil
	}
	s, err := c.State(ctx)
	if err != nil {
		return err
	}
	if err := c.stays(s, all); err != nil { // also if it changed since it was shown
		return err
	}
	for i, l := range all {
		step := l.step(o.Purge)
		switch err := o.before(c.Name, step); {
		case errors.Is(err, ErrSkip):
			continue
		case err != nil:
			return err
		}
		err := c.remove(ctx, l, all[i:], o.Purge)
		did(step, err)
		o.after(c.Name, step, err)
		if err != nil {
			return err
		}
	}
	return nil
}

// move has members leave their hosts that are to be on others, where they are made
// anew.
func (h House) move(ctx context.Context, inv Inventory, o *Applying, a arrangement) (done map[string][]string, err error) {
	done = map[string][]string{}
	for _, name := range a.clusters() {
		declared := inv.declared(name)
		moves := slices.ContainsFunc(a.was, func(n spec.Node) bool {
			host := declared[n.Member]
			return n.Cluster == name && !n.Alone() && host != "" && host != n.Host && o.member(name, n.Member)
		})
		if !moves {
			continue
		}
		c, err := h.Open(name)
		if err != nil {
			return done, err
		}
		defer c.Close()
		s, err := c.State(ctx)
		if err != nil {
			return done, err
		}
		j := c.journal(o.What)
		err = c.part(ctx, o, slices.DeleteFunc(a.leavers(name, declared, s), func(l leaving) bool { return l.to == "" || !o.goes(name, s, l) }), func(s plan.Step, err error) {
			if err == nil {
				done[name] = append(done[name], s.Done())
				j.note(ctx, s.Done(), nil)
			} else {
				j.note(ctx, s.What, err)
			}
		})
		if err := errors.Join(err, j.end(ctx)); err != nil {
			return done, err
		}
	}
	return done, nil
}

// goes says which of those who could leave are to. Who lives on another machine
// leaves there, unless it was named.
func (o Choice) goes(name string, s cluster.State, l leaving) bool {
	if _, live := s.Member(l.member); live && l.node == nil && o.whole(name) {
		return false
	}
	return o.member(name, l.member) && (o.Prune || l.to != "")
}

// stays refuses to let members leave whom the cluster needs: it must have someone
// who may lead, and as many to confirm commits as it asks for.
func (c *Cluster) stays(s cluster.State, all []leaving) error {
	if len(all) == 0 {
		return nil
	}
	var names []string
	for _, l := range all {
		names = append(names, l.member)
	}
	needed := func(why, do string) error {
		return &problem.Error{
			Code: "member-needed", What: "cannot remove " + strings.Join(names, ", ") + " from cluster " + c.Name, Why: why, Do: do,
		}
	}
	for _, l := range all {
		if l.node != nil && l.node.Etcd.Member != "" && !c.local {
			return &problem.Error{
				Code: "store-fixed", What: "cannot remove " + l.member + " from cluster " + c.Name,
				Why: "host " + l.node.Host + " carries a member of etcd, and this version can not change who does",
				Do:  "keep it in the inventory; its server can be left alone by a tag that keeps it from leading",
			}
		}
		if _, live := s.Member(l.member); live && l.node == nil {
			return &problem.Error{
				Code: "member-elsewhere", What: "cannot remove " + l.member + " from cluster " + c.Name, Why: "it is there, and on another machine",
				Do: "apply the inventory with --prune there first, or stop that machine if it is not to come back",
			}
		}
	}
	if s.Config.Pause() {
		return needed("the cluster is paused: nobody would take over what they do", "`howdah resume "+c.Name+"` first")
	}
	p := cluster.PictureOf(s)
	var left, able, counted []string
	for _, m := range p.Members {
		if slices.Contains(names, m.Name) {
			continue
		}
		left = append(left, m.Name)
		streams := m.Leads() || m.Running && m.State == cluster.ReplicationStreaming
		if streams && !m.Tags.NoFailover() {
			able = append(able, m.Name)
		}
		if m.Leads() || streams && !m.Tags.NoSync() && !m.Tags.NoStream() && m.Tags.ReplicateFrom() == "" {
			counted = append(counted, m.Name)
		}
	}
	switch {
	case len(left) == 0:
		return needed("no other member would be left", "`howdah down --purge` ends a playground; a cluster on machines ends with its last one")
	case s.LeaderName() == "":
		return needed("the cluster has no leader just now", "wait until it has one; see `howdah why "+c.Name+"`")
	case slices.Contains(names, s.LeaderName()) && len(able) == 0:
		return needed("of those who stay ("+strings.Join(left, ", ")+") none streams from the leader "+s.LeaderName()+" and may take over",
			"start or mend one of them first; see `howdah list "+c.Name+"`")
	}
	need := 0 // standbys, beside whoever leads
	if (s.SynchronousMode() != cluster.SyncOff || s.Sync.Active()) && s.Config.SynchronousModeStrict() {
		need = max(1, s.Config.SynchronousNodes())
	}
	if have := len(counted) - 1; have < need {
		return needed(fmt.Sprintf("commits wait for %s, and of those who stay (%s) %d would be there to confirm them", standbys(need), strings.Join(left, ", "), max(have, 0)),
			"start or add another member first, or say that commits need not wait: `howdah edit-config "+c.Name+" --set synchronous_mode=off`")
	}
	return nil
}

// storeFixed refuses to move a member whose host carries a store under its name.
func storeFixed(member, from, to string) error {
	return &problem.Error{
		Code: "store-fixed", What: "cannot move " + member + " to host " + to, Why: "host " + from + " carries a member of the store under its name",
		Do: "give the new host a member of its own (another pg_seq), and remove this one",
	}
}

func standbys(n int) string {
	if n == 1 {
		return "a standby"
	}
	return fmt.Sprintf("%d standbys", n)
}

// remove has a member leave: another one leads, its server ends, nobody counts on
// it any more, and what it had is put aside. Given again it does what is left.
func (c *Cluster) remove(ctx context.Context, l leaving, all []leaving, purge bool) error {
	if l.node == nil {
		return c.forget(ctx, l.member)
	}
	s, err := c.State(ctx)
	if err != nil {
		return err
	}
	if s.LeaderName() == l.member {
		if err := c.succeed(ctx, s, all); err != nil {
			return err
		}
	}
	if err := c.retire(ctx, *l.node); err != nil {
		return err
	}
	if err := c.forget(ctx, l.member); err != nil {
		return err
	}
	if c.local {
		return playground.Discard(ctx, filepath.Dir(c.Dir), *l.node, purge)
	}
	return playground.SetAside(*l.node, purge)
}

// succeed has somebody lead who stays, and waits for the others to follow.
func (c *Cluster) succeed(ctx context.Context, s cluster.State, all []leaving) error {
	goes := func(name string) bool {
		return slices.ContainsFunc(all, func(l leaving) bool { return l.member == name })
	}
	var names []string
	for _, name := range s.Names() { // who confirms commits before the others
		if !goes(name) && s.Sync.Has(name) {
			names = append(names, name)
		}
	}
	for _, name := range s.Names() {
		if !goes(name) && !s.Sync.Has(name) {
			names = append(names, name)
		}
	}
	err := error(&problem.Error{
		Code: "candidate-none", What: "cannot let another member lead cluster " + c.Name, Why: "nobody else would be left",
		Do: "start a member first; see `howdah list " + c.Name + "`",
	})
	for _, name := range names {
		var change *Change
		if change, err = c.PlanSwitchover(ctx, name, time.Time{}); err != nil {
			continue
		}
		if _, err := change.Do(ctx); err != nil {
			return err
		}
		for _, other := range names {
			if m, live := s.Member(other); live && m.Running() {
				if err := c.streams(ctx, other); err != nil {
					return err
				}
			}
		}
		return nil
	}
	return err
}

// beside says that this machine runs other nodes than n.
func (h House) beside(n spec.Node) (bool, error) {
	files, _ := filepath.Glob(filepath.Join(h.Dir, "*", "*", nodefile.Name)) // only a malformed pattern is an error
	for _, file := range files {
		o, err := nodefile.Load(filepath.Dir(file))
		if err != nil {
			return false, err
		}
		if o.Paths.Dir != n.Paths.Dir && o.Host == n.Host {
			return true, nil
		}
	}
	return false, nil
}

// retire ends what a node runs for the member.
func (c *Cluster) retire(ctx context.Context, n spec.Node) error {
	if c.local {
		s, err := playground.Load(filepath.Dir(c.Dir))
		if err != nil {
			return err
		}
		return s.Retire(ctx, n)
	}
	if others, err := (House{Dir: filepath.Dir(c.Dir)}).beside(n); err != nil {
		return err
	} else if others {
		ctx, cancel := context.WithTimeout(ctx, leaveWithin)
		defer cancel()
		if err := node.Retire(ctx, n); err != nil {
			return c.unsettled(n.Member, "something of it still runs", err)
		}
		return nil
	}
	if _, err := os.Stat(install.UnitFile); err == nil {
		// systemd would start it again, now and with the machine (sd_booted(3)).
		if _, err := os.Stat("/run/systemd/system"); err == nil {
			if out, err := exec.CommandContext(ctx, "systemctl", "disable", "--now", install.Unit).CombinedOutput(); err != nil {
				return fmt.Errorf("stop %s: %w: %s", install.Unit, err, strings.TrimSpace(string(out)))
			}
		}
	}
	job := process.Job{PID: node.SupervisorFile(n), Args: node.SupervisorArgs(n.Paths.Dir)}
	id, runs := node.SupervisorFile(n).Read()
	if !runs {
		id, runs = job.Running()
	}
	if !runs {
		return nil
	}
	if err := id.Signal(unix.SIGTERM); err != nil && !errors.Is(err, process.ErrGone) {
		return fmt.Errorf("stop %s: %w", n.Member, err)
	}
	return id.Wait(ctx)
}

// forget takes a member out of the store, once nobody counts on it any more. The
// leader drops its slot when it is not there.
func (c *Cluster) forget(ctx context.Context, member string) error {
	ctx, cancel := context.WithTimeout(ctx, leaveWithin)
	defer cancel()
	last := "its lease has not ended"
	for {
		var s cluster.State
		err := c.watch(ctx, func(now cluster.State) bool {
			s = now
			_, live := s.Member(member)
			switch {
			case live:
				last = "its lease has not ended"
			case s.Leader == nil || s.LeaderName() == member:
				last = "nobody else leads"
			case s.Sync.Has(member):
				last = "commits still wait for it"
			default:
				return true
			}
			return false
		})
		if err != nil {
			return c.unsettled(member, last, err)
		}
		var ops []dcs.Op
		for _, dir := range []string{cluster.DirRecorded, cluster.DirWhy, cluster.DirPledges, cluster.DirRequests, cluster.DirSchedules, cluster.DirSuspects} {
			ops = append(ops, dcs.Delete(dir+member))
		}
		_, ok, err := c.commit(ctx, ops, dcs.ModIs(cluster.KeyLeader, s.Leader.Mod), unless(cluster.KeySync, s.Sync.Mod), dcs.Absent(cluster.DirMembers+member))
		if err != nil || ok {
			return err
		}
	}
}

func (c *Cluster) unsettled(member, why string, err error) error {
	if !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return &problem.Error{
		Code: "removal-unknown", What: "cannot take " + member + " out of cluster " + c.Name,
		Why: fmt.Sprintf("it was stopped, and after %s %s", leaveWithin, why),
		Do:  "see `howdah why " + c.Name + "`; `howdah apply` given again goes on",
	}
}
