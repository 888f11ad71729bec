package gateway

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"howdah/pgwire"
)

// relay moves bytes between client and server until both have ended, or the
// session is cut. It is the data path of a session that is not pooled.
func relay(x *session) {
	if len(x.head) > 0 {
		if _, err := x.server.Write(x.head); err != nil {
			return
		}
	}
	x.stats.in.Add(int64(len(x.head)))
	x.moved.Add(1)
	x.head = nil
	x.relays.Store(true)
	var wg sync.WaitGroup
	var there, here error
	if !x.spoken {
		wg.Go(func() {
			there = pump{from: x.client, to: x.server, count: &x.stats.in, moved: &x.moved, departs: &x.departs}.run()
			x.end(there)
		})
	}
	if !x.said {
		back := pump{from: x.server, to: x.client, count: &x.stats.out, moved: &x.moved, heard: x.heard, gate: &x.gate, departs: &x.departs}
		if x.first.Code != 0 {
			var scan pgwire.KeyScan
			back.look = func(b []byte) bool {
				if key, ok := scan.Feed(b); ok {
					x.port.learn(x, key)
				}
				return !scan.Done
			}
		}
		here = back.run()
		x.end(here)
	}
	wg.Wait()
	x.went(there, here)
}

// end is the end of one direction: half a session goes on, a broken one does not.
func (x *session) end(err error) {
	if err != nil && !errors.Is(err, errDeparts) {
		x.cut(nil)
	}
}

// A pump moves bytes in one direction.
type pump struct {
	from, to *net.TCPConn
	count    *atomic.Int64 // bytes of all sessions with the server
	moved    *atomic.Int64 // grows while this session is not idle
	gate     *atomic.Pointer[gate]
	heard    func() bool // waits at a shut gate
	departs  *atomic.Pointer[kin]
	look     func([]byte) bool // sees what passes until it has seen enough
}

// chunk is what one read takes. It is only held while bytes are on their way,
// so that an idle session costs no buffer.
const chunk = 64 << 10

var chunks = sync.Pool{New: func() any { return new([chunk]byte) }}

var errShut = errors.New("the session was cut at its gate")

// run pumps until the source ends (nil: and said so to the target) or something breaks.
func (p pump) run() error {
	from, err := p.from.SyscallConn()
	if err != nil {
		return err
	}
	to, err := p.to.SyscallConn()
	if err != nil {
		return err
	}
	for {
		var buf *[chunk]byte
		var n int
		var got error
		err := from.Read(func(fd uintptr) bool {
			buf = chunks.Get().(*[chunk]byte)
			n, got = retry(func() (int, error) { return unix.Read(int(fd), buf[:]) })
			if got == unix.EAGAIN {
				chunks.Put(buf)
				buf = nil
				return false
			}
			return true
		})
		if p.departs != nil && errors.Is(err, os.ErrDeadlineExceeded) && p.departs.Load() != nil {
			return errDeparts
		}
		if err == nil {
			err = got
		}
		if err == nil && n == 0 {
			err = io.EOF
		}
		if err == nil {
			if p.look != nil && !p.look(buf[:n]) {
				p.look = nil
			}
			err = p.write(to, buf[:n])
		}
		if buf != nil {
			chunks.Put(buf)
		}
		switch {
		case err == io.EOF:
			return p.to.CloseWrite()
		case err != nil:
			return err
		}
		p.count.Add(int64(n))
		p.moved.Add(1)
	}
}

// write sends b. Every write of the kernel's is made under an open gate: a slow
// client must not be sent later what was true before.
func (p pump) write(to interface {
	Write(func(uintptr) bool) error
}, b []byte,
) error {
	for len(b) > 0 {
		if p.heard != nil && !p.heard() {
			return errShut
		}
		shut := false
		var n int
		var sent error
		err := to.Write(func(fd uintptr) bool {
			if p.gate != nil {
				if g := p.gate.Load(); g != nil && !g.pass() {
					shut = true
					return true
				}
			}
			n, sent = retry(func() (int, error) { return unix.Write(int(fd), b) })
			return sent != unix.EAGAIN
		})
		switch {
		case err != nil:
			return err
		case shut:
			continue
		case sent != nil:
			return sent
		}
		b = b[n:]
	}
	return nil
}

// retry repeats a system call that a signal interrupted.
func retry(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if err != unix.EINTR {
			return n, err
		}
	}
}
