package compat

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sys/unix"

	"howdah/node"
	"howdah/test/outside"
)

// HAProxy with the listeners that Pigsty renders for its fast plan follows ten
// changes of leader by our health checks alone. Once it has followed one it sends
// nobody to a standby; until then it may, because it needs three failed checks to
// see that the server it knew has become one.
func TestHAProxy(t *testing.T) {
	path := peer(t, "bookworm", "haproxy")
	w := demo(t, 5*time.Minute)
	leader := w.whole()
	config := filepath.Join(w.Dir, "haproxy.cfg")
	const address = "127.10.10.100"
	text := `global
    maxconn 2000
defaults
    retries 3
    timeout queue 3s
    timeout connect 3s
    timeout check 3s
    timeout client 24h
    timeout server 24h
`
	for _, l := range []struct{ name, port, check string }{{"primary", "5433", "/primary"}, {"replica", "5434", "/read-only"}} {
		text += fmt.Sprintf(`listen demo-%s
    bind %s:%s
    mode tcp
    maxconn 5000
    balance roundrobin
    option httpchk
    option http-keep-alive
    http-check send meth OPTIONS uri %s
    http-check expect status 200
    default-server inter 1s fastinter 500ms downinter 1s rise 3 fall 3 on-marked-down shutdown-sessions slowstart 30s maxconn 3000 maxqueue 128 weight 100
`, l.name, address, l.port, l.check)
		for _, n := range w.Nodes {
			backup := ""
			if l.name == "replica" && n.Member == "demo-1" {
				backup = " backup"
			}
			text += fmt.Sprintf("    server %s %s:%d check port 8008 weight 100%s\n", n.Member, n.Address, n.Postgres.Port, backup)
		}
	}
	w.check(os.WriteFile(config, []byte(text), 0o600))
	_, err := w.run(path, "-c", "-f", config)
	w.check(err)
	var said log
	cmd := exec.CommandContext(w.ctx, path, "-db", "-f", config)
	cmd.Stdout, cmd.Stderr = &said, &said
	w.check(cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
		if t.Failed() {
			t.Logf("haproxy:\n%s", said.String())
		}
	})
	through := w.client(address)
	w.until("nobody answers through HAProxy", func() bool {
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("HAProxy ended: %v\n%s", err, said.String())
		default:
		}
		// Before its first checks it takes every server to be up.
		checked := strings.Count(said.String(), "Server demo-primary/") >= len(w.Nodes)-1 // so many are down
		return checked && through("5433") == w.Node(leader).Address+" primary"
	})

	// A client that connects all the time.
	stop := make(chan struct{})
	var settled atomic.Int64 // the change that was followed; negative while one is
	var looking sync.WaitGroup
	looking.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			before := settled.Load()
			got := through("5433")
			if before >= 0 && settled.Load() == before && strings.HasSuffix(got, " standby") {
				t.Errorf("after change %d 5433 leads to %s", before, got)
			}
			_ = outside.Pause(w.ctx, 50*time.Millisecond)
		}
	})
	for i := range 10 {
		from := w.whole()
		settled.Store(-1)
		if i%2 == 0 {
			_, err := w.Howdah(w.ctx, "switchover", "demo", "--yes")
			w.check(err)
		} else if id, ok := node.Postmaster(w.Node(from)); !ok {
			t.Fatalf("%s has no server", from)
		} else {
			w.check(id.Signal(unix.SIGKILL))
		}
		began := time.Now()
		var to string
		alone := 0 // how often in a row it led there: a server that HAProxy still takes for one as well has every second turn
		w.until("5433 does not follow", func() bool {
			out, err := w.List(w.ctx)
			if err != nil {
				return false
			}
			to = ""
			for _, m := range out {
				if m.Role == "Leader" && m.State == "running" {
					to = m.Member
				}
			}
			// One that was killed may start in place, where that loses nothing.
			if to == "" || to == from && i%2 == 0 || through("5433") != w.Node(to).Address+" primary" {
				alone = 0
				return false
			}
			alone++
			return alone == 10
		})
		settled.Store(int64(i + 1))
		t.Logf("change %d: from %s to %s, followed after %s", i+1, from, to, time.Since(began).Round(10*time.Millisecond))
	}
	close(stop)
	looking.Wait()
	leader = w.whole()
	w.until("5434 does not lead to a standby", func() bool { return strings.HasSuffix(through("5434"), " standby") })
}

// client returns a function that connects through a port of address and says where it came to: "127.10.10.11 primary".
func (w *world) client(address string) func(port string) string {
	url, err := w.Howdah(w.ctx, "psql", "--print-url")
	w.check(err)
	return func(port string) string {
		config, err := pgconn.ParseConfig(strings.TrimSpace(url))
		if err != nil {
			return err.Error()
		}
		number, _ := strconv.ParseUint(port, 10, 16)
		config.Host, config.Port, config.Fallbacks, config.ValidateConnect = address, uint16(number), nil, nil
		ctx, cancel := context.WithTimeout(w.ctx, 3*time.Second)
		defer cancel()
		c, err := pgconn.ConnectConfig(ctx, config)
		if err != nil {
			return ""
		}
		defer c.Close(ctx)
		all, err := c.Exec(ctx, "select host(inet_server_addr()) || case when pg_is_in_recovery() then ' standby' else ' primary' end").ReadAll()
		if err != nil || len(all) != 1 || len(all[0].Rows) != 1 {
			return ""
		}
		return string(all[0].Rows[0][0])
	}
}

// A log is what a program says, to be read while it speaks.
type log struct {
	mu   sync.Mutex
	text strings.Builder
}

// Write implements io.Writer.
func (l *log) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

// String is everything so far.
func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
