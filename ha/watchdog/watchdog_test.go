package watchdog

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A socket in the device's place hears what a device would be told.
func TestMock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dog")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	heard := make(chan string, 9)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			for lines := bufio.NewScanner(conn); lines.Scan(); {
				heard <- lines.Text()
				if strings.HasPrefix(lines.Text(), "arm") {
					fmt.Fprintln(conn, "ok")
				}
			}
			heard <- "closed"
		}
	}()
	d := &Device{Path: path, Mock: true}
	if err := d.Look(); err != nil {
		t.Fatal(err)
	}
	if d.Armed() {
		t.Fatal("a device that was only looked at is armed")
	}
	for _, end := range []func() error{d.Disarm, d.Leave} {
		if err := d.Arm(2 * time.Second); err != nil {
			t.Fatal(err)
		}
		if err := d.Pet(); err != nil || !d.Armed() {
			t.Fatalf("petted: %v, armed %v", err, d.Armed())
		}
		if err := end(); err != nil || d.Armed() {
			t.Fatalf("ended: %v, armed %v", err, d.Armed())
		}
	}
	for _, want := range []string{"arm 2", "pet", "V", "closed", "arm 2", "pet", "closed"} {
		select {
		case got := <-heard:
			if got != want {
				t.Fatalf("it heard %q, want %q", got, want)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("it did not hear %q", want)
		}
	}
}

// A playground opens no device, whatever it is told to: the machine is the person's.
func TestAPlaygroundOpensNoDevice(t *testing.T) {
	d := &Device{Path: "/dev/null", Mock: true}
	for _, err := range []error{d.Look(), d.Arm(time.Second)} {
		if err == nil || !strings.Contains(err.Error(), "a playground opens no other watchdog") || d.Armed() {
			t.Errorf("%v, armed %v", err, d.Armed())
		}
	}
}

func TestWhatIsNoDevice(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{"/dev/null": "set the timeout of /dev/null", file: "is not a device", file + "none": "no such file"} {
		d := &Device{Path: path}
		if err := d.Arm(time.Second); err == nil || !strings.Contains(err.Error(), want) || d.Armed() {
			t.Errorf("%s: %v, armed %v; want %q", path, err, d.Armed(), want)
		}
	}
}
