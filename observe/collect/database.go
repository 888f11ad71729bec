package collect

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"howdah/logkey"
	"howdah/observe/collector"
	"howdah/pg"
)

// A database is one database of the server, its connection, and what its
// collectors last gave. Whoever has the turn owns it.
type database struct {
	e       *Exporter
	name    string // of the main one: as the URL has it
	main    bool
	conn    *pgconn.PgConn
	born    time.Time
	timeout time.Duration // the connection's statement_timeout
	path    string        // its search_path, where we set it

	facts   collector.Facts
	known   bool // facts are those of the server
	planned []collector.Choice
	slots   map[string]*slot // by branch

	fatal bool   // the last scrape ended for a collector that is fatal
	said  string // the last failure logged
	stats struct {
		took            time.Duration // of the last scrape
		total           time.Duration
		scrapes, errors int
	}
}

// A slot is the last answer of one collector in one database.
type slot struct {
	asked     time.Time // zero: never
	result    collector.Result
	why       string // it was not asked: a predicate
	err       error
	took      time.Duration
	dropped   bool // another database gave the same series
	predicate []struct {
		asked time.Time
		yes   bool
	}
	runs, errors, skips, hits int
}

func newDatabase(e *Exporter, name string) *database {
	return &database{e: e, name: name, slots: map[string]*slot{}}
}

// errHung says that an earlier query has not come to its end.
var errHung = errors.New("the server has not ended an earlier query yet")

// open makes sure of a connection and, once per connection, of the facts. The
// main database is asked for them at each scrape: whether it recovers is news.
func (d *database) open(ctx context.Context) error {
	if d.conn != nil && d.conn.IsClosed() {
		select {
		case <-d.conn.CleanupDone():
			d.conn = nil
		default:
			return errHung
		}
	}
	d.retire()
	if d.conn != nil {
		if !d.main {
			return nil
		}
		return d.learn(ctx)
	}
	config := d.e.config.Copy()
	if !d.main {
		config.Database = d.name
	}
	within, cancel := context.WithTimeout(ctx, d.e.o.Connect)
	defer cancel()
	conn, err := pgconn.ConnectConfig(within, config)
	if err != nil {
		return err
	}
	d.conn, d.born, d.timeout, d.path = conn, time.Now(), 0, ""
	if !d.e.pooler {
		// Text of dates as package collector reads it, whatever the role's own settings.
		if _, _, err := d.ask(ctx, "SET datestyle = ISO; SET timezone = 'UTC'; SET jit = off; SET statement_timeout = "+ms(patience), patience+slack); err != nil {
			d.close()
			return err
		}
		d.timeout = patience
	}
	return d.learn(ctx)
}

func ms(t time.Duration) string { return strconv.FormatInt(max(t.Milliseconds(), 1), 10) }

// learn asks for the facts; another server or another role makes a new plan.
func (d *database) learn(ctx context.Context) error {
	f := collector.Facts{Pooler: d.e.pooler, Discovered: !d.main, Tags: d.e.o.Tags, Database: d.name, User: d.e.config.User}
	if d.e.pooler {
		_, rows, err := d.ask(ctx, "SHOW VERSION", patience)
		if err != nil {
			return err
		}
		if len(rows) > 0 && len(rows[0]) > 0 {
			f.Version = poolerVersion(string(rows[0][0]))
		}
	} else {
		_, rows, err := d.ask(ctx, `SELECT current_setting('server_version_num'), pg_is_in_recovery(), current_database(), current_user,
			array_to_string(ARRAY(SELECT extname FROM pg_extension ORDER BY 1), E'\n'),
			array_to_string(ARRAY(SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' ORDER BY 1), E'\n'),
			coalesce((SELECT quote_ident(n.nspname) FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'pg_stat_statements'), '')`, patience)
		if err != nil {
			return err
		}
		if len(rows) != 1 || len(rows[0]) != 7 {
			return fmt.Errorf("%d rows say what the server is", len(rows))
		}
		row := rows[0]
		f.Version, _ = strconv.Atoi(string(row[0]))
		f.Recovery = string(row[1]) == "t"
		f.Database, f.User = string(row[2]), string(row[3])
		f.Extensions, f.Schemas = strings.Split(string(row[4]), "\n"), strings.Split(string(row[5]), "\n")
		if err := d.find(ctx, string(row[6])); err != nil {
			return err
		}
	}
	if !d.known || fmt.Sprint(f) != fmt.Sprint(d.facts) {
		if d.known && (f.Recovery != d.facts.Recovery || f.Version != d.facts.Version) {
			d.slots = map[string]*slot{} // what it said before was said by another
		}
		d.planned = nil
	}
	d.facts, d.known = f, true
	return nil
}

// find has names found where they are to be: also in the schema of pg_stat_statements,
// which inventories do not put on anybody's path. Of a guarded exporter nothing else
// counts, where there is one only in the main database.
func (d *database) find(ctx context.Context, statements string) error {
	path := ""
	switch {
	case d.e.o.Guarded && d.main && statements != "":
		path = "SET search_path = pg_catalog, " + statements + ", pg_temp"
	case d.e.o.Guarded:
		path = "SET search_path = pg_catalog, pg_temp"
	case statements != "":
		path = "SELECT set_config('search_path', concat_ws(', ', nullif(reset_val, ''), " + pg.QuoteLiteral(statements) + "), false) FROM pg_settings WHERE name = 'search_path'"
	}
	if path == d.path {
		return nil
	}
	said := path
	if path == "" {
		said = "RESET search_path"
	}
	if _, _, err := d.ask(ctx, said, patience); err != nil {
		return err
	}
	d.path = path
	return nil
}

// poolerVersion reads "PgBouncer 1.24.1" as 12401.
func poolerVersion(text string) int {
	fields := strings.Fields(text)
	if len(fields) == 0 {
		return 0
	}
	n := 0
	parts := strings.SplitN(fields[len(fields)-1], ".", 3)
	for i, unit := range []int{10000, 100, 1} {
		if i < len(parts) {
			v, _ := strconv.Atoi(strings.TrimRight(parts[i], "abcdefghijklmnopqrstuvwxyz-"))
			n += v * unit
		}
	}
	return n
}

// ask runs one query within that time; 0 is the scrape's.
func (d *database) ask(ctx context.Context, sql string, within time.Duration) ([]collector.Field, [][][]byte, error) {
	if d.conn == nil {
		return nil, nil, errors.New("no connection")
	}
	if !d.e.pooler && within != d.timeout && d.timeout != 0 {
		limited, cancel := context.WithTimeout(ctx, patience)
		err := d.conn.Exec(limited, "SET statement_timeout = "+strconv.FormatInt(within.Milliseconds(), 10)).Close()
		cancel()
		if err != nil {
			return nil, nil, err
		}
		d.timeout = within
	}
	if within > 0 {
		// The server ends it first, and the connection lives on.
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, within+slack)
		defer cancel()
	}
	return read(d.conn.Exec(ctx, sql))
}

// read returns the last result. An answer without rows has columns too.
func read(all *pgconn.MultiResultReader) (fields []collector.Field, rows [][][]byte, err error) {
	for all.NextResult() {
		r := all.ResultReader()
		fields, rows = nil, nil
		for _, f := range r.FieldDescriptions() {
			fields = append(fields, collector.Field{Name: f.Name, Type: f.DataTypeOID})
		}
		for r.NextRow() {
			row := make([][]byte, len(fields))
			for i, v := range r.Values() {
				if v != nil {
					row[i] = append([]byte{}, v...) // the memory is the connection's
				}
			}
			rows = append(rows, row)
		}
	}
	if err := all.Close(); err != nil {
		return nil, nil, err
	}
	return fields, rows, nil
}

// close gives the connection up. What still runs in it is cancelled by pgconn.
func (d *database) close() {
	if d.conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), d.e.o.Connect)
	defer cancel()
	_ = d.conn.Close(ctx) // nothing depends on the server hearing of it
	d.conn = nil
}

// retire closes a connection that has lived long enough.
func (d *database) retire() {
	if d.conn != nil && !d.conn.IsClosed() && time.Since(d.born) > lifetime {
		d.close()
	}
}

// plan chooses the collectors for what is known of the database.
func (d *database) plan() []collector.Choice {
	if d.planned == nil {
		d.planned = collector.Plan(d.e.all, d.facts)
		for _, c := range d.planned {
			if c.Why != "" {
				delete(d.slots, c.Branch)
			} else if d.slots[c.Branch] == nil {
				d.slots[c.Branch] = &slot{}
			}
		}
	}
	return d.planned
}

// scrape runs what is due of the plan, and says whether the server is well: no
// collector that is fatal failed. A database whose answers are all good still
// needs no connection.
func (d *database) scrape(ctx context.Context, start time.Time) bool {
	began := time.Now()
	d.fatal = false
	defer func() {
		d.stats.took = time.Since(began)
		d.stats.total += d.stats.took
		d.stats.scrapes++
	}()
	if !d.known {
		if err := d.open(ctx); err != nil {
			d.failed("", err)
			d.stats.errors++
			return false
		}
	}
	d.retire()
	well, before := true, false // before: an answer that is good still is a failure
	for _, c := range d.plan() {
		if c.Why != "" {
			continue
		}
		s := d.slots[c.Branch]
		if !d.e.o.NoCache && !s.asked.IsZero() && c.TTL > 0 && start.Sub(s.asked) <= c.TTL {
			s.hits++
			before = before || s.err != nil
			if s.err != nil && c.Fatal {
				d.fatal = true
				return false
			}
			continue
		}
		s.run(ctx, d, c.Collector, start)
		if s.err != nil {
			well = false
			d.failed(c.Branch, s.err)
			if c.Fatal {
				d.fatal = true
				d.stats.errors++
				return false
			}
		}
	}
	switch {
	case !well:
		d.stats.errors++
	case !before:
		d.said = ""
	}
	return true
}

// run asks one collector. A failure leaves an empty answer until its ttl ends.
func (s *slot) run(ctx context.Context, d *database, c collector.Collector, start time.Time) {
	began := time.Now()
	s.result, s.err, s.why, s.asked, s.dropped = collector.Result{}, nil, "", start, false
	s.runs++
	defer func() {
		s.took = time.Since(began)
		if s.err != nil {
			s.errors++
		}
	}()
	if s.err = ctx.Err(); s.err != nil { // the scrape's time is over
		return
	}
	if d.conn == nil || d.conn.IsClosed() {
		if s.err = d.open(ctx); s.err != nil {
			return
		}
	}
	if s.predicate == nil {
		s.predicate = make([]struct {
			asked time.Time
			yes   bool
		}, len(c.Predicates))
	}
	for i, p := range c.Predicates {
		last := &s.predicate[i]
		if last.asked.IsZero() || p.TTL <= 0 || start.Sub(last.asked) > p.TTL {
			if last.yes, s.err = d.predicate(ctx, p, c.Timeout); s.err != nil {
				last.asked = time.Time{}
				return
			}
			last.asked = start
		}
		if !last.yes {
			s.why = "predicate " + p.Name
			s.skips++
			return
		}
	}
	fields, rows, err := d.ask(ctx, c.Query, c.Timeout)
	if err != nil {
		s.err = err
		return
	}
	if s.result, s.err = c.Series(fields, rows, d.e.constant); s.err != nil {
		s.result = collector.Result{}
		return
	}
	for _, w := range s.result.Warnings {
		d.e.o.Log.Debug("answer of a collector", logkey.Database, d.facts.Database, logkey.Collector, c.Branch, "warning", w)
	}
}

// predicate asks whether a collector should run: one row, one column, true. No
// row is no; whatever else is an error.
func (d *database) predicate(ctx context.Context, p collector.Predicate, within time.Duration) (bool, error) {
	const boolType = 16
	fields, rows, err := d.ask(ctx, p.Query, within)
	switch {
	case err != nil:
		return false, fmt.Errorf("predicate %s: %w", p.Name, err)
	case len(rows) == 0:
		return false, nil
	case len(rows) > 1 || len(fields) != 1 || fields[0].Type != boolType || rows[0][0] == nil:
		return false, fmt.Errorf("predicate %s answers no single true or false", p.Name)
	}
	return string(rows[0][0]) == "t", nil
}

// failed logs a failure when it is another than the last.
func (d *database) failed(branch string, err error) {
	if text := branch + ": " + err.Error(); text != d.said {
		d.said = text
		d.e.o.Log.Warn("collector failed", logkey.Database, d.name, logkey.Collector, branch, logkey.Error, err)
	}
}
