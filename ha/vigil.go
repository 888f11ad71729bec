package ha

import "time"

// A Vigil is what a guard knows when it decides about the node's watchdog, the
// device that resets the machine when nobody pets it for as long as its timeout.
//
// The story: the agent keeps the lease, the guard keeps the deadline, and who keeps
// the guard is the device. So the guard pets it, and only when its timeout would end
// before the lease that the page rests on could: whatever happens after that to
// agent, guard, or whoever is to be frozen and can not be (a process in an
// uninterruptible wait), the machine is gone before anybody else leads. A server that
// can not write needs no right: for a frozen one the device is petted, and where the
// guard has nothing to freeze it is disarmed.
type Vigil struct {
	Now     time.Duration
	Page    Page          // as it can be read; zero: it says closed, or nothing
	Safe    bool          // the server can not write now: it does not run, every process of it is stopped, or it is a standby
	Might   bool          // it was let write by a page before this one, and was not seen to end since
	Armed   bool          // the device counts
	Timeout time.Duration // after which it fires
	Spare   time.Duration // how much later than the page's deadline it may: less than the margin before the end of the lease
}

// A Care is what is done about a watchdog.
type Care int

// What is done. A device that is not petted goes on counting.
const (
	Rest Care = iota
	Arm
	Pet
	Disarm
)

func (c Care) String() string { return [...]string{"nothing", "arm", "pet", "disarm"}[c] }

// early is how much before the last moment a device is petted that may not be later.
const early = 10 * time.Millisecond

// Judge says what to do now, and when to look again at the latest (0: whenever).
func (v Vigil) Judge() (Care, time.Duration) {
	primary := v.Page.Primary
	if !primary && !v.Might || primary && v.Page.Deadline == forever { // nothing is fenced under maintenance
		if v.Armed {
			return Disarm, 0
		}
		return Rest, 0
	}
	last := v.Page.Deadline + v.Spare - v.Timeout
	if !v.Safe && (!primary || v.Now > last) {
		return Rest, 0
	}
	again := time.Duration(0)
	if next := last - early; !v.Safe && v.Now < next {
		again = next
	}
	if v.Armed {
		return Pet, again
	}
	return Arm, again
}
