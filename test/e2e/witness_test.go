package e2e

import (
	"context"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"howdah/node/process"
	"howdah/playground"
	"howdah/spec"
	"howdah/test/outside"
)

// A witness writes numbered rows to one server and no other, whoever leads, and
// remembers when each was acknowledged. It stays with its connection as long as
// that lives, however long an answer takes: it hears answers that come late.
type witness struct {
	member string
	side   string // "inside" the node's network, or "outside" it
	stop   func()

	mu   sync.Mutex
	acks []witnessed
}

type witnessed struct {
	row  int64
	sent time.Time
	done time.Time // when the server executed it, by its clock, which is ours
	at   time.Time // when the answer came
}

const (
	witnessPace    = 5 * time.Millisecond
	witnessRefused = 25 * time.Millisecond // a standby logs every refusal
)

// witnesses are one inside and one outside of every node.
func (w *world) witnesses() []*witness {
	w.t.Helper()
	w.sql("create table if not exists witnessed (member text, side text, n bigint, primary key (member, side, n))")
	w.sql("truncate witnessed")
	state, err := playground.Load(w.Dir)
	w.check(err)
	url, err := w.Howdah(w.ctx, "psql", "--print-url")
	w.check(err)
	ctx, cancel := context.WithCancel(w.ctx)
	w.t.Cleanup(cancel)
	var all []*witness
	for _, n := range w.Nodes {
		for _, side := range []string{"inside", "outside"} {
			config, err := pgconn.ParseConfig(strings.TrimSpace(url))
			w.check(err)
			config.Fallbacks, config.Port = nil, uint16(n.Postgres.Port)
			if side == "inside" {
				config.Host = n.Address
				config.DialFunc = insideOf(state, n)
			} else {
				config.Host = playground.Door(n)
			}
			one := &witness{member: n.Member, side: side}
			done := make(chan struct{})
			one.stop = func() { cancel(); <-done }
			go func() { defer close(done); one.run(ctx, config) }()
			all = append(all, one)
		}
	}
	w.t.Cleanup(func() {
		for _, one := range all {
			one.stop()
		}
	})
	return all
}

// insideOf dials as a program on the node does.
func insideOf(s playground.State, n spec.Node) pgconn.DialFunc {
	return func(ctx context.Context, network, addr string) (c net.Conn, err error) {
		if s.Ground != playground.Isolated {
			return new(net.Dialer).DialContext(ctx, network, addr)
		}
		err = process.InNet(filepath.Join(s.Run, "net", n.Member), func() error {
			c, err = new(net.Dialer).DialContext(ctx, network, addr)
			return err
		})
		return c, err
	}
}

func (o *witness) run(ctx context.Context, config *pgconn.Config) {
	var conn *pgconn.PgConn
	defer func() {
		if conn != nil {
			conn.Conn().Close()
		}
	}()
	for row := int64(1); ctx.Err() == nil; row++ {
		pace := witnessRefused
		if conn == nil {
			short, cancel := context.WithTimeout(ctx, time.Second)
			conn, _ = pgconn.ConnectConfig(short, config)
			cancel()
		}
		if conn != nil {
			sent := time.Now()
			r := conn.ExecParams(ctx, "insert into witnessed values ($1, $2, $3) returning (extract(epoch from clock_timestamp()) * 1000000)::bigint",
				[][]byte{[]byte(o.member), []byte(o.side), strconv.AppendInt(nil, row, 10)}, nil, nil, nil).Read()
			switch {
			case r.Err == nil:
				done, _ := strconv.ParseInt(string(r.Rows[0][0]), 10, 64)
				o.mu.Lock()
				o.acks = append(o.acks, witnessed{row, sent, time.UnixMicro(done), time.Now()})
				o.mu.Unlock()
				pace = witnessPace
			case conn.IsClosed():
				conn = nil
			}
		}
		_ = outside.Pause(ctx, pace)
	}
}

// after are the rows that were acknowledged after t.
func (o *witness) after(t time.Time) []witnessed {
	o.mu.Lock()
	defer o.mu.Unlock()
	for i, a := range o.acks {
		if a.at.After(t) {
			return append([]witnessed(nil), o.acks[i:]...)
		}
	}
	return nil
}

// A trial is what witnesses saw of a fault on a leader.
type trial struct {
	w      *world
	seen   []*witness
	leader spec.Node
	at     time.Time
}

// begin waits until rows flow at the leader, inside and outside.
func (w *world) trial() *trial {
	w.t.Helper()
	t := &trial{w: w, leader: w.Node(w.whole()), seen: w.witnesses()}
	began := time.Now()
	w.until("rows flow", func() bool {
		flow := 0
		for _, o := range t.seen {
			if o.member == t.leader.Member && len(o.after(began)) > 20 {
				flow++
			}
		}
		return flow == 2
	})
	return t
}

// lay breaks something.
func (t *trial) lay(fault ...string) {
	t.w.t.Helper()
	t.w.howdah(append([]string{"fault"}, fault...)...)
	t.at = time.Now()
}

// elsewhere is the first row that another than the old leader acknowledged, after the fault.
func (t *trial) elsewhere() (first witnessed, member string) {
	for _, o := range t.seen {
		if o.member == t.leader.Member {
			continue
		}
		if acks := o.after(t.at); len(acks) > 0 && (first.row == 0 || acks[0].at.Before(first.at)) {
			first, member = acks[0], o.member
		}
	}
	return first, member
}

// taken waits until another leads and acknowledges, and says how long after the fault.
func (t *trial) taken() time.Duration {
	t.w.t.Helper()
	t.w.until("another acknowledges rows", func() bool { _, member := t.elsewhere(); return member != "" })
	first, member := t.elsewhere()
	t.w.t.Logf("%s acknowledges rows %s after the fault", member, first.at.Sub(t.at).Round(time.Millisecond))
	return first.at.Sub(t.at)
}

// last is the old leader's last acknowledged row after the fault, on a side.
func (t *trial) last(side string) (last witnessed, count int) {
	for _, o := range t.seen {
		if o.member == t.leader.Member && o.side == side {
			if acks := o.after(t.at); len(acks) > 0 {
				return acks[len(acks)-1], len(acks)
			}
		}
	}
	return last, 0
}

// overlap is what the old leader executed and acknowledged after another had
// begun. late is what it executed before and whose answers came after: they
// were on their way when the network or the machine stood.
func (t *trial) overlap() (rows, late []witnessed) {
	first, _ := t.elsewhere()
	for _, o := range t.seen {
		if o.member != t.leader.Member {
			continue
		}
		for _, r := range o.after(first.at) {
			if r.done.After(first.at) {
				rows = append(rows, r)
			} else {
				late = append(late, r)
			}
		}
	}
	return rows, late
}

// lost counts the acknowledged rows that are not there.
func (t *trial) lost() (lost int) {
	t.w.t.Helper()
	var acked []string // before the rows are read: others are written meanwhile
	for _, o := range t.seen {
		for _, a := range o.after(time.Time{}) {
			acked = append(acked, o.member+" "+o.side+" "+strconv.FormatInt(a.row, 10))
		}
	}
	there := map[string]bool{}
	for line := range strings.Lines(t.w.sql("select member || ' ' || side || ' ' || n from witnessed")) {
		there[strings.TrimSpace(line)] = true
	}
	for _, row := range acked {
		if !there[row] {
			lost++
		}
	}
	return lost
}
