package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"howdah/backup"
	"howdah/backup/keep"
	"howdah/backup/repo"
	"howdah/cluster"
	"howdah/dcs"
	"howdah/node"
	"howdah/nodefile"
	"howdah/playground"
	"howdah/problem"
	"howdah/spec"
)

// An Anew is a new cluster of the playground, made of another one's backup and
// WAL. It is a plan first. The other cluster is read, and nothing else: the new
// one has its own hosts, keys, data and archive.
type Anew struct {
	*Peek             // nil: the data are there, and what is left is to begin with them
	Name     string   `json:"name"`
	Members  []string `json:"members"`
	Hosts    []string `json:"hosts"`
	source   *Cluster
	of       spec.Node // a member of it on this machine
	founder  spec.Node // of the new one: its data are the ones that are restored
	options  playground.Options
	resuming bool
}

// String says what it would do.
func (a *Anew) String() string {
	if a.resuming {
		return fmt.Sprintf("go on with cluster %s, whose data are restored, and lie on %s", a.Name, a.founder.Member)
	}
	return fmt.Sprintf("make cluster %s (%s on %s) of %s backup %s of %s, which ended %s and takes %s, and WAL from %s to %s; cluster %s goes on as it is",
		a.Name, strings.Join(a.Members, ", "), strings.Join(a.Hosts, ", "), a.Type, a.Backup, a.Member, a.Stop.Local().Format(time.DateTime),
		repo.Size(a.Size), a.First, a.To, a.source.Name)
}

// PlanRestoreAs finds out what a cluster called name takes that is c as of a
// moment. What it is like the inventory says; without one it is what the demo is,
// if c is that.
func (c *Cluster) PlanRestoreAs(ctx context.Context, to, set, name string, inv Inventory) (*Anew, error) {
	refuse := func(code, why, do string) error {
		return &problem.Error{Code: code, What: "cannot make cluster " + name + " of " + c.Name, Why: why, Do: do}
	}
	at, err := ParseMoment(to, time.Now())
	if err != nil {
		return nil, err
	}
	if err := spec.CheckNames(name, nil); err != nil {
		return nil, err
	}
	h := House{Dir: filepath.Dir(c.Dir)}
	there, err := playground.Nodes(h.Dir)
	if problem.Code(err) == "playground-none" {
		return nil, refuse("restore-refused", "new clusters are made in a playground, and "+h.Dir+" is none",
			"look at the moment with --peek, or restore one server with `howdah pgbackrest restore`")
	}
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(c.Nodes, func(n spec.Node) bool { return n.Postgres.Data != "" })
	a := &Anew{Name: name, source: c, of: c.Nodes[i]}
	if slices.ContainsFunc(there, func(n spec.Node) bool { return n.Cluster == name }) {
		return a, a.resume(ctx, h, refuse)
	}
	if a.options, err = a.describe(h, there, inv, refuse); err != nil {
		return nil, err
	}
	want, _, err := playground.Preview(a.options)
	if err != nil {
		return nil, err
	}
	for _, n := range want {
		if i := slices.IndexFunc(there, func(o spec.Node) bool { return o.Host == n.Host && o.Cluster != n.Cluster }); n.Cluster == name && i >= 0 {
			return nil, refuse("restore-refused", "its host "+n.Host+" is that of "+there[i].Member, "give the new cluster hosts of its own")
		}
		if n.Cluster == name && n.Postgres.Data != "" {
			a.Members, a.Hosts = append(a.Members, n.Member), append(a.Hosts, n.Host)
			if n.Member == n.Agent.Founder || a.founder.Member == "" {
				a.founder = n
			}
		}
	}
	f := a.founder
	if inv.World.File == "" && !(reflect.DeepEqual(f.Objects, a.of.Objects) && f.Postgres.Major == a.of.Postgres.Major) {
		return nil, refuse("restore-refused", c.Name+" was made of an inventory, and nothing says what "+name+" is to be like",
			"declare "+name+" in an inventory, with hosts of its own, and give that with --inventory")
	}
	if err := a.vacant(ctx, refuse); err != nil {
		return nil, err
	}
	if a.Peek, err = c.plan(ctx, a.of, at, set, fmt.Sprintf("cannot make cluster %s of %s as of %s", name, c.Name, at)); err != nil {
		return nil, err
	}
	m := a.Peek.plan.Manifest
	if strconv.Itoa(f.Postgres.Major) != m.DB.Version {
		return nil, refuse("restore-refused", fmt.Sprintf("the backup is of PostgreSQL %s, and %s would have %d", m.DB.Version, name, f.Postgres.Major), "give the new cluster the same pg_version")
	}
	if i := slices.IndexFunc(m.Targets, func(t repo.Target) bool { return t.Tablespace != "" }); i >= 0 {
		return nil, refuse("restore-refused", "tablespace "+m.Targets[i].SpaceName+" has its place already, and there is no second one for it", "take out what you need with --peek")
	}
	a.Peek.node = f // whose programs and user it is from here on
	return a, nil
}

// describe says what playground the new cluster makes of the one that is there.
func (a *Anew) describe(h House, there []spec.Node, inv Inventory, refuse func(code, why, do string) error) (playground.Options, error) {
	o := playground.Options{Dir: h.Dir, World: inv.World, Only: []string{a.Name}, Keep: true}
	if inv.World.File == "" {
		last := netip.Addr{}
		count := 0
		for _, n := range there {
			if at, err := netip.ParseAddr(n.Host); err == nil && last.Less(at) {
				last = at
			}
			if n.Cluster == a.source.Name && n.Postgres.Data != "" {
				count++
			}
		}
		o.World = playground.Demo(a.Name, last.Next(), count)
	}
	i := slices.IndexFunc(o.World.Clusters, func(c spec.Cluster) bool { return c.Name == a.Name })
	if i < 0 {
		return o, refuse("restore-refused", "the inventory "+o.World.File+" has no cluster "+a.Name, "declare it there, with hosts of its own")
	}
	// Roles come with the data, and their passwords are the other's until somebody
	// applies the inventory.
	have, err := nodefile.Secrets(a.of)
	if err != nil {
		return o, err
	}
	for _, name := range []string{spec.SecretSuper, spec.SecretReplicate} {
		o.World.Clusters[i].Secrets[name] = have[name]
	}
	return o, nil
}

// vacant refuses a place where something of that name is already.
func (a *Anew) vacant(ctx context.Context, refuse func(code, why, do string) error) error {
	i := slices.IndexFunc(a.options.World.Clusters, func(c spec.Cluster) bool { return c.Name == a.Name })
	for _, one := range a.founder.Repositories() {
		if !one.Backup.Shared() {
			continue
		}
		at, err := keep.OpenWith(one, a.options.World.Clusters[i].Secrets)
		if err != nil {
			return err
		}
		v, err := backup.Look(ctx, at)
		if err != nil {
			return err
		}
		if !v.NoPath {
			return refuse("restore-refused", one.Backup.Bucket.String()+" has backups or WAL of a cluster "+a.Name+" already", "give another name, or another path in the bucket")
		}
	}
	return nil
}

// resume is the plan where the new cluster is there, and has not begun.
func (a *Anew) resume(ctx context.Context, h House, refuse func(code, why, do string) error) error {
	made, err := h.Open(a.Name)
	if err != nil {
		return err
	}
	defer made.Close()
	s, err := made.State(ctx)
	if err != nil {
		return err
	}
	for _, n := range made.Nodes {
		if readable(n.Postgres.Data) && (n.Member == n.Agent.Founder || a.founder.Member == "") {
			a.founder = n
		}
	}
	if s.Initialize.System != 0 || a.founder.Member == "" {
		return refuse("restore-refused", "there is a cluster "+a.Name+" already", "give another name; `howdah list "+a.Name+"` shows that one")
	}
	a.resuming = true
	return nil
}

// Apply does it.
func (a *Anew) Apply(ctx context.Context, tell func(RestoreStep)) error {
	h := House{Dir: filepath.Dir(a.source.Dir)}
	if !a.resuming {
		if err := a.make(ctx, h, tell); err != nil {
			return err
		}
	}
	return a.begin(ctx, h, tell)
}

// make restores the data of the new cluster's first member, before anything of the
// cluster runs, and then describes and starts it.
func (a *Anew) make(ctx context.Context, h House, tell func(RestoreStep)) error {
	p, n := a.Peek, a.founder
	owner, err := node.Account(n.User)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(n.Paths.Dir), 0o755); err != nil {
		return err
	}
	if err := os.Mkdir(n.Paths.Dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	if owner.UID >= 0 {
		if err := os.Lchown(n.Paths.Dir, owner.UID, owner.GID); err != nil {
			return err
		}
	}
	lock, err := a.source.lockRestore(n)
	if err != nil {
		return err
	}
	defer lock.Close()
	secrets, err := nodefile.Secrets(a.of)
	if err != nil {
		return err
	}
	if _, err := nodefile.MergeSecrets(n.Paths.Secrets, secrets, owner.UID, owner.GID); err != nil {
		return err
	}
	data := n.Postgres.Data
	if err := idle(ctx, data); err != nil { // of a command that was killed
		return err
	}
	defer unspool(data)
	if err := p.into(ctx, data, owner, tell); err != nil {
		return err
	}
	tell(RestoreStep{Does: fmt.Sprintf("replaying WAL from %s to %s", p.First, p.To), Began: time.Now()})
	s := settling{node: n, owner: owner, data: data, log: filepath.Join(n.Paths.Dir, "restore.log"), whole: p.To.Kind == Latest && p.flush.LSN == ""}
	if err := s.run(ctx, p.died); err != nil {
		if problem.Code(err) != "" || ctx.Err() != nil {
			return err
		}
		return &problem.Error{Code: "restore-failed", What: p.what, Why: "the data in " + data + " do not come up: " + err.Error(), Do: "see " + s.log + "; cluster " + a.source.Name + " was not touched"}
	}
	tell(RestoreStep{Does: "starting " + strings.Join(a.Members, ", "), Began: time.Now()})
	was, err := playground.Nodes(h.Dir)
	if err != nil {
		return err
	}
	_, nodes, err := playground.Up(ctx, a.options, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	for _, n := range nodes {
		if err := renew(arrangement{was: was}.old(n), n, false); err != nil {
			return err
		}
	}
	return nil
}

// begunWithin is how long the first member of a new cluster may take to show itself.
const begunWithin = 2 * time.Minute

// begin says that the cluster begins with the data of its first member, which
// nobody else may decide: data of an earlier life are no basis for a new cluster.
func (a *Anew) begin(ctx context.Context, h House, tell func(RestoreStep)) error {
	c, err := h.Open(a.Name)
	if err != nil {
		return err
	}
	defer c.Close()
	failed := func(why string) error {
		return &problem.Error{
			Code: "restore-failed", What: "cluster " + a.Name + " does not begin with what was restored", Why: why,
			Do: "see `howdah why " + a.Name + "`; given again, the command goes on",
		}
	}
	wait, cancel := context.WithTimeout(ctx, begunWithin)
	defer cancel()
	var seen cluster.State
	if err := c.watch(wait, func(s cluster.State) bool {
		seen = s
		_, shows := s.Member(a.founder.Member)
		return shows || s.Initialize.System != 0
	}); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return failed(a.founder.Member + " has not shown itself within " + begunWithin.String())
	}
	if seen.Initialize.System == 0 && seen.Failover.Member != a.founder.Member {
		ask := dcs.Put(cluster.KeyFailover, cluster.Failover{Member: a.founder.Member}.Encode(), 0)
		switch _, ok, err := c.commit(ctx, []dcs.Op{ask}, unless(cluster.KeyFailover, seen.Failover.Mod)); {
		case err != nil:
			return err
		case !ok:
			return failed("somebody else has asked for a leader of it meanwhile")
		}
	}
	last := ""
	s, err := c.AwaitHealthy(ctx, func(step Step) {
		if text := step.Member + ": " + step.State; text != last {
			last = text
			tell(RestoreStep{Does: text, Began: time.Now()})
		}
	})
	if err != nil {
		return err
	}
	if a.Peek != nil && s.Initialize.System != a.Peek.plan.Manifest.DB.System {
		return failed("its members have begun with an empty database, because " + a.founder.Member + " was away")
	}
	if members, _ := c.repositories(); len(members) == 0 {
		return nil
	}
	tell(RestoreStep{Does: "making a full backup", Began: time.Now()})
	plan, err := c.firstBackup(ctx)
	if err == nil {
		_, err = c.Backup(ctx, plan, func(run keep.Run) { tell(RestoreStep{run.Does, run.Done, run.Total, run.Began}) })
	}
	return err
}

// firstBackup waits until the jobs of a leader that has just begun answer.
func (c *Cluster) firstBackup(ctx context.Context) (BackupPlan, error) {
	limit := c.now().Add(time.Minute)
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		p, err := c.PlanBackup(ctx, repo.Full, "")
		if err == nil || c.now().After(limit) {
			return p, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return p, context.Cause(ctx)
		}
	}
}
