package lease

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// What changes the right is told, what only renews it is not.
func TestAWatchTellsOfChanges(t *testing.T) {
	path := filepath.Join(t.TempDir(), "page")
	watch, err := NewWatch(path)
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Close()
	told := make(chan error)
	go func() {
		for {
			err := watch.Next()
			told <- err
			if err != nil {
				return
			}
		}
	}()
	expect := func(what string) {
		t.Helper()
		select {
		case err := <-told:
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("%s was not told", what)
		}
	}
	w, err := Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	expect("a new page")
	until := Now() + time.Hour
	for _, p := range []struct {
		what string
		page Page
	}{
		{"a leader", Page{Primary, 3, until}},
		{"another epoch", Page{Primary, 4, until}},
		{"a right that ends at once", Page{Primary, 4, 1}},
		{"the same right again", Page{Primary, 4, until}},
		{"the end", Page{}},
	} {
		if err := w.Set(p.page); err != nil {
			t.Fatal(err)
		}
		// A file that is touched twice in a moment may be told of once or twice.
		expect(p.what)
		for drained := false; !drained; {
			select {
			case <-told:
			case <-time.After(50 * time.Millisecond):
				drained = true
			}
		}
	}
	if err := w.Set(Page{Primary, 5, until}); err != nil {
		t.Fatal(err)
	}
	expect("a leader again")
	for i := range time.Duration(20) {
		if err := w.Set(Page{Primary, 5, until + i}); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-told:
		t.Error("a renewal was told")
	case <-time.After(100 * time.Millisecond):
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	next, err := Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer next.Close()
	if err := next.Set(Page{}); err != nil {
		t.Fatal(err)
	}
	expect("the end of a right that another writer gave")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	expect("a page that is gone")
	watch.Close()
	select {
	case err := <-told:
		for err == nil {
			err = <-told
		}
	case <-time.After(20 * time.Second):
		t.Error("a closed watch goes on waiting")
	}
}
