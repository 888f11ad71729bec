package lease

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// pageMode lets everybody read and the agent alone write.
const pageMode = 0o644

// mapping is the page's file in memory.
type mapping struct {
	file  *os.File
	bytes []byte
}

func (m *mapping) word(i int) *uint64 { return (*uint64)(unsafe.Pointer(&m.bytes[i*8])) }

func openMapping(path string, flag int) (*mapping, error) {
	f, err := os.OpenFile(path, flag|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err == nil && (!st.Mode().IsRegular() || st.Size() != size) {
		err = fmt.Errorf("%s has %d bytes, not %d", path, st.Size(), size)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	prot := unix.PROT_READ
	if flag == os.O_RDWR {
		prot |= unix.PROT_WRITE
	}
	b, err := unix.Mmap(int(f.Fd()), 0, size, prot, unix.MAP_SHARED)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("map %s: %w", path, err)
	}
	return &mapping{f, b}, nil
}

// current reports whether the mapped file is still the whole file in its
// directory: somebody may have deleted or cut it.
func (m *mapping) current() bool {
	var st unix.Stat_t
	err := unix.Fstat(int(m.file.Fd()), &st)
	return err == nil && st.Nlink > 0 && st.Size == size
}

func (m *mapping) close() {
	unix.Munmap(m.bytes)
	m.file.Close()
}

// errCut says that the file lost its bytes under the mapping.
var errCut = errors.New("the lease page was cut off under us")

// guarded runs f, which touches the mapping; when the file has become shorter
// the kernel answers with SIGBUS, which must cost the page and not the process.
func guarded(f func()) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if recover() != nil {
			err = errCut
		}
	}()
	f()
	return nil
}

// patience is how long a reader waits for a writer that was interrupted half
// way; one that died there leaves an odd sequence for good.
const patience = 20 * time.Millisecond

// load copies the page out, and again while a writer is at work. beat is its sequence.
func (m *mapping) load(boot [2]uint64) (p Page, beat uint64, ok bool) {
	err := guarded(func() {
		var began time.Time
		for try := 0; ; try++ {
			var im image
			before := atomic.LoadUint64(m.word(0))
			for i := range im {
				im[i] = atomic.LoadUint64(m.word(i))
			}
			if before%2 == 0 && atomic.LoadUint64(m.word(0)) == before {
				p, ok = decode(im, boot)
				beat = before
				return
			}
			switch {
			case try == 0:
				began = time.Now()
			case time.Since(began) > patience:
				return
			case try > 100:
				time.Sleep(20 * time.Microsecond)
			}
			runtime.Gosched()
		}
	})
	return p, beat, ok && err == nil
}

func (m *mapping) store(p Page, boot [2]uint64) error {
	return guarded(func() {
		odd := (atomic.LoadUint64(m.word(0)) + 1) | 1
		im := encode(p, odd+1, boot)
		atomic.StoreUint64(m.word(0), odd)
		for i := 1; i < words; i++ {
			atomic.StoreUint64(m.word(i), im[i])
		}
		atomic.StoreUint64(m.word(0), im[0])
	})
}

// A Writer writes the page. There is one at a time: it holds a lock on the
// file, which ends with its process.
type Writer struct {
	mu   sync.Mutex
	path string
	boot [2]uint64
	m    *mapping
}

// ErrHeld says that another process writes the page.
var ErrHeld = errors.New("another process writes the lease page")

// Create opens the page at path for writing and makes one that says Closed
// unless a valid page of this boot is there: that one is left as it is, for an
// agent that comes after another takes over its right or closes it, knowingly.
func Create(path string) (*Writer, error) {
	boot, err := bootID()
	if err != nil {
		return nil, err
	}
	w := &Writer{path: path, boot: boot}
	return w, w.open()
}

func (w *Writer) open() error {
	m, err := openMapping(w.path, os.O_RDWR)
	if err != nil {
		// Missing or not a page: a new file, complete before it has the name.
		if err := w.fresh(); err != nil {
			return fmt.Errorf("lease page: %w", err)
		}
		if m, err = openMapping(w.path, os.O_RDWR); err != nil {
			return fmt.Errorf("lease page: %w", err)
		}
	}
	if err := unix.Flock(int(m.file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		m.close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return fmt.Errorf("%s: %w", w.path, ErrHeld)
		}
		return fmt.Errorf("lock %s: %w", w.path, err)
	}
	if _, _, ok := m.load(w.boot); !ok {
		if err := m.store(Page{}, w.boot); err != nil {
			m.close()
			return err
		}
	}
	w.m = m
	return nil
}

func (w *Writer) fresh() error {
	f, err := os.CreateTemp(filepath.Dir(w.path), ".page-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	im := encode(Page{}, 0, w.boot)
	if err := errors.Join(
		writeAll(f, unsafe.Slice((*byte)(unsafe.Pointer(&im)), size)),
		f.Chmod(pageMode),
	); err != nil {
		return err
	}
	return os.Rename(f.Name(), w.path)
}

func writeAll(f *os.File, b []byte) error {
	_, err := f.Write(b)
	return err
}

// Set writes p. Readers see either what was there before or all of p. A page
// that somebody deleted or cut is made anew.
func (w *Writer) Set(p Page) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.m != nil && w.m.current() && w.put(p) == nil {
		return nil
	}
	if w.m != nil {
		w.m.close()
		w.m = nil
	}
	if err := w.open(); err != nil {
		return err
	}
	return w.put(p)
}

// put writes p into the mapping, and tells who watches if it says something else
// than what was there, whoever wrote that.
func (w *Writer) put(p Page) error {
	was, _, _ := w.m.load(w.boot)
	if err := w.m.store(p, w.boot); err != nil {
		return err
	}
	if was.worth(p) {
		w.m.tell()
	}
	return nil
}

// Beat shows whoever looks at the page that its writer lives, and says nothing new. A
// page that is not whole stays so until it is set.
func (w *Writer) Beat() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.m == nil {
		return
	}
	if p, _, ok := w.m.load(w.boot); ok {
		_ = w.m.store(p, w.boot)
	}
}

// Close gives the lock up and leaves the page as it is.
func (w *Writer) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.m != nil {
		w.m.close()
		w.m = nil
	}
	return nil
}

// A Reader reads one page again and again without a system call while the page
// is open. It is not for concurrent use.
type Reader struct {
	path string
	m    *mapping
}

// NewReader reads the page at path, which need not exist yet.
func NewReader(path string) *Reader { return &Reader{path: path} }

// Read returns the page, or false when there is none to rely on: read that as
// closed.
func (r *Reader) Read() (Page, bool) {
	boot, err := bootID()
	if err != nil {
		return Page{}, false
	}
	if r.m != nil {
		// What is open stays true until its deadline, whatever happened to the
		// file's name; everything else may be out of date.
		if p, _, ok := r.m.load(boot); ok && (p.Open(Now()) || r.m.current()) {
			return p, true
		}
		r.m.close()
		r.m = nil
	}
	if r.m, err = openMapping(r.path, os.O_RDONLY); err != nil {
		return Page{}, false
	}
	p, _, ok := r.m.load(boot)
	return p, ok
}

// Close lets go of the page.
func (r *Reader) Close() {
	if r.m != nil {
		r.m.close()
		r.m = nil
	}
}

// Read reads the page at path once.
func Read(path string) (Page, bool) {
	p, _, ok := Look(path)
	return p, ok
}

// Look reads the page at path once, and a number that is another after each time that
// it was written or its writer has said that it lives.
func Look(path string) (p Page, beat uint64, ok bool) {
	boot, err := bootID()
	if err != nil {
		return Page{}, 0, false
	}
	m, err := openMapping(path, os.O_RDONLY)
	if err != nil {
		return Page{}, 0, false
	}
	defer m.close()
	return m.load(boot)
}
