package ha

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"howdah/cluster"
	"howdah/ha/quorum"
)

// A Grant is the word of this member that nobody takes over from the leader of Epoch
// with its help before Until, by its own boot clock. It outlives the agent.
type Grant struct {
	Epoch int64
	Until time.Duration
	For   time.Duration
}

// Rebooted is the word as it stands after the machine was started anew: nobody knows
// for how long it was off, so it is kept for all of its time again.
func (g Grant) Rebooted() Grant {
	g.Until = g.For
	return g
}

// A Plea is what a leader asks of the others when the store confirms nothing any more.
// That of a real Patroni names neither an epoch nor for how long.
type Plea struct {
	Name  string
	Epoch int64 // 0: Patroni's
	For   time.Duration
}

// patronis is for how much longer than its ttl a real Patroni leads by a word: it counts
// from when it has heard everybody, each of whom it asks twice, for two seconds at most.
const patronis = 5 * time.Second

// A Round is who gave that word to this leader. For counts from Sent, before
// the first of them was asked.
type Round struct {
	Epoch   int64
	Sent    time.Duration
	For     time.Duration
	Granted []string
}

// retryAppeal is the pause after a round that was not enough.
const retryAppeal = 250 * time.Millisecond

// appeal is a leader's whom the store confirms nothing any more.
//
// The story: etcd is gone, or this node is cut off from it. Without a word from it the
// right to lead ends with the lease, although nobody else can do anything either. So
// the leader asks the others for their word that they will not take over for the
// length of a lease: everybody who could be elected, or, where a promotion needs
// pledges, so many voters that the rest are too few; who is alone asks nobody. The right
// then counts from before they were asked, as it does for a renewal, and each keeps its
// word by its own clock from when it gave it: for longer than it is relied on. Who sees
// the store gives no word: there the key decides. A right that has ended does not come
// back this way.
func (t *turn) appeal() {
	r := t.m.Right
	c := &t.State.Config
	if !t.leading() || !t.Known || t.Stopping || t.maintained() || t.anew() || !t.writes() || t.private() || c.Data == nil || !c.FailsafeMode() {
		return
	}
	at := max(r.Sent+(r.TTL-t.Timers.Margin)/2, t.m.Appealed+retryAppeal)
	if t.Now < at {
		t.wakeBy(at)
		return
	}
	names, _, sure := t.electors()
	t.note("store=silent")
	switch {
	case !sure || t.RoundBusy:
	case len(names) == 0:
		t.m.Right.Sent, t.m.Right.By = t.Now, t.Self.Name
	default:
		t.m.Appealed = t.Now
		t.do(Appeal{Epoch: r.Epoch, For: r.TTL, To: strings.Join(names, "\n")})
	}
}

// electors are those who could take over, and how many of them have to give their word
// for the rest to be too few. It may be that this can not be said.
func (t *turn) electors() (names []string, need int, sure bool) {
	s := t.State.Sync
	switch {
	case t.State.Unknown(cluster.KeySync):
		return nil, 0, false
	case t.promised():
		if m := t.m.Sync; m.Open && m.Over == s.Mod || s.Leader != t.Self.Name {
			return nil, 0, false // a change that is on its way may have counted others
		}
		for _, name := range s.Standby {
			if name != t.Self.Name {
				names = append(names, name)
			}
		}
		if len(names) > 0 {
			return names, max(len(s.Standby)-s.Quorum, 1), true
		}
		// Nobody else is elected, but a person who sees the store may name somebody.
	}
	if len(t.State.Failsafe) == 0 {
		return nil, 0, false // somebody whom nobody here knows of could take over
	}
	for _, name := range t.eligible() {
		if name != t.Self.Name {
			names = append(names, name)
		}
	}
	return names, len(names), true
}

// rounded counts the right from the last round, if enough gave their word while it lasted.
func (t *turn) rounded() {
	o, r := t.Round, &t.m.Right
	if o == nil || o.Epoch != r.Epoch || o.Sent <= r.Sent || !t.leading() {
		return
	}
	names, need, sure := t.electors()
	names = slices.DeleteFunc(names, func(name string) bool {
		return !slices.ContainsFunc(o.Granted, func(g string) bool { return strings.EqualFold(g, name) })
	})
	t.note("granted=%d/%d", len(names), need)
	if sure && need > 0 && len(names) >= need {
		r.Sent, r.TTL, r.By = o.Sent, min(r.TTL, o.For), strings.Join(names, "\n")
	}
}

// given says that this member has given its word to who led last, and keeps it.
func (t *turn) given() bool {
	if t.Grant.Until <= t.Now || t.Grant.Epoch < t.State.Epoch() {
		return false
	}
	t.note("given=%d", t.Grant.Epoch)
	t.wakeBy(t.Grant.Until)
	return true
}

// Agree says whether the member of this view, after that decision, may give its
// word, or why not.
func Agree(v *View, d *Decision, p Plea) (Grant, error) {
	m, s := &d.Memory, &v.State
	l := s.Leader
	theirs := p.Epoch == 0
	if theirs && l != nil {
		p.Epoch, p.For = l.Mod, s.Config.TTL()+patronis
	}
	switch {
	case !v.Known || s.Term == nil && !theirs || v.ServerAt == 0:
		return Grant{}, errors.New("the store or the server was not seen yet")
	case theirs && s.Ours(p.Name):
		return Grant{}, errors.New("members of ours ask at " + cluster.WordPath)
	case l == nil || s.LeaderName() != p.Name || l.Mod != p.Epoch || !theirs && s.Term.Mod != p.Epoch:
		return Grant{}, fmt.Errorf("epoch %d of %s is not the last that was heard of", p.Epoch, p.Name)
	case p.Name == v.Self.Name || m.Right.Epoch != 0 || m.Promoting || v.Server.MayWrite() && v.Server.PID != 0:
		return Grant{}, errors.New("running as a leader")
	case m.Vacancy.Open || s.Handover != nil && s.Handover.Epoch == p.Epoch && s.Handover.To == v.Self.Name:
		return Grant{}, errors.New("about to take over")
	case v.Server.Refused >= p.Epoch || m.Fence.Refusal >= quorum.Refusal(p.Epoch):
		return Grant{}, fmt.Errorf("pledged against epoch %d", p.Epoch)
	case p.For <= 0 || p.For > longestGrant:
		return Grant{}, fmt.Errorf("for %s", p.For)
	}
	if pledge, ok := s.Pledge(v.Self.Name); ok && pledge.Epoch >= p.Epoch {
		return Grant{}, fmt.Errorf("pledged against epoch %d", p.Epoch)
	}
	if _, fence := v.Job.Action.(Fence); fence {
		return Grant{}, fmt.Errorf("about to refuse epoch %d", p.Epoch)
	}
	return Grant{Epoch: p.Epoch, Until: v.Now + p.For, For: p.For}, nil
}

// longestGrant bounds what is asked for.
const longestGrant = 5 * time.Minute
