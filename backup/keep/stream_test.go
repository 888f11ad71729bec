package keep

import (
	"context"
	"log/slog"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"howdah/backup/archive"
	"howdah/backup/repo"
	"howdah/backup/restore"
	"howdah/backup/schedule"
	serverOf "howdah/backup/server"
	"howdah/backup/take"
	"howdah/pg"
	"howdah/spec"
	"howdah/test/testpg"
)

func mustLSN(t *testing.T, text string) pg.LSN {
	t.Helper()
	lsn, err := pg.ParseLSN(text)
	if err != nil {
		t.Fatal(err)
	}
	return lsn
}

// beside is a directory where the server's is: in memory, if it needs no disk.
func beside(t *testing.T, s *testpg.Server) string {
	t.Helper()
	dir, err := os.MkdirTemp(filepath.Dir(filepath.Dir(s.Node.Postgres.Data)), "kept")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// keeperOf is a keeper of a server, with a repository in a directory.
func keeperOf(t *testing.T, s *testpg.Server) *Keeper {
	t.Helper()
	n := s.Node
	n.Cluster, n.Backup = "t", spec.Backup{Repo: filepath.Join(beside(t, s), "repo"), Copies: 1}
	k, err := New(n, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	k.leads = func() bool { return true }
	return k
}

// until waits for a fact, generously.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for !is() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%s: it has not come to that", what)
		}
	}
}

// reached says that the repository leads to that place in the log.
func reached(t *testing.T, k *Keeper, lsn string) bool {
	t.Helper()
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.state.streamed.Timeline != 0 && mustLSN(t, k.state.streamed.LSN) >= mustLSN(t, lsn)
}

// backupInto has a backup of a server in the keeper's repository. Its WAL nobody
// archives.
func backupInto(t *testing.T, k *Keeper, s *testpg.Server) repo.Backup {
	t.Helper()
	desk := k.desk
	desk.Server.Path, desk.Server.Socket, desk.Server.Port = s.Node.Postgres.Data, s.Node.Paths.Sockets, s.Node.Postgres.Port
	b, err := desk.Backup(t.Context(), take.Backup{Type: repo.Full, Coding: codingBackup, Workers: 1, Fast: true, Bundle: true, BundleSize: bundleSize, BundleLimit: bundleLimit}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// restored restores from the repository alone, starts what that gives, and
// asks a question there once it has come to the end of the log.
func restored(t *testing.T, k *Keeper, like *testpg.Server, sql, want string) {
	t.Helper()
	dir := beside(t, like)
	data := filepath.Join(dir, "data")
	if err := os.Mkdir(data, 0o700); err != nil {
		t.Fatal(err)
	}
	server := exec.Command(filepath.Join(like.Node.Postgres.Bin, "postgres"), "-D", data, "-c", "listen_addresses=", "-c", "unix_socket_directories="+dir,
		"-c", "port="+strconv.Itoa(like.Node.Postgres.Port), "-c", "archive_mode=off", "-c", "primary_conninfo=", "-c", "ssl=off", "-c", "logging_collector=off", "-c", "hba_file="+filepath.Join(dir, "hba"))
	if like.Node.User != "" && os.Geteuid() == 0 {
		u, err := user.Lookup(like.Node.User)
		if err != nil {
			t.Fatal(err)
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		for _, path := range []string{dir, data} {
			if err := os.Chown(path, uid, gid); err != nil {
				t.Fatal(err)
			}
		}
		server.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	}
	if err := os.WriteFile(filepath.Join(dir, "hba"), []byte("local all all trust\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	control, err := serverOf.ReadControl(like.Node.Postgres.Data)
	if err != nil {
		t.Fatal(err)
	}
	// Of the archive only histories are delivered: they are stored as they are.
	histories, err := filepath.Glob(filepath.Join(k.node.Backup.Repo, "archive", "t", control.DB.Version+"-1", "*.history"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range histories {
		text, err := os.ReadFile(path)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, filepath.Base(path)), text, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := (restore.Restore{Path: data, Type: restore.Default, Command: "cp " + dir + "/%f %p", Workers: 1}).From(t.Context(), k.stanza()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(data, "postgresql.conf"), nil, 0o644); err != nil { // what it was told to be, it must not be here
		t.Fatal(err)
	}
	for name, least := range control.Least {
		server.Args = append(server.Args, "-c", name+"="+strconv.Itoa(least))
	}
	var log strings.Builder
	server.Dir, server.Stdout, server.Stderr = dir, &log, &log
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = server.Process.Signal(syscall.SIGQUIT)
		_ = server.Wait()
		if t.Failed() {
			t.Log(log.String())
		}
	}()
	there := testpg.Server{Node: like.Node}
	there.Node.Paths.Sockets = dir
	until(t, "the restored server writes", func() bool {
		is, err := there.Exec(t.Context(), "select pg_is_in_recovery()")
		return err == nil && is == "f"
	})
	if got, err := there.Exec(t.Context(), sql); err != nil || got != want {
		t.Errorf("from the repository: %q, %v; want %q", got, err, want)
	}
}

// Whoever holds the second copy has what was committed a moment ago, though no
// segment was archived: from what it received itself, over a change of leader too.
func TestStreamed(t *testing.T) {
	primary := testpg.Start(t, testpg.Primary())
	standby := testpg.Start(t, testpg.StandbyOf(primary))
	k := keeperOf(t, standby)
	k.leads = func() bool { return false }
	k.state.holds = true
	if err := k.introduce(t.Context()); err != nil {
		t.Fatal(err)
	}
	backupInto(t, k, primary)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- k.stream(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()

	primary.Query("create table t as select 1 as n")
	owed := primary.Query("select pg_walfile_name(pg_switch_wal())")
	primary.Query("insert into t values (2)")
	end := primary.Query("select pg_current_wal_flush_lsn()")
	until(t, "what was committed is in the repository", func() bool { return reached(t, k, end) })
	restored(t, k, primary, "select string_agg(n::text, ' ' order by n) from t", "1 2")

	// A member leads before its promotion is done. What its predecessor owes to the
	// archive is known only afterwards, and asked for again then.
	leader := keeperOf(t, standby)
	for _, want := range []schedule.Deed{schedule.Introduce, schedule.Fill, schedule.Rest} {
		step := leader.next(t.Context())
		if step.Do != want {
			t.Fatalf("%+v, want %s", step, want)
		}
		if want != schedule.Rest {
			leader.do(t.Context(), step)
		}
	}
	standby.Query("select pg_promote()")
	if step := leader.next(t.Context()); step.Do != schedule.Fill {
		t.Errorf("after the promotion: %+v, want fill", step)
	}
	leader.do(t.Context(), schedule.Step{Do: schedule.Fill})
	info, err := leader.stanza().ArchiveInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := archive.Find(t.Context(), leader.stanza(), info.DB.ArchiveID(), owed); err != nil {
		t.Errorf("%s, which the former leader owed: %v", owed, err)
	}

	// Its own timeline, from the middle of a segment on.
	standby.Query("insert into t values (3)")
	end = standby.Query("select pg_current_wal_flush_lsn()")
	until(t, "the new timeline is in the repository", func() bool {
		k.mu.Lock()
		is := k.state.streamed.Timeline == 2
		k.mu.Unlock()
		return is && reached(t, k, end)
	})
	restored(t, k, primary, "select string_agg(n::text, ' ' order by n) from t", "1 2 3")
}

// Exposure, measured: from a commit's answer until the repository of the second
// copy has it, on disks that sync, while 20 MB of log are written each second.
func TestExposure(t *testing.T) {
	if os.Getenv("NIGHTLY") == "" {
		t.Skip("half a minute: set NIGHTLY")
	}
	primary := testpg.Start(t, testpg.Primary(), testpg.Fsync())
	standby := testpg.Start(t, testpg.StandbyOf(primary), testpg.Fsync())
	k := keeperOf(t, standby)
	k.leads = func() bool { return false }
	k.state.holds = true
	if err := k.introduce(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var parts sync.WaitGroup
	parts.Go(func() { _ = k.stream(ctx) })
	defer parts.Wait()
	defer cancel()
	primary.Query("create table t (at timestamptz default clock_timestamp(), fill text); alter table t alter fill set storage external")
	run, stop := context.WithTimeout(ctx, 30*time.Second)
	defer stop()
	parts.Go(func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for run.Err() == nil {
			if _, err := primary.Exec(run, "insert into t (fill) select repeat(md5(random()::text), 128) from generate_series(1, 500)"); err != nil && run.Err() == nil {
				t.Error(err)
				return
			}
			select {
			case <-tick.C:
			case <-run.Done():
			}
		}
	})
	var all []time.Duration
	began, first, last := time.Now(), pg.LSN(0), pg.LSN(0)
	for run.Err() == nil {
		lsn, err := primary.Exec(run, "insert into t (fill) values ('one'); select pg_current_wal_flush_lsn()")
		if err != nil {
			break
		}
		answered := time.Now()
		if last = mustLSN(t, lsn); first == 0 {
			first = last
		}
		until(t, "a commit is in the repository", func() bool { return reached(t, k, lsn) })
		all = append(all, time.Since(answered))
	}
	slices.Sort(all)
	if len(all) == 0 {
		t.Fatal("nothing was measured")
	}
	t.Logf("%d commits, %.1f MB/s of log: p50 %s, p99 %s, at most %s", len(all), float64(last-first)/1e6/time.Since(began).Seconds(),
		all[len(all)/2].Round(time.Millisecond), all[len(all)*99/100].Round(time.Millisecond), all[len(all)-1].Round(time.Millisecond))
	if p99 := all[len(all)*99/100]; p99 > 2*time.Second { // a second, where nothing else runs
		t.Errorf("p99 is %s", p99)
	}
}
