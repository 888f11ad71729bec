package store

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/prometheus/rules"

	"howdah/logkey"
	"howdah/observe/notice"
	"howdah/observe/silence"
)

// tellEvery is how often it is looked whether somebody is to be told.
const tellEvery = 5 * time.Second

// settings are those of the file that says who is told; none where it is not there.
// One that can not be used is told, and nobody else is.
func (s *Store) settings() notice.Settings {
	path := s.Node.Observe.Tell
	if path == "" {
		return notice.Settings{}
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return notice.Settings{}
	}
	var set notice.Settings
	if err == nil {
		set, err = notice.Parse(text)
	}
	if err != nil {
		s.Log.Error("nobody is told of alerts", logkey.Path, path, logkey.Error, err)
		return notice.Settings{}
	}
	return set
}

// tell tells webhooks and people of alerts until ctx ends.
func (s *Store) tell(ctx context.Context) error {
	set := s.set
	var told []*receiver
	for _, to := range set.Webhooks {
		told = append(told, s.webhook(to))
	}
	for _, m := range set.Mails {
		told = append(told, s.mail(m))
	}
	tick := time.NewTicker(tellEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		if len(told) == 0 {
			continue
		}
		now, firing, set := s.now(), s.firing(), s.hushes()
		var all sync.WaitGroup
		for _, w := range told { // nobody waits for another's server
			all.Go(func() { s.tellOne(ctx, w, set, now, firing) })
		}
		all.Wait()
	}
}

// hushes are the settings with all silences, those of the file and those by command.
func (s *Store) hushes() notice.Settings {
	set := s.set
	set.Silences = append(slices.Clone(set.Silences), s.silenced()...)
	return set
}

// silenced are the silences that were given by command; while they can not be read those
// that were read last.
func (s *Store) silenced() []notice.Silence {
	s.hush.Lock()
	defer s.hush.Unlock()
	all, err := silence.Load(silence.Path(s.Node.Observe))
	switch {
	case err == nil:
		s.hushed, s.hushUnread = all, false
	case !s.hushUnread:
		s.hushUnread = true
		s.Log.Error("silences not read", logkey.Error, err)
	}
	return s.hushed
}

// showSilences answers as an Alertmanager does, in its API's version 2. They are given
// and ended elsewhere: this door has no password.
func (s *Store) showSilences(w http.ResponseWriter, _ *http.Request) {
	type status struct {
		State string `json:"state"`
	}
	type one struct {
		notice.Silence
		Status status `json:"status"`
	}
	all := []one{}
	for _, of := range s.hushes().Silences {
		all = append(all, one{of, status{of.State(s.now())}})
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(all) // a client that went away is no matter
}

// A receiver is somebody who is told, with what was told so far: what one did not
// take is told to it again, and to the others not twice.
type receiver struct {
	to      string
	give    func(ctx context.Context, m notice.Message) error
	memory  notice.Memory
	failing bool
}

func (s *Store) webhook(to string) *receiver {
	return &receiver{to: to, give: func(ctx context.Context, m notice.Message) error { return post(ctx, to, m.JSON("default", s.url())) }}
}

func (s *Store) mail(to notice.Mail) *receiver {
	return &receiver{to: to.Smarthost, give: func(ctx context.Context, m notice.Message) error {
		return send(ctx, to, m.Letter(to, s.url(), s.now()), s.trusted)
	}}
}

func (s *Store) tellOne(ctx context.Context, w *receiver, set notice.Settings, now time.Time, firing []notice.Alert) {
	messages, next := notice.Decide(now, set, firing, w.memory)
	var failed error
	for _, m := range messages {
		if err := w.give(ctx, m); err != nil {
			failed = err
			restore(next, w.memory, m.Key)
		}
	}
	w.memory = next
	switch {
	case failed != nil && !w.failing:
		s.Log.Warn("alerts not told", logkey.Addr, w.to, logkey.Error, failed)
	case failed == nil && w.failing && len(messages) > 0:
		s.Log.Info("alerts are told again", logkey.Addr, w.to)
	}
	w.failing = failed != nil || w.failing && len(messages) == 0
}

// restore takes back that a group was told.
func restore(next, before notice.Memory, key string) {
	g, ok := before[key]
	if !ok { // new, and due at once
		g = next[key]
		g.Told, g.Knows = time.Time{}, nil
	}
	next[key] = g
}

// firing are the alerts that fire now.
func (s *Store) firing() []notice.Alert {
	var all []notice.Alert
	for _, r := range s.rules.AlertingRules() {
		for _, a := range r.ActiveAlerts() {
			if a.State == rules.StateFiring {
				all = append(all, notice.Alert{Labels: a.Labels.Map(), Annotations: a.Annotations.Map(), Starts: a.FiredAt, Source: s.url() + "/api/v1/alerts"})
			}
		}
	}
	return all
}
