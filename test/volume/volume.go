// Package volume gives tests a disk of their own, whose faults are the kernel's: an
// ext4 file system on a loop device in memory, which can be full, hang or be slow.
//
// A disk that hangs is a frozen file system (ioctl FIFREEZE, what fsfreeze(8) calls):
// whoever writes or flushes waits in the kernel and can not be killed, and whoever
// only reads what is cached goes on. That is how an array or a network disk fails.
package volume

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Commands of ioctl_fs.h: _IOWR('X', 119, int) and 120.
const (
	fifreeze = 0xC0045877
	fithaw   = 0xC0045878
)

const memory = "/dev/shm"

// Mount makes a file system of so many bytes, which take memory as they are written,
// and mounts it on dir; the caller unmounts it. It needs root and loop devices.
func Mount(dir string, size int64) (unmount func() error, err error) {
	image, err := os.CreateTemp(memory, "howdah-test-*.img")
	if err != nil {
		return nil, err
	}
	defer os.Remove(image.Name()) // the mount holds it
	defer image.Close()
	if err := image.Truncate(size); err != nil {
		return nil, err
	}
	// Nothing reserved for root: full is full for everybody.
	if err := command("mkfs.ext4", "-q", "-m", "0", "-E", "lazy_itable_init=0,root_owner=0:0", image.Name()); err != nil {
		return nil, err
	}
	if err := command("mount", "-o", "loop,discard", image.Name(), dir); err != nil {
		return nil, err
	}
	return func() error {
		_ = Resume(dir)
		return unix.Unmount(dir, unix.MNT_DETACH)
	}, nil
}

// Hang lets every write to the file system of dir wait until Resume.
func Hang(dir string) error { return control(dir, fifreeze) }

// Resume ends Hang.
func Resume(dir string) error { return control(dir, fithaw) }

// Slow lets the file system of dir work for a moment only between two pauses, until
// ctx ends. It returns when the file system is whole again.
func Slow(ctx context.Context, dir string, pause, work time.Duration) error {
	for ctx.Err() == nil {
		if err := Hang(dir); err != nil {
			return err
		}
		wait(ctx, pause)
		if err := Resume(dir); err != nil {
			return err
		}
		wait(ctx, work)
	}
	return nil
}

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func control(dir string, cmd uint) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.IoctlSetInt(int(f.Fd()), cmd, 0); err != nil {
		return fmt.Errorf("file system of %s: %w", dir, err)
	}
	return nil
}

func command(name string, args ...string) error {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, strings.TrimSpace(string(out)))
	}
	return nil
}
