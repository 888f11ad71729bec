package node

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"howdah/access/vip/hold"
	"howdah/lease"
	"howdah/logkey"
	"howdah/node/process"
	"howdah/postgres"
	"howdah/spec"
)

// A Guard freezes the node's PostgreSQL at its deadline, whether or not the
// agent lives. It trusts the lease page and nothing else. An agent whose loop stands
// still it ends, while there is time for another to take up the lease.
type Guard struct {
	Page string // path of the lease page
	Data string // PostgreSQL's data directory
	Note string // where it remembers what it froze
	Log  *slog.Logger
	// Answering are the local ports whose late answers are dropped while it is frozen.
	Answering []int
	// VIP goes from the interface when the right ends, as its role would have it go.
	VIP spec.VIP
	// Vigil is the watchdog; nil: there is none.
	Vigil *vigil
	// Pulse is how an agent that hangs is ended; nil: it is left alone.
	Pulse *pulse

	bare   bool          // the address was taken off since the page last gave a right
	unsent time.Duration // when connections were last looked at
	unable string        // why they could not be ended, as it was last said
	stuck  string        // why the address could not be taken off, as it was last said
}

// Run guards until ctx ends.
func (g *Guard) Run(ctx context.Context) error {
	// A thread of its own: its priority is nobody else's, and it sleeps on the
	// boot clock, which Go's timers do not follow.
	runtime.LockOSThread()
	g.rise()

	m := g.recall()
	var seen process.ID
	said := ""
	for ctx.Err() == nil {
		began := lease.Now()
		f, beat := g.look(m)
		if f.Server != seen {
			if seen = f.Server; seen.PID != 0 {
				// Backends set themselves back to 0 (PG_OOM_ADJUST_FILE).
				process.SetOOM(seen, oomPostmaster)
			}
		}
		v := judge(f)
		err := g.perform(v, f)
		if err != nil {
			g.Log.Error("guard could not act", logkey.Trail, v.Trail, logkey.Action, v.Do.String(), logkey.Error, err)
			v.Memory.Froze = v.Do == thaw // not done: the next look decides again
			v.Again = f.Now + frozenLook
		}
		if text := v.String(); text != said && (v.Do != rest || v.Memory.Froze || m.Froze) {
			g.Log.Warn("guard", logkey.Trail, v.Trail, logkey.Action, v.Do.String(),
				logkey.Epoch, v.Memory.Right.Epoch, "past_deadline", f.Now-v.Memory.Right.Deadline, logkey.Took, lease.Now()-f.Now)
			said = text
		}
		if v.Memory.Froze && f.Now-g.unsent >= unsentLook {
			g.unsent = f.Now
			g.drop()
		}
		m = v.Memory
		again := g.clear(f, v.Again)
		if m.Froze && v.Do == rest {
			again = max(again, spared(began, lease.Now()))
		}
		again = g.watch(f, m, again)
		again = g.listen(f.Now, beat, again)
		sleepUntil(again)
	}
	g.retire()
	return nil
}

// frozenMost is how late at most the guard sees that its server may go on.
const frozenMost = 250 * time.Millisecond

// spared is when to look again at a server that stays frozen, after a look from
// began to ended. Each goes through all processes of the machine, with a priority
// above theirs: it may take a tenth of a core.
func spared(began, ended time.Duration) time.Duration {
	return ended + min(9*(ended-began), frozenMost)
}

// look gathers the facts. The costly one, a scan of all processes, is made
// only when the postmaster is seen stopped or gone. beat moves on with the agent.
func (g *Guard) look(m memory) (f facts, beat uint64) {
	f.Memory = m
	f.Page, beat, f.Valid = lease.Look(g.Page) // anew each time: a deleted page is no page
	f.Server, _ = postmaster(g.Data)
	if f.Server.PID == 0 && (m.Right.Role == lease.Primary || f.asPrimary()) {
		// A backend may outlive its postmaster, and finish a commit.
		f.Server = orphaned(g.Data, m.Server)
	}
	if f.Server.PID != 0 {
		f.Standby = standby(g.Data)
		if st, ok := process.Look(f.Server.PID); !ok || st.Frozen() {
			f.Frozen = postgres.Frozen(g.Data)
		}
	}
	f.Now = lease.Now() // last: a right must not look younger than it is
	return f, beat
}

func (g *Guard) perform(v verdict, f facts) error {
	switch v.Do {
	case freeze:
		err := postgres.Freeze(g.Data) // before the note: nothing is as urgent
		if !f.Memory.Froze {
			g.remember(v.Memory)
		}
		return err
	case thaw:
		if err := postgres.Thaw(g.Data); err != nil {
			return err
		}
		g.remember(memory{})
	case forget:
		g.remember(memory{})
	}
	return nil
}

// clear takes the virtual address away when the right is over, whether or not its
// role lives; what a supervisor before us left is taken away by the first look. It
// returns when the guard must look again: no later than the right ends.
func (g *Guard) clear(f facts, again time.Duration) time.Duration {
	if g.VIP.Address == "" {
		return again
	}
	if f.Valid && f.Page.Open(f.Now) {
		g.bare = false
		return min(again, f.Page.Deadline)
	}
	if !g.bare {
		if err := hold.Clear(g.VIP); err != nil {
			if g.stuck != err.Error() {
				g.stuck = err.Error()
				g.Log.Error("virtual address not removed", logkey.Error, err)
			}
			return again
		}
		g.bare, g.stuck = true, ""
	}
	return again
}

// drop drops what the frozen server said and nobody has heard. Where that can not
// be done, it is said once.
func (g *Guard) drop() {
	if len(g.Answering) == 0 {
		return
	}
	n, err := dropUnsent(g.Answering...)
	if n > 0 {
		g.Log.Warn("answers that no client had confirmed were dropped", "connections", n)
	}
	if err != nil && err.Error() != g.unable {
		g.unable = err.Error()
		g.Log.Warn("answers that no client has confirmed may be heard late", logkey.Error, err)
	}
}

// remember leaves a note for the next guard; none means nothing is frozen.
func (g *Guard) remember(m memory) {
	if !m.Froze {
		os.Remove(g.Note)
		return
	}
	b, err := json.Marshal(m)
	if err != nil {
		return
	}
	aside, err := os.CreateTemp(filepath.Dir(g.Note), ".guard-")
	if err != nil {
		g.Log.Warn("guard's note not written", logkey.Error, err)
		return
	}
	defer os.Remove(aside.Name())
	defer aside.Close()
	if _, err := aside.Write(b); err != nil {
		g.Log.Warn("guard's note not written", logkey.Error, err)
		return
	}
	os.Rename(aside.Name(), g.Note)
}

func (g *Guard) recall() (m memory) {
	b, err := os.ReadFile(g.Note)
	if err != nil || json.Unmarshal(b, &m) != nil {
		return memory{}
	}
	return m
}

// rise asks for what keeps the guard punctual on a busy machine: real-time
// priority or else a better nice value for this thread, and memory that is not
// paged out. Each needs a privilege and is done without when there is none.
func (g *Guard) rise() {
	tid := unix.Gettid()
	if err := unix.SchedSetAttr(tid, &unix.SchedAttr{
		Size: unix.SizeofSchedAttr, Policy: unix.SCHED_RR, Priority: 1,
		Flags: unix.SCHED_FLAG_RESET_ON_FORK, // threads and roles that start from here do not inherit it
	}, 0); err != nil {
		if err := unix.Setpriority(unix.PRIO_PROCESS, tid, -10); err != nil {
			g.Log.Debug("guard runs at normal priority", logkey.Error, err)
		}
	}
	if os.Geteuid() == 0 {
		// Pages that were touched stay; without ONFAULT the whole of Go's
		// address space would be filled.
		if err := unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT); err != nil {
			g.Log.Debug("guard's memory is not locked", logkey.Error, err)
		}
	}
}

// sleepUntil sleeps until t on the boot clock.
func sleepUntil(t time.Duration) {
	ts := unix.NsecToTimespec(int64(t))
	for unix.ClockNanosleep(unix.CLOCK_BOOTTIME, unix.TIMER_ABSTIME, &ts, nil) == unix.EINTR {
	}
}
