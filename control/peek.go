package control

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"howdah/backup"
	"howdah/backup/keep"
	"howdah/backup/repo"
	"howdah/backup/restore"
	"howdah/node"
	"howdah/pg"
	"howdah/problem"
	"howdah/spec"
)

// A Peek is a server that shows the cluster as it was at one moment: read-only,
// on this machine alone, reached by a socket, and gone afterwards. It is a plan
// first; nothing is written before Open.
type Peek struct {
	Cluster string    `json:"cluster"`
	To      Moment    `json:"to"`
	Member  string    `json:"member"` // whose repository is read, or which bucket
	Backup  string    `json:"backup"` // from which the log is replayed
	Type    repo.Type `json:"type"`
	Stop    time.Time `json:"stop"`             // when the backup ended
	Size    int64     `json:"size"`             // bytes that it takes
	First   string    `json:"first"`            // segments of WAL, from there
	Last    string    `json:"last"`             // as far as the archive leads
	WAL     int       `json:"wal"`              // how many these are
	Before  *Commit   `json:"before,omitempty"` // the last that will be there, where known
	After   *Commit   `json:"after,omitempty"`  // the first that will not
	Notes   []string  `json:"notes"`            // what a person should know beforehand

	what  string        // cannot be done, for a problem
	node  spec.Node     // on this machine, whose programs and user run the server
	found *restore.Mark // what a name or a transaction's number stands for
	from  source
	plan  restore.Plan
	flush keep.Flushed
	own   bool   // what there is without anybody's help, from the node's own repository first; and some room is left
	dir   string // in which it is made

	somebodys bool // the repository is of another cluster, by a configuration of its own
}

// A source is a repository that may have what is wanted.
type source struct {
	member string // or bucket
	stanza *backup.Stanza
	config string // of pgBackRest's commands, if it is on this machine; "": another member is asked
}

// String says what it would do.
func (p *Peek) String() string {
	return fmt.Sprintf("restore %s backup %s of %s, which ended %s and takes %s, and replay WAL from %s to %s (of %d segments up to %s) into a server of its own",
		p.Type, p.Backup, p.Member, p.Stop.Local().Format(time.DateTime), repo.Size(p.Size), p.First, p.To, p.WAL, cmp.Or(p.Last, "none"))
}

// peekDir begins the names of directories of peeks, in the cluster's.
const peekDir = "peek-"

// PlanPeek finds the backup and the WAL for a moment, and refuses one that they
// do not reach. It has the leader archive what was committed until now, so that
// the last seconds are there too. set is the label of the backup to begin with;
// "": the newest, of a time or an LSN the newest that ended before.
func (c *Cluster) PlanPeek(ctx context.Context, to, set string) (*Peek, error) {
	at, err := ParseMoment(to, time.Now())
	if err != nil {
		return nil, err
	}
	what := fmt.Sprintf("cannot show cluster %s as of %s", c.Name, at)
	if members, _ := c.repositories(); len(members) == 0 {
		return nil, c.noBackups(what)
	}
	i := slices.IndexFunc(c.Nodes, func(n spec.Node) bool { return n.Postgres.Data != "" })
	if i < 0 {
		return nil, &problem.Error{
			Code: "restore-unreachable", What: what,
			Why: "no member of the cluster is on this machine, whose programs could show it", Do: "run this on one of its members",
		}
	}
	return c.plan(ctx, c.Nodes[i], at, set, what)
}

// plan is PlanPeek for a node of this machine; what says what cannot be done.
func (c *Cluster) plan(ctx context.Context, n spec.Node, at Moment, set, what string) (*Peek, error) {
	return c.planned(ctx, &Peek{Cluster: c.Name, To: at, Notes: []string{}, node: n, what: what, dir: filepath.Dir(n.Paths.Dir)}, set)
}

// planned completes a plan.
func (c *Cluster) planned(ctx context.Context, p *Peek, set string) (*Peek, error) {
	n, at, what, now := p.node, p.To, p.what, time.Now()
	if members, _ := c.repositories(); len(members) == 0 {
		return nil, c.noBackups(what)
	}
	unreachable := func(why, do string) error {
		return &problem.Error{Code: "restore-unreachable", What: what, Why: why, Do: do}
	}
	if at.Kind == restore.Time && at.At.After(now) {
		return nil, unreachable("that is in the future", "give a moment that has passed")
	}
	b, err := c.Backups(ctx)
	if err != nil {
		return nil, err
	}
	if !p.own {
		p.flushed(ctx, c, b)
	}
	if p.flush.LSN == "" {
		b.Leader = "" // whoever's archive goes furthest then
	}
	sources, err := c.sources(n, b)
	if err != nil {
		return nil, err
	}
	if p.own {
		slices.SortStableFunc(sources, func(x, y source) int { return cmp.Compare(not(x.member == n.Member), not(y.member == n.Member)) })
	}
	refusals := p.among(ctx, sources, set, unreachable)
	if p.from.stanza == nil {
		proven := len(refusals) > 0 // that what was read does not lead there
		for _, err := range refusals {
			proven = proven && problem.Code(err) == "restore-unreachable"
		}
		for _, err := range refusals {
			if e, ok := errors.AsType[*problem.Error](err); ok {
				if p.own && proven {
					e.Why, e.Err = "", &evidence{e.Why}
				}
				return nil, e
			}
		}
		why := "no repository can be read"
		switch {
		case len(b.Backups) == 0:
			return nil, unreachable("there is no backup of it yet, or none where anybody answers",
				"`howdah backup "+c.Name+"` makes one: what is committed after its end can be brought back; `howdah backups "+c.Name+"` says who answers")
		case len(b.Backups) > 0 && at.Kind == restore.Time && !at.At.After(b.Backups[0].Stop):
			why = "the oldest backup ended at " + b.Backups[0].Stop.Local().Format(time.DateTime) + ", and before its end nothing can be reached"
		case len(refusals) > 0:
			why = refusals[0].Error()
		}
		return nil, unreachable(why, "see `howdah backups "+c.Name+"`")
	}
	p.tell()
	if p.plan.End != 0 {
		p.Notes = append(p.Notes, fmt.Sprintf("the archive ends before segment %s; of that %s has what was streamed, up to %s", p.Last, p.Member, p.plan.End))
	}
	p.around(ctx)
	return p, p.room(what)
}

// among finds the first of sources from which the moment is reached; the errors say
// why the others will not do.
func (p *Peek) among(ctx context.Context, sources []source, set string, unreachable func(why, do string) error) (refusals []error) {
	at := p.To
	r := restore.Restore{Set: set, Type: at.restoreType(), Target: at.Value}
	for _, from := range sources {
		p.found = nil
		var err error
		if p.plan, err = r.Plan(ctx, from.stanza); err == nil && (at.Kind == restore.Name || at.Kind == restore.XID) {
			err = p.seek(ctx, r, from.stanza)
		}
		if err == nil {
			err = p.reaches(at, unreachable)
		}
		if err == nil {
			p.from = from
			break
		}
		if problem.Code(err) == "" {
			err = fmt.Errorf("%s: %w", from.member, err)
		}
		refusals = append(refusals, err)
	}
	return refusals
}

// tell says what the plan takes.
func (p *Peek) tell() {
	last := p.plan.Backup
	p.Member, p.Backup, p.Type, p.Stop, p.Size = p.from.member, last.Label, last.Type, time.Unix(last.Stop, 0).UTC(), last.Size
	p.First, p.Last, p.WAL = p.plan.First, p.plan.Last, p.plan.Segments
}

// sources are the repositories, the nearest first: those on the members' own disks
// before buckets, which are asked with the keys of n.
func (c *Cluster) sources(n spec.Node, b Backups) ([]source, error) {
	var all, far []source
	for _, one := range n.Repositories() {
		if !one.Backup.Shared() {
			own, err := c.disks(b)
			if err != nil {
				return nil, err
			}
			all = append(all, own...)
			continue
		}
		at, err := keep.Open(one)
		if err != nil {
			return nil, err
		}
		far = append(far, source{member: one.Backup.Bucket.String(), stanza: at, config: n.Backup.Config})
	}
	return append(all, far...), nil
}

// disk is a node with nothing but the repository on its own disk.
func disk(n spec.Node) (spec.Node, bool) {
	for _, one := range n.Repositories() {
		if !one.Backup.Shared() && readable(one.Backup.Repo) {
			return one, true
		}
	}
	return n, false
}

// disks are the repositories on the members' own disks: the leader's first, then by
// how far their archives go, a later timeline being further; of equals those on this
// machine.
func (c *Cluster) disks(b Backups) ([]source, error) {
	b.Members = slices.DeleteFunc(slices.Clone(b.Members), func(s keep.State) bool { return s.Bucket != "" })
	var all []source
	members, _ := c.repositories()
	for _, h := range members {
		s := source{member: h.Member}
		n, _ := c.node(h.Member)
		if one, ok := disk(n); ok {
			at, err := keep.Open(one)
			if err != nil {
				return nil, err
			}
			s.stanza, s.config = at, n.Backup.Config
		} else if len(b.Of(h.Member).Backups) > 0 {
			s.stanza = &backup.Stanza{Storage: c.keeper(h).Storage(), Name: c.Name, Repo: 1}
		} else {
			continue
		}
		all = append(all, s)
	}
	slices.SortStableFunc(all, func(x, y source) int {
		return cmp.Or(
			cmp.Compare(not(x.member == b.Leader), not(y.member == b.Leader)),
			cmp.Compare(b.Of(y.member).Reaches(), b.Of(x.member).Reaches()),
			cmp.Compare(not(x.config != ""), not(y.config != "")),
		)
	})
	return all, nil
}

func not(is bool) int {
	if is {
		return 0
	}
	return 1
}

// flushed has the leader archive what it has.
func (p *Peek) flushed(ctx context.Context, c *Cluster, b Backups) {
	members, _ := c.repositories()
	i := slices.IndexFunc(members, func(h spec.Holder) bool { return h.Member == b.Leader })
	if i < 0 {
		p.Notes = append(p.Notes, "no leader answers: what was committed last may not be in the archive")
		return
	}
	var err error
	if p.flush, err = c.keeper(members[i]).Flush(ctx); err != nil {
		p.Notes = append(p.Notes, b.Leader+" could not archive what was committed last: "+err.Error())
	}
}

// reaches refuses what the plan's WAL does not lead to.
func (p *Peek) reaches(at Moment, unreachable func(why, do string) error) error {
	plan := p.plan
	switch {
	case plan.Last == "" || plan.Last[8:] < plan.Manifest.ArchiveStop[8:]:
		return unreachable(fmt.Sprintf("WAL that backup %s needs is not in the archive: %s", plan.Manifest.Label, cmp.Or(plan.Missing, plan.First)), "see `howdah pgbackrest verify`; restore to a moment before this backup")
	case plan.Missing != "" && at.Kind != restore.Immediate && p.found == nil:
		if lsn, err := pg.ParseLSN(at.Value); at.Kind == restore.LSN && err == nil && plan.Timeline.Segment(lsn, 16<<20)[8:] <= plan.Last[8:] {
			return nil
		}
		return unreachable(fmt.Sprintf("segment %s is missing in the archive, and nothing after it can be reached from backup %s", plan.Missing, plan.Manifest.Label),
			"give `--to immediate` for the end of the backup, or a moment after a later one")
	case at.Kind == restore.LSN && p.flush.LSN != "":
		lsn, err1 := pg.ParseLSN(at.Value)
		end, err2 := pg.ParseLSN(p.flush.LSN)
		if err1 == nil && err2 == nil && lsn > end {
			return unreachable("the log ends at "+p.flush.LSN, "give an LSN up to there, or latest")
		}
	}
	return nil
}

// room refuses to fill the disk.
func (p *Peek) room(what string) error {
	var st unix.Statfs_t
	if err := unix.Statfs(p.dir, &st); err != nil {
		return fmt.Errorf("%s: %w", p.dir, err)
	}
	free, need := int64(st.Bavail)*st.Bsize, keep.DrillNeeds(p.Size)
	if p.from.config == "" { // its log is brought here first, all of it
		need += int64(p.WAL) * restore.SegmentSize(p.plan.Backup.LSNStart, p.plan.Backup.ArchiveStart)
	}
	if p.own {
		need += keep.Spare(int64(st.Blocks) * st.Bsize)
	}
	if free < need {
		return &problem.Error{
			Code: "disk-full", What: what, Why: fmt.Sprintf("%s has %s free, and %s are needed", p.dir, repo.Size(free), repo.Size(need)),
			Do: "make room there",
		}
	}
	return nil
}

// bucket says that the backup comes from one.
func (p *Peek) bucket() bool {
	return slices.ContainsFunc(p.node.Backup.Each(), func(b spec.Backup) bool { return b.Shared() && b.Bucket.String() == p.from.member })
}

// restoreType is the moment's kind for a restore. The end of the log is an LSN,
// if the leader has said where that is: recovery then stops and is looked at,
// and does not promote.
func (t Moment) restoreType() string {
	if t.Kind == Latest {
		return restore.Default
	}
	return t.Kind
}

// A Peeked is an open peek.
type Peeked struct {
	scratch
	LSN    string    `json:"lsn"`             // how far the log was replayed
	Commit time.Time `json:"commit,omitzero"` // the last transaction that is in it
	dir    string

	restored, replayed time.Duration // how long the files and the log took
}

// Env are the variables by which libpq finds it.
func (p *Peeked) Env() []string {
	return []string{"PGHOST=" + p.Host, "PGPORT=" + strconv.Itoa(p.Port), "PGUSER=" + p.User, "PGDATABASE=" + p.Database}
}

// Open restores, and starts the server. step hears what is being done. What was
// written is removed when it fails; otherwise Close does.
func (p *Peek) Open(ctx context.Context, step func(string)) (_ *Peeked, err error) {
	n := p.node
	owner, err := node.Account(n.User)
	if err != nil {
		return nil, err
	}
	sweep(p.dir)
	open := &Peeked{}
	if open.dir, err = os.MkdirTemp(p.dir, peekDir+strconv.Itoa(os.Getpid())+"-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			open.Close()
		}
	}()
	data := filepath.Join(open.dir, "data")
	if err := os.Mkdir(data, 0o700); err != nil {
		return nil, err
	}
	if owner.UID >= 0 {
		for _, dir := range []string{open.dir, data} {
			if err := os.Lchown(dir, owner.UID, owner.GID); err != nil {
				return nil, err
			}
		}
	}
	config := p.from.config
	if config == "" {
		if config, err = p.fetch(ctx, open.dir, owner, step); err != nil {
			return nil, peekFailed(p, "", err)
		}
	}
	if err := spoolFor(data, owner); err != nil {
		return nil, err
	}
	r := p.restore(data, config)
	r.SpacesAll = filepath.Join(open.dir, "spaces")
	step(fmt.Sprintf("restoring backup %s (%s)", p.Backup, repo.Size(p.Size)))
	began := time.Now()
	if _, err := r.From(ctx, p.from.stanza); err != nil {
		return nil, peekFailed(p, "", err)
	}
	// What the server was told to be, it must not be here: not its sockets, its
	// archive, its memory. Arguments win over every file that was restored.
	if err := os.WriteFile(filepath.Join(data, "postgresql.conf"), nil, 0o600); err != nil {
		return nil, err
	}
	if owner.UID >= 0 {
		if err := os.Lchown(filepath.Join(data, "postgresql.conf"), owner.UID, owner.GID); err != nil {
			return nil, err
		}
	}
	open.restored = time.Since(began)
	began = time.Now()
	log := filepath.Join(open.dir, "postgres.log")
	step(fmt.Sprintf("replaying WAL from %s to %s", p.First, p.To))
	if err := open.start(n, owner, data, log, map[string]string{
		"archive_mode": "off", "shared_buffers": "32MB", "fsync": "off", "full_page_writes": "off",
	}); err != nil {
		return nil, err
	}
	err = open.arrive(ctx, func() error { return p.died(log) })
	open.replayed = time.Since(began)
	return open, err
}

// restore is the restore into a directory, with WAL by that configuration.
func (p *Peek) restore(data, config string) restore.Restore {
	n := p.node
	r := restore.Restore{Path: data, Set: p.Backup, Type: p.To.restoreType(), Target: p.To.Value, Workers: 2}
	if p.bucket() {
		r.Workers = 8 // a request is mostly waited for
	}
	// What was fetched ahead is proven, and moving it costs a fraction of a start of
	// this program, which fetches what is not there and has the rest fetched.
	r.Command = fmt.Sprintf(`mv -f %s/%%f "%%p" 2>/dev/null || %s pgbackrest --config=%s --stanza=%s --pg1-path=%s --archive-async --spool-path=%s --archive-get-queue-max=%d --process-max=%d `+
		`--log-level-console=off --log-level-stderr=off archive-get %%f "%%p"`,
		shellWord(backup.SpoolOf(data+spooled, p.Cluster).In()), shellWord(n.Paths.Binary), shellWord(config), shellWord(p.Cluster), shellWord(data),
		shellWord(data+spooled), ahead, r.Workers)
	if p.somebodys { // what the file says of logs and locks is for whoever wrote it
		r.Command = strings.Replace(r.Command, " archive-get ", " --log-level-file=off --lock-path="+shellWord(data+spooled+"/lock")+" archive-get ", 1)
	}
	if p.To.Kind == Latest && p.flush.LSN != "" {
		r.Type, r.Target = restore.LSN, p.flush.LSN
	}
	return r
}

const (
	spooled = ".spool"  // behind the name of the data directory: WAL that is fetched ahead
	fetched = ".wal"    // and all that another member has
	ahead   = 256 << 20 // bytes of it at most, which is what is kept free for the log
)

// spoolFor makes the directory that recovery's WAL is fetched into.
func spoolFor(data string, owner node.User) error {
	if err := errors.Join(os.RemoveAll(data+spooled), os.Mkdir(data+spooled, 0o700)); err != nil || owner.UID < 0 {
		return err
	}
	return os.Lchown(data+spooled, owner.UID, owner.GID)
}

// unspool removes what recovery's WAL came through.
func unspool(data string) {
	_ = os.RemoveAll(data + spooled)
	_ = os.RemoveAll(data + fetched)
}

// fetch brings the WAL of another member here, where PostgreSQL's restore_command
// finds it, and returns the configuration for that.
func (p *Peek) fetch(ctx context.Context, dir string, owner node.User, step func(string)) (config string, err error) {
	step("fetching WAL from " + p.Member)
	at := filepath.Join(dir, "archive")
	if err := keep.CopyWAL(ctx, p.from.stanza, backup.Posix(1, at, p.Cluster, ""), p.First); err != nil {
		return "", err
	}
	config = filepath.Join(dir, "pgbackrest.conf")
	text := fmt.Sprintf("[global]\nrepo1-path=%s\nlock-path=%s\nlog-level-file=off\n", at, filepath.Join(dir, "lock"))
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil || owner.UID < 0 {
		return config, err
	}
	return config, filepath.WalkDir(at, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, owner.UID, owner.GID)
	})
}

// arrive returns when the server stands at the moment: recovery stands still
// there, or has come to the end of the log.
func (open *Peeked) arrive(ctx context.Context, died func() error) error {
	return open.await(ctx, `select case when pg_is_in_recovery() then pg_get_wal_replay_pause_state() = 'paused' else true end,
		coalesce(pg_last_wal_replay_lsn()::text, ''), coalesce(extract(epoch from pg_last_xact_replay_timestamp())::text, '')`, func(row []string) bool {
		if row[0] != "t" {
			return false
		}
		open.LSN = row[1]
		if s, err := strconv.ParseFloat(row[2], 64); err == nil {
			open.Commit = time.UnixMicro(int64(s * 1e6)).UTC()
		}
		return true
	}, died)
}

// died says why the server ended.
func (p *Peek) died(log string) error {
	text, _ := os.ReadFile(log)
	last := "its log is empty"
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		if line := lines.Text(); strings.Contains(line, "FATAL:") || strings.Contains(line, "PANIC:") || last == "its log is empty" {
			last = line
		}
	}
	if strings.Contains(last, "recovery ended before configured recovery target was reached") {
		return &problem.Error{
			Code: "restore-unreachable", What: p.what,
			Why: "from backup " + p.Backup + " the archive leads to segment " + p.Last + ", and has not come there",
			Do:  "give an earlier moment, or latest for as far as it goes; a transaction or a restore point before that backup is reached from an earlier one, with --set",
		}
	}
	if e := evidenceIn(last); e != nil {
		return peekFailed(p, "", fmt.Errorf("PostgreSQL ended: %w", e))
	}
	return peekFailed(p, "PostgreSQL ended: "+last, nil)
}

// peekFailed says why: in words, or by what err says.
func peekFailed(p *Peek, why string, err error) error {
	return &problem.Error{
		Code: "restore-failed", What: p.what, Why: why,
		Do: "`howdah pgbackrest --config=" + cmp.Or(p.from.config, p.node.Backup.Config) + " --stanza=" + p.Cluster + " verify` says what is wrong with the repository", Err: err,
	}
}

// Close stops the server and removes what was restored.
func (open *Peeked) Close() {
	open.stop()
	if open.dir != "" {
		_ = os.RemoveAll(open.dir) // what stays is swept by the next
	}
}

// Ended is closed when the server has ended by itself.
func (open *Peeked) Ended() <-chan struct{} { return open.ended }

// sweep removes what peeks left that were killed.
func sweep(dir string) {
	list, _ := filepath.Glob(filepath.Join(dir, peekDir+"*"))
	for _, path := range list {
		text, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(path), peekDir), "-")
		pid, err := strconv.Atoi(text)
		if err == nil && !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			continue
		}
		_ = os.RemoveAll(path)
	}
}

// shellWord is one word for a shell, in a setting that knows %.
func shellWord(s string) string {
	return "'" + strings.NewReplacer("'", `'\''`, "%", "%%").Replace(s) + "'"
}
