// Package vip decides whether this node's interface has the cluster's virtual
// address.
//
// It has it for exactly as long as the node's right to lead is provable, by the
// lease page: taken when a right begins and nobody else answers for the address,
// announced several times and again while it is held, and dropped when the right
// ends, whatever else goes on. Taking is slower than dropping on purpose: who
// takes asks the network first, and its kernel answers for a holder whose
// processes are frozen.
//
// Each hold is lent by the kernel for a few seconds at most, and prolonged: an
// address whose holder was killed with all who guard it goes by itself.
//
// Decide is a pure function; package hold looks, and does what it says. Frames
// of ARP (RFC 826, RFC 5227) and neighbour discovery (RFC 4861) are made and
// read here, from bytes to bytes.
package vip

import (
	"fmt"
	"strings"
	"time"

	"howdah/problem"
)

// A Right is what the lease page grants.
type Right struct {
	Open  bool          // this node leads, for certain
	Epoch int64         // of the leader key
	Until time.Duration // boot clock; over from then on
}

// Facts are what one decision rests on.
type Facts struct {
	Now      time.Duration // boot clock
	Right    Right
	Link     bool          // the interface is there and up
	On       bool          // the address is on it
	Rival    MAC           // who else last said that the address is its own
	RivalAt  time.Duration // boot clock when that was heard; 0: never
	Stopping bool          // we were asked to end
	Memory   Memory
}

// Memory is what is carried from one decision to the next.
type Memory struct {
	Probes   int           // sent in this attempt to take the address
	Began    time.Duration // when the first of them was sent
	Probed   time.Duration // when the last of them was sent
	Wanted   time.Duration // since when the address should be ours and is not; 0: it is, or should not be
	Held     time.Duration // since when it is on; 0: it is not
	Lent     time.Duration // when the kernel was last told until when
	Said     int           // announcements made since
	SaidAt   time.Duration
	Answered time.Duration // the last claim of a rival that was answered
	Disputed time.Duration // when a rival was last heard while we held it
}

// An Act is one thing to do.
type Act struct {
	Do  Do
	For time.Duration // Lend: how long the kernel keeps it unless it is told again
}

// A Do is a kind of act.
type Do string

// What can be done.
const (
	Probe    Do = "probe"    // ask the network who has the address
	Lend     Do = "lend"     // have the kernel keep it on the interface for so long
	Announce Do = "announce" // tell the network that it is here
	Drop     Do = "drop"     // take it off the interface
)

// String is the act on one line.
func (a Act) String() string {
	if a.Do == Lend {
		return fmt.Sprintf("lend(%s)", a.For)
	}
	return string(a.Do)
}

// A Decision is what to do, why, and when to decide again at the latest.
type Decision struct {
	Acts   []Act
	Trail  []string
	Memory Memory
	Wake   time.Duration // boot clock
	// Problem is what a person has to know; without a code it is none.
	Problem problem.Error
}

// String prints trail and acts on one line.
func (d Decision) String() string {
	var acts []string
	for _, a := range d.Acts {
		acts = append(acts, string(a.Do))
	}
	if len(acts) == 0 {
		acts = []string{"nothing"}
	}
	return strings.Join(d.Trail, " ") + " -> " + strings.Join(acts, ", ")
}

const (
	// probes is how often the network is asked before the address is taken, and
	// patience how long each answer is waited for: a kernel in the same segment
	// answers in less than a millisecond, whatever its processes do.
	probes   = 3
	patience = 10 * time.Millisecond
	// While another answers it is asked again: often, because a predecessor that
	// is alive drops it within milliseconds, then now and then.
	hurry      = time.Second
	retry      = 10 * time.Millisecond
	retryLater = time.Second
	// lent is the longest that the kernel keeps an address by itself; it counts
	// whole seconds.
	lent    = 10 * time.Second
	prolong = time.Second
	// backstop is the pause between looks when nothing is expected: a change is told.
	backstop = 5 * time.Second
	// slowly is the pause between announcements in the long run; the first ones
	// follow each other by burst, since single ones are lost while switches learn.
	slowly = 30 * time.Second
	// disputed is how long a rival's claim is a problem.
	disputed = time.Minute
	// answer is the pause between answers to a rival who does not give in (RFC 5227,
	// DEFEND_INTERVAL is ten seconds; a leader whose right is proven may ask for more).
	answer = time.Second
)

// burst are the pauses before the first announcements.
var burst = []time.Duration{0, 50 * time.Millisecond, 200 * time.Millisecond, 750 * time.Millisecond, 2 * time.Second, 5 * time.Second}

// Decide says what to do about f.
func Decide(f Facts) Decision {
	d := Decision{Memory: f.Memory, Wake: f.Now + backstop}
	m := &d.Memory
	note := func(s string) { d.Trail = append(d.Trail, s) }
	do := func(a Act) { d.Acts = append(d.Acts, a) }
	wake := func(at time.Duration) { d.Wake = min(d.Wake, max(at, f.Now)) }

	live := f.Right.Open && f.Now < f.Right.Until
	switch {
	case f.Stopping:
		note("stopping")
	case live:
		note("right=live")
	case f.Right.Open:
		note("right=over")
	default:
		note("right=none")
	}
	if f.On {
		note("address=on")
	}
	if !live || f.Stopping {
		*m = Memory{}
		if f.On {
			do(Act{Do: Drop})
		}
		return d
	}
	wake(f.Right.Until)
	if !f.Link {
		*m = Memory{Wanted: m.Wanted}
		since(&m.Wanted, f.Now)
		note("link=none")
		wake(f.Now + time.Second)
		return d
	}
	if !f.On {
		m.Held, m.Lent, m.Said, m.SaidAt = 0, 0, 0, 0
		since(&m.Wanted, f.Now)
		ask := func() {
			if m.Probes == 0 {
				m.Began = f.Now
			}
			m.Probes++
			m.Probed = f.Now
			do(Act{Do: Probe})
			wake(f.Now + patience)
		}
		if m.Probes > 0 && f.RivalAt >= m.Began && f.RivalAt > 0 {
			note("rival=" + f.Rival.String())
			again := retry
			if f.Now-m.Wanted > hurry {
				again = retryLater
				d.Problem = taken(f.Rival)
			}
			if at := f.RivalAt + again; f.Now < at {
				wake(at)
				return d
			}
			m.Probes = 0
			ask()
			return d
		}
		switch {
		case m.Probes > 0 && f.Now < m.Probed+patience:
			note("probed")
			wake(m.Probed + patience)
		case m.Probes < probes:
			ask()
		default:
			note("free")
			m.Probes, m.Wanted, m.Held, m.Lent, m.Said, m.SaidAt = 0, 0, f.Now, f.Now, 1, f.Now
			do(Act{Do: Lend, For: loan(f)})
			do(Act{Do: Announce})
			wake(f.Now + prolong)
			wake(f.Now + burst[1])
		}
		return d
	}

	// It is on, and is to stay.
	m.Probes, m.Wanted = 0, 0
	since(&m.Held, f.Now)
	if m.Lent == 0 || f.Now >= m.Lent+prolong {
		m.Lent = f.Now
		do(Act{Do: Lend, For: loan(f)})
	}
	wake(m.Lent + prolong)
	if f.RivalAt > m.Held && f.RivalAt > m.Answered && f.Now >= m.Answered+answer {
		// The next in turn, or one that took it although we have the right: whoever
		// listens to both is told where the leader is.
		m.Answered, m.Disputed = f.Now, f.RivalAt
		m.Said, m.SaidAt = max(m.Said, 1), f.Now
		do(Act{Do: Announce})
	}
	if m.Disputed > 0 && f.Now < m.Disputed+disputed {
		note("rival=" + f.Rival.String())
		d.Problem = disputedBy(f.Rival)
		wake(m.Disputed + disputed)
	}
	if m.Said == 0 || f.Now >= m.SaidAt+pause(m.Said) {
		m.Said, m.SaidAt = m.Said+1, f.Now
		do(Act{Do: Announce})
	}
	wake(m.SaidAt + pause(m.Said))
	return d
}

// pause is how long after so many announcements the next one follows.
func pause(said int) time.Duration {
	if said < len(burst) {
		return burst[said]
	}
	return slowly
}

func since(at *time.Duration, now time.Duration) {
	if *at == 0 {
		*at = now
	}
}

// loan is how long the kernel may keep the address by itself: whole seconds,
// and not beyond the right unless less than one is left of it.
func loan(f Facts) time.Duration {
	return max(time.Second, min(lent, f.Right.Until-f.Now).Truncate(time.Second))
}

func taken(by MAC) problem.Error {
	return problem.Error{
		Code: "vip-taken", What: "cannot take the cluster's virtual address",
		Why: "the machine with the hardware address " + by.String() + " answers for it, and is not to lead",
		Do:  "find that machine (a switch or `ip neigh` knows it) and take the address off it, or give the cluster another in pg_vip_address; it is taken as soon as nobody answers",
	}
}

func disputedBy(by MAC) problem.Error {
	return problem.Error{
		Code: "vip-disputed", What: "another machine uses the cluster's virtual address",
		Why: "the hardware address " + by.String() + " claimed it while this node, which leads, has it",
		Do:  "find that machine (a switch or `ip neigh` knows it) and take the address off it; until then clients may reach either",
	}
}
