package ha

import (
	"strings"

	"howdah/cluster"
	"howdah/ha/quorum"
)

// synchronous says that commits wait for standbys, or are to: whoever wrote over
// the configuration does not end what /sync promises.
func (t *turn) synchronous() bool {
	if t.standbyCluster() {
		return false // nobody commits anything
	}
	return t.State.Config.SynchronousMode() != cluster.SyncOff || t.State.Sync.Active() || t.State.Unknown(cluster.KeySync)
}

// synchronize is the leader's part in synchronous replication: it moves the
// server's synchronous_standby_names and /sync, one step a turn, so that at every
// instant whoever may acknowledge a commit meets whoever may be promoted
// (ha/quorum). It says whether the step is work on the server.
func (t *turn) synchronize() bool {
	m := &t.m.Sync
	mode := t.State.Config.SynchronousMode()
	if t.State.Unknown(cluster.KeyConfig) || t.State.Unknown(cluster.KeySync) || t.State.Config.Data == nil {
		return false
	}
	if mode == cluster.SyncOff && !t.State.Sync.Active() && m.Written.Async() {
		return false // as always without it
	}
	if !m.Resumed {
		m.Resumed, m.Memory = true, quorum.Resume(m.Memory, t.State.Sync)
	}
	v := quorum.View{Self: t.Self.Name, Mode: mode, Sync: t.State.Sync, Probe: t.Probe, Memory: m.Memory}
	if names, err := quorum.ParseNames(t.Server.SyncNames); err == nil && t.ServerAt > m.At && mode != cluster.SyncOff {
		v.Shown = &names
	}
	if t.ServerAt > t.ProbeAt {
		for _, r := range t.Server.Replicas {
			v.Senders = append(v.Senders, quorum.Sender{
				Name: r.Name, Streaming: r.State == "streaming", Priority: r.SyncPriority, Flushed: r.Flushed,
			})
		}
	} else if v.Probe.LSN != 0 {
		v.Probe.LSN = 0 // the senders were not looked at since
		t.lookBy(t.Now)
	}
	v.Want = quorum.Aim(quorum.Wish{
		Mode: mode, Strict: t.strict(), Count: t.State.Config.SynchronousNodes(),
		MaxLag: t.State.Config.MaximumLagOnSyncnode(),
	}, t.standbys(), m.Written)

	d := quorum.Next(v)
	if d.Step == nil {
		m.Memory = d.Memory
		if !m.Rule.Same(m.Written) {
			t.note("sync=%s", strings.Join(d.Trail, " "))
			t.lookBy(t.ServerAt + soon)
			return false
		}
		return t.keep()
	}
	t.note("sync=%s", d)
	switch step := d.Step.(type) {
	case quorum.Publish:
		return t.publishSync(d, Put{Key: cluster.KeySync, Value: step.Value, Guard: t.m.Right.Epoch, Over: step.Over})
	case quorum.Forget:
		return t.publishSync(d, Drop{Key: cluster.KeySync, Guard: t.m.Right.Epoch, Over: step.Over})
	case quorum.Set:
		a := Synchronize{Names: step.Names, Memory: d.Memory.Encode()}
		if t.failing(a) {
			return false
		}
		m.Memory = d.Memory
		t.work(a)
		return true
	case quorum.Prove:
		if at := m.Proved + soon; t.Now < at && m.Proved > 0 {
			t.wakeBy(at)
			return false
		}
		m.Memory, m.Proved = d.Memory, t.Now
		t.do(Prove{Names: step.Names, Number: max(t.Probe.Number, d.Memory.Seen) + 1})
		t.lookBy(t.ServerAt + soon)
	}
	return false
}

// publishSync begins a change of /sync, if anything may be published now.
func (t *turn) publishSync(d quorum.Decision, a Action) bool {
	if t.quiet() {
		t.wakeBy(t.Now + soon)
		return false
	}
	t.m.Sync.Memory = d.Memory
	t.do(a)
	return false
}

// keep brings what is on disk beside the setting up to what was proven since, so
// that an agent that comes after this one need not prove it again.
func (t *turn) keep() bool {
	m := t.m.Sync
	disk := quorum.ParseMemory(m.Disk)
	if disk.Rule.Same(m.Rule) && disk.Written.Is(m.Written) {
		return false
	}
	a := Synchronize{Names: m.Written.String(), Memory: m.Encode()}
	if t.failing(a) {
		return false
	}
	t.work(a)
	return true
}

// standbys are the other members as their leader sees them.
func (t *turn) standbys() []quorum.Standby {
	var all []quorum.Standby
	for _, name := range t.State.Names() {
		if name == t.Self.Name {
			continue
		}
		m, live := t.State.Member(name)
		s := quorum.Standby{
			Name: name, Priority: m.Tags.SyncPriority(), NoFailover: m.Tags.NoFailover(),
			NoSync: m.Tags.NoSync() || m.Tags.NoStream() || m.Tags.ReplicateFrom() != "",
		}
		for _, r := range t.Server.Replicas {
			if r.Name == name && r.State == "streaming" && live && m.Running() {
				s.Streaming, s.Flushed, s.Lag = true, r.Flushed, r.Flushed.Behind(t.Server.Flushed)
			}
		}
		all = append(all, s)
	}
	return all
}

// arm keeps a standby of a synchronous cluster on the setting that nobody
// fulfils: its commits wait from the first moment should it be promoted. Who is about
// to be has the setting that it will need then.
func (t *turn) arm() bool {
	m := t.m.Sync
	if !t.Known || t.State.Unknown(cluster.KeyConfig) || t.State.Config.Data == nil {
		return false
	}
	var a Synchronize
	if t.synchronous() {
		names, next := quorum.Nobody(), quorum.Armed()
		if t.heir() && t.State.Sync.Active() {
			if n, begin := t.succession(); begin.Rule.Is(n) { // else by way of the one that nobody fulfils
				names, next = n, begin
			}
		}
		a.Names = names.String()
		if m.Written.Is(names) && (t.Server.SyncNames == a.Names || t.ServerAt <= m.At) {
			return false
		}
		a.Memory = next.Encode()
	} else {
		if m.Written.Async() {
			return false // as always without it
		}
		a.Memory = quorum.Memory{}.Encode()
	}
	if t.failing(a) {
		return false
	}
	t.note("sync=arm")
	t.m.Sync.Memory, t.m.Sync.Resumed = quorum.ParseMemory(a.Memory), true
	t.work(a)
	return true
}

// ready says that a standby which is to be promoted waits, from its first commit
// on, for those by whom what it acknowledges is in every later primary.
func (t *turn) ready() bool {
	m := &t.m.Sync
	if !t.synchronous() {
		return true
	}
	if t.State.Revision < t.m.Right.Epoch || t.State.Unknown(cluster.KeySync) {
		t.note("sync=unseen") // our own taking of the key has put it
		return false
	}
	names, begin := t.succession()
	if t.Server.SyncNames == names.String() && m.Written.Is(names) && t.ServerAt > m.At {
		return true
	}
	if m.Written.Is(names) && t.ServerAt <= m.At {
		t.lookBy(t.Now)
		return false
	}
	if r := m.Rule; !begin.Rule.Is(names) && !r.Async() && !r.Blocks() && m.Written.Is(r) {
		// It was written for another /sync than the key was taken over.
		names, begin = quorum.Nobody(), quorum.Armed()
	}
	a := Synchronize{Names: names.String(), Memory: begin.Encode()}
	if t.failing(a) {
		return false
	}
	t.note("sync=begin")
	m.Memory, m.Resumed = begin, true
	t.work(a)
	return false
}

// succession is the setting with which this standby is to be promoted, and what goes
// on from there.
func (t *turn) succession() (quorum.Names, quorum.Memory) {
	m := t.m.Sync
	_, names := quorum.Succeed(t.State.Sync, t.Self.Name)
	names.First = names.First || t.State.Config.SynchronousMode() == cluster.SyncOn
	next := quorum.Memory{Written: names}
	if m.Rule.Blocks() && m.Written.Blocks() && t.Server.SyncNames == quorum.Nobody().String() || m.Written.Is(names) && m.Rule.Is(names) {
		next.Rule = names // armed: no backend is without the flag
	}
	return names, next
}

// preset writes the setting that goes with the key while the key is being taken. Over
// anything but the one that nobody fulfils it is not written before (ready).
func (t *turn) preset() {
	m := &t.m.Sync
	if !t.State.Sync.Active() || t.ServerAt <= m.At {
		return
	}
	names, next := t.succession()
	a := Synchronize{Names: names.String(), Memory: next.Encode()}
	if !m.Written.Blocks() || !next.Rule.Is(names) || t.failing(a) {
		return
	}
	t.note("sync=begin")
	m.Memory, m.Resumed = next, true
	t.work(a)
}
