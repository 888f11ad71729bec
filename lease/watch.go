package lease

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// A Watch tells when a page may say something else than before: another role,
// another epoch, a right that ended or came back, or another file. It says
// nothing of renewals, so that whoever watches an idle node sleeps.
//
// The writer touches the file's attributes then (tell), which the kernel
// passes on by inotify(7); what is written through a mapping it does not see.
type Watch struct {
	file *os.File
	name string
}

// NewWatch watches the page at path, which need not exist yet; its directory must.
func NewWatch(path string) (*Watch, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watch the lease page: %w", err)
	}
	// The directory, because a page that was deleted comes back as another file.
	const mask = unix.IN_ATTRIB | unix.IN_MOVED_TO | unix.IN_DELETE | unix.IN_ONLYDIR
	if _, err := unix.InotifyAddWatch(fd, filepath.Dir(path), mask); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("watch the lease page in %s: %w", filepath.Dir(path), err)
	}
	return &Watch{os.NewFile(uintptr(fd), "inotify"), filepath.Base(path)}, nil
}

// Next returns when the page may have changed since the last call, with an error
// when the watch is closed.
func (w *Watch) Next() error {
	var b [4096]byte
	for {
		n, err := w.file.Read(b[:])
		if err != nil {
			return err
		}
		if w.concerned(b[:n]) {
			return nil
		}
	}
}

// concerned says whether one of the events is about the page, or events were lost.
func (w *Watch) concerned(events []byte) bool {
	for len(events) >= unix.SizeofInotifyEvent {
		mask := binary.NativeEndian.Uint32(events[4:])
		length := int(binary.NativeEndian.Uint32(events[12:]))
		events = events[unix.SizeofInotifyEvent:]
		if length > len(events) {
			return true
		}
		name := strings.TrimRight(string(events[:length]), "\x00")
		events = events[length:]
		if name == w.name || mask&(unix.IN_Q_OVERFLOW|unix.IN_IGNORED) != 0 {
			return true
		}
	}
	return false
}

// Close ends a Next that waits.
func (w *Watch) Close() error { return w.file.Close() }

// tell wakes those who watch the page.
func (m *mapping) tell() { _ = unix.Fchmod(int(m.file.Fd()), pageMode) } // who watches looks now and then anyway

// worth says that a watcher wants to know that next took the place of p.
func (p Page) worth(next Page) bool {
	now := Now()
	return p.Role != next.Role || p.Epoch != next.Epoch || p.Open(now) != next.Open(now)
}
