// Package apply makes a primary hold what is declared of its cluster: it looks
// at the catalogs, has spec/plan find the difference, and takes its steps.
//
// Run may be repeated at any time, also after it was killed at any statement: it
// looks first and does what is left. What one object needs and cannot have is
// told by name and keeps the others from nothing. When all is done it looks
// again, so that what it says is in force.
package apply

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"howdah/pg"
	"howdah/problem"
	"howdah/scram"
	"howdah/secret"
	"howdah/spec"
	"howdah/spec/plan"
)

// Connect opens a session of the superuser.
type Connect func(ctx context.Context, database string) (*pgconn.PgConn, error)

// An Order is what a server is to hold.
type Order struct {
	Cluster   string
	Objects   spec.Objects
	Secrets   map[string]secret.Text
	Baselines map[string]string // SQL by the name of its database
	Prune     bool              // what nobody declared is to go
	Connect   Connect

	// Known are marks of passwords that were found to be what the server stores
	// (Report.Known of an earlier time): they need not be checked again.
	Known map[string]bool

	// Before, if not nil, is asked before each step; ErrSkip leaves it out, and any
	// other error ends the work.
	Before func(plan.Step) error
	// After, if not nil, hears of each step that was tried.
	After func(plan.Step, error)
}

// ErrSkip is what Before answers to leave a step out.
var ErrSkip = errors.New("left out")

// ErrLost says that the primary went away, or is one no more: what it holds is
// to be looked at anew, where the primary is now.
var ErrLost = errors.New("the primary was lost")

// A Report is what Run did.
type Report struct {
	Done    []string    // "made role app"
	Missing []string    // what this server's installation has not: extensions
	Cannot  []plan.Note // what can not be changed
	Left    []string    // what still is otherwise than declared, though its step was taken

	Known map[string]bool // marks of the passwords that are as declared
}

// statement is the time allowed to one of them: a database is copied within it.
// Whatever a person's SQL does, or data are copied for, may take longer.
const (
	statement = 2 * time.Minute
	lengthy   = 6 * time.Hour
)

// Plan says what Run would do.
func Plan(ctx context.Context, o Order) (plan.Plan, error) {
	o.Objects.Roles = plan.Merged(o.Objects.Roles)
	r := &run{Order: o}
	if err := r.open(ctx); err != nil {
		return plan.Plan{}, r.fail("", err)
	}
	defer r.close(ctx)
	return r.plan(ctx)
}

// Run makes the server hold what the order says.
func Run(ctx context.Context, o Order) (Report, error) {
	o.Objects.Roles = plan.Merged(o.Objects.Roles)
	r := &run{Order: o}
	if err := r.open(ctx); err != nil {
		return Report{}, r.fail("", err)
	}
	defer r.close(ctx)
	const rounds = 3 // what a template gets shows in the databases made of it only then
	for round := 1; ; round++ {
		p, err := r.plan(ctx)
		if err != nil {
			return r.report, err
		}
		r.report.Missing, r.report.Cannot = p.Missing, p.Cannot
		if p.Steps = slices.DeleteFunc(p.Steps, func(s plan.Step) bool { return slices.Contains(r.skipped, s.What) }); p.Empty() {
			break
		}
		if round > rounds {
			for _, s := range p.Steps {
				r.report.Left = append(r.report.Left, s.What)
			}
			break
		}
		if err := r.take(ctx, p.Steps); err != nil {
			return r.report, err
		}
		if len(r.errs) > 0 {
			break
		}
	}
	r.report.Known = r.now
	if err := r.durable(ctx); err != nil {
		return r.report, r.fail("", err)
	}
	if len(r.errs) > 0 {
		return r.report, r.fail(strings.Join(r.errs, "\n"), nil)
	}
	return r.report, nil
}

type run struct {
	Order
	report  Report
	errs    []string
	failed  []string // objects that could not be made
	skipped []string // steps, by What

	conn *pgconn.PgConn // to postgres, where roles and databases are made
	room *pgconn.PgConn // to the database that steps are in just now
	in   string
	md5  bool // passwords are kept as md5

	ready map[string]string // what to store of passwords, by role
	now   map[string]bool   // marks of the passwords that are right
}

func (r *run) fail(why string, err error) error {
	if lost(err) {
		err = fmt.Errorf("%w: %w", ErrLost, err)
	}
	return &problem.Error{
		Code: "provision-failed", What: "cannot give cluster " + r.Cluster + " all its roles and databases", Why: why,
		Do: "correct it and run `howdah up` or `howdah apply` again; what is right already stays as it is", Err: err,
	}
}

// ours is an error that no server had a part in.
type ours struct{ error }

func (e ours) Unwrap() error { return e.error }

// lost says that an error is the connection's or the server's end, and none of
// the statement: its state is that of class 08 or 57, or it writes no more.
func lost(err error) bool {
	if _, is := errors.AsType[ours](err); is {
		return false
	}
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrLost) {
		return errors.Is(err, ErrLost)
	}
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return strings.HasPrefix(e.Code, "08") || slices.Contains([]string{"57P01", "57P02", "57P03", "25006"}, e.Code)
	}
	return true
}

// plain is an error as PostgreSQL words it. A statement is never quoted: it may
// hold a password.
func plain(err error) string {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		text := e.Message
		if e.Detail != "" {
			text += " (" + e.Detail + ")"
		}
		return text
	}
	return err.Error()
}

// together is how many steps are taken in one transaction, where nobody is to be
// asked before each. If one of them fails none is taken, and they follow one by one.
const together = 64

// like says how many of steps can be taken in one transaction, from the first on.
func like(steps []plan.Step) int {
	n := 0
	for _, s := range steps {
		if n == together || s.Alone || s.Database != steps[0].Database || s.Risk.Over(plan.Reload) ||
			slices.ContainsFunc(s.SQL, func(st plan.Statement) bool { return st.Baseline != "" }) {
			break
		}
		n++
	}
	return n
}

// batch takes steps at once, and says whether it could.
func (r *run) batch(ctx context.Context, steps []plan.Step) bool {
	conn, err := r.at(ctx, steps[0].Database)
	if err != nil || !r.oneTransaction(ctx, conn, steps) {
		return false
	}
	r.taken(steps)
	return true
}

// roles takes the makings of roles that steps begin with, and returns what is left. A
// server checks each password for a millisecond or more of processor, so they are made
// through as many sessions as there are processors: none depends on another.
func (r *run) roles(ctx context.Context, steps []plan.Step) (left []plan.Step) {
	n := slices.IndexFunc(steps, func(s plan.Step) bool {
		return !s.Makes || !strings.HasPrefix(s.Object, "role ") || like([]plan.Step{s}) == 0
	})
	if n < 0 {
		n = len(steps)
	}
	if n <= together {
		return steps
	}
	parts := slices.Collect(slices.Chunk(steps[:n], together))
	took := make([]bool, len(parts))
	idle := make(chan *pgconn.PgConn, len(parts)) // sessions that are open
	side(len(parts), func(i int) {
		var conn *pgconn.PgConn
		select {
		case conn = <-idle:
		default:
			var err error
			if conn, err = r.session(ctx, "postgres"); err != nil {
				return
			}
		}
		took[i] = r.oneTransaction(ctx, conn, parts[i])
		idle <- conn
	})
	close(idle)
	for conn := range idle {
		conn.Close(context.WithoutCancel(ctx))
	}
	for i, part := range parts {
		if took[i] {
			r.taken(part)
		} else {
			left = append(left, part...) // to be tried one by one
		}
	}
	return append(left, steps[n:]...)
}

// oneTransaction takes steps at once, and says whether it could.
func (r *run) oneTransaction(ctx context.Context, conn *pgconn.PgConn, steps []plan.Step) bool {
	var all []string
	for _, s := range steps {
		for _, st := range s.SQL {
			text, err := r.text(st)
			if err != nil {
				return false
			}
			all = append(all, text)
		}
	}
	return do(ctx, conn, strings.Join(all, ";\n"), statement) == nil
}

// taken tells of steps that were taken.
func (r *run) taken(steps []plan.Step) {
	for _, s := range steps {
		if r.After != nil {
			r.After(s, nil)
		}
		r.report.Done = append(r.report.Done, s.Done())
	}
}

// take takes steps in their order.
func (r *run) take(ctx context.Context, steps []plan.Step) error {
	r.derive(steps)
	if r.Before == nil {
		steps = r.roles(ctx, steps)
	}
	for batched := 0; len(steps) > 0; steps = steps[1:] {
		s := steps[0]
		if n := like(steps); batched == 0 && n > 1 && r.Before == nil && len(r.failed) == 0 {
			if r.batch(ctx, steps[:n]) {
				steps = steps[n-1:]
				continue
			}
			batched = n // one of them fails: each is tried
		}
		batched = max(0, batched-1)
		if slices.ContainsFunc(r.failed, func(o string) bool { return s.Object == o || strings.HasPrefix(s.Object, o+", ") }) {
			continue
		}
		if r.Before != nil {
			switch err := r.Before(s); {
			case errors.Is(err, ErrSkip):
				r.skipped = append(r.skipped, s.What)
				if s.Makes {
					r.failed = append(r.failed, s.Object)
				}
				continue
			case err != nil:
				return err
			}
		}
		err := r.step(ctx, s)
		if r.After != nil {
			r.After(s, err)
		}
		switch {
		case err == nil:
			r.report.Done = append(r.report.Done, s.Done())
		case ctx.Err() != nil || lost(err):
			return r.fail("", err)
		default:
			r.errs = append(r.errs, s.What+": "+plain(err))
			if s.Makes {
				r.failed = append(r.failed, s.Object)
			}
		}
	}
	return nil
}

// step takes one: its statements in one transaction, unless they can not be.
func (r *run) step(ctx context.Context, s plan.Step) error {
	conn, err := r.at(ctx, s.Database)
	if err != nil {
		return fmt.Errorf("database %s: %w", s.Database, err)
	}
	limit := statement
	if s.Risk == plan.Rewrite {
		limit = lengthy
	}
	var all []string
	for _, st := range s.SQL {
		text, err := r.text(st)
		if err != nil {
			return ours{err}
		}
		if st.Baseline != "" {
			limit = lengthy
			defer r.leave(ctx) // whatever it set is gone with its session
		}
		all = append(all, text)
	}
	if !s.Alone {
		all = []string{strings.Join(all, ";\n")}
	}
	for _, text := range all {
		if err := do(ctx, conn, text, limit); err != nil {
			return err
		}
	}
	return nil
}

// text is a statement with what it did not show.
func (r *run) text(s plan.Statement) (string, error) {
	switch {
	case s.Password != "":
		v, err := r.verifier(s.Password)
		if err != nil {
			return "", err
		}
		return strings.TrimSuffix(s.Text, plan.Hidden) + pg.QuoteLiteral(v), nil
	case s.Baseline != "":
		return r.baseline(s.Baseline)
	}
	return s.Text, nil
}

// verifier is what to store of a role's password, so that the password itself
// never reaches the server.
func (r *run) verifier(name string) (string, error) {
	if v, ok := r.ready[name]; ok {
		return v, nil
	}
	for _, role := range r.Objects.Roles {
		if role.Name != name {
			continue
		}
		p := r.Secrets[role.Secret].Reveal()
		switch {
		case p == "":
			return "", fmt.Errorf("its password, the secret %q, is missing", role.Secret)
		case stored(p):
			return p, nil
		case r.keptAsMD5(role):
			return md5Of(p, name), nil
		}
		salt := make([]byte, scram.SaltSize)
		rand.Read(salt) // never fails
		v, err := scram.New(p, salt, scram.Iterations)
		return v.Text(), err
	}
	return "", fmt.Errorf("nobody declared the role %s", name)
}

// derive makes what is to be stored of passwords side by side: each takes a
// millisecond of processor.
func (r *run) derive(steps []plan.Step) {
	var names []string
	for _, s := range steps {
		for _, st := range s.SQL {
			if st.Password != "" {
				names = append(names, st.Password)
			}
		}
	}
	made := make([]string, len(names))
	side(len(names), func(i int) { made[i], _ = r.verifier(names[i]) }) // what is wrong is told by its step
	if r.ready == nil {
		r.ready = map[string]string{}
	}
	for i, v := range made {
		if v == "" {
			continue
		}
		r.ready[names[i]] = v
		for _, role := range r.Objects.Roles {
			if role.Name == names[i] {
				r.mark(r.Secrets[role.Secret].Reveal(), v)
			}
		}
	}
}

// baseline is the SQL that a new database begins with.
func (r *run) baseline(database string) (string, error) {
	text, ok := r.Baselines[database]
	if !ok {
		return "", errors.New("its baseline was not read")
	}
	for n, line := range strings.Split(text, "\n") {
		if strings.HasPrefix(line, `\`) {
			return "", fmt.Errorf("line %d of its baseline: it is SQL alone, and %q is for psql", n+1, strings.Fields(line)[0])
		}
	}
	return "RESET search_path; RESET lock_timeout; RESET synchronous_commit;\n" + text + "\n", nil
}

// quiet keeps what passes here out of the server's log and statistics. Commits
// are not waited for one by one, but together at the end (durable): what is lost
// before is found and done again.
const quiet = "SET log_statement = 'none'; SET log_min_duration_statement = -1; SET log_min_error_statement = 'panic';" +
	" SET log_parameter_max_length_on_error = 0; SET client_min_messages = 'error'; SET lock_timeout = '10s';" +
	" SET synchronous_commit = off; SET search_path = pg_catalog"

func (r *run) session(ctx context.Context, database string) (*pgconn.PgConn, error) {
	conn, err := r.Connect(ctx, database)
	if err != nil {
		return nil, err
	}
	if _, err := conn.Exec(ctx, quiet).ReadAll(); err != nil {
		conn.Close(ctx)
		return nil, err
	}
	return conn, nil
}

func (r *run) open(ctx context.Context) (err error) {
	r.conn, err = r.session(ctx, "postgres")
	return err
}

func (r *run) close(ctx context.Context) {
	r.leave(ctx)
	if r.conn != nil {
		r.conn.Close(context.WithoutCancel(ctx))
	}
}

// at is a session in a database; steps of one database follow each other.
func (r *run) at(ctx context.Context, database string) (*pgconn.PgConn, error) {
	if database == "" {
		r.leave(ctx) // CREATE DATABASE does not copy one that somebody is in
		return r.conn, nil
	}
	if r.in == database {
		return r.room, nil
	}
	r.leave(ctx)
	conn, err := r.session(ctx, database)
	if err != nil {
		return nil, err
	}
	r.room, r.in = conn, database
	return conn, nil
}

func (r *run) leave(ctx context.Context) {
	if r.room != nil {
		r.room.Close(context.WithoutCancel(ctx))
	}
	r.room, r.in = nil, ""
}

// durable waits until all commits so far would survive: the next one that waits
// takes those before along, to the disk and to synchronous standbys.
func (r *run) durable(ctx context.Context) error {
	if len(r.report.Done) == 0 {
		return nil
	}
	return do(ctx, r.conn, "RESET synchronous_commit; SELECT pg_logical_emit_message(true, 'howdah', 'applied')", statement)
}

func do(ctx context.Context, conn *pgconn.PgConn, text string, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	_, err := conn.Exec(ctx, text).ReadAll()
	return err
}
