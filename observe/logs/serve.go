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

	"howdah/logkey"
	"howdah/observe/logbook"
)

const (
	path        = "/howdah/logs"
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
	return mux
}

// Serve answers h on address by TLS until ctx ends, again and again while somebody
// else has it.
func Serve(ctx context.Context, address string, config *tls.Config, h http.Handler, log *slog.Logger) error {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return err // whoever runs it tries again
	}
	server := &http.Server{
		Handler: h, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		BaseContext: func(net.Listener) context.Context { return ctx }, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	if err := server.Serve(tls.NewListener(l, config)); ctx.Err() == nil && !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Ask tells what another machine has, as Read does.
func Ask(ctx context.Context, url string, config *tls.Config, q Query, past func() error, tell func(logbook.Record) error) error {
	a := asked{Since: q.Since, Until: q.Until, Level: q.Level, Jobs: q.Jobs, User: q.User, Database: q.Database, Last: q.Last, Follow: q.Follow}
	if q.Grep != nil {
		a.Grep = q.Grep.String()
	}
	body, err := json.Marshal(a)
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	t := &http.Transport{TLSClientConfig: config, DialContext: (&net.Dialer{Timeout: reachWithin}).DialContext, TLSHandshakeTimeout: reachWithin, ResponseHeaderTimeout: writeWithin, DisableKeepAlives: true}
	defer t.CloseIdleConnections()
	resp, err := (&http.Client{Transport: t}).Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 512)) // whatever it says
		return fmt.Errorf("%s: %s", resp.Status, bytes.TrimSpace(text))
	}
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
