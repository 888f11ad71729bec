package ha

import (
	"fmt"
	"time"

	"howdah/pg"
)

// An Action is one thing to do: a plain value that compares with == and prints
// as one line. Three lanes carry them out, each one thing at a time: the lock
// (requests about lease and leader key), notes (what is published), and the
// server. Freeze and Thaw belong to no lane: they are done at once. Prove and Advance
// go on beside all of them.
type Action interface {
	String() string
	Lane() Lane
}

// A Lane carries out one action at a time.
type Lane int

// The lanes.
const (
	Lock Lane = iota
	Note
	Server
	Now
	Aside // nothing waits for it
	Peers // asked of the other members, not of the store
)

// Requests about the lease and the leader key.
type (
	// GrantLease asks for a lease.
	GrantLease struct{ TTL time.Duration }
	// Renew keeps the lease alive and, for a leader (Epoch > 0), confirms in the
	// same term that the key is still this node's of this epoch, publishing Status.
	Renew struct {
		Lease  int64
		Epoch  int64
		Status string // "" publishes nothing
		Bare   bool   // not confirmed: no right may be counted from it
	}
	// Acquire takes the free leader key over the term that was seen last (After;
	// 0: there never was one).
	// Compared are the positions that were compared for it: lines of member=Mod
	// of its pledge (0: none); one that came in since makes the taking fail.
	Acquire struct {
		Lease         int64
		After         int64
		Term          string
		Compared      string
		ClearFailover int64 // Mod of the failover key this answers, or 0
		Held          bool  // the key is still there, its holder's of epoch After
		// Sync is put beside the term, over this Mod of /sync ("": none is).
		Sync     string
		SyncOver int64
	}
	// Retake hangs a key that is ours already on our present lease, or puts ours over one
	// that a stranger wrote (see stray).
	Retake struct {
		Lease int64
		Epoch int64
		Term  string
	}
	// Take takes the key from a leader that offered it.
	Take struct {
		Lease    int64
		Epoch    int64
		Handover int64
		Term     string
		Failover int64
		Sync     string // as in Acquire
		SyncOver int64
	}
	// Appeal asks those members (a line each) for their word (Plea).
	Appeal struct {
		Epoch int64
		For   time.Duration
		To    string
	}
	// Release gives the key up. Only a server that is verifiably dead, or
	// cleanly shut down, lets its agent do so (law 5).
	Release struct{ Epoch int64 }
	// Resign ends the lease, and with it every key of this node.
	Resign struct{ Lease int64 }
	// Revert says that this leader, whose server is down, goes on from the data of a
	// restore: over its own epoch and the record that asked for it, and with a term
	// of its own.
	Revert struct {
		Lease  int64
		Epoch  int64
		Over   int64 // Mod of the record
		Record string
		Term   string
	}
	// Lift says that this leader's cluster follows no other any more: over its own epoch
	// and the very configuration (Mod) that asks for no such thing.
	Lift struct {
		Lease  int64
		Epoch  int64
		Config int64
		Term   string
	}
	// Subject says that this leader's cluster follows another one from here on: over its own
	// epoch and the very configuration (Mod) that asks for it. Nobody votes there any more.
	Subject struct {
		Lease  int64
		Epoch  int64
		Config int64
		Term   string
	}
	// Found claims the right to create the cluster's database system.
	Found struct {
		Lease int64
		Over  int64 // Mod of an abandoned claim, or 0
	}
	// Open ends the founding: system identifier, configuration and the leader
	// key in one transaction over the claim.
	Open struct {
		Lease  int64
		Claim  int64
		System pg.SystemID
		Config string
		Term   string
		Back   string // other keys of a store that lost them and their values, as a JSON object; "": none
	}
)

// What is published.
type (
	// Put sets a key. Lease 0: it stays. Guard > 0: only while this node holds
	// the key of that epoch. Over: only over this Mod of the key (-1: any).
	Put struct {
		Key   string
		Value string
		Lease int64
		Guard int64
		Over  int64
	}
	// Drop removes a key, over the Mod that was seen.
	Drop struct {
		Key   string
		Over  int64
		Guard int64
	}
)

// Work on the server.
type (
	// Initdb creates the database system.
	Initdb struct{}
	// Clone copies it from another server, or brings a backup of System back, from
	// where it goes on behind that server.
	Clone struct {
		From       pg.Upstream
		Repository bool
		System     pg.SystemID
	}
	// Rewind takes back what this server has beyond the fork from another.
	Rewind struct{ From pg.Upstream }
	// Recover lets crash recovery run without opening the server.
	Recover struct{}
	// Start starts it, as a primary or as a standby of Up (named "" for nobody).
	Start struct {
		Standby bool
		Up      pg.Upstream
	}
	// Promote ends recovery, on the timeline that was reserved (0: none was).
	Promote struct{ Timeline pg.Timeline }
	// Fence takes nothing more from the leader of this epoch or before, come what
	// may, and finds where the log ends after that.
	Fence struct{ Epoch int64 }
	// Whole notes that copied data have caught up with a leader.
	Whole struct{}
	// Shut has a server that does not run let no client in from its next start as a
	// primary on.
	Shut struct{}
	// Admit lets them in.
	Admit struct{}
	// Stop shuts down, fast.
	Stop struct{}
	// Kill ends every process that holds the data directory, verified.
	Kill struct{}
	// Follow points a running standby elsewhere.
	Follow struct{ Up pg.Upstream }
	// Measure finds the end of the log of a server that does not run.
	Measure struct{}
	// Identify asks a server of another cluster who it is, and how far it has the log of a timeline.
	Identify struct {
		Up       pg.Upstream
		Timeline pg.Timeline
	}
	// Keep copies the log from a position on aside, before it is discarded.
	Keep struct {
		From     pg.LSN
		Timeline pg.Timeline
	}
	// MoveAside renames the data directory, so that a clone deletes nothing.
	MoveAside struct{}
	// Install puts the data that a restore has made in place of the data directory,
	// which is moved aside. Both names are of directories of the node.
	Install struct{ Made, Aside string }
	// Slots makes the physical slots exactly these (comma separated); the spare ones
	// hold no log before somebody has used them.
	Slots struct{ Names, Spare string }
	// Logical drops logical slots (comma separated), and makes, or takes over, others.
	Logical struct {
		Want pg.SlotList
		Drop string
	}
	// Advance moves slots of a standby to where they are to be.
	Advance struct{ Slots pg.SlotList }
	// Adopt copies logical slots (comma separated) from a primary to a standby, which it stops.
	Adopt struct {
		From  pg.Upstream
		Names string
	}
	// Checkpoint writes one. If a planned stop follows, the log is brought near the end
	// of its segment first, which the stop would fill.
	Checkpoint struct{ Stop bool }
	// Synchronize gives the server, whether it runs or not, its setting of
	// synchronous_standby_names ("": whatever else sets it), and keeps beside it
	// what goes on from there (quorum.Memory).
	Synchronize struct{ Names, Memory string }
	// Prove commits something in a new session, to see whom commits wait for. It
	// may wait for ever: a later one ends it.
	Prove struct {
		Names  string
		Number int64
	}
	// Configure gives the server, whether it runs or not, the parameters of the
	// dynamic configuration (as cluster.ParametersText writes them). Reread: what
	// the node itself sets is read anew, too.
	Configure struct {
		Parameters string
		Reread     bool
	}
)

// At once.
type (
	// Freeze stops every process of the server where it stands.
	Freeze struct{}
	// Thaw lets them go on.
	Thaw struct{}
)

func (GrantLease) Lane() Lane  { return Lock }
func (Renew) Lane() Lane       { return Lock }
func (Acquire) Lane() Lane     { return Lock }
func (Retake) Lane() Lane      { return Lock }
func (Take) Lane() Lane        { return Lock }
func (Release) Lane() Lane     { return Lock }
func (Resign) Lane() Lane      { return Lock }
func (Revert) Lane() Lane      { return Lock }
func (Lift) Lane() Lane        { return Lock }
func (Subject) Lane() Lane     { return Lock }
func (Found) Lane() Lane       { return Lock }
func (Open) Lane() Lane        { return Lock }
func (Appeal) Lane() Lane      { return Peers }
func (Put) Lane() Lane         { return Note }
func (Drop) Lane() Lane        { return Note }
func (Initdb) Lane() Lane      { return Server }
func (Clone) Lane() Lane       { return Server }
func (Rewind) Lane() Lane      { return Server }
func (Recover) Lane() Lane     { return Server }
func (Start) Lane() Lane       { return Server }
func (Fence) Lane() Lane       { return Server }
func (Whole) Lane() Lane       { return Server }
func (Promote) Lane() Lane     { return Server }
func (Shut) Lane() Lane        { return Server }
func (Admit) Lane() Lane       { return Server }
func (Stop) Lane() Lane        { return Server }
func (Kill) Lane() Lane        { return Server }
func (Follow) Lane() Lane      { return Server }
func (Measure) Lane() Lane     { return Server }
func (Identify) Lane() Lane    { return Server }
func (Keep) Lane() Lane        { return Server }
func (MoveAside) Lane() Lane   { return Server }
func (Install) Lane() Lane     { return Server }
func (Slots) Lane() Lane       { return Server }
func (Logical) Lane() Lane     { return Server }
func (Advance) Lane() Lane     { return Aside }
func (Adopt) Lane() Lane       { return Server }
func (Checkpoint) Lane() Lane  { return Server }
func (Configure) Lane() Lane   { return Server }
func (Synchronize) Lane() Lane { return Server }
func (Prove) Lane() Lane       { return Aside }
func (Freeze) Lane() Lane      { return Now }
func (Thaw) Lane() Lane        { return Now }

func (a GrantLease) String() string { return fmt.Sprintf("grant lease(%s)", a.TTL) }
func (a Renew) String() string {
	if a.Epoch > 0 {
		return fmt.Sprintf("renew(epoch %d)", a.Epoch)
	}
	if a.Bare {
		return "keep"
	}
	return "renew"
}
func (a Acquire) String() string { return fmt.Sprintf("acquire(after %d)", a.After) }
func (a Retake) String() string  { return fmt.Sprintf("retake(epoch %d)", a.Epoch) }
func (a Take) String() string    { return fmt.Sprintf("take(epoch %d, handover %d)", a.Epoch, a.Handover) }
func (a Revert) String() string  { return fmt.Sprintf("revert(epoch %d)", a.Epoch) }
func (a Lift) String() string    { return fmt.Sprintf("lift(epoch %d, config %d)", a.Epoch, a.Config) }

func (a Subject) String() string {
	return fmt.Sprintf("subject(epoch %d, config %d)", a.Epoch, a.Config)
}
func (a Release) String() string { return fmt.Sprintf("release(epoch %d)", a.Epoch) }
func (a Appeal) String() string  { return fmt.Sprintf("appeal(epoch %d)", a.Epoch) }
func (Resign) String() string    { return "resign" }
func (Found) String() string     { return "found" }
func (a Open) String() string    { return fmt.Sprintf("open(system %s)", a.System) }
func (a Put) String() string     { return "put " + a.Key }
func (a Drop) String() string    { return "drop " + a.Key }
func (Initdb) String() string    { return "initdb" }
func (a Clone) String() string {
	if a.Repository {
		return "clone(repository)"
	}
	return "clone(" + a.From.Name + ")"
}
func (a Rewind) String() string { return "rewind(" + a.From.Name + ")" }
func (Recover) String() string  { return "recover" }
func (a Start) String() string {
	switch {
	case !a.Standby:
		return "start(primary)"
	case a.Up.Name == "":
		return "start(standby of nobody)"
	default:
		return "start(standby of " + a.Up.Name + ")"
	}
}
func (a Fence) String() string    { return fmt.Sprintf("fence(epoch %d)", a.Epoch) }
func (Whole) String() string      { return "whole" }
func (Promote) String() string    { return "promote" }
func (Shut) String() string       { return "shut" }
func (Admit) String() string      { return "admit" }
func (Stop) String() string       { return "stop" }
func (Kill) String() string       { return "kill" }
func (a Follow) String() string   { return "follow(" + a.Up.Name + ")" }
func (Measure) String() string    { return "measure" }
func (a Identify) String() string { return "identify(" + a.Up.Name + ")" }
func (a Keep) String() string     { return fmt.Sprintf("keep(timeline %d from %s)", a.Timeline, a.From) }
func (MoveAside) String() string  { return "move aside" }
func (a Install) String() string  { return "install(" + a.Made + ")" }
func (a Slots) String() string {
	if a.Spare != "" {
		return "slots(" + a.Names + "; spare " + a.Spare + ")"
	}
	return "slots(" + a.Names + ")"
}

func (a Logical) String() string {
	if a.Drop != "" {
		return "logical slots(" + a.Want.Names() + "; drop " + a.Drop + ")"
	}
	return "logical slots(" + a.Want.Names() + ")"
}
func (a Advance) String() string     { return "advance(" + a.Slots.Names() + ")" }
func (a Adopt) String() string       { return "adopt(" + a.Names + " of " + a.From.Name + ")" }
func (Checkpoint) String() string    { return "checkpoint" }
func (Configure) String() string     { return "configure" }
func (a Synchronize) String() string { return "synchronize(" + a.Names + ")" }
func (a Prove) String() string       { return fmt.Sprintf("prove(%d)", a.Number) }
func (Freeze) String() string        { return "freeze" }
func (Thaw) String() string          { return "thaw" }
