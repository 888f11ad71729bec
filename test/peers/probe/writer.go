package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"howdah/node/process"
)

// Classes of writers, by where they stand.
const (
	live    = "live"    // its way in is a node that the fault does not touch: what an application feels
	faulted = "faulted" // its way in is the faulted node, from outside
	inside  = "inside"  // on the faulted node's own network, straight at its server: who sees a split brain
)

// An access is how clients come in.
type access struct {
	user, password, database string
	tls                      bool
	timeout                  time.Duration // for a connection, and for a statement
}

// connect opens a connection from inside a network namespace.
func (a access) connect(ctx context.Context, namespace, addr string) (*pgconn.PgConn, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	mode := "disable"
	if a.tls {
		mode = "require"
	}
	config, err := pgconn.ParseConfig(fmt.Sprintf("host=%s port=%s user=%s password=%s dbname=%s sslmode=%s",
		host, port, a.user, a.password, a.database, mode))
	if err != nil {
		return nil, err
	}
	config.Fallbacks = nil
	config.DialFunc = func(ctx context.Context, network, addr string) (conn net.Conn, err error) {
		// The socket belongs to the namespace of the thread that makes it; an address
		// needs no other goroutine.
		dialer := net.Dialer{KeepAlive: -1, FallbackDelay: -1}
		err = process.InNet("/run/netns/"+namespace, func() (err error) {
			conn, err = dialer.DialContext(ctx, network, addr)
			return err
		})
		return conn, err
	}
	return pgconn.ConnectConfig(ctx, config)
}

// A writer inserts numbered rows one at a time, each a transaction, and keeps
// what became of each. Times count from the start of the run.
type writer struct {
	name, service, namespace, addr, class string

	number int64 // its own, in the upper bits of every row's

	mu    sync.Mutex
	acks  []ack
	fails []failure
}

// An ack is a row that was acknowledged.
type ack struct {
	row       int64
	sent, got time.Duration
	timeline  string // of the server that said so
	node      string
}

// A failure is a row, or a connection (row 0), that came to nothing.
type failure struct {
	row  int64
	at   time.Duration
	what string
}

// The answer tells which server gave it.
const insert = `insert into peers_probe (id) values (%d)
returning substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8), current_setting('data_directory')`

// pace of a writer.
const (
	between = 25 * time.Millisecond // from one row to the next
	again   = 50 * time.Millisecond // after a failure
)

func (w *writer) run(ctx context.Context, a access, start time.Time) {
	var conn *pgconn.PgConn
	defer func() { sever(conn) }()
	next := time.Now()
	for seq := int64(1); ctx.Err() == nil; {
		if conn == nil {
			c, err := w.connect(ctx, a)
			if err != nil {
				w.failed(failure{at: time.Since(start), what: kind(err)})
				_ = pause(ctx, again)
				continue
			}
			conn = c
		}
		if pause(ctx, time.Until(next)) != nil {
			return
		}
		next = time.Now().Add(between)
		row := w.number<<40 | seq
		seq++
		sent := time.Since(start)
		timeline, node, err := w.insert(ctx, a, conn, row)
		if err != nil {
			w.failed(failure{row: row, at: time.Since(start), what: kind(err)})
			sever(conn)
			conn = nil
			_ = pause(ctx, again)
			continue
		}
		w.mu.Lock()
		w.acks = append(w.acks, ack{row, sent, time.Since(start), timeline, node})
		w.mu.Unlock()
	}
}

func (w *writer) connect(ctx context.Context, a access) (*pgconn.PgConn, error) {
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	return a.connect(ctx, w.namespace, w.addr)
}

func (w *writer) insert(ctx context.Context, a access, conn *pgconn.PgConn, row int64) (timeline, node string, err error) {
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	results, err := conn.Exec(ctx, fmt.Sprintf(insert, row)).ReadAll()
	switch {
	case err != nil:
		return "", "", err
	case len(results) != 1 || len(results[0].Rows) != 1:
		return "", "", errors.New("no row returned")
	}
	return string(results[0].Rows[0][0]), string(results[0].Rows[0][1]), nil
}

func (w *writer) failed(f failure) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fails = append(w.fails, f)
}

// well says that rows are acknowledged: at least five, one within the last
// moment, and none failed since.
func (w *writer) well(now time.Duration) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.acks) < 5 {
		return false
	}
	last := w.acks[len(w.acks)-1].got
	return now-last < 500*time.Millisecond && (len(w.fails) == 0 || w.fails[len(w.fails)-1].at < last)
}

// sever ends a connection without a word: a half-dead peer must not hold the writer up.
func sever(conn *pgconn.PgConn) {
	if conn != nil {
		conn.Conn().Close()
	}
}

// kind is what a failure is counted under.
func kind(err error) string {
	said := err.Error()
	if p, ok := errors.AsType[*pgconn.PgError](err); ok {
		return p.Code + " " + short(p.Message)
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded), pgconn.Timeout(err):
		return "timeout"
	case strings.Contains(said, "connection refused"):
		return "refused"
	case strings.Contains(said, "connection reset"), strings.Contains(said, "broken pipe"):
		return "reset"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), strings.Contains(said, "EOF"):
		return "eof"
	}
	return short(said)
}

func short(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return s[:min(len(s), 70)]
}

// pause waits, and not beyond the end of ctx.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
