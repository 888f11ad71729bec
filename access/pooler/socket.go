package pooler

import (
	"errors"
	"io"
	"net"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A socket is one connection on the loop: a descriptor, and what could not be
// sent yet. It has no buffer while nothing is on its way.
type socket struct {
	loop   *loop
	fd     int
	events uint32 // that epoll is asked for
	tls    layer  // nil: it goes in clear
	out    []byte // not sent yet
	sent   int    // of out
	dead   bool   // writing failed; reading will tell
	hup    bool   // closed on our side
}

// A layer is TLS on a socket of the loop.
type layer interface {
	Read(b []byte) (int, error)
	Write(b []byte) (int, error)
	CloseWrite() error
}

const (
	readable = unix.EPOLLIN | unix.EPOLLRDHUP
	broken   = unix.EPOLLHUP | unix.EPOLLERR
)

var errAgain = errors.New("nothing to read yet")

// read reads what is there.
func (s *socket) read(b []byte) (int, error) {
	if s.tls != nil {
		n, err := s.tls.Read(b)
		if n > 0 {
			return n, nil
		}
		if _, again := errors.AsType[wouldBlock](err); again {
			return 0, errAgain
		}
		if err == nil {
			return 0, errAgain
		}
		return 0, err
	}
	return rawRead(s.fd, b)
}

func rawRead(fd int, b []byte) (int, error) {
	for {
		n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
		switch {
		case errno == unix.EINTR:
		case errno == unix.EAGAIN:
			return 0, errAgain
		case errno != 0:
			return 0, errno
		case n == 0:
			return 0, io.EOF
		default:
			return int(n), nil
		}
	}
}

func rawWrite(fd int, b []byte) (int, error) {
	for {
		n, _, errno := unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
		switch {
		case errno == unix.EINTR:
		case errno == unix.EAGAIN:
			return 0, errAgain
		case errno != 0:
			return 0, errno
		default:
			return int(n), nil
		}
	}
}

// pending says that something could not be sent yet.
func (s *socket) pending() bool { return len(s.out) > 0 }

// send sends the pieces in their order; what the kernel does not take now waits.
func (s *socket) send(pieces [][]byte) {
	if s.dead || s.hup {
		return
	}
	if s.tls != nil {
		for _, p := range pieces {
			if len(p) > 0 {
				if _, err := s.tls.Write(p); err != nil {
					s.dead = true
					return
				}
			}
		}
		s.await()
		return
	}
	for len(pieces) > 0 && !s.pending() {
		if len(pieces[0]) == 0 {
			pieces = pieces[1:]
			continue
		}
		n, err := s.writev(pieces)
		if err != nil && err != errAgain {
			s.dead = true
			return
		}
		for n > 0 {
			if n < len(pieces[0]) {
				pieces[0], n = pieces[0][n:], 0
				break
			}
			n -= len(pieces[0])
			pieces = pieces[1:]
		}
		if err == errAgain {
			break
		}
	}
	for _, p := range pieces {
		s.out = append(s.out, p...)
	}
	s.await()
}

func (s *socket) writev(pieces [][]byte) (int, error) {
	if len(pieces) == 1 {
		return rawWrite(s.fd, pieces[0])
	}
	iov := s.loop.iov[:0]
	for _, p := range pieces {
		if len(iov) == maxIov {
			break
		}
		if len(p) > 0 {
			v := unix.Iovec{Base: &p[0]}
			v.SetLen(len(p))
			iov = append(iov, v)
		}
	}
	for {
		n, _, errno := unix.RawSyscall(unix.SYS_WRITEV, uintptr(s.fd), uintptr(unsafe.Pointer(&iov[0])), uintptr(len(iov)))
		switch {
		case errno == unix.EINTR:
		case errno == unix.EAGAIN:
			return 0, errAgain
		case errno != 0:
			return 0, errno
		default:
			return int(n), nil
		}
	}
}

// flush sends what waits. It returns true when nothing does any more.
func (s *socket) flush() bool {
	for s.sent < len(s.out) {
		n, err := rawWrite(s.fd, s.out[s.sent:])
		if err == errAgain {
			return false
		}
		if err != nil {
			s.dead = true
			break
		}
		s.sent += n
	}
	s.out, s.sent = nil, 0
	s.await()
	return true
}

// await has epoll say when more can be sent.
func (s *socket) await() {
	if s.pending() {
		s.want(s.events | unix.EPOLLOUT)
	} else {
		s.want(s.events &^ unix.EPOLLOUT)
	}
}

// listen has epoll say when something can be read, or not. That the other side
// has gone is always told.
func (s *socket) listen(on bool) {
	if on {
		s.want(s.events | unix.EPOLLIN)
	} else {
		s.want(s.events &^ unix.EPOLLIN)
	}
}

func (s *socket) want(events uint32) {
	if events != s.events && !s.hup {
		s.events = events
		if s.loop.ctl(unix.EPOLL_CTL_MOD, s.fd, events) != nil {
			s.dead = true
		}
	}
}

// hang closes the socket.
func (s *socket) hang() {
	if s.hup {
		return
	}
	if s.tls != nil && !s.dead && !s.pending() {
		_ = s.tls.CloseWrite() // the other side learns that nothing was cut off
	}
	s.hup = true
	s.out = nil
	s.loop.drop(s.fd)
}

// A wire is what TLS reads and writes: the network during its handshake, the
// loop's descriptor afterwards, where nothing ever waits.
type wire struct {
	net.Conn
	socket *socket
}

// wouldBlock is the error of a read that would wait. TLS goes on after it
// because it says that it is temporary.
type wouldBlock struct{}

func (wouldBlock) Error() string   { return "would block" }
func (wouldBlock) Timeout() bool   { return true }
func (wouldBlock) Temporary() bool { return true }

// Read implements net.Conn.
func (w *wire) Read(b []byte) (int, error) {
	if w.socket == nil {
		return w.Conn.Read(b)
	}
	n, err := rawRead(w.socket.fd, b)
	if err == errAgain {
		err = wouldBlock{}
	}
	return n, err
}

// Write implements net.Conn.
func (w *wire) Write(b []byte) (int, error) {
	s := w.socket
	if s == nil {
		return w.Conn.Write(b)
	}
	n := 0
	for !s.pending() && n < len(b) {
		m, err := rawWrite(s.fd, b[n:])
		if err == errAgain {
			break
		}
		if err != nil {
			return n, err
		}
		n += m
	}
	s.out = append(s.out, b[n:]...)
	return len(b), nil
}

// SetDeadline implements net.Conn: on the loop nothing waits.
func (w *wire) SetDeadline(t time.Time) error {
	if w.socket == nil {
		return w.Conn.SetDeadline(t)
	}
	return nil
}

// SetWriteDeadline implements net.Conn.
func (w *wire) SetWriteDeadline(t time.Time) error {
	if w.socket == nil {
		return w.Conn.SetWriteDeadline(t)
	}
	return nil
}

// detach takes the descriptor out of c, which is closed: a duplicate lives on.
func detach(c net.Conn) (fd int, err error) {
	defer c.Close()
	sc, ok := c.(syscall.Conn)
	if !ok {
		return -1, errors.ErrUnsupported
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return -1, err
	}
	if err2 := raw.Control(func(s uintptr) {
		fd, err = unix.FcntlInt(s, unix.F_DUPFD_CLOEXEC, 3)
	}); err2 != nil {
		return -1, err2
	}
	return fd, err
}
