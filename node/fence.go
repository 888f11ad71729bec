package node

import (
	"strconv"
	"strings"
	"time"

	"howdah/lease"
	"howdah/node/process"
)

// facts are what one decision of the guard rests on.
type facts struct {
	Now     time.Duration // boot clock
	Page    lease.Page
	Valid   bool       // there is a page to believe
	Server  process.ID // the postmaster of this node's data directory; zero: none
	Standby bool       // its directory holds standby.signal: it cannot write
	Frozen  bool       // every process of the server is stopped
	Memory  memory
}

// asPrimary says that the page lets the server answer as a primary, or did.
func (f facts) asPrimary() bool { return f.Valid && f.Page.Role == lease.Primary }

// safe says that the server can not write now.
func (f facts) safe() bool {
	return f.Server == (process.ID{}) || f.Frozen || f.Standby && !f.asPrimary()
}

// memory is what the guard carries from one look to the next. It is on disk
// (in tmpfs) while a server is frozen, so that the next guard can thaw it.
type memory struct {
	Server process.ID // whom the rest is about
	Right  lease.Page // the last page that let it answer as primary; closed: none did
	Froze  bool       // we froze it, while Right was its right
}

// A deed is what the guard does about its facts.
type deed int

const (
	rest deed = iota
	freeze
	thaw
	forget // that it was frozen: the agent has let it go on
)

func (d deed) String() string { return [...]string{"nothing", "freeze", "thaw", "forget"}[d] }

// verdict is a decision: what to do, what to remember, when to look again at
// the latest, and the trail that led there.
type verdict struct {
	Do     deed
	Memory memory
	Again  time.Duration // boot clock
	Trail  string
}

func (v verdict) String() string { return v.Trail + " -> " + v.Do.String() }

// How long the guard may not look at the page. A right is always longer than
// glance, so that none begins and ends unseen: nothing that writes begins with
// less than a second of it (ha: room), and the end of maintenance gives one
// request's time (ha: maintained). A look costs half a millisecond of CPU, and so
// does falling asleep (the runtime watches a thread in a system call for 10 ms),
// which an idle node should not spend more often than it must. A frozen server is
// watched closely, because every look is time its clients wait.
const (
	glance      = 450 * time.Millisecond
	frozenLook  = 10 * time.Millisecond
	promoteLook = 20 * time.Millisecond
)

// judge says whether the server must be frozen or may go on.
//
// The page of a primary is believed until its deadline, and its right is
// remembered: a page that says closed, or cannot be read, takes nothing back
// from a server that still runs and could write. It is frozen at its deadline
// in the first case (the agent closed the page and may have died before it
// stopped the server) and at once in the second. A server that started after
// its page was closed is somebody else's decision; so is one that the page
// calls a replica, and one that cannot write because it is a standby.
//
// What we froze goes on when the page grants the same epoch again: the key was
// never lost. Any other page, written by an agent that lives, means that the
// agent decides: it kills, or it thaws because it knows that it took the key
// over its own last epoch.
func judge(f facts) (v verdict) {
	var trail []string
	note := func(s string) { trail = append(trail, s) }
	defer func() { v.Trail = strings.Join(trail, " ") }()

	v.Memory, v.Again = f.Memory, f.Now+glance
	m := &v.Memory
	if f.Server == (process.ID{}) {
		note("server=none")
		*m = memory{}
		return v
	}
	if m.Server != f.Server {
		*m = memory{Server: f.Server}
	}
	role := "invalid"
	if f.Valid {
		role = f.Page.Role.String()
	}
	note("page=" + role)
	if f.Valid {
		switch f.Page.Role {
		case lease.Replica:
			if !m.Froze {
				m.Right = lease.Page{}
			}
		case lease.Primary:
			if !m.Froze {
				if f.Frozen && !f.Page.Open(f.Now) {
					// A guard before us froze it and left no note.
					note("found=frozen")
					m.Froze = true
				}
				m.Right = f.Page
			}
		}
	}
	if m.Right.Role != lease.Primary {
		note("right=none")
		return v
	}
	note("epoch=" + strconv.FormatInt(m.Right.Epoch, 10))
	if m.Froze {
		v.Again = f.Now + frozenLook
		switch {
		case f.Valid && f.Page.Open(f.Now) && f.Page.Epoch == m.Right.Epoch:
			note("right=renewed")
			m.Right, m.Froze = f.Page, false
			v.Do = thaw
			v.Again = min(f.Now+glance, f.Page.Deadline)
			return v
		case f.Valid && f.Page.Open(f.Now) && !f.Frozen:
			note("right=new thawed=by-agent")
			m.Right, m.Froze = f.Page, false
			v.Do = forget
			v.Again = min(f.Now+glance, f.Page.Deadline)
			return v
		case f.Valid && f.Page.Role != lease.Primary, f.Valid && f.Page.Open(f.Now):
			note("right=over agent=decides")
			return v
		case f.Frozen:
			note("frozen=by-us")
			return v
		}
		note("frozen=no")
		v.Do = freeze
		return v
	}
	if f.Standby && !f.asPrimary() {
		note("standby=yes")
		v.Again = f.Now + promoteLook
		return v
	}
	if f.Valid && f.Now < m.Right.Deadline {
		note("right=live")
		v.Again = min(v.Again, m.Right.Deadline)
		return v
	}
	note("right=over")
	m.Froze = true
	v.Do = freeze
	v.Again = f.Now + frozenLook
	return v
}
