package ha

import (
	"strings"
	"time"

	"howdah/cluster"
	"howdah/pg"
)

// Shown is what an agent knows after a turn, for those who ask it instead of
// the store. Nothing in it is a promise beyond Until.
type Shown struct {
	At    time.Duration // boot clock of the turn
	Wall  time.Time
	Next  time.Duration // boot clock of the next turn at the latest
	Known bool          // the store was read at least once
	State cluster.State
	Heard time.Duration // boot clock when the last request was sent that the store answered; 0: none was

	Server pg.Status
	Member cluster.Member // this member as it would publish itself now
	Job    string         // work on the server under way: "clone", "start", or ""

	Epoch     int64         // of the leader key, while it is certainly ours
	Until     time.Duration // boot clock when that certainty ends; 0 without it
	By        []string      // the store confirms it no more: whose word it rests on
	Unwatched bool          // its watchdog is required, and missing
	Given     Grant         // this member's own word, while it is kept
	Disk      Guard         // what the disk guard goes by, and how far it has gone
}

// A Guard is that of the disk: at which mark it is (0, 1 or 2), how many bytes are free at
// each, and whether it has closed the server to writes.
type Guard struct {
	Mark      int
	Low, Last int64
	Shut      bool
}

// Leads says that the leader key was certainly this node's at now.
func (s Shown) Leads(now time.Duration) bool { return s.Epoch > 0 && now < s.Until }

// Show is what the agent that decided d about v can tell.
func Show(v View, d Decision) Shown {
	t := turn{View: v, m: d.Memory}
	s := Shown{
		At: v.Now, Wall: v.Wall, Next: min(d.Wake, d.Look), Known: v.Known, State: v.State, Heard: d.Memory.Lease.heard(),
		Server: v.Server, Member: t.self(), Epoch: d.Memory.Right.Epoch, Until: t.deadline(),
	}
	if by := d.Memory.Right.By; by != "" {
		s.By = strings.Split(by, "\n")
	}
	if v.Grant.Until > v.Now && v.Grant.Epoch >= v.State.Epoch() {
		s.Given = v.Grant
	}
	s.Unwatched = t.unwatched()
	if v.Server.Size > 0 {
		s.Disk = Guard{Mark: d.Memory.Disk.Mark, Shut: d.Memory.Disk.Shut}
		s.Disk.Low, s.Disk.Last = marks(v.Server.Size)
	}
	if v.Job.Action != nil {
		s.Job = firstWord(v.Job.Action.String())
	}
	return s
}
