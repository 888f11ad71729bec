package ha

import (
	"cmp"
	"maps"
	"slices"

	"howdah/cluster"
)

// Listed is the list of who may take over, as this leader put it over the one of
// revision Over: for as long as that one stands, it may or may not come to be.
type Listed struct {
	Open  bool
	Over  int64
	Names []string // of all that were put over it
}

// list keeps the list of those who may take over where no pledges are needed, under
// Patroni's key.
//
// The story: a leader that lost the store asks all whom it knows for their word. Who
// joined after it last saw the store is asked by nobody; but it may see the store,
// and it streamed from that leader until its key went: it could be elected while
// the leader goes on. So who is not on the list stands for no election (unlisted), and
// the leader asks all who are on it, or may come to be by what it has put itself.
func (t *turn) list() {
	c, m := &t.State.Config, &t.m.Listed
	if !t.leading() || t.Stopping || t.State.Unknown(cluster.KeyConfig) || c.Data == nil || t.anew() {
		return
	}
	at := t.State.FailsafeAt
	if m.Open && m.Over != at {
		*m = Listed{} // what was put over an older one comes to nothing any more
	}
	if !c.FailsafeMode() {
		if at != 0 && !t.quiet() {
			t.do(Drop{Key: cluster.KeyFailsafe, Over: at, Guard: t.m.Right.Epoch})
		}
		return
	}
	want := cluster.Failsafe{}
	for _, name := range t.State.Names() {
		member, _ := t.State.Member(name)
		want[name] = cmp.Or(member.APIURL, t.State.Failsafe[name])
	}
	if len(want) == 0 || maps.Equal(want, t.State.Failsafe) && !m.Open {
		return
	}
	if t.quiet() {
		t.wakeBy(t.Now + soon)
		return
	}
	names := slices.Concat(m.Names, t.State.Names())
	slices.Sort(names)
	*m = Listed{Open: true, Over: at, Names: slices.Compact(names)}
	t.put(cluster.KeyFailsafe, want.Encode(), at)
}

// eligible are all who may be on the list.
func (t *turn) eligible() []string {
	names := slices.Concat(t.State.Names(), slices.Sorted(maps.Keys(t.State.Failsafe)))
	if t.m.Listed.Open {
		names = append(names, t.m.Listed.Names...)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// unlisted says that the last leader kept a list, and the member is not on it. One
// that is Patroni's own never has our word, and need not keep it.
func (t *turn) unlisted(member string) bool {
	_, listed := t.State.Failsafe[member]
	return len(t.State.Failsafe) > 0 && !listed && t.State.Ours(t.lastLeader())
}
