package outside

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// inner marks the process that runs the tests in a network of its own.
const inner = "HOWDAH_TEST_NET"

// Main builds the program as it is shipped, says in program where it is, and
// runs the tests of a package; then comes after. Where it may, it does so in a
// network and mounts of its own: nothing that runs on this machine has the
// tests' addresses, and nobody else has what they mount.
func Main(m *testing.M, program *string, after func()) int {
	if os.Geteuid() == 0 && os.Getenv(inner) == "" {
		if code, err := again(); err == nil {
			return code
		}
	}
	if os.Getenv(inner) != "" {
		lo, err := netlink.LinkByName("lo")
		if err == nil {
			err = netlink.LinkSetUp(lo)
		}
		if err == nil {
			err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "network and mounts of the tests:", err)
			return 1
		}
	}
	dir, err := os.MkdirTemp("", "howdah-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	*program = filepath.Join(dir, "howdah")
	if out, err := exec.Command("go", "build", "-buildvcs=false", "-o", *program, "howdah/cmd/howdah").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build: %v\n%s", err, out)
		return 1
	}
	if after != nil {
		defer after()
	}
	return m.Run()
}

// again runs this process once more, in namespaces of its own.
func again() (int, error) {
	runtime.LockOSThread() // the child dies with this thread
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), inner+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS, Pdeathsig: unix.SIGKILL}
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode(), nil
	}
	return 0, err
}
