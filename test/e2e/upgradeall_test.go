package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"howdah/test/outside"
)

// upgrades has all machines run another version of the program by one command, and the
// one of before by another: one machine after the other, that of the leader last. It is
// killed in between and given again; while a machine is not well, no other is begun.
// Nothing of PostgreSQL begins anew, and clients come and go.
func (w *world) upgrades(all []*machine, file string, on func(*machine, string) string) {
	t := w.t
	t.Helper()
	const servers = "grep -hx '[0-9]*' /var/lib/howdah/*/*/data/postmaster.pid; howdah history pg-bare"
	own := w.Program
	other := filepath.Join(t.TempDir(), "howdah")
	if out, err := exec.Command("go", "build", "-buildvcs=false", "-ldflags", "-X main.version=other", "-o", other, "howdah/cmd/howdah").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	with := func(program string, want int, args ...string) outside.Answer {
		t.Helper()
		w.Program = program
		defer func() { w.Program = own }()
		a, err := w.Run(w.ctx, append([]string{"upgrade", file, "--wait", "3m"}, args...)...)
		w.check(err)
		if a.Code != want {
			t.Fatalf("upgrade %s: exit %d, want %d\n%s%s", strings.Join(args, " "), a.Code, want, a.Out, a.Err)
		}
		return a
	}
	versions := func() (text string) {
		for _, m := range all {
			text += on(m, "howdah version | head -n 1; readlink /proc/$(cut -d' ' -f1 /run/howdah/"+m.member+"/agent.pid)/exe")
		}
		return text
	}
	began := versions()
	before := map[*machine]string{}
	for _, m := range all {
		before[m] = on(m, servers)
	}
	leads := strings.Fields(on(all[0], "howdah list pg-bare --json | tr -d ' \\n' | tr '{' '\\n' | grep -i '\"leader\"' | sed 's/.*\"Member\":\"\\([^\"]*\\)\".*/\\1/'"))
	if len(leads) != 1 {
		t.Fatalf("who leads? %q", leads)
	}

	// A preview says who comes last, and does nothing.
	a := with(other, 0, "--dry-run")
	lines := strings.Split(strings.TrimSpace(a.Out), "\n")
	plan := lines[len(lines)-4:]
	if !strings.Contains(plan[3], "leads pg-bare") && !strings.Contains(plan[2], "leads pg-bare") || strings.Contains(plan[0]+plan[1], "leads") || strings.Count(a.Out, "restart howdah") != 4 {
		t.Errorf("the order is\n%s", a.Out)
	}
	if now := versions(); now != began {
		t.Errorf("a preview changed\n%s to\n%s", began, now)
	}

	// While one machine is not well no other is begun.
	ill := all[3]
	pid := strings.TrimSpace(on(ill, "cat /run/unit.pid"))
	on(ill, "touch /run/away; mv /run/unit.pid /run/unit.was; kill "+pid+"; while kill -0 "+pid+" 2>/dev/null; do sleep 0.1; done")
	list := func() string { return on(all[0], "howdah list pg-bare || true") }
	w.until("pg-bare-4 is still seen", func() bool { return strings.Count(list(), "streaming") == 2 })
	a = with(other, 1, "--host", all[1].host, "--host", ill.host)
	if !strings.Contains(a.Err, "[upgrade-unwell]") || !strings.Contains(a.Err, ill.host) {
		t.Errorf("a machine whose supervisor ended:\n%s%s", a.Out, a.Err)
	}
	if now := on(all[1], "readlink /proc/$(cut -d' ' -f1 /run/howdah/pg-bare-2/agent.pid)/exe"); strings.Contains(now, "deleted") {
		t.Errorf("the machine was touched: %s", now)
	}
	on(ill, "systemctl start howdah.service")
	w.until("pg-bare is not well", func() bool { return strings.Count(list(), "streaming") == 3 })
	before[ill] = on(ill, servers)

	// Some come and go, some stay, and one is straight at the server.
	connect := func(host string, port int) (*pgconn.PgConn, error) {
		return pgconn.Connect(w.ctx, fmt.Sprintf("host=%s port=%d user=app password='secret of app' dbname=app connect_timeout=10 sslmode=require", host, port))
	}
	insert := func(c *pgconn.PgConn) error {
		_, err := c.Exec(w.ctx, "INSERT INTO upgraded VALUES (1)").ReadAll()
		return err
	}
	leader := all[slices.IndexFunc(all, func(m *machine) bool { return m.member == leads[0] })]
	c, err := connect(leader.host, 5432)
	w.check(err)
	_, err = c.Exec(w.ctx, "CREATE TABLE upgraded (n int)").ReadAll()
	w.check(err)
	_ = c.Close(w.ctx)
	ctx, stop := context.WithCancel(w.ctx)
	ended := make(chan error, 1+2*len(all))
	again := func(what string, one func() error) { // at times, until stop
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for n := 0; ctx.Err() == nil; n++ {
			if err := one(); err != nil {
				ended <- fmt.Errorf("%s, the %d. time: %w", what, n, err)
				return
			}
			<-tick.C
		}
		ended <- nil
	}
	stays := func(host string, port int) {
		c, err := connect(host, port)
		w.check(err)
		go func() {
			defer c.Close(context.WithoutCancel(w.ctx))
			again(fmt.Sprintf("a session through %s:%d", host, port), func() error { return insert(c) })
		}()
	}
	stays(leader.host, 5432)
	for _, m := range all {
		stays(m.host, 5433)
		go again("another session through "+m.host, func() error {
			c, err := connect(m.host, 5433)
			if err != nil {
				return err
			}
			defer c.Close(context.WithoutCancel(w.ctx))
			return insert(c)
		})
	}

	// Killed after the first machine, given again, and back.
	first, kill := context.WithCancel(w.ctx)
	cmd := exec.CommandContext(first, other, "--dir", w.Dir, "upgrade", file, "--yes")
	cmd.Env = w.Env
	out, err := cmd.StdoutPipe()
	w.check(err)
	w.check(cmd.Start())
	text := ""
	for buf := make([]byte, 1<<10); !strings.Contains(text, "all is well"); {
		n, err := out.Read(buf)
		text += string(buf[:n])
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
	}
	kill()
	_ = cmd.Wait()
	for _, step := range []struct{ program, says string }{{other, "howdah other"}, {own, strings.SplitN(began, "\n", 2)[0]}} {
		start := time.Now()
		var done struct {
			Complete bool
			Hosts    []struct {
				Host string
				Done []string
			}
		}
		w.check(json.Unmarshal([]byte(with(step.program, 0, "--json", "--yes").Out), &done))
		t.Logf("%s: %s: %+v", time.Since(start).Round(100*time.Millisecond), step.says, done)
		if !done.Complete || len(done.Hosts) != len(all) {
			t.Errorf("done was %+v", done)
		}
		if now := versions(); strings.Count(now, step.says+"\n") != len(all) || strings.Contains(now, "deleted") {
			t.Errorf("there run\n%s", now)
		}
		if a := with(step.program, 0); !strings.Contains(a.Out, "nothing was changed") {
			t.Errorf("given again:\n%s%s", a.Out, a.Err)
		}
	}
	stop()
	for range cap(ended) {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	for _, m := range all {
		if now := on(m, servers); now != before[m] {
			t.Errorf("%s: server and history were\n%s\nand are\n%s", m.host, before[m], now)
		}
	}
}
