package pg

import (
	"net"
	"strconv"
	"time"

	"howdah/problem"
)

// DataState says what stands in the data directory.
type DataState string

// What can stand there.
const (
	DataMissing    DataState = "missing"    // absent, or an empty directory
	DataPartial    DataState = "partial"    // a clone, initdb or rewind that did not finish
	DataPresent    DataState = "present"    // a database system
	DataUnreadable DataState = "unreadable" // something that we may not or can not read: touch nothing
)

// Process says what runs on the data directory.
type Process string

// What can run there.
const (
	ProcessNone     Process = "none"     // verified: no process holds the data directory, or all that do were killed and wait for a disk
	ProcessRemains  Process = "remains"  // the postmaster is gone, but some of its children are not
	ProcessStarting Process = "starting" // a postmaster that does not accept connections yet
	ProcessRunning  Process = "running"
	ProcessStopping Process = "stopping" // told to shut down
	ProcessFrozen   Process = "frozen"   // stopped by SIGSTOP or the freezer
)

// ControlState is pg_controldata's "Database cluster state".
type ControlState string

// The states of pg_control.h (DBState).
const (
	ControlStartingUp         ControlState = "starting up"
	ControlShutDown           ControlState = "shut down"
	ControlShutDownInRecovery ControlState = "shut down in recovery"
	ControlShuttingDown       ControlState = "shutting down"
	ControlInCrashRecovery    ControlState = "in crash recovery"
	ControlInArchiveRecovery  ControlState = "in archive recovery"
	ControlInProduction       ControlState = "in production"
)

// Control is what global/pg_control says.
type Control struct {
	State      ControlState
	System     SystemID
	Timeline   Timeline // of the latest checkpoint
	Checkpoint LSN      // where the latest checkpoint record begins
	Redo       LSN
	MinEnd     LSN // "Minimum recovery ending location"
	MinEndTL   Timeline
	Checksums  bool
	LogHints   bool
}

// Clean says that the server was shut down properly, as primary or as standby.
func (c Control) Clean() bool {
	return c.State == ControlShutDown || c.State == ControlShutDownInRecovery
}

// WasPrimary says that the server last ran (or was recovering to run) as a primary.
func (c Control) WasPrimary() bool {
	switch c.State {
	case ControlShutDown, ControlShuttingDown, ControlInProduction, ControlInCrashRecovery:
		return true
	}
	return false
}

// Last is the newest timeline that a server is known to have log of: one that was
// promoted says so before its first checkpoint (xlog.c, CreateEndOfRecoveryRecord),
// also when it was started as a standby since, and one that followed says how far it
// has to replay (pg_rewind.c compares the same).
func (c Control) Last() Timeline { return max(c.Timeline, c.MinEndTL) }

// Elsewhere is what a server of another cluster says of itself.
type Elsewhere struct {
	System   SystemID
	Timeline Timeline // that its log is on
	Common   LSN      // up to where it has, flushed, the log of the timeline that it was asked about
}

// A Replica is one row of pg_stat_replication.
type Replica struct {
	Name      string // application_name: the member's name
	State     string // streaming, catchup, backup …
	Flushed   LSN
	Replayed  LSN
	SyncState string

	User         string
	Client       string // its address; "" over a socket
	SyncPriority int
}

// Commits is how commits that wait for standbys fare, a second ago at most.
type Commits struct {
	Waiting int           // sessions of clients that wait for one to be acknowledged …
	Longest time.Duration // … the first of them for so long
	Lax     []Lax         // who does not wait, in spite of the mode
}

// A Lax setting is one of synchronous_commit by which commits are acknowledged
// before a standby has flushed them. What a session sets for itself only it can see.
type Lax struct {
	Database string // "": all
	Role     string // "": all; with Database "" it is the whole server's
	Value    string // off, local, remote_write
	InUse    bool   // sessions are there that began with it
}

// Logins is how logins fare that are tried at a running primary every few seconds: ours,
// and while those get no answer, anybody's.
type Logins struct {
	Answered int           // by this postmaster, so far
	Silent   int           // those that heard nothing since
	Since    time.Duration // the first of these began so long ago; 0: there is none
}

// A Pending setting has another value in the configuration than in the server,
// which takes it only when it starts anew.
type Pending struct {
	Name string
	Old  string
	New  string // "" if it can not be told
}

// Status is everything that can be seen of the local server at one moment.
// A field whose source did not answer is zero.
type Status struct {
	Data    DataState
	Process Process
	PID     int
	Started time.Time
	Control Control  // as on disk
	Standby bool     // standby.signal is present
	Copied  bool     // the data are a copy, which may lack what this member had confirmed
	Refused int64    // epoch up to which no leader's log is taken, as on disk; 0: of none
	Shut    bool     // as a primary it lets nobody in but us, since it was started so
	Ours    []string // logical slots that were made, or brought here, by us, sorted
	Major   int      // of the programs; 0: not known

	// Free and Size are bytes of the file system that has least room, of data and log; 0: not known.
	Free int64
	Size int64
	Gone time.Duration // since its postmaster was seen to die; 0: it runs, or not known

	// Problem keeps the server from running, or is about to, as far as one can
	// see without trying; without a code there is none.
	Problem problem.Error

	// From a query; meaningful only if Answers.
	Answers    bool
	Recovering bool
	Version    int      // server_version_num
	Timeline   Timeline // insert timeline of a primary, received or replayed timeline of a standby
	Unflushed  bool     // primary: there is log that is not flushed, though it is time, or somebody waits for it
	Flushed    LSN      // primary: flushed; standby: received and flushed, at least replayed
	Replayed   LSN      // standby
	Replaying  time.Time
	Streaming  bool          // standby: the WAL receiver streams
	Silence    time.Duration // standby: since its upstream said anything; 0: not known
	Upstream   string        // standby: host:port of primary_conninfo
	Slot       string        // standby: primary_slot_name
	Replicas   []Replica
	Slots      []string // physical slots, sorted
	Held       []Slot   // every slot that is not temporary, by name
	Spare      []string // of these, those that hold no log: nobody has used them yet
	History    History  // of its timeline
	Restart    bool     // some setting waits for a restart

	SyncNames    string    // synchronous_standby_names, as a session sees it
	Logins       Logins    // primary
	Commits      Commits   // primary whose commits wait for standbys
	Pending      []Pending // which; sorted
	ReplayPaused bool      // standby: somebody stopped the replay
}

// Primary says that the server runs and is certainly not in recovery.
func (s *Status) Primary() bool { return s.Process != ProcessNone && s.Answers && !s.Recovering }

// MayWrite says that the server may be a primary that acknowledges writes:
// it runs without standby.signal, or said that it is not in recovery.
func (s *Status) MayWrite() bool {
	if s.Process == ProcessNone || s.Closed() {
		return false
	}
	if s.Answers {
		return !s.Recovering
	}
	return !s.Standby
}

// Closed says that a primary that still ends has written its last record: the
// control file says so after that record is flushed, and nobody but WAL senders and
// the archiver is left by then (xlog.c, CreateCheckPoint; postmaster.c, PM_SHUTDOWN_2).
func (s *Status) Closed() bool {
	return s.Process == ProcessStopping && s.Control.State == ControlShutDown
}

// An Upstream is a server to copy or stream from.
type Upstream struct {
	Name string // member name; "" for nobody
	Host string
	Port int
	Slot string // physical slot to use there, if any

	Foreign bool   // it is of another cluster, which a standby cluster follows
	Delay   string // recovery_min_apply_delay of who follows it; "": as its node says
	// Epoch of its reign, to which a member that has pledged goes by; 0: not known.
	Epoch int64
}

// Addr is host:port, as it stands in primary_conninfo.
func (u Upstream) Addr() string {
	if u.Host == "" {
		return ""
	}
	return net.JoinHostPort(u.Host, strconv.Itoa(u.Port))
}
