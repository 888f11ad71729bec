package lease

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
	"unsafe"
)

func page(t *testing.T) (string, *Writer) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "page")
	w, err := Create(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return path, w
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	path, w := page(t)
	if p, ok := Read(path); !ok || p != (Page{}) {
		t.Errorf("a fresh page reads %v, %v; want closed, true", p, ok)
	}
	r := NewReader(path)
	defer r.Close()
	for _, want := range []Page{
		{Primary, 77, Now() + time.Second},
		{Primary, 1<<63 - 1, 0},
		{Replica, -1, 5},
		{},
	} {
		if err := w.Set(want); err != nil {
			t.Fatal(err)
		}
		if got, ok := r.Read(); !ok || got != want {
			t.Errorf("Reader.Read = %v, %v; want %v", got, ok, want)
		}
		if got, ok := Read(path); !ok || got != want {
			t.Errorf("Read = %v, %v; want %v", got, ok, want)
		}
	}
}

func TestTheNextAgentFindsThePageAsItWas(t *testing.T) {
	path, w := page(t)
	want := Page{Primary, 9, Now() + time.Minute}
	if err := w.Set(want); err != nil {
		t.Fatal(err)
	}
	if _, err := Create(path); !errors.Is(err, ErrHeld) {
		t.Errorf("a second writer: %v; want ErrHeld", err)
	}
	w.Close()
	next, err := Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer next.Close()
	if got, ok := Read(path); !ok || got != want {
		t.Errorf("after Create: %v, %v; want %v", got, ok, want)
	}
}

func TestAReaderNeverSeesHalfAPage(t *testing.T) {
	path, w := page(t)
	var wg sync.WaitGroup
	stop := make(chan struct{})
	wg.Go(func() {
		for i := int64(1); ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			// The three fields always agree; a reader that mixes two pages shows it.
			if err := w.Set(Page{Role(i % 3), i, time.Duration(i)}); err != nil {
				t.Error(err)
				return
			}
		}
	})
	r := NewReader(path)
	defer r.Close()
	var last int64
	for range 20000 {
		p, ok := r.Read()
		if !ok {
			t.Error("Read = closed while pages are written")
			break
		}
		if p.Epoch != int64(p.Deadline) || p.Epoch%3 != int64(p.Role) || p.Epoch < last {
			t.Errorf("torn page %v after %d", p, last)
			break
		}
		last = p.Epoch
	}
	close(stop)
	wg.Wait()
}

func TestDoubtfulPagesAreClosed(t *testing.T) {
	open := Page{Primary, 3, time.Hour}
	boot, err := bootID()
	if err != nil {
		t.Fatal(err)
	}
	raw := func(im image) []byte { return append([]byte(nil), unsafe.Slice((*byte)(unsafe.Pointer(&im)), size)...) }
	other := boot
	other[0]++
	newer := encode(open, 2, boot)
	newer[1] = magic | (version+1)<<32
	newer[7] = newer.sum()
	strange := encode(open, 2, boot)
	strange[6] = 3
	strange[7] = strange.sum()
	good := raw(encode(open, 2, boot))
	for _, tt := range []struct {
		name  string
		bytes []byte
		ok    bool
	}{
		{"a good page", good, true},
		{"empty", nil, false},
		{"cut short", good[:40], false},
		{"too long", append(good, 0), false},
		{"zeros", make([]byte, size), false},
		{"of another boot", raw(encode(open, 2, other)), false},
		{"of another version", raw(newer), false},
		{"with an unknown role", raw(strange), false},
		{"left half written", raw(encode(open, 3, boot)), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "page")
			if err := os.WriteFile(path, tt.bytes, 0o600); err != nil {
				t.Fatal(err)
			}
			if p, ok := Read(path); ok != tt.ok || (ok && p != open) {
				t.Errorf("Read = %v, %v; want %v", p, ok, tt.ok)
			}
			w, err := Create(path)
			if err != nil {
				t.Fatalf("Create over it: %v", err)
			}
			defer w.Close()
			want := Page{}
			if tt.ok {
				want = open
			}
			if p, ok := Read(path); !ok || p != want {
				t.Errorf("after Create: %v, %v; want %v", p, ok, want)
			}
		})
	}
	if _, ok := Read(filepath.Join(t.TempDir(), "none")); ok {
		t.Error("a missing page reads as open")
	}
}

func TestAPageThatIsCutOrDeletedUnderItsUsers(t *testing.T) {
	path, w := page(t)
	open := Page{Primary, 3, Now() + time.Hour}
	if err := w.Set(open); err != nil {
		t.Fatal(err)
	}
	r := NewReader(path)
	defer r.Close()
	r.Read()
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	if p, ok := r.Read(); ok {
		t.Errorf("a page cut under its reader reads %v; want closed", p)
	}
	for _, hurt := range []func() error{
		func() error { return os.Truncate(path, 0) },
		func() error { return os.Remove(path) },
	} {
		if err := hurt(); err != nil {
			t.Fatal(err)
		}
		if err := w.Set(open); err != nil {
			t.Fatalf("Set after the file was hurt: %v", err)
		}
		if p, ok := r.Read(); !ok || p != open {
			t.Errorf("after it was written again: %v, %v; want %v", p, ok, open)
		}
	}
	closed := Page{Role: Closed}
	os.Remove(path)
	if err := w.Set(closed); err != nil {
		t.Fatal(err)
	}
	if p, ok := Read(path); !ok || p != closed {
		t.Errorf("Read = %v, %v; want closed, true", p, ok)
	}
}

func FuzzNoFlipIsAPage(f *testing.F) {
	for bit := range uint(size * 8) {
		f.Add(bit, int64(bit), int64(7))
	}
	f.Fuzz(func(t *testing.T, bit uint, epoch, deadline int64) {
		boot := [2]uint64{1, 2}
		p := Page{Primary, epoch, time.Duration(deadline)}
		im := encode(p, 2, boot)
		if got, ok := decode(im, boot); !ok || got != p {
			t.Fatalf("decode(encode(%v)) = %v, %v", p, got, ok)
		}
		bit %= size * 8
		im[bit/64] ^= 1 << (bit % 64)
		if got, ok := decode(im, boot); ok {
			t.Errorf("with bit %d flipped: %v; want no page", bit, got)
		}
	})
}

func BenchmarkRead(b *testing.B) {
	path := filepath.Join(b.TempDir(), "page")
	w, err := Create(path)
	if err != nil {
		b.Fatal(err)
	}
	defer w.Close()
	w.Set(Page{Primary, 1, Now() + time.Hour})
	r := NewReader(path)
	defer r.Close()
	for b.Loop() {
		r.Read()
	}
}
