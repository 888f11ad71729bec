package quorum

import (
	"fmt"
	"math/bits"
	"slices"
	"testing"

	"howdah/pg"
)

// A reading is how one WAL sender has read synchronous_standby_names.
type reading struct {
	first bool
	num   int
	list  []int // standbys, in order
}

func (r reading) names() Names {
	n := Names{First: r.first, Num: r.num}
	for _, i := range r.list {
		n.List = append(n.List, member(i))
	}
	return n
}

// priority is SyncRepGetStandbyPriority.
func (r reading) priority(standby int) int {
	at := slices.Index(r.list, standby) + 1
	if at > 0 && !r.first {
		return 1
	}
	return at
}

// releases is how far the WAL sender of standby me releases commits when its
// standby has confirmed something: SyncRepReleaseWaiters and
// SyncRepGetCandidateStandbys of PostgreSQL 15, where every sender publishes its
// priority by its own reading, and me decides by its own. Senders of equal
// priority may be sorted in any order: tie turns it round.
func releases(read []reading, streams []bool, flushed []int, me int, tie bool) int {
	if read[me].priority(me) == 0 || !streams[me] {
		return 0
	}
	var candidates []int
	for i := range read {
		if streams[i] && read[i].priority(i) > 0 {
			candidates = append(candidates, i)
		}
	}
	if read[me].first && len(candidates) > read[me].num {
		if tie {
			slices.Reverse(candidates)
		}
		slices.SortStableFunc(candidates, func(a, b int) int { return read[a].priority(a) - read[b].priority(b) })
		candidates = candidates[:read[me].num]
	}
	if !slices.Contains(candidates, me) || len(candidates) < read[me].num {
		return 0
	}
	var at []int
	for _, i := range candidates {
		at = append(at, flushed[i])
	}
	slices.Sort(at)
	if read[me].first {
		return at[0]
	}
	return at[len(at)-read[me].num]
}

// readings are the settings over n standbys, in both methods, in two orders.
func readings(n int) []reading {
	var all []reading
	for m := 1; m < 1<<n; m++ {
		var list []int
		for i := range n {
			if m>>i&1 != 0 {
				list = append(list, i)
			}
		}
		turned := slices.Clone(list)
		slices.Reverse(turned)
		for num := 1; num <= len(list); num++ {
			all = append(all, reading{false, num, list}, reading{true, num, list})
			if len(list) > 1 {
				all = append(all, reading{true, num, turned})
			}
		}
	}
	return all
}

// Whatever WAL senders have read of two settings, nothing is released that
// Loosen of both does not allow. And Patroni's order, the setting first and then
// /sync, is not enough: what both allow alone, a mixture goes below.
func TestMixture(t *testing.T) {
	const n = 3
	below := 0
	for _, a := range readings(n) {
		for _, b := range readings(n) {
			loose := Loosen(a.names(), b.names())
			of := mask(loose.List)
			for mix := range 1 << n {
				read := make([]reading, n)
				for i := range read {
					read[i] = a
					if mix>>i&1 != 0 {
						read[i] = b
					}
				}
				for streaming := range 1 << n {
					for has := range 1 << n {
						streams, flushed := make([]bool, n), make([]int, n)
						for i := range n {
							streams[i], flushed[i] = streaming>>i&1 != 0, has>>i&1
						}
						for me := range n {
							if releases(read, streams, flushed, me, false) == 0 && releases(read, streams, flushed, me, true) == 0 {
								continue
							}
							if bits.OnesCount8(uint8(has)&of) < loose.Num {
								t.Fatalf("%s and %s: sender %d of %v releases what %b have, less than %s", a.names(), b.names(), me, read, has, loose)
							}
							allowed := func(r reading) bool {
								return bits.OnesCount8(uint8(has)&mask(r.names().List)) >= r.num
							}
							if !allowed(a) && !allowed(b) {
								below++
							}
						}
					}
				}
			}
		}
	}
	if below == 0 {
		t.Error("no mixture is looser than both settings: then there is nothing to cover")
	}
	t.Logf("%d mixtures release what neither setting allows", below)
}

// A server is a primary whose WAL senders are about to read a new setting. Each
// goes round its loop (WalSndLoop): read the setting if told to, look at what the
// standby says and release commits, send. They were told before the first probe
// began, but the look that each is at may be its last with the old setting.
type server struct {
	log     int // entries written
	acked   int
	sender  [3]sender
	memory  uint8 // of the brain: 0 nothing, 1 loaded, 2 proven
	probe   int   // where the last probe ends; 0: none
	of      uint8 // memory that probe was begun with
	settled bool
}

type sender struct {
	read  bool // the new setting
	looks bool // in the part of the loop after reading
	sent  int
	flush int // of the standby
	known int // as it last said
}

// Next is told what pg_stat_replication shows, whenever it looks, and must take
// the new setting for the rule only when no sender can release by the old one,
// and when enough of those who count have all that was acknowledged. One probe
// is not enough for that.
func TestProof(t *testing.T) {
	const n = 2
	oneProbe := ""
	for _, old := range readings(n) {
		for _, now := range readings(n) {
			if old.first || now.first || Loosen(old.names(), now.names()).Same(now.names()) {
				continue // there is nothing to prove where the new setting is the looser
			}
			if why := proof(n, old, now, false); why != "" {
				t.Error(why)
			}
			if why := proof(n, old, now, true); why != "" {
				oneProbe = why
			}
		}
	}
	if oneProbe == "" {
		t.Error("one probe would do")
	}
	t.Log("with one probe: ", oneProbe)
}

// proof tries all that n senders can do on the way from one setting to another,
// and says what went wrong.
func proof(n int, old, now reading, oneProbe bool) string {
	const entries = 3
	seen := map[server]bool{}
	var queue []server
	push := func(s server) {
		if !seen[s] {
			seen[s] = true
			queue = append(queue, s)
		}
	}
	for looks := range 1 << n { // any of them may be in its last round
		var s server
		for i := range n {
			s.sender[i].looks = looks>>i&1 != 0
		}
		push(s)
	}
	proven := 0
	of := mask(now.names().List)
	for len(queue) > 0 {
		s := queue[len(queue)-1]
		queue = queue[:len(queue)-1]
		if s.memory == 2 && !s.settled {
			proven++
			has := 0
			for i, x := range s.sender {
				if of>>i&1 != 0 && x.flush >= s.acked {
					has++
				}
			}
			if has < now.num {
				return fmt.Sprintf("%s to %s: taken for proven when %d of those who count have what was acknowledged: %+v", old.names(), now.names(), has, s)
			}
			s.settled = true
			push(s)
			continue
		}
		if s.log < entries {
			next := s
			next.log++
			push(next)
		}
		if s.log > 0 && s.memory < 2 && (s.probe == 0 || s.of < s.memory) {
			next := s // a probe is a commit like any other
			next.log = min(s.log+1, entries)
			next.probe, next.of = next.log, s.memory
			if next.log > s.log {
				push(next)
			}
		}
		for i := range n {
			x := s.sender[i]
			next := s
			to := &next.sender[i]
			if x.looks {
				// What the standby says is heard, commits are released, the rest is sent.
				to.known, to.looks = x.flush, false
				read, known, streams := make([]reading, n), make([]int, n), make([]bool, n)
				for j, y := range next.sender[:n] {
					known[j], streams[j] = y.known, true
					if read[j] = old; y.read {
						read[j] = now
					}
				}
				upto := releases(read, streams, known, i, false)
				if upto > s.acked && s.memory == 2 {
					count := 0
					for j := range known {
						if of>>j&1 != 0 && known[j] >= upto {
							count++
						}
					}
					if count < now.num {
						return fmt.Sprintf("%s to %s: after the proof, entry %d is acknowledged with %d: %+v", old.names(), now.names(), upto, count, s)
					}
				}
				next.acked = max(s.acked, upto)
				to.sent = s.log
				push(next)
			} else {
				to.looks, to.read = true, true
				push(next)
			}
			if x.flush < x.sent {
				next := s
				next.sender[i].flush++
				push(next)
			}
		}
		if s.probe > 0 && s.memory < 2 {
			v := View{Probe: Probe{Number: int64(s.of) + 2, Names: now.names().String(), LSN: pg.LSN(s.probe), Done: s.acked >= s.probe}}
			v.Memory = Memory{Rule: Loosen(old.names(), now.names()), Written: now.names(), Seen: 1, Loaded: s.memory == 1}
			if s.memory == 1 {
				v.Memory.Seen = 2
			}
			for i, x := range s.sender[:n] {
				read := old
				if x.read {
					read = now
				}
				v.Senders = append(v.Senders, Sender{member(i), true, read.priority(i), pg.LSN(x.known)})
			}
			d := Decision{Memory: v.Memory}
			d.prove(v)
			next := s
			switch {
			case d.Memory.Rule.Same(now.names()):
				next.memory = 2
			case d.Memory.Loaded && oneProbe:
				next.memory = 2
			case d.Memory.Loaded:
				next.memory = 1
			}
			push(next)
		}
	}
	if proven == 0 {
		return fmt.Sprintf("%s to %s: never proven in %d states", old.names(), now.names(), len(seen))
	}
	return ""
}
