package control

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"howdah/backup/keep"
	"howdah/backup/repo"
	"howdah/backup/server"
	"howdah/node"
	"howdah/pg"
	"howdah/problem"
	"howdah/spec"
)

// A Drill is a restore that is rehearsed: the newest backup and its log are
// brought to a moment in a server that nobody else sees, which is looked through
// and removed. It is a plan first. The cluster does not notice.
type Drill struct {
	*Peek
	began time.Time // when it was planned
	ahead pg.LSN    // how far the leader was then; 0: not known
}

// String says what it would do.
func (d *Drill) String() string {
	return "rehearse: " + d.Peek.String() + ", look through it, and remove it"
}

// PlanDrill finds what would be restored; to is a moment. It is made beside a
// replica, where one of them is on this machine.
func (c *Cluster) PlanDrill(ctx context.Context, to string) (*Drill, error) {
	at, err := ParseMoment(to, time.Now())
	if err != nil {
		return nil, err
	}
	what := fmt.Sprintf("cannot rehearse a restore of cluster %s to %s", c.Name, at)
	if members, _ := c.repositories(); len(members) == 0 {
		return nil, c.noBackups(what)
	}
	here := slices.DeleteFunc(slices.Clone(c.Nodes), func(n spec.Node) bool { return n.Postgres.Data == "" })
	if len(here) == 0 {
		return nil, &problem.Error{
			Code: "restore-unreachable", What: what,
			Why: "no member of the cluster is on this machine, whose programs could show it", Do: "run this on one of its members",
		}
	}
	n := here[0]
	if s, err := c.State(ctx); err == nil { // without a store anybody will do
		if i := slices.IndexFunc(here, func(n spec.Node) bool { return n.Member != s.LeaderName() }); i >= 0 {
			n = here[i]
		}
	}
	p, err := c.plan(ctx, n, at, "", what)
	if err != nil {
		return nil, err
	}
	return &Drill{Peek: p}, nil
}

// Rehearser makes drills beside a node, for its jobs: with what is in the
// repositories without anybody's help, as when the leader's host is lost, its own
// before others. What a former one left half done is removed.
func Rehearser(n spec.Node) func(context.Context) error {
	sweep(n.Paths.Dir)
	return func(ctx context.Context) error {
		c, err := Beside(n)
		if err != nil {
			return err
		}
		defer c.Close()
		return c.rehearse(ctx, n)
	}
}

// Log may lie in a repository before what comes before it does, for several
// segments are stored at once: what seems to be missing is looked for again.
const (
	planTries = 4
	planPause = 15 * time.Second
)

// rehearse makes a drill that nobody asked for, and records also one that could
// not be planned.
func (c *Cluster) rehearse(ctx context.Context, n spec.Node) error {
	d := &Drill{}
	var err error
	for try := 1; ; try++ {
		d.began = time.Now()
		if s, unread := c.State(ctx); unread == nil {
			if m, ok := s.Member(s.LeaderName()); ok {
				d.ahead = m.XlogLocation
			}
		}
		d.Peek, err = c.planned(ctx, &Peek{
			Cluster: c.Name, To: Moment{Kind: Latest}, Notes: []string{}, node: n, what: "cannot rehearse a restore of cluster " + c.Name, own: true, dir: n.Paths.Dir,
		}, "")
		if _, proven := errors.AsType[*evidence](err); !proven || try == planTries {
			break
		}
		timer := time.NewTimer(planPause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		}
	}
	if err == nil {
		_, err = d.Run(ctx, func(string) {})
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	owner, unknown := node.Account(n.User)
	if unknown != nil {
		return unknown
	}
	report := DrillReport{Began: d.began.UTC(), Verdict: keep.Broke, Why: whyOf(err), From: n.Member, To: Moment{Kind: Latest}.String(), Unasked: true, Checks: []keep.Check{}}
	if _, proven := errors.AsType[*evidence](err); proven {
		report.Verdict = keep.Failed
	}
	return errors.Join(err, report.Record(n, owner.UID, owner.GID))
}

// whyOf is what was wrong, without what could not be done for its sake.
func whyOf(err error) string {
	if e := problem.Plain(err); e.Why != "" {
		return e.Why
	}
	return err.Error()
}

// Beside is the member whose programs and user it is made with.
func (d *Drill) Beside() string { return d.node.Member }

// Run rehearses, and records what came of it. The error says the same as a report
// that is none that passed.
func (d *Drill) Run(ctx context.Context, step func(string)) (DrillReport, error) {
	if !d.own {
		d.began = time.Now() // a person may have thought it over
	}
	report := DrillReport{
		Began: d.began.UTC(), Verdict: keep.Passed, Backup: d.Backup, From: d.Member, To: d.To.String(), Bytes: d.Size, Checks: []keep.Check{}, Unasked: d.own,
	}
	owner, err := node.Account(d.node.User)
	if err != nil {
		return report, err
	}
	if err = d.rehearse(ctx, owner, step, &report); err != nil {
		if ctx.Err() != nil {
			return report, context.Cause(ctx) // nobody wants to know any more
		}
		report.Verdict, report.Why = keep.Broke, whyOf(err)
		switch {
		case !ofBackup(err):
		case d.expired(ctx):
			report.Why = "backup " + d.Backup + " was removed meanwhile, as the retention says"
		default:
			report.Verdict = keep.Failed
		}
	}
	if recorded := report.Record(d.node, owner.UID, owner.GID); recorded != nil && err == nil {
		return report, fmt.Errorf("it passed, but that was not recorded: %w", recorded)
	}
	switch report.Verdict {
	case keep.Failed:
		return report, drillFailed(d.Cluster, &report)
	case keep.Broke:
		return report, &problem.Error{
			Code: "drill-broke", What: "the restore of cluster " + d.Cluster + " could not be rehearsed", Why: report.Why,
			Do: "remove the cause and give the command again; of backup " + report.Backup + " this says nothing",
		}
	}
	return report, nil
}

// expired says that the backup is none of those that there are any more.
func (d *Drill) expired(ctx context.Context) bool {
	info, err := d.from.stanza.BackupInfo(ctx)
	_, listed := info.Find(d.Backup)
	return err == nil && !listed
}

// drillFailed says that a backup is worth nothing.
func drillFailed(cluster string, d *DrillReport) *problem.Error {
	return &problem.Error{
		Code: "drill-failed", What: "a rehearsed restore did not bring cluster " + cluster + " back", Why: d.Wrong,
		Do: "`howdah backup " + cluster + " --type full` makes another backup, `howdah pgbackrest verify` on that member says what is wrong with the repository; then `howdah drill " + cluster + "`",
	}
}

// An evidence is what was found wrong in the restored cluster.
type evidence struct{ what string }

func (e *evidence) Error() string { return e.what }

// brokenLog is what a server ends with whose files and log do not fit together
// (xlogrecovery.c); whatever else ends one may be the machine's fault.
var brokenLog = regexp.MustCompile(`PANIC:|WAL ends before|could not locate|invalid checkpoint|invalid data in file|unexpected timeline|requested timeline|does not match`)

// evidenceIn is the evidence in the last line of a server's log; nil: there is none.
func evidenceIn(line string) error {
	if brokenLog.MatchString(line) && !strings.Contains(line, "No space left") {
		return &evidence{line}
	}
	return nil
}

// ofBackup tells a backup that is broken from a drill that broke. What cannot be
// told is the drill's: an alarm must mean what it says.
func ofBackup(err error) bool {
	if _, ok := errors.AsType[*evidence](err); ok {
		return true
	}
	for _, own := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.ENOMEM, fs.ErrPermission, context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, own) {
			return false
		}
	}
	switch problem.Code(err) {
	case "restore-unreachable":
		return true
	case "restore-failed": // by a step of the restore itself
	default:
		return false
	}
	switch repo.ClassOf(err) {
	case repo.Checksum, repo.FileInvalid, repo.BadFormat, repo.FileMissing, repo.ArchiveMismatch, repo.ArchiveDuplicate, repo.BackupMismatch,
		repo.BackupSetInvalid, repo.DBMismatch, repo.RepoInvalid, repo.Crypto, repo.LinkDestination, repo.TablespaceMap:
		return true
	}
	return false
}

// rehearse restores, looks, and removes.
func (d *Drill) rehearse(ctx context.Context, owner node.User, step func(string), report *DrillReport) error {
	open, err := d.Open(ctx, step)
	if err != nil {
		return err
	}
	defer open.Close()
	report.Restored, report.Replayed, report.LSN, report.Commit = open.restored, open.replayed, open.LSN, open.Commit
	if have, err := pg.ParseLSN(open.LSN); err == nil && d.own && have < d.ahead {
		report.Missing, report.Exposure = int64(d.ahead-have), d.began.Sub(laterOf(open.Commit, d.Stop))
	}
	began := time.Now()
	defer func() { report.Checked = time.Since(began) }()
	if d.To.Kind == Latest && d.flush.LSN != "" {
		want, err1 := pg.ParseLSN(d.flush.LSN)
		have, err2 := pg.ParseLSN(open.LSN)
		if err := errors.Join(err1, err2); err != nil {
			return err
		}
		if have < want {
			return &evidence{"the log leads to " + open.LSN + ", and the leader had archived it up to " + d.flush.LSN}
		}
	}
	// Out of recovery all of it can be looked at, and is written out when it is shut down.
	step("looking through it")
	if row, err := open.ask(ctx, "select case when pg_is_in_recovery() then pg_promote(true, 600) else true end"); err != nil || len(row) == 0 || row[0] != "t" {
		return errors.Join(errors.New("the restored server does not leave recovery"), err)
	}
	said, err := d.amcheck(ctx, owner, open)
	if err != nil {
		return err
	}
	report.Checks = append(report.Checks, keep.Check{What: "tables and indexes", Said: said})
	if said, err = d.checksums(ctx, owner, open); err != nil {
		return err
	}
	report.Checks = append(report.Checks, keep.Check{What: "pages", Said: said})
	return nil
}

// laterOf is the later of two moments.
func laterOf(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// amcheck looks through every table and B-tree, where PostgreSQL's program and
// extension for that are installed.
func (d *Drill) amcheck(ctx context.Context, owner node.User, open *Peeked) (string, error) {
	program := filepath.Join(d.node.Postgres.Bin, "pg_amcheck")
	row, err := open.ask(ctx, "select count(*) from pg_available_extensions where name = 'amcheck'")
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(program); err != nil || len(row) == 0 || row[0] == "0" {
		return "not looked at: pg_amcheck is not installed", nil
	}
	out, code, err := run(ctx, owner, append(open.Env(), "PGOPTIONS=-c default_transaction_read_only=off"), program, "--all", "--install-missing")
	switch {
	case err != nil:
		return "", err
	case code == 2: // what it ends with when something is wrong
		return "", &evidence{"pg_amcheck: " + first(out)}
	case code != 0:
		return "", fmt.Errorf("pg_amcheck ends with %d: %s", code, first(out))
	}
	return "pg_amcheck found nothing wrong", nil
}

// checksums proves those of all pages, of a server that has ended in order.
func (d *Drill) checksums(ctx context.Context, owner node.User, open *Peeked) (string, error) {
	data := filepath.Join(open.dir, "data")
	limit, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	if !open.shut(limit) {
		return "", errors.New("the restored server does not shut down in order")
	}
	control, err := server.ReadControl(data)
	if err != nil {
		return "", err
	}
	program := filepath.Join(d.node.Postgres.Bin, "pg_checksums")
	if _, err := os.Stat(program); err != nil || !control.Checksums {
		return "not looked at: the cluster has no checksums, or pg_checksums is not installed", nil
	}
	out, code, err := run(ctx, owner, nil, program, "--check", "-D", data)
	if err != nil {
		return "", err
	}
	if code != 0 {
		if strings.Contains(out, "checksum verification failed") {
			return "", &evidence{"pg_checksums: " + first(out)}
		}
		return "", fmt.Errorf("pg_checksums ends with %d: %s", code, first(out))
	}
	return "all have the right checksum", nil
}

// run runs one of PostgreSQL's programs as its user.
func run(ctx context.Context, owner node.User, env []string, program string, args ...string) (out string, code int, err error) {
	cmd := exec.CommandContext(ctx, program, args...)
	var said bytes.Buffer
	cmd.Dir, cmd.Stdout, cmd.Stderr = "/", &said, &said
	cmd.Env = append(append(owner.Env(), "LC_ALL=C"), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: owner.Credential, Pdeathsig: syscall.SIGKILL}
	err = cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && ctx.Err() == nil && exit.Exited() {
		return said.String(), exit.ExitCode(), nil
	}
	return said.String(), 0, err
}

// first is the first line of what a program said.
func first(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	return line
}
