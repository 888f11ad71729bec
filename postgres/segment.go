package postgres

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// releaseSegment frees the System V segment that a killed postmaster left: 56
// bytes that PostgreSQL keeps only to see whether anybody uses the directory
// (src/backend/port/sysv_shmem.c). The next start there frees it, but a
// directory that is deleted or moved leaves it for ever, and Linux has room for
// 4,096 of them (kernel.shmmni), after which no server of the machine starts.
// The caller has verified that nothing holds the data directory.
func releaseSegment(data string) {
	text, err := os.ReadFile(filepath.Join(data, "postmaster.pid"))
	if err != nil {
		return
	}
	lines := strings.Split(string(text), "\n")
	if len(lines) < 7 {
		return
	}
	// Line 7 holds key and id (LOCK_FILE_LINE_SHMEM_KEY of src/include/utils/pidfile.h).
	key, id, ok := strings.Cut(strings.TrimSpace(lines[6]), " ")
	if !ok {
		return
	}
	wanted, err := strconv.ParseUint(key, 10, 32)
	if err != nil {
		return
	}
	segment, err := strconv.Atoi(strings.TrimSpace(id))
	if err != nil {
		return
	}
	var d unix.SysvShmDesc
	if _, err := unix.SysvShmCtl(segment, unix.IPC_STAT, &d); err != nil || uint32(d.Perm.Key) != uint32(wanted) || d.Nattch > 0 {
		return // freed already, and its id somebody else's, or in use
	}
	_, _ = unix.SysvShmCtl(segment, unix.IPC_RMID, nil)
}
