package outside

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

const pace = 5 * time.Millisecond // between two rows

// patience is how long a client waits.
type patience struct{ row, conn time.Duration }

var (
	brisk = patience{row: time.Second, conn: 500 * time.Millisecond}
	// steady is who comes through gateways that live: they answer as soon as anybody
	// can. Who gives up earlier adds to an outage what his next attempt costs.
	steady = patience{row: 10 * time.Second, conn: 10 * time.Second}
)

// A Writer inserts numbered rows, one transaction each, over one connection to
// whichever member takes them, and remembers what was acknowledged when. A row
// whose answer was lost may be there or not: its number is not used again.
type Writer struct {
	hosts []*pgconn.Config
	table string
	waits patience
	stop  func()

	mu    sync.Mutex
	shun  string // a host that is not asked
	acked []ack  // by time, so by number too
	since int    // of acked, what Check has not seen yet
}

type ack struct {
	row      int64
	sent, at time.Time // at: answered
	timeline int64     // of the server that answered
	lost     bool      // found missing
}

// Write makes the table, if there is none, and begins to write, straight at the
// servers, until Stop or the end of ctx.
func (c *Cluster) Write(ctx context.Context) (*Writer, error) {
	return c.WriteInto(ctx, "numbered", "")
}

// WriteThrough does the same through a service, on whichever node lets it in.
func (c *Cluster) WriteThrough(ctx context.Context, service string) (*Writer, error) {
	return c.WriteInto(ctx, "numbered", service)
}

// WaitThrough is WriteThrough for who waits until the service answers. Whichever
// node is to be lost has to be shunned before.
func (c *Cluster) WaitThrough(ctx context.Context, service string) (*Writer, error) {
	return c.writeInto(ctx, "numbered", service, steady)
}

// WriteInto is for several writers at once: each has a table of its own. No
// service is straight at the servers.
func (c *Cluster) WriteInto(ctx context.Context, table, service string) (*Writer, error) {
	return c.writeInto(ctx, table, service, brisk)
}

func (c *Cluster) writeInto(ctx context.Context, table, service string, waits patience) (*Writer, error) {
	hosts, err := c.targets(ctx)
	if service != "" {
		hosts, err = c.Entries(ctx, service)
	}
	if err != nil {
		return nil, err
	}
	w := &Writer{hosts: hosts, table: table, waits: waits}
	if _, err := w.Query(ctx, "create table if not exists "+table+" (n bigint primary key, at timestamptz default clock_timestamp())"); err != nil {
		return nil, err
	}
	next, err := w.Query(ctx, "select coalesce(max(n), 0) + 1 from "+table)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	var done sync.WaitGroup
	w.stop = func() { cancel(); done.Wait() }
	done.Go(func() { w.run(ctx, next[0]) })
	return w, nil
}

// Shun keeps the writer away from a host, which it leaves if it is there; "": from none.
func (w *Writer) Shun(host string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.shun = host
}

func (w *Writer) shuns(host string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.shun == host
}

// Stop ends the writing.
func (w *Writer) Stop() { w.stop() }

func (w *Writer) run(ctx context.Context, row int64) {
	tick := time.NewTicker(pace)
	defer tick.Stop()
	var conn *pgconn.PgConn
	host := 0
	for ; ctx.Err() == nil; row++ {
		if w.shuns(w.hosts[host].Host) {
			hangUp(conn)
			conn = nil
			host = (host + 1) % len(w.hosts)
		}
		if conn == nil {
			conn = connect(ctx, w.hosts[host], w.waits.conn)
		}
		sent := time.Now()
		timeline, err := w.insert(ctx, conn, row)
		if err == nil {
			w.mu.Lock()
			w.acked = append(w.acked, ack{row: row, sent: sent, at: time.Now(), timeline: timeline})
			w.mu.Unlock()
		} else if !undone(err) {
			hangUp(conn)
			conn = nil
			host = (host + 1) % len(w.hosts)
			if host != 0 {
				continue // the next member at once; after all of them, at the usual pace
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	hangUp(conn)
}

// Connect gives nil if nobody answers in time.
func Connect(ctx context.Context, host *pgconn.Config) *pgconn.PgConn {
	return connect(ctx, host, brisk.conn)
}

func connect(ctx context.Context, host *pgconn.Config, wait time.Duration) *pgconn.PgConn {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	conn, err := pgconn.ConnectConfig(ctx, host)
	if err != nil {
		return nil
	}
	return conn
}

// undone says that only the transaction ended, and its session lives: a gateway's
// words for a server that was lost. A standby's refusal is none of that.
func undone(err error) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && (e.Code == "40001" || e.Code == "08007")
}

var errNobody = errors.New("nobody answers")

// insert says on which timeline the row was acknowledged.
func (w *Writer) insert(ctx context.Context, conn *pgconn.PgConn, row int64) (timeline int64, err error) {
	if conn == nil {
		return 0, errNobody
	}
	ctx, cancel := context.WithTimeout(ctx, w.waits.row)
	defer cancel()
	// A file of WAL begins with the timeline's eight digits (xlog_internal.h, XLogFileName).
	sql := "insert into " + w.table + " values ($1) returning left(pg_walfile_name(pg_current_wal_lsn()), 8)"
	r := conn.ExecParams(ctx, sql, [][]byte{strconv.AppendInt(nil, row, 10)}, nil, nil, nil).Read()
	switch {
	case r.Err != nil:
		return 0, r.Err
	case len(r.Rows) != 1:
		return 0, errNobody
	}
	return strconv.ParseInt(string(r.Rows[0][0]), 16, 64)
}

// hangUp does not wait for the other side, which may be gone.
func hangUp(conn *pgconn.PgConn) {
	if conn != nil {
		conn.Conn().Close()
	}
}

// Longest is the longest time without an acknowledged row between from and to,
// counting the row before from.
func (w *Writer) Longest(from, to time.Time) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	var most time.Duration
	i, _ := slices.BinarySearchFunc(w.acked, from, func(a ack, t time.Time) int { return a.at.Compare(t) })
	for i = max(i, 1); i < len(w.acked) && !w.acked[i-1].at.After(to); i++ {
		most = max(most, w.acked[i].at.Sub(w.acked[i-1].at))
	}
	return most
}

// Flowing waits until rows were acknowledged for so long since a time, without
// a pause of half of that.
func (w *Writer) Flowing(ctx context.Context, since time.Time, long time.Duration) error {
	return Until(ctx, func() bool {
		now := time.Now()
		from := now.Add(-long)
		w.mu.Lock()
		last := time.Time{}
		if len(w.acked) > 0 {
			last = w.acked[len(w.acked)-1].at
		}
		w.mu.Unlock()
		return !from.Before(since) && now.Sub(last) < long/2 && w.Longest(from, now) < long/2
	})
}

// Check reads every row back: how many were acknowledged since the last check,
// and how many of all are newly missing.
func (w *Writer) Check(ctx context.Context) (rows, lost int, err error) {
	w.mu.Lock()
	count := len(w.acked)
	w.mu.Unlock()
	there, err := w.Query(ctx, "select n from "+w.table+" order by n")
	if err != nil {
		return 0, 0, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	j := 0
	for i := range w.acked[:count] {
		a := &w.acked[i]
		for j < len(there) && there[j] < a.row {
			j++
		}
		found := j < len(there) && there[j] == a.row
		if !found && !a.lost {
			a.lost = true
			lost++
		}
	}
	rows, w.since = count-w.since, count
	return rows, lost, nil
}

// Overlap counts the rows, of all writers, that an old primary acknowledged
// although they were sent after a newer one had acknowledged its first.
func Overlap(writers ...*Writer) (rows int) {
	first := map[int64]time.Time{} // answer of a timeline
	for _, w := range writers {
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, a := range w.acked {
			if at, ok := first[a.timeline]; !ok || a.at.Before(at) {
				first[a.timeline] = a.at
			}
		}
	}
	for _, w := range writers {
		for _, a := range w.acked {
			for timeline, at := range first {
				if timeline > a.timeline && a.sent.After(at) {
					rows++
					break
				}
			}
		}
	}
	return rows
}

// Query runs SQL at the primary, once there is one, and returns a column of numbers.
func (w *Writer) Query(ctx context.Context, sql string) ([]int64, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		var last error
		for _, host := range w.hosts {
			numbers, err := query(ctx, host, sql)
			if err == nil {
				return numbers, nil
			}
			last = err
		}
		if err := Pause(ctx, 50*time.Millisecond); err != nil {
			return nil, fmt.Errorf("%w: %w", err, last)
		}
	}
}

func query(ctx context.Context, host *pgconn.Config, sql string) ([]int64, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	conn, err := pgconn.ConnectConfig(ctx, host)
	if err != nil {
		return nil, err
	}
	defer conn.Close(ctx)
	// A standby answers selects too.
	standby, err := conn.Exec(ctx, "select pg_is_in_recovery()").ReadAll()
	if err != nil {
		return nil, err
	}
	if string(standby[0].Rows[0][0]) == "t" {
		return nil, fmt.Errorf("%s is a standby", host.Host)
	}
	r := conn.ExecParams(ctx, sql, nil, nil, nil, nil).Read()
	if r.Err != nil {
		return nil, r.Err
	}
	numbers := make([]int64, 0, len(r.Rows))
	for _, row := range r.Rows {
		n, err := strconv.ParseInt(string(row[0]), 10, 64)
		if err != nil {
			return nil, err
		}
		numbers = append(numbers, n)
	}
	return numbers, nil
}

// Until asks until so holds.
func Until(ctx context.Context, so func() bool) error {
	for !so() {
		if err := Pause(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// Pause waits, and not beyond the end of ctx.
func Pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
