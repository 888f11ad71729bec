package quorum

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"howdah/cluster"
	"howdah/pg"
)

// A View is everything that one step may rest on, as the leader sees it.
type View struct {
	Self string
	Mode string // cluster.SyncOff, SyncOn or SyncQuorum
	Want Names  // what Aim says
	Own  Names  // what a person wants the setting to be while the mode is off

	Sync cluster.Sync // the newest seen; its Mod is 0 where there is none
	// Shown is the setting as the server's files have it, read when no Set was
	// under way; nil: not read. Somebody else may have changed it.
	Shown   *Names
	Probe   Probe
	Senders []Sender

	Memory Memory
}

// Memory is what one step leaves to the next. It must be on disk before the Set
// that comes with it begins: an agent that lost it has the zero Memory, by which
// nobody but this leader may be promoted until everything was set and proven
// again. An agent that starts goes on from what is there by Resume.
type Memory struct {
	Written Names // what synchronous_standby_names was last told, whether or not it took
	Rule    Names // the loosest rule by which a commit may be acknowledged at this moment
	Seen    int64 // the last probe that was begun before what has to be proven now
	Loaded  bool  // probe Seen showed that every WAL sender has read Written
	Open    bool  // a Publish over the revision Over was begun, and none later has been seen
	Over    int64
}

// Resume is the memory of an agent that starts under a leader's server which runs
// already, when it has first read /sync: its predecessor may have begun a
// Publish that is on its way still.
func Resume(disk Memory, s cluster.Sync) Memory {
	disk.Open, disk.Over = true, s.Mod
	return disk
}

// Encode is the memory as text, for the file that it is kept in.
func (m Memory) Encode() string {
	text, _ := json.Marshal(m) // of plain values: it cannot fail
	return string(text)
}

// ParseMemory reads what Encode wrote. What can not be read is the zero Memory,
// which is safe: everything is set and proven again.
func ParseMemory(text string) Memory {
	var m Memory
	if json.Unmarshal([]byte(text), &m) != nil {
		return Memory{}
	}
	return m
}

// Armed is the memory beside the setting that nobody fulfils, with which every
// standby of a synchronous cluster runs: whoever is promoted waits from the first
// commit on.
func Armed() Memory { return Memory{Written: Nobody(), Rule: Nobody()} }

// A Probe is a commit made to prove the setting, in a session that began after
// the server had been told to read it and that saw it. Probes are numbered as
// they begin, each above Memory.Seen and all before it; only the last counts, and
// it may wait for ever.
type Probe struct {
	Number int64
	Names  string // the setting as that session saw it
	LSN    pg.LSN // where its commit record ends; 0: not written yet
	Waited bool   // it was seen to wait for standbys (wait event SyncRep)
	Done   bool   // it was acknowledged
}

// A Sender is a row of pg_stat_replication, read after the probe's Done or Waited.
type Sender struct {
	Name      string // application_name
	Streaming bool
	Priority  int // sync_priority: by the setting that this WAL sender has read
	Flushed   pg.LSN
}

// A Step is one thing to do: a plain value that compares with ==.
type Step interface{ String() string }

// The steps.
type (
	// Publish puts /sync by compare-and-swap over the revision Over, while this
	// node holds the leader key.
	Publish struct {
		Value string // cluster.Sync.Encode
		Over  int64
	}
	// Forget deletes /sync in the same way: synchronous mode is off.
	Forget struct{ Over int64 }
	// Set writes synchronous_standby_names and has the server read it.
	Set struct{ Names string }
	// Prove makes a new probe of the setting.
	Prove struct{ Names string }
)

func (s Publish) String() string { return "publish(" + s.Value + ")" }
func (Forget) String() string    { return "forget" }
func (s Set) String() string     { return "set(" + s.Names + ")" }
func (s Prove) String() string   { return "prove(" + s.Names + ")" }

// A Decision is the step to take, nil if there is none or one has to wait, what
// to remember from before it on, and what led there.
type Decision struct {
	Step   Step
	Memory Memory
	Trail  []string
}

// String prints the trail and the step as one line.
func (d Decision) String() string {
	step := "rest"
	if d.Step != nil {
		step = d.Step.String()
	}
	return strings.TrimSpace(strings.Join(d.Trail, " ") + " -> " + step)
}

func (d *Decision) note(format string, args ...any) {
	d.Trail = append(d.Trail, fmt.Sprintf(format, args...))
}

// Next is the next step on the way from what is to what is wanted. It is asked
// again after each step, whatever became of that, and when no step is under way.
//
// The way has one pattern. A new setting is in force bit by bit, so first /sync
// is made to cover the old, the new and every mixture of the two; then the
// setting is written, and proven to be in force alone, with everything that was
// acknowledged before on enough of those that now count; then /sync is made to
// fit it. Leaving out who is gone, and raising the number of acknowledgements,
// loosens nothing, and needs no cover: it comes first.
func Next(v View) Decision {
	d := Decision{Memory: v.Memory}
	m := &d.Memory
	if m.Open && v.Sync.Mod != m.Over {
		m.Open = false
	}
	if v.Shown != nil && v.Shown.String() != m.Written.String() {
		d.note("foreign=%s", v.Shown)
		m.wrote(*v.Shown, v.Probe)
	}
	if v.Mode == cluster.SyncOff {
		d.off(v)
		return d
	}
	d.prove(v)
	d.note("rule=%q", m.Rule)
	d.Step = d.move(v)
	switch step := d.Step.(type) {
	case Publish:
		m.Open, m.Over = true, step.Over
	case Set:
		to, _ := ParseNames(step.Names)
		m.wrote(to, v.Probe)
	}
	return d
}

// wrote notes that the setting may be in force from now on, here or there.
func (m *Memory) wrote(n Names, last Probe) {
	m.Rule, m.Written = Loosen(m.Rule, n), n
	m.Seen, m.Loaded = last.Number, false
}

// proves says that p can prove what was written.
func (m Memory) proves(p Probe) bool { return p.Number > m.Seen && p.Names == m.Written.String() }

// off leaves synchronous mode: nothing is promised from then on, so the key goes
// first, and nobody relies on it.
func (d *Decision) off(v View) {
	d.note("mode=off")
	switch m := &d.Memory; {
	case v.Sync.Active():
		d.Step = Forget{v.Sync.Mod}
	case m.Written.String() != v.Own.String():
		*m = Memory{Written: v.Own, Seen: v.Probe.Number}
		d.Step = Set{v.Own.String()}
	default:
		m.Rule = Names{}
	}
}

// move is the step that the rule in force asks for.
func (d *Decision) move(v View) Step {
	m := d.Memory
	alone := cluster.Sync{Leader: v.Self}
	publish := func(s cluster.Sync) Step {
		s.Leader = v.Self
		return Publish{s.Encode(), v.Sync.Mod}
	}
	switch {
	case !v.Sync.Active():
		d.note("sync=none")
		return publish(alone)
	case fold(v.Sync.Leader) != fold(v.Self):
		d.note("sync=of-%s", v.Sync.Leader)
		if s, _ := Succeed(v.Sync, v.Self); Holds(s, m.Rule) {
			return publish(s)
		}
		return publish(alone)
	case !Holds(v.Sync, m.Rule):
		d.note("sync=uncovered")
		return publish(alone)
	}
	to := toward(m.Rule, v.Want)
	if to.String() != m.Written.String() {
		d.note("toward=%q", to)
		mixed := Loosen(m.Rule, to)
		if Holds(v.Sync, mixed) && Holds(v.Sync, to) {
			return d.settled(v, Set{to.String()})
		}
		d.note("cover")
		if v.Mode == cluster.SyncOn || mixed.Async() {
			// Patroni's members take any of /sync in mode on, whatever its quorum says.
			return publish(alone)
		}
		all := m.Rule.set().or(to.set())
		return publish(cluster.Sync{Quorum: len(all) - mixed.Num, Standby: all})
	}
	if !m.Rule.Same(m.Written) {
		if m.proves(v.Probe) {
			return d.settled(v, nil) // it waits for those that the trail names
		}
		return d.settled(v, Prove{m.Written.String()})
	}
	fit := alone
	if !to.Async() && !to.Blocks() {
		fit = cluster.Sync{Leader: v.Self, Quorum: len(to.set()) - to.Num, Standby: to.set()}
	}
	if v.Sync.Quorum == fit.Quorum && voters(v.Sync).equal(voters(fit)) {
		return d.settled(v, nil)
	}
	d.note("fit")
	return publish(fit)
}

// settled puts off a step that rests on the present /sync while an earlier
// Publish may yet be applied: the same value put again, over the same revision,
// ends the doubt, for only one of the two can be.
func (d *Decision) settled(v View, s Step) Step {
	if !d.Memory.Open {
		return s
	}
	d.note("publish=unknown")
	return Publish{v.Sync.Encode(), v.Sync.Mod}
}

// toward is the setting to go to next from rule on the way to want.
func toward(rule, want Names) Names {
	if want.Async() {
		return want
	}
	if rule.Async() {
		// That backends wait at all is told to them by the checkpointer, when it gets to
		// it (SyncRepUpdateSyncStandbysDefined). A commit that waits for nobody proves it;
		// any other could have been acknowledged by one that does not wait.
		return Nobody()
	}
	keep := rule.set().and(want.set())
	if len(keep) >= rule.Num {
		tight := Any(max(rule.Num, min(want.Num, len(keep))), keep...)
		if tight.First = want.First; !tight.Same(rule) && !tight.Same(want) {
			return tight
		}
	}
	return want
}

// prove makes the setting that was written the rule once it certainly is.
//
// A WAL sender reads the setting before it next looks at what its standby says.
// So one whose standby has flushed what was written after the server had been
// told has read it, and a second probe, begun after all had, counts by the new
// setting alone. Who counts then has flushed everything that was acknowledged
// before (DESIGN.md, "Proof").
func (d *Decision) prove(v View) {
	m, p := &d.Memory, v.Probe
	if m.Rule.Same(m.Written) || !m.proves(p) || p.LSN == 0 {
		return
	}
	of := m.Written.set()
	var stale set
	for i, s := range v.Senders {
		counts := of.has(s.Name) || of.has(everybody)
		twice := slices.ContainsFunc(v.Senders[:i], func(o Sender) bool { return fold(o.Name) == fold(s.Name) })
		if counts != (s.Priority > 0) || s.Streaming && counts && s.Flushed < p.LSN || counts && twice {
			stale = append(stale, s.Name)
		}
	}
	if len(stale) > 0 {
		d.note("senders=stale(%s)", stale)
		return
	}
	if m.Written.Blocks() {
		switch {
		case p.Done: // it did not wait: the checkpointer had not got to it, and it proves nothing
			d.note("probe=unwaited")
			m.Seen = p.Number
		case p.Waited:
			d.note("proven=%q", m.Written)
			m.Rule = m.Written
		}
		return
	}
	if !m.Loaded {
		m.Loaded, m.Seen = true, p.Number
		d.note("loaded")
		return
	}
	if !p.Done {
		return
	}
	flushed := 0
	for _, s := range v.Senders {
		if of.has(s.Name) && s.Streaming && s.Flushed >= p.LSN {
			flushed++
		}
	}
	if flushed < m.Written.Num || m.Written.Wild() {
		d.note("flushed=%d/%d", flushed, m.Written.Num)
		return
	}
	d.note("proven=%q", m.Written)
	m.Rule = m.Written
}
