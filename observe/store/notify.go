package store

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/prometheus/prometheus/rules"

	"howdah/logkey"
)

// notifyPath is where an Alertmanager takes alerts (its API, version 2).
const notifyPath = "/api/v2/alerts"

// notifyWithin is what an Alertmanager may take to accept.
const notifyWithin = 5 * time.Second

// notify sends alerts to every Alertmanager. They are sent again every minute
// while they fire, so one that did not get through is no matter for long. It
// groups, silences and repeats; that is not done here.
func (s *Store) notify(ctx context.Context, _ string, alerts ...*rules.Alert) {
	if len(alerts) == 0 || len(s.managers) == 0 {
		return
	}
	type one struct {
		Labels      map[string]string `json:"labels"`
		Annotations map[string]string `json:"annotations"`
		Starts      time.Time         `json:"startsAt"`
		Ends        time.Time         `json:"endsAt"`
		Generator   string            `json:"generatorURL"`
	}
	var all []one
	for _, a := range alerts {
		ends := a.ValidUntil
		if !a.ResolvedAt.IsZero() {
			ends = a.ResolvedAt
		}
		all = append(all, one{a.Labels.Map(), a.Annotations.Map(), a.FiredAt, ends, s.url() + "/api/v1/alerts"})
	}
	body, err := json.Marshal(all)
	if err != nil {
		s.Log.Error("alerts not written", logkey.Error, err)
		return
	}
	for _, to := range s.managers {
		if err := post(ctx, to+notifyPath, body); err != nil {
			s.Log.Warn("alerts not sent", logkey.Addr, to, logkey.Error, err)
		}
	}
}

func post(ctx context.Context, url string, body []byte) error {
	ctx, cancel := context.WithTimeout(ctx, notifyWithin)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 512)) // whatever it says
		return fmt.Errorf("%s: %s", resp.Status, text)
	}
	return nil
}
