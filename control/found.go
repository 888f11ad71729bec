package control

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"howdah/backup"
	"howdah/backup/keep"
	"howdah/backup/repo"
	"howdah/backup/restore"
	"howdah/node"
	"howdah/postgres/conf"
	"howdah/problem"
	"howdah/spec"
)

// A Founding is what a new cluster begins with: another one's backup and WAL, out of
// repositories that somebody's configuration of pgBackRest leads to. They are read,
// and nothing else.
type Founding struct{ *Peek }

// String says which backup, and what of the log.
func (f Founding) String() string {
	return fmt.Sprintf("%s backup %s of %s, which ended %s and takes %s, and WAL from %s to %s (of %d segments up to %s)",
		f.Type, f.Backup, f.Member, f.Stop.UTC().Format(time.DateTime), repo.Size(f.Size), f.First, f.To, f.WAL, f.Last)
}

// PlanFound finds out what the data of n are to be made of, which begins its cluster
// (spec.Origin), and refuses what cannot be done. Nothing is written.
func PlanFound(ctx context.Context, n spec.Node, from []*backup.Stanza) (Founding, error) {
	o := n.Postgres.Origin
	what := fmt.Sprintf("cannot begin cluster %s with a backup of stanza %s", n.Cluster, o.Stanza)
	cannot := func(why, do string) error {
		return &problem.Error{Code: "cluster-repository", What: what, Why: why, Do: do}
	}
	text := o.To
	if text == "" {
		text = Latest
	}
	at, err := ParseMoment(text, time.Now())
	if err != nil {
		return Founding{}, err
	}
	if at.Kind == restore.Time {
		if _, err := restore.ParseTime(text); err != nil { // given again it would be another moment
			return Founding{}, cannot(strconv.Quote(text)+" is no certain moment", "give a time with its date, like '2026-11-21 14:30:00+00'")
		}
	}
	p := &Peek{Cluster: o.Stanza, To: at, Notes: []string{}, node: n, what: what, dir: existing(n.Paths.Dir), somebodys: true}
	var sources []source
	for _, s := range from {
		sources = append(sources, source{member: s.String(), stanza: s, config: o.Config})
	}
	unreachable := func(why, do string) error {
		return &problem.Error{Code: "restore-unreachable", What: what, Why: why, Do: do}
	}
	refusals := p.among(ctx, sources, o.Set, unreachable)
	if p.from.stanza == nil {
		for _, err := range refusals {
			if problem.Code(err) != "" {
				return Founding{}, err
			}
		}
		return Founding{}, &problem.Error{
			Code: "cluster-repository", What: what, Err: errors.Join(refusals...),
			Do: "see `howdah pgbackrest --config=" + o.Config + " --stanza=" + o.Stanza + " info`, as PostgreSQL's user of that machine",
		}
	}
	p.tell()
	m := p.plan.Manifest
	if strconv.Itoa(n.Postgres.Major) != m.DB.Version {
		return Founding{}, cannot(fmt.Sprintf("the backup is of PostgreSQL %s, and the cluster would have %d", m.DB.Version, n.Postgres.Major), "give the cluster that pg_version")
	}
	if i := slices.IndexFunc(m.Targets, func(t repo.Target) bool { return t.Tablespace != "" }); i >= 0 {
		return Founding{}, cannot("tablespace "+m.Targets[i].SpaceName+" has a place of its own, and nobody says where that is here",
			"restore it to one server with `howdah pgbackrest restore --tablespace-map`, and let the cluster follow that (pg_upstream)")
	}
	if err := alone(ctx, n, cannot); err != nil {
		return Founding{}, err
	}
	return Founding{p}, p.room(what)
}

// alone refuses a bucket in which something of the cluster's name is already: it may be
// the very one that is read, and somebody else's to write into.
func alone(ctx context.Context, n spec.Node, cannot func(why, do string) error) error {
	for _, one := range n.Repositories() {
		if !one.Backup.Shared() {
			continue
		}
		at, err := keep.Open(one)
		if err != nil {
			return err
		}
		v, err := backup.Look(ctx, at)
		if err != nil {
			return err
		}
		if !v.NoPath {
			return cannot(one.Backup.Bucket.String()+" has backups or WAL of a cluster "+n.Cluster+" already, and the new one would write there",
				"give the cluster another name, or another path in the bucket")
		}
	}
	return nil
}

// existing is the nearest directory that is there.
func existing(dir string) string {
	for {
		if _, err := os.Stat(dir); err == nil || filepath.Dir(dir) == dir {
			return dir
		}
		dir = filepath.Dir(dir)
	}
}

// Make fills the data directory, which must be there and empty, and leaves in it a
// database that was shut down in good order, on a timeline of its own.
func (f Founding) Make(ctx context.Context, tell func(RestoreStep)) error {
	p, n := f.Peek, f.node
	owner, err := node.Account(n.User)
	if err != nil {
		return err
	}
	data := n.Postgres.Data
	defer unspool(data)
	if err := spoolFor(data, owner); err != nil {
		return err
	}
	r, began := p.restore(data, p.from.config), time.Now()
	r.Workers = 4
	r.Progress = func(done, total int64) { tell(RestoreStep{"restoring backup " + p.Backup, done, total, began}) }
	if _, err := r.From(ctx, p.from.stanza); err != nil {
		return peekFailed(p, "", err)
	}
	if err := disown(data); err != nil {
		return err
	}
	tell(RestoreStep{Does: fmt.Sprintf("replaying WAL from %s to %s", p.First, p.To), Began: time.Now()})
	s := settling{node: n, owner: owner, data: data, log: filepath.Join(n.Paths.Dir, "restore.log"), whole: p.To.Kind == Latest}
	err = s.run(ctx, p.died)
	if err == nil || problem.Code(err) != "" || ctx.Err() != nil {
		return err
	}
	return &problem.Error{Code: "cluster-repository", What: p.what, Why: "the data in " + data + " do not come up: " + err.Error(), Do: "see " + s.log}
}

// disown takes from restored data what they were told to be where they come from: where
// to archive to, whom to follow, whom to let in. It is kept to be read. What clients
// would notice (conf.Manners) stays as it was; everything else the inventory says.
func disown(data string) error {
	const kept = ".before"
	var manners, recovery strings.Builder
	for _, name := range []string{conf.Base, conf.File, conf.Auto} {
		text, err := os.ReadFile(filepath.Join(data, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		own := string(text)
		if i := strings.Index(own, restore.RecoverySection); i >= 0 && name == conf.Auto {
			recovery.WriteString(own[i:])
			own = own[:i]
		}
		manners.WriteString(conf.Manners(own))
	}
	for _, name := range []string{conf.Base, conf.File, conf.Auto, conf.HBA, "pg_ident.conf"} {
		if err := os.Rename(filepath.Join(data, name), filepath.Join(data, name+kept)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return errors.Join(
		os.WriteFile(filepath.Join(data, conf.File), []byte("# What was restored said more, in "+conf.File+kept+" and "+conf.Auto+kept+".\n"+manners.String()), 0o600),
		os.WriteFile(filepath.Join(data, conf.Auto), []byte(recovery.String()), 0o600),
	)
}
