// Package lease is the lease page: 64 bytes in tmpfs that say until when this
// node's PostgreSQL may answer as primary.
//
// The agent alone writes it; the guard in the supervisor and the local gateway
// read it. A page that is missing, torn, of another version or of another boot
// reads as closed. Times are on CLOCK_BOOTTIME, which runs while the machine
// sleeps. The sequence moves on as long as the agent's loop turns, whether or not
// there is something to write: by that the guard sees an agent that hangs.
//
// The page is eight words in the machine's byte order (it never leaves the
// machine):
//
//	byte  0 +----------------------------------+
//	        | sequence: odd while being written|
//	      8 +----------------+-----------------+
//	        | magic "HDLP"   | version 1       |
//	     16 +----------------+-----------------+
//	        | boot id, the 16 bytes of          |
//	        | /proc/sys/kernel/random/boot_id   |
//	     32 +----------------------------------+
//	        | deadline, ns of the boot clock   |
//	     40 +----------------------------------+
//	        | epoch                            |
//	     48 +----------------+-----------------+
//	        | role           | 0               |
//	     56 +----------------+-----------------+
//	        | CRC-64 (ECMA) of bytes 0 to 55   |
//	     64 +----------------------------------+
//
// Reader and writer map the same file. The sequence lets a reader notice that
// it looked while the page changed, and look again; the checksum covers a
// writer that died half way and bytes that never were a page.
package lease

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc64"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A Role is what the node's PostgreSQL may be.
type Role uint32

// Roles. The zero value is closed: nothing may be answered.
const (
	Closed Role = iota
	Replica
	Primary
)

// String names the role.
func (r Role) String() string {
	switch r {
	case Closed:
		return "closed"
	case Replica:
		return "replica"
	case Primary:
		return "primary"
	}
	return fmt.Sprintf("role(%d)", uint32(r))
}

// A Page is what the agent last wrote.
type Page struct {
	Role     Role
	Epoch    int64         // of the leader key this right comes from
	Deadline time.Duration // boot clock; a primary past it must not answer
}

// Open reports whether a primary may answer at now.
func (p Page) Open(now time.Duration) bool { return p.Role == Primary && now < p.Deadline }

// Now reads the boot clock.
func Now() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		// Every kernel since 2.6.39 has this clock; without it nothing here is true.
		panic("lease: CLOCK_BOOTTIME: " + err.Error())
	}
	return time.Duration(ts.Nano())
}

const (
	size    = 64
	words   = size / 8
	magic   = 0x504c4448 // "HDLP"
	version = 1
)

// image is a page as words; the checksum is the last one.
type image [words]uint64

var table = crc64.MakeTable(crc64.ECMA)

func (m *image) sum() uint64 {
	var b [size - 8]byte
	for i, w := range m[:words-1] {
		binary.NativeEndian.PutUint64(b[i*8:], w)
	}
	return crc64.Checksum(b[:], table)
}

// encode gives the image of p under an even sequence.
func encode(p Page, sequence uint64, boot [2]uint64) (m image) {
	m[0] = sequence
	m[1] = magic | version<<32
	m[2], m[3] = boot[0], boot[1]
	m[4] = uint64(p.Deadline)
	m[5] = uint64(p.Epoch)
	m[6] = uint64(p.Role)
	m[7] = m.sum()
	return m
}

// decode is the inverse; anything doubtful is not a page.
func decode(m image, boot [2]uint64) (Page, bool) {
	if m[0]%2 != 0 || m[1] != magic|version<<32 || m[2] != boot[0] || m[3] != boot[1] || m[7] != m.sum() {
		return Page{}, false
	}
	p := Page{Role: Role(m[6]), Epoch: int64(m[5]), Deadline: time.Duration(m[4])}
	if m[6] > uint64(Primary) {
		return Page{}, false
	}
	return p, true
}

// BootID names this boot of the machine, for what is to end with it.
func BootID() (string, error) {
	id, err := bootID()
	return fmt.Sprintf("%016x%016x", id[0], id[1]), err
}

// bootID is the kernel's name for this boot.
var bootID = sync.OnceValues(func() ([2]uint64, error) {
	text, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return [2]uint64{}, fmt.Errorf("boot id: %w", err)
	}
	b, err := hex.DecodeString(strings.ReplaceAll(strings.TrimSpace(string(text)), "-", ""))
	if err != nil || len(b) != 16 {
		return [2]uint64{}, fmt.Errorf("boot id: %q is not one", text)
	}
	return [2]uint64{binary.NativeEndian.Uint64(b), binary.NativeEndian.Uint64(b[8:])}, nil
})
