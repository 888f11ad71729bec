package control

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"slices"
	"strings"
	"time"

	"howdah/observe/notice"
	"howdah/observe/silence"
	"howdah/pki"
	"howdah/problem"
	"howdah/spec"
)

// A Silenced is a silence, with whether it is in force.
type Silenced struct {
	notice.Silence
	Status struct {
		State string `json:"state"`
	} `json:"status"`
}

// Silences are those that the store of metrics goes by: those in force, then those that
// are to come, then those that have ended of late.
func (m MetricStore) Silences(ctx context.Context) ([]Silenced, error) {
	all := []Silenced{}
	if err := m.fetch(ctx, "/api/v2/silences", nil, &all); err != nil {
		return nil, err
	}
	order := []string{notice.Active, notice.PendingSilence, notice.Expired}
	slices.SortStableFunc(all, func(a, b Silenced) int {
		return slices.Index(order, a.Status.State) - slices.Index(order, b.Status.State)
	})
	return all, nil
}

// Silence keeps the alerts that s is about from being told to anybody, from s.Starts to
// s.Ends. The store sees it within seconds.
func (m MetricStore) Silence(ctx context.Context, s notice.Silence, now time.Time) (notice.Silence, error) {
	const what = "cannot silence alerts"
	if err := s.Check(); err != nil {
		return s, &problem.Error{Code: "silence-refused", What: what, Why: err.Error(), Do: "name alerts, or what their labels are: `howdah alerts silence NodeLoadHigh cls=demo`", Err: err}
	}
	if !s.Ends.After(now) || !s.Ends.After(s.Starts) {
		return s, &problem.Error{Code: "silence-refused", What: what, Why: "it would be over before it began", Do: "say for how long, with --for 2h"}
	}
	if s.By == "" {
		s.By = person()
	}
	if m.afar() {
		made, err := m.there(ctx, what, silencing{Silence: &s})
		if err == nil && len(made) == 1 {
			s = made[0]
		}
		return s, err
	}
	s.ID = strings.ToLower(rand.Text()[:8])
	return s, m.change(what, now, func(all []notice.Silence) ([]notice.Silence, error) { return append(all, s), nil })
}

// Unsilence ends silences before their time: those with these numbers.
func (m MetricStore) Unsilence(ctx context.Context, ids []string, now time.Time) (ended []notice.Silence, err error) {
	const what = "cannot end a silence"
	if m.afar() {
		return m.there(ctx, what, silencing{End: ids, By: person()})
	}
	err = m.change(what, now, func(all []notice.Silence) ([]notice.Silence, error) {
		for _, id := range ids {
			i := slices.IndexFunc(all, func(s notice.Silence) bool { return s.ID == id && s.State(now) != notice.Expired })
			if i < 0 {
				return nil, &problem.Error{Code: "silence-unknown", What: what, Why: "there is none called " + id, Do: "`howdah alerts silences` shows them; those called file-… are in notify.yml"}
			}
			all[i].Ends = now
			all[i].Starts = earlier(all[i].Starts, now)
			ended = append(ended, all[i])
		}
		return all, nil
	})
	return ended, err
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// silencing is a change of silences, as another machine asks for it.
type silencing struct {
	Silence *notice.Silence `json:"silence,omitempty"` // one more
	End     []string        `json:"end,omitempty"`     // else these end
	By      string          `json:"by,omitempty"`
}

// afar says that the silences are kept on another machine.
func (m MetricStore) afar() bool { return m.silences == "" && m.url != "" }

// there has the machine that keeps metrics change its silences. The door is that by
// which its logs are read: only a node of ours comes in.
func (m MetricStore) there(ctx context.Context, what string, ask silencing) (all []notice.Silence, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*thereWithin)
	defer cancel()
	var known []spec.Logged
	if err := m.fetch(ctx, "/howdah/logs", nil, &known); err != nil {
		return nil, err
	}
	text, err := json.Marshal(ask)
	if err != nil {
		return nil, err
	}
	peers, err := pki.Open(m.trust)
	if err != nil {
		return nil, &problem.Error{Code: "silence-elsewhere", What: what, Why: "who is told of alerts is decided where metrics are kept, at " + m.url + ", which lets in who has a node's key", Do: "give the command as root, or on that machine", Err: err}
	}
	for _, l := range known {
		if hostOf(l.URL) != hostOf(m.url) {
			continue
		}
		err := askDoor(ctx, peers, http.MethodPost, l.Member, l.URL+pathSilences, text, &all)
		if errors.Is(err, errNotThere) { // another node of that machine
			continue
		}
		return all, err
	}
	return nil, &problem.Error{Code: "silence-elsewhere", What: what, Why: "who is told of alerts is decided where metrics are kept, at " + m.url + ", and no jobs of that machine can be asked (it keeps no logs)", Do: "give the same command on that machine"}
}

// silence changes the silences that are kept here for another machine.
func (t *There) silence(w http.ResponseWriter, r *http.Request) {
	var ask silencing
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10)).Decode(&ask); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	from := r.RemoteAddr
	if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
		from = r.TLS.PeerCertificates[0].Subject.CommonName
	}
	m, now := MetricStore{url: "http://" + t.node.Observe.Listen[0], silences: silence.Path(t.node.Observe)}, time.Now().UTC()
	var all []notice.Silence
	var err error
	if s := ask.Silence; s != nil {
		var made notice.Silence
		made, err = m.Silence(r.Context(), *s, now)
		all = []notice.Silence{made}
		if err == nil {
			t.log.Info("alerts are silenced", "silence", made.ID, "alerts", made.String(), "until", made.Ends, "by", made.By, "from", from)
		}
	} else if all, err = m.Unsilence(r.Context(), ask.End, now); err == nil {
		t.log.Info("alerts are told again", "silence", strings.Join(ask.End, " "), "by", ask.By, "from", from)
	}
	answerThere(w, all, err)
}

// planSilence has alerts told to nobody for a while.
func (c *Cluster) planSilence(ctx context.Context, o Order) (p Planned, err error) {
	const what = "cannot silence alerts"
	s := notice.Silence{By: c.person(), Comment: o.Comment}
	for _, text := range o.Matchers {
		m, err := notice.ParseMatcher(text)
		if err != nil {
			return p, &problem.Error{Code: "silence-refused", What: what, Why: err.Error(), Do: "name alerts, or what their labels are: NodeLoadHigh, cls=demo", Err: err}
		}
		s.Matchers = append(s.Matchers, m)
	}
	if err := s.Check(); err != nil {
		return p, &problem.Error{Code: "silence-refused", What: what, Why: err.Error(), Do: "name alerts, or what their labels are: NodeLoadHigh, cls=demo", Err: err}
	}
	last, err := time.ParseDuration(o.For)
	if err != nil || last < time.Minute || last > 30*24*time.Hour {
		return p, &problem.Error{Code: "silence-refused", What: what, Why: fmt.Sprintf("%q is no time between a minute and 30 days", o.For), Do: "give one like 2h"}
	}
	all, err := c.Alerts(ctx)
	if err != nil {
		return p, err
	}
	var meant []string
	for _, a := range (Alerts{All: all}).Firing() {
		if s.Matches(a.Labels) {
			meant = append(meant, strings.TrimSpace(a.Name+" "+a.Member))
		}
	}
	p.Text = fmt.Sprintf("tell nobody of %s for %s", s, last)
	p.Costs = "nothing that fires now is meant; what is will be shown here all the same"
	if len(meant) > 0 {
		p.Costs = "of what fires now this is " + strings.Join(meant, ", ") + "; it is shown here all the same, and told when the time is over and it still fires"
	}
	p.Do = func(ctx context.Context) (string, error) {
		now := time.Now().UTC().Truncate(time.Second)
		s.Starts, s.Ends = now, now.Add(last)
		made, err := c.metrics.Silence(ctx, s, now)
		return fmt.Sprintf("nobody is told until %s (%s)", made.Ends.Local().Format(time.DateTime), made.ID), err
	}
	return p, nil
}

// planUnsilence ends a silence before its time.
func (c *Cluster) planUnsilence(ctx context.Context, o Order) (p Planned, err error) {
	all, err := c.metrics.Silences(ctx)
	if err != nil {
		return p, err
	}
	i := slices.IndexFunc(all, func(s Silenced) bool { return s.ID == o.Silence && s.Status.State != notice.Expired })
	if i < 0 {
		return p, &problem.Error{Code: "silence-unknown", What: "cannot end a silence", Why: "there is none called " + o.Silence, Do: "it may have ended; those called file-… are in notify.yml"}
	}
	p.Text = "tell people again of " + all[i].String()
	p.Costs = "what of it fires is told within seconds"
	p.Do = func(ctx context.Context) (string, error) {
		_, err := c.metrics.Unsilence(ctx, []string{o.Silence}, time.Now().UTC())
		return "what fires is told again", err
	}
	return p, nil
}

// change changes the file of silences, which is on the machine that keeps metrics.
func (m MetricStore) change(what string, now time.Time, f func([]notice.Silence) ([]notice.Silence, error)) error {
	if m.url == "" {
		return &problem.Error{Code: "metrics-none", What: what, Why: "no node here keeps metrics", Do: "`howdah up --observe` has a node of a playground keep them"}
	}
	err := silence.Change(m.silences, now, f)
	if _, is := errors.AsType[*problem.Error](err); err == nil || is {
		return err
	}
	p := &problem.Error{Code: "silence-unkept", What: what, Why: m.silences + " can not be changed", Do: "give the command as its owner or as root; a file that is broken has to be mended or moved away", Err: err}
	switch {
	case errors.Is(err, silence.ErrMany):
		p.Code, p.Why, p.Do = "silence-refused", err.Error(), "end some, with `howdah alerts unsilence`"
	case errors.Is(err, fs.ErrPermission):
		p.Do = "give the command as root, or as the user of the node that keeps metrics"
	}
	return p
}
