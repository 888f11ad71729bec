package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"howdah/pg"
	"howdah/problem"
)

// Kinds of a change of leader.
const (
	KindBootstrap  = "bootstrap"
	KindSwitchover = "switchover"
	KindFailover   = "failover"  // asked for by a person
	KindCrash      = "crash"     // the leader was lost
	KindRestart    = "restart"   // the same leader, started in place
	KindRestore    = "restore"   // the same leader, with data of an earlier moment
	KindPromotion  = "promotion" // of a standby cluster, which follows no other any more
	KindDemotion   = "demotion"  // the other way round: from here on it follows another
)

// TermRetaken is the kind of a term that goes on: the leader hung its key on
// another lease, in one transaction over the epoch before.
const TermRetaken = "retaken"

// A Term says who leads from where on. It is put in the transaction that takes
// the leader key, so its Mod is the epoch, and it outlives that key.
type Term struct {
	Mod      int64       `json:"-"`
	Leader   string      `json:"leader"`
	Over     int64       `json:"over,omitempty"` // the epoch this one was taken over; nobody led in between
	Timeline pg.Timeline `json:"timeline"`       // that is led; after a promotion the new one, where known
	LSN      pg.LSN      `json:"lsn"`            // where the leader began
	Kind     string      `json:"kind"`
	// Reserved is the latest timeline that a leader was to begin: nobody else may
	// begin it, whether or not he did.
	Reserved pg.Timeline `json:"reserved,omitempty"`
	// Standby: the cluster follows another one, and its leader is not promoted.
	Standby bool `json:"standby,omitempty"`
}

// Encode is the value to put.
func (t Term) Encode() string { return encode(t) }

// ParseTerm reads a term.
func ParseTerm(value []byte) (Term, error) {
	var t Term
	err := decode(value, &t)
	return t, err
}

// A Handover is the leader key held out by a leader whose server is down: To
// (anyone, if empty) may take the key over it, once it has everything up to LSN.
// The zero Handover holds out nothing; it is put over an offer to withdraw it.
type Handover struct {
	Mod      int64       `json:"-"`
	From     string      `json:"from,omitempty"`
	To       string      `json:"to,omitempty"`
	Epoch    int64       `json:"epoch,omitempty"` // of From
	Timeline pg.Timeline `json:"timeline,omitempty"`
	LSN      pg.LSN      `json:"lsn,omitempty"` // a standby that has flushed this has all of From's log
	Story    *Story      `json:"story,omitempty"`
}

// A Story is what happened before a leader key changed hands, for the page that
// its new holder writes.
type Story struct {
	Kind   string    `json:"kind"`
	Reason []string  `json:"reason"`
	At     time.Time `json:"at"` // the first sign
	Phases []Phase   `json:"phases"`
}

// Open says that the key is held out.
func (h Handover) Open() bool { return h.From != "" }

// Encode is the value to put.
func (h Handover) Encode() string { return encode(h) }

// ParseHandover reads a handover. One that is incomplete names nobody: whoever
// took the key without its position would lead without the last commits.
func ParseHandover(value []byte) (Handover, error) {
	var h Handover
	err := decode(value, &h)
	if err == nil && h != (Handover{}) && (h.From == "" || h.Epoch == 0 || h.LSN == 0 || h.Timeline == 0) {
		err = errors.New("from, epoch, timeline and lsn are needed")
	}
	if err != nil {
		return Handover{}, err
	}
	return h, nil
}

// A Claim is the right to create the cluster's database system; it hangs on the
// claimant's lease.
type Claim struct {
	Mod    int64
	Leader string
}

// A Pledge is a member's vote in the election after an epoch: its position,
// read after it stopped taking WAL of that epoch.
type Pledge struct {
	Member     string      `json:"-"`
	Mod        int64       `json:"-"`
	Epoch      int64       `json:"epoch"` // of the leader that was lost
	Timeline   pg.Timeline `json:"timeline"`
	LSN        pg.LSN      `json:"lsn"`
	Witness    bool        `json:"witness"` // it streamed from that leader when the leader was lost
	NoFailover bool        `json:"nofailover"`
	// Fenced: it takes no WAL of that epoch any more, come what may, and the
	// position was read after that (ha/quorum).
	Fenced bool `json:"fenced,omitempty"`
	// Refused: it takes no WAL of that epoch, and has no position to promise. The
	// leader of that epoch, if he is back, has to take his key anew for it to follow.
	Refused bool `json:"refused,omitempty"`
}

// Encode is the value to put.
func (p Pledge) Encode() string { return encode(p) }

// ParsePledge reads a member's pledge.
func ParsePledge(member string, value []byte) (Pledge, error) {
	p := Pledge{Member: member}
	err := decode(value, &p)
	if err == nil && p.Epoch == 0 {
		err = errors.New("epoch is needed")
	}
	return p, err
}

// A Suspicion is a voter's word that it hears nothing of the leader of an epoch.
type Suspicion struct {
	Member string `json:"-"`
	Mod    int64  `json:"-"`
	Epoch  int64  `json:"epoch"`
}

// Encode is the value to put.
func (s Suspicion) Encode() string { return encode(s) }

// ParseSuspicion reads a voter's suspicion.
func ParseSuspicion(member string, value []byte) (Suspicion, error) {
	s := Suspicion{Member: member}
	err := decode(value, &s)
	return s, err
}

// A Recorded member once joined and was never removed; it hangs on no lease.
type Recorded struct {
	Name   string    `json:"-"`
	Mod    int64     `json:"-"`
	Host   string    `json:"host"`
	Joined time.Time `json:"joined"`
}

// Encode is the value to put.
func (r Recorded) Encode() string { return encode(r) }

// ParseRecorded reads a recorded member.
func ParseRecorded(name string, value []byte) (Recorded, error) {
	r := Recorded{Name: name}
	err := decode(value, &r)
	return r, err
}

// A Why is a member's last decision.
type Why struct {
	Member  string    `json:"-"`
	Mod     int64     `json:"-"`
	At      time.Time `json:"at"`
	Epoch   int64     `json:"epoch"`
	Trail   []string  `json:"trail"`
	Actions []string  `json:"actions"`
	Waiting []string  `json:"waiting,omitempty"` // for whom or what, in words for a person

	Problems []problem.Error `json:"problems,omitempty"` // what a person has to do something about
	VIP      string          `json:"vip,omitempty"`      // the virtual address, while it is on this member's interface
}

// Encode is the value to put.
func (w Why) Encode() string { return encode(w) }

// ParseWhy reads a member's last decision.
func ParseWhy(member string, value []byte) (Why, error) {
	w := Why{Member: member}
	err := decode(value, &w)
	return w, err
}

// A FailoverPage tells the story of one change of leader.
type FailoverPage struct {
	Number    int64       `json:"-"` // counts from 1; the last part of its key
	Mod       int64       `json:"-"`
	Epoch     int64       `json:"epoch"` // that began with it
	Kind      string      `json:"kind"`
	From      string      `json:"from"`
	To        string      `json:"to"`
	Timeline  pg.Timeline `json:"timeline"`
	At        time.Time   `json:"at"` // when the first sign of it was seen
	Reason    []string    `json:"reason"`
	Phases    []Phase     `json:"phases"`
	LostBytes *int64      `json:"lost_bytes,omitempty"` // of WAL that no later primary has; absent: unknown
}

// Key is where the page is kept.
func (p FailoverPage) Key() string { return DirFailovers + strconv.FormatInt(p.Epoch, 10) }

// Outage is how long nobody wrote: from the first sign of what was not planned,
// or from when the first gateway held its clients for what was (without gateways,
// from the end of the checkpoint before), until the first answer to a
// write: to that of a client, where one waited. It is 0 where there was nothing to interrupt.
func (p FailoverPage) Outage() time.Duration {
	if p.Kind == KindBootstrap || p.Kind == KindPromotion {
		return 0
	}
	var begin, end time.Duration
	for _, ph := range p.Phases {
		switch ph.Name {
		case PhaseCheckpointed, PhaseHeld:
			begin = max(begin, ph.After)
		case PhaseWrites, PhaseRouted:
			end = max(end, ph.After)
		}
	}
	return max(end-begin, 0)
}

// The phases that Outage goes by.
const (
	PhaseCheckpointed = "checkpointed" // the last of a planned change before clients are cut off
	PhaseHeld         = "held"         // the first gateway begins no more transactions
	PhaseWrites       = "writes"       // what is written can be acknowledged again
	PhaseRouted       = "routed"       // and a client of a gateway had an answer
)

// A Phase ended so long after the first sign.
type Phase struct {
	Name  string
	After time.Duration
}

// MarshalJSON writes milliseconds, as people read them.
func (p Phase) MarshalJSON() ([]byte, error) {
	return []byte(encode(phaseJSON{p.Name, float64(p.After.Microseconds()) / 1000})), nil
}

// UnmarshalJSON reads milliseconds.
func (p *Phase) UnmarshalJSON(b []byte) error {
	var j phaseJSON
	if err := json.Unmarshal(b, &j); err != nil {
		return err
	}
	p.Name, p.After = j.Name, time.Duration(math.Round(j.MS*1000))*time.Microsecond
	return nil
}

type phaseJSON struct {
	Name string  `json:"name"`
	MS   float64 `json:"ms"`
}

// Encode is the value to put.
func (p FailoverPage) Encode() string { return encode(p) }

// PageKey is the key of the page with the given number.
func PageKey(number int64) string { return fmt.Sprintf("%s%06d", DirFailovers, number) }

// ParseFailoverPage reads a page.
func ParseFailoverPage(value []byte) (FailoverPage, error) {
	var p FailoverPage
	err := decode(value, &p)
	return p, err
}

// Kinds of a request.
const (
	RequestRestart = "restart"
	RequestReload  = "reload"
	RequestReinit  = "reinit"
)

// A Request is what a person asked of one member, which deletes it when done.
type Request struct {
	Member string    `json:"-"`
	Mod    int64     `json:"-"`
	ID     string    `json:"id"`
	Kind   string    `json:"kind"`
	At     time.Time `json:"at"`
	By     string    `json:"by"` // user@host

	Force bool `json:"force,omitempty"` // reinit: also instead of work that is under way

	// A restart for later, and what must hold then for it to happen. The names
	// are those of Patroni's POST /restart, under which it is published.
	Schedule time.Time `json:"schedule,omitzero"`
	Role     string    `json:"role,omitempty"`                  // the server's role
	Version  string    `json:"postgres_version,omitempty"`      // the server is older than this one: "15.4"
	Pending  bool      `json:"restart_pending,omitempty"`       // some setting waits for it
	Timeout  int64     `json:"timeout,omitempty"`               // seconds it may take
	Started  string    `json:"postmaster_start_time,omitempty"` // of the server that is meant
}

// Restart is the request as its member publishes it (scheduled_restart).
func (r Request) Restart() map[string]any {
	m := map[string]any{"schedule": FormatTime(r.Schedule), "postmaster_start_time": r.Started}
	if r.Role != "" {
		m["role"] = r.Role
	}
	if r.Version != "" {
		m["postgres_version"] = r.Version
	}
	if r.Pending {
		m["restart_pending"] = true
	}
	if r.Timeout > 0 {
		m["timeout"] = float64(r.Timeout)
	}
	return m
}

// Encode is the value to put.
func (r Request) Encode() string { return encode(r) }

// ParseRequest reads what is asked of member.
func ParseRequest(member string, value []byte) (Request, error) {
	r := Request{Member: member}
	err := decode(value, &r)
	return r, err
}

// A Gateway leads clients to the cluster, on a host that need not be a member's.
type Gateway struct {
	Host   string `json:"-"`      // of the inventory
	Node   string `json:"node"`   // its name there
	Listen string `json:"listen"` // host:port of its page
	Epoch  int64  `json:"epoch"`  // the reign that it follows: it sends nobody to a primary before
	// Ready is the newest generation of howdah/drain for which it has done all that it can ahead of time.
	Ready int64 `json:"ready,omitempty"`
	// Held is the newest generation of howdah/drain for which it holds clients, and
	// Open how many transactions were going on then that it knows of.
	Held int64 `json:"held,omitempty"`
	Open int   `json:"open,omitempty"`
	// HeldAt is since when it has held them, by its own clock.
	HeldAt time.Time `json:"held_at,omitzero"`
	// Served is the newest reign whose leader has answered a client through it.
	Served int64 `json:"served,omitempty"`
	// ServedAt is when it did so for the first time, or again after it had been away.
	ServedAt time.Time `json:"served_at,omitzero"`
	// Since is when its process began to serve.
	Since time.Time `json:"since,omitzero"`
	// Refused is the restart that was asked for last and came to nothing, by its ID, and why.
	Refused string `json:"refused,omitempty"`
}

// Encode is the value to put.
func (g Gateway) Encode() string { return encode(g) }

// ParseGateway reads the gateway of host.
func ParseGateway(host string, value []byte) (Gateway, error) {
	g := Gateway{Host: host}
	err := decode(value, &g)
	return g, err
}
