package control

import (
	"context"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"howdah/cluster"
	"howdah/problem"
)

// A demoWriter inserts numbered rows, one transaction each, wherever they are
// taken, and knows which were acknowledged when.
type demoWriter struct {
	through string
	targets []*pgconn.Config
	end     context.CancelFunc
	done    sync.WaitGroup

	mu    sync.Mutex
	acked []demoRow
}

type demoRow struct {
	n  int64
	at time.Time
}

const (
	demoPace    = 5 * time.Millisecond   // between two rows
	demoAnswer  = time.Second            // for one row
	demoConnect = 500 * time.Millisecond // for one connection
)

// newDemoWriter connects through the primary's service of every gateway, or
// where there is none to every member.
func (c *Cluster) newDemoWriter(ctx context.Context) (*demoWriter, error) {
	access, err := c.Access()
	if err != nil {
		return nil, err
	}
	w := &demoWriter{through: "the members' own port"}
	var addrs []string
	for _, n := range c.Nodes {
		for _, f := range n.Gateway.Fronts {
			i := slices.IndexFunc(f.Services, func(s cluster.Service) bool { return s.Name == Primary })
			if f.Cluster == c.Name && i >= 0 {
				addrs = append(addrs, net.JoinHostPort(c.door(n.Address), strconv.Itoa(f.Services[i].Port)))
				w.through = "port " + strconv.Itoa(f.Services[i].Port) + " of every node"
			}
		}
	}
	if len(addrs) == 0 {
		for _, n := range c.Nodes {
			addrs = append(addrs, net.JoinHostPort(c.door(n.Address), strconv.Itoa(n.Postgres.Port)))
		}
	}
	for _, addr := range addrs {
		host, port, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, err
		}
		number, err := strconv.Atoi(port)
		if err != nil {
			return nil, err
		}
		config, err := pgconn.ParseConfig(access.At(Target{Host: host, Port: number}))
		if err != nil {
			return nil, err
		}
		w.targets = append(w.targets, config)
	}
	if _, err := w.ask(ctx, "create table if not exists demo_faults (n bigint primary key, at timestamptz default clock_timestamp())"); err != nil {
		return nil, &problem.Error{
			Code: "demo-write", What: "cannot write into cluster " + c.Name, Why: "the writer needs a table of its own",
			Do: "see `howdah status`, and try `howdah psql`", Err: err,
		}
	}
	next, err := w.ask(ctx, "select coalesce(max(n), 0) + 1 from demo_faults")
	if err != nil {
		return nil, err
	}
	running, cancel := context.WithCancel(ctx)
	w.end = cancel
	w.done.Go(func() { w.run(running, next[0]) })
	if err := w.flowing(ctx); err != nil {
		w.stop()
		return nil, err
	}
	return w, nil
}

func (w *demoWriter) stop() {
	w.end()
	w.done.Wait()
}

func (w *demoWriter) run(ctx context.Context, row int64) {
	var conn *pgconn.PgConn
	hangUp := func() {
		if conn != nil {
			conn.Conn().Close() // without a word: the other side may be gone
			conn = nil
		}
	}
	defer hangUp()
	for target := 0; ctx.Err() == nil; row++ {
		if conn == nil {
			short, cancel := context.WithTimeout(ctx, demoConnect)
			if c, err := pgconn.ConnectConfig(short, w.targets[target]); err == nil {
				conn = c
			}
			cancel()
		}
		short, cancel := context.WithTimeout(ctx, demoAnswer)
		ok := conn != nil && conn.ExecParams(short, "insert into demo_faults values ($1)",
			[][]byte{strconv.AppendInt(nil, row, 10)}, nil, nil, nil).Read().Err == nil
		cancel()
		if ok {
			w.mu.Lock()
			w.acked = append(w.acked, demoRow{row, time.Now()})
			w.mu.Unlock()
		} else {
			hangUp()
			target = (target + 1) % len(w.targets)
			if target != 0 {
				continue
			}
		}
		_ = pause(ctx, demoPace)
	}
}

func (w *demoWriter) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.acked)
}

// longest is the longest time without a row from a time on.
func (w *demoWriter) longest(from, to time.Time) (most time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	last := from
	for _, r := range w.acked {
		if r.at.Before(from) {
			last = r.at
			continue
		}
		most = max(most, r.at.Sub(last))
		last = r.at
	}
	return max(most, to.Sub(last))
}

// flowing waits until rows have flowed for a while.
func (w *demoWriter) flowing(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	since := time.Now()
	for {
		now := time.Now()
		if now.Sub(since) > settled && w.longest(now.Add(-settled), now) < settled/2 {
			return nil
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
}

// check reads back what was acknowledged since the first rows, and counts what is missing.
func (w *demoWriter) check(ctx context.Context, first int) (rows, lost int, err error) {
	w.mu.Lock()
	acked := slices.Clone(w.acked[first:])
	w.mu.Unlock()
	if len(acked) == 0 {
		return 0, 0, nil
	}
	there, err := w.ask(ctx, "select n from demo_faults where n >= "+strconv.FormatInt(acked[0].n, 10)+" order by n")
	if err != nil {
		return 0, 0, err
	}
	for _, r := range acked {
		if _, found := slices.BinarySearch(there, r.n); !found {
			lost++
		}
	}
	return len(acked), lost, nil
}

// ask asks a primary, once there is one, for a column of numbers.
func (w *demoWriter) ask(ctx context.Context, sql string) ([]int64, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		var last error
		for _, target := range w.targets {
			numbers, err := askPrimary(ctx, target, sql)
			if err == nil {
				return numbers, nil
			}
			last = err
		}
		if pause(ctx, 50*time.Millisecond) != nil {
			return nil, last
		}
	}
}

func askPrimary(ctx context.Context, target *pgconn.Config, sql string) (numbers []int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	target = target.Copy()
	target.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	conn, err := pgconn.ConnectConfig(ctx, target)
	if err != nil {
		return nil, err
	}
	defer conn.Close(ctx)
	r := conn.ExecParams(ctx, sql, nil, nil, nil, nil).Read()
	if r.Err != nil {
		return nil, r.Err
	}
	for _, row := range r.Rows {
		n, err := strconv.ParseInt(string(row[0]), 10, 64)
		if err != nil {
			return nil, err
		}
		numbers = append(numbers, n)
	}
	return numbers, nil
}
