package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"howdah/spec"
)

// A member gets its data out of a repository where the inventory says so and one has
// a backup that will do, says which, and streams from the leader afterwards; where
// none has, it takes a base backup, and says why.
func TestReplicaFromRepository(t *testing.T) {
	w := own(t)
	w.check(w.Up(w.ctx, w.inventory(`cluster: one
hosts: [10.10.10.11, 10.10.10.12]
users: [{ name: demo }]
databases: [{ name: demo, owner: demo }]
template: tiny
libs: ''
create_replica_methods: [pgbackrest, basebackup]
`)))
	leader := w.whole()
	other := w.replica()
	if log := w.agentLog(other); !strings.Contains(log, "copy=repository") || !strings.Contains(log, "copy=base") || !strings.Contains(log, "database system copied") {
		t.Errorf("without a backup %s has not taken a base backup of %s, or does not say so", other.Member, leader)
	}
	w.howdah("backup", "--type", "full")
	w.until("the other member has the backup", func() bool {
		b := w.backups()
		return len(b.Backups) > 0 && len(b.Backups[len(b.Backups)-1].Members) == 2
	})
	w.in("one", "create table moments as select generate_series(1, 1000) n")
	for _, n := range w.Nodes {
		if n.Member == leader {
			w.super(n, "select pg_switch_wal()")
		}
	}
	w.in("one", "insert into moments values (1001)")
	w.reinit(other)
	if log := w.agentLog(other); !strings.Contains(log, "database system restored from a repository") || !strings.Contains(log, "which is the newest there") {
		t.Errorf("%s was not made out of its repository, or does not say so", other.Member)
	}
	w.in("one", "insert into moments values (1002)")
	w.until("the member is up to date", func() bool {
		return w.asOwner(other, "demo", "select count(*) from moments") == "1002"
	})
	w.until("it fetches nothing any more", func() bool {
		_, err := os.Stat(filepath.Join(other.Paths.Dir, "howdah.copied"))
		return os.IsNotExist(err) && w.asOwner(other, "postgres", "select current_setting('restore_command')") == ""
	})
	if got := w.asOwner(other, "postgres", "select status from pg_stat_wal_receiver"); got != "streaming" {
		t.Errorf("it is %s", got)
	}

	// A repository that is of no use costs nothing but the look. Were the files gone,
	// the other member's would be copied again.
	for _, name := range []string{"backup.info", "backup.info.copy"} {
		w.check(os.WriteFile(filepath.Join(other.Backup.Repo, "backup/one", name), []byte("nonsense\n"), 0o640))
	}
	before := strings.Count(w.agentLog(other), "database system copied")
	w.reinit(other)
	if got := strings.Count(w.agentLog(other), "database system copied"); got != before+1 {
		t.Errorf("with a broken repository %s has taken %d base backups", other.Member, got-before)
	}
	w.until("the member is up to date again", func() bool {
		return w.asOwner(other, "demo", "select count(*) from moments") == "1002"
	})
	w.howdah("switchover", "--to", other.Member, "--yes")
	w.whole()
}

func (w *world) reinit(n spec.Node) {
	w.t.Helper()
	made := func() int {
		log := w.agentLog(n)
		return strings.Count(log, "database system copied") + strings.Count(log, "database system restored from a repository")
	}
	before := made()
	w.howdah("reinit", n.Cluster, n.Member, "--yes")
	w.until(n.Member+" is made anew", func() bool { return made() > before })
	w.whole()
}

func (w *world) agentLog(n spec.Node) string {
	w.t.Helper()
	text, err := os.ReadFile(filepath.Join(n.Paths.Log, "agent.log"))
	w.check(err)
	return string(text)
}
