package process

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Settle gives back what only the start of this program needed of it. All roles
// are one program, and each runs at its start what every package has to set up,
// its own or not: so the kernel maps 20 to 30 MB of the file into the process, of
// which a role at rest needs 2. What is needed again comes back from the page
// cache, where it stays as long as there is memory.
//
// Only pages of the program itself are let go, and none that can be written to:
// nothing is lost. It is for processes that are not locked in memory.
func Settle() error {
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return err
	}
	f, err := os.Open("/proc/self/maps")
	if err != nil {
		return err
	}
	defer f.Close()
	all, err := constant(f, exe)
	if err != nil {
		return err
	}
	for _, m := range all {
		// Not through unix.Madvise: that wants a slice, and this is no memory of Go's.
		if _, _, e := unix.Syscall(unix.SYS_MADVISE, m.from, m.to-m.from, unix.MADV_DONTNEED); e != 0 {
			return fmt.Errorf("madvise %x-%x: %w", m.from, m.to, e)
		}
	}
	return nil
}

// A mapping is a range of addresses.
type mapping struct{ from, to uintptr }

// constant are the mappings of the file exe that can not be written to, of what
// /proc/PID/maps says.
func constant(maps io.Reader, exe string) ([]mapping, error) {
	var all []mapping
	lines := bufio.NewScanner(maps)
	for lines.Scan() {
		fields := strings.Fields(lines.Text()) // range, rights, offset, device, inode, path
		if len(fields) < 6 || strings.Join(fields[5:], " ") != exe || strings.Contains(fields[1], "w") {
			continue
		}
		var m mapping
		if _, err := fmt.Sscanf(fields[0], "%x-%x", &m.from, &m.to); err != nil {
			return nil, fmt.Errorf("mapping %q: %w", fields[0], err)
		}
		all = append(all, m)
	}
	return all, lines.Err()
}
