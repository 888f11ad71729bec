package store

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"golang.org/x/sys/unix"

	"howdah/spec"
)

// in opens a store whose files are in dir.
func in(dir string) (*Store, error) {
	return Open(Options{
		Node: spec.Node{Host: "10.10.10.11", Observe: spec.Observe{
			Listen: []string{"127.0.0.1:0"}, Data: dir, Every: 10 * time.Second, Keep: 24 * time.Hour, Size: 1 << 30,
		}},
		Log: slog.New(slog.DiscardHandler),
	})
}

// gathered puts a sample of each of n series into the store.
func gathered(t *testing.T, s *Store, n int, at time.Time, v float64) error {
	t.Helper()
	app := s.db.Appender(t.Context())
	for i := range n {
		if _, err := app.Append(0, labels.FromStrings("__name__", "pg_up", "ins", fmt.Sprint("demo-", i)), at.UnixMilli(), v); err != nil {
			return errors.Join(err, app.Rollback())
		}
	}
	return app.Commit()
}

// had is how many samples of pg_up the store has of the ten minutes up to then.
func had(t *testing.T, s *Store, until time.Time) string {
	t.Helper()
	code, got := get(t, s, "/api/v1/query", url.Values{"query": {`sum(count_over_time(pg_up[10m]))`}, "time": {fmt.Sprint(until.Unix())}})
	if code != 200 {
		t.Errorf("%d %s", code, got)
	}
	_, rest, _ := strings.Cut(got, `"value":[`)
	_, rest, _ = strings.Cut(rest, `,"`)
	n, _, _ := strings.Cut(rest, `"`)
	return n
}

// A store whose process was killed has what it had, also when the last it wrote was cut
// off in the middle.
func TestKilled(t *testing.T) {
	was := t.TempDir()
	s, err := in(was)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	begun := time.Now().Truncate(time.Second).Add(-5 * time.Minute)
	for i := range 20 {
		if err := gathered(t, s, 10, begun.Add(time.Duration(i)*10*time.Second), 1); err != nil {
			t.Fatal(err)
		}
	}
	for _, cut := range []int64{0, 7} { // bytes of the log's end that never came to the disk
		dir := filepath.Join(t.TempDir(), "metrics")
		if err := os.CopyFS(dir, os.DirFS(was)); err != nil {
			t.Fatal(err)
		}
		logs, err := filepath.Glob(filepath.Join(dir, "wal", "0*"))
		if err != nil || len(logs) == 0 {
			t.Fatalf("there is no log: %v %v", logs, err)
		}
		last := logs[len(logs)-1]
		st, err := os.Stat(last)
		if err == nil {
			err = os.Truncate(last, st.Size()-cut)
		}
		if err != nil {
			t.Fatal(err)
		}
		again, err := in(dir)
		if err != nil {
			t.Fatalf("cut by %d: %v", cut, err)
		}
		if got, want := had(t, again, begun.Add(5*time.Minute)), map[int64]string{0: "200", 7: "190"}[cut]; got != want {
			t.Errorf("cut by %d it has %s samples, want %s", cut, got, want)
		}
		if err := gathered(t, again, 10, begun.Add(4*time.Minute), 1); err != nil {
			t.Errorf("cut by %d it takes no more: %v", cut, err)
		}
		if err := again.Close(); err != nil {
			t.Error(err)
		}
	}
}

// On a full disk the store says so to whoever brings samples, answers what it has, and
// goes on when there is room again; what it took is there after the next start.
func TestFullDisk(t *testing.T) {
	if os.Getenv("NIGHTLY") == "" || os.Geteuid() != 0 {
		t.Skip("root makes a small disk: NIGHTLY=1")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=40m"); err != nil {
		t.Skip("no disk can be made: ", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	s, err := in(filepath.Join(dir, "metrics"))
	if err != nil {
		t.Fatal(err)
	}
	begun := time.Now().Truncate(time.Second).Add(-5 * time.Minute)
	if err := gathered(t, s, 100, begun, 1); err != nil {
		t.Fatal(err)
	}
	fill, err := os.Create(filepath.Join(dir, "fill"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(fill, zeros{}); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("the disk is not full: %v", err)
	}
	fill.Close()
	took, refused := 100, 0
	for i := range 40 { // into what is left of a page, then no more
		err := gathered(t, s, 100, begun.Add(time.Duration(i+1)*time.Second), 1)
		if err == nil {
			took += 100
		} else {
			refused++
		}
	}
	if refused == 0 {
		t.Error("a full disk takes samples")
	}
	if code, got := get(t, s, "/api/v1/query", url.Values{"query": {`count(pg_up)`}}); code != 200 || !strings.Contains(got, `"100"`) {
		t.Errorf("it answers %d %s", code, got)
	}
	if err := os.Remove(fill.Name()); err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		if err := gathered(t, s, 100, begun.Add(time.Minute+time.Duration(i)*time.Second), 1); err != nil {
			t.Fatalf("with room again: %v", err)
		}
		took += 100
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	again, err := in(filepath.Join(dir, "metrics"))
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	// Of what it refused some was in memory, and was written when there was room.
	if got, err := strconv.Atoi(had(t, again, begun.Add(5*time.Minute))); err != nil || got < took || got > took+100*refused {
		t.Errorf("begun again it has %d samples, %v; it took %d and refused %d times 100", got, err, took, refused)
	}
}

// zeros never end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
