package quorum

import (
	"cmp"
	"time"

	"howdah/cluster"
	"howdah/pg"
)

// A Position is where a log ends: flushed, not only received.
type Position struct {
	Timeline pg.Timeline
	LSN      pg.LSN
}

// Compare orders positions by how much of what was acknowledged they can hold.
// The later timeline comes first whatever its LSN: ids are reserved in the order
// of the epochs, whoever began the later one had everything that was acknowledged
// before, and what the earlier one holds beyond the fork never was.
func (p Position) Compare(o Position) int {
	return cmp.Or(cmp.Compare(p.Timeline, o.Timeline), cmp.Compare(p.LSN, o.LSN))
}

// A Refusal is on a member's disk: it takes no WAL from a leader of this epoch or
// of one before. It outlives crashes, and is only ever replaced by a later one.
type Refusal int64

// Allows says that the member may take WAL from the leader of epoch.
func (r Refusal) Allows(epoch int64) bool { return epoch > int64(r) }

// A Fence is what a voter has done before its pledge counts. The instants are of
// its own boot clock, zero for what was not done, and must be in this order.
type Fence struct {
	Member  string
	Refusal Refusal
	Durable time.Duration // the refusal was on disk, file and directory flushed
	// Cleared: primary_conninfo and restore_command were empty, and the old
	// upstream's credentials out of reach: a WAL receiver that was about to start
	// with what had been read before can not log in any more.
	Cleared time.Duration
	Gone    time.Duration // a look that began after Cleared had found no WAL receiver
	Read    time.Duration // the reading of At began
	At      Position
	// Whole: the data directory holds everything this member ever confirmed. One
	// that was copied anew does so only once it has streamed from the leader.
	Whole      bool
	NoFailover bool
}

// A Pledge is a voter's refusal and its position after it: what a candidate
// collects. There is none without the fence.
type Pledge struct {
	member     string
	epoch      int64
	at         Position
	nofailover bool
}

// Promise is the pledge that f stands for, or what is missing.
func Promise(f Fence) (p Pledge, missing string) {
	switch {
	case f.Member == "" || f.Refusal <= 0:
		return Pledge{}, "epoch"
	case f.Durable <= 0:
		return Pledge{}, "refusal on disk"
	case f.Cleared < f.Durable:
		return Pledge{}, "upstream cleared"
	case f.Gone < f.Cleared:
		return Pledge{}, "wal receiver gone"
	case f.Read < f.Gone || f.At.Timeline == 0 || f.At.LSN == 0:
		return Pledge{}, "position read after it"
	case !f.Whole:
		return Pledge{}, "whole data"
	}
	return Pledge{f.Member, int64(f.Refusal), f.At, f.NoFailover}, ""
}

// Stored is the pledge as it is put into the store.
func (p Pledge) Stored() cluster.Pledge {
	return cluster.Pledge{
		Member: p.member, Epoch: p.epoch, Timeline: p.at.Timeline, LSN: p.at.LSN, NoFailover: p.nofailover, Fenced: true,
	}
}

// Stored is a pledge as it was read from the store; false if it is only a
// position, as members of a cluster without synchronous mode publish it.
func Stored(p cluster.Pledge) (Pledge, bool) {
	if !p.Fenced || p.Member == "" || p.Epoch <= 0 || p.Timeline == 0 || p.LSN == 0 {
		return Pledge{}, false
	}
	return Pledge{p.Member, p.Epoch, Position{p.Timeline, p.LSN}, p.NoFailover}, true
}
