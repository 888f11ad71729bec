// Package store is the store of metrics of `howdah observe`: it asks targets,
// keeps what they say, derives series and alerts from it, and answers queries.
//
// All of that is Prometheus's own code, with its file format and its language;
// what is ours is whom it asks, what it is limited to, and the part of the HTTP
// API that Grafana and promtool go by. It only looks: no other role waits for
// it, and it writes nothing but its own directory and to Alertmanagers.
package store

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/discovery/targetgroup"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/rules"
	"github.com/prometheus/prometheus/scrape"
	"github.com/prometheus/prometheus/tsdb"

	"howdah/latest"
	"howdah/lifecycle"
	"howdah/logkey"
	"howdah/observe/alert"
	"howdah/observe/notice"
	"howdah/observe/probe"
	"howdah/observe/push"
	"howdah/problem"
	"howdah/spec"
)

// Options are what a store needs.
type Options struct {
	Node spec.Node
	// Facts are what the clusters say of themselves, in Prometheus's text format;
	// nil: nobody knows.
	Facts   func(context.Context) []byte
	Logs    http.Handler // answers below /loki/api/v1/; nil: nobody does
	Version string
	Log     *slog.Logger
}

// A Store answers queries. Open makes it, Run gives it something to answer from.
type Store struct {
	Options
	db        *tsdb.DB
	engine    *promql.Engine
	parser    parser.Parser
	scraper   *scrape.Manager
	rules     *rules.Manager
	registry  *prometheus.Registry
	discovery *discovery
	facts     latest.Value[[]byte]
	turns     chan struct{} // one for each query that runs
	began     time.Time
	now       func() time.Time
	quit      context.CancelFunc // of the rules' queries
	trusted   *x509.CertPool     // authorities of those who take mail; nil: those of the system
	managers  []string           // URLs of Alertmanagers
	remotes   []string           // URLs of stores that are sent what this one has
	pushes    *push.Keeper       // what was pushed; nil: nothing may be
	prober    *probe.Prober      // of the inventory's hosts; nil: they are not probed

	set        notice.Settings // who is told
	hush       sync.Mutex
	hushed     []notice.Silence // by command, as they were read last
	hushUnread bool             // and can not be now
}

// evaluate is how often rules are.
const evaluate = 15 * time.Second

// lookEvery is how often the clusters are asked what they say of themselves.
const lookEvery = 15 * time.Second

// Open opens the files; Close closes them.
func Open(o Options) (*Store, error) {
	own := o.Node.Observe
	s := &Store{
		Options: o, parser: parser.NewParser(parser.Options{}), registry: prometheus.NewRegistry(),
		discovery: &discovery{Options: o}, turns: make(chan struct{}, maxQueries), began: time.Now(), now: time.Now,
	}
	set := s.settings()
	s.set = set
	s.managers, s.remotes = append(slices.Clone(own.Notify), set.Managers...), set.Remotes
	if set.Push {
		s.pushes = push.New(spec.JobServer, spec.JobNode, spec.JobStore, jobSelf, jobPing)
	}
	if set.Probe {
		s.prober = s.newProber()
	}
	db := tsdb.DefaultOptions()
	db.RetentionDuration, db.MaxBytes = own.Keep.Milliseconds(), own.Size
	db.StripeSize = 1 << 10 // locks for series: there are thousands, not millions
	// The log of what is not in a block yet: whoever starts again reads all of it.
	db.WALSegmentSize = 32 << 20
	var err error
	if s.db, err = tsdb.Open(own.Data, quiet(o.Log), s.registry, db, nil); err != nil {
		return nil, &problem.Error{
			Code: "metrics-store", What: "cannot open the store of metrics in " + own.Data,
			Do: "see that " + orUs(o.Node.User) + " may write there and that the disk has space; moved aside, it begins anew and empty", Err: err,
		}
	}
	s.engine = promql.NewEngine(promql.EngineOpts{
		Logger: quiet(o.Log), Reg: s.registry, MaxSamples: maxSamples, Timeout: queryTime, LookbackDelta: 5 * time.Minute,
		NoStepSubqueryIntervalFn: func(int64) int64 { return evaluate.Milliseconds() },
		EnableAtModifier:         true, EnableNegativeOffset: true, Parser: s.parser,
	})
	if s.scraper, err = s.newScraper(); err == nil {
		err = s.newRules()
	}
	if err != nil {
		return nil, errors.Join(err, s.db.Close())
	}
	return s, nil
}

func orUs(user string) string {
	if user == "" {
		return "its user"
	}
	return user
}

// Close closes the files.
func (s *Store) Close() error {
	s.quit()
	return s.db.Close()
}

// Run gathers, evaluates and answers until ctx ends.
func (s *Store) Run(ctx context.Context) error {
	parts := []lifecycle.Part{
		{Name: "discovery", Run: s.discovery.Run, Grace: 2 * time.Second},
		{Name: "facts", Run: s.gather, Grace: 2 * time.Second},
		{Name: "notices", Run: s.tell, Grace: 2 * time.Second},
		{Name: "rules", Grace: 3 * time.Second, Run: func(ctx context.Context) error {
			go func() {
				<-ctx.Done()
				s.quit()
				s.rules.Stop()
			}()
			s.rules.Run()
			return nil
		}},
		{Name: "scraper", Run: s.scrape, Grace: 3 * time.Second},
	}
	for _, to := range s.remotes {
		part := lifecycle.Part{Name: "remote write", Grace: 2 * time.Second, Run: func(ctx context.Context) error { return s.remote(ctx, to) }}
		parts = append(parts, lifecycle.Again(part, func(name string, err error, pause time.Duration) {
			s.Log.Error("part ended", "part", name, logkey.Error, err, "again_in", pause)
		}))
	}
	if s.pushes != nil {
		parts = append(parts, s.pushParts()...)
	}
	if s.prober != nil {
		parts = append(parts, lifecycle.Part{Name: "probes", Grace: 2 * time.Second, Run: func(ctx context.Context) error {
			return serve(ctx, s.beside(probePort), s.bounded(s.prober.Handler()), s.Log)
		}})
	}
	for _, address := range s.Node.Observe.Listen {
		parts = append(parts, lifecycle.Part{Name: "api on " + address, Grace: 2 * time.Second, Run: func(ctx context.Context) error {
			return serve(ctx, address, s.bounded(s.Handler()), s.Log)
		}})
	}
	return lifecycle.Run(ctx, parts...)
}

// serve answers on address; while somebody else has it, it tries again.
func serve(ctx context.Context, address string, h http.Handler, log *slog.Logger) error {
	said := false
	for {
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
		if err != nil {
			if !said {
				said = true
				log.Error("cannot listen", logkey.Addr, address, logkey.Error, err)
			}
			select {
			case <-time.After(5 * time.Second):
				continue
			case <-ctx.Done():
				return nil
			}
		}
		server := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}
		stop := context.AfterFunc(ctx, func() { server.Close() })
		err = server.Serve(l)
		stop()
		if ctx.Err() != nil || errors.Is(err, http.ErrServerClosed) {
			return nil
		}
		return err
	}
}

// gather keeps what the clusters say of themselves.
func (s *Store) gather(ctx context.Context) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		if s.Facts != nil {
			within, cancel := context.WithTimeout(ctx, lookEvery)
			s.facts.Set(s.Facts(within))
			cancel()
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// Pools of targets: they differ in how they are asked.
const (
	poolPlain = "plain"
	poolTLS   = "tls"  // with the node's certificate
	poolSelf  = "self" // ours, whose labels are its own
)

// jobSelf is the job of what the store says of itself and of the clusters.
const jobSelf = "infra"

func (s *Store) newScraper() (*scrape.Manager, error) {
	own := s.Node.Observe
	timeout := max(own.Every*8/10, time.Second)
	text := fmt.Sprintf(`global: { scrape_interval: %s, scrape_timeout: %s }
scrape_configs:
  - { job_name: %s, sample_limit: 200000, body_size_limit: 64MB }
  - { job_name: %s, sample_limit: 200000, body_size_limit: 64MB, scheme: https, tls_config: { ca_file: %q, cert_file: %q, key_file: %q } }
  - { job_name: %s, honor_labels: true, sample_limit: 200000, body_size_limit: 64MB }
`, model.Duration(own.Every), model.Duration(timeout), poolPlain, poolTLS, s.Node.TLS.CA, s.Node.TLS.Cert, s.Node.TLS.Key, poolSelf)
	c, err := config.Load(text, quiet(s.Log))
	if err != nil {
		return nil, fmt.Errorf("whom to ask: %w", err)
	}
	m, err := scrape.NewManager(&scrape.Options{}, quiet(s.Log), nil, s.db, nil, s.registry)
	if err != nil {
		return nil, err
	}
	return m, m.ApplyConfig(c)
}

// scrape asks the targets until ctx ends.
func (s *Store) scrape(ctx context.Context) error {
	sets := make(chan map[string][]*targetgroup.Group)
	ended := make(chan error, 1)
	go func() { ended <- s.scraper.Run(sets) }()
	defer func() {
		s.scraper.Stop()
		<-ended
	}()
	for seen := uint64(0); ; {
		targets, version, err := s.discovery.targets.Wait(ctx, seen)
		if err != nil {
			return nil
		}
		seen = version
		select {
		case sets <- s.groups(targets):
		case <-ctx.Done():
			return nil
		}
	}
}

// groups are targets in the words of the scraper.
func (s *Store) groups(targets []spec.Target) map[string][]*targetgroup.Group {
	sets := map[string][]*targetgroup.Group{poolPlain: {}, poolTLS: {}}
	for _, t := range targets {
		pool := poolPlain
		if t.TLS {
			pool = poolTLS
		}
		l := func(s string) model.LabelValue { return model.LabelValue(s) }
		sets[pool] = append(sets[pool], &targetgroup.Group{
			Source:  t.Job + "/" + t.Member + "/" + t.Address,
			Targets: []model.LabelSet{{model.AddressLabel: l(t.Address)}},
			Labels:  model.LabelSet{"job": l(t.Job), "cls": l(t.Cluster), "ins": l(t.Member), "ip": l(t.IP)},
		})
	}
	sets[poolSelf] = []*targetgroup.Group{{
		Source: poolSelf, Targets: []model.LabelSet{{model.AddressLabel: model.LabelValue(s.Node.Observe.Listen[0])}},
		Labels: model.LabelSet{"job": jobSelf, "ip": model.LabelValue(s.Node.Host)},
	}}
	if s.pushes != nil { // its series have the labels that they were pushed with, and no others
		sets[poolSelf] = append(sets[poolSelf], &targetgroup.Group{
			Source: "push", Targets: []model.LabelSet{{model.AddressLabel: model.LabelValue(s.beside(pushPort))}}, Labels: model.LabelSet{"job": "pushgateway"},
		})
	}
	sets[poolPlain] = append(sets[poolPlain], s.pings()...)
	return sets
}

// newRules loads the rules that ship, and those of the operator's own directory.
// One of these that can not be used is told and left out: the others still hold.
func (s *Store) newRules() error {
	ctx, quit := context.WithCancel(context.Background())
	s.quit = quit
	s.rules = rules.NewManager(&rules.ManagerOptions{
		Context: ctx, Appendable: s.db, Queryable: s.db, QueryFunc: rules.EngineQueryFunc(s.engine, s.db), NotifyFunc: s.notify,
		Logger: quiet(s.Log), Registerer: s.registry, OutageTolerance: time.Hour, ForGracePeriod: 10 * time.Minute, ResendDelay: time.Minute,
		GroupLoader: loader{s.parser, quiet(s.Log)}, Parser: s.parser,
	})
	var names []string
	for _, f := range alert.Shipped() {
		names = append(names, shipped+f.Name)
	}
	own, err := filepath.Glob(filepath.Join(s.Node.Observe.Rules, "*.yml"))
	if err != nil {
		return err
	}
	for _, name := range own {
		if _, errs := (loader{s.parser, quiet(s.Log)}).Load(name, false, model.UTF8Validation); len(errs) > 0 {
			s.Log.Error("rules not used", logkey.Path, name, logkey.Error, errors.Join(errs...))
			continue
		}
		names = append(names, name)
	}
	return s.rules.Update(evaluate, names, labels.EmptyLabels(), s.url(), nil)
}

// url is where a person finds the store.
func (s *Store) url() string { return "http://" + s.Node.Observe.Listen[0] }

// shipped begins the name of a file of rules that is part of the program.
const shipped = "shipped/"

// A loader reads rules, those of the program among them.
type loader struct {
	parser parser.Parser
	log    *slog.Logger
}

// Load implements rules.GroupLoader.
func (l loader) Load(name string, ignore bool, names model.ValidationScheme) (*rulefmt.RuleGroups, []error) {
	if of, ok := strings.CutPrefix(name, shipped); ok {
		all := alert.Shipped()
		i := slices.IndexFunc(all, func(f alert.File) bool { return f.Name == of })
		if i < 0 {
			return nil, []error{fmt.Errorf("%s: %w", name, os.ErrNotExist)}
		}
		return rulefmt.Parse(all[i].Text, ignore, names, l.parser, l.log)
	}
	return rulefmt.ParseFile(name, ignore, names, l.parser, l.log)
}

// Parse implements rules.GroupLoader.
func (l loader) Parse(query string) (parser.Expr, error) { return l.parser.ParseExpr(query) }

// quiet keeps to itself what Prometheus's parts tell of their daily work.
func quiet(log *slog.Logger) *slog.Logger { return slog.New(louder{log.Handler()}) }

// louder passes what is a warning at least.
type louder struct{ slog.Handler }

func (h louder) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= slog.LevelWarn && h.Handler.Enabled(ctx, l)
}

func (h louder) WithAttrs(a []slog.Attr) slog.Handler { return louder{h.Handler.WithAttrs(a)} }

func (h louder) WithGroup(name string) slog.Handler { return louder{h.Handler.WithGroup(name)} }
