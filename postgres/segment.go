package postgres

import (
	"encoding/binary"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

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
	if head, err := unix.SysvShmAttach(f.id, 0, unix.SHM_RDONLY); err == nil {
		releaseDynamic(head)
		_ = unix.SysvShmDetach(head)
	}
	_, _ = unix.SysvShmCtl(f.id, unix.IPC_RMID, nil)
}

// What pg_shmem.h and dsm.c say of the two, from 14 on.
const (
	headMagic    = 679834894 // PGShmemMagic
	headControl  = 24        // PGShmemHeader.dsm_control
	controlMagic = 0x9a503d32
	controlItems = 16 // dsm_control_header.item
	controlItem  = 40 // sizeof(dsm_control_item): its handle and its count of references come first
	mostItems    = 1 << 20
)

// releaseDynamic removes the segments of dynamic shared memory that a killed server left
// in memory: the next start in its directory would, told by the head of its System V segment
// (dsm_cleanup_using_control_segment), which is gone by then. A megabyte or more each time.
func releaseDynamic(head []byte) {
	if len(head) < headControl+4 || binary.NativeEndian.Uint32(head) != headMagic {
		return
	}
	path := func(handle uint32) string { return "/dev/shm/PostgreSQL." + strconv.FormatUint(uint64(handle), 10) }
	control := path(binary.NativeEndian.Uint32(head[headControl:]))
	text, err := os.ReadFile(control)
	if err != nil || len(text) < controlItems || binary.NativeEndian.Uint32(text) != controlMagic {
		return
	}
	items := int(min(binary.NativeEndian.Uint32(text[4:]), mostItems))
	for i := range items {
		at := controlItems + i*controlItem
		if at+8 > len(text) {
			break
		}
		if handle, uses := binary.NativeEndian.Uint32(text[at:]), binary.NativeEndian.Uint32(text[at+4:]); uses > 0 {
			_ = os.Remove(path(handle))
		}
	}
	_ = os.Remove(control)
}
