package logs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"howdah/lifecycle"
	"howdah/logkey"
	"howdah/nodefile"
	"howdah/observe/logbook"
	"howdah/spec"
)

const (
	shipEvery  = time.Second      // between two looks for a new block
	shipMost   = 1 << 20          // bytes of one request, before they are compressed; a record may be as long
	shipWithin = 30 * time.Second // that a request may take
	shipPause  = time.Minute      // the longest between two tries
)

// Ship sends what is kept of the logs of n to one log store until ctx ends: a Loki
// where the path of its URL has its API's name, else a VictoriaLogs. The segments are
// its spool: whatever the store did not take is sent again, for as long as it is kept,
// so that a record may be there twice, and none is missing that was not too old. What
// is sent is counted by m.
func Ship(ctx context.Context, n spec.Node, to string, m *Meter, log *slog.Logger) error {
	s, err := newShipper(n, to, m, log)
	if err != nil {
		return err
	}
	defer s.unzip.Close()
	last := time.Now()
	lifecycle.Feed(ctx, shipEvery, shipPause, func(ctx context.Context) (bool, error) {
		began := time.Now()
		more, err := s.turn(ctx)
		m.worked(s.meant, time.Since(began), began.Sub(last))
		s.counted(err != nil && ctx.Err() == nil)
		last = began
		return more, err
	}, func(err error) {
		if err != nil {
			log.Warn("logs not sent", logkey.Addr, s.name, logkey.Error, err)
			return
		}
		log.Info("logs are sent again", logkey.Addr, s.name)
	})
	return nil
}

// A shipper sends to one store.
type shipper struct {
	node   spec.Node
	to     string
	name   string // of the store, without a password
	source logbook.Source
	path   string // of the file that says how far it came
	at     cursor
	unzip  *zstd.Decoder
	client http.Client
	meter  *Meter
	meant  component
	log    *slog.Logger
}

// A cursor is how far a store has been sent what is kept.
type cursor struct {
	Segment string `json:"segment"` // name of its file; "": none yet
	At      int64  `json:"at"`      // where the next block begins
	Done    int    `json:"done"`    // records of that block
}

func newShipper(n spec.Node, to string, m *Meter, log *slog.Logger) (*shipper, error) {
	u, err := url.Parse(to)
	if err != nil {
		return nil, err
	}
	s := &shipper{
		node: n, to: to, name: u.Redacted(), source: logbook.Source{Cluster: n.Cluster, Member: n.Member, IP: n.Host}, log: log,
		meter: m, meant: component{u.Host, kindSink, "http"},
		path:   filepath.Join(n.Logs.Data, fmt.Sprintf("sent-%08x.json", crc32.Checksum([]byte(to), castagnoli))),
		client: http.Client{Timeout: shipWithin, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
	}
	if s.loki() {
		s.meant.how = "loki"
	}
	text, err := os.ReadFile(s.path)
	if err == nil {
		err = json.Unmarshal(text, &s.at)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("how far logs were sent: %w", err)
	}
	s.unzip, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(bodyMost))
	return s, err
}

// turn sends the next block; more says that there may be another.
func (s *shipper) turn(ctx context.Context) (more bool, err error) {
	files, err := segments(s.node.Logs.Data)
	if err != nil || len(files) == 0 {
		return false, err
	}
	i := slices.IndexFunc(files, func(path string) bool { return filepath.Base(path) >= s.at.Segment })
	if i < 0 {
		return false, nil // all of them were removed, and nothing was written since
	}
	if name := filepath.Base(files[i]); name != s.at.Segment {
		if s.at.Segment != "" { // who has sent it all is in the next one
			s.log.Warn("logs were removed before they were sent", logkey.Addr, s.name, "from", s.at.Segment, "to", name)
		}
		s.at = cursor{Segment: name}
	}
	b, err := next(files[i], s.at.At)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return true, nil
	case errors.Is(err, io.EOF) && i+1 < len(files): // nothing is added to it any more
		s.at = cursor{Segment: filepath.Base(files[i+1])}
		return true, nil
	case errors.Is(err, io.EOF), errors.Is(err, errBlock) && i+1 == len(files): // it is being written
		return false, nil
	case errors.Is(err, errBlock):
		s.log.Error("logs are damaged, and not sent from there on", logkey.Path, files[i], "at", s.at.At)
		s.at = cursor{Segment: filepath.Base(files[i+1])}
		return true, s.save()
	case err != nil:
		return false, err
	}
	all, err := decode(b, s.source, s.unzip)
	if err != nil {
		return false, err
	}
	for s.at.Done < len(all) {
		body, count, err := s.body(all[s.at.Done:])
		if err == nil {
			err = s.post(ctx, body)
		}
		var refused refusal
		switch {
		case errors.As(err, &refused): // it would be so the next time
			s.log.Error("logs are refused", logkey.Addr, s.name, "records", count, logkey.Error, err)
			s.counted(true)
		case err != nil:
			return false, errors.Join(err, s.save())
		default:
			s.meter.note(s.meant, func(f *flow) { f.events, f.bytes = f.events+int64(count), f.bytes+int64(len(body)) })
		}
		s.at.Done += count
	}
	s.at.At, s.at.Done = s.at.At+int64(len(b)), 0
	return true, s.save()
}

// counted tells the meter how far it came, and that a request failed.
func (s *shipper) counted(failed bool) {
	at, dir := s.at, s.node.Logs.Data
	s.meter.note(s.meant, func(f *flow) {
		if failed {
			f.errors++
		}
		f.waits = func() (int64, int64) {
			events, bytes, _ := unsent(dir, at) // what can not be read is told by whoever reads it
			return events, bytes
		}
	})
}

func (s *shipper) save() error {
	text, err := json.Marshal(s.at)
	if err != nil {
		return err
	}
	return nodefile.WriteFile(s.path, text, 0o600, -1, -1)
}

// next returns the block at a place of a segment: io.EOF if there is none, errBlock if
// it is not whole.
func next(path string, at int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	start := make([]byte, preamble)
	if n, err := f.ReadAt(start, at); err != nil {
		if n > 0 && err == io.EOF {
			return nil, errBlock
		}
		return nil, err
	}
	h, body, err := lengths(start)
	if err != nil {
		return nil, err
	}
	b := make([]byte, preamble+h+body)
	if _, err := f.ReadAt(b, at); err != nil && err != io.EOF {
		return nil, err
	}
	if !whole(b) {
		return nil, errBlock
	}
	return b, nil
}

// A refusal is an answer that would be the same the next time.
type refusal string

func (r refusal) Error() string { return string(r) }

// loki says that the store is one, by where it takes logs.
func (s *shipper) loki() bool { return strings.Contains(s.to, "/loki/") }

// body is a request with as many of the records as go into one, and how many these are.
func (s *shipper) body(all []logbook.Record) (body []byte, count int, err error) {
	var lines [][]byte
	for size := 0; count < len(all) && size < shipMost; count++ {
		line, err := all[count].MarshalJSON()
		if err != nil {
			return nil, 0, err
		}
		lines, size = append(lines, line), size+len(line)
	}
	if !s.loki() {
		return append(bytes.Join(lines, []byte("\n")), '\n'), count, nil
	}
	type stream struct {
		Labels map[string]string `json:"stream"`
		Values [][2]string       `json:"values"`
	}
	var streams []*stream
	byLabels := map[[2]string]*stream{}
	for i, r := range all[:count] {
		key := [2]string{r.Job, r.Level.String()} // the others are the node's
		to := byLabels[key]
		if to == nil {
			to = &stream{Labels: map[string]string{"job": r.Job, "cls": r.Cluster, "ins": r.Member, "ip": r.IP, "level": r.Level.String()}}
			byLabels[key], streams = to, append(streams, to)
		}
		to.Values = append(to.Values, [2]string{strconv.FormatInt(r.Time.UnixNano(), 10), string(lines[i])})
	}
	body, err = json.Marshal(map[string]any{"streams": streams})
	return body, count, err
}

// post sends one request.
func (s *shipper) post(ctx context.Context, body []byte) error {
	var packed bytes.Buffer
	zip := gzip.NewWriter(&packed)
	if _, err := zip.Write(body); err != nil {
		return err
	}
	if err := zip.Close(); err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.to, &packed)
	if err != nil {
		return err
	}
	r.Header.Set("Content-Encoding", "gzip")
	if s.loki() {
		r.Header.Set("Content-Type", "application/json")
	} else { // as Pigsty's Vector tells it
		r.Header.Set("Content-Type", "application/stream+json")
		r.Header.Set("VL-Stream-Fields", "job,ins,ip")
		r.Header.Set("VL-Msg-Field", "message")
		r.Header.Set("VL-Time-Field", "_time")
	}
	resp, err := s.client.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 512)) // whatever it says
	switch {
	case resp.StatusCode < 300:
		return nil
	case resp.StatusCode == http.StatusBadRequest, resp.StatusCode == http.StatusRequestEntityTooLarge, resp.StatusCode == http.StatusUnprocessableEntity:
		return refusal(fmt.Sprintf("%s: %s", resp.Status, bytes.TrimSpace(text)))
	}
	return fmt.Errorf("%s: %s", resp.Status, bytes.TrimSpace(text))
}
