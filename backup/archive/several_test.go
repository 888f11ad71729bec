package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"howdah/backup/repo"
	"howdah/backup/stanza"
)

// A moody store takes nothing while it is away, and at a drawn request none any more.
type moody struct {
	repo.Storage
	away atomic.Bool
	left atomic.Int64 // requests until whoever asks is killed; negative: never
	kill atomic.Pointer[context.CancelFunc]
}

var errAway = errors.New("connection refused")

func (m *moody) asked() error {
	if m.left.Add(-1) == 0 {
		(*m.kill.Load())()
	}
	if m.away.Load() {
		return errAway
	}
	return nil
}

func (m *moody) Put(ctx context.Context, name string, fill func(io.Writer) error) error {
	if err := m.asked(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return m.Storage.Put(ctx, name, fill)
}

func (m *moody) Get(ctx context.Context, name string, from, n int64) (io.ReadCloser, error) {
	if err := m.asked(); err != nil {
		return nil, err
	}
	return m.Storage.Get(ctx, name, from, n)
}

func (m *moody) List(ctx context.Context, dir string) ([]repo.Entry, error) {
	if err := m.asked(); err != nil {
		return nil, err
	}
	return m.Storage.List(ctx, dir)
}

// several is an outbox for repositories that may go away.
func several(t *testing.T, n int) (a archiving, stores []*moody) {
	a = archives(t)
	a.Into = nil
	for i := range n {
		s := opened(t, "")
		m := &moody{Storage: s.Storage}
		m.left.Store(-1)
		s.Storage, s.Repo, s.Place = m, i+1, fmt.Sprint("place ", i)
		a.Into, stores = append(a.Into, s), append(stores, m)
	}
	return a, stores
}

func (a archiving) lies(s *stanza.Stanza, name string) bool {
	a.Helper()
	dest := filepath.Join(a.TempDir(), name)
	err := Get{Name: name, Dest: dest, DB: db}.From(a.Context(), s)
	if err != nil && !errors.Is(err, ErrAbsent) {
		a.Fatal(err)
	}
	text, _ := os.ReadFile(dest)
	if err == nil && string(text) != string(segmentOf(name)) {
		a.Fatalf("%s: %s has another content", s, name)
	}
	return err == nil
}

// A repository that is away holds up no other: what waits for it alone is noted as
// such, told of, brought there when it is back, and given up for it alone.
func TestOneOfTwoAway(t *testing.T) {
	a, stores := several(t, 2)
	for n := 1; n <= 3; n++ {
		a.ready(name(n), segmentOf(name(n)))
	}
	stores[1].away.Store(true)
	if _, err := a.Pass(t.Context()); !errors.Is(err, errAway) || !strings.Contains(err.Error(), "repo2") {
		t.Errorf("it ends with %v", err)
	}
	for n := 1; n <= 3; n++ {
		if !a.lies(a.Into[0], name(n)) {
			t.Errorf("%s is not in the repository that is there", name(n))
		}
		if done, _, _ := a.Spool.Pushed(filepath.Join(a.WAL, name(n))); done {
			t.Errorf("%s is noted as if it were in both", name(n))
		}
	}
	// What lies in the first is not brought there again.
	if n, err := a.To(t.Context(), a.Into[0]); n != 0 || err != nil {
		t.Errorf("again %d, %v", n, err)
	}
	stores[1].away.Store(false)
	if n, err := a.To(t.Context(), a.Into[1]); n != 3 || err != nil {
		t.Errorf("back: %d, %v", n, err)
	}
	for n := 1; n <= 3; n++ {
		if done, warning, err := a.Spool.Pushed(filepath.Join(a.WAL, name(n))); !done || warning != "" || err != nil || !a.lies(a.Into[1], name(n)) {
			t.Errorf("%s: %t, %q, %v", name(n), done, warning, err)
		}
		a.done(name(n))
	}

	// More than may wait, of one: it is given up for that one.
	stores[1].away.Store(true)
	a.Max = 2 * small
	for n := 4; n <= 6; n++ {
		a.ready(name(n), segmentOf(name(n)))
		if _, err := a.To(t.Context(), a.Into[0]); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := a.To(t.Context(), a.Into[1]); n != 3 || err != nil {
		t.Errorf("given up %d, %v", n, err)
	}
	for n := 4; n <= 6; n++ {
		if done, warning, _ := a.Spool.Pushed(filepath.Join(a.WAL, name(n))); !done || !strings.Contains(warning, "dropped") || !a.lies(a.Into[0], name(n)) {
			t.Errorf("%s: %t, %q", name(n), done, warning)
		}
	}
	one, err1 := a.Spool.GivenUp(a.Into[0])
	two, err2 := a.Spool.GivenUp(a.Into[1])
	if len(one) != 0 || len(two) != 1 || two[0].First != name(4) || two[0].Segments != 3 || err1 != nil || err2 != nil {
		t.Errorf("holes are %+v and %+v, %v, %v", one, two, err1, err2)
	}
	if err := a.Spool.Settled(a.Into[1], two[0]); err != nil {
		t.Error(err)
	}
}

// Whatever goes away and comes back, whoever is killed at whichever request, notes
// that are lost, repositories that change their number: what PostgreSQL was told to
// be archived lies in every repository, or is told to be missing there.
func TestArchivedEverywhere(t *testing.T) {
	seeds := 6
	if os.Getenv("NIGHTLY") != "" {
		seeds = 200
	}
	for seed := range seeds {
		r := rand.New(rand.NewPCG(uint64(seed), 8))
		a, stores := several(t, 2+r.IntN(2))
		a.Workers = 1 + r.IntN(3)
		if r.IntN(2) == 0 {
			a.Max = int64(2+r.IntN(4)) * small
		}
		var waits, archived []string
		for n, round := 1, 0; round < 15; round++ {
			for range r.IntN(3) {
				a.ready(name(n), segmentOf(name(n)))
				waits = append(waits, name(n))
				n++
			}
			ctx, cancel := context.WithCancel(t.Context())
			for _, m := range stores {
				m.away.Store(r.IntN(3) == 0)
				m.kill.Store(&cancel)
				m.left.Store(-1)
				if r.IntN(3) == 0 {
					m.left.Store(int64(1 + r.IntN(12)))
				}
			}
			_, _ = a.Pass(ctx) // what it says of its failures is another test's
			cancel()
			for _, m := range stores {
				m.away.Store(false)
				m.left.Store(-1)
			}
			if r.IntN(4) == 0 { // the machine was cut off: notes are not synced
				for _, dir := range []string{a.Spool.Out(), filepath.Join(a.Spool.Dir, "parts")} {
					_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
						if err == nil && !d.IsDir() && r.IntN(2) == 0 {
							_ = os.Remove(path)
						}
						return nil
					})
				}
			}
			if r.IntN(6) == 0 {
				slices.Reverse(a.Into)
				for i, s := range a.Into {
					s.Repo = i + 1
				}
			}
			for len(waits) > 0 && r.IntN(8) > 0 { // the archiver asks in order
				if done, _, _ := a.Spool.Pushed(filepath.Join(a.WAL, waits[0])); !done {
					break
				}
				for _, s := range a.Into {
					holes, err := a.Spool.GivenUp(s)
					if err != nil {
						t.Fatal(err)
					}
					if !slices.ContainsFunc(holes, func(h repo.Hole) bool { return h.Covers(waits[0]) }) && !a.lies(s, waits[0]) {
						t.Fatalf("seed %d: %s is taken for archived, and %s (%s) has it not", seed, waits[0], s, s.Place)
					}
				}
				a.done(waits[0])
				archived, waits = append(archived, waits[0]), waits[1:]
			}
		}
		if len(archived) == 0 {
			t.Errorf("seed %d: nothing was archived", seed)
		}
	}
}

// What one repository has not is brought from another, proven, and not twice; what
// nobody has is said, and a part of it is no reason to call it mended.
func TestMend(t *testing.T) {
	a, stores := several(t, 3)
	a.ready("00000002.history", []byte("1\t0/3000148\tno recovery target specified\n"))
	for n := 1; n <= 6; n++ {
		a.ready(name(n), segmentOf(name(n)))
	}
	for _, s := range a.Into[1:] {
		if _, err := a.To(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	m := Mend{Dir: filepath.Join(t.TempDir(), "way"), DB: db, Size: small, Coding: a.Push.Coding}
	stores[1].away.Store(true) // the other one will do
	if n, err := m.Into(t.Context(), a.Into[0], name(2), name(4), a.Into[1], a.Into[2]); n != 3 || err != nil {
		t.Errorf("brought %d, %v", n, err)
	}
	for n := 1; n <= 6; n++ {
		if is := a.lies(a.Into[0], name(n)); is != (n >= 2 && n <= 4) {
			t.Errorf("%s is there: %t", name(n), is)
		}
	}
	stores[1].away.Store(false)
	if n, err := m.Into(t.Context(), a.Into[0], name(1), name(9), a.Into[1:]...); n != 3 || !errors.Is(err, ErrAbsent) {
		t.Errorf("beyond the end: %d, %v", n, err)
	}
	if left, err := os.ReadDir(m.Dir); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
