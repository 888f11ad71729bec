package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sys/unix"

	"howdah/spec"
)

// causedToo are the alerts that TestMoreAlertsByTheirCauses fires.
var causedToo = []string{
	"BackupChecksumError", "ClusterUnseen", "DataChecksumFailure", "DrillFailed", "EtcdNoLeader", "ExposureHigh", "PatroniFailSafeActive", "PgbouncerClientQueue",
	"PgbouncerQuerySlow", "PostgresDown",
}

// Alerts of pools, of the store, of damage and of a server that is down fire by their
// causes too, and end with them; what is silenced is shown so.
func TestMoreAlertsByTheirCauses(t *testing.T) {
	byNight(t)
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
	w.silences()

	// More clients than a pool has sessions, each of whom waits: it goes on for a while.
	w.sql("CREATE TABLE harm AS SELECT g AS id FROM generate_series(1, 2000) g")
	crowd, leave := context.WithCancel(w.ctx)
	defer leave()
	for range 60 {
		go func() {
			config := w.through(b, 5434)
			for crowd.Err() == nil {
				conn, err := pgconn.ConnectConfig(crowd, config)
				if err != nil {
					continue
				}
				for err == nil {
					_, err = conn.Exec(crowd, "SELECT pg_sleep(0.5)").ReadAll()
				}
				_ = conn.Close(context.WithoutCancel(crowd))
			}
		}()
	}

	// Meanwhile a page of the leader's is damaged on disk, and one of a standby's.
	w.super(leader, "CHECKPOINT")
	damage := func(n spec.Node) {
		t.Helper()
		path := w.asOwner(n, "demo", "SELECT pg_relation_filepath('harm')")
		f, err := os.OpenFile(filepath.Join(n.Postgres.Data, path), os.O_RDWR, 0)
		w.check(err)
		defer f.Close()
		_, err = f.WriteAt([]byte("harm"), 4000)
		w.check(err)
	}
	damage(leader)
	if _, err := w.Run(w.ctx, "backup", "--type", "full"); err != nil {
		t.Fatal(err)
	}
	w.until("the standby has no restartpoint", func() bool {
		w.super(b, "CHECKPOINT")
		return w.asOwner(b, "demo", "SELECT pg_relation_size('harm') > 0") == "t"
	})
	damage(b)
	w.howdah("restart", "demo", b.Member, "--yes")
	w.whole()
	if out, err := w.owner(b, "demo", "SELECT count(*) FROM harm").CombinedOutput(); err == nil || !strings.Contains(string(out), "invalid page") {
		t.Errorf("a damaged page is read: %v %s", err, out)
	}
	w.fires("BackupChecksumError ", "DataChecksumFailure "+b.Member, "PgbouncerClientQueue "+b.Member, "PgbouncerQuerySlow "+b.Member)
	leave()
	w.sql("UPDATE harm SET id = id + 1")
	w.super(leader, "CHECKPOINT") // the page is written anew, from memory
	w.howdah("backup", "--type", "full")
	w.howdah("reinit", "demo", b.Member, "--yes")
	w.whole()
	w.resolves("BackupChecksumError", "PgbouncerClientQueue", "PgbouncerQuerySlow")

	// The newest backup is broken wherever it is; then there is another one.
	for _, n := range w.Nodes {
		w.breakBackups(n)
	}
	if a, err := w.Run(w.ctx, "drill", "--yes"); err != nil || a.Code == 0 {
		t.Errorf("a drill of a broken backup: %v %d %s", err, a.Code, a.Out)
	}
	w.fires("DrillFailed ")
	w.howdah("backup", "--type", "full")
	w.howdah("drill", "--yes")
	w.resolves("DrillFailed")

	// Commits wait for nobody, and no standby gets them.
	w.howdah("edit-config", "--set", "synchronous_mode=off", "--yes")
	var frozen []int
	for _, n := range others {
		pid := 0
		_, err := fmt.Sscan(w.asOwner(n, "postgres", "SELECT pid FROM pg_stat_wal_receiver"), &pid)
		w.check(err)
		frozen = append(frozen, pid)
		w.check(unix.Kill(pid, unix.SIGSTOP))
	}
	thaw := func() {
		for _, pid := range frozen {
			_ = unix.Kill(pid, unix.SIGCONT) // it may have been replaced
		}
		frozen = nil
	}
	defer thaw()
	w.sql("CREATE TABLE lone AS SELECT repeat('x', 1000) FROM generate_series(1, 20000)")
	w.fires("ExposureHigh ")
	thaw()
	w.howdah("edit-config", "--set", "synchronous_mode=quorum", "--yes")
	w.whole()
	w.resolves("ExposureHigh")

	// Most of the store hangs: the leader goes on by the word of the others.
	stores := []spec.Node{b, c}
	for _, n := range stores {
		w.kill(w.role(n, "etcd"), unix.SIGSTOP)
	}
	w.fires("EtcdNoLeader ", "ClusterUnseen ", "PatroniFailSafeActive ")
	for _, n := range stores {
		w.kill(w.role(n, "etcd"), unix.SIGCONT)
	}
	w.whole()
	w.resolves("EtcdNoLeader", "ClusterUnseen", "PatroniFailSafeActive")

	// A server is ended while nobody may start it.
	w.howdah("pause")
	text, err := os.ReadFile(filepath.Join(c.Postgres.Data, "postmaster.pid"))
	w.check(err)
	pid := 0
	_, err = fmt.Sscan(string(text), &pid)
	w.check(err)
	w.check(unix.Kill(pid, unix.SIGINT))
	w.fires("PostgresDown " + c.Member)
	w.howdah("resume")
	w.whole()
	w.resolves("PostgresDown")
	w.all(causedToo)
}

// breakBackups spoils what the backups on a member's disk have of the servers' files.
func (w *world) breakBackups(n spec.Node) {
	w.t.Helper()
	for _, one := range w.backups().Backups {
		dir := filepath.Join(n.Backup.Repo, "backup", n.Cluster, one.Label)
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || strings.HasPrefix(d.Name(), "backup.manifest") {
				return err
			}
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = f.WriteAt([]byte("broken"), 0)
			return err
		})
		if err != nil && !os.IsNotExist(err) {
			w.t.Fatal(err)
		}
	}
}

// silences sees to it that what is silenced by command is what the store goes by.
func (w *world) silences() {
	w.t.Helper()
	var made struct{ ID string }
	w.check(json.Unmarshal([]byte(w.howdah("alerts", "silence", "NodeTimeDrift", "cls=~de.*", "--for", "2h", "--comment", "no clock here", "--json")), &made))
	shows := func(want string) {
		w.t.Helper()
		w.until("the store has not "+want, func() bool {
			var all []struct {
				ID, Comment, CreatedBy string
				Status                 struct{ State string }
			}
			w.check(json.Unmarshal([]byte(w.howdah("alerts", "silences", "--ended", "--json")), &all))
			return len(all) == 1 && all[0].ID == made.ID && all[0].Status.State == want && all[0].Comment == "no clock here" && all[0].CreatedBy != ""
		})
	}
	shows("active")
	w.refused("silence-unknown", "nosuch", "alerts", "unsilence", "nosuch")
	w.refused("silence-refused", "everything", "alerts", "silence", "ins=~.*")
	w.howdah("alerts", "unsilence", made.ID)
	shows("expired")
	if out := w.howdah("alerts", "silences"); !strings.Contains(out, "nothing is silenced") {
		w.t.Errorf("silences that have ended are shown: %s", out)
	}
}
