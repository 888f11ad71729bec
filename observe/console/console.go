// Package console is the page for people who would rather look: one page that
// shows every observed cluster as it is now, what fires, what happened and why,
// and how the last hours were.
//
// It is plain files that are part of the program, and asks for nothing from elsewhere:
// what it shows is `howdah status`, `howdah why` and the store of metrics, in the same
// words. Only who knows a password sees more than the form that asks for it; who knows
// the operator's may change what `howdah switchover`, `restart`, `pause` and `reinit`
// do, sees beforehand what that would be, and is named in the log.
package console

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"path"
	"sync"
	"time"

	"howdah/cluster"
	"howdah/control"
	"howdah/logkey"
	"howdah/machine/doctor"
	"howdah/problem"
	"howdah/secret"
)

//go:embed page
var files embed.FS

const (
	lookEvery   = time.Second      // while somebody watches
	aliveEvery  = 15 * time.Second // something is said to who watches, at least
	writeWithin = 10 * time.Second // to who reads
	maxWatchers = 64               // of one cluster
	pages       = 20               // of failovers, the newest
)

// A Looked cluster is one that the console shows.
type Looked interface {
	Status(ctx context.Context) (control.Status, error)
}

// Options are what a console needs.
type Options struct {
	Clusters map[string]Looked // by name
	// Metrics answers Prometheus's API below /api/v1; of it the console passes on
	// what reads.
	Metrics  http.Handler
	Password secret.Text // of who looks; "": nobody does
	Operator secret.Text // of who may change something; "": nobody does
	Logs     Logs        // nil: nobody keeps any
	// Orders is how a cluster is changed on behalf of somebody.
	Orders  func(of Looked, by string) Ordered
	TLS     *tls.Config // nil: the page is served in clear
	Version string
	Log     *slog.Logger
}

// An Asked cluster is one whose servers and machines can be asked what no series has.
type Asked interface {
	Activity(ctx context.Context, member string) (control.Activity, error)
	Statements(ctx context.Context, member string, numbers []string) (map[string]string, error)
	Machines(ctx context.Context) []doctor.Finding
	Peeks(ctx context.Context) []control.PeekThere
}

// A Console answers. New makes it, Run has it look.
type Console struct {
	Options
	feeds  map[string]*feed
	door   *door
	during context.Context // what was ordered goes on while it lasts
	cease  context.CancelFunc
	acting sync.WaitGroup
}

// New makes a console.
func New(o Options) *Console {
	c := &Console{Options: o, feeds: map[string]*feed{}, door: newDoor(o.Password, o.Operator)}
	c.during, c.cease = context.WithCancel(context.Background())
	for name, of := range o.Clusters {
		c.feeds[name] = &feed{name: name, of: of, wanted: make(chan struct{}, 1), again: make(chan struct{}, 1)}
	}
	return c
}

// Run looks at clusters while somebody watches them, and answers on address until
// ctx ends. An address that can not be had is tried again.
func (c *Console) Run(ctx context.Context, address string) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	defer c.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for _, f := range c.feeds {
		wg.Go(func() { f.run(ctx) })
	}
	for said := false; ; {
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
		if err == nil {
			if c.TLS != nil {
				l = tls.NewListener(l, c.TLS)
			}
			return c.serve(ctx, l)
		}
		if !said {
			said = true
			c.Log.Error("cannot listen", logkey.Addr, address, logkey.Error, err)
		}
		select {
		case <-time.After(5 * time.Second):
		case <-ctx.Done():
			return nil
		}
	}
}

// Close waits for what was ordered to be given up; it may be under way in the cluster.
func (c *Console) Close() {
	c.cease()
	c.acting.Wait()
}

func (c *Console) serve(ctx context.Context, l net.Listener) error {
	server := &http.Server{
		Handler: c.Handler(), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		BaseContext: func(net.Listener) context.Context { return ctx }, ErrorLog: slog.NewLogLogger(c.Log.Handler(), slog.LevelDebug),
	}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	if err := server.Serve(l); ctx.Err() == nil && !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// policy lets the page have what it brings, and nothing from elsewhere.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// Handler is everything that the console answers.
func (c *Console) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", c.page)
	mux.HandleFunc("GET /page/{name}", c.file)
	mux.HandleFunc("POST /login", c.login)
	mux.HandleFunc("POST /logout", c.logout)
	mux.HandleFunc("GET /api/clusters", c.known(c.clusters))
	mux.HandleFunc("GET /api/live", c.known(c.live))
	mux.HandleFunc("GET /api/lines", c.known(c.lines))
	mux.HandleFunc("GET /api/activity", c.known(c.activity))
	mux.HandleFunc("GET /api/statements", c.known(c.statements))
	mux.HandleFunc("GET /api/machines", c.known(c.machines))
	mux.HandleFunc("GET /api/peeks", c.known(c.peeks))
	mux.HandleFunc("POST /api/plan", c.known(c.order(false)))
	mux.HandleFunc("POST /api/do", c.known(c.order(true)))
	for _, name := range []string{"query", "query_range", "alerts", "rules"} {
		mux.HandleFunc("GET /api/v1/"+name, c.known(c.Metrics.ServeHTTP))
	}
	mux.HandleFunc("GET /api/v2/silences", c.known(c.Metrics.ServeHTTP))
	safe := http.NewCrossOriginProtection().Handler(mux) // no other page sends forms here
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		safe.ServeHTTP(w, r)
	})
}

// known lets those pass who came in by the password.
func (c *Console) known(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if c.door.who(r, time.Now()) == nobody {
			http.Error(w, "log in first", http.StatusUnauthorized)
			return
		}
		h(w, r)
	}
}

func (c *Console) page(w http.ResponseWriter, r *http.Request) {
	name := "login.html"
	if c.door.who(r, time.Now()) != nobody {
		name = "index.html"
	}
	c.show(w, name)
}

// file gives what a page is made of. None of it is secret.
func (c *Console) file(w http.ResponseWriter, r *http.Request) {
	switch name := r.PathValue("name"); path.Ext(name) {
	case ".js", ".css", ".svg":
		c.show(w, name)
	default:
		http.NotFound(w, r)
	}
}

// kinds are those of files, which the system need not know.
var kinds = map[string]string{
	".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml",
}

func (c *Console) show(w http.ResponseWriter, name string) {
	text, err := fs.ReadFile(files, "page/"+name)
	if err != nil {
		http.Error(w, "there is no "+name, http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", kinds[path.Ext(name)])
	_, _ = w.Write(bytes.ReplaceAll(text, []byte("{{version}}"), []byte(c.Version))) // a client that went away is no matter
}

func (c *Console) login(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 4<<10)
	cookie, as, err := c.door.enter(r.PostFormValue("password"), time.Now())
	switch {
	case errors.Is(err, errTooMany):
		w.Header().Set("Retry-After", fmt.Sprint(int(refill/time.Second)))
		http.Error(w, err.Error(), http.StatusTooManyRequests)
		return
	case err != nil:
		c.Log.Warn("console: wrong password", logkey.Addr, r.RemoteAddr)
		http.Redirect(w, r, "/?wrong", http.StatusSeeOther)
		return
	}
	c.Log.Info("console: somebody logged in", logkey.Addr, r.RemoteAddr, "as", as)
	cookie.Secure = c.TLS != nil
	http.SetCookie(w, cookie)
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

func (c *Console) logout(w http.ResponseWriter, r *http.Request) {
	c.door.leave(r)
	http.SetCookie(w, &http.Cookie{Name: cookieName, Path: "/", MaxAge: -1, HttpOnly: true, SameSite: http.SameSiteStrictMode})
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

func (c *Console) clusters(w http.ResponseWriter, r *http.Request) {
	names := []string{}
	for name := range c.feeds {
		names = append(names, name)
	}
	answer(w, map[string]any{"clusters": sorted(names), "version": c.Version, "role": c.door.who(r, time.Now()).String()})
}

func answer(w io.Writer, v any) {
	if h, ok := w.(http.ResponseWriter); ok {
		h.Header().Set("Content-Type", "application/json")
	}
	_ = json.NewEncoder(w).Encode(v) // a client that went away is no matter
}

// A View is one look at a cluster.
type View struct {
	Cluster   string           `json:"cluster"`
	Status    *control.Status  `json:"status"` // nil: the store did not answer
	Whys      []why            `json:"whys"`
	Failovers []failover       `json:"failovers"` // the newest first
	Health    []doctor.Finding `json:"health"`
	Acts      []Act            `json:"acts"` // what was ordered here, the newest first
	Error     *problem.Error   `json:"error,omitempty"`
}

type why struct {
	Member string `json:"member"`
	cluster.Why
}

type failover struct {
	Number int64   `json:"number"`
	Outage float64 `json:"outage_ms"` // without writes
	cluster.FailoverPage
	Phases []phase `json:"phases"`
}

type phase struct {
	Name  string  `json:"name"`
	After float64 `json:"after_ms"` // the first sign
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func viewOf(name string, st control.Status, acts []Act, err error) View {
	v := View{Cluster: name, Whys: []why{}, Failovers: []failover{}, Health: []doctor.Finding{}, Acts: acts}
	if err != nil {
		p := plain(err)
		v.Error = &p
		return v
	}
	v.Status, v.Health = &st, control.Health(st)
	for _, w := range st.State.Whys {
		v.Whys = append(v.Whys, why{w.Member, w})
	}
	all := st.State.Failovers
	for i := len(all) - 1; i >= max(0, len(all)-pages); i-- {
		f := failover{Number: all[i].Number, Outage: ms(all[i].Outage()), FailoverPage: all[i], Phases: []phase{}}
		for _, p := range all[i].Phases {
			f.Phases = append(f.Phases, phase{p.Name, ms(p.After)})
		}
		v.Failovers = append(v.Failovers, f)
	}
	return v
}

// live says how a cluster is, and again whenever somebody has looked, as
// server-sent events.
func (c *Console) live(w http.ResponseWriter, r *http.Request) {
	f := c.feeds[r.FormValue("cluster")]
	if f == nil {
		http.Error(w, "there is no such cluster", http.StatusNotFound)
		return
	}
	if !f.join() {
		http.Error(w, "too many watch already", http.StatusServiceUnavailable)
		return
	}
	defer f.part()
	w.Header().Set("Content-Type", "text/event-stream")
	out := http.NewResponseController(w)
	_ = out.SetReadDeadline(time.Time{}) // the request has been read; its connection goes on
	say := func(text []byte) bool {
		_ = out.SetWriteDeadline(time.Now().Add(writeWithin))
		_, err := w.Write(text)
		return err == nil && out.Flush() == nil
	}
	if !say([]byte("retry: 1000\n\n")) {
		return
	}
	alive := time.NewTicker(aliveEvery)
	defer alive.Stop()
	for seen := uint64(0); ; {
		last, version := f.seen.Get()
		if version > seen {
			seen = version
			if now := time.Now(); now.Sub(last.at) < stale && (c.door.who(r, now) == nobody || !say(fmt.Appendf(nil, "data: %s\n\n", last.view))) {
				return
			}
		}
		select {
		case <-f.seen.Changed(seen):
		case <-alive.C:
			if !say([]byte(": still here\n\n")) {
				return
			}
		case <-r.Context().Done():
			return
		}
	}
}

// same compares in a time that tells nothing.
func same(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}
