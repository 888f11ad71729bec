package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sys/unix"

	"howdah/nodefile"
	"howdah/observe/alert"
	"howdah/observe/dashboard"
	"howdah/playground"
	"howdah/spec"
)

// Alerts fire by their causes on a cluster that lives, are shown, and end with
// them. Most wait for a minute and some for five, so it takes a quarter of an hour.
func TestAlertsByTheirCauses(t *testing.T) {
	if os.Getenv("NIGHTLY") == "" {
		t.Skip("alerts wait for minutes until they fire: NIGHTLY=1")
	}
	w := own(t)
	var cancel context.CancelFunc
	w.ctx, cancel = context.WithTimeout(t.Context(), 40*time.Minute)
	defer cancel()
	w.check(w.Up(w.ctx, "--observe"))
	leader := w.Node(w.whole())
	var others []spec.Node
	for _, n := range w.Nodes {
		if n.Member != leader.Member {
			others = append(others, n)
		}
	}
	b, c := others[0], others[1]
	w.until("the store of metrics answers", func() bool { a, err := w.Run(w.ctx, "alerts"); return err == nil && a.Code != 1 })

	// Replay stands still, the archive is full, a gateway hangs, sessions idle.
	w.super(b, "SELECT pg_wal_replay_pause()")
	w.sql("CREATE TABLE t AS SELECT repeat('x', 1000) FROM generate_series(1, 5000)")
	archive := filepath.Join(leader.Backup.Repo, "archive")
	w.check(unix.Mount("tmpfs", archive, "tmpfs", 0, "size=64k"))
	full := true
	t.Cleanup(func() {
		if full {
			_ = unix.Unmount(archive, unix.MNT_DETACH)
		}
	})
	_ = os.WriteFile(filepath.Join(archive, "full"), make([]byte, 1<<20), 0o600) // as far as it goes
	w.super(leader, "SELECT pg_switch_wal()")
	gateway := w.role(c, "gateway")
	w.kill(gateway, unix.SIGSTOP)
	sessions := w.sessions(leader, 75, 3)
	for i, c := range sessions[3:16] { // the first has the table, the others wait for it
		sql := "SELECT count(*) FROM t"
		if i == 0 {
			sql = "BEGIN; LOCK TABLE t"
		}
		go func() { _, _ = c.Exec(w.ctx, sql).ReadAll() }() // it ends with its connection
		if i == 0 {
			w.until("nobody has the table", func() bool {
				return w.sql("SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND relation = 't'::regclass") == "1"
			})
		}
	}
	w.fires("LockChain "+leader.Member, "PostgresReplicationLag "+b.Member, "WalArchiveFailing "+leader.Member, "HaproxyDown "+c.Member,
		"PgbouncerExporterDown "+c.Member, "PostgresConnUsageHigh "+leader.Member, "PostgresIdleInXact "+leader.Member, "BackupFailed "+leader.Member)
	if status := w.status(); !strings.Contains(status, "fire: CRIT") || !strings.Contains(status, "(howdah alerts)") {
		t.Errorf("status does not tell of alerts:\n%s", status)
	}
	w.super(b, "SELECT pg_wal_replay_resume()")
	w.check(unix.Unmount(archive, unix.MNT_DETACH))
	full = false
	w.kill(gateway, unix.SIGCONT)
	for _, s := range sessions {
		_ = s.Conn().Close() // some wait for an answer
	}
	w.resolves("LockChain", "PostgresReplicationLag", "WalArchiveFailing", "HaproxyDown", "PgbouncerExporterDown", "PostgresConnUsageHigh",
		"PostgresIdleInXact", "BackupFailed")

	w.console(leader.Member)
	w.panels(leader.Member)

	// A replica's host is lost.
	w.howdah("fault", "kill-node", c.Member)
	w.fires("MemberDown "+c.Member, "PatroniDown "+c.Member, "PgExporterDown "+c.Member, "NodeDown "+c.Member, "VectorDown "+c.Member, "HaproxyDown "+c.Member,
		"EtcdServerDown "+c.Member, "PostgresReplicationBreak "+leader.Member, "LossNotSurvived ", "ReplicaMissing ")
	w.howdah("fault", "start-node", c.Member)
	w.whole()
	w.fires("PostgresRestart " + c.Member)

	// Nobody may lead, and whoever keeps the metrics has to be there to say so.
	if leader.Observe.On() {
		w.howdah("switchover", "--to", b.Member)
		leader = b
		w.whole()
	}
	w.howdah("pause")
	w.howdah("fault", "kill-node", leader.Member)
	w.fires("ClusterNoLeader ")
	w.howdah("fault", "start-node", leader.Member)
	w.howdah("resume")
	w.whole()
	w.all(caused)
	w.resolves("VectorDown", "MemberDown", "PatroniDown", "PgExporterDown", "NodeDown", "EtcdServerDown", "LossNotSurvived", "ReplicaMissing", "ClusterNoLeader",
		"PostgresReplicationBreak")
}

// caused are the alerts that TestAlertsByTheirCauses fires.
var caused = []string{
	"BackupFailed", "ClusterNoLeader", "EtcdServerDown", "HaproxyDown", "LockChain", "LossNotSurvived", "MemberDown", "NodeDown", "PatroniDown", "PgExporterDown",
	"PgbouncerExporterDown", "PostgresConnUsageHigh", "PostgresIdleInXact", "PostgresReplicationBreak", "PostgresReplicationLag", "PostgresRestart", "ReplicaMissing",
	"VectorDown", "WalArchiveFailing",
}

// Why others fire by series alone (observe/store/testdata/alerts.txt).
const (
	lastsHours = "its cause has to last for an hour and more"
	ofMachine  = "its cause would be this machine's, with whatever else runs on it"
	noClock    = "there is no other clock here to set"
)

// uncaused are the others, each with the reason.
var uncaused = map[string]string{
	"BackupTooOld": lastsHours, "DiskWillFill": lastsHours, "DrillOverdue": lastsHours,
	"NodeCpuHigh": ofMachine, "NodeDiskSlow": ofMachine, "NodeFdFull": ofMachine, "NodeLoadHigh": ofMachine,
	"NodeMemSwapped": ofMachine, "NodeOutOfMem": ofMachine, "PostgresPressureHigh": ofMachine, "EtcdWalFsyncSlow": ofMachine,
	"ClockSkew": noClock, "NodeTimeDrift": noClock,
	"PostgresXidWarpAround": "1.7 billion transactions have to be used up",
	"LogShipperLag":         "64 MiB of log have to wait for ten minutes",
	"EtcdQuotaFull":         "the demo's store has to hold 230 MB",
	"VipDuplicate":          "two holders are what role, guard and kernel exclude (TestVirtualAddress)",
	"GatewayUnwell":         "one that hangs is not announced any more after 15 s (HaproxyDown); it takes a fault of single ports between machines",
	"PgbouncerDown":         "pooler and who tells of it are one process, whose end is PgbouncerExporterDown",
}

var named = regexp.MustCompile(`(?m)^ *- alert: *(\w+)$`)

// Every alert that ships is fired by its cause, or it is said why not.
func TestEveryAlertHasACauseOrAReason(t *testing.T) {
	left := maps.Clone(uncaused)
	for _, name := range slices.Concat(caused, causedToo, causedByStorage, causedBySuccession) {
		if left[name] != "" {
			t.Errorf("%s is fired by its cause, and has a reason why not", name)
		}
		left[name] = "fired"
	}
	for _, f := range alert.Shipped() {
		for _, m := range named.FindAllStringSubmatch(string(f.Text), -1) {
			if left[m[1]] == "" {
				t.Errorf("%s has neither a cause in the tests of alerts by their causes nor a reason", m[1])
			}
			delete(left, m[1])
		}
	}
	for name := range left {
		t.Errorf("there is no alert %s", name)
	}
}

// alerts are what `howdah alerts` shows to fire: name, a space, and the member.
func (w *world) alerts() []string {
	a, err := w.Run(w.ctx, "alerts", "--json")
	w.check(err)
	var all []struct{ Name, Member string }
	if json.Unmarshal([]byte(a.Out), &all) != nil {
		return nil
	}
	var names []string
	for _, f := range all {
		names = append(names, f.Name+" "+f.Member)
	}
	return names
}

// fires waits until all of these fire.
func (w *world) fires(names ...string) {
	w.t.Helper()
	left := slices.Clone(names)
	w.until(fmt.Sprintf("%v do not fire", names), func() bool {
		now := w.alerts()
		left = slices.DeleteFunc(left, func(n string) bool {
			if slices.Contains(now, n) {
				w.t.Logf("%s fires", n)
				name, _, _ := strings.Cut(n, " ")
				if w.fired == nil {
					w.fired = map[string]bool{}
				}
				w.fired[name] = true
				return true
			}
			return false
		})
		return len(left) == 0
	})
}

// resolves waits until none of these fires of any member.
func (w *world) resolves(names ...string) {
	w.t.Helper()
	w.until(fmt.Sprintf("some of %v fire still", names), func() bool {
		return !slices.ContainsFunc(w.alerts(), func(a string) bool {
			name, _, _ := strings.Cut(a, " ")
			return slices.Contains(names, name)
		})
	})
}

// status is what `howdah status` prints, whatever it ends with.
func (w *world) status() string {
	a, err := w.Run(w.ctx, "status")
	w.check(err)
	return a.Out
}

// super runs a statement as the owner of the server, by its socket.
func (w *world) super(n spec.Node, sql string) {
	w.t.Helper()
	w.asOwner(n, "postgres", sql)
}

// asOwner gives what it answers, in a database.
func (w *world) asOwner(n spec.Node, database, sql string) string {
	w.t.Helper()
	cmd := w.owner(n, database, sql)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		w.t.Fatalf("%s: %v: %s", sql, err, said.String())
	}
	return strings.TrimSpace(string(out))
}

// owner is a psql of the server's owner.
func (w *world) owner(n spec.Node, database, sql string) *exec.Cmd {
	w.t.Helper()
	cmd := exec.CommandContext(w.ctx, "psql", "-AtXq", "-h", n.Paths.Sockets, "-p", fmt.Sprint(n.Postgres.Port), "-U", spec.Superuser, "-d", database, "-c", sql)
	info, err := os.Stat(n.Postgres.Data)
	w.check(err)
	if owner := info.Sys().(*syscall.Stat_t); os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: owner.Uid, Gid: owner.Gid}}
		cmd.Dir = "/"
	}
	return cmd
}

// sessions opens n connections to a server, past the pools; some of them idle in a
// transaction.
func (w *world) sessions(at spec.Node, n, idle int) (all []*pgconn.PgConn) {
	w.t.Helper()
	config := w.through(at, 5436)
	for i := range n {
		conn, err := pgconn.ConnectConfig(w.ctx, config)
		w.check(err)
		w.t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(w.ctx)) })
		if i < idle {
			_, err = conn.Exec(w.ctx, "BEGIN; SELECT 1").ReadAll()
			w.check(err)
		}
		all = append(all, conn)
	}
	return all
}

// console looks at the page for people, as somebody does who has its password.
func (w *world) console(leader string) {
	w.t.Helper()
	at := slices.IndexFunc(w.Nodes, func(n spec.Node) bool { return n.Observe.Console != "" })
	if at < 0 {
		w.t.Fatal("no node has a console")
	}
	n := w.Nodes[at]
	secrets, err := nodefile.Secrets(spec.Node{Paths: spec.Paths{Secrets: n.Observe.Secrets}})
	w.check(err)
	_, port, err := net.SplitHostPort(n.Observe.Console)
	w.check(err)
	base := "http://" + net.JoinHostPort(playground.Door(n), port)
	jar, err := cookiejar.New(nil)
	w.check(err)
	client := &http.Client{Jar: jar}
	open := func(method, path string, form url.Values) *http.Response {
		w.t.Helper()
		r, err := http.NewRequestWithContext(w.ctx, method, base+path, strings.NewReader(form.Encode()))
		w.check(err)
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		resp, err := client.Do(r)
		w.check(err)
		return resp
	}
	r := open(http.MethodPost, "/login", url.Values{"password": {secrets[spec.SecretConsole].Reveal()}})
	page, err := io.ReadAll(r.Body)
	r.Body.Close()
	if err != nil || !strings.Contains(string(page), `id="topology"`) {
		w.t.Errorf("the console does not let in: %v %s", err, page)
	}
	live := open(http.MethodGet, "/api/live?cluster="+n.Cluster, nil)
	defer live.Body.Close()
	lines := bufio.NewScanner(live.Body)
	lines.Buffer(nil, 4<<20)
	for lines.Scan() {
		text, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		var view struct {
			Status struct {
				Picture struct{ Leader string }
			}
		}
		if err := json.Unmarshal([]byte(text), &view); err != nil || view.Status.Picture.Leader != leader {
			w.t.Errorf("the console shows %v %s, and %s leads", err, text, leader)
		}
		return
	}
	w.t.Errorf("the console shows nothing: %v", lines.Err())
}

// panels asks what dashboards ask, and expects an answer unless they say why not.
func (w *world) panels(leader string) {
	w.t.Helper()
	chosen := strings.NewReplacer("$cls", "demo", "$ins", leader, "$datname", ".*")
	for _, d := range dashboard.All() {
		for _, row := range d.Rows {
			for _, p := range row.Panels {
				for _, a := range p.Asks {
					if out := w.howdah("metrics", chosen.Replace(a.Query)); strings.Contains(out, "nothing has such a series") && p.Hidden == "" {
						w.t.Errorf("%s, %s: %s has no answer", d.UID, p.Title, a.Query)
					}
				}
			}
		}
	}
}
