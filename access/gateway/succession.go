package gateway

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"howdah/access/pooler"
	"howdah/listen"
	"howdah/logkey"
	"howdah/nodefile"
)

// A gateway that is to be restarted starts its successor itself, with the listening
// sockets, and goes on as before until that one follows the routes. Then nobody is taken
// in here any more, and the sessions go over: those of pools each between two of its
// transactions, those of untouched bytes whenever nothing of them is under way. Who is
// still here when the time is over ends. If the successor comes to nothing, nothing has
// happened. The supervisor adopts it, by its arguments, when this process ends.
//
// They talk over a pair of sockets that only the two have.

const (
	kinVariable  = "HOWDAH_PREDECESSOR" // the descriptor of the successor's end
	succeedIn    = 20 * time.Second     // the successor has to follow the routes by then
	drainFor     = time.Minute          // a session has to be between two transactions by then
	quietFor     = 3 * time.Second      // what stops beforehand has to have stopped
	frameMost    = 64 << 20
	descriptors  = 2 // of one frame
	frameHead    = 5 // length and kind
	frameReady   = 'R'
	frameGo      = 'G'
	framePooled  = 'P' // a session of a pool, with one descriptor
	frameRelayed = 'U' // one of untouched bytes, with its client's and its server's
	frameCancel  = 'C' // the key of a cancel request
)

var (
	errSuccessor = errors.New("the successor did not follow the routes in time")
	errFrame     = errors.New("a frame that can not be")
	errUnderWay  = errors.New("it is being restarted already")
	errSockets   = errors.New("the node listens elsewhere now")
)

// A kin is the other of two gateways of which one follows the other.
type kin struct {
	conn    *net.UnixConn
	writing sync.Mutex
}

// send sends one frame with its descriptors.
func (k *kin) send(kind byte, body []byte, fds ...int) error {
	k.writing.Lock()
	defer k.writing.Unlock()
	head := append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), kind)
	if err := k.conn.SetWriteDeadline(time.Now().Add(succeedIn)); err != nil {
		return err
	}
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	if n, _, err := k.conn.WriteMsgUnix(head, rights, nil); err != nil || n < len(head) {
		return errors.Join(io.ErrShortWrite, err)
	}
	if len(body) == 0 {
		return nil // the other one has the frame, and may be gone
	}
	_, err := k.conn.Write(body)
	return err
}

// receive is the next frame.
func (k *kin) receive() (kind byte, body []byte, fds []int, err error) {
	var head [frameHead]byte
	oob := make([]byte, unix.CmsgSpace(4*descriptors))
	n, oobn, _, _, err := k.conn.ReadMsgUnix(head[:], oob)
	if err != nil {
		return 0, nil, nil, err
	}
	if n == 0 {
		return 0, nil, nil, io.EOF
	}
	messages, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil {
		return 0, nil, nil, err
	}
	for _, m := range messages {
		got, err := unix.ParseUnixRights(&m)
		if err != nil {
			return 0, nil, nil, err
		}
		for _, fd := range got {
			unix.CloseOnExec(fd)
		}
		fds = append(fds, got...)
	}
	if _, err = io.ReadFull(k.conn, head[n:]); err == nil {
		size := binary.BigEndian.Uint32(head[:])
		if size > frameMost {
			err = errFrame
		} else {
			body = make([]byte, size)
			_, err = io.ReadFull(k.conn, body)
		}
	}
	if err != nil {
		closeAll(fds)
		return 0, nil, nil, err
	}
	return head[4], body, fds, nil
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}

// cancel passes on a cancel request for a session that may still be there.
func (k *kin) cancel(key [8]byte) { _ = k.send(frameCancel, key[:]) } // it has ended, perhaps

// inheritKin is the end that this process was started with; nil: it has no predecessor.
func inheritKin() (*kin, error) {
	text := os.Getenv(kinVariable)
	if text == "" {
		return nil, nil
	}
	os.Unsetenv(kinVariable)
	fd, err := strconv.Atoi(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", kinVariable, err)
	}
	return kinOf(fd)
}

func kinOf(fd int) (*kin, error) {
	f := os.NewFile(uintptr(fd), "kin")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	conn, ok := c.(*net.UnixConn)
	if !ok {
		c.Close()
		return nil, errFrame
	}
	return &kin{conn: conn}, nil
}

// A succession is how a gateway begins and ends beside another.
type succession struct {
	before    *kin          // who serves until we do; nil: nobody
	begun     chan struct{} // closed: we serve
	leaving   context.Context
	leave     context.CancelFunc
	serving   sync.WaitGroup // what stops before the successor serves
	asked     chan asking
	listeners map[string]*net.TCPListener
	child     *os.Process   // the successor; nil: none
	gone      chan struct{} // closed: it has ended
}

// An asking is somebody's wish that the gateway be restarted.
type asking struct{ done func(error) }

func newSuccession(before *kin, listeners map[string]*net.TCPListener) *succession {
	s := &succession{before: before, begun: make(chan struct{}), asked: make(chan asking, 1), listeners: map[string]*net.TCPListener{}}
	for name, l := range listeners {
		s.listeners[name] = l
	}
	s.leaving, s.leave = context.WithCancel(context.Background())
	if before == nil {
		close(s.begun)
	}
	return s
}

// begins waits until we serve; false: we never shall.
func (s *succession) begins(ctx context.Context) bool {
	select {
	case <-s.begun:
		return true
	case <-ctx.Done():
		return false
	}
}

// only has run run from when we serve until we leave.
func (s *succession) only(run func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		if !s.begins(ctx) {
			return nil
		}
		inner, stop := context.WithCancel(ctx)
		defer stop()
		defer context.AfterFunc(s.leaving, stop)()
		s.serving.Add(1)
		err := run(inner)
		s.serving.Done()
		if s.leaving.Err() != nil && err == nil {
			<-ctx.Done()
		}
		return err
	}
}

// ask asks for a successor. done is told when it serves, or why it does not.
func (s *succession) ask(done func(error)) {
	select {
	case s.asked <- asking{done}:
	default:
		done(errUnderWay)
	}
}

// take is a successor's part: when the routes are known the predecessor is told, and its
// sessions come.
func (g *Gateway) take(ctx context.Context, p *pooler.Pooler) error {
	k := g.succession.before
	stop := context.AfterFunc(ctx, func() { k.conn.Close() })
	defer stop()
	defer k.conn.Close()
	for _, f := range g.fronts {
		if _, _, err := f.routes.Wait(ctx, 0); err != nil {
			return nil
		}
	}
	if err := k.send(frameReady, nil); err != nil {
		return err
	}
	came := 0
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		kind, body, fds, err := k.receive()
		if err != nil {
			select {
			case <-g.succession.begun:
				g.log.Info("the predecessor has ended", "sessions", came)
				<-ctx.Done()
				return nil
			default:
				return fmt.Errorf("the predecessor: %w", err) // it goes on without us
			}
		}
		switch {
		case kind == frameGo && len(fds) == 0:
			close(g.succession.begun)
		case kind == framePooled && len(fds) == 1:
			var s pooler.Session
			if err = json.Unmarshal(body, &s); err == nil {
				err = p.Take(s, fds[0])
			} else {
				closeAll(fds)
			}
			came++
		case kind == frameRelayed && len(fds) == 2:
			err = g.adopt(ctx, &wg, body, fds)
			came++
		default:
			closeAll(fds)
			err = errFrame
		}
		if err != nil {
			g.log.Warn("a session was not taken over", logkey.Error, err)
		}
	}
}

// succeed waits to be asked, and returns when all have gone over to a successor. Who is to
// leave returns in any case: the supervisor starts another.
func (g *Gateway) succeed(ctx context.Context, leave <-chan struct{}, p *pooler.Pooler) error {
	s := g.succession
	leaves := false
	for {
		select {
		case <-leave:
			leave = nil
			if !s.begins(ctx) {
				return nil
			}
			leaves = true
			if err := g.heirless(); err != nil {
				g.log.Warn("no successor, sessions end", logkey.Error, err)
				return nil
			}
			s.ask(func(error) {})
		case a := <-s.asked:
			k, err := g.bear(ctx)
			if err != nil && leaves {
				g.log.Error("no successor, sessions end", logkey.Error, err)
				a.done(err)
				return nil
			}
			if err != nil {
				g.log.Error("no successor, this gateway goes on", logkey.Error, err)
				a.done(err)
				continue
			}
			defer k.conn.Close()
			s.leave()
			stopped := make(chan struct{})
			go func() { s.serving.Wait(); close(stopped) }()
			select {
			case <-stopped:
			case <-time.After(quietFor):
			}
			if err := k.send(frameGo, nil); err != nil {
				return err // the supervisor starts another
			}
			a.done(nil)
			g.handOver(ctx, p, k)
			return nil
		case <-ctx.Done():
			return nil
		}
	}
}

// heirless says why a gateway of the node as it is described now can not follow this one,
// whose listening sockets it would get: others the supervisor has.
func (g *Gateway) heirless() error {
	n, err := nodefile.Load(g.node.Paths.Dir)
	if err != nil {
		return err
	}
	if !listen.Same(g.succession.listeners, listen.Gateway(n)) {
		return errSockets
	}
	return nil
}

// handOver has everybody go over to k, and returns when nobody is left or the time is over.
func (g *Gateway) handOver(ctx context.Context, p *pooler.Pooler, k *kin) {
	ctx, stop := context.WithTimeout(ctx, drainFor)
	defer stop()
	go func() {
		for {
			kind, body, fds, err := k.receive()
			closeAll(fds)
			if err != nil {
				stop() // it has gone: nobody comes any more
				return
			}
			if kind == frameCancel && len(body) == 8 {
				go p.Cancel(ctx, [8]byte(body))
			}
		}
	}()
	var wg sync.WaitGroup
	for _, port := range g.ports {
		if port.door == nil {
			wg.Go(func() { port.handOver(ctx, k) })
		}
	}
	sent, lost, err := p.HandOver(ctx, func(s pooler.Session, fd int) error {
		body, err := json.Marshal(s)
		if err != nil {
			return err
		}
		return k.send(framePooled, body, fd)
	})
	wg.Wait()
	if err != nil {
		g.log.Error("sessions not handed over", logkey.Error, err)
	}
	g.log.Info("the successor serves", "sessions", sent, "ended", lost)
}

// bear starts the successor and waits until it is ready to serve.
func (g *Gateway) bear(ctx context.Context) (*kin, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	theirs := sync.OnceFunc(func() { unix.Close(fds[1]) })
	defer theirs()
	k, err := kinOf(fds[0])
	if err != nil {
		return nil, err
	}
	files, env, err := listen.Again(g.succession.listeners)
	if err != nil {
		k.conn.Close()
		return nil, err
	}
	defer func() {
		for _, fd := range files {
			unix.Close(int(fd))
		}
	}()
	null, err := os.Open(os.DevNull)
	if err != nil {
		k.conn.Close()
		return nil, err
	}
	defer null.Close()
	variable, _, _ := strings.Cut(env, "=")
	vars := slices.DeleteFunc(os.Environ(), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return name == variable || name == kinVariable
	})
	attr := &syscall.ProcAttr{
		Dir: g.node.Paths.Dir, Env: append(vars, env, kinVariable+"="+strconv.Itoa(listen.First+len(files))),
		Files: append(append([]uintptr{null.Fd(), 1, 2}, files...), uintptr(fds[1])), // not by os.File, which would have sockets block
		Sys:   &syscall.SysProcAttr{Setsid: true},
	}
	began := time.Now()
	pid, err := syscall.ForkExec(g.node.Paths.Binary, os.Args, attr)
	if err != nil {
		k.conn.Close()
		return nil, err
	}
	theirs()
	child, err := os.FindProcess(pid)
	if err != nil {
		return nil, err
	}
	gone := make(chan struct{})
	go func() {
		_, _ = child.Wait()
		close(gone)
	}()
	g.log.Info("successor started", logkey.PID, pid)
	_ = k.conn.SetReadDeadline(began.Add(succeedIn))
	cancel := context.AfterFunc(ctx, func() { k.conn.Close() })
	kind, _, _, err := k.receive()
	cancel()
	if err == nil && kind != frameReady {
		err = errFrame
	}
	if err != nil {
		_ = child.Kill()
		k.conn.Close()
		<-gone
		return nil, errors.Join(errSuccessor, err)
	}
	_ = k.conn.SetReadDeadline(time.Time{})
	g.log.Info("successor is ready", logkey.Took, time.Since(began))
	g.succession.child, g.succession.gone = child, gone
	return k, nil
}

// end is the end of a process that was asked to: it takes along a successor to whom not
// all have gone over yet.
func (s *succession) end() {
	if s.child == nil {
		return
	}
	_ = s.child.Signal(unix.SIGTERM)
	<-s.gone // the supervisor has patience with us, and none with both
}
