// Package lease is the lease page: 64 bytes in tmpfs that say until when this
// node's PostgreSQL may answer as primary.
//
// The agent alone writes it; the guard in the supervisor and the local gateway
// read it. A page that is missing, torn, of another version or of another boot
// reads as closed. Times are on CLOCK_BOOTTIME, which runs while the machine
// sleeps.
package lease

import "time"

// A Role is what the node's PostgreSQL may be.
type Role uint32

// Roles. The zero value is closed: nothing may be answered.
const (
	Closed Role = iota
	Replica
	Primary
)

// A Page is what the agent last wrote.
type Page struct {
	Role     Role
	Epoch    int64         // of the leader key this right comes from
	Deadline time.Duration // boot clock; a primary past it must not answer
}
