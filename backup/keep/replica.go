package keep

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"howdah/backup"
	"howdah/backup/repo"
	"howdah/backup/restore"
	"howdah/pg"
	"howdah/problem"
	"howdah/spec"
)

// A Replica is the data of a member as one of its repositories has them, to be
// restored as those of a standby.
type Replica struct {
	Repository string // a directory or a bucket
	Backup     string // label
	Stop       time.Time
	Segments   int // of WAL that the archive has for it
	restore    restore.Restore
	from       *backup.Stanza
}

// String says which backup, and why that one.
func (r Replica) String() string {
	return fmt.Sprintf("backup %s of %s, which is the newest there (it ended %s), and %d segments of WAL", r.Backup, r.Repository, r.Stop.UTC().Format(time.DateTime), r.Segments)
}

// PlanReplica finds the newest backup of the system among the repositories that the
// node reads by itself, the nearest first: that on its own disk, before a bucket. What
// will not do is passed over: another system's, another version's, one whose WAL has a
// hole before its end, or after it, from where the leader may have nothing any more.
func PlanReplica(ctx context.Context, n spec.Node, system pg.SystemID) (Replica, error) {
	all := n.Repositories()
	slices.SortStableFunc(all, func(a, b spec.Node) int { return cmp.Compare(far(a), far(b)) })
	var why []string
	for _, one := range all {
		r, err := replicaFrom(ctx, one, system)
		if err == nil {
			return r, nil
		}
		why = append(why, place(one)+": "+err.Error())
	}
	return Replica{}, &problem.Error{
		Code: "replica-repository", What: "there is no backup to make the data of " + n.Member + " from", Why: strings.Join(why, "; "),
		Do: "see `howdah backups " + n.Cluster + "`",
	}
}

func far(n spec.Node) int {
	if n.Backup.Shared() {
		return 1
	}
	return 0
}

func place(n spec.Node) string {
	if n.Backup.Shared() {
		return n.Backup.Bucket.String()
	}
	return n.Backup.Repo
}

func replicaFrom(ctx context.Context, n spec.Node, system pg.SystemID) (Replica, error) {
	at, err := Open(n)
	if err != nil {
		return Replica{}, err
	}
	info, err := at.BackupInfo(ctx)
	if err != nil {
		return Replica{}, err
	}
	why := "it has no backup"
	for _, b := range slices.Backward(info.Backups) {
		i := slices.IndexFunc(info.History, func(d repo.DB) bool { return d.ID == b.DB })
		if i < 0 || info.History[i].System != system || n.Postgres.Major != 0 && info.History[i].Version != strconv.Itoa(n.Postgres.Major) {
			why = "backup " + b.Label + " is of another database system"
			continue
		}
		r := restore.Restore{Path: n.Postgres.Data, Set: b.Label, Type: restore.Standby, Workers: workers()}
		p, err := r.Plan(ctx, at)
		switch {
		case err != nil:
			why = "backup " + b.Label + ": " + err.Error()
			continue
		case slices.ContainsFunc(p.Manifest.Targets, func(t repo.Target) bool { return t.Tablespace != "" }):
			// What a restore that failed leaves there would be in every later copy's way.
			why = "backup " + b.Label + " has tablespaces, of which only a base backup is made"
			continue
		case !p.Whole() || p.Last[8:] < b.ArchiveStop[8:]:
			why = "backup " + b.Label + " lacks WAL from " + cmp.Or(p.Missing, b.ArchiveStop) + " on"
			continue
		}
		if n.Backup.Shared() {
			r.Workers = 8 // a request is mostly waited for
		}
		return Replica{Repository: place(n), Backup: b.Label, Stop: time.Unix(b.Stop, 0), Segments: p.Segments, restore: r, from: at}, nil
	}
	return Replica{}, errors.New(why)
}

// Make restores it into the data directory, which must be there and empty.
func (r Replica) Make(ctx context.Context, progress func(done, total int64)) error {
	r.restore.Progress = progress
	if _, err := r.restore.From(ctx, r.from); err != nil {
		return &problem.Error{
			Code: "replica-repository", What: "cannot restore backup " + r.Backup + " into " + r.restore.Path, Err: err,
			Do: "`howdah pgbackrest verify` says what is wrong with the repository",
		}
	}
	return nil
}
