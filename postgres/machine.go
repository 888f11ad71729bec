package postgres

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"

	"howdah/postgres/conf"
)

// Machine looks at this machine: its processors, its memory, and the file
// system that holds dir or will.
func Machine(dir string) (conf.Machine, error) {
	m := conf.Machine{CPU: runtime.NumCPU()}
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return m, err
	}
	for line := range bytes.Lines(text) {
		fields := bytes.Fields(line)
		if len(fields) >= 2 && string(fields[0]) == "MemTotal:" {
			kb, err := strconv.Atoi(string(fields[1]))
			if err != nil {
				return m, fmt.Errorf("/proc/meminfo: %w", err)
			}
			m.MemoryMB = (kb + 1023) / 1024
		}
	}
	var fs unix.Statfs_t
	for err = unix.Statfs(dir, &fs); err == unix.ENOENT && dir != filepath.Dir(dir); err = unix.Statfs(dir, &fs) {
		dir = filepath.Dir(dir)
	}
	if err != nil {
		return m, fmt.Errorf("file system of %s: %w", dir, err)
	}
	m.DiskSize = int64(fs.Blocks) * fs.Bsize
	return m, nil
}

// HasLibrary says whether the server whose programs are in bin can load a
// library by that name.
func HasLibrary(bin, name string) bool {
	// Debian keeps both below one directory, others have lib/postgresql beside bin.
	for _, dir := range []string{"lib", "lib/postgresql", "lib64", "lib64/postgresql"} {
		if _, err := os.Stat(filepath.Join(filepath.Dir(bin), dir, name+".so")); err == nil {
			return true
		}
	}
	return false
}
