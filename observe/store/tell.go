package store

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"time"

	"github.com/prometheus/prometheus/rules"

	"howdah/logkey"
	"howdah/observe/notice"
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

// tell tells the webhooks of alerts until ctx ends.
func (s *Store) tell(ctx context.Context) error {
	set := s.settings()
	told := make([]*webhook, len(set.Webhooks))
	for i, to := range set.Webhooks {
		told[i] = &webhook{to: to}
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
		now, firing := s.now(), s.firing()
		for _, w := range told {
			s.tellOne(ctx, w, set, now, firing)
		}
	}
}

// A webhook is somebody who is told, with what was told so far: what one did not
// take is told to it again, and to the others not twice.
type webhook struct {
	to      string
	memory  notice.Memory
	failing bool
}

func (s *Store) tellOne(ctx context.Context, w *webhook, set notice.Settings, now time.Time, firing []notice.Alert) {
	messages, next := notice.Decide(now, set, firing, w.memory)
	var failed error
	for _, m := range messages {
		if err := post(ctx, w.to, m.JSON("default", s.url())); err != nil {
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
