package console

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"howdah/control"
	"howdah/logkey"
	"howdah/problem"
)

// An Ordered cluster is one that an operator may change from the page.
type Ordered interface {
	PlanOrder(ctx context.Context, o control.Order) (control.Planned, error)
}

const (
	planWithin = 10 * time.Second
	peekWithin = 90 * time.Second // the log is read around the moment
	shownActs  = 20               // of a cluster, the newest
)

// aside are the orders that change nothing of the cluster.
var aside = []string{control.VerbEndPeek, control.VerbSilence, control.VerbUnsilence}

// An Act is an order that somebody gave, with what has become of it.
type Act struct {
	Number int            `json:"number"`
	Text   string         `json:"text"`
	By     string         `json:"by"`
	At     time.Time      `json:"at"`
	Ended  time.Time      `json:"ended,omitzero"`   // zero: it is under way
	Result string         `json:"result,omitempty"` // what came of it
	Error  *problem.Error `json:"error,omitempty"`  // why nothing did

	harmless bool // it changes nothing of the cluster
}

// A ledger is what was ordered here of one cluster: one thing at a time.
type ledger struct {
	mu   sync.Mutex
	acts []Act
	last int
	busy bool
}

// begin enters an order, unless another one is under way; one that changes nothing
// stands in nobody's way.
func (l *ledger) begin(a Act) (number int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !a.harmless && l.busy {
		return 0, false
	}
	l.busy = l.busy || !a.harmless
	l.last++
	a.Number = l.last
	l.acts = append(l.acts, a)
	l.acts = l.acts[max(0, len(l.acts)-shownActs):]
	return a.Number, true
}

func (l *ledger) end(number int, result string, err error, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.IndexFunc(l.acts, func(a Act) bool { return a.Number == number })
	if i < 0 { // twenty newer ones have come and gone: it was harmless
		return
	}
	a := &l.acts[i]
	l.busy = l.busy && a.harmless
	a.Result, a.Ended = result, now
	if err != nil {
		p := plain(err)
		a.Error, a.Result = &p, ""
	}
}

// newest are the acts, the newest first.
func (l *ledger) newest() []Act {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := slices.Clone(l.acts)
	slices.Reverse(all)
	return append([]Act{}, all...)
}

func plain(err error) problem.Error {
	p := problem.Plain(err)
	if p.What == "" {
		p.What = err.Error()
	}
	return p
}

// An asked order comes from the page. Seen is the text that was shown to whoever
// confirms it: only that is done.
type asked struct {
	Cluster string `json:"cluster"`
	control.Order
	Seen  string `json:"seen"`
	Typed string `json:"typed"` // of a risky one: its member, as a person typed it
}

func refused(w http.ResponseWriter, status int, p problem.Error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	answer(w, map[string]any{"error": p})
}

// order has an operator look at what an order would do; once that was seen, it is done.
// A page that is not ours can not get here: forms are turned away by where they come
// from, the cookie does not go with them, and JSON needs a leave that nobody is given.
func (c *Console) order(do bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		who := c.door.who(r, time.Now())
		host, _, _ := net.SplitHostPort(r.RemoteAddr)
		by := who.String() + "@" + host + " (console)"
		if who != operator {
			c.Log.Warn("console: order of a viewer", logkey.Addr, r.RemoteAddr)
			refused(w, http.StatusForbidden, problem.Error{
				Code: "console-viewer", What: "cannot change anything", Why: "who logged in with the viewer's password only looks",
				Do: "log out, and in again with the operator's password; the same can be done with `howdah switchover`, `restart`, `pause` and `reinit`",
			})
			return
		}
		var a asked
		if kind := r.Header.Get("Content-Type"); kind != "application/json" {
			http.Error(w, "send JSON", http.StatusUnsupportedMediaType)
			return
		}
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 8<<10)).Decode(&a); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		of, f := c.Clusters[a.Cluster], c.feeds[a.Cluster]
		if f == nil {
			http.Error(w, "there is no such cluster", http.StatusNotFound)
			return
		}
		ordered := c.Orders(of, by)
		within, peek := planWithin, a.Verb == control.VerbPeek
		if peek {
			within = peekWithin
			_ = http.NewResponseController(w).SetReadDeadline(time.Time{}) // else the limit of who asks little ends it
		}
		ctx, cancel := context.WithTimeout(r.Context(), within)
		defer cancel()
		p, err := ordered.PlanOrder(ctx, a.Order)
		if err != nil {
			refused(w, http.StatusConflict, plain(err))
			return
		}
		if !do {
			answer(w, map[string]any{"text": p.Text, "costs": p.Costs, "risky": p.Risky, "peek": p.Peek})
			return
		}
		switch {
		case p.Text != a.Seen && !(peek && a.Seen != ""): // of a peek the log has gone on
			refused(w, http.StatusConflict, problem.Error{
				Code: "order-changed", What: "did not " + a.Verb, Why: "it would do something else by now: " + p.Text, Do: "look at it again, and confirm that",
			})
			return
		case p.Risky && a.Typed != a.Member:
			refused(w, http.StatusConflict, problem.Error{
				Code: "order-untyped", What: "did not " + a.Verb, Why: "it gives up data, and the name that was typed is not that of " + a.Member, Do: "type the member's name",
			})
			return
		}
		number, ok := f.acts.begin(Act{Text: p.Text, By: by, At: time.Now().UTC(), harmless: peek || slices.Contains(aside, a.Verb)})
		if !ok {
			refused(w, http.StatusConflict, problem.Error{
				Code: "order-busy", What: "did not " + a.Verb, Why: "something else that was ordered here is under way", Do: "wait for it; it is shown on the page",
			})
			return
		}
		f.poke()
		c.Log.Info("console: order", "order", p.Text, "by", by)
		c.acting.Go(func() {
			result, err := p.Do(c.during)
			f.acts.end(number, result, err, time.Now().UTC())
			f.poke()
			if err != nil {
				c.Log.Warn("console: order not done", "order", p.Text, "by", by, logkey.Error, err)
				return
			}
			c.Log.Info("console: order done", "order", p.Text, "by", by, "result", result)
		})
		w.WriteHeader(http.StatusAccepted)
		answer(w, map[string]any{"number": number})
	}
}
