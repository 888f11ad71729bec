package collect

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"howdah/exposition"
	"howdah/listen"
	"howdah/logkey"
	"howdah/problem"
)

// Handler answers pg_exporter's paths, with the metrics at path.
func (e *Exporter) Handler(path string) http.Handler {
	mux := http.NewServeMux()
	var metrics http.Handler = http.HandlerFunc(e.metrics)
	metrics = promhttp.InstrumentMetricHandler(e.registry, metrics)
	mux.Handle(path, metrics)
	text := func(path string, answer func(*http.Request) (int, string)) {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			code, body := answer(r)
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			w.WriteHeader(code)
			_, _ = io.WriteString(w, body) // a client that went away is no matter
		})
	}
	text("/{$}", func(*http.Request) (int, string) {
		return http.StatusOK, "howdah pg_exporter: metrics at " + path + "\n"
	})
	text("/version", func(*http.Request) (int, string) {
		return http.StatusOK, fmt.Sprintf("howdah pg_exporter, version %s (revision %s), built with %s\n", e.o.Build.Version, e.o.Build.Revision, e.o.Build.Go)
	})
	text("/reload", func(r *http.Request) (int, string) {
		if err := e.Reload(r.Context()); err != nil {
			e.o.Log.Error("collectors not loaded", logkey.Error, err)
			return http.StatusInternalServerError, problem.Text(err) + "\n"
		}
		return http.StatusOK, "server reloaded\n"
	})
	quiet := func(say func() string) func(*http.Request) (int, string) {
		return func(r *http.Request) (int, string) {
			ctx, cancel := context.WithTimeout(r.Context(), budget)
			defer cancel()
			if !e.take(ctx) {
				return http.StatusServiceUnavailable, "a scrape runs\n"
			}
			defer e.give()
			return http.StatusOK, say()
		}
	}
	text("/stat", quiet(e.stat))
	text("/explain", quiet(e.explain))
	role := func(paths string, code func(state) int) {
		for p := range strings.FieldsSeq(paths) {
			text(p, func(r *http.Request) (int, string) {
				s := e.health.get(r.Context(), e.config, e.pooler, e.o.Connect)
				return code(s), string(s)
			})
		}
	}
	only := func(wanted, other state) func(state) int {
		return func(s state) int {
			switch s {
			case wanted:
				return http.StatusOK
			case other:
				return http.StatusNotFound
			}
			return http.StatusServiceUnavailable
		}
	}
	role("/up /read /health /liveness /readiness", func(s state) int {
		if s == primary || s == replica {
			return http.StatusOK
		}
		return http.StatusServiceUnavailable
	})
	role("/primary /leader /master /read-write /rw", only(primary, replica))
	role("/replica /standby /slave /read-only /ro", only(replica, primary))
	return mux
}

// squeezers are for answers of megabytes: fast rather than small.
var squeezers = sync.Pool{New: func() any {
	z, _ := gzip.NewWriterLevel(nil, gzip.BestSpeed)
	return z
}}

func (e *Exporter) metrics(w http.ResponseWriter, r *http.Request) {
	within := budget
	if s, err := strconv.ParseFloat(r.Header.Get("X-Prometheus-Scrape-Timeout-Seconds"), 64); err == nil && s > 0 && s < 3600 {
		// What Prometheus waits, less what it takes to write the answer.
		within = max(time.Duration(s*0.9*float64(time.Second)), 100*time.Millisecond)
	}
	a := e.scrape(r.Context(), within)
	if a == nil {
		http.Error(w, "no answer in time", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", exposition.ContentType)
	var out io.Writer = w
	if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		w.Header().Set("Content-Encoding", "gzip")
		z := squeezers.Get().(*gzip.Writer)
		defer squeezers.Put(z)
		z.Reset(w)
		defer z.Close()
		out = z
	}
	_, _ = a.WriteTo(out) // a client that went away is no matter
}

// guests is how many may be connected at a time.
const guests = 64

// Serve answers on addr until ctx ends.
func Serve(ctx context.Context, addr string, h http.Handler, log *slog.Logger) error {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return &problem.Error{
			Code: "exporter-port", What: "cannot serve metrics on " + addr, Why: err.Error(),
			Do: "end whoever listens there, or choose another address", Err: err,
		}
	}
	s := &http.Server{
		Handler: h, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second,
		IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 1 << 16, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	log.Info("metrics served", logkey.Addr, addr)
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if s.Shutdown(end) != nil {
			s.Close()
		}
		stopped <- nil
	})
	err = s.Serve(listen.AtMost(l, guests))
	if !stop() {
		<-stopped
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}
