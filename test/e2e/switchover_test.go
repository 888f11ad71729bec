package e2e

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"howdah/spec"
	"howdah/test/drivers"
)

var (
	switchovers = flag.Int("switchovers", 1, "how many there are in TestNobodyNoticesASwitchover")
	crowd       = flag.Int("crowd", 4, "clients of each pgbench there")
	measured    = flag.Bool("measured", false, "with the timers as they are, and the longest wait is judged")
)

const (
	writes = `\set aid random(1, 100000)
BEGIN;
UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = :aid;
SELECT abalance FROM pgbench_accounts WHERE aid = :aid;
END;
\sleep 50 ms
`
	reads = `\set aid random(1, 100000)
BEGIN;
SELECT abalance FROM pgbench_accounts WHERE aid = :aid;
END;
\sleep 50 ms
`
)

// A bench is a client of the database, as a rule pgbench, through one port of one node.
type bench struct {
	name  string
	dir   string
	cmd   *exec.Cmd
	ended chan struct{}
	err   error
}

// bench begins to run a script for so long.
func (w *world) bench(n spec.Node, port int, protocol, script string, lasts time.Duration) *bench {
	w.t.Helper()
	file := filepath.Join(w.t.TempDir(), "script")
	w.check(os.WriteFile(file, []byte(script), 0o644))
	clients := strconv.Itoa(*crowd)
	return w.beside(fmt.Sprintf("%s:%d %s", n.Member, port, protocol),
		w.pgbench(n, port, "-n", "-P", "1", "-c", clients, "-j", clients, "-T", strconv.Itoa(int(lasts.Seconds())), "-M", protocol, "-f", file, "-l"))
}

// beside begins to run a client beside the test, in a directory of its own.
func (w *world) beside(name string, cmd *exec.Cmd) *bench {
	w.t.Helper()
	b := &bench{name: name, dir: w.t.TempDir(), cmd: cmd, ended: make(chan struct{})}
	out, err := os.Create(filepath.Join(b.dir, "out"))
	w.check(err)
	defer out.Close()
	b.cmd.Dir, b.cmd.Stdout, b.cmd.Stderr = b.dir, out, out
	w.check(b.cmd.Start())
	go func() { b.err = b.cmd.Wait(); close(b.ended) }()
	w.t.Cleanup(func() { _ = b.cmd.Process.Kill(); <-b.ended })
	return b
}

// said is what it has printed.
func (b *bench) said() string {
	text, _ := os.ReadFile(filepath.Join(b.dir, "out"))
	return string(text)
}

// over says that it has ended by itself.
func (b *bench) over() bool {
	select {
	case <-b.ended:
		return true
	default:
		return false
	}
}

func (w *world) pgbench(n spec.Node, port int, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(w.ctx, filepath.Join(w.Nodes[0].Postgres.Bin, "pgbench"), args...)
	cmd.Env = append(os.Environ(), w.environ(n, port)...)
	return cmd
}

// environ is a port of one node as libpq reads it.
func (w *world) environ(n spec.Node, port int) []string {
	c := w.through(n, port)
	return []string{"PGHOST=" + c.Host, "PGPORT=" + strconv.Itoa(port), "PGUSER=" + c.User, "PGPASSWORD=" + c.Password, "PGDATABASE=" + c.Database}
}

// done says how many transactions there were, and what the longest took.
func (b *bench) done() (count int, longest time.Duration) {
	files, _ := filepath.Glob(filepath.Join(b.dir, "pgbench_log.*"))
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			continue
		}
		lines := bufio.NewScanner(f)
		for lines.Scan() { // client, transaction, microseconds …
			fields := strings.Fields(lines.Text())
			if len(fields) < 3 {
				continue
			}
			us, _ := strconv.Atoi(fields[2])
			count++
			longest = max(longest, time.Duration(us)*time.Microsecond)
		}
		f.Close()
	}
	return count, longest
}

// pgbench goes on through a switchover, in every protocol and through every node, with
// not one error: also beside the old primary and its successor, and through their own pools.
// So do drivers that cost little.
func TestNobodyNoticesASwitchover(t *testing.T) {
	w := demo(t)
	if *switchovers > 5 {
		var cancel context.CancelFunc
		w.ctx, cancel = context.WithTimeout(t.Context(), time.Duration(*switchovers)*time.Minute)
		defer cancel()
	}
	leader := w.Node(w.whole())
	if out, err := w.pgbench(leader, 5433, "-i", "-q").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, n := range w.Nodes {
		w.until("the tables are not on "+n.Member, func() bool {
			rows, err := ask(w.ctx, w.through(n, 6432), "SELECT count(*) FROM pgbench_accounts")
			return err == nil && rows == "100000"
		})
	}
	if !*measured { // on a machine that is busy with other things a transaction may take long
		w.howdah("edit-config", "--set", "howdah.drain=5s", "--yes")
		defer w.howdah("edit-config", "--set", "howdah.drain=null", "--yes")
	}
	var others *crew
	if !*measured {
		others = w.drive(drivers.Light(t), w.index(w.whole()))
	}
	lasts := 8 * time.Second
	for i := 0; i < *switchovers; i++ {
		from := w.whole()
		var all []*bench
		for j, protocol := range []string{"simple", "extended", "prepared"} {
			all = append(all, w.bench(w.Nodes[(i+j)%len(w.Nodes)], 5433, protocol, writes, lasts))
		}
		all = append(all, w.bench(w.Node(from), 6432, "simple", reads, lasts), w.bench(w.Nodes[i%len(w.Nodes)], 5434, "extended", reads, lasts))
		for _, b := range all {
			w.until("no transactions through "+b.name, func() bool { return strings.Contains(b.said(), "progress:") })
		}
		to := w.Nodes[(w.index(from)+1)%len(w.Nodes)].Member
		w.howdah("switchover", "--to", to, "--yes")
		early := slices.ContainsFunc(all, (*bench).over)
		page, err := w.Page(w.ctx)
		w.check(err)
		t.Logf("%d of %d: %s to %s, without writes for %.0f ms: %s; after ms %v", i+1, *switchovers, from, to, page.Outage, strings.Join(page.Reason, "; "), page.Phases)
		for _, b := range all {
			select {
			case <-b.ended:
			case <-w.ctx.Done():
				t.Fatalf("%s does not end: %s", b.name, b.said())
			}
			n, longest := b.done()
			t.Logf("%s: %d transactions, the longest %s", b.name, n, longest)
			if out := b.said(); b.err != nil || !strings.Contains(out, "number of failed transactions: 0 ") {
				t.Errorf("%s: %v\n%s", b.name, b.err, out)
			}
			if *measured && strings.Contains(b.name, ":5433") && longest > time.Second {
				t.Errorf("%s: a transaction took %s", b.name, longest)
			}
		}
		if early && lasts < time.Minute { // a machine so busy that they had ended before the switchover had
			lasts *= 2
			i--
		}
	}
	if others != nil {
		others.wentOn()
	}
}

// Drivers of other languages, each through 5433 of one node, write rows while the leader changes, and none
// of them hears of it. By day TestNobodyNoticesASwitchover has those of them that cost little.
func TestNoDriverNoticesASwitchover(t *testing.T) {
	byNight(t)
	all := append(drivers.Light(t), drivers.Heavy(t)...)
	w := demo(t)
	first := w.index(w.whole())
	w.howdah("edit-config", "--set", "howdah.drain=5s", "--yes") // on a machine that is busy with other things
	defer w.howdah("edit-config", "--set", "howdah.drain=null", "--yes")
	crew := w.drive(all, first)
	w.howdah("switchover", "--to", w.Nodes[(first+1)%len(w.Nodes)].Member, "--yes")
	crew.wentOn()
}

// index is where a member is among the nodes.
func (w *world) index(member string) int {
	return slices.IndexFunc(w.Nodes, func(n spec.Node) bool { return n.Member == member })
}

// A crew are drivers that write rows, each through 5433 of one node.
type crew struct {
	*world
	all    []*bench
	inputs []io.Closer // whose ends are theirs
}

// drive waits until all of them write: the first of them through that node, and so on.
func (w *world) drive(all []drivers.Driver, first int) *crew {
	w.t.Helper()
	c := &crew{world: w}
	w.sql("CREATE TABLE written (who text, n bigint)")
	w.t.Cleanup(func() {
		if !w.t.Failed() { // else the cluster goes with it
			_, err := w.Howdah(context.Background(), "psql", "--", "-c", "DROP TABLE written")
			w.check(err)
		}
	})
	for i, d := range all {
		cmd := d.Command(w.ctx, "loop", append(w.environ(w.Nodes[(first+i)%len(w.Nodes)], 5433), "PGSSLMODE=require")...)
		in, err := cmd.StdinPipe()
		w.check(err)
		c.all, c.inputs = append(c.all, w.beside(d.Name, cmd)), append(c.inputs, in)
	}
	c.each("there are no rows of", func(b *bench) bool { return strings.Contains(b.said(), "ready") })
	return c
}

// each waits until so holds of each of them.
func (c *crew) each(what string, so func(*bench) bool) {
	c.t.Helper()
	for _, b := range c.all {
		c.until(what+" "+b.name, func() bool {
			if b.over() {
				c.t.Fatalf("%s: %v\n%s", b.name, b.err, b.said())
			}
			return so(b)
		})
	}
}

// wentOn checks that all of them go on, ends them, and checks that none has heard of an error: each row is
// there as often as it was acknowledged.
func (c *crew) wentOn() {
	c.t.Helper()
	rows := func(b *bench) int {
		n, err := strconv.Atoi(c.sql("SELECT count(*) FROM written WHERE who = '" + b.name + "'"))
		c.check(err)
		return n
	}
	before := map[*bench]int{}
	for _, b := range c.all {
		before[b] = rows(b)
	}
	c.each("there are no more rows of", func(b *bench) bool { return rows(b) >= before[b]+20 })
	for i, b := range c.all {
		c.check(c.inputs[i].Close())
		select {
		case <-b.ended:
		case <-c.ctx.Done():
			c.t.Fatalf("%s does not end: %s", b.name, b.said())
		}
		said := strings.Fields(b.said())
		n := rows(b)
		if b.err != nil || said[len(said)-1] != strconv.Itoa(n) {
			c.t.Errorf("%s: %v; %d rows\n%s", b.name, b.err, n, b.said())
		}
		c.t.Logf("%s: %d rows", b.name, n)
	}
}
