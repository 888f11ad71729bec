package e2e

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"howdah/spec"
	"howdah/test/testpg"
)

// A cluster begins with what the real pgBackRest has stored of a server that is none of
// ours: with its rows, under an agent, on a timeline and in an archive of its own, while
// not a byte of that repository changes. As long as it can not be read the cluster does
// not begin, least of all empty.
func TestBeginsWithARepository(t *testing.T) {
	byNight(t)
	w := own(t)
	theirs := realBackrest(t)
	dir, err := os.MkdirTemp("", "origin")
	w.check(err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	conf := filepath.Join(dir, "pgbackrest.conf")
	master := testpg.Start(t, testpg.Major(15), testpg.Primary(), testpg.With(func(n *spec.Node) {
		n.Postgres.Parameters["archive_mode"] = "on"
		n.Postgres.Parameters["archive_command"] = fmt.Sprintf("%s --config=%s --stanza=t archive-push %%p", theirs, conf)
	}))
	w.check(os.WriteFile(conf, []byte(fmt.Sprintf("[global]\nrepo1-path=%[1]s/repo\nlog-path=%[1]s\nlock-path=%[1]s/lock\nspool-path=%[1]s\nstart-fast=y\nrepo1-retention-full=9\nrepo1-bundle=y\nrepo1-block=y\n"+
		"compress-type=zst\nrepo1-cipher-type=aes-256-cbc\nrepo1-cipher-pass=phrase\n[t]\npg1-path=%[2]s\npg1-socket-path=%[3]s\n", dir, master.Node.Postgres.Data, master.Node.Paths.Sockets)), 0o644))
	w.check(os.Chmod(dir, 0o755))
	if uid, gid, ok := postgresUser(t); ok {
		w.check(os.Lchown(dir, uid, gid))
	}
	backrest := func(args ...string) {
		t.Helper()
		cmd := exec.CommandContext(w.ctx, theirs, append([]string{"--config=" + conf, "--stanza=t"}, args...)...)
		asPostgres(t, cmd)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	backrest("stanza-create")
	master.Query("create table moments as select g, md5(g::text) m from generate_series(1, 5000) g")
	master.Query("create role somebody login")
	master.Query("alter system set timezone = 'Asia/Tokyo'")
	master.Query("alter system set work_mem = '7MB'")
	backrest("--type=full", "backup")
	master.Query("insert into moments select g, 'late' from generate_series(5001, 5100) g")
	segment := master.Query("select pg_walfile_name(pg_switch_wal())")
	w.until("the last row is archived", func() bool {
		return master.Query("select coalesce(last_archived_wal, '') >= '"+segment+"' from pg_stat_archiver") == "t"
	})
	master.Query("insert into moments values (0, 'never archived')")
	before := contents(t, filepath.Join(dir, "repo"))

	file := w.inventory(`cluster: main
hosts: [10.10.10.11, 10.10.10.12]
version: 15
users: [{ name: app }]
databases: [{ name: app, owner: app }]
template: tiny
libs: ''
restore_from: { config: ` + conf + `, stanza: t }
`)
	w.check(os.Rename(conf, conf+".away"))
	up := make(chan error, 1)
	go func() { up <- w.Up(w.ctx, file) }()
	log := filepath.Join(w.Dir, "main/main-1/log/agent.log")
	w.until("the cluster does not begin, and says why", func() bool {
		text, _ := os.ReadFile(log)
		return strings.Contains(string(text), "cluster-repository") && strings.Contains(string(text), "pgbackrest.conf")
	})
	if _, err := os.Stat(filepath.Join(w.Dir, "main/main-1/data/PG_VERSION")); err == nil {
		t.Error("it has made a database all the same")
	}
	w.check(os.Rename(conf+".away", conf))
	w.check(<-up)
	leader := w.whole()
	in := func(sql string) string { // as the superuser, where the leader is now
		t.Helper()
		now := w.whole()
		for _, n := range w.Nodes {
			if n.Member == now {
				return w.asOwner(n, "postgres", sql)
			}
		}
		return ""
	}

	if got := w.in("main", "select current_user"); got != "app" {
		t.Errorf("its clients come as %s", got)
	}
	if got := in("select count(*) || ' ' || sum(g) from moments"); got != "5100 13007550" {
		t.Errorf("it has %s", got)
	}
	if got := in("select string_agg(rolname, ' ' order by rolname) from pg_roles where rolname in ('somebody', 'app', 'replicator')"); got != "app replicator somebody" {
		t.Errorf("its roles are %s", got)
	}
	if got := in("select current_setting('timezone') || ' ' || current_setting('work_mem') || ' ' || timeline_id || ' ' || (current_setting('archive_command') like '%" + conf + "%') from pg_control_checkpoint()"); !strings.HasPrefix(got, "Asia/Tokyo ") || strings.Contains(got, "7MB") || !strings.HasSuffix(got, " 2 false") {
		t.Errorf("its time zone, work_mem, timeline and archive are %s", got)
	}
	w.until("it backs itself up", func() bool { return len(w.backups().Backups) > 0 })
	if len(archived(w, "main", "00000002*/0000000200*")) == 0 {
		t.Error("its archive has nothing of its timeline")
	}
	in("insert into moments values (-1, 'ours')")
	w.howdah("switchover", "--to", w.replica().Member, "--yes")
	if now := w.whole(); now == leader {
		t.Error("nobody else leads")
	}
	if got := in("select count(*) from moments"); got != "5101" {
		t.Errorf("after a switchover it has %s rows", got)
	}
	if after := contents(t, filepath.Join(dir, "repo")); after != before {
		t.Errorf("the repository was changed:\n%s\nbefore:\n%s", after, before)
	}
	if got := master.Query("select count(*) from moments"); got != "5101" {
		t.Errorf("the server it comes from has %s rows", got)
	}
}

// realBackrest is a pgBackRest since 2.46.
func realBackrest(t *testing.T) string {
	t.Helper()
	program := filepath.Join(os.Getenv("HOWDAH_PEERS"), "pgbackrest/bin/pgbackrest")
	if _, err := os.Stat(program); os.Getenv("HOWDAH_PEERS") == "" || err != nil {
		t.Skip("no pgBackRest since 2.46: scripts/getpeers fetches one, and HOWDAH_PEERS says where to")
	}
	return program
}

// contents is a sum over each file below dir.
func contents(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	if err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		fmt.Fprintf(&b, "%s %x\n", path, sha256.Sum256(text))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func postgresUser(t testing.TB) (uid, gid int, ok bool) {
	if os.Geteuid() != 0 {
		return 0, 0, false
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		t.Fatal(err)
	}
	uid, _ = strconv.Atoi(u.Uid)
	gid, _ = strconv.Atoi(u.Gid)
	return uid, gid, true
}

func asPostgres(t *testing.T, cmd *exec.Cmd) {
	if uid, gid, ok := postgresUser(t); ok {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	}
	cmd.Env = []string{"PATH=/usr/bin:/bin", "HOME=/tmp", "PGUSER=postgres", "TZ=UTC"}
}
