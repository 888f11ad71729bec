package pooler

import (
	"runtime"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A loop moves the bytes of many sockets on one thread, with an epoll of its
// own: what arrives is read, understood and passed on before anything else is
// looked at. Everything it owns is touched by its thread alone; others send it
// mail.
//
// While traffic flows it waits for at most unannounced, without telling the
// scheduler: a blocking call that the scheduler knows of costs a hand-off of the
// processor and a fight to get it back, about as much as everything else that is
// done for a query. The price is that a collection of garbage may have to wait
// that long.
type loop struct {
	ep     int
	wake   int // eventfd
	socks  []handler
	gens   []uint32 // of a descriptor's number: an event may be older than its socket
	now    time.Duration
	began  time.Time
	ticked time.Duration
	tick   func(now time.Duration)
	after  func() // whatever happened
	again  []handler
	gated  []gated // what waits at a gate

	mu     sync.Mutex
	mail   []func()
	closed bool
	ended  chan struct{} // closed when run has returned

	in      []byte   // what one read takes
	batch   [][]byte // what goes to one socket in one write
	notes   []byte   // headers that are part of batch
	back    [][]byte // the same, for the other direction
	backing []byte
	iov     [maxIov]unix.Iovec
}

// A handler is a socket of the loop.
type handler interface {
	ready(events uint32)
}

// gated is a socket that waits at a gate; look returns false when it no longer does.
type gated interface{ look() bool }

const (
	lookEvery   = 5        // ms: how often a shut gate is looked at
	chunk       = 64 << 10 // what one read takes
	maxIov      = 64
	unannounced = 2   // ms
	emptyRounds = 2   // of unannounced waiting, before the ordinary one
	tickEvery   = 333 // ms: as exact as PgBouncer
)

func newLoop() (*loop, error) {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		unix.Close(ep)
		return nil, err
	}
	l := &loop{ep: ep, wake: wake, began: time.Now(), in: make([]byte, chunk), ended: make(chan struct{})}
	if err := l.ctl(unix.EPOLL_CTL_ADD, wake, unix.EPOLLIN); err != nil {
		unix.Close(wake)
		unix.Close(ep)
		return nil, err
	}
	return l, nil
}

// post has f run on the loop's thread; false: the loop has ended.
func (l *loop) post(f func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	l.mail = append(l.mail, f)
	if len(l.mail) == 1 {
		one := [8]byte{1}
		_, _ = unix.Write(l.wake, one[:]) // full means that it wakes up anyway
	}
	return true
}

// call has f run on the loop's thread and waits for it.
func (l *loop) call(f func()) bool {
	done := make(chan struct{})
	if !l.post(func() { defer close(done); f() }) {
		return false
	}
	select {
	case <-done:
		return true
	case <-l.ended: // before it came to this letter, perhaps
		return false
	}
}

// run turns until stop was posted and returned true.
func (l *loop) run() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var events [256]unix.EpollEvent
	quiet := emptyRounds
	for {
		n := l.wait(events[:], quiet)
		l.now = time.Since(l.began)
		if n > 0 {
			quiet = 0
		} else if quiet < emptyRounds {
			quiet++
		}
		if !l.letters() { // before the sockets: what was posted before a client spoke is in force when she is heard
			break
		}
		for i := range n {
			e := &events[i]
			if int(e.Fd) == l.wake {
				continue
			}
			if h := l.socks[e.Fd]; h != nil && l.gens[e.Fd] == uint32(e.Pad) {
				h.ready(e.Events)
				l.finish()
			}
		}
		if waiting := l.gated; len(waiting) > 0 {
			l.gated = nil
			for _, g := range waiting {
				if g.look() {
					l.gated = append(l.gated, g)
				}
				l.finish()
			}
		}
		if l.now-l.ticked >= tickEvery*time.Millisecond {
			l.ticked = l.now
			l.tick(l.now)
			l.finish()
		}
	}
	close(l.ended)
	l.mu.Lock() // whoever posts has seen that it is closed
	defer l.mu.Unlock()
	unix.Close(l.wake)
	unix.Close(l.ep)
}

// letters runs the mail; false: it told the loop to end.
func (l *loop) letters() bool {
	l.mu.Lock()
	mail := l.mail
	l.mail = nil
	l.mu.Unlock()
	if len(mail) == 0 {
		return true
	}
	var eight [8]byte
	_, _ = unix.Read(l.wake, eight[:])
	for _, f := range mail {
		f()
		l.finish()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.closed
}

// finish does what a handler left to be done when nothing of it is under way.
func (l *loop) finish() {
	l.after()
	for len(l.again) > 0 {
		h := l.again[0]
		l.again = l.again[1:]
		h.ready(0)
		l.after()
	}
	if cap(l.again) < 8 {
		l.again = nil
	}
}

// end makes run return; on the loop's thread.
func (l *loop) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
}

func (l *loop) wait(events []unix.EpollEvent, quiet int) int {
	if quiet < emptyRounds {
		n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(l.ep), uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)), unannounced, 0, 0)
		if errno != 0 { // a signal of the runtime's: it wants this thread to come by
			runtime.Gosched()
			return 0
		}
		return int(n)
	}
	patience := tickEvery
	if len(l.gated) > 0 {
		patience = lookEvery
	}
	n, err := unix.EpollWait(l.ep, events, patience)
	if err != nil {
		return 0
	}
	return n
}

// house makes room for a descriptor of that number.
func (l *loop) house(fd int) {
	for fd >= len(l.socks) {
		l.socks = append(l.socks, make([]handler, max(64, fd+1-len(l.socks)))...)
		l.gens = append(l.gens, make([]uint32, len(l.socks)-len(l.gens))...)
	}
}

// add takes a socket in.
func (l *loop) add(fd int, h handler, events uint32) error {
	l.house(fd)
	l.gens[fd]++
	if err := l.ctl(unix.EPOLL_CTL_ADD, fd, events); err != nil {
		return err
	}
	l.socks[fd] = h
	return nil
}

// drop closes a socket.
func (l *loop) drop(fd int) {
	l.socks[fd] = nil
	l.gens[fd]++
	unix.Close(fd) // which takes it out of the epoll
}

// forget lets go of a socket that lives on.
func (l *loop) forget(fd int) {
	_ = l.ctl(unix.EPOLL_CTL_DEL, fd, 0)
	l.socks[fd] = nil
	l.gens[fd]++
}

func (l *loop) ctl(op, fd int, events uint32) error {
	e := unix.EpollEvent{Events: events, Fd: int32(fd)}
	if fd < len(l.gens) {
		e.Pad = int32(l.gens[fd])
	}
	return unix.EpollCtl(l.ep, op, fd, &e)
}
