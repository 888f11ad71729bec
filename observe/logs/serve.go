package logs

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"regexp"
	"time"

	"howdah/exposition"
	"howdah/listen"
	"howdah/logkey"
	"howdah/observe/logbook"
)

const (
	path        = "/howdah/logs"
	streamsPath = path + "/streams"
	maxReaders  = 8                // at a time; each has a block or two in memory
	writeWithin = 30 * time.Second // a piece of the answer
	reachWithin = 3 * time.Second
)

// asked is a query as it is sent.
type asked struct {
	Since, Until time.Time
	Level        logbook.Level
	Jobs         []string
	User         string
	Database     string
	Grep         string
	Selector     string // in Loki's language
	Last         int
	Follow       bool
}

// said is a record as it is sent; one without a message and a time says that what was
// written until now has been told.
type said struct {
	logbook.Source
	Time    time.Time
	Level   logbook.Level
	Message string
	Fields  []logbook.Field `json:",omitempty"`
	Past    bool            `json:",omitempty"`
	Error   string          `json:",omitempty"`
}

// Handler tells what a place has to whoever asks. It is for the machines of a cluster:
// who they are is for the listener to know.
func Handler(p Place, log *slog.Logger) http.Handler {
	turns := make(chan struct{}, maxReaders)
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+path, func(w http.ResponseWriter, r *http.Request) {
		select {
		case turns <- struct{}{}:
			defer func() { <-turns }()
		default:
			http.Error(w, "too many read logs already", http.StatusServiceUnavailable)
			return
		}
		var a asked
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10)).Decode(&a); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		q := Query{Filter: logbook.Filter{Since: a.Since, Until: a.Until, Level: a.Level, Jobs: a.Jobs, User: a.User, Database: a.Database}, Last: a.Last, Follow: a.Follow}
		if a.Grep != "" {
			var err error
			if q.Grep, err = regexp.Compile(a.Grep); err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
		}
		if a.Selector != "" {
			var err error
			if q.Selector, err = logbook.ParseSelector(a.Selector); err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
		}
		out := http.NewResponseController(w)
		_ = out.SetReadDeadline(time.Time{})
		buf := bufio.NewWriterSize(w, 64<<10)
		line := json.NewEncoder(buf)
		say := func(s said, flush bool) error {
			_ = out.SetWriteDeadline(time.Now().Add(writeWithin))
			err := line.Encode(s)
			if flush && err == nil {
				if err = buf.Flush(); err == nil {
					err = out.Flush()
				}
			}
			return err
		}
		current := false
		err := Read(r.Context(), []Place{p}, q, func() error { current = true; return say(said{Past: true}, true) }, func(one logbook.Record) error {
			return say(said{Source: one.Source, Time: one.Time, Level: one.Level, Message: one.Message, Fields: one.Fields}, current)
		})
		if err != nil && r.Context().Err() == nil {
			log.Warn("logs not told", logkey.Addr, r.RemoteAddr, logkey.Error, err)
			_ = say(said{Error: err.Error()}, true) // whoever asked may have gone
		}
	})
	mux.HandleFunc("GET "+streamsPath, func(w http.ResponseWriter, r *http.Request) {
		all, err := Streams(p)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		_ = json.NewEncoder(w).Encode(all) // a client that went away is no matter
	})
	return mux
}

// Serve answers on address until ctx ends: logs to whoever comes by TLS, and to
// everybody else, in clear, what m counts of them. Both are on the port where Vector's
// metrics are: those who scrape it know of no certificates.
func Serve(ctx context.Context, address string, config *tls.Config, logs http.Handler, m *Meter, log *slog.Logger) error {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return err // whoever runs it tries again
	}
	clear := http.NewServeMux()
	clear.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", exposition.ContentType)
		_, _ = w.Write(m.Metrics()) // who has gone asks again
	})
	doors := newDoors(listen.AtMost(l, maxGuests))
	ended := make(chan error, 2)
	for i, h := range []http.Handler{logs, clear} {
		var of net.Listener = &doors.of[i]
		if i == 0 {
			of = tls.NewListener(of, config)
		}
		server := &http.Server{
			Handler: h, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
			BaseContext: func(net.Listener) context.Context { return ctx }, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		}
		stop := context.AfterFunc(ctx, func() { server.Close() })
		defer stop()
		defer server.Close()
		go func() { ended <- server.Serve(of) }()
	}
	err = doors.run(ctx)
	<-ended
	<-ended
	if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// Ask tells what another machine has, as Read does.
func Ask(ctx context.Context, url string, config *tls.Config, q Query, past func() error, tell func(logbook.Record) error) error {
	a := asked{Since: q.Since, Until: q.Until, Level: q.Level, Jobs: q.Jobs, User: q.User, Database: q.Database, Last: q.Last, Follow: q.Follow}
	if q.Grep != nil {
		a.Grep = q.Grep.String()
	}
	if q.Selector != nil {
		a.Selector = q.Selector.String()
	}
	body, err := json.Marshal(a)
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := send(r, config)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	current := false
	for lines := json.NewDecoder(resp.Body); ; {
		var s said
		err := lines.Decode(&s)
		switch {
		case err == io.EOF && current && !q.Follow, err != nil && ctx.Err() != nil:
			return nil
		case err == io.EOF:
			return io.ErrUnexpectedEOF
		case err != nil:
			return err
		case s.Error != "":
			return errors.New(s.Error)
		case s.Past:
			current = true
			if past != nil {
				err = past()
			}
		default:
			err = tell(logbook.Record{Source: s.Source, Time: s.Time, Level: s.Level, Message: s.Message, Fields: s.Fields})
		}
		if err != nil {
			return err
		}
	}
}

// send sends a request to another machine, which is answered with 200 or an error.
func send(r *http.Request, config *tls.Config) (*http.Response, error) {
	t := &http.Transport{TLSClientConfig: config, DialContext: (&net.Dialer{Timeout: reachWithin}).DialContext, TLSHandshakeTimeout: reachWithin, ResponseHeaderTimeout: writeWithin, DisableKeepAlives: true}
	resp, err := (&http.Client{Transport: t}).Do(r)
	if err == nil && resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 512)) // whatever it says
		resp.Body.Close()
		err = fmt.Errorf("%s: %s", resp.Status, bytes.TrimSpace(text))
	}
	return resp, err
}

// AskStreams is what Streams says on another machine.
func AskStreams(ctx context.Context, url string, config *tls.Config) (all map[string]uint, err error) {
	ctx, cancel := context.WithTimeout(ctx, reachWithin)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url+streamsPath, nil)
	if err != nil {
		return nil, err
	}
	resp, err := send(r, config)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	err = json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&all)
	return all, err
}
