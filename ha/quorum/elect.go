package quorum

import (
	"cmp"
	"fmt"
	"slices"

	"howdah/cluster"
	"howdah/pg"
)

// A Ballot is everything that a candidate's next act may rest on. All of it but
// the pledges is from one linearizable read of the store.
type Ballot struct {
	Self   string
	Mode   string // cluster.SyncOn or SyncQuorum
	Epoch  int64  // that is to end: the revision of the term
	Leader string // of that epoch
	// Timeline is what that leader was to lead; nobody has a later one by right.
	Timeline pg.Timeline
	// Lineage is the ancestry of Timeline; nil where it is not known.
	Lineage  pg.History
	Sync     cluster.Sync
	Pledges  []Pledge
	Priority map[string]int // tag failover_priority, by name
	Whole    bool           // this node's data is whole, as in Fence …
	At       Position       // … and ends here
}

// A Choice is what a candidate should do, nil if nothing, how many go before it,
// and what led there.
type Choice struct {
	Act   Act
	Rank  int // 0: the first; others stand in for those before them, after a while
	Trail []string
}

// An Act of a candidate: a plain value that compares with ==.
type Act interface{ String() string }

// The acts.
type (
	// Ask asks these voters for pledges, of which More are needed.
	Ask struct {
		Voters string // separated by commas
		More   int
	}
	// Fetch streams what is missing from a pledged voter, up to At; then this
	// node's own pledge is to be made again.
	Fetch struct {
		From string
		At   Position
	}
	// Take takes the leader key, in one transaction: if the term is still of
	// revision Epoch and /sync of revision Over, put key, term and Sync. Before it
	// promotes, the server is told Names, and Begin is on disk.
	Take struct {
		Epoch int64
		Over  int64
		Sync  string // cluster.Sync.Encode
		Names string
	}
)

func (a Ask) String() string { return fmt.Sprintf("ask(%s, %d more)", a.Voters, a.More) }
func (a Fetch) String() string {
	return fmt.Sprintf("fetch(%s up to %s on %s)", a.From, a.At.LSN, a.At.Timeline)
}
func (a Take) String() string { return fmt.Sprintf("take(epoch %d, sync %d)", a.Epoch, a.Over) }

// Begin is the memory with which a leader begins that took the key so.
func (a Take) Begin() Memory {
	n, _ := ParseNames(a.Names)
	return Memory{Written: n, Rule: n}
}

func (c *Choice) note(format string, args ...any) {
	c.Trail = append(c.Trail, fmt.Sprintf(format, args...))
}

// Elect is what Self should do to be promoted.
//
// It needs pledges of quorum+1 of the voters that /sync records, its own among
// them. Whoever did not pledge is then too few to acknowledge anything for the
// old leader, and at least one who did has each commit that was acknowledged; so
// the candidate must hold the most advanced position pledged. The old leader
// itself has everything, and needs nobody (DESIGN.md, "Promotion").
func Elect(b Ballot) (c Choice) {
	switch v := voters(b.Sync); {
	case !b.Sync.Active():
		c.note("sync=none")
	case fold(b.Sync.Leader) != fold(b.Leader):
		// Both are put in one transaction, except by those who know no pledges.
		c.note("sync=of-%s epoch=of-%s", b.Sync.Leader, b.Leader)
	case !b.Whole:
		c.note("data=copied") // whatever it has pledged before: that was another's data
	case fold(b.Self) == fold(b.Leader):
		c.note("last-leader=self")
		c.take(b)
	case len(v) == 0:
		c.note("voters=none(only %s)", b.Sync.Leader)
	case !v.has(b.Self):
		c.note("candidate=no(voter)")
	default:
		c.count(b, v)
	}
	return c
}

// count counts the pledges, and goes by what they say.
func (c *Choice) count(b Ballot, v set) {
	var counted []Pledge
	missing := slices.Clone(v)
	for _, p := range b.Pledges {
		self := fold(p.member) == fold(b.Self)
		switch {
		case p.epoch != b.Epoch || !missing.has(p.member):
		case self && b.At.Compare(p.at) < 0:
			c.note("data=behind-pledge(%s)", p.at.LSN)
		case b.foreign(p.at.Timeline):
			c.note("pledge=foreign(%s on %s)", p.member, p.at.Timeline)
		default:
			counted = append(counted, p)
			missing = missing.without(p.member)
		}
	}
	need := b.Sync.Quorum + 1
	c.note("pledged=%d/%d", len(counted), need)
	if len(counted) < need || missing.has(b.Self) {
		c.Act = Ask{missing.String(), max(need-len(counted), 1)}
		return
	}
	priority := func(p Pledge) int {
		if n, ok := b.Priority[p.member]; ok {
			return n
		}
		return 1
	}
	slices.SortFunc(counted, func(x, y Pledge) int {
		return cmp.Or(y.at.Compare(x.at), cmp.Compare(priority(y), priority(x)), cmp.Compare(fold(x.member), fold(y.member)))
	})
	best := counted[0]
	c.note("best=%s(%s on %s)", best.member, best.at.LSN, best.at.Timeline)
	for _, p := range counted {
		switch {
		case p.nofailover && fold(p.member) == fold(b.Self):
			c.note("candidate=no(nofailover)")
			return
		case p.nofailover:
		case fold(p.member) != fold(b.Self):
			c.Rank++
		case b.At.Compare(best.at) < 0:
			c.note("behind=%s", b.At.LSN)
			c.Act = Fetch{best.member, best.at}
			return
		default:
			c.take(b)
			return
		}
	}
}

// foreign says that nobody who led this cluster can have been on timeline t.
func (b Ballot) foreign(t pg.Timeline) bool {
	if t == b.Timeline || b.Lineage == nil {
		return t > b.Timeline
	}
	_, ok := b.Lineage.Left(t)
	return !ok
}

func (c *Choice) take(b Ballot) {
	s, names := Succeed(b.Sync, b.Self)
	names.First = names.First || b.Mode == cluster.SyncOn
	c.Act = Take{b.Epoch, b.Sync.Mod, s.Encode(), names.String()}
}
