package postgres_test

import (
	"context"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"howdah/pg"
	"howdah/spec"
	"howdah/test/testpg"
	"howdah/test/volume"
)

// A server on a disk that hangs is killed, though its processes do not end: from then
// on nobody hears of it any more, and nobody else may work there until they have.
func TestKilledOnAHungDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	var vol string
	a := testpg.Start(t, testpg.Fsync(), testpg.With(func(n *spec.Node) {
		vol = filepath.Join(n.Paths.Dir, "volume")
		if err := os.Mkdir(vol, 0o755); err != nil {
			t.Fatal(err)
		}
		unmount, err := volume.Mount(vol, 512<<20)
		if err != nil {
			t.Skip("needs loop devices: ", err)
		}
		dir := n.Paths.Dir
		t.Cleanup(func() {
			_ = unmount()
			_ = os.RemoveAll(dir)
		})
		if u, err := user.Lookup(n.User); err == nil {
			uid, _ := strconv.Atoi(u.Uid)
			gid, _ := strconv.Atoi(u.Gid)
			if err := os.Chown(vol, uid, gid); err != nil {
				t.Fatal(err)
			}
		}
		n.Postgres.Data = filepath.Join(vol, "data")
	}))
	a.Template()
	if err := a.Server.Start(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	a.Query("CREATE TABLE t (x int)")
	conn := dial(t, a)
	if err := volume.Hang(vol); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = volume.Resume(vol) })
	written := make(chan error, 1)
	go func() {
		_, err := conn.Exec(context.Background(), "INSERT INTO t VALUES (1)").ReadAll()
		written <- err
	}()
	pid := int(conn.PID())
	wait(t, "the commit waits for the disk", func() bool { return state(pid) == "D" })

	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := a.Kill(ctx); err != nil {
		t.Fatalf("kill: %v", err)
	}
	if state(pid) != "D" {
		t.Errorf("the backend is not there any more (%s): this tests nothing", state(pid))
	}
	if st := a.Look(ctx); st.Process != pg.ProcessNone || st.MayWrite() {
		t.Errorf("it may still write: %s", st.Process)
	}
	if err := a.Server.Start(ctx, nil); err == nil {
		t.Error("started beside processes that may still write a page")
	}
	select {
	case err := <-written:
		t.Errorf("the commit was answered: %v", err)
	default:
	}
	if err := volume.Resume(vol); err != nil {
		t.Fatal(err)
	}
	if err := <-written; err == nil {
		t.Error("a killed backend acknowledged a commit")
	}
	wait(t, "it ended", func() bool { return state(pid) == "" })
	if err := a.Server.Start(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	a.Query("INSERT INTO t VALUES (2)")
}
