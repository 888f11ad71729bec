package control

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"howdah/backup/keep"
	"howdah/backup/repo"
	"howdah/problem"
	"howdah/spec"
)

// The words of the backup wing, for doors.
type (
	BackupType    = repo.Type
	BackupRun     = keep.Run
	BackupArchive = keep.Archive
	DrillReport   = keep.Drill
	Repository    = keep.State // of one member, or of a bucket
)

// repositoryWithin is the time that a member has to say what its repository has;
// a status does not wait as long.
const (
	repositoryWithin = 5 * time.Second
	repositorySoon   = time.Second
)

// Backups are what the members' repositories have.
type Backups struct {
	Cluster string       `json:"cluster"`
	Leader  string       `json:"leader"` // who makes backups now; "": nobody says that it leads
	Backups []HeldBackup `json:"backups"`
	Members []keep.State `json:"members"`          // of several repositories each member says something of each
	Copies  int          `json:"copies"`           // so many members are to hold each backup
	Bucket  string       `json:"bucket,omitempty"` // that all members share, and that alone holds them
}

// A HeldBackup is a backup and who holds it: members, or a bucket.
type HeldBackup struct {
	keep.Backup
	Repository string   `json:"repository,omitempty"` // its name, where there are several
	Members    []string `json:"members"`
	Copies     int      `json:"copies"` // so many are to hold it
}

// Newest is the last backup; ok is false without one.
func (b Backups) Newest() (HeldBackup, bool) {
	if len(b.Backups) == 0 {
		return HeldBackup{}, false
	}
	return b.Backups[len(b.Backups)-1], true
}

// problems are what a person has to do something about.
func (b Backups) problems(now time.Time) []MemberProblem {
	var all []MemberProblem
	for _, s := range b.Members {
		if s.Leads && s.Archive.Stuck(now) {
			into := "the archive"
			if s.Repository != "" {
				into = "repository " + s.Repository
			}
			all = append(all, MemberProblem{s.Member, problem.Error{
				Code: "archive-stuck", What: "WAL of " + b.Cluster + " does not get into " + into,
				Why: fmt.Sprintf("%d files wait, the oldest since %s, and pg_wal of %s grows by them (%s)", s.Archive.Pending, s.Archive.Since.Local().Format(time.DateTime), s.Member, repo.Size(s.Archive.Bytes)),
				Do:  "postgresql.log of " + s.Member + " says what archive_command said; remove the cause, and PostgreSQL goes on by itself",
			}})
		}
		if s.Leads && (s.Hole != "" || len(s.Lost) > 0) {
			all = append(all, MemberProblem{s.Member, archiveHole(b.Cluster, s)})
		}
		if f := s.Failed; f != nil {
			all = append(all, MemberProblem{s.Member, problem.Error{
				Code: "backup-failed", What: "the last attempt came to nothing: " + f.Does + inRepository(s), Why: f.Error,
				Do: "remove the cause; it is tried again every minute",
			}})
		}
	}
	for _, s := range failedDrills(b.Members) {
		all = append(all, MemberProblem{s.Member, *drillFailed(b.Cluster, s.Drill)})
	}
	return all
}

// inRepository names it, where there are several.
func inRepository(s keep.State) string {
	if s.Repository == "" {
		return ""
	}
	return " in repository " + s.Repository
}

// archiveHole says that what was written is not in the archive, and will not be.
func archiveHole(cluster string, s keep.State) problem.Error {
	why := "segment " + s.Hole + " is missing"
	if n := len(s.Lost); n > 0 {
		why = s.Lost[n-1].String()
	}
	return problem.Error{
		Code: "archive-hole", What: "WAL of " + cluster + " is missing in the archive" + inRepository(s) + ", and what follows it can not be reached from the backups there are", Why: why,
		Do: "a backup is made by itself as soon as that is possible, and this is over then; find out why it was not archived (postgresql.log and jobs.log of " + s.Member + ")",
	}
}

// lastHole is the newest of those that are recorded, or told of; ok is false
// without one.
func lastHole(members []keep.State) (last repo.Hole, ok bool) {
	for _, s := range members {
		for _, h := range slices.Concat(s.Holes, s.Lost) {
			if !ok || h.At.After(last.At) {
				last, ok = h, true
			}
		}
	}
	return last, ok
}

// failedDrills are the members beside which a drill failed since one passed, beside
// whichever.
func failedDrills(members []keep.State) (failed []keep.State) {
	passed := time.Time{}
	for _, s := range members {
		if s.Drill != nil && s.Drill.Last.After(passed) {
			passed = s.Drill.Last
		}
	}
	for _, s := range members {
		if d := s.Drill; d != nil && d.Wrong != "" && d.Began.After(passed) {
			failed = append(failed, s)
		}
	}
	return failed
}

// LastDrill is the last of all members', and beside which it was made; nil: there
// was none.
func (b Backups) LastDrill() (member string, last *DrillReport) {
	for _, s := range b.Members {
		if s.Drill != nil && (last == nil || s.Drill.Began.After(last.Began)) {
			member, last = s.Member, s.Drill
		}
	}
	return member, last
}

// Of is what a member said.
func (b Backups) Of(member string) keep.State {
	for _, s := range b.Members {
		if s.Member == member {
			return s
		}
	}
	return keep.State{}
}

// repositories are the members that have one.
func (c *Cluster) repositories() ([]spec.Holder, int) {
	for _, n := range c.Nodes {
		if len(n.Backup.Members) > 0 {
			return n.Backup.Members, n.Backup.Copies
		}
	}
	return nil, 0
}

// keeper knocks at the door of a member's jobs.
func (c *Cluster) keeper(h spec.Holder) keep.Client {
	return keep.Client{URL: c.door.url(h.URL), HTTP: &http.Client{Transport: c.transport()}}
}

// noBackups says that the cluster keeps none.
func (c *Cluster) noBackups(what string) error {
	return &problem.Error{
		Code: "backup-off", What: what, Why: "no member of cluster " + c.Name + " keeps a repository",
		Do: "backups are on unless the inventory says pgbackrest_enabled: false (backup: false), or has an archive_mode or archive_command of its own",
	}
}

// Backups asks every member what its repository has. Of one that does not
// answer and is on this machine the disk is read.
func (c *Cluster) Backups(ctx context.Context) (Backups, error) {
	return c.backups(ctx, repositoryWithin)
}

func (c *Cluster) backups(ctx context.Context, within time.Duration) (Backups, error) {
	members, copies := c.repositories()
	if len(members) == 0 {
		return Backups{}, c.noBackups("cannot list backups")
	}
	b := Backups{Cluster: c.Name, Backups: []HeldBackup{}, Copies: min(copies, len(members))}
	said := make([]keep.State, len(members))
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	var wg sync.WaitGroup
	for i, h := range members {
		wg.Go(func() {
			s, err := c.keeper(h).State(ctx)
			if err != nil {
				s = keep.State{Member: h.Member, Backups: []keep.Backup{}, Unwell: "does not answer"}
				if n, ok := c.node(h.Member); ok {
					s = unheard(context.WithoutCancel(ctx), n)
				}
			}
			said[i] = s
		})
	}
	wg.Wait()
	for _, s := range said {
		also := s.Also
		s.Also = nil
		b.Members = append(b.Members, s)
		for _, o := range also {
			o.Member = s.Member
			b.Members = append(b.Members, o)
		}
	}
	c.lookInto(context.WithoutCancel(ctx), b.Members)
	b.gather()
	return b, nil
}

// unheard is what can be said of the repositories of a member that does not answer.
func unheard(ctx context.Context, n spec.Node) keep.State {
	var all []keep.State
	for _, one := range n.Repositories() {
		s := keep.State{Member: n.Member, Repository: one.Backup.Name, Backups: []keep.Backup{}, Unwell: "does not answer"}
		if one.Backup.Shared() {
			s.Bucket = one.Backup.Bucket.String()
		} else if readable(one.Backup.Repo) {
			s = keep.Look(ctx, one)
			s.Unwell = cmp.Or(s.Unwell, "does not answer; this is what its disk has")
		}
		all = append(all, s)
	}
	all[0].Also = all[1:]
	return all[0]
}

// gather makes one list of what the members say that they, or the bucket, have.
func (b *Backups) gather() {
	if b.Bucket = bucketOf(b.Members); b.Bucket != "" {
		b.Copies = 1
	}
	for _, s := range b.Members {
		if s.Leads {
			b.Leader = s.Member
		}
		for _, one := range s.Backups {
			i := slices.IndexFunc(b.Backups, func(h HeldBackup) bool { return h.Label == one.Label && h.Repository == s.Repository })
			if i < 0 {
				i, b.Backups = len(b.Backups), append(b.Backups, HeldBackup{Backup: one, Repository: s.Repository, Copies: b.Copies})
			}
			if s.Bucket != "" {
				b.Backups[i].Copies = 1
			}
			if holder := cmp.Or(s.Bucket, s.Member); !slices.Contains(b.Backups[i].Members, holder) {
				b.Backups[i].Members = append(b.Backups[i].Members, holder)
			}
		}
	}
	slices.SortStableFunc(b.Backups, func(x, y HeldBackup) int { return repo.Later(x.Label, y.Label) })
}

// bucketOf names the bucket that all members share, and that is all they have; "":
// there is none.
func bucketOf(members []keep.State) (bucket string) {
	for _, s := range members {
		switch {
		case s.Bucket != "" && (bucket == "" || bucket == s.Bucket):
			bucket = s.Bucket
		case s.Bucket != "" || s.Path != "": // who does not answer has no path
			return ""
		}
	}
	return bucket
}

// lookInto looks into the bucket itself, with the keys of a member of this machine,
// where no leader has said what is in it.
func (c *Cluster) lookInto(ctx context.Context, members []keep.State) {
	if slices.ContainsFunc(members, func(s keep.State) bool { return s.Leads }) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, repositoryWithin)
	defer cancel()
	done := map[string]bool{}
	for i, s := range members {
		n, ok := c.node(s.Member)
		if !ok || s.Bucket == "" {
			continue
		}
		for _, one := range n.Repositories() {
			if name := one.Backup.Name; one.Backup.Shared() && one.Backup.Bucket.String() == s.Bucket && (s.Repository == "" || name == s.Repository) && !done[s.Bucket+name] {
				done[s.Bucket+name] = true
				seen := keep.Look(ctx, one)
				seen.Running, seen.Failed, seen.Unwell = s.Running, s.Failed, cmp.Or(seen.Unwell, s.Unwell)
				members[i] = seen
			}
		}
	}
}

func readable(dir string) bool {
	if dir == "" {
		return false
	}
	_, err := os.ReadDir(dir)
	return err == nil
}

// A BackupPlan is a backup that would be made.
type BackupPlan struct {
	Cluster string    `json:"cluster"`
	Member  string    `json:"member"` // that makes it
	Type    repo.Type `json:"type"`
	Holders []string  `json:"holders"` // who will have it: members, or the bucket
	Into    string    `json:"repository,omitempty"`
	from    keep.Client
}

// String says what it would do.
func (p BackupPlan) String() string {
	text := fmt.Sprintf("take %s %s backup of %s on %s", article(string(p.Type)), p.Type, p.Cluster, p.Member)
	if p.Into != "" {
		text += ", into repository " + p.Into
	}
	if len(p.Holders) == 1 && p.Holders[0] != p.Member {
		text += ", into " + p.Holders[0]
	}
	if len(p.Holders) > 1 {
		text += ", to be copied to " + strings.Join(p.Holders[1:], " and ")
	}
	return text
}

func article(word string) string {
	if strings.ContainsRune("aeiou", rune(word[0])) {
		return "an"
	}
	return "a"
}

// PlanBackup finds who makes a backup into a repository, by its name or number; "" is
// the first. Without an earlier one any is a full one.
func (c *Cluster) PlanBackup(ctx context.Context, kind repo.Type, into string) (BackupPlan, error) {
	const what = "cannot make a backup"
	if !slices.Contains([]repo.Type{repo.Full, repo.Diff, repo.Incr}, kind) {
		return BackupPlan{}, &problem.Error{Code: "backup-type", What: what, Why: fmt.Sprintf("%q is no kind of backup", kind), Do: "give full, diff or incr"}
	}
	if members, _ := c.repositories(); len(members) == 0 {
		return BackupPlan{}, c.noBackups(what)
	}
	s, err := c.State(ctx)
	if err != nil {
		return BackupPlan{}, err
	}
	leader := s.LeaderName()
	if leader == "" {
		return BackupPlan{}, &problem.Error{Code: "backup-failed", What: what, Why: "cluster " + c.Name + " has no leader, and a backup is begun on the leader", Do: "see `howdah why " + c.Name + "`"}
	}
	members, copies := c.repositories()
	i := slices.IndexFunc(members, func(h spec.Holder) bool { return h.Member == leader })
	if i < 0 {
		return BackupPlan{}, &problem.Error{Code: "backup-off", What: what, Why: leader + " leads, and keeps no repository", Do: "take archive_mode and archive_command out of its parameters in the inventory, or `howdah switchover`"}
	}
	client := c.keeper(members[i])
	state, err := client.State(ctx)
	if err != nil {
		return BackupPlan{}, &problem.Error{
			Code: "backup-unreachable", What: what, Why: "the jobs of " + leader + " do not answer at " + members[i].URL,
			Do: "see jobs.log in that node's directory", Err: err,
		}
	}
	all := append([]keep.State{state}, state.Also...)
	at := slices.IndexFunc(all, func(s keep.State) bool { return into == "" || into == s.Repository })
	if number, err := strconv.Atoi(into); at < 0 && err == nil && number >= 1 && number <= len(all) {
		at = number - 1
	}
	if at < 0 {
		var names []string
		for _, s := range all {
			names = append(names, s.Repository)
		}
		return BackupPlan{}, &problem.Error{Code: "backup-failed", What: what, Why: "cluster " + c.Name + " has no repository " + strconv.Quote(into), Do: "give one of: " + strings.TrimSpace(strings.Join(names, " ")+" or its number")}
	}
	if state = all[at]; len(state.Backups) == 0 {
		kind = repo.Full
	}
	holders := spec.Backup{Members: members, Copies: copies}.Holders(leader)
	if state.Bucket != "" {
		holders = []string{state.Bucket}
	}
	return BackupPlan{c.Name, leader, kind, holders, state.Repository, client}, nil
}

// Backup makes it, and tells how it goes.
func (c *Cluster) Backup(ctx context.Context, p BackupPlan, tell func(keep.Run)) (keep.Backup, error) {
	b, err := p.from.Take(ctx, p.Type, p.Into, tell)
	if err == nil || ctx.Err() != nil {
		return b, err
	}
	e := &problem.Error{
		Code: "backup-failed", What: "cannot make a backup of cluster " + p.Cluster, Why: err.Error(),
		Do: "remove the cause and ask again; jobs.log and postgresql.log of " + p.Member + " say more",
	}
	if b.Label != "" {
		e.What = "backup " + b.Label + " is complete, but something is left to do"
	}
	return b, e
}
