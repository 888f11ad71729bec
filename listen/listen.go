// Package listen keeps listening sockets alive while the role that serves them
// comes and goes.
//
// The supervisor opens them, because it alone may be root and it lives longer;
// a role finds them open when it starts. A client that connects while no role
// runs waits in the kernel's queue and is refused by nobody. A new supervisor
// asks the running role for the sockets, over a unix socket that only their
// user can reach, instead of binding anew.
//
// The kernel's own names are used: a socket is known by the address it is bound
// to, whatever the other side says of it.
package listen

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"howdah/netport"
)

// First is the first descriptor that a role is given; variable tells it what they are.
const (
	First    = 3
	variable = "HOWDAH_LISTENERS"
)

// A Place is where to listen, and what for.
type Place struct {
	Name string // "demo-primary"
	Host string // "" or "*": every address of the machine
	Port int
}

// Addr is the place's host:port.
func (p Place) Addr() string {
	host := p.Host
	if host == "*" {
		host = ""
	}
	return net.JoinHostPort(host, strconv.Itoa(p.Port))
}

// Sockets are open descriptors by name. They are the supervisor's.
type Sockets struct {
	places []Place
	fds    map[string]int
}

// Want makes the sockets of places; none of them is open yet.
func Want(places []Place) *Sockets { return &Sockets{places, map[string]int{}} }

// Open opens what is not open yet, and returns the error of each that can not be.
func (s *Sockets) Open() (failed []error) {
	for _, p := range s.places {
		if _, ok := s.fds[p.Name]; ok {
			continue
		}
		fd, err := open(p)
		if err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", p.Name, err))
			continue
		}
		s.fds[p.Name] = fd
	}
	return failed
}

func open(p Place) (int, error) {
	l, err := net.Listen("tcp", p.Addr())
	if err != nil {
		host := p.Host
		if taken := netport.Check(host, p.Port); taken != nil {
			return -1, taken // tells who has it
		}
		return -1, err
	}
	defer l.Close()
	return duplicate(l.(*net.TCPListener))
}

func duplicate(l *net.TCPListener) (fd int, err error) {
	raw, err := l.SyscallConn()
	if err != nil {
		return -1, err
	}
	if err2 := raw.Control(func(s uintptr) {
		fd, err = unix.FcntlInt(s, unix.F_DUPFD_CLOEXEC, First)
	}); err2 != nil {
		return -1, err2
	}
	return fd, err
}

// Pass is what a child needs to find the sockets: its descriptors from 3 on,
// and a variable of its environment.
func (s *Sockets) Pass() (fds []uintptr, env string) {
	var names []string
	for _, p := range s.places {
		if fd, ok := s.fds[p.Name]; ok {
			names = append(names, p.Name)
			fds = append(fds, uintptr(fd))
		}
	}
	return fds, variable + "=" + strings.Join(names, ",")
}

// Close gives the sockets up.
func (s *Sockets) Close() {
	for _, fd := range s.fds {
		unix.Close(fd)
	}
	clear(s.fds)
}

// Inherited are the listeners that a role was started with, by name.
func Inherited() (map[string]*net.TCPListener, error) {
	all := map[string]*net.TCPListener{}
	text := os.Getenv(variable)
	if text == "" {
		return all, nil
	}
	for i, name := range strings.Split(text, ",") {
		f := os.NewFile(uintptr(First+i), name)
		l, err := net.FileListener(f)
		f.Close() // the listener has a descriptor of its own
		if err != nil {
			return nil, fmt.Errorf("listener %s: %w", name, err)
		}
		t, ok := l.(*net.TCPListener)
		if !ok {
			l.Close()
			return nil, fmt.Errorf("listener %s: not TCP", name)
		}
		all[name] = t
	}
	return all, nil
}

// Again is what another process of this role needs to find the same listeners: its
// descriptors from First on, which are the caller's to close, and the variable.
func Again(all map[string]*net.TCPListener) (fds []uintptr, env string, err error) {
	names := slices.Sorted(maps.Keys(all))
	for _, name := range names {
		fd, err := duplicate(all[name])
		if err != nil {
			for _, fd := range fds {
				unix.Close(int(fd))
			}
			return nil, "", fmt.Errorf("listener %s: %w", name, err)
		}
		fds = append(fds, uintptr(fd))
	}
	return fds, variable + "=" + strings.Join(names, ","), nil
}

// most is how many descriptors fit into one message (SCM_MAX_FD).
const most = 253

// Offer hands the listeners to whoever connects to the unix socket at path,
// until ctx ends. The directory decides who may.
func Offer(ctx context.Context, path string, all map[string]*net.TCPListener) error {
	os.Remove(path) // a predecessor's
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return err
	}
	l.SetUnlinkOnClose(false) // by then it may be a successor's
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return err
	}
	defer context.AfterFunc(ctx, func() { l.Close() })()
	for {
		c, err := l.AcceptUnix()
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		}
		// Who asks is our own supervisor; what goes wrong, it will find out.
		_ = give(c, all)
		c.Close()
	}
}

func give(c *net.UnixConn, all map[string]*net.TCPListener) error {
	var fds []int
	defer func() {
		for _, fd := range fds {
			unix.Close(fd)
		}
	}()
	for _, l := range all {
		fd, err := duplicate(l)
		if err != nil {
			return err
		}
		if fds = append(fds, fd); len(fds) == most {
			break
		}
	}
	if len(fds) == 0 {
		return nil
	}
	if err := c.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return err
	}
	_, _, err := c.WriteMsgUnix([]byte{1}, unix.UnixRights(fds...), nil)
	return err
}

// Ask takes the sockets that the role at path has. Those that are not wanted,
// or are no listeners, are closed again.
func (s *Sockets) Ask(path string) error {
	d := net.Dialer{Timeout: time.Second}
	conn, err := d.Dial("unix", path)
	if err != nil {
		return err
	}
	defer conn.Close()
	c := conn.(*net.UnixConn)
	if err := c.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return err
	}
	oob := make([]byte, unix.CmsgSpace(most*4))
	_, n, _, _, err := c.ReadMsgUnix(make([]byte, 1), oob)
	if err != nil {
		return err
	}
	messages, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil {
		return err
	}
	for _, m := range messages {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			return err
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			if !s.take(fd) {
				unix.Close(fd)
			}
		}
	}
	return nil
}

// take keeps fd if it listens where we want to listen.
func (s *Sockets) take(fd int) bool {
	if on, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err != nil || on == 0 {
		return false
	}
	addr, err := unix.Getsockname(fd)
	if err != nil {
		return false
	}
	var ip net.IP
	var port int
	switch a := addr.(type) {
	case *unix.SockaddrInet4:
		ip, port = a.Addr[:], a.Port
	case *unix.SockaddrInet6:
		ip, port = a.Addr[:], a.Port
	default:
		return false
	}
	i := slices.IndexFunc(s.places, func(p Place) bool { return p.is(ip, port) })
	if i < 0 {
		return false
	}
	name := s.places[i].Name
	if _, have := s.fds[name]; have {
		return false
	}
	s.fds[name] = fd
	return true
}

// Same says that these are the listeners of those places, no fewer and no more.
func Same(all map[string]*net.TCPListener, places []Place) bool {
	for _, p := range places {
		l, ok := all[p.Name]
		if !ok {
			return false
		}
		if a, ok := l.Addr().(*net.TCPAddr); !ok || !p.is(a.IP, a.Port) {
			return false
		}
	}
	return len(all) == len(places)
}

// is says whether a socket bound to that address is this place's.
func (p Place) is(ip net.IP, port int) bool {
	if port != p.Port {
		return false
	}
	if p.Host == "" || p.Host == "*" {
		return ip.IsUnspecified()
	}
	want := net.ParseIP(p.Host)
	return want == nil || want.Equal(ip) // a name is bound to one of its addresses
}

// ErrNone says that a role was started without the sockets it serves.
var ErrNone = errors.New("no listening socket was passed on; the role is started by its supervisor")
