package quorum

import (
	"cmp"
	"slices"

	"howdah/cluster"
	"howdah/pg"
)

// A Wish is what people configured.
type Wish struct {
	Mode   string // cluster.SyncOff, SyncOn or SyncQuorum (synchronous_mode)
	Strict bool   // rather wait than acknowledge alone (synchronous_mode_strict)
	// Count is how many must acknowledge (synchronous_node_count); 0: half of the
	// data nodes, rounded down, the leader being one of them (Half).
	Count int
	// MaxLag is how many bytes a standby may be behind and still be counted on
	// (maximum_lag_on_syncnode); 0 or less: any.
	MaxLag int64
}

// A Standby is a recorded member, but the leader, as the leader sees it.
type Standby struct {
	Name       string // its application_name
	NoSync     bool   // tags nosync, nostream, replicatefrom: it is never counted on
	Priority   int    // tag sync_priority; who is first in mode on
	NoFailover bool
	Streaming  bool // from this leader, within its beats, in state streaming
	Flushed    pg.LSN
	Lag        int64 // bytes behind the leader's own flushed position
}

// Half is how many acknowledgements a cluster of so many data nodes waits for by
// itself: with it a majority of the nodes has every commit, and as many may be
// lost as leave one of them (3→1, 4→2, 5→2).
func Half(nodes int) int { return nodes / 2 }

// Aim is the setting to be had, given what is wished and who is there. now is
// the present one: a strict cluster in which nobody streams keeps it, and waits.
func Aim(w Wish, standbys []Standby, now Names) Names {
	if w.Mode == cluster.SyncOff {
		return Names{}
	}
	var there []Standby
	nodes := 1
	for _, s := range standbys {
		if s.NoSync {
			continue
		}
		nodes++
		if s.Streaming && (w.MaxLag <= 0 || s.Lag <= w.MaxLag) {
			there = append(there, s)
		}
	}
	count := w.Count
	if count == 0 {
		count = Half(nodes)
	}
	if w.Strict {
		count = max(count, 1)
	}
	count = min(count, len(there))
	switch {
	case count == 0 && !w.Strict:
		return Names{}
	case count == 0 && (now.Async() || now.Wild()):
		return Nobody()
	case count == 0:
		return now
	}
	if w.Mode == cluster.SyncOn {
		was := now.set()
		slices.SortFunc(there, func(a, b Standby) int {
			return cmp.Or(
				cmp.Compare(b.Priority, a.Priority),
				compareBool(a.NoFailover, b.NoFailover),
				compareBool(!was.has(a.Name), !was.has(b.Name)), // no change without need
				cmp.Compare(b.Flushed, a.Flushed),
				cmp.Compare(a.Name, b.Name),
			)
		})
		there = there[:count]
	}
	names := make([]string, len(there))
	for i, s := range there {
		names[i] = s.Name
	}
	aim := Any(count, names...)
	aim.First = w.Mode == cluster.SyncOn
	return aim
}

// compareBool puts false before true.
func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}
