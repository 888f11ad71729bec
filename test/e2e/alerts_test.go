package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sys/unix"

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
	w.fires("PostgresReplicationLag "+b.Member, "WalArchiveFailing "+leader.Member, "HaproxyDown "+c.Member,
		"PgbouncerExporterDown "+c.Member, "PostgresConnUsageHigh "+leader.Member, "PostgresIdleInXact "+leader.Member, "BackupFailed "+leader.Member)
	if status := w.status(); !strings.Contains(status, "fire: CRIT") || !strings.Contains(status, "(howdah alerts)") {
		t.Errorf("status does not tell of alerts:\n%s", status)
	}
	w.super(b, "SELECT pg_wal_replay_resume()")
	w.check(unix.Unmount(archive, unix.MNT_DETACH))
	full = false
	w.kill(gateway, unix.SIGCONT)
	for _, s := range sessions {
		_ = s.Close(w.ctx)
	}
	w.resolves("PostgresReplicationLag", "WalArchiveFailing", "HaproxyDown", "PgbouncerExporterDown", "PostgresConnUsageHigh",
		"PostgresIdleInXact", "BackupFailed")

	// A replica's host is lost.
	w.howdah("fault", "kill-node", c.Member)
	w.fires("MemberDown "+c.Member, "PatroniDown "+c.Member, "PgExporterDown "+c.Member, "NodeDown "+c.Member, "HaproxyDown "+c.Member,
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
	w.resolves("MemberDown", "PatroniDown", "PgExporterDown", "NodeDown", "EtcdServerDown", "LossNotSurvived", "ReplicaMissing", "ClusterNoLeader",
		"PostgresReplicationBreak")
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
	cmd := exec.CommandContext(w.ctx, "psql", "-AtXq", "-h", n.Paths.Sockets, "-p", fmt.Sprint(n.Postgres.Port), "-U", spec.Superuser, "-d", "postgres", "-c", sql)
	info, err := os.Stat(n.Postgres.Data)
	w.check(err)
	if owner := info.Sys().(*syscall.Stat_t); os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: owner.Uid, Gid: owner.Gid}}
		cmd.Dir = "/"
	}
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Run(); err != nil {
		w.t.Fatalf("%s: %v: %s", sql, err, said.String())
	}
}

// sessions opens n connections to a server; some of them idle in a transaction.
func (w *world) sessions(at spec.Node, n, idle int) (all []*pgconn.PgConn) {
	w.t.Helper()
	config := w.through(at, 5433)
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
