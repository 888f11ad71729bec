package ha

import (
	"fmt"
	"time"

	"howdah/cluster"
	"howdah/problem"
)

// The disk guard acts before the file system of a server's data or log is full, at two
// marks. A full one ends a primary with a PANIC, and it does not come up again before
// somebody makes room.
//
// At the first (low) a person is told, and the leader gives up what it keeps for members
// that are away: they come back by a copy. At the second (last) the leader hands over to
// a member that has room; where there is none, or it does not come to that, new
// transactions write nothing until there is room again. It is never demoted for want of
// space alone: a primary that can be read is better than none.
const (
	diskLow  = 1
	diskLast = 2
)

const (
	mib = 1 << 20
	gib = 1 << 30
)

// marks are the space at which they are reached. The looks are a second apart, so the last
// leaves more than is written in that time; a small file system has smaller ones.
func marks(size int64) (low, last int64) {
	last = min(max(size/100, 128*mib), size/10, 5*gib)
	low = min(max(size/20, 3*128*mib), size/5, 50*gib)
	return low, last
}

// Disk is how far the guard has gone.
type Disk struct {
	Mark  int           // reached, and not left since
	Asked time.Duration // when the leader last asked to be relieved; 0: it did not, in this plight
	Shut  bool          // nothing is written
}

// askAgain is how long a handover for want of space may take before nothing is written,
// and askLater after which another one is tried.
const (
	askAgain = 20 * time.Second
	askLater = 5 * time.Minute
)

// guarded says what a configuration has the guard do.
func (t *turn) guarded() string { return t.State.Config.Disk() }

// disk finds which mark is reached, and tells of it. A mark is left only well above it.
func (t *turn) disk() {
	m, s := &t.m.Disk, &t.Server
	if s.Size == 0 || t.guarded() == cluster.DiskOff {
		*m = Disk{}
		return
	}
	low, last := marks(s.Size)
	at := func(mark int, room int64) bool {
		if m.Mark >= mark {
			room += room / 4
		}
		return s.Free < room
	}
	switch {
	case at(diskLast, last):
		m.Mark = diskLast
	case at(diskLow, low):
		m.Mark = diskLow
	default:
		m.Mark = 0
	}
	switch {
	case m.Mark == 0 || s.Problem.Code == codeDiskFull:
	case m.Shut:
		t.problems = append(t.problems, problem.Error{
			Code: "disk-read-only", What: t.Self.Name + " takes no writes",
			Why: "its file system had less than " + size(last) + " free, and nobody who could take over has more: a full one would end the server",
			Do:  "free some space or enlarge it; above " + size(last+last/4) + " writes are taken again by themselves. Who has to write in order to free some: `SET default_transaction_read_only = off` in that session",
		})
	default:
		t.problems = append(t.problems, problem.Error{
			Code: "disk-low", What: "the disk of " + t.Self.Name + " is nearly full",
			Why: "the file system of its data, or of its log, had less than " + size(low) + " free",
			Do:  "free some space or enlarge it; never delete files in pg_wal. A primary below " + size(last) + " hands over to a member that has room, or takes no writes",
		})
	}
}

// size prints bytes as a person reads them.
func size(n int64) string {
	if n < gib {
		return fmt.Sprintf("%d MiB", n/mib)
	}
	return fmt.Sprintf("%.1f GiB", float64(n)/gib)
}

// tight says that the file systems of a member are nearly full, by its own word.
func (t *turn) tight(member string) bool {
	w, said := t.State.Why(member)
	for _, p := range w.Problems {
		switch p.Code {
		case "disk-low", "disk-read-only", codeDiskFull:
			return true
		}
	}
	return !said
}

// relieved is what a primary at the last mark does. It says whether that is work on the
// server.
func (t *turn) relieved() bool {
	m := &t.m.Disk
	shut := m.Shut
	switch {
	case m.Mark < diskLast || t.guarded() != cluster.DiskAct:
		m.Asked, m.Shut = 0, false
	case !t.State.Failover.Asked():
		t.pressed()
	}
	if m.Shut == shut {
		return false
	}
	t.m.SetAt = -1 // the parameters are others now
	return t.configure()
}

// pressed asks somebody who has room to take over, and closes to writes where nobody has.
func (t *turn) pressed() {
	m := &t.m.Disk
	if m.Asked == 0 || t.Now-m.Asked > askLater {
		if to := t.roomier(); to != "" {
			t.note("disk=last(%s has room)", to)
			if !t.quiet() {
				m.Asked = t.Now
				t.begin(cluster.KindSwitchover, t.Self.Name, "its disk is nearly full")
				t.put(cluster.KeyFailover, cluster.Failover{Leader: t.Self.Name, Member: to}.Encode(), t.State.Failover.Mod)
			}
			return
		}
	}
	if m.Asked != 0 && t.Now-m.Asked < askAgain {
		t.wakeBy(m.Asked + askAgain)
		return
	}
	t.note("disk=last")
	m.Shut = true
}

// opened forgets of a leader's plight: this node does not lead.
func (t *turn) opened() {
	if t.m.Disk.Shut {
		t.m.SetAt = -1
	}
	t.m.Disk.Asked, t.m.Disk.Shut = 0, false
}

// roomier is a member that could take over at once, and has room; "" is none.
func (t *turn) roomier() string {
	for i := range t.State.Members {
		m := &t.State.Members[i]
		if m.Name == t.Self.Name || m.Tags.NoFailover() || t.tight(m.Name) {
			continue
		}
		if t.State.Sync.Active() && !t.State.Sync.Has(m.Name) {
			continue
		}
		if r, _ := t.candidate(cluster.Failover{Leader: t.Self.Name, Member: m.Name}); r.Name == m.Name {
			return m.Name
		}
	}
	return ""
}
