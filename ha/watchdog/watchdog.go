// Package watchdog is the hand on a watchdog device, which resets the machine when
// nobody pets it in time. It never decides when to: package ha does, and the guard asks.
//
// The interface is Linux's (Documentation/watchdog/watchdog-api.rst): to open the
// device is to arm it, 'V' before it is closed disarms it, and closed without that it
// goes on counting. A socket in a device's place speaks to whoever plays one: lines
// "arm SECONDS", "pet" and "V", of which the first is answered by "ok".
package watchdog

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A Device is one watchdog. It is for one goroutine.
type Device struct {
	Path string
	Mock bool // only a socket is opened
	open driver
}

// A driver is a device that is open, and counts.
type driver interface {
	Set(timeout time.Duration) error
	Pet() error
	Disarm() error // and closes
	Close() error  // and leaves it counting
}

// Armed says that it counts, as far as we armed it.
func (d *Device) Armed() bool { return d.open != nil }

// Arm opens the device and has it fire after timeout, unless it is petted.
func (d *Device) Arm(timeout time.Duration) error {
	st, err := d.stat()
	if err != nil {
		return err
	}
	var dev driver
	if st.Mode()&fs.ModeSocket != 0 {
		dev, err = dial(d.Path)
	} else {
		dev, err = openLinux(d.Path)
	}
	if err != nil {
		return err
	}
	if err := dev.Set(timeout); err != nil {
		return errors.Join(err, dev.Disarm())
	}
	d.open = dev
	return nil
}

// Pet has it count from the beginning.
func (d *Device) Pet() error { return d.open.Pet() }

// Disarm ends the counting.
func (d *Device) Disarm() error {
	dev := d.open
	d.open = nil
	return dev.Disarm()
}

// Leave closes the device, which goes on counting.
func (d *Device) Leave() error {
	dev := d.open
	d.open = nil
	return dev.Close()
}

// Look says why the device could not be armed. It does not open it: that would arm it.
func (d *Device) Look() error {
	st, err := d.stat()
	if err != nil {
		return err
	}
	if err := unix.Access(d.Path, unix.W_OK); err != nil {
		return fmt.Errorf("%s can not be written to: %w", d.Path, err)
	}
	if st.Mode()&fs.ModeSocket == 0 && stays(st) {
		return fmt.Errorf("%s could not be disarmed: its driver was loaded with nowayout", d.Path)
	}
	return nil
}

func (d *Device) stat() (os.FileInfo, error) {
	st, err := os.Stat(d.Path)
	if err != nil {
		return nil, err
	}
	socket := st.Mode()&fs.ModeSocket != 0
	switch {
	case d.Mock && !socket:
		return nil, fmt.Errorf("%s is not a socket, and a playground opens no other watchdog", d.Path)
	case !socket && st.Mode()&fs.ModeCharDevice == 0:
		return nil, fmt.Errorf("%s is not a device", d.Path)
	}
	return st, nil
}

// stays says that closing it does not disarm it, whatever is written before.
func stays(st os.FileInfo) bool {
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		return false
	}
	major, minor := unix.Major(sys.Rdev), unix.Minor(sys.Rdev)
	dir := fmt.Sprintf("/sys/dev/char/%d:%d", major, minor)
	if major == 10 && minor == 130 { // /dev/watchdog, which is the first one
		dir = "/sys/class/watchdog/watchdog0"
	}
	text, err := os.ReadFile(dir + "/nowayout")
	return err == nil && strings.TrimSpace(string(text)) == "1"
}

// linux is a device of the kernel.
type linux struct{ file *os.File }

func openLinux(path string) (driver, error) {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		if errors.Is(err, unix.EBUSY) {
			err = errors.New("another program has it open (systemd with RuntimeWatchdogSec, a watchdog daemon, or another server of this machine)")
		}
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return linux{os.NewFile(uintptr(fd), path)}, nil
}

func (l linux) fd() int { return int(l.file.Fd()) }

func (l linux) Set(timeout time.Duration) error {
	want := int(timeout / time.Second)
	if err := unix.IoctlSetPointerInt(l.fd(), unix.WDIOC_SETTIMEOUT, want); err != nil {
		return fmt.Errorf("set the timeout of %s to %s: %w", l.file.Name(), timeout, err)
	}
	got, err := unix.IoctlGetInt(l.fd(), unix.WDIOC_GETTIMEOUT)
	if err != nil {
		return fmt.Errorf("read the timeout of %s: %w", l.file.Name(), err)
	}
	if got > want {
		return fmt.Errorf("%s fires after %d s at the least, and %s is asked for", l.file.Name(), got, timeout)
	}
	return l.Pet()
}

func (l linux) Pet() error {
	if _, err := l.file.Write([]byte{'p'}); err != nil { // a write pets every driver, WDIOC_KEEPALIVE not
		return fmt.Errorf("pet %s: %w", l.file.Name(), err)
	}
	return nil
}

func (l linux) Disarm() error {
	_, err := l.file.Write([]byte{'V'})
	return errors.Join(err, l.file.Close())
}

func (l linux) Close() error { return l.file.Close() }

// mock is somebody at the other end of a socket.
type mock struct{ conn net.Conn }

// patience is how long who plays a device may take: the guard waits for it.
const patience = 100 * time.Millisecond

func dial(path string) (driver, error) {
	conn, err := net.DialTimeout("unix", path, patience)
	if err != nil {
		return nil, err
	}
	return mock{conn}, nil
}

func (m mock) say(text string) error {
	m.conn.SetDeadline(time.Now().Add(patience))
	_, err := m.conn.Write([]byte(text + "\n"))
	return err
}

func (m mock) Set(timeout time.Duration) error {
	if err := m.say(fmt.Sprintf("arm %d", timeout/time.Second)); err != nil {
		return err
	}
	answer := make([]byte, 3)
	if _, err := m.conn.Read(answer); err != nil {
		return err
	}
	if string(answer) != "ok\n" {
		return fmt.Errorf("%q in answer to arm", answer)
	}
	return nil
}

func (m mock) Pet() error { return m.say("pet") }

func (m mock) Disarm() error { return errors.Join(m.say("V"), m.conn.Close()) }

func (m mock) Close() error { return m.conn.Close() }
