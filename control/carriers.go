package control

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"howdah/node"
	"howdah/playground"
	"howdah/problem"
	"howdah/spec"
	"howdah/spec/apply"
	"howdah/spec/plan"
)

// storeGroup is what plans and records call the store: an inventory's group of its hosts.
const storeGroup = "etcd"

// A carrying is one change of who carries the store, whose members change one by one.
type carrying struct {
	member spec.EtcdMember
	node   *spec.Node // who leaves; nil: member joins
	ends   bool       // the node carried nothing else, and goes with it
}

// carriers are the changes that make the store the inventory's, those who join first, and
// the members that it has then. Who is in no group leaves with prune alone.
func (a arrangement) carriers(prune bool) (all []carrying, final []spec.EtcdMember) {
	if len(a.store) == 0 {
		return nil, nil
	}
	final = slices.Clone(a.store)
	for _, m := range a.store {
		if !a.knows(m) {
			all = append(all, carrying{member: m})
		}
	}
	for _, w := range a.was {
		m, ok := w.Etcd.Self()
		if !ok || slices.Contains(a.store, m) {
			continue
		}
		if !prune {
			final = append(final, m)
			continue
		}
		stays := slices.ContainsFunc(a.want, func(n spec.Node) bool { return n.Paths.Dir == w.Paths.Dir })
		all = append(all, carrying{member: m, node: &w, ends: w.Alone() && !stays})
	}
	if len(final) > len(a.store) { // nobody has to hear of another order
		slices.SortStableFunc(final, func(x, y spec.EtcdMember) int { return a.seat(x) - a.seat(y) })
	}
	return all, final
}

// seat is the place of a member among those that there are; new ones come last.
func (a arrangement) seat(m spec.EtcdMember) int {
	if i := slices.Index(a.was[0].Etcd.Members, m); i >= 0 {
		return i
	}
	return len(a.was[0].Etcd.Members)
}

// knows says that every node has heard of a member: that comes last when it joins.
func (a arrangement) knows(m spec.EtcdMember) bool {
	return !slices.ContainsFunc(a.was, func(w spec.Node) bool { return !slices.Contains(w.Etcd.Members, m) })
}

// told says that the nodes have heard of these members and no others.
func (a arrangement) told(members []spec.EtcdMember) bool {
	return !slices.ContainsFunc(a.was, func(w spec.Node) bool { return !slices.Equal(w.Etcd.Members, members) })
}

func (l carrying) step() plan.Step {
	name := l.member.Name
	if l.node == nil {
		return plan.Step{
			Object: "the store", What: "let " + name + " join the store", Risk: plan.Safe,
			Why:   "the inventory has it among those who carry etcd; it learns first, and votes once it has what the others have",
			Lines: []string{"+" + name + " " + l.member.Peer},
		}
	}
	s := plan.Step{
		Object: "the store", What: "remove " + name + " from the store", Risk: plan.Restart,
		Why:   "the inventory has it no more among those who carry etcd; its etcd ends, and the others go on without it",
		Lines: []string{"-" + name + " " + l.member.Peer, "its data are kept aside"},
	}
	if l.ends {
		s.Lines = append(s.Lines, "host "+l.node.Host+" carried nothing else, and ends")
	}
	return s
}

// telling is the step that is left where a change ended before every node knew of it.
func telling() plan.Step {
	return plan.Step{
		Object: "the store", What: "describe its members to the nodes", Risk: plan.Safe, Why: "some nodes have others in their descriptions",
	}
}

// reviewStore says how the store would change.
func (a arrangement) reviewStore(o Choice) (r Reviewed) {
	r.Cluster = storeGroup
	all, final := a.carriers(o.Prune)
	for _, l := range all {
		r.Steps = append(r.Steps, l.step())
		for _, nodes := range [][]spec.Node{a.was, a.want} { // what else is reviewed comes after it
			for i := range nodes {
				if e := &nodes[i].Etcd; l.node != nil && !l.ends && e.Member == l.member.Name {
					e.Member, e.Data = "", ""
				}
			}
		}
	}
	if len(all) == 0 && len(final) > 0 && !a.told(final) {
		r.Steps = append(r.Steps, telling())
	}
	for _, m := range final {
		if !slices.Contains(a.store, m) {
			r.Drift = append(r.Drift, plan.Note{Object: "member " + m.Name + " of the store", What: "is in no group etcd", Why: "it goes on as it is; --prune has it leave"})
		}
	}
	if r.refused = a.carriable(all, final); r.refused != nil {
		p := problem.Plain(r.refused)
		r.Cannot = append(r.Cannot, plan.Note{Object: "the store", What: "have other members", Why: p.Why})
		r.Steps = nil
	}
	return r
}

// carriable refuses what no change after another leads to.
func (a arrangement) carriable(all []carrying, final []spec.EtcdMember) error {
	for _, l := range all {
		if i := slices.IndexFunc(a.was, func(w spec.Node) bool {
			m, carries := w.Etcd.Self()
			return carries && m.Peer == l.member.Peer && m.Name != l.member.Name
		}); l.node == nil && i >= 0 {
			return &problem.Error{
				Code: "store-fixed", What: "cannot let " + l.member.Name + " join the store", Why: "host " + a.was[i].Host + " carries a member of it already, " + a.was[i].Etcd.Member,
				Do: "take the host out of the group etcd first, apply that with --prune, and put it back then",
			}
		}
		if l.node != nil && len(final) == 1 {
			return &problem.Error{
				Code: "etcd-quorum", What: "cannot remove " + l.member.Name + " from the store", Why: "of the last two members each is needed for a majority",
				Do: "keep two, or better three, in the group etcd",
			}
		}
	}
	return nil
}

// carry makes the store the inventory's, and a what it is then.
func (h House) carry(ctx context.Context, o *Applying, a *arrangement) (out Outcome, err error) {
	out.Cluster = storeGroup
	if a.machine || len(a.store) == 0 || !o.whole(storeGroup) {
		return out, nil
	}
	before := a.was
	if a.was, err = playground.Nodes(h.Dir); err != nil { // some may have been made just now
		return out, err
	}
	all, final := a.carriers(o.Prune)
	if len(all) == 0 && a.told(final) {
		return out, nil
	}
	if err := a.carriable(all, final); err != nil {
		return out, err
	}
	clusters := h.Clusters()
	if len(clusters) == 0 {
		return out, nil
	}
	c, err := h.Open(clusters[0])
	if err != nil {
		return out, err
	}
	defer c.Close()
	j := c.journal(o.What)
	defer func() { err = errors.Join(err, j.end(ctx)) }()
	do := func(step plan.Step, change func() error) error {
		switch err := o.before(storeGroup, step); {
		case errors.Is(err, apply.ErrSkip):
			return nil
		case err != nil:
			return err
		}
		err := change()
		if err == nil {
			out.Done = append(out.Done, step.Done())
			j.note(ctx, step.Done(), nil)
		} else {
			j.note(ctx, step.What, err)
		}
		o.after(storeGroup, step, err)
		return err
	}
	for _, l := range all {
		c.Nodes = a.was
		err := do(l.step(), func() error {
			if l.node == nil {
				return c.join(ctx, l.member, !slices.ContainsFunc(before, func(w spec.Node) bool { return w.Member == l.member.Name }))
			}
			return c.discharge(ctx, l, o.Purge)
		})
		if err != nil {
			return out, err
		}
		if a.was, err = playground.Nodes(h.Dir); err != nil {
			return out, err
		}
	}
	if c.Nodes = a.was; !a.told(final) && !slices.ContainsFunc(all, func(l carrying) bool { return !slices.Contains(out.Done, l.step().Done()) }) {
		change := func() error { return c.tell(ctx, final) }
		if len(all) > 0 { // it is the last part of the steps before
			err = change()
		} else {
			err = do(telling(), change)
		}
		if err != nil {
			return out, err
		}
		if a.was, err = playground.Nodes(h.Dir); err != nil {
			return out, err
		}
	}
	playground.Hold(a.was, a.want)
	return out, nil
}

// join has a node carry a member of the store, until it votes and all know of it. A fresh
// node, and one whose etcd runs, is about to.
func (c *Cluster) join(ctx context.Context, m spec.EtcdMember, fresh bool) error {
	n, ok := c.node(m.Name)
	if !ok {
		return &problem.Error{
			Code: "etcd-not-here", What: "cannot let " + m.Name + " join the store", Why: "there is no such node yet",
			Do: "apply the whole inventory, which makes it",
		}
	}
	if err := c.stopped(ctx); err != nil {
		return err
	}
	ch := &StoreChange{Verb: "add", Member: m.Name}
	if _, runs := node.RoleFile(n, "etcd").Read(); n.Etcd.Member == "" || !runs && !fresh {
		c.planAdd(ch, n, m)
	} else {
		ch.step(func(ctx context.Context) error { return c.awaitVote(ctx, m.Name, "") }, "wait until %s votes", m.Name)
		c.planTell(ch, "", n.Etcd.Members)
	}
	return ch.Do(ctx, func(string) {})
}

// discharge takes a member out of the store, and a node that carried nothing else
// out of the playground.
func (c *Cluster) discharge(ctx context.Context, l carrying, purge bool) error {
	name := l.member.Name
	seen, err := c.seeStore(ctx)
	if err != nil {
		return err
	}
	ch := &StoreChange{Verb: "remove", Member: name}
	have, there := seen.find(name, l.member)
	if there {
		if err := seen.spares("cannot remove "+name+" from the store", name, len(seen.members)-1); err != nil {
			return err
		}
	}
	if !l.ends {
		c.planRemove(ch, name, have)
		return ch.Do(ctx, func(string) {})
	}
	if there {
		if err := c.dismiss(ctx, have.ID); err != nil {
			return err
		}
	}
	s, err := playground.Load(filepath.Dir(c.Dir))
	if err != nil {
		return err
	}
	n := *l.node
	n.Etcd.Member = ""
	if err := s.Retire(ctx, n); err != nil {
		return err
	}
	return playground.Discard(ctx, filepath.Dir(c.Dir), n, purge)
}

// tell has every node of the playground know of the members, and of no others: the
// supervisors and agents at once, all else when it starts the next time.
func (c *Cluster) tell(ctx context.Context, members []spec.EtcdMember) error {
	for _, n := range c.Nodes {
		if slices.Equal(n.Etcd.Members, members) {
			continue
		}
		n.Etcd.Members = members
		if err := c.describe(n); err != nil {
			return fmt.Errorf("describe %s: %w", n.Member, err)
		}
		if err := c.readAgain(ctx, n); err != nil {
			return fmt.Errorf("%s reads its description: %w", n.Member, err)
		}
	}
	return nil
}

// add puts what is to change of the store to what is to change of the group that it has.
func (all *Review) add(r Reviewed) {
	if len(r.Steps)+len(r.Drift)+len(r.Cannot) == 0 {
		return
	}
	i := slices.IndexFunc(all.Clusters, func(c Reviewed) bool { return c.Cluster == r.Cluster })
	if i < 0 {
		all.Clusters = append(all.Clusters, r)
		return
	}
	all.Clusters[i].Add(r.Plan)
	if r.refused != nil {
		all.Clusters[i].refused = r.refused
	}
}
