package control

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"howdah/machine"
	"howdah/machine/doctor"
	"howdah/observe/activity"
	"howdah/pki"
	"howdah/playground"
	"howdah/problem"
	"howdah/spec"
)

// What the jobs of a member tell and do there, for whoever observes the cluster from
// another machine, by the door by which they also give logs: what its server's
// sessions do, how its machine is, what a restore would use, and a peek.

// What the sessions of a server do, for doors.
type (
	Activity = activity.Now
	Session  = activity.Session
)

const (
	pathDoctor   = "/howdah/doctor"
	pathPeek     = "/howdah/peek"
	pathSilences = "/howdah/silences"
	peekedFor    = 15 * time.Minute // a peek that was asked for from elsewhere is there for so long
	thereWithin  = 5 * time.Second
	planPeekSoon = time.Minute // it reads the log around the moment
	peekWithin   = 12 * time.Hour
	examineEvery = 30 * time.Second
)

// There is a node's end of that door.
type There struct {
	node   spec.Node
	server *activity.Server // nil: it has none
	log    *slog.Logger

	mu       sync.Mutex
	examined time.Time
	findings []doctor.Finding
	peeking  chan struct{} // whoever is in may look
	open     sync.WaitGroup
	look     sync.Mutex    // over what follows
	shown    *PeekThere    // the peek that is open
	end      chan struct{} // closed: it is to end
	ended    chan struct{} // closed: it has
}

// Wait waits for the end of a peek that is open, after that of Handle's ctx.
func (t *There) Wait() { t.open.Wait() }

// NewThere returns the door of n. Where n has a server, its socket is dsn.
func NewThere(n spec.Node, dsn string, log *slog.Logger) (*There, error) {
	t := &There{node: n, log: log, peeking: make(chan struct{}, 1)}
	if n.Postgres.Data == "" {
		return t, nil
	}
	var err error
	t.server, err = activity.New(dsn)
	return t, err
}

// peekThere is a peek that is asked for.
type peekThere struct {
	To   string `json:"to"`
	Open bool   `json:"open"` // else it is only planned
	By   string `json:"by"`
}

// A PeekThere is a peek on the machine of a member.
type PeekThere struct {
	Plan   *Peek     `json:"plan"`
	Beside string    `json:"beside"`
	Server *Peeked   `json:"server,omitempty"` // of one that is open
	Until  time.Time `json:"until,omitzero"`
	By     string    `json:"by,omitempty"`
}

// Handle answers other machines until ctx ends; a peek that is open ends with it.
func (t *There) Handle(ctx context.Context, mux *http.ServeMux) {
	if t.server != nil {
		t.server.Handle(mux)
	}
	if t.node.Observe.On() {
		mux.HandleFunc("POST "+pathSilences, t.silence)
	}
	mux.HandleFunc("GET "+pathDoctor, func(w http.ResponseWriter, r *http.Request) {
		_ = json.NewEncoder(w).Encode(t.examine(r.Context())) // a client that went away is no matter
	})
	mux.HandleFunc("POST "+pathPeek, func(w http.ResponseWriter, r *http.Request) {
		var ask peekThere
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 4<<10)).Decode(&ask); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		out := http.NewResponseController(w)
		_ = out.SetReadDeadline(time.Time{}) // else the limits for whoever asks little hold
		p, err := t.peek(ctx, r.Context(), ask)
		answerThere(w, p, err)
	})
	mux.HandleFunc("GET "+pathPeek, func(w http.ResponseWriter, _ *http.Request) {
		t.look.Lock()
		defer t.look.Unlock()
		_ = json.NewEncoder(w).Encode(t.shown)
	})
	mux.HandleFunc("DELETE "+pathPeek, func(w http.ResponseWriter, r *http.Request) {
		_ = json.NewEncoder(w).Encode(t.endPeek(r.FormValue("by")))
	})
}

// answerThere says what came of something that was asked.
func answerThere(w http.ResponseWriter, v any, err error) {
	if err != nil {
		e := problem.Plain(err)
		e.What = cmp.Or(e.What, err.Error())
		w.WriteHeader(http.StatusConflict)
		v = e
	}
	_ = json.NewEncoder(w).Encode(v) // a client that went away is no matter
}

// endPeek ends the peek that is open, and says which that was.
func (t *There) endPeek(by string) *PeekThere {
	t.look.Lock()
	was, ended := t.shown, t.ended
	if was != nil && t.end != nil {
		t.log.Info("peek is ended", "to", was.Plan.To.String(), "by", by)
		close(t.end)
		t.end = nil // once
	}
	t.look.Unlock()
	if was != nil {
		<-ended
	}
	return was
}

// examine is what `howdah doctor` says of this machine, as the jobs' user sees it; not
// oftener than twice a minute, for it writes a file to see how long a flush takes.
func (t *There) examine(ctx context.Context) []doctor.Finding {
	t.mu.Lock()
	defer t.mu.Unlock()
	if time.Since(t.examined) < examineEvery {
		return t.findings
	}
	home := filepath.Dir(filepath.Dir(t.node.Paths.Dir))
	s := machine.Subject(home, t.node)
	if _, err := playground.Load(home); err == nil { // its nodes have networks of their own
		s.Host, s.Ports = "", nil
	}
	t.findings, t.examined = doctor.Judge(machine.Look(ctx, s)), time.Now()
	return t.findings
}

// peek plans a peek, and opens it.
func (t *There) peek(life, ctx context.Context, ask peekThere) (PeekThere, error) {
	c, err := Beside(t.node)
	if err != nil {
		return PeekThere{}, err
	}
	defer c.Close()
	at, err := ParseMoment(ask.To, time.Now())
	if err != nil {
		return PeekThere{}, err
	}
	what := fmt.Sprintf("cannot show cluster %s as of %s", c.Name, at)
	select {
	case t.peeking <- struct{}{}:
	default:
		return PeekThere{}, &problem.Error{Code: "restore-refused", What: what, Why: "somebody looks at a moment on the machine of " + t.node.Member + " already", Do: "wait until that is over; `howdah restore --peek` on a member's machine needs nobody"}
	}
	open := false
	defer func() {
		if !open {
			<-t.peeking
		}
	}()
	p, err := c.planned(ctx, &Peek{Cluster: c.Name, To: at, Notes: []string{}, node: t.node, what: what, dir: t.node.Paths.Dir}, "")
	if err != nil {
		return PeekThere{}, err
	}
	all := PeekThere{Plan: p, Beside: t.node.Member}
	if !ask.Open {
		return all, nil
	}
	t.log.Info("peek", "to", p.To.String(), "by", ask.By)
	server, err := p.Open(ctx, func(step string) { t.log.Info("peek", "step", step) })
	if err != nil {
		return PeekThere{}, err
	}
	open, all.Server, all.Until, all.By = true, server, time.Now().Add(peekedFor).UTC(), ask.By
	end, ended := make(chan struct{}), make(chan struct{})
	t.look.Lock()
	t.shown, t.end, t.ended = &all, end, ended
	t.look.Unlock()
	t.open.Go(func() {
		defer close(ended)
		defer func() {
			t.look.Lock()
			defer t.look.Unlock()
			t.shown, t.end = nil, nil
			<-t.peeking
		}()
		defer server.Close()
		timer := time.NewTimer(peekedFor)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-end:
		case <-server.Ended():
		case <-life.Done():
		}
		t.log.Info("peek is over", "to", p.To.String(), "by", ask.By)
	})
	return all, nil
}

// askJobs asks the jobs of a member.
func (c *Cluster) askJobs(ctx context.Context, member, path string, body, into any) error {
	if body == nil {
		return c.tellJobs(ctx, http.MethodGet, member, path, nil, into)
	}
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	return c.tellJobs(ctx, http.MethodPost, member, path, text, into)
}

func (c *Cluster) tellJobs(ctx context.Context, method, member, path string, text []byte, into any) error {
	i := slices.IndexFunc(c.jobs, func(l spec.Logged) bool { return l.Member == member })
	if i < 0 {
		return &problem.Error{Code: "member-unknown", What: "cannot ask " + member, Why: "it is no member of " + c.Name + " that is observed from here", Do: "name another one"}
	}
	return askDoor(ctx, c.peers, method, member, c.jobs[i].URL+path, text, into)
}

// errNotThere is said of a door that has nothing behind it for what was asked.
var errNotThere = errors.New("404 Not Found")

// askDoor asks the jobs of a node.
func askDoor(ctx context.Context, peers *pki.Peers, method, member, at string, text []byte, into any) error {
	away := func(err error) error {
		return &problem.Error{
			Code: "jobs-away", What: "cannot ask the jobs of " + member, Why: err.Error(),
			Do: "see whether its machine is up, and jobs.log there", Err: err,
		}
	}
	r, err := http.NewRequestWithContext(ctx, method, at, bytes.NewReader(text))
	if err != nil {
		return err
	}
	t := &http.Transport{TLSClientConfig: peers.To(hostOf(at)), DisableKeepAlives: true} // ctx says how long it may take
	resp, err := (&http.Client{Transport: t}).Do(r)
	if err != nil {
		return away(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 8<<20))
	var refused problem.Error
	switch {
	case err != nil:
		return away(err)
	case resp.StatusCode == http.StatusConflict && json.Unmarshal(answer, &refused) == nil:
		return &refused
	case resp.StatusCode == http.StatusNotFound:
		return away(errNotThere)
	case resp.StatusCode != http.StatusOK:
		return away(fmt.Errorf("%s: %.200s", resp.Status, bytes.TrimSpace(answer)))
	}
	return json.Unmarshal(answer, into)
}

// Activity says what the sessions of a member's server do now.
func (c *Cluster) Activity(ctx context.Context, member string) (a Activity, err error) {
	ctx, cancel := context.WithTimeout(ctx, thereWithin)
	defer cancel()
	err = c.askJobs(ctx, member, activity.PathNow, nil, &a)
	return a, err
}

// Statements are the texts of statements by their numbers, with parameters in place of
// constants, as a member's server has them.
func (c *Cluster) Statements(ctx context.Context, member string, numbers []string) (texts map[string]string, err error) {
	ctx, cancel := context.WithTimeout(ctx, thereWithin)
	defer cancel()
	err = c.askJobs(ctx, member, activity.PathStatements+"?"+url.Values{"ids": {strings.Join(numbers, ",")}}.Encode(), nil, &texts)
	return texts, err
}

// Machines is what `howdah doctor` finds on every machine of the cluster, by member.
func (c *Cluster) Machines(ctx context.Context) []doctor.Finding {
	ctx, cancel := context.WithTimeout(ctx, 2*thereWithin)
	defer cancel()
	of := make([][]doctor.Finding, len(c.jobs))
	var wg sync.WaitGroup
	for i, m := range c.jobs {
		wg.Go(func() {
			if err := c.askJobs(ctx, m.Member, pathDoctor, nil, &of[i]); err != nil {
				p := problem.Plain(err)
				of[i] = []doctor.Finding{{Check: "machine", Grade: doctor.Unknown, Evidence: p.What + ": " + p.Why, Do: p.Do}}
			}
			for j := range of[i] {
				of[i][j].Host = m.Member
			}
		})
	}
	wg.Wait()
	return slices.Concat(of...)
}

// planPeek has a member plan a peek: a standby, where one answers.
func (c *Cluster) planPeek(ctx context.Context, o Order) (p Planned, err error) {
	if o.To == "" {
		return p, &problem.Error{Code: "restore-target", What: "cannot look at a moment", Why: "none is named", Do: "give a time like '2026-11-21 14:30:00' or '10 minutes ago', or latest"}
	}
	s, err := c.State(ctx)
	if err != nil {
		return p, err
	}
	members := slices.Clone(c.jobs)
	slices.SortStableFunc(members, func(x, y spec.Logged) int {
		return cmp.Compare(not(x.Member != s.LeaderName()), not(y.Member != s.LeaderName()))
	})
	err = &problem.Error{Code: "restore-unreachable", What: "cannot show cluster " + c.Name, Why: "no machine of it that has a server is known here", Do: "`howdah restore --peek` on one of them"}
	for _, m := range members {
		if _, is := s.Member(m.Member); !is {
			continue
		}
		var there PeekThere
		asked := peekThere{To: o.To, By: c.person()}
		within, cancel := context.WithTimeout(ctx, planPeekSoon)
		err = c.askJobs(within, m.Member, pathPeek, asked, &there)
		cancel()
		if problem.Code(err) == "jobs-away" {
			continue
		}
		if err != nil {
			return p, err
		}
		p.Text = fmt.Sprintf("show %s as of %s on the machine of %s, from %s backup %s", c.Name, there.Plan.To, there.Beside, there.Plan.Type, there.Plan.Backup)
		p.Peek = there.Plan
		p.Costs = "the cluster does not notice; it is there for " + peekedFor.String() + ", read-only, on a socket that only PostgreSQL's user of that machine may enter"
		p.Do = func(ctx context.Context) (string, error) {
			asked.Open = true
			ctx, cancel := context.WithTimeout(ctx, peekWithin)
			defer cancel()
			if err := c.askJobs(ctx, m.Member, pathPeek, asked, &there); err != nil {
				return "", err
			}
			at := there.Server.LSN
			if !there.Server.Commit.IsZero() {
				at += ", its last commit of " + there.Server.Commit.Local().Format(time.DateTime)
			}
			return fmt.Sprintf("it stands at %s; on the machine of %s, until %s, as PostgreSQL's user: psql -h %s -p %d -U %s -d %s", at, there.Beside,
				there.Until.Local().Format("15:04"), there.Server.Host, there.Server.Port, there.Server.User, there.Server.Database), nil
		}
		return p, nil
	}
	return p, err
}

// Peeks are those that are open on machines of the cluster, by the console or whoever
// else asked its jobs; a member that does not answer shows none.
func (c *Cluster) Peeks(ctx context.Context) []PeekThere {
	ctx, cancel := context.WithTimeout(ctx, thereWithin)
	defer cancel()
	of := make([]*PeekThere, len(c.jobs))
	var wg sync.WaitGroup
	for i, m := range c.jobs {
		wg.Go(func() { _ = c.askJobs(ctx, m.Member, pathPeek, nil, &of[i]) })
	}
	wg.Wait()
	all := []PeekThere{}
	for _, p := range of {
		if p != nil {
			all = append(all, *p)
		}
	}
	return all
}

// planEndPeek ends a peek before its time.
func (c *Cluster) planEndPeek(ctx context.Context, o Order) (p Planned, err error) {
	if o.Member == "" {
		return p, unclear(o)
	}
	var open *PeekThere
	within, cancel := context.WithTimeout(ctx, 2*thereWithin)
	defer cancel()
	if err := c.askJobs(within, o.Member, pathPeek, nil, &open); err != nil {
		return p, err
	}
	if open == nil {
		return p, &problem.Error{Code: "restore-refused", What: "cannot end a look at a moment on the machine of " + o.Member, Why: "nobody looks at one there", Do: "none is needed"}
	}
	p.Text = fmt.Sprintf("end the look at %s as of %s on the machine of %s", c.Name, open.Plan.To, o.Member)
	p.Costs = "whoever is connected to it is disconnected; the cluster does not notice"
	p.Do = func(ctx context.Context) (string, error) {
		var was *PeekThere
		if err := c.tellJobs(ctx, http.MethodDelete, o.Member, pathPeek+"?"+url.Values{"by": {c.person()}}.Encode(), nil, &was); err != nil {
			return "", err
		}
		return "it is over, and what it took on the machine of " + o.Member + " is given back", nil
	}
	return p, nil
}
