// Package collect runs collectors against a PostgreSQL server or the admin
// console of PgBouncer, and answers scrapes with their series, as pg_exporter
// does.
//
// It only reads. No query outlives its timeout: the server ends it, and where
// that does not answer, the connection is given up and a cancel request sent;
// until that has come to an end, nothing else is asked of that database. One
// scrape runs at a time; whoever asks meanwhile gets the same answer. What
// collectors mean is package collector's; names, paths and flags are those of
// pg_exporter 1.4.
package collect

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"howdah/logkey"
	"howdah/observe/collector"
	"howdah/problem"
)

// Limits of a scrape.
const (
	parallel = 3                     // databases asked at once
	budget   = 8 * time.Second       // for a scrape that names no time of its own
	lifetime = time.Minute           // of a connection
	patience = time.Second           // for the first answer of a server
	slack    = 50 * time.Millisecond // from the server's timeout to ours
)

// Options say what an exporter exports.
type Options struct {
	URL string // how to connect; the user's own password files and variables count
	// Load reads the collectors, at the start and at each reload.
	Load    func() ([]collector.Collector, error)
	Labels  [][2]string // on every series
	Tags    []string
	NoCache bool // every scrape asks anew
	NoIntro bool // nothing is said of the exporter itself
	Ahead   bool // what the next scrape needs is asked before it comes
	// Guarded asks what no user of the server can put something of his own in the place
	// of: names are those of PostgreSQL, and of pg_stat_statements. For a superuser.
	Guarded bool
	// Discover has the collectors that are not cluster-wide run in every
	// database of the server, but the excluded; or in those included alone.
	Discover         bool
	Exclude, Include []string
	Namespace        string        // pg or pgbouncer; "": by the database of URL
	Connect          time.Duration // to make a connection
	Build            Build
	Log              *slog.Logger
}

// A Build is what the exporter says it was built from.
type Build struct{ Version, Revision, Branch, Date, Go string }

// An Exporter answers scrapes of one server.
type Exporter struct {
	o        Options
	config   *pgconn.Config
	pooler   bool
	ns       string               // of what is said of the exporter itself
	constant string               // Labels, as they are written
	registry *prometheus.Registry // go_*, process_* and promhttp_*
	health   health

	turn   chan struct{} // holds one token: whoever has it scrapes, and owns what is below
	main   *database
	others map[string]*database
	all    []collector.Collector
	counts counts

	rhythm rhythm

	mu     sync.Mutex
	flight *flight // the scrape that runs
}

// A flight is one scrape and those who wait for it.
type flight struct {
	done   chan struct{}
	answer *answer
}

// New prepares an exporter; it connects when it is asked.
func New(o Options) (*Exporter, error) {
	config, err := pgconn.ParseConfig(o.URL)
	if err != nil {
		return nil, &problem.Error{
			Code: "exporter-url", What: "cannot use the URL of the exporter", Why: err.Error(), // pgconn leaves the password out
			Do: "give one like postgres://user@host:5432/postgres?sslmode=disable", Err: err,
		}
	}
	if o.Connect <= 0 {
		o.Connect = 100 * time.Millisecond
	}
	if config.RuntimeParams == nil {
		config.RuntimeParams = map[string]string{}
	}
	if config.RuntimeParams["application_name"] == "" {
		config.RuntimeParams["application_name"] = "pg_exporter"
	}
	e := &Exporter{o: o, config: config, pooler: config.Database == "pgbouncer", others: map[string]*database{}, turn: make(chan struct{}, 1)}
	e.turn <- struct{}{}
	e.rhythm.again = make(chan struct{}, 1)
	e.ns = o.Namespace
	if e.ns == "" {
		e.ns = "pg"
		if e.pooler {
			e.ns = "pgbouncer"
		}
	}
	if e.constant, err = collector.Labels(o.Labels); err != nil {
		return nil, labelled(err)
	}
	if e.all, err = e.load(); err != nil {
		return nil, err
	}
	e.counts.started = time.Now()
	e.main = newDatabase(e, config.Database)
	e.main.main = true
	e.registry = prometheus.NewRegistry()
	e.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return e, nil
}

func labelled(err error) error {
	return &problem.Error{
		Code: "exporter-label", What: "cannot put these labels on every series", Why: err.Error(),
		Do: "choose names that no collector has: --label name=value,…", Err: err,
	}
}

// load reads the collectors and refuses those whose labels are constant ones.
func (e *Exporter) load() ([]collector.Collector, error) {
	all, err := e.o.Load()
	if err != nil {
		return nil, err
	}
	for _, c := range all {
		for _, col := range c.Columns {
			if col.Usage != collector.Label && col.Usage != collector.Histogram {
				continue
			}
			for _, l := range e.o.Labels {
				if col.Usage == collector.Label && col.As == l[0] || col.Usage == collector.Histogram && l[0] == "le" {
					return nil, labelled(fmt.Errorf("collector %s has the label %s itself", c.Branch, l[0]))
				}
			}
		}
	}
	return all, nil
}

// Reload reads the collectors anew; counters go on. If they cannot be used,
// those of before stay.
func (e *Exporter) Reload(ctx context.Context) error {
	all, err := e.load()
	if err != nil {
		return err
	}
	if !e.take(ctx) {
		return ctx.Err()
	}
	defer e.give()
	e.all = all
	for _, d := range e.databases() {
		d.planned = nil
		d.slots = map[string]*slot{}
	}
	e.o.Log.Info("collectors loaded", "count", len(all))
	return nil
}

// Run keeps the exporter until ctx ends, then closes its connections. Those
// that are old and that no scrape uses are closed meanwhile: whoever stopped
// scraping leaves nothing behind that keeps a database from being dropped.
func (e *Exporter) Run(ctx context.Context) error {
	var beside sync.WaitGroup
	defer beside.Wait()
	if e.o.Ahead && !e.o.NoCache && !e.pooler {
		beside.Go(func() { e.ahead(ctx) })
	}
	tidy := time.NewTicker(lifetime)
	defer tidy.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-tidy.C:
			e.health.tidy()
			if within, cancel := context.WithTimeout(ctx, time.Second); e.take(within) {
				for _, d := range e.databases() {
					d.retire()
				}
				e.give()
				cancel()
			} else {
				cancel()
			}
		}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	e.health.close()
	if !e.take(ctx) {
		return nil // a scrape still runs; the process ends with it
	}
	for _, d := range e.databases() {
		d.close()
	}
	return nil // the token is kept: nobody scrapes any more
}

func (e *Exporter) take(ctx context.Context) bool {
	select {
	case <-e.turn:
		return true
	case <-ctx.Done():
		return false
	}
}

func (e *Exporter) give() { e.turn <- struct{}{} }

// databases are all that are known, the main one first.
func (e *Exporter) databases() []*database {
	all := []*database{e.main}
	for _, d := range e.others {
		all = append(all, d)
	}
	slices.SortFunc(all[1:], func(a, b *database) int { return strings.Compare(a.name, b.name) })
	return all
}

// scrape answers from a scrape of now, or from the one that runs.
func (e *Exporter) scrape(ctx context.Context, within time.Duration) *answer {
	e.mu.Lock()
	if f := e.flight; f != nil {
		e.mu.Unlock()
		select {
		case <-f.done:
			return f.answer
		case <-ctx.Done():
			return nil
		}
	}
	f := &flight{done: make(chan struct{})}
	e.flight = f
	e.mu.Unlock()
	defer func() {
		e.mu.Lock()
		e.flight = nil
		e.mu.Unlock()
		close(f.done)
	}()
	// Not ctx: whoever asked first may go away while others wait.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), within)
	defer cancel()
	if !e.take(ctx) {
		return nil
	}
	defer e.give()
	f.answer = e.look(ctx)
	return f.answer
}

// look is one scrape.
func (e *Exporter) look(ctx context.Context) *answer {
	start := time.Now()
	up, all := e.gather(ctx, start)
	e.counts.scrapes++
	if !up {
		e.counts.errors++
	}
	e.counts.last, e.counts.took = time.Now(), time.Since(start)
	e.rhythm.came(start)
	return e.assemble(up, all)
}

// gather asks what is due, and says whether the server is well.
func (e *Exporter) gather(ctx context.Context, start time.Time) (up bool, all []*database) {
	up = true
	if err := e.main.open(ctx); err != nil {
		e.main.failed("", err)
		up = false
	}
	if up {
		up = e.main.scrape(ctx, start)
	}
	var others []*database
	if up && e.o.Discover && !e.pooler {
		others = e.discover(ctx)
		wait := make(chan struct{}, parallel)
		var all sync.WaitGroup
		for _, d := range others {
			wait <- struct{}{}
			all.Go(func() {
				defer func() {
					if v := recover(); v != nil { // it is this scrape's loss, not the process's
						d.failed("", fmt.Errorf("panic: %v", v))
					}
					<-wait
				}()
				d.scrape(ctx, start)
			})
		}
		all.Wait()
		for _, d := range others {
			up = up && !d.fatal
		}
	}
	return up, append([]*database{e.main}, others...)
}

// discover lists the databases beside the main one that are to be scraped.
func (e *Exporter) discover(ctx context.Context) []*database {
	_, rows, err := e.main.ask(ctx, "SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate ORDER BY datname", patience)
	if err != nil {
		e.main.failed("discovery", err)
		rows = nil
		for name := range e.others { // as they were
			rows = append(rows, [][]byte{[]byte(name)})
		}
	}
	found := map[string]bool{}
	for _, row := range rows {
		name := string(row[0])
		wanted := slices.Contains(e.o.Include, name)
		if len(e.o.Include) == 0 {
			wanted = !slices.Contains(e.o.Exclude, name)
		}
		if !wanted || name == e.main.facts.Database {
			continue
		}
		found[name] = true
		if e.others[name] == nil {
			e.o.Log.Info("database found", logkey.Database, name)
			e.others[name] = newDatabase(e, name)
		}
	}
	var all []*database
	for _, d := range e.databases()[1:] {
		if found[d.name] {
			all = append(all, d)
			continue
		}
		e.o.Log.Info("database gone", logkey.Database, d.name)
		d.close()
		delete(e.others, d.name)
	}
	return all
}
