package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"howdah/machine/install"
	"howdah/machine/ssh"
	"howdah/problem"
)

// An UpgradePlan is what an upgrade would do on one machine, in the order of machines.
type UpgradePlan struct {
	Host   string   `json:"host"`
	Member string   `json:"member"`          // of several all, with commas
	Leads  []string `json:"leads,omitempty"` // clusters: it comes last
	Steps  []string `json:"steps"`           // none: it runs this program
}

// An Upgraded is one machine that runs this program now.
type Upgraded struct {
	Host    string   `json:"host"`
	Member  string   `json:"member"`
	Done    []string `json:"done"` // none: it did already
	Seconds float64  `json:"seconds"`
}

// An outlook is what all machines say of the clusters and of themselves.
type outlook struct {
	clusters map[string]seen
	blind    []string                  // clusters that nobody told of, and why
	running  map[*site]install.Running // of whom was asked
	strange  map[*site]error
}

// seats are the machine's nodes, as a look at them needs.
func (s *site) seats() (all []install.Seat) {
	for _, n := range s.nodes {
		all = append(all, install.Seat{Member: n.Member, Run: n.Paths.Run, Data: n.Postgres.Data})
	}
	return all
}

// outlook looks at everything at once.
func (i *Installer) outlook(ctx context.Context) outlook {
	w := outlook{clusters: map[string]seen{}, running: map[*site]install.Running{}, strange: map[*site]error{}}
	outs, errs := make([]string, len(i.hosts)), make([]error, len(i.hosts))
	together(len(i.hosts), func(n int) {
		outs[n], errs[n] = i.hosts[n].m.Run(ctx, install.Look(i.hosts[n].seats()), nil)
	})
	for n, s := range i.hosts {
		if errs[n] != nil {
			w.strange[s] = errs[n]
			continue
		}
		w.running[s] = install.ReadRunning(outs[n])
	}
	for _, c := range i.inv.World.Clusters {
		var why error
		told, asked := false, false
		for _, s := range i.hosts {
			if told || !slices.Contains(s.clusters(), c.Name) || w.strange[s] != nil {
				continue
			}
			asked = true
			out, err := s.on(ctx, "status", c.Name, "--json")
			var now seen
			if json.Unmarshal([]byte(out), &now) != nil || len(now.Picture.Members) == 0 {
				why = err
				continue
			}
			w.clusters[c.Name], told = now, true
		}
		if asked && !told {
			w.blind = append(w.blind, "no machine sees cluster "+c.Name+because(why))
		}
	}
	return w
}

// leads are the clusters whose leader the machine has.
func (w outlook) leads(s *site) (names []string) {
	for _, n := range s.nodes {
		if c, ok := w.clusters[n.Cluster]; ok && n.Postgres.Data != "" && c.Picture.Leader == n.Member {
			names = append(names, n.Cluster)
		}
	}
	return names
}

// unwell is what is wrong with everything but the machine but; nil: with anything.
func (i *Installer) unwell(w outlook, but *site) (why []string) {
	if but == nil || len(i.hosts) > 1 {
		why = append(why, w.blind...)
	}
	own := map[string]bool{} // members and stores of it
	if but != nil {
		for _, n := range but.nodes {
			own[n.Member] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(w.clusters)) {
		c := w.clusters[name]
		others := 0
		for _, m := range c.Picture.Members {
			if own[m.Name] {
				continue
			}
			others++
			if !m.Running || m.Name != c.Picture.Leader && m.State != "streaming" {
				why = append(why, m.Name+" is "+m.State)
			}
		}
		for _, away := range c.Picture.Away {
			if !own[away] {
				why = append(why, away+" does not show itself")
			}
		}
		if c.Picture.Leader == "" && (others > 0 || but == nil) {
			why = append(why, "cluster "+name+" has no leader")
		}
		for _, e := range c.Etcd {
			u, err := url.Parse(e.URL)
			if !e.Up && (but == nil || err != nil || u.Hostname() != but.host.Host) {
				why = append(why, "etcd member "+e.Name+" does not serve")
			}
		}
	}
	for _, s := range i.hosts {
		r := w.running[s]
		switch {
		case s == but:
		case w.strange[s] != nil:
			why = append(why, s.host.Host+because(w.strange[s]))
		case !r.Up():
			why = append(why, "the supervisor on "+s.host.Host+" does not run")
		case len(r.Unfinished) > 0:
			why = append(why, "roles on "+s.host.Host+" are just being replaced")
		}
	}
	slices.Sort(why)
	return slices.Compact(why)
}

// renewal is what is to be done on a machine; an error if it lacks what is not the program's.
func (i *Installer) renewal(s *site, r install.Running) (steps []install.Step, err error) {
	for _, step := range s.plan.Steps {
		switch {
		case step.Start: // whoever ended the supervisor had a reason
		case step.Put == install.Program || step.Put == install.UnitFile || step.Script == install.Reread:
			steps = append(steps, step)
		default:
			return nil, &problem.Error{
				Code: "install-first", What: "cannot upgrade " + s.host.Host, Why: "it lacks more than the program: " + step.What,
				Do: "`howdah install " + i.inv.World.File + "` first; nothing that runs is restarted by it",
			}
		}
	}
	if len(r.Behind(i.program)) > 0 || len(r.Unfinished) > 0 || len(steps) > 0 && r.Up() {
		steps = append(steps, install.Step{What: "restart howdah, role by role", Why: "what runs there is another program"})
	}
	return steps, nil
}

// upgradable are the machines in their order: those first that are not well, then those
// that lead nothing.
func (i *Installer) upgradable(w outlook) []*site {
	all := slices.Clone(i.hosts)
	rank := func(s *site) int {
		switch {
		case len(w.leads(s)) > 0:
			return 2
		case len(i.unwell(w, nil)) > len(i.unwell(w, s)):
			return 0
		}
		return 1
	}
	slices.SortStableFunc(all, func(a, b *site) int { return rank(a) - rank(b) })
	return all
}

// UpgradePlan says what an upgrade would do, in its order, and changes nothing.
func (i *Installer) UpgradePlan(ctx context.Context) ([]UpgradePlan, error) {
	if err := i.Lacking(); err != nil {
		return nil, err
	}
	w := i.outlook(ctx)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	var plans []UpgradePlan
	for _, s := range i.upgradable(w) {
		if err := w.strange[s]; err != nil {
			return nil, i.strange(s, err)
		}
		steps, err := i.renewal(s, w.running[s])
		if err != nil {
			return nil, err
		}
		p := UpgradePlan{Host: s.host.Host, Member: members(s.nodes), Leads: w.leads(s), Steps: []string{}}
		for _, step := range steps {
			p.Steps = append(p.Steps, step.What)
		}
		plans = append(plans, p)
	}
	return plans, nil
}

// Upgrade has one machine after the other run this program. It goes on only when
// everything is well again, and ends at the first trouble.
func (i *Installer) Upgrade(ctx context.Context) ([]Upgraded, error) {
	done := []Upgraded{}
	if err := i.Lacking(); err != nil {
		return done, err
	}
	left := slices.Clone(i.hosts)
	for len(left) > 0 {
		w := i.outlook(ctx)
		if ctx.Err() != nil {
			return done, context.Cause(ctx)
		}
		order := i.upgradable(w)
		n := slices.IndexFunc(order, func(s *site) bool { return slices.Contains(left, s) })
		s := order[n]
		left = slices.DeleteFunc(left, func(other *site) bool { return other == s })
		steps, err := i.renewal(s, w.running[s])
		if err != nil {
			return done, err
		}
		u := Upgraded{Host: s.host.Host, Member: members(s.nodes), Done: []string{}}
		if len(steps) > 0 {
			if why := i.unwell(w, s); len(why) > 0 {
				return done, &problem.Error{
					Code: "upgrade-unwell", What: "did not touch " + s.host.Host, Why: "the others are not well: " + strings.Join(why, "\n"),
					Do: "mend that (`howdah status`, `howdah doctor " + i.inv.World.File + "`); the same command goes on",
				}
			}
			began := time.Now()
			if err := i.upgrade(ctx, s, steps, w); err != nil {
				return done, err
			}
			u.Seconds = time.Since(began).Seconds()
			for _, step := range steps {
				u.Done = append(u.Done, step.What)
			}
		}
		done = append(done, u)
	}
	return done, nil
}

// upgrade has one machine run this program, and waits until it and all others are well.
func (i *Installer) upgrade(ctx context.Context, s *site, steps []install.Step, before outlook) error {
	for _, step := range steps {
		var err error
		switch {
		case step.Put == install.Program:
			i.say(s.host.Host, step.What, -1)
			err = i.replace(ctx, s)
		case step.Put != "":
			err = i.put(ctx, s, step)
		case step.Script != "":
			_, err = s.m.Run(ctx, step.Script, nil)
		case !before.running[s].Up():
		default:
			i.say(s.host.Host, step.What, -1)
			_, err = s.m.Run(ctx, s.want.Renew(), nil)
		}
		if failed, ok := errors.AsType[*ssh.Failed](err); ok {
			return i.halted(s, "could not "+step.What+": "+failed.Error())
		}
		if err != nil {
			return i.strange(s, err)
		}
	}
	return i.well(ctx, s, before)
}

// replace brings the program, sees that it runs there, and only then puts it in the
// place of the one before.
func (i *Installer) replace(ctx context.Context, s *site) error {
	from, err := self()
	if err != nil {
		return err
	}
	defer from.Close()
	if err := s.m.Put(ctx, ssh.File{Path: install.Next, Mode: 0o755, Sum: i.program}, from); err != nil {
		return err
	}
	_, err = s.m.Run(ctx, install.Replace, nil)
	return err
}

// halted is the end of an upgrade at a machine.
func (i *Installer) halted(s *site, why string) error {
	return &problem.Error{
		Code: "upgrade-halted", What: "stopped at " + s.host.Host + ", and touched no machine after it", Why: why,
		Do: "see `howdah list` and the log of the supervisor there. The same command goes on when that is mended; given with the program of before, it goes back",
	}
}

// well waits until the machine runs this program and everything is well.
func (i *Installer) well(ctx context.Context, s *site, before outlook) error {
	if !before.running[s].Up() {
		return nil // nobody started it, and the next machine waits until somebody does
	}
	tick := time.NewTicker(glance)
	defer tick.Stop()
	late := time.After(i.o.Wait) // no deadline of ctx: a command that is under way would take the connection along
	for {
		now := i.outlook(ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if why := changed(s, before, now); why != "" {
			return i.halted(s, why)
		}
		lacks := append(i.behind(s, before, now), i.unwell(now, nil)...)
		if len(lacks) == 0 {
			i.say(s.host.Host, "runs this program, and all is well", -1)
			return nil
		}
		i.say(s.host.Host, "waiting: "+lacks[0], -1)
		select {
		case <-tick.C:
		case <-late:
			return i.halted(s, fmt.Sprintf("after %s it is not well: %s%s", i.o.Wait, strings.Join(lacks, "\n"), i.said(ctx, s)))
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// changed says what is not as it was, and was to stay so: servers, leaders, epochs.
func changed(s *site, before, now outlook) string {
	was, is := before.running[s].Servers, now.running[s].Servers
	for _, member := range slices.Sorted(maps.Keys(was)) {
		if now.strange[s] == nil && is[member] != was[member] {
			return fmt.Sprintf("the server of %s was process %s, and is %q: it was to run on", member, was[member], is[member])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(before.clusters)) {
		was, is := before.clusters[name].Picture, now.clusters[name].Picture
		if was.Leader != "" && is.Leader != "" && (is.Leader != was.Leader || is.Epoch != was.Epoch) {
			return fmt.Sprintf("%s led %s under epoch %d, and %s leads under %d: nothing was to change (`howdah why`)", was.Leader, name, was.Epoch, is.Leader, is.Epoch)
		}
	}
	return ""
}

// behind are the roles of the machine that do not run this program yet.
func (i *Installer) behind(s *site, before, now outlook) (lacks []string) {
	r := now.running[s]
	for _, name := range slices.Sorted(maps.Keys(before.running[s].Roles)) {
		if _, runs := r.Roles[name]; !runs {
			lacks = append(lacks, name+" does not run")
		}
	}
	for _, name := range r.Behind(i.program) {
		lacks = append(lacks, name+" runs the program of before")
	}
	for _, member := range r.Unfinished {
		lacks = append(lacks, "not all roles of "+member+" began anew")
	}
	return lacks
}

// said is what the supervisor of a machine said last.
func (i *Installer) said(ctx context.Context, s *site) string {
	out, _ := s.m.Run(ctx, install.Alive(s.want), nil)
	_, log, _ := strings.Cut(out, "\n")
	if log = strings.TrimSpace(log); log == "" {
		return ""
	}
	return "\nits supervisor said\n" + log
}
