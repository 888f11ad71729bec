package posix

import (
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"howdah/backup/repo"
	"howdah/backup/repo/repotest"
)

func TestContract(t *testing.T) {
	repotest.Test(t, func(t *testing.T) repo.Storage { return Store{t.TempDir()} })
}

// A name from a manifest must not lead out of the repository.
func TestStaysInside(t *testing.T) {
	s := Store{t.TempDir()}
	for _, name := range []string{"../x", "/etc/passwd", "a/../../x", ""} {
		if _, err := s.Get(t.Context(), name, 0, -1); repo.ClassOf(err) != repo.Assert {
			t.Errorf("Get(%q) = %v", name, err)
		}
	}
}

// What somebody was writing when it was killed is shown to nobody and goes later;
// what somebody writes stays.
func TestLeftovers(t *testing.T) {
	s := Store{t.TempDir()}
	name := strings.Repeat("n", 250) // with nothing behind it a file may be called so
	put := func(fill func(io.Writer) error) {
		t.Helper()
		if err := s.Put(t.Context(), "archive/x/"+name, fill); err != nil {
			t.Fatal(err)
		}
	}
	dir := filepath.Join(s.Root, "archive", "x")
	files := func() (all []string) {
		list, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range list {
			all = append(all, e.Name())
		}
		return all
	}
	put(func(io.Writer) error {
		old, theirs := filepath.Join(dir, "a.ABCDEFGH.pgbackrest.tmp"), filepath.Join(dir, "b.pgbackrest.tmp")
		for _, path := range []string{old, theirs} {
			if err := os.WriteFile(path, []byte("half"), 0o640); err != nil {
				return err
			}
			if err := os.Chtimes(path, time.Time{}, time.Now().Add(-2*abandoned)); err != nil {
				return err
			}
		}
		if list, err := s.List(t.Context(), "archive/x"); err != nil || len(list) != 0 || len(files()) != 3 {
			t.Errorf("of %v there are shown %v, %v", files(), list, err)
		}
		return s.Sweep(t.Context(), "archive")
	})
	if got := files(); !slices.Equal(got, []string{name}) {
		t.Errorf("there are %v", got)
	}
	if err := s.Sweep(t.Context(), "nowhere"); err != nil {
		t.Error(err)
	}
}
