package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"howdah/node"
	"howdah/spec"
)

// What stands in a replica's data directory is not what belongs there: it is
// named, nothing is touched, and the others go on.
func TestDataDirectory(t *testing.T) {
	root(t)
	for _, tt := range []struct {
		name, code, why string
		spoil, heal     func(w *world, data string)
	}{
		{
			"of another cluster", "datadir-foreign", "database system",
			func(w *world, data string) {
				w.check(os.Rename(data, data+".right"))
				w.check(os.Mkdir(data, 0o700))
				w.run("chown", "postgres:", data)
				w.run("setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", filepath.Join(w.Nodes[0].Postgres.Bin, "initdb"), "-D", data)
			},
			func(w *world, data string) {
				w.check(os.RemoveAll(data))
				w.check(os.Rename(data+".right", data))
			},
		},
		{
			"of another user", "datadir-owner", "user id 0",
			func(w *world, data string) { w.run("chown", "-R", "root:", data) },
			func(w *world, data string) { w.run("chown", "-R", "postgres:", data) },
		},
		{
			"open to everybody", "datadir-permissions", "0755",
			func(w *world, data string) { w.check(os.Chmod(data, 0o755)) },
			func(w *world, data string) { w.check(os.Chmod(data, 0o700)) },
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := demo(t)
			writer := w.write()
			leader := w.whole()
			n := w.replica()
			w.howdah("fault", "stop-node", "demo", n.Member)
			tt.spoil(w, n.Postgres.Data)
			control := filepath.Join(n.Postgres.Data, "global", "pg_control")
			before, err := os.ReadFile(control)
			w.check(err)
			w.howdah("fault", "start-node", "demo", n.Member)
			w.tells(n.Member, tt.code, tt.why)
			w.flowing(writer)
			if now, _ := os.ReadFile(control); string(now) != string(before) {
				t.Errorf("%s was changed", control)
			}
			if id, ok := node.Postmaster(n); ok {
				t.Errorf("PostgreSQL runs on it as %s", id)
			}
			tt.heal(w, n.Postgres.Data)
			if now := w.whole(); now != leader {
				t.Errorf("%s led, and %s does", leader, now)
			}
			w.well(n.Member)
			w.kept(writer)
		})
	}
}

// A replica's disk is too small for the copy. It says so, leaves nothing half
// done, and goes on by itself when there is room.
func TestDiskFullDuringCopy(t *testing.T) {
	root(t)
	w := demo(t)
	n := w.replica()
	w.howdah("fault", "stop-node", "demo", n.Member)
	w.check(os.RemoveAll(n.Postgres.Data))
	w.check(os.Mkdir(n.Postgres.Data, 0o700))
	w.mount(n.Postgres.Data, "size=20m,mode=0700,uid="+w.id("-u")+",gid="+w.id("-g"))
	w.howdah("fault", "start-node", "demo", n.Member)
	w.tells(n.Member, "disk-full", "file system "+n.Postgres.Data)
	w.tells(n.Member, "disk-full", "bytes free")
	w.until("the half copy is gone", func() bool {
		names, err := os.ReadDir(n.Postgres.Data)
		return err == nil && len(names) == 0
	})
	w.check(unix.Mount("", n.Postgres.Data, "tmpfs", unix.MS_REMOUNT, "size=300m"))
	w.whole()
	w.well(n.Member)
	// The mount goes with its copy, and another one is taken.
	w.howdah("fault", "stop-node", "demo", n.Member)
	w.check(unix.Unmount(n.Postgres.Data, 0))
	w.check(os.Remove(n.Postgres.Data))
	w.howdah("fault", "start-node", "demo", n.Member)
	w.whole()
}

// The primary's log fills its file system: PostgreSQL ends with a PANIC. A
// replica that has everything takes over; the old primary says what it needs,
// and follows when there is room.
func TestDiskFullWhileRunning(t *testing.T) {
	root(t)
	w := own(t)
	w.up()
	n := w.Node(w.whole())
	w.howdah("down", "--yes")
	wal := filepath.Join(n.Postgres.Data, "pg_wal")
	w.check(os.Rename(wal, wal+".aside"))
	w.check(os.Mkdir(wal, 0o700))
	w.mount(wal, "size=128m,mode=0700,uid="+w.id("-u")+",gid="+w.id("-g"))
	w.run("cp", "-a", wal+".aside/.", wal)
	w.check(os.RemoveAll(wal + ".aside"))
	w.up()
	w.lead(n.Member)
	writer := w.write()
	w.sql("create table if not exists big (t text)")
	fill := exec.CommandContext(w.ctx, w.Program, "--dir", w.Dir, "psql", "--", "-qAtXc",
		"insert into big select repeat(md5(i::text), 30) from generate_series(1, 400000) i")
	out, _ := fill.CombinedOutput() // it dies with the server
	t.Logf("the load: %s", strings.TrimSpace(string(out)))
	w.tells(n.Member, "disk-full", wal)
	w.flowing(writer)
	if leader := w.leader(); leader == n.Member {
		t.Errorf("%s still leads, with a full disk", leader)
	}
	w.check(unix.Mount("", wal, "tmpfs", unix.MS_REMOUNT, "size=1g"))
	w.whole()
	w.well(n.Member)
	w.flowing(writer)
	w.kept(writer)
	writer.Stop()
	w.howdah("down", "--yes") // before the mount goes
}

// The primary's disk is nearly full: it hands over to a member that has room, and loses
// nothing.
func TestDiskNearlyFull(t *testing.T) {
	root(t)
	if os.Getenv("NIGHTLY") == "" {
		t.Skip("takes half a minute: NIGHTLY")
	}
	w := own(t)
	w.up()
	n := w.Node(w.whole())
	w.howdah("down", "--yes")
	wal := filepath.Join(n.Postgres.Data, "pg_wal")
	w.check(os.Rename(wal, wal+".aside"))
	w.check(os.Mkdir(wal, 0o700))
	w.mount(wal, "size=1g,mode=0700,uid="+w.id("-u")+",gid="+w.id("-g"))
	w.run("cp", "-a", wal+".aside/.", wal)
	w.check(os.RemoveAll(wal + ".aside"))
	w.up()
	w.lead(n.Member)
	w.voters(2)
	writer := w.write()
	ballast := filepath.Join(wal, "ballast")
	leave := func(free uint64) { // of the 1 GiB, whose marks are 204 and 102 MiB
		t.Helper()
		w.check(os.RemoveAll(ballast))
		var st unix.Statfs_t
		w.check(unix.Statfs(wal, &st))
		f, err := os.Create(ballast)
		w.check(err)
		defer f.Close()
		w.check(unix.Fallocate(int(f.Fd()), 0, 0, int64(st.Bavail*uint64(st.Bsize)-free)))
	}
	leave(150 << 20)
	w.tells(n.Member, "disk-low", "204 MiB")
	if leader := w.leader(); leader != n.Member {
		t.Errorf("at the first mark %s leads", leader)
	}
	leave(90 << 20)
	w.until("nobody takes over", func() bool { l := w.leader(); return l != "" && l != n.Member })
	w.flowing(writer)
	writer.Stop()
	w.kept(writer)

	w.check(os.Remove(ballast))
	w.whole()
	w.well(n.Member)
	w.howdah("down", "--yes") // before the mount goes
}

// The disks of all members are nearly full, and nobody has room to take over: the leader
// takes no writes and goes on, and takes them again by itself when there is room.
func TestDisksNearlyFull(t *testing.T) {
	byNight(t)
	var unmount func()
	t.Cleanup(func() { // once the cluster is no more
		if unmount != nil {
			unmount()
		}
	})
	w := own(t)
	w.up()
	w.whole()
	unmount = w.disks(allOf)
	leader := w.Node(w.whole())
	w.voters(2)
	w.sql("create table rows (n int)")
	before, err := w.Page(w.ctx)
	w.check(err)
	server := w.role(leader, "postgres")
	last := append(slices.DeleteFunc(slices.Clone(w.Nodes), func(n spec.Node) bool { return n.Member == leader.Member }), leader)
	for _, n := range last { // of 2 GiB, whose last mark is at 128 MiB
		ballast(t, n.Paths.Dir, 100<<20)
		if n.Member != leader.Member {
			w.tells(n.Member, "disk-low", "384 MiB")
		}
	}
	writes := func(first string) (code string) { // apart: what is set counts from the next transaction
		a, err := w.Run(w.ctx, "psql", "--", "-AtqX", "-v", "ON_ERROR_STOP=1", "-v", "VERBOSITY=sqlstate", "-c", first, "-c", "insert into rows values (1)")
		w.check(err)
		return strings.TrimSpace(a.Err)
	}
	w.until("writes are refused", func() bool { return strings.Contains(writes(""), "25006") })
	w.tells(leader.Member, "disk-read-only", "128 MiB")
	if err := writes("set default_transaction_read_only = off"); err != "" {
		t.Errorf("who has to write can not: %s", err)
	}
	if n := w.sql("select count(*) from rows"); n == "0" {
		t.Error("nothing was written")
	}
	w.whole() // and its standbys stream
	w.until("room is seen in the metrics", func() bool {
		return strings.Contains(w.metrics(leader, leader.Agent.Listen), "howdah_disk_mark{scope=\"demo\",name=\""+leader.Member+"\"} 2")
	})
	w.check(os.Remove(filepath.Join(leader.Paths.Dir, "ballast")))
	w.until("writes are taken again", func() bool { return writes("") == "" })
	if now := w.whole(); now != leader.Member || w.role(leader, "postgres") != server {
		t.Errorf("%s leads, it was %s, and its server is another one", now, leader.Member)
	}
	if after, err := w.Page(w.ctx); err != nil || after.Number != before.Number {
		t.Errorf("why tells of a %s (%v), which was not needed", after.Kind, err)
	}
	for _, n := range last[:len(last)-1] {
		w.check(os.Remove(filepath.Join(n.Paths.Dir, "ballast")))
	}
	for _, n := range w.Nodes {
		w.well(n.Member)
	}
}

// ballast fills a file system up to what is to be free.
func ballast(t *testing.T, dir string, free uint64) {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, "ballast"))
	if err == nil {
		defer f.Close()
		var st unix.Statfs_t
		if err = unix.Statfs(dir, &st); err == nil {
			err = unix.Fallocate(int(f.Fd()), 0, 0, int64(st.Bavail*uint64(st.Bsize)-free))
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

// lead sees to it that the member leads.
func (w *world) lead(member string) {
	w.t.Helper()
	if w.whole() != member {
		w.howdah("switchover", "--to", member, "--yes")
		w.whole()
	}
}

func (w *world) leader() string {
	members, _ := w.List(w.ctx)
	for _, m := range members {
		if m.Role == "Leader" {
			return m.Member
		}
	}
	return ""
}

// replica is one of the nodes that do not lead.
func (w *world) replica() spec.Node {
	w.t.Helper()
	leader := w.whole()
	for _, n := range w.Nodes {
		if n.Member != leader {
			return n
		}
	}
	w.t.Fatal("there is no replica")
	return spec.Node{}
}

// tells waits until status and why show the member's problem.
func (w *world) tells(member, code, why string) {
	w.t.Helper()
	for _, verb := range []string{"status", "why"} {
		var text string
		ok := func() bool {
			text = w.howdah(verb)
			for _, part := range []string{member, "[" + code + "]", "why:", "do:", why} {
				if !strings.Contains(text, part) {
					return false
				}
			}
			return true
		}
		w.until(verb+" tells of "+code+" ("+why+")", ok)
		w.t.Logf("%s:\n%s", verb, text)
	}
}

// well waits until the member has no problem any more.
func (w *world) well(member string) {
	w.t.Helper()
	w.until(member+" has no problem", func() bool { return !strings.Contains(w.howdah("status"), "problem") })
}

// mount puts an empty file system over a directory, until the test ends.
func (w *world) mount(dir, options string) {
	w.t.Helper()
	w.check(unix.Mount("tmpfs", dir, "tmpfs", 0, options))
	w.t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
}

func (w *world) run(name string, args ...string) string {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.ctx, time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		w.t.Fatalf("%s: %v\n%s", name, err, out)
	}
	return strings.TrimSpace(string(out))
}

// id is an id of PostgreSQL's user.
func (w *world) id(which string) string { return w.run("id", which, spec.Superuser) }
