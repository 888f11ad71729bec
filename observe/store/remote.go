package store

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/klauspost/compress/snappy"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"howdah/lifecycle"
	"howdah/logkey"
	"howdah/nodefile"
)

const (
	remoteLate   = 45 * time.Second // samples of that age are all there: a scrape and a rule have ended
	remoteEvery  = 15 * time.Second // time that is sent at once, at least …
	remoteSlice  = time.Minute      // … and at most
	remoteMost   = 10_000           // samples of a request
	remoteWithin = 30 * time.Second // that a request may take
	remotePause  = time.Minute      // the longest between two tries
)

// A sender sends what the store has to another one, by Prometheus's remote write 1.0.
// The store is its spool: what the other one did not take is sent to it later, as long
// as it is kept. A slice of time of which a part was taken is sent again as a whole.
type sender struct {
	*Store
	to     string
	name   string // without a password
	path   string // of the file that says how far it came
	at     int64  // ms: what is older was sent
	client http.Client
}

// newSender makes one that begins now, or goes on where it was.
func (s *Store) newSender(to string) (*sender, error) {
	u, err := url.Parse(to)
	if err != nil {
		return nil, err
	}
	r := &sender{
		Store: s, to: to, name: u.Redacted(), at: s.now().UnixMilli(),
		path:   filepath.Join(s.Node.Observe.Data, fmt.Sprintf("remote-%08x.json", crc32.ChecksumIEEE([]byte(to)))),
		client: http.Client{Timeout: remoteWithin, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
	}
	text, err := os.ReadFile(r.path)
	if err == nil {
		err = json.Unmarshal(text, &r.at)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("how far metrics were sent: %w", err)
	}
	return r, nil
}

// remote sends to one store until ctx ends.
func (s *Store) remote(ctx context.Context, to string) error {
	r, err := s.newSender(to)
	if err != nil {
		return err
	}
	lifecycle.Feed(ctx, remoteEvery, remotePause, r.turn, func(err error) {
		if err != nil {
			s.Log.Warn("metrics not sent", logkey.Addr, r.name, logkey.Error, err)
			return
		}
		s.Log.Info("metrics are sent again", logkey.Addr, r.name)
	})
	return nil
}

// turn sends the next slice of time, if it is over; more says that there may be another.
func (r *sender) turn(ctx context.Context) (more bool, err error) {
	now := r.now()
	if oldest := now.Add(-r.Node.Observe.Keep).UnixMilli(); r.at < oldest {
		r.Log.Warn("metrics were removed before they were sent", logkey.Addr, r.name, "until", time.UnixMilli(oldest).UTC())
		r.at = oldest
	}
	end := min(r.at+remoteSlice.Milliseconds(), now.Add(-remoteLate).UnixMilli())
	if end-r.at < remoteEvery.Milliseconds() {
		return false, nil
	}
	if err := r.slice(ctx, r.at, end-1); err != nil {
		return false, err
	}
	r.at = end
	text, err := json.Marshal(r.at)
	if err != nil {
		return false, err
	}
	return true, nodefile.WriteFile(r.path, text, 0o600, -1, -1)
}

// slice sends all samples from one moment to another, both included.
func (r *sender) slice(ctx context.Context, from, to int64) error {
	q, err := r.db.Querier(from, to)
	if err != nil {
		return err
	}
	defer q.Close()
	all := q.Select(ctx, false, &storage.SelectHints{Start: from, End: to, DisableTrimming: false}, labels.MustNewMatcher(labels.MatchRegexp, model.MetricNameLabel, ".+"))
	var w prompb.WriteRequest
	samples := 0
	flush := func() error {
		if samples == 0 {
			return nil
		}
		body, err := w.Marshal()
		if err == nil {
			err = r.post(ctx, snappy.Encode(nil, body))
		}
		w.Timeseries, samples = w.Timeseries[:0], 0
		return err
	}
	var it chunkenc.Iterator
	for all.Next() {
		series := all.At()
		one := prompb.TimeSeries{Labels: prompb.FromLabels(series.Labels(), nil)}
		it = series.Iterator(it)
		for kind := it.Next(); kind != chunkenc.ValNone; kind = it.Next() {
			if kind != chunkenc.ValFloat {
				continue // nothing that is asked tells native histograms
			}
			if at, v := it.At(); at >= from && at <= to {
				one.Samples = append(one.Samples, prompb.Sample{Timestamp: at, Value: v})
			}
		}
		if err := it.Err(); err != nil {
			return err
		}
		if len(one.Samples) == 0 {
			continue
		}
		w.Timeseries, samples = append(w.Timeseries, one), samples+len(one.Samples)
		if samples >= remoteMost {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	if err := all.Err(); err != nil {
		return err
	}
	return flush()
}

// post sends one request. What is refused would be so the next time: it is told, and
// passed over.
func (r *sender) post(ctx context.Context, body []byte) error {
	ask, err := http.NewRequestWithContext(ctx, http.MethodPost, r.to, bytes.NewReader(body))
	if err != nil {
		return err
	}
	ask.Header.Set("Content-Encoding", "snappy")
	ask.Header.Set("Content-Type", "application/x-protobuf")
	ask.Header.Set("User-Agent", "howdah/"+r.Version)
	ask.Header.Set("X-Prometheus-Remote-Write-Version", "0.1.0") // as version 1.0 of the protocol calls itself
	resp, err := r.client.Do(ask)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 512)) // whatever it says
	switch code := resp.StatusCode; {
	case code < 300:
		return nil
	case code >= 400 && code < 500 && code != http.StatusTooManyRequests && code != http.StatusUnauthorized && code != http.StatusForbidden && code != http.StatusNotFound:
		r.Log.Error("metrics are refused", logkey.Addr, r.name, "status", resp.Status, "answer", string(bytes.TrimSpace(text)))
		return nil
	}
	return fmt.Errorf("%s: %s", resp.Status, bytes.TrimSpace(text))
}
