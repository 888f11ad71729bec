package postgres

import "golang.org/x/sys/unix"

// releaseSegment frees the System V segment that a killed postmaster left: 56
// bytes that PostgreSQL keeps only to see whether anybody uses the directory
// (src/backend/port/sysv_shmem.c). The next start there frees it, but a
// directory that is deleted or moved leaves it for ever, and Linux has room for
// 4,096 of them (kernel.shmmni), after which no server of the machine starts.
// The caller has verified that nothing holds the data directory.
func releaseSegment(data string) {
	f, ok := readPIDFile(data)
	if !ok || f.key == 0 {
		return
	}
	var d unix.SysvShmDesc
	if _, err := unix.SysvShmCtl(f.id, unix.IPC_STAT, &d); err != nil || uint32(d.Perm.Key) != f.key || d.Nattch > 0 {
		return // freed already, and its id somebody else's, or in use
	}
	_, _ = unix.SysvShmCtl(f.id, unix.IPC_RMID, nil)
}
