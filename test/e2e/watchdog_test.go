package e2e

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"howdah/lease"
	"howdah/test/outside"
)

// A dog plays the watchdog of one machine: petted too late, it bites.
type dog struct {
	bite func()
	over atomic.Bool // the test: it bites no more

	mu      sync.Mutex
	timeout time.Duration // 0: it does not count
	timer   *time.Timer
	petted  time.Duration // boot clock
	bitten  time.Duration
	armed   int
}

func (d *dog) serve(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			for lines := bufio.NewScanner(conn); lines.Scan(); {
				d.hear(conn, lines.Text())
			}
		}()
	}
}

func (d *dog) hear(conn net.Conn, line string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	seconds := 0
	if n, _ := fmt.Sscanf(line, "arm %d", &seconds); n == 1 {
		d.timeout = time.Duration(seconds) * time.Second
		d.armed++
		fmt.Fprintln(conn, "ok")
	}
	if d.timer != nil {
		d.timer.Stop()
	}
	if line == "V" {
		d.timeout = 0
		return
	}
	d.petted = lease.Now()
	d.timer = time.AfterFunc(d.timeout, func() {
		d.mu.Lock()
		d.bitten, d.timeout = lease.Now(), 0
		d.mu.Unlock()
		if !d.over.Load() {
			d.bite()
		}
	})
}

func (d *dog) counts() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.timeout > 0
}

// Agent and supervisor of a primary are frozen, in lease mode: its PostgreSQL goes on,
// and nobody is left who would silence it. The watchdog resets the machine before
// anybody else leads. Who has no watchdog does not lead, and says so.
func TestWatchdog(t *testing.T) {
	byNight(t)
	w := own(t)
	dir, err := os.MkdirTemp("", "dogs-")
	w.check(err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	dogs := map[string]*dog{}
	sockets := map[string]net.Listener{}
	hosts := ""
	for i := range 3 {
		path := filepath.Join(dir, fmt.Sprint(i+1))
		l, err := net.Listen("unix", path)
		w.check(err)
		w.check(os.Chmod(path, 0o666))
		t.Cleanup(func() { l.Close() })
		member := fmt.Sprintf("one-%d", i+1)
		d := &dog{}
		t.Cleanup(func() { d.over.Store(true) })
		d.bite = func() {
			if _, err := w.Howdah(w.ctx, "fault", "kill-node", "one", member); err != nil {
				t.Errorf("reset %s: %v", member, err)
			}
		}
		dogs[member], sockets[member] = d, l
		go d.serve(l)
		hosts += fmt.Sprintf("  - { address: 10.10.10.1%d, watchdog_device: %s }\n", i+1, path)
	}
	w.check(w.Up(w.ctx, w.inventory("cluster: one\nhosts:\n"+hosts+"watchdog: required\nmax_loss: 1048576\nusers: [{ name: demo }]\ndatabases: [{ name: demo, owner: demo }]\ntemplate: tiny\nlibs: ''\nbackup: false\n")))
	leader := w.Node(w.whole())
	for member, d := range dogs {
		if d.counts() != (member == leader.Member) {
			t.Errorf("the watchdog of %s counts: %v", member, d.counts())
		}
	}
	writer := w.write()

	// A planned change arms one and disarms the other.
	w.howdah("switchover", "one", "--yes")
	was := leader.Member
	w.until("nobody else leads", func() bool { leader = w.Node(w.whole()); return leader.Member != was })
	w.until("the watchdog of "+was+" still counts", func() bool { return !dogs[was].counts() })
	if d := dogs[leader.Member]; !d.counts() || d.bitten > 0 || dogs[was].bitten > 0 {
		t.Fatal("a switchover left a watchdog unarmed, or had one bite")
	}

	// Who has none says so.
	without := was
	sockets[without].Close()
	w.until("nobody is told that "+without+" has no watchdog", func() bool {
		return strings.Contains(w.howdah("why", "one"), "watchdog-missing")
	})

	d := dogs[leader.Member]
	w.kill(w.role(leader, "node"), unix.SIGSTOP)
	w.kill(w.role(leader, "agent"), unix.SIGSTOP)
	until, _ := lease.Read(leader.Paths.Page)
	over := until.Deadline + leader.Agent.Timers.Margin
	others := 0
	for bitten := time.Duration(0); bitten == 0; {
		d.mu.Lock()
		bitten = d.bitten
		d.mu.Unlock()
		for _, n := range w.Nodes {
			if n.Member != leader.Member && !standby(n) && bitten == 0 {
				others++
			}
		}
		if lease.Now() > over+10*time.Second {
			t.Fatal("the watchdog does not bite")
		}
		w.pause(2 * time.Millisecond)
	}
	t.Logf("fired %s after it was last petted, %s before the lease could end", d.bitten-d.petted, over-d.bitten)
	if d.bitten > over || others > 0 {
		t.Errorf("it fired %s after the lease could have ended; somebody else was promoted before: %v", d.bitten-over, others > 0)
	}
	w.flowing(writer)
	w.until("nobody else leads", func() bool {
		for _, n := range w.Nodes {
			if n.Member != leader.Member && !standby(n) {
				if n.Member == without {
					t.Fatalf("%s leads, and has no watchdog", n.Member)
				}
				return true
			}
		}
		return false
	})
	if rows := outside.Overlap(writer); rows > 0 {
		t.Errorf("%d rows overlap", rows)
	}
	w.howdah("fault", "start-node", "one", leader.Member)
	w.whole()
	w.flowing(writer)
}
