package archive

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"howdah/backup/repo"
	"howdah/backup/stanza"
	"howdah/pg"
)

// segmentOf is a whole segment of the test's database.
func segmentOf(name string) []byte {
	text := bytes.Repeat([]byte(name+" "), small/25+1)[:small]
	binary.LittleEndian.PutUint16(text, 0xD110)
	binary.LittleEndian.PutUint16(text[2:], 2) // XLP_LONG_HEADER
	binary.LittleEndian.PutUint64(text[24:], uint64(db.System))
	binary.LittleEndian.PutUint32(text[32:], small)
	return text
}

// A server is a directory of WAL with files that are ready.
type archiving struct {
	*testing.T
	Outbox
	to *stanza.Stanza
}

func archives(t *testing.T, ready ...string) archiving {
	t.Helper()
	dir := t.TempDir()
	to := opened(t, "phrase")
	a := archiving{t, Outbox{
		Into:  []*stanza.Stanza{to},
		Spool: SpoolOf(filepath.Join(dir, "spool"), "t"), WAL: filepath.Join(dir, "pg_wal"), Workers: 3,
		Push: Push{Coding: repo.Coding{Compress: repo.Zstd, Level: 1}},
	}, to}
	if err := os.MkdirAll(filepath.Join(a.WAL, "archive_status"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range ready {
		a.ready(name, segmentOf(name))
	}
	return a
}

func (a archiving) ready(name string, content []byte) {
	a.Helper()
	if err := errors.Join(
		os.WriteFile(filepath.Join(a.WAL, name), content, 0o600),
		os.WriteFile(filepath.Join(a.WAL, "archive_status", name+ready), nil, 0o600),
	); err != nil {
		a.Fatal(err)
	}
}

// done is what PostgreSQL does with a file that was archived.
func (a archiving) done(name string) {
	a.Helper()
	if err := os.Remove(filepath.Join(a.WAL, "archive_status", name+ready)); err != nil {
		a.Fatal(err)
	}
}

func (a archiving) notes() []string {
	a.Helper()
	list, err := os.ReadDir(a.Spool.Out())
	if err != nil {
		a.Fatal(err)
	}
	var names []string
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}

func name(n int) string { return pg.Timeline(1).Segment(pg.LSN(n*small), small) }

// What is ready is pushed, and noted when it lies in the repository: not before,
// and not for another file of that name.
func TestOutbox(t *testing.T) {
	a := archives(t, name(1), name(2), name(3), name(4))
	a.ready("00000002.history", []byte("1\t0/3000148\tno recovery target specified\n"))
	if n, err := a.Pass(t.Context()); n != 5 || err != nil {
		t.Fatalf("pushed %d, %v", n, err)
	}
	for _, n := range []string{name(1), name(2), name(3), name(4), "00000002.history"} {
		if done, warning, err := a.Spool.Pushed(filepath.Join(a.WAL, n)); !done || warning != "" || err != nil {
			t.Errorf("%s: %t, %q, %v", n, done, warning, err)
		}
		dest := filepath.Join(t.TempDir(), n)
		if err := (Get{Name: n, Dest: dest, DB: db}).From(t.Context(), a.to); err != nil {
			t.Errorf("%s is not in the repository: %v", n, err)
		}
	}
	// Those that PostgreSQL has heard of are forgotten, and nothing is pushed twice.
	a.done(name(1))
	a.done("00000002.history")
	if n, err := a.Pass(t.Context()); n != 0 || err != nil {
		t.Errorf("again: %d, %v", n, err)
	}
	if got, want := a.notes(), []string{name(2) + ".ok", name(3) + ".ok", name(4) + ".ok"}; !slices.Equal(got, want) {
		t.Errorf("noted are %v, want %v", got, want)
	}
	// A file that was written since is another one: its note is not believed, and a
	// repository that has another content refuses it.
	other := segmentOf(name(3))
	other[small-1] ^= 1
	a.ready(name(3), other)
	later := time.Now().Add(time.Minute)
	if err := os.Chtimes(filepath.Join(a.WAL, name(3)), later, later); err != nil {
		t.Fatal(err)
	}
	if done, _, _ := a.Spool.Pushed(filepath.Join(a.WAL, name(3))); done {
		t.Error("the note of another file is believed")
	}
	if n, err := a.Pass(t.Context()); n != 0 || repo.ClassOf(err) != repo.ArchiveDuplicate {
		t.Errorf("another content: %d, %v", n, err)
	}
	if _, _, err := a.Spool.Pushed(filepath.Join(a.WAL, name(3))); repo.ClassOf(err) != repo.ArchiveDuplicate || !strings.Contains(err.Error(), "different checksum") {
		t.Errorf("the archiver hears %v", err)
	}
	// The same content under its name is pushed, with a word.
	a.ready(name(2), segmentOf(name(2)))
	if err := os.Remove(filepath.Join(a.Spool.Out(), name(2)+".ok")); err != nil {
		t.Fatal(err)
	}
	a.done(name(3))
	if n, err := a.Pass(t.Context()); n != 1 || err != nil {
		t.Fatalf("pushed %d, %v", n, err)
	}
	if done, warning, err := a.Spool.Pushed(filepath.Join(a.WAL, name(2))); !done || !strings.Contains(warning, "already exists") || err != nil {
		t.Errorf("what was there already: %t, %q, %v", done, warning, err)
	}
}

// A repository that is not there is noted, once, and nothing is acknowledged.
func TestOutboxWithoutRepository(t *testing.T) {
	a := archives(t, name(1), name(2))
	a.Into = []*stanza.Stanza{{Storage: a.to.Storage, Name: "another", Repo: 1}}
	if n, err := a.Pass(t.Context()); n != 0 || repo.ClassOf(err) != repo.RepoInvalid {
		t.Errorf("pushed %d, %v", n, err)
	}
	if done, _, err := a.Spool.Pushed(filepath.Join(a.WAL, name(1))); done || repo.ClassOf(err) != repo.RepoInvalid {
		t.Errorf("the archiver hears %t, %v", done, err)
	}
	if err := a.Spool.Forget(name(1)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := a.Spool.Pushed(filepath.Join(a.WAL, name(1))); err != nil {
		t.Errorf("a new attempt begins with %v", err)
	}
}

// When too much waits all of it is given up, and each of it is said.
func TestOutboxDrops(t *testing.T) {
	a := archives(t, name(1), name(2), name(3))
	a.Max = 2 * small
	if n, err := a.Pass(t.Context()); n != 3 || err != nil {
		t.Fatalf("noted %d, %v", n, err)
	}
	if done, warning, err := a.Spool.Pushed(filepath.Join(a.WAL, name(3))); !done || warning != "dropped WAL file '"+name(3)+"' because archive queue exceeded 2MB" || err != nil {
		t.Errorf("%t, %q, %v", done, warning, err)
	}
	lost, err := a.Spool.GivenUp(a.to)
	if err != nil || len(lost) != 1 || lost[0].First != name(1) || lost[0].Last != name(3) || lost[0].Segments != 3 || time.Since(lost[0].At) > time.Hour || !strings.Contains(lost[0].Why, "exceeded 2MB") {
		t.Errorf("noted as given up: %+v, %v", lost, err)
	}
	a.ready(name(4), segmentOf(name(4)))
	for n := range 4 {
		if n > 0 {
			a.done(name(n))
		}
	}
	if n, err := a.Pass(t.Context()); n != 1 || err != nil {
		t.Errorf("afterwards: %d, %v", n, err)
	}
	if err := a.Spool.Settled(a.to, lost[0]); err != nil {
		t.Error(err)
	}
	if lost, err := a.Spool.GivenUp(a.to); err != nil || len(lost) != 0 {
		t.Errorf("after it was settled: %+v, %v", lost, err)
	}
}

// What waits for want of a repository is not given up while it is little or new,
// however little room there is.
func TestOutboxWithoutRoom(t *testing.T) {
	a := archives(t, name(1))
	a.Room = true
	old := time.Now().Add(-2 * roomAfter)
	for _, tt := range []struct {
		name   string
		max    int64
		oldest time.Time
		least  int64 // of the limit; 0: there is none
	}{
		{"new", 0, time.Now(), 0},
		{"old", 0, old, roomLeast},
		{"new, with a limit of its own", small, time.Now(), small},
		{"old, with a limit of its own", small, old, small},
	} {
		a.Max = tt.max
		if got := a.limit(tt.oldest); got < tt.least || (got == 0) != (tt.least == 0) || tt.max > 0 && got != tt.max {
			t.Errorf("%s: %d may wait, want %d or more", tt.name, got, tt.least)
		}
	}
	a.Max = 0
	if err := os.Chtimes(filepath.Join(a.WAL, "archive_status", name(1)+ready), old, old); err != nil {
		t.Fatal(err)
	}
	if n, err := a.Pass(t.Context()); n != 1 || err != nil {
		t.Errorf("pushed %d, %v", n, err)
	}
	if lost, err := a.Spool.GivenUp(a.to); err != nil || len(lost) != 0 {
		t.Errorf("given up: %+v, %v", lost, err)
	}
}

// What is lost is told for each timeline.
func TestLost(t *testing.T) {
	for _, tt := range []struct {
		names []string
		want  string
	}{
		{nil, ""},
		{[]string{"00000002.history", "000000010000000000000003.partial"}, ""},
		{[]string{"00000002.history", name(3), name(4), "000000020000000000000004"}, name(3) + "-" + name(4) + "(2) 000000020000000000000004-000000020000000000000004(1) "},
	} {
		got := ""
		for _, h := range lost(tt.names) {
			got += fmt.Sprintf("%s-%s(%d) ", h.First, h.Last, h.Segments)
		}
		if got != tt.want {
			t.Errorf("%v: %s, want %s", tt.names, got, tt.want)
		}
	}
}

// lagging is a store that takes its time, and counts how much it is asked at once.
type lagging struct {
	repo.Storage
	mu       sync.Mutex
	at, most int
	gets     map[string]int
}

func (s *lagging) Get(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	s.mu.Lock()
	s.at++
	s.most = max(s.most, s.at)
	s.gets[name]++
	s.mu.Unlock()
	<-time.After(20 * time.Millisecond)
	s.mu.Lock()
	s.at--
	s.mu.Unlock()
	return s.Storage.Get(ctx, name, offset, length)
}

// Recovery finds what comes next fetched already, several at once, never more than
// may lie there, and each once; at the end of the archive the one who fetches ends.
func TestAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := archives(t)
		for n := 1; n <= 20; n++ {
			a.ready(name(n), segmentOf(name(n)))
		}
		if _, err := a.Pass(t.Context()); err != nil {
			t.Fatal(err)
		}
		store := &lagging{Storage: a.to.Storage, gets: map[string]int{}}
		a.to.Storage = store
		ahead := Ahead{Spool: SpoolOf(t.TempDir(), "t"), Max: 6 * small, Workers: 4, Idle: 10 * time.Second}
		data := t.TempDir()
		get := func(n string) Get { return Get{Name: n, Dest: filepath.Join(data, "RECOVERYXLOG"), DB: db} }
		if err := ahead.Take(t.Context(), get(name(1))); !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("before anything: %v", err)
		}
		ended := make(chan error, 1)
		go func() { ended <- ahead.Run(t.Context(), get(name(1)), small, a.to) }()
		synctest.Wait()
		if !ahead.Busy() {
			t.Error("nobody is seen to fetch")
		}
		if err := ahead.Run(t.Context(), get(name(1)), small, a.to); err != nil {
			t.Errorf("a second one: %v", err)
		}
		for n := 1; n <= 20; n++ {
			if err := ahead.Take(t.Context(), get(name(n))); err != nil {
				t.Fatalf("%s: %v", name(n), err)
			}
			if got, err := os.ReadFile(filepath.Join(data, "RECOVERYXLOG")); err != nil || !bytes.Equal(got, segmentOf(name(n))) {
				t.Fatalf("%s: %d bytes, %v", name(n), len(got), err)
			}
			if list, _ := filepath.Glob(filepath.Join(ahead.Spool.In(), "0*")); len(list) > 6 {
				t.Fatalf("%d lie there: %v", len(list), list)
			}
			if n == 10 { // it goes on by itself, as far as it may
				<-time.After(5 * time.Second)
				if list, _ := filepath.Glob(filepath.Join(ahead.Spool.In(), "0*")); len(list) != 6 {
					t.Errorf("there are %v, and 6 may be", list)
				}
			}
		}
		if err := <-ended; err != nil {
			t.Errorf("it ends with %v", err)
		}
		if store.most < 3 || store.most > 4 {
			t.Errorf("%d requests at once, want 4", store.most)
		}
		for name, n := range store.gets {
			if strings.Contains(name, "/0000000100000000/") && n != 1 {
				t.Errorf("%s was fetched %d times", name, n)
			}
		}
		// Nobody asks: it ends.
		began := time.Now()
		if err := ahead.Run(t.Context(), get(name(3)), small, a.to); err != nil || time.Since(began) < ahead.Idle {
			t.Errorf("it ends with %v after %s", err, time.Since(began))
		}
		// What lies there of another database is not taken, nor is half a one.
		for _, bad := range [][]byte{nil, func() []byte { b := segmentOf(name(3)); b[24]++; return b }()} {
			if err := os.WriteFile(filepath.Join(ahead.Spool.In(), name(3)), bad, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := ahead.Take(t.Context(), get(name(3))); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%d bytes of something else: %v", len(bad), err)
			}
		}
	})
}

// Recovery that goes over to another timeline is followed.
func TestAheadFollows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := archives(t)
		second := func(n int) string { return pg.Timeline(2).Segment(pg.LSN(n*small), small) }
		for n := 1; n <= 9; n++ {
			a.ready(name(n), segmentOf(name(n)))
			a.ready(second(n), segmentOf(second(n)))
		}
		if _, err := a.Pass(t.Context()); err != nil {
			t.Fatal(err)
		}
		ahead := Ahead{Spool: SpoolOf(t.TempDir(), "t"), Max: 4 * small, Workers: 2, Idle: 10 * time.Second}
		ended := make(chan error, 1)
		go func() { ended <- ahead.Run(t.Context(), Get{Name: name(1), DB: db}, small, a.to) }()
		dest := filepath.Join(t.TempDir(), "RECOVERYXLOG")
		<-time.After(time.Second)
		if err := ahead.Asked(second(4)); err != nil { // it was got from the repository
			t.Fatal(err)
		}
		<-time.After(time.Second)
		if err := ahead.Take(t.Context(), Get{Name: second(5), Dest: dest, DB: db}); err != nil {
			t.Errorf("%s: %v", second(5), err)
		}
		if list, _ := filepath.Glob(filepath.Join(ahead.Spool.In(), "00000001*")); len(list) > 0 {
			t.Errorf("%v lie there for nobody", list)
		}
		if err := <-ended; err != nil {
			t.Errorf("it ends with %v", err)
		}
	})
}
