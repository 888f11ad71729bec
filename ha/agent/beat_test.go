package agent

import (
	"context"
	"net"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"howdah/lease"
)

// full is a listener whose queue is full: the kernel drops whoever knocks, as a bad
// network would. room lets those in who knock from then on.
func full(t *testing.T) (addr string, room func()) {
	t.Helper()
	check := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	check(err)
	t.Cleanup(func() { unix.Close(fd) })
	check(unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	check(unix.Listen(fd, 0))
	name, err := unix.Getsockname(fd)
	check(err)
	addr = net.JoinHostPort("127.0.0.1", strconv.Itoa(name.(*unix.SockaddrInet4).Port))
	var held []net.Conn
	for {
		conn, err := net.DialTimeout("tcp", addr, 50*time.Millisecond)
		if err != nil {
			break
		}
		held = append(held, conn)
	}
	t.Cleanup(func() {
		for _, c := range held {
			c.Close()
		}
	})
	return addr, func() { check(unix.Listen(fd, 64)) }
}

// A machine whose answers are lost is asked again long before the kernel would.
func TestHearThroughLoss(t *testing.T) {
	addr, room := full(t)
	began := lease.Now()
	if _, ok := hear(t.Context(), addr, beatAgain); ok {
		t.Error("heard a machine that answered nothing")
	}
	if took := lease.Now() - began; took < beatWithin || took > 4*beatWithin {
		t.Errorf("listened for %s; want %s", took, beatWithin)
	}
	began = lease.Now()
	timer := time.AfterFunc(beatWithin/3, room)
	defer timer.Stop()
	at, ok := hear(t.Context(), addr, beatAgain)
	if !ok || at < began+beatWithin/4 {
		t.Errorf("heard %v, asked %s after the beginning; it answers from %s on", ok, at-began, beatWithin/3)
	}
	if _, ok := hear(context.Background(), "127.0.0.1:1", beatAgain); !ok {
		t.Error("a refusal is an answer of the machine, too")
	}
}
