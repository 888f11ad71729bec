// Package interop sets the real pgBackRest and ours on the same repositories,
// in turn and in both directions: whatever one writes the other reads,
// extends, verifies and restores, and PostgreSQL starts on it.
package interop

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"howdah/postgres"
	"howdah/spec"
	"howdah/test/testpg"
)

// wide runs every combination; without it a few stand for all.
var wide = flag.Bool("interop", false, "every compression, cipher and direction, not only some")

// ours is this program, called pgbackrest.
var ours string

const theirs = "/usr/bin/pgbackrest"

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "howdah-interop-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil { // PostgreSQL's user runs it
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	ours = filepath.Join(dir, "pgbackrest")
	if out, err := exec.Command("go", "build", "-buildvcs=false", "-o", filepath.Join(dir, "howdah"), "howdah/cmd/howdah").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build: %v\n%s", err, out)
		return 1
	}
	if err := os.Symlink("howdah", ours); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// A lab is a server that archives, and a repository.
type lab struct {
	*testing.T
	server *testpg.Server
	dir    string
	conf   string
	store  string // lines that say where the first repository is
	extra  string
}

// A setting says how a lab's repository is different.
type setting struct {
	compress, cipher string
	bundle           bool
	store            string // lines that say where the repository is; "": a directory of the lab
	archiver         string // who pushes WAL
	lines            string
}

func newLab(t *testing.T, s setting) *lab {
	t.Helper()
	if _, err := os.Stat(theirs); err != nil {
		if os.Getenv("REQUIRE_PG") != "" {
			t.Fatal("REQUIRE_PG is set, and there is no " + theirs)
		}
		t.Skip("no pgBackRest on this machine")
	}
	place := "/dev/shm" // in memory if there is some: both programs sync what they store
	if st := (unix.Statfs_t{}); unix.Statfs(place, &st) != nil || int64(st.Bavail)*st.Bsize < 2<<30 {
		place = ""
	}
	dir, err := os.MkdirTemp(place, "lab")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	l := &lab{T: t, dir: dir, conf: filepath.Join(dir, "pgbackrest.conf")}
	for _, name := range []string{"", "repo", "log", "lock", "spool", "space", "s"} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(path, 0o755); err != nil {
			t.Fatal(err)
		}
		chown(t, path)
	}
	if s.archiver == "" {
		s.archiver = ours
	}
	l.server = testpg.Start(t, testpg.Major(15), testpg.Primary(), testpg.With(func(n *spec.Node) {
		n.Postgres.Parameters["archive_mode"] = "on"
		n.Postgres.Parameters["archive_command"] = fmt.Sprintf("%s --config=%s --stanza=t archive-push %%p", s.archiver, l.conf)
	}))
	if l.store = s.store; l.store == "" {
		l.store = "repo1-path=" + dir + "/repo\n"
	}
	fmt.Fprintf((*builder)(&l.extra), "compress-type=%s\n", s.compress)
	if s.cipher != "" {
		fmt.Fprintf((*builder)(&l.extra), "repo1-cipher-type=aes-256-cbc\nrepo1-cipher-pass=%s\n", s.cipher)
	}
	if s.bundle {
		l.extra += "repo1-bundle=y\n"
	}
	l.extra += s.lines
	l.configure(l.conf, l.server.Node.Postgres.Data)
	return l
}

// builder lets Fprintf append to a string.
type builder string

func (b *builder) Write(p []byte) (int, error) {
	*b += builder(p)
	return len(p), nil
}

// configure writes a configuration whose data directory is at path.
func (l *lab) configure(conf, path string) {
	l.Helper()
	text := fmt.Sprintf("[global]\n%[5]slog-path=%[1]s/log\nlock-path=%[1]s/lock\nspool-path=%[1]s/spool\nstart-fast=y\nrepo1-retention-full=9\n%[2]s\n[t]\npg1-path=%[3]s\npg1-socket-path=%[4]s\n",
		l.dir, l.extra, path, l.server.Node.Paths.Sockets, l.store)
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		l.Fatal(err)
	}
}

func account(t testing.TB) (uid, gid int, ok bool) {
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

func chown(t testing.TB, path string) {
	if uid, gid, ok := account(t); ok {
		if err := os.Lchown(path, uid, gid); err != nil {
			t.Fatal(err)
		}
	}
}

// as has a program run as PostgreSQL's user.
func as(t testing.TB, cmd *exec.Cmd) {
	if uid, gid, ok := account(t); ok {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	}
	cmd.Env = []string{"PATH=/usr/bin:/bin", "HOME=/tmp", "PGUSER=postgres", "TZ=UTC"}
}

// try runs a program as PostgreSQL's user.
func (l *lab) try(program string, args ...string) (out string, code int) {
	l.Helper()
	ctx, cancel := context.WithTimeout(l.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = l.dir
	as(l, cmd)
	var b, e bytes.Buffer
	cmd.Stdout, cmd.Stderr = &b, &e
	err := cmd.Run()
	if cmd.ProcessState == nil || ctx.Err() != nil {
		l.Fatalf("%s %v: %v\n%s%s", program, args, err, b.String(), e.String())
	}
	if e.Len() > 0 {
		b.WriteString(e.String())
	}
	return b.String(), cmd.ProcessState.ExitCode()
}

// with runs one of the two programs with the lab's configuration.
func (l *lab) with(program string, args ...string) string {
	l.Helper()
	out, code := l.code(program, args...)
	if code != 0 {
		l.Fatalf("%s %v ends with %d:\n%s", program, args, code, out)
	}
	return out
}

func (l *lab) code(program string, args ...string) (string, int) {
	l.Helper()
	return l.try(program, append([]string{"--config=" + l.conf, "--stanza=t"}, args...)...)
}

// rows is what a restored cluster must have.
const rows = "select count(*) || ' ' || coalesce(sum(hashtext(t::text)), 0) || ' ' || (select count(*) from spaced) from t"

// fill makes tables, one of them in a tablespace.
func (l *lab) fill() {
	l.Helper()
	l.server.Query("create tablespace sp location '" + filepath.Join(l.dir, "space") + "'")
	l.server.Query("create table spaced tablespace sp as select g from generate_series(1, 100) g")
	l.server.Query("create unlogged table unlogged as select 1 a")
	l.server.Query("create table t as select g, md5(g::text) m from generate_series(1, 20000) g")
}

// grow adds rows, and says what there is then.
func (l *lab) grow() string {
	l.Helper()
	l.server.Query("insert into t select g, md5(g::text) from generate_series(1, 500) g")
	return l.server.Query(rows)
}

// archived ends the current segment and waits until it is archived, so that a
// restore to the end has everything.
func (l *lab) archived() {
	l.Helper()
	segment := l.server.Query("select pg_walfile_name(pg_switch_wal())")
	l.await("archived "+segment, func() bool {
		return l.server.Query("select coalesce(last_archived_wal, '') >= '"+segment+"' from pg_stat_archiver") == "t"
	})
}

func (l *lab) await(what string, done func() bool) {
	l.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(time.Minute)
	for !done() {
		select {
		case <-tick.C:
		case <-limit:
			l.Fatalf("waited a minute for: %s", what)
		}
	}
}

// restore brings the cluster back by a program into a new directory.
func (l *lab) restore(program string, args ...string) *restored {
	l.Helper()
	dir, err := os.MkdirTemp(l.dir, "back")
	if err != nil {
		l.Fatal(err)
	}
	r := &restored{lab: l, dir: dir, data: filepath.Join(dir, "data"), conf: filepath.Join(dir, "c.conf"), program: program}
	for _, name := range []string{"", "data", "space"} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(path, 0o700); err != nil {
			l.Fatal(err)
		}
		chown(l, path)
	}
	l.configure(r.conf, r.data)
	if err := os.Chmod(dir, 0o755); err != nil {
		l.Fatal(err)
	}
	r.again(args...)
	return r
}

// A restored cluster.
type restored struct {
	*lab
	dir, data, conf, program string
}

// again restores once more into the same directory.
func (r *restored) again(args ...string) {
	r.Helper()
	out, code := r.try(r.program, append([]string{"--config=" + r.conf, "--stanza=t", "--tablespace-map=sp=" + filepath.Join(r.dir, "space"), "restore"}, args...)...)
	if code != 0 {
		r.Fatalf("restore by %s %v ends with %d:\n%s", r.program, args, code, out)
	}
}

// query starts the cluster, waits until its recovery is over (or, with a
// target at which it pauses, there), asks, and stops it.
func (r *restored) query(sql string) string {
	r.Helper()
	programs, err := postgres.Find(15)
	if err != nil {
		r.Fatal(err)
	}
	sockets := filepath.Join(r.dir, "s")
	if err := os.MkdirAll(sockets, 0o755); err != nil {
		r.Fatal(err)
	}
	chown(r, sockets)
	log := filepath.Join(r.dir, "pg.log")
	options := fmt.Sprintf("-c unix_socket_directories=%[1]s -c listen_addresses= -c archive_mode=off -c hot_standby=on -c logging_collector=off -c log_destination=stderr -c fsync=off -c data_directory=%[2]s -c hba_file=%[2]s/pg_hba.conf -c ident_file=%[2]s/pg_ident.conf", sockets, r.data)
	ctl := filepath.Join(programs.Bin, "pg_ctl")
	if out, code := r.try(ctl, "-D", r.data, "-o", options, "-l", log, "-w", "-t", "60", "start"); code != 0 {
		text, _ := os.ReadFile(log)
		r.Fatalf("start of what %s restored: %s\n%s", r.program, out, text)
	}
	defer r.try(ctl, "-D", r.data, "-m", "immediate", "-w", "stop")
	psql := func(sql string) string {
		out, code := r.try(filepath.Join(programs.Bin, "psql"), "-h", sockets, "-U", "postgres", "-d", "postgres", "-AtXqc", sql)
		if code != 0 {
			text, _ := os.ReadFile(log)
			r.Fatalf("%s: %s\n%s", sql, out, text)
		}
		return strings.TrimSpace(out)
	}
	r.await("end of recovery", func() bool {
		return psql("select not pg_is_in_recovery() or pg_get_wal_replay_pause_state() = 'paused'") == "t"
	})
	return psql(sql)
}
