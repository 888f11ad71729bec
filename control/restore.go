package control

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"howdah/backup/keep"
	"howdah/backup/repo"
	"howdah/backup/server"
	"howdah/cluster"
	"howdah/dcs"
	"howdah/node"
	"howdah/pg"
	"howdah/postgres"
	"howdah/problem"
	"howdah/spec"
)

// A Restoration brings a whole cluster back to a moment, in place. It is a plan
// first. Its steps are recorded in the store (cluster.Restore): given again, the
// command goes on where it was.
type Restoration struct {
	*Peek              // backup, WAL and moment; nil: it is only to be gone on with, or undone
	Leader   string    `json:"leader"` // on whose host it is made, and who leads afterwards
	Others   []string  `json:"others"` // who follow it then, with data made anew
	Record   *Restored `json:"record"`
	Undoes   bool      `json:"undoes,omitempty"` // it puts back what the last one moved aside
	cluster  *Cluster
	node     spec.Node
	resuming bool // the leader was asked, or has turned: what is left is to wait
	abandons bool // the leader was not: nothing of it is to be left
}

// Restored is the record of a restore.
type Restored = cluster.Restore

// String says what it would do.
func (r *Restoration) String() string {
	text := fmt.Sprintf("bring cluster %s back to %s: ", r.cluster.Name, r.Record.To)
	switch {
	case r.abandons:
		return fmt.Sprintf("give up bringing cluster %s back to %s, and remove what was restored", r.cluster.Name, r.Record.To)
	case r.resuming:
		text += "go on with what was asked of " + r.Leader
	case r.Undoes:
		text += "the data of " + r.Leader + " in " + r.Record.Made + " take the place of those there are"
	default:
		text += fmt.Sprintf("%s backup %s (ended %s, %s) and WAL from %s are restored beside the data of %s, which then turns to it and loses every later commit",
			r.Peek.Type, r.Peek.Backup, r.Stop.Local().Format(time.DateTime), repo.Size(r.Size), r.First, r.Leader)
	}
	if !r.resuming {
		text += "; what is there now is kept in " + filepath.Join(r.node.Paths.Dir, r.Record.Aside)
	}
	if len(r.Others) > 0 {
		text += "; " + strings.Join(r.Others, " and ") + " follow with data of their own kept aside"
	}
	return text
}

func (c *Cluster) refuseRestore(code, why, do string) error {
	return &problem.Error{Code: code, What: "cannot bring cluster " + c.Name + " back", Why: why, Do: do}
}

// restorable is the leader, on this machine, of a cluster that can be restored.
func (c *Cluster) restorable(ctx context.Context) (cluster.State, spec.Node, error) {
	s, err := c.State(ctx)
	if err != nil {
		return s, spec.Node{}, err
	}
	n, here := c.node(s.LeaderName())
	foreign := slices.IndexFunc(s.Members, func(m cluster.Member) bool { return !s.Ours(m.Name) })
	switch {
	case s.LeaderName() == "":
		return s, n, c.refuseRestore("leader-none", "it has no leader, whose data are the ones to be kept aside", "see `howdah why "+c.Name+"`")
	case s.Unknown(cluster.KeyRestore):
		return s, n, c.refuseRestore("restore-refused", "the key "+cluster.KeyRestore+" in its store cannot be read", "repair or remove it, when you know what it was")
	case s.Config.Pause():
		return s, n, c.refuseRestore("restore-refused", "it is paused", "`howdah resume "+c.Name+"` first")
	case foreign >= 0:
		return s, n, c.refuseRestore("restore-refused", s.Members[foreign].Name+" is none of Howdah's members, and would not know that its log is of before the restore", "take it out of the cluster first")
	case !here || n.Postgres.Data == "" || !readable(filepath.Dir(n.Postgres.Data)):
		return s, n, c.refuseRestore("restore-refused", s.LeaderName()+" leads, and its data are not on this machine, or not to be read", "run this there, as root or PostgreSQL's user; or `howdah switchover` to a member of this machine first")
	}
	return s, n, nil
}

// PlanRestore finds out what bringing the cluster back takes, and refuses what
// cannot be done. What was begun before, and has gone so far that the leader was
// asked, is gone on with.
func (c *Cluster) PlanRestore(ctx context.Context, to, set string) (*Restoration, error) {
	at, err := ParseMoment(to, time.Now())
	if err != nil {
		return nil, err
	}
	s, n, err := c.restorable(ctx)
	if err != nil {
		return nil, err
	}
	if s.Standby() {
		return nil, c.refuseRestore("restore-refused", "it follows another cluster, and what it has is that one's", "restore that one, or promote this one first (`howdah edit-config "+c.Name+" --set standby_cluster=null`)")
	}
	r := &Restoration{Leader: n.Member, cluster: c, node: n, Others: others(s, n.Member)}
	old := s.Restore
	if old != nil {
		switch {
		case old.Phase == cluster.RestoreTurned, old.Phase == cluster.RestoreAsked && old.Member == n.Member && s.Timeline() < old.Timeline:
			r.resuming, r.Record, r.Leader = true, old, old.Member
			return r, nil
		case old.Phase == cluster.RestoreDone && old.Aside != "":
			return nil, c.refuseRestore("restore-unconfirmed", "it was brought back to "+old.To+" before, and what it had then is still kept on "+old.Member,
				"`howdah restore "+c.Name+" --confirm` removes that, `--undo` goes back to it")
		}
	}
	if r.Peek, err = c.plan(ctx, n, at, set, fmt.Sprintf("cannot bring cluster %s back to %s", c.Name, at)); err != nil {
		return nil, err
	}
	if at.Kind == Latest && r.flush.LSN == "" {
		return nil, c.refuseRestore("restore-refused", "the leader has not archived what it has: "+strings.Join(r.Notes, "; "), "remove the cause, or give a moment")
	}
	if i := slices.IndexFunc(r.Peek.plan.Manifest.Targets, func(t repo.Target) bool { return t.Tablespace != "" }); i >= 0 {
		return nil, c.refuseRestore("restore-refused", "tablespace "+r.Peek.plan.Manifest.Targets[i].SpaceName+" has its place already, and there is no second one for it",
			"take out what you need with --peek; or restore every member by hand with `howdah pgbackrest restore --tablespace-map`")
	}
	if err := c.oneSystem(n); err != nil {
		return nil, err
	}
	id := time.Now().UTC().Format("20060102T150405Z")
	r.Record = &cluster.Restore{ID: id, Member: n.Member, To: at.String(), Backup: r.Backup, Timeline: s.Reserved() + 1, Phase: cluster.RestoreMaking, Made: madeDir + id, Aside: "kept/before-" + id}
	if old != nil && old.Phase == cluster.RestoreMaking && old.Member == n.Member && strings.HasPrefix(old.Made, madeDir) { // what was restored of it is of use
		r.Record.ID, r.Record.Made, r.Record.Aside, r.Record.Mod = old.ID, old.Made, old.Aside, old.Mod
	} else if old != nil {
		r.Record.Mod = old.Mod
	}
	return r, nil
}

// madeDir begins the names of directories that a restore makes. What is undone is
// made of one that was kept, which nobody removes unasked.
const madeDir = "restore-"

func others(s cluster.State, leader string) []string {
	return slices.DeleteFunc(s.Names(), func(name string) bool { return name == leader })
}

// oneSystem refuses a data directory that cannot be exchanged by a rename.
func (c *Cluster) oneSystem(n spec.Node) error {
	var data, dir unix.Stat_t
	if err := errors.Join(unix.Stat(n.Postgres.Data, &data), unix.Stat(n.Paths.Dir, &dir)); err != nil {
		return err
	}
	if data.Dev != dir.Dev {
		return c.refuseRestore("restore-refused", n.Postgres.Data+" is a file system of its own, and cannot be moved aside", "let the data directory lie in "+n.Paths.Dir)
	}
	return nil
}

// PlanUndo is the way back from the last restore: nothing is left of one that the
// leader has not turned to; of one that is done what was moved aside is put back.
func (c *Cluster) PlanUndo(ctx context.Context) (*Restoration, error) {
	s, n, err := c.restorable(ctx)
	if err != nil {
		return nil, err
	}
	old := s.Restore
	r := &Restoration{Leader: n.Member, cluster: c, node: n, Others: others(s, n.Member), Undoes: true}
	switch {
	case old == nil || old.Phase == cluster.RestoreDone && old.Aside == "":
		return nil, c.refuseRestore("restore-none", "nothing is kept of what it was before", "see `howdah backups "+c.Name+"` for what it can be brought back to")
	case old.Phase != cluster.RestoreDone && strings.HasPrefix(old.Made, madeDir):
		r.abandons, r.Record = true, old
		return r, nil
	case old.Member != n.Member:
		return nil, c.refuseRestore("restore-refused", "what is to be undone lies on "+old.Member+", and "+n.Member+" leads", "`howdah switchover "+c.Name+" --to "+old.Member+"` first")
	case old.Phase == cluster.RestoreMaking: // an undo that was interrupted
		next := *old
		next.Timeline = s.Reserved() + 1
		r.Record = &next
		return r, nil
	case old.Phase != cluster.RestoreDone:
		r.resuming, r.Record = true, old
		return r, nil
	}
	id := time.Now().UTC().Format("20060102T150405Z")
	r.Record = &cluster.Restore{Mod: old.Mod, ID: id, Member: n.Member, To: "what it was before " + old.To, Timeline: s.Reserved() + 1, Phase: cluster.RestoreMaking, Made: old.Aside, Aside: "kept/undone-" + id}
	return r, nil
}

// A RestoreStep is what is being done, and how far it is.
type RestoreStep struct {
	Does        string
	Done, Total int64 // bytes; 0: not known
	Began       time.Time
}

// restoredWithin is how long the leader may take to turn, and the others to follow.
const (
	turnedWithin   = 3 * time.Minute
	followedWithin = 24 * time.Hour // as long as the data are large
)

// Apply does it.
func (r *Restoration) Apply(ctx context.Context, tell func(RestoreStep)) error {
	c := r.cluster
	lock, err := c.lockRestore(r.node)
	if err != nil {
		return err
	}
	defer lock.Close()
	if r.abandons {
		return r.abandon(ctx)
	}
	if !r.resuming {
		r.Record.Phase, r.Record.By, r.Record.At = cluster.RestoreMaking, person(), time.Now().UTC()
		if err := r.record(ctx); err != nil {
			return err
		}
		if err := r.make(ctx, tell); err != nil {
			return err
		}
		r.Record.Phase = cluster.RestoreAsked
		if err := r.record(ctx); err != nil {
			return err
		}
	}
	return r.follow(ctx, c, tell)
}

// lockRestore keeps a second command out.
func (c *Cluster) lockRestore(n spec.Node) (*os.File, error) {
	f, err := node.Lock(filepath.Join(n.Paths.Dir, "restore.lock"))
	if errors.Is(err, node.ErrLocked) {
		err = c.refuseRestore("restore-refused", "another command is at it", "wait for its end")
	}
	return f, err
}

// record puts the record over the one that was seen, while this member leads.
func (r *Restoration) record(ctx context.Context) error {
	s, err := r.cluster.State(ctx)
	if err != nil {
		return err
	}
	if s.LeaderName() != r.Leader {
		return r.cluster.refuseRestore("restore-refused", r.Leader+" does not lead any more; now it is "+s.LeaderName(), "give the command again")
	}
	rev, ok, err := r.cluster.commit(ctx, []dcs.Op{dcs.Put(cluster.KeyRestore, r.Record.Encode(), 0)}, unless(cluster.KeyRestore, r.Record.Mod), dcs.ModIs(cluster.KeyLeader, s.Leader.Mod))
	switch {
	case err != nil:
		return err
	case !ok:
		return r.cluster.refuseRestore("restore-refused", "somebody else has changed what is to be restored, or who leads, meanwhile", "give the command again")
	}
	r.Record.Mod = rev
	return nil
}

// make restores into a directory beside the data, and settles that.
func (r *Restoration) make(ctx context.Context, tell func(RestoreStep)) error {
	owner, err := node.Account(r.node.User)
	if err != nil {
		return err
	}
	data := filepath.Join(r.node.Paths.Dir, r.Record.Made)
	s := settling{node: r.node, owner: owner, data: data, log: filepath.Join(r.node.Paths.Dir, "restore.log"), tl: r.Record.Timeline, standby: r.Undoes}
	if err := idle(ctx, data); err != nil {
		return err
	}
	left, _ := filepath.Glob(filepath.Join(r.node.Paths.Dir, madeDir+"*"))
	for _, dir := range left { // of restores that were given up while this was another's
		if dir != data && idle(ctx, dir) == nil {
			_ = os.RemoveAll(dir)
		}
	}
	p := &Peek{Cluster: r.cluster.Name, node: r.node, what: "cannot undo the restore of cluster " + r.cluster.Name}
	if !r.Undoes {
		p = r.Peek
		defer unspool(data)
		if err := p.into(ctx, data, owner, tell); err != nil {
			return err
		}
		tell(RestoreStep{Does: fmt.Sprintf("replaying WAL from %s to %s", r.First, r.To), Began: time.Now()})
	} else {
		tell(RestoreStep{Does: "beginning timeline " + r.Record.Timeline.String() + " on " + data, Began: time.Now()})
	}
	if err := s.run(ctx, p.died); err != nil {
		if problem.Code(err) != "" || ctx.Err() != nil {
			return err
		}
		return r.cluster.refuseRestore("restore-failed", "the data in "+data+" do not come up: "+err.Error(), "see "+s.log+"; the cluster was not touched")
	}
	return nil
}

// into brings the backup into data; what is right there already stays.
func (p *Peek) into(ctx context.Context, data string, owner node.User, tell func(RestoreStep)) error {
	_, err := os.Stat(filepath.Join(data, "PG_VERSION"))
	delta := err == nil
	if !delta {
		if err := os.RemoveAll(data); err != nil {
			return err
		}
		if err := os.Mkdir(data, 0o700); err != nil {
			return err
		}
		if owner.UID >= 0 {
			if err := os.Lchown(data, owner.UID, owner.GID); err != nil {
				return err
			}
		}
	}
	config := p.from.config
	if config == "" {
		aside := data + fetched
		if err := errors.Join(os.RemoveAll(aside), os.Mkdir(aside, 0o755)); err != nil {
			return err
		}
		if owner.UID >= 0 {
			if err := os.Lchown(aside, owner.UID, owner.GID); err != nil {
				return err
			}
		}
		if config, err = p.fetch(ctx, aside, owner, func(step string) { tell(RestoreStep{Does: step, Began: time.Now()}) }); err != nil {
			return peekFailed(p, "", err)
		}
	}
	if err := spoolFor(data, owner); err != nil {
		return err
	}
	how, began := p.restore(data, config), time.Now()
	how.Delta = delta
	step := RestoreStep{Does: "restoring backup " + p.Backup, Total: p.Size, Began: began}
	tell(step)
	how.Progress = func(done, total int64) { tell(RestoreStep{step.Does, done, total, began}) }
	if _, err := how.From(ctx, p.from.stanza); err != nil {
		return peekFailed(p, "", err)
	}
	return nil
}

// idle waits for the server of a command that was killed: it goes with that, and
// may leave its pid file.
func idle(ctx context.Context, data string) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, runs := postgres.Postmaster(data); !runs {
			if err := os.Remove(filepath.Join(data, "postmaster.pid")); !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// follow waits until the leader has turned, the others follow, and a backup of
// what is there now is made.
func (r *Restoration) follow(ctx context.Context, c *Cluster, tell func(RestoreStep)) error {
	tell(RestoreStep{Does: "turning " + r.Leader + " to timeline " + r.Record.Timeline.String(), Began: time.Now()})
	wait, cancel := context.WithTimeout(ctx, turnedWithin)
	defer cancel()
	gone := false
	err := c.watch(wait, func(s cluster.State) bool {
		gone = s.Restore == nil || s.Restore.ID != r.Record.ID
		m, _ := s.Member(r.Leader)
		return gone || s.Restore.Phase == cluster.RestoreDone && m.Role == cluster.RolePrimary && m.Running()
	})
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		return c.refuseRestore("restore-stuck", r.Leader+" has not turned within "+turnedWithin.String(), "see `howdah why "+c.Name+"`; given again, the command goes on; --undo gives it up while it has not turned")
	case gone:
		return c.refuseRestore("restore-refused", "it was given up by somebody else", "nothing of it is left")
	}
	r.Record.Phase = cluster.RestoreDone
	tell(RestoreStep{Does: "waiting for " + strings.Join(r.Others, " and ") + " to follow", Began: time.Now()})
	wait, cancel = context.WithTimeout(ctx, followedWithin)
	defer cancel()
	if err := c.watch(wait, func(s cluster.State) bool {
		return !slices.ContainsFunc(s.Members, func(m cluster.Member) bool {
			return m.Name != r.Leader && (!m.Running() || m.Timeline < r.Record.Timeline || m.ReplicationState != cluster.ReplicationStreaming)
		})
	}); err != nil {
		return err
	}
	tell(RestoreStep{Does: "making a full backup", Began: time.Now()})
	plan, err := c.PlanBackup(ctx, repo.Full, "")
	if err == nil {
		_, err = c.Backup(ctx, plan, func(run keep.Run) { tell(RestoreStep{run.Does, run.Done, run.Total, run.Began}) })
	}
	return err
}

// lost says that the restored data are not there any more, and never were in place:
// the leader can only go on with what it has.
func (r *Restoration) lost() bool {
	n, here := r.cluster.node(r.Record.Member)
	if !here || !readable(n.Paths.Dir) {
		return false
	}
	_, err := os.Lstat(filepath.Join(n.Paths.Dir, r.Record.Made))
	now, unread := timelineOf(n.Postgres.Data)
	return errors.Is(err, fs.ErrNotExist) && unread == nil && now < r.Record.Timeline
}

// abandon gives up a restore that the leader has not turned to.
func (r *Restoration) abandon(ctx context.Context) error {
	if r.Record.Turned() && !r.lost() {
		return r.cluster.refuseRestore("restore-refused", r.Record.Member+" has turned to it and is not done", "wait until it is (`howdah why "+r.cluster.Name+"`), then give this again")
	}
	_, ok, err := r.cluster.commit(ctx, []dcs.Op{dcs.Delete(cluster.KeyRestore)}, unless(cluster.KeyRestore, r.Record.Mod))
	switch {
	case err != nil:
		return err
	case !ok:
		return r.cluster.refuseRestore("restore-refused", "it has gone on meanwhile", "give the command again")
	}
	r.Record.Phase = ""
	n, here := r.cluster.node(r.Record.Member)
	if !here {
		return nil // what is left there is removed by the next
	}
	data := filepath.Join(n.Paths.Dir, r.Record.Made)
	if err := idle(ctx, data); err != nil {
		return err
	}
	return os.RemoveAll(data)
}

// timelineOf is that of the last checkpoint of a data directory.
func timelineOf(data string) (pg.Timeline, error) {
	control, err := server.ReadControl(data)
	return control.Timeline, err
}
