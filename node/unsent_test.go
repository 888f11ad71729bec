package node

import (
	"errors"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The network goes away before a client has confirmed its answer: that answer is
// never heard, not when the network is back either. Other clients notice nothing.
func TestAnAnswerThatNobodyConfirmedIsDropped(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	runtime.LockOSThread() // and never unlocked: the thread ends with its namespace
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Skip(err)
	}
	far := exec.Command("sleep", "60")
	far.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if err := far.Start(); err != nil {
		t.Skip(err)
	}
	defer func() { far.Process.Kill(); far.Wait() }()
	pid := strconv.Itoa(far.Process.Pid)
	run := func(line string) {
		t.Helper()
		f := strings.Fields(strings.ReplaceAll(line, "PID", pid))
		if out, err := exec.Command(f[0], f[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", line, err, out)
		}
	}
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip(err)
	}
	run("ip link add near type veth peer name far netns PID")
	run("ip address add 10.9.9.1/24 dev near")
	run("ip link set near up")
	run("nsenter -t PID -n ip address add 10.9.9.2/24 dev far")
	run("nsenter -t PID -n ip link set far up")

	server := &unix.SockaddrInet4{Port: 5432, Addr: [4]byte{10, 9, 9, 1}}
	listener := socket(t)
	check(t, unix.Bind(listener, server))
	check(t, unix.Listen(listener, 8))
	type pair struct{ near, far int }
	dial := func() (p pair) {
		far := make(chan error, 1)
		go func() {
			runtime.LockOSThread()
			ns, err := os.Open("/proc/" + pid + "/ns/net")
			if err == nil {
				defer ns.Close()
				err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
			}
			if err == nil {
				p.far = socket(t)
				err = unix.Connect(p.far, server)
			}
			far <- err
		}()
		check(t, <-far) // the listener's backlog takes it
		near, _, err := unix.Accept(listener)
		check(t, err)
		p.near = near
		return p
	}
	idle, lost := dial(), dial()
	hear := func(fd int) (string, error) {
		soon := unix.NsecToTimeval(int64(1500 * time.Millisecond))
		check(t, unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &soon))
		b := make([]byte, 10)
		n, err := unix.Read(fd, b)
		return string(b[:max(n, 0)]), err
	}
	say := func(fd int, text string) {
		t.Helper()
		_, err := unix.Write(fd, []byte(text))
		check(t, err)
	}
	say(lost.near, "early")
	if got, err := hear(lost.far); got != "early" {
		t.Fatal(got, err)
	}
	if n, err := dropUnsent(5432); n != 0 || err != nil {
		t.Fatalf("all is well, and %d connections were ended: %v", n, err)
	}
	run("nsenter -t PID -n ip address delete 10.9.9.2/24 dev far")
	say(lost.near, "late")
	if n, err := dropUnsent(5433); n != 0 || err != nil {
		t.Errorf("of another port, %d connections were ended: %v", n, err)
	}
	waitFor(t, "the connection is ended", func() bool {
		n, err := dropUnsent(5432)
		if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EOPNOTSUPP) {
			t.Skip(err)
		}
		check(t, err)
		if n > 1 {
			t.Errorf("%d connections were ended", n)
		}
		return n > 0
	})
	run("nsenter -t PID -n ip address add 10.9.9.2/24 dev far")
	if got, err := hear(lost.far); got != "" {
		t.Errorf("the client hears %q, %v", got, err)
	}
	say(idle.near, "hello")
	if got, err := hear(idle.far); got != "hello" {
		t.Errorf("another client hears %q, %v", got, err)
	}
}

func socket(t *testing.T) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Error(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
