package control

import (
	"context"
	"crypto/rand"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"time"

	"howdah/observe/notice"
	"howdah/observe/silence"
	"howdah/problem"
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
func (m MetricStore) Silence(s notice.Silence, now time.Time) (notice.Silence, error) {
	const what = "cannot silence alerts"
	if err := s.Check(); err != nil {
		return s, &problem.Error{Code: "silence-refused", What: what, Why: err.Error(), Do: "name alerts, or what their labels are: `howdah alerts silence NodeLoadHigh cls=demo`", Err: err}
	}
	if !s.Ends.After(now) || !s.Ends.After(s.Starts) {
		return s, &problem.Error{Code: "silence-refused", What: what, Why: "it would be over before it began", Do: "say for how long, with --for 2h"}
	}
	s.ID = strings.ToLower(rand.Text()[:8])
	if s.By == "" {
		s.By = person()
	}
	return s, m.change(what, now, func(all []notice.Silence) ([]notice.Silence, error) { return append(all, s), nil })
}

// Unsilence ends silences before their time: those with these numbers.
func (m MetricStore) Unsilence(ids []string, now time.Time) (ended []notice.Silence, err error) {
	const what = "cannot end a silence"
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

// change changes the file of silences, which is on the machine that keeps metrics.
func (m MetricStore) change(what string, now time.Time, f func([]notice.Silence) ([]notice.Silence, error)) error {
	switch {
	case m.url == "":
		return &problem.Error{Code: "metrics-none", What: what, Why: "no node here keeps metrics", Do: "`howdah up --observe` has a node of a playground keep them"}
	case m.silences == "":
		return &problem.Error{Code: "silence-elsewhere", What: what, Why: "who is told of alerts is decided where metrics are kept, at " + m.url, Do: "give the same command on that machine"}
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
