package node

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"howdah/lease"
	"howdah/nodefile"
	"howdah/spec"
)

// The guard arms the device of a leader, disarms that of a follower, tells the agent
// of both, and says why where it can not.
func TestTheGuardWatches(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "dog")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	heard := make(chan string, 1000)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			for lines := bufio.NewScanner(conn); lines.Scan(); {
				heard <- lines.Text()
				if strings.HasPrefix(lines.Text(), "arm") {
					fmt.Fprintln(conn, "ok")
				}
			}
		}
	}()
	n := spec.Node{
		Member: "a-1", Paths: spec.Paths{Run: dir, Page: filepath.Join(dir, "lease")}, Agent: spec.Agent{Timers: spec.Safe()},
		Watchdog: spec.Watchdog{Mode: spec.WatchdogRequired, Device: path, Mock: true},
	}
	page, err := lease.Create(n.Paths.Page)
	if err != nil {
		t.Fatal(err)
	}
	defer page.Close()
	g := &Guard{
		Page: n.Paths.Page, Data: filepath.Join(dir, "data"), Note: filepath.Join(dir, "note"), Log: slog.New(slog.DiscardHandler),
		Vigil: newVigil(n, true, func() bool { return false }),
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- g.Run(ctx) }()
	defer cancel()
	await := func(want string) {
		t.Helper()
		for {
			select {
			case got := <-heard:
				if got == want {
					return
				}
				if want == "arm 2" || got != "pet" {
					t.Fatalf("the device heard %q, want %q", got, want)
				}
			case <-time.After(20 * time.Second):
				t.Fatalf("the device did not hear %q", want)
			}
		}
	}
	told := func(what string, so func(nodefile.Watchdog) bool) {
		t.Helper()
		var w nodefile.Watchdog
		for end := time.Now().Add(20 * time.Second); time.Now().Before(end); <-time.After(5 * time.Millisecond) {
			if w = nodefile.ReadWatchdog(n); so(w) {
				return
			}
		}
		t.Fatalf("the agent is not told that it is %s: %+v", what, w)
	}
	set := func(p lease.Page) {
		t.Helper()
		if err := page.Set(p); err != nil {
			t.Fatal(err)
		}
	}
	told("ready", func(w nodefile.Watchdog) bool { return w.Ready && !w.Armed })
	set(lease.Page{Role: lease.Primary, Epoch: 3, Deadline: lease.Now() + time.Hour})
	await("arm 2")
	await("pet")
	told("armed", func(w nodefile.Watchdog) bool { return w.Armed })
	set(lease.Page{Role: lease.Replica})
	await("V")
	told("disarmed", func(w nodefile.Watchdog) bool { return w.Ready && !w.Armed })

	set(lease.Page{Role: lease.Primary, Epoch: 4, Deadline: lease.Now() + time.Hour})
	await("arm 2")
	cancel()
	await("V") // nothing runs on the data
	if err := <-ended; err != nil {
		t.Fatal(err)
	}

	l.Close()
	g.Vigil = newVigil(n, true, func() bool { return false })
	ctx, again := context.WithCancel(t.Context())
	go func() { ended <- g.Run(ctx) }()
	told("missing", func(w nodefile.Watchdog) bool {
		return !w.Ready && w.Problem.Code == "watchdog-missing" && strings.Contains(w.Problem.Why, "no such file")
	})
	again()
	<-ended
}
