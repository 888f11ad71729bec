package cluster

import (
	"cmp"
	"errors"
	"slices"
	"strconv"
	"strings"

	"howdah/pg"
)

// A KV is one key of the store, relative to the cluster's base.
type KV struct {
	Key    string
	Value  []byte
	Create int64
	Mod    int64 // revision of the last put
	Lease  int64 // 0: none
}

// A Leader is who holds the leader key. Its Mod is the epoch. A Leader without
// a Name is one whose key can not be read: someone leads.
type Leader struct {
	Name  string
	Lease int64
	Mod   int64
}

// A Problem is a value that can not be (wholly) read.
type Problem struct {
	Key string
	Why string
}

// A State is everything one snapshot of the store says about the cluster.
// Slices are sorted by name (Failovers by number). A value that can not be read
// is listed in Problems and is unknown, never absent: ask Unknown before taking
// a zero value for an answer.
type State struct {
	Revision   int64
	Initialize Initialize
	Config     Config
	Leader     *Leader // nil: certainly nobody
	Members    []Member
	Status     Status
	Sync       Sync
	Failover   Failover
	History    History
	Failsafe   Failsafe
	FailsafeAt int64 // its Mod; 0: it is not there

	Term      *Term     // nil: none
	Claim     *Claim    // nil: none, or its node is gone
	Handover  *Handover // nil: none
	Drain     *Drain    // nil: none
	Restore   *Restore  // nil: there never was one
	Recorded  []Recorded
	Pledges   []Pledge
	Requests  []Request
	Schedules []Request
	Suspects  []Suspicion
	Whys      []Why
	Failovers []FailoverPage
	Gateways  []Gateway

	Problems []Problem
}

// Parse reads a snapshot. It never fails: what can not be read is a Problem.
func Parse(revision int64, keys map[string]KV) State { return new(Reader).Parse(revision, keys) }

// Parse reads a snapshot, like the function of that name.
func (r *Reader) Parse(revision int64, keys map[string]KV) State {
	s := State{Revision: revision}
	same := r.begin(keys)
	r.keep(&s, same)
	for _, e := range r.keys {
		if same[e.dir] {
			continue
		}
		if err := s.read(r, e.Key, e.KV); err != nil {
			s.Problems = append(s.Problems, Problem{e.Key, err.Error()})
		}
	}
	if _, ok := keys[KeyStatus]; !ok {
		if kv, ok := keys[keyOptime]; ok {
			kv.Key = keyOptime
			var err error
			if s.Status, err = parsed(r, kv, ParseStatus); err != nil {
				s.Problems = append(s.Problems, Problem{keyOptime, err.Error()})
			}
		}
	}
	if !same[slices.Index(dirs[:], DirFailovers)] {
		slices.SortFunc(s.Failovers, func(a, b FailoverPage) int { return cmp.Compare(a.Number, b.Number) })
	}
	r.last = s
	return s
}

func (s *State) read(r *Reader, key string, kv KV) (err error) {
	switch key {
	case KeyInitialize:
		s.Initialize, err = parsed(r, kv, ParseInitialize)
		s.Initialize.Mod = kv.Mod
	case KeyConfig:
		s.Config, err = parsed(r, kv, ParseConfig)
		s.Config.Mod = kv.Mod
	case KeyLeader:
		s.Leader = &Leader{Name: string(kv.Value), Lease: kv.Lease, Mod: kv.Mod}
		if s.Leader.Name == "" {
			err = errors.New("empty, the name of a member is expected")
		}
	case KeyStatus:
		s.Status, err = parsed(r, kv, ParseStatus)
	case KeySync:
		s.Sync, err = parsed(r, kv, ParseSync)
		s.Sync.Mod = kv.Mod
	case KeyFailover:
		s.Failover, err = parsed(r, kv, ParseFailover)
		s.Failover.Mod = kv.Mod
	case KeyHistory:
		s.History, err = parsed(r, kv, ParseHistory)
	case KeyFailsafe:
		s.Failsafe, err = parsed(r, kv, ParseFailsafe)
		s.FailsafeAt = kv.Mod
	case KeyTerm:
		var t Term
		t, err = parsed(r, kv, ParseTerm)
		t.Mod = kv.Mod
		s.Term = &t
	case KeyClaim:
		s.Claim = &Claim{Mod: kv.Mod, Leader: string(kv.Value)}
	case KeyHandover:
		var h Handover
		h, err = parsed(r, kv, ParseHandover)
		h.Mod = kv.Mod
		s.Handover = &h
	case KeyDrain:
		var d Drain
		d, err = parsed(r, kv, ParseDrain)
		d.Mod = kv.Mod
		s.Drain = &d
	case KeyRestore:
		var q Restore
		q, err = parsed(r, kv, ParseRestore)
		q.Mod = kv.Mod
		if err == nil { // Unknown tells
			s.Restore = &q
		}
	default:
		return s.readBelow(r, key, kv)
	}
	return err
}

// readBelow reads a key of one of the directories. Keys sort by name within
// theirs, so appending keeps the order.
func (s *State) readBelow(r *Reader, key string, kv KV) (err error) {
	i := strings.LastIndexByte(key, '/')
	dir, name := key[:i+1], key[i+1:]
	if name == "" {
		return errors.New("no name after the slash")
	}
	switch dir {
	case DirMembers:
		var m Member
		m, err = parsedAs(r, name, kv, ParseMember)
		m.Mod, m.Lease = kv.Mod, kv.Lease
		s.Members = append(s.Members, m)
	case DirRecorded:
		var m Recorded
		m, err = parsedAs(r, name, kv, ParseRecorded)
		m.Mod = kv.Mod
		s.Recorded = append(s.Recorded, m)
	case DirPledges:
		var p Pledge
		p, err = parsedAs(r, name, kv, ParsePledge)
		p.Mod = kv.Mod
		if err == nil { // a vote that can not be read is no vote
			s.Pledges = append(s.Pledges, p)
		}
	case DirRequests:
		var q Request
		q, err = parsedAs(r, name, kv, ParseRequest)
		q.Mod = kv.Mod
		if err == nil {
			s.Requests = append(s.Requests, q)
		}
	case DirSchedules:
		var q Request
		q, err = parsedAs(r, name, kv, ParseRequest)
		q.Mod = kv.Mod
		if err == nil {
			s.Schedules = append(s.Schedules, q)
		}
	case DirSuspects:
		var p Suspicion
		p, err = parsedAs(r, name, kv, ParseSuspicion)
		p.Mod = kv.Mod
		if err == nil {
			s.Suspects = append(s.Suspects, p)
		}
	case DirWhy:
		var w Why
		w, err = parsedAs(r, name, kv, ParseWhy)
		w.Mod = kv.Mod
		s.Whys = append(s.Whys, w)
	case DirFailovers:
		var p FailoverPage
		p, err = parsed(r, kv, ParseFailoverPage)
		p.Number, _ = strconv.ParseInt(name, 10, 64)
		p.Mod = kv.Mod
		s.Failovers = append(s.Failovers, p)
	case DirGateways:
		var g Gateway
		g, err = parsedAs(r, name, kv, ParseGateway)
		s.Gateways = append(s.Gateways, g)
	}
	return err // a key of someone else's is none of our business
}

// Unknown says that the value of key is there and can not be (wholly) read.
func (s *State) Unknown(key string) bool {
	return slices.ContainsFunc(s.Problems, func(p Problem) bool { return p.Key == key })
}

// Ours says that the member is none of Patroni's own: it has entered itself in
// the list of ours, or said why it does what it does.
func (s *State) Ours(member string) bool {
	for i := range s.Recorded {
		if s.Recorded[i].Name == member {
			return true
		}
	}
	if _, why := s.Why(member); why {
		return true
	}
	return len(s.Problems) > 0 && (s.Unknown(DirRecorded+member) || s.Unknown(DirWhy+member)) // something is there
}

// Epoch is the reign that a right to write comes from: that of the leader, or
// without one, the last that began. 0: there was none yet.
func (s *State) Epoch() int64 {
	switch {
	case s.Leader != nil:
		return s.Leader.Mod
	case s.Term != nil:
		return s.Term.Mod
	}
	return 0
}

// Stray says that the leader key was written by who is no agent, over one that was: an
// agent puts it with its lease, and with the term in the same transaction. Nobody
// leads by it, whatever name it carries.
func (s *State) Stray() bool {
	return s.Leader != nil && s.Leader.Lease == 0 && s.Term != nil && s.Term.Mod < s.Leader.Mod
}

// LeaderName is the leader's name, or "".
func (s *State) LeaderName() string {
	if s.Leader == nil || s.Stray() {
		return ""
	}
	return s.Leader.Name
}

// Timeline is the highest timeline that the cluster is known to have begun.
func (s *State) Timeline() pg.Timeline {
	t := s.History.Timeline()
	if s.Term != nil {
		t = max(t, s.Term.Timeline)
	}
	return t
}

// Reserved is the highest timeline that anybody has begun or was to begin.
func (s *State) Reserved() pg.Timeline {
	t := s.Timeline()
	if s.Term != nil {
		t = max(t, s.Term.Reserved)
	}
	if s.Restore != nil {
		t = max(t, s.Restore.Timeline)
	}
	for _, m := range s.Members {
		t = max(t, m.Timeline)
	}
	return t
}

// Member returns the member called name, if it has published itself.
func (s *State) Member(name string) (Member, bool) {
	for i := range s.Members { // large: not copied to be looked at
		if s.Members[i].Name == name {
			return s.Members[i], true
		}
	}
	return Member{}, false
}

// Pledge returns member's pledge, whatever its epoch.
func (s *State) Pledge(member string) (Pledge, bool) {
	for _, p := range s.Pledges {
		if p.Member == member {
			return p, true
		}
	}
	return Pledge{}, false
}

// Request returns what is asked of member.
func (s *State) Request(member string) (Request, bool) {
	for _, r := range s.Requests {
		if r.Member == member {
			return r, true
		}
	}
	return Request{}, false
}

// Schedule returns what is asked of member for later.
func (s *State) Schedule(member string) (Request, bool) {
	for _, r := range s.Schedules {
		if r.Member == member {
			return r, true
		}
	}
	return Request{}, false
}

// Why returns member's last decision.
func (s *State) Why(member string) (Why, bool) {
	for i := range s.Whys {
		if s.Whys[i].Member == member {
			return s.Whys[i], true
		}
	}
	return Why{}, false
}

// Names are those of every member, recorded or present, sorted.
func (s *State) Names() []string {
	var names []string
	for _, m := range s.Members {
		names = append(names, m.Name)
	}
	for _, r := range s.Recorded {
		names = append(names, r.Name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}
