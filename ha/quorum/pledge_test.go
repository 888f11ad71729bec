package quorum

import (
	"strings"
	"testing"

	"howdah/cluster"
	"howdah/pg"
)

func TestPromise(t *testing.T) {
	done := Fence{Member: "b", Refusal: 7, Durable: 1, Cleared: 2, Gone: 3, Read: 4, At: Position{3, 100}, Whole: true}
	for _, tt := range []struct {
		name    string
		with    func(*Fence)
		missing string
	}{
		{"all of it, in order", func(*Fence) {}, ""},
		{"at one instant", func(f *Fence) { f.Cleared, f.Gone, f.Read = 1, 1, 1 }, ""},
		{"nothing", func(f *Fence) { *f = Fence{} }, "epoch"},
		{"no epoch", func(f *Fence) { f.Refusal = 0 }, "epoch"},
		{"not on disk", func(f *Fence) { f.Durable = 0 }, "refusal on disk"},
		{"upstream not cleared", func(f *Fence) { f.Cleared = 0 }, "upstream cleared"},
		{"cleared before the refusal was on disk", func(f *Fence) { f.Durable = 3 }, "upstream cleared"},
		{"receiver not seen gone", func(f *Fence) { f.Gone = 0 }, "wal receiver gone"},
		{"receiver seen gone before it could not come back", func(f *Fence) { f.Gone = 1 }, "wal receiver gone"},
		{"position read while it may have run", func(f *Fence) { f.Read = 2 }, "position read after it"},
		{"no position", func(f *Fence) { f.At = Position{} }, "position read after it"},
		{"data of another", func(f *Fence) { f.Whole = false }, "whole data"},
	} {
		f := done
		tt.with(&f)
		p, missing := Promise(f)
		if missing != tt.missing || (missing != "") != (p == Pledge{}) {
			t.Errorf("%s: %+v, missing %q, want %q", tt.name, p, missing, tt.missing)
		}
	}
	p, _ := Promise(done)
	s := p.Stored()
	s.Member = ""
	again, err := cluster.ParsePledge("b", []byte(s.Encode()))
	if back, ok := Stored(again); err != nil || !ok || back != p {
		t.Errorf("%+v comes back from the store as %+v, %t, %v", p, back, ok, err)
	}
	again.Fenced = false
	if _, ok := Stored(again); ok {
		t.Error("a position that nobody fenced counts as a pledge")
	}
	if Refusal(7).Allows(7) || !Refusal(7).Allows(8) {
		t.Error("a refusal covers its own epoch, and none after")
	}
}

func TestSucceed(t *testing.T) {
	for _, tt := range []struct {
		name, leader, voters string
		quorum               int
		next                 string
		want                 string
	}{
		// patroni tests/test_quorum.py, test_promotion, test_nonsync_promotion and test_empty_ssn.
		{"one of three", "a", "bcd", 2, "c", "c 2 abd ANY 1 (a,b,d)"},
		{"one of two", "a", "bc", 1, "c", "c 1 ab ANY 1 (a,b)"},
		{"none of them", "a", "bc", 1, "d", "d 1 abc ANY 2 (a,b,c)"},
		{"all had everything", "a", "bc", 0, "c", "c 0 ab ANY 2 (a,b)"},
		{"the same again", "a", "bc", 1, "a", "a 1 bc ANY 1 (b,c)"},
		{"alone, the same again", "a", "", 0, "a", "a 0  " + nobody},
		{"a person's choice", "a", "", 0, "b", "b 0  " + nobody},
	} {
		from := cluster.Sync{Mod: 5, Leader: tt.leader, Quorum: tt.quorum, Standby: each(tt.voters)}
		s, n := Succeed(from, tt.next)
		got := strings.Join([]string{s.Leader, string(rune('0' + s.Quorum)), strings.Join(s.Standby, ""), n.String()}, " ")
		if got != tt.want || !Holds(s, n) || s.Mod != 5 {
			t.Errorf("%s: %q (holds: %t), want %q", tt.name, got, Holds(s, n), tt.want)
		}
	}
}

func TestHolds(t *testing.T) {
	for _, tt := range []struct {
		name, voters string
		quorum       int
		rule         Names
		want         bool
	}{
		{"tight", "bc", 1, Any(1, "b", "c"), true},
		{"too few pledges", "bc", 0, Any(1, "b", "c"), false},
		{"too few acknowledgements", "bcd", 1, Any(1, "b", "c", "d"), false},
		{"more of both than needed", "bcd", 2, Any(3, "b", "c", "d"), true},
		{"more voters", "bcd", 2, Any(1, "b"), true},
		{"more standbys", "b", 0, Any(2, "b", "c"), true},
		{"neither holds the other", "bc", 1, Any(2, "b", "d"), false},
		{"quorum as large as the voters", "bc", 2, Any(1, "b", "c"), false},
		{"quorum below 0", "b", -1, Any(3, "b"), false},
		{"nobody is waited for", "bc", 1, Names{}, false},
		{"nobody eligible, nobody waited for", "", 0, Names{}, true},
		{"nobody eligible, but a quorum", "", 1, Any(1, "b"), false},
		{"anybody may acknowledge", "bc", 1, Any(2, "*"), false},
		{"the leader counts on neither side", "abc", 1, Any(1, "a", "b", "c"), true},
		{"case", "BC", 1, Any(1, "b", "c"), true},
	} {
		s := cluster.Sync{Leader: "a", Quorum: tt.quorum, Standby: each(tt.voters)}
		if got := Holds(s, tt.rule); got != tt.want {
			t.Errorf("%s: %t, want %t", tt.name, got, tt.want)
		}
	}
}

func TestElect(t *testing.T) {
	pledge := func(name string, tl pg.Timeline, lsn pg.LSN) Pledge {
		return Pledge{member: name, epoch: 9, at: Position{tl, lsn}}
	}
	base := func() Ballot { // a led three voters, of whom two must pledge; b and d did
		return Ballot{
			Self: "b", Mode: cluster.SyncQuorum, Epoch: 9, Leader: "a", Timeline: 3, Whole: true, At: Position{3, 100},
			Sync:    cluster.Sync{Mod: 4, Leader: "a", Quorum: 1, Standby: []string{"b", "c", "d"}},
			Pledges: []Pledge{pledge("b", 3, 100), pledge("d", 3, 100)},
		}
	}
	for _, tt := range []struct {
		name  string
		with  func(*Ballot)
		trail string
		act   Act
		rank  int
	}{
		{"equal: by name", func(*Ballot) {}, "pledged=2/2 best=b(0/64 on 3)", Take{9, 4, `{"leader":"b","quorum":1,"sync_standby":"a,c,d"}`, "ANY 2 (a,c,d)"}, 0},
		{"… but priority comes first", func(b *Ballot) { b.Priority = map[string]int{"d": 5} }, "pledged=2/2 best=d(0/64 on 3)", Take{9, 4, `{"leader":"b","quorum":1,"sync_standby":"a,c,d"}`, "ANY 2 (a,c,d)"}, 1},
		{"… and position before it", func(b *Ballot) { b.Priority, b.Pledges[0].at.LSN, b.At.LSN = map[string]int{"d": 5}, 101, 101 }, "pledged=2/2 best=b(0/65 on 3)", Take{9, 4, `{"leader":"b","quorum":1,"sync_standby":"a,c,d"}`, "ANY 2 (a,c,d)"}, 0},
		{"mode on writes the setting as a list", func(b *Ballot) {
			b.Mode, b.Sync.Quorum, b.Sync.Standby, b.Pledges = cluster.SyncOn, 0, []string{"b"}, b.Pledges[:1]
		}, "pledged=1/1 best=b(0/64 on 3)", Take{9, 4, `{"leader":"b","quorum":0,"sync_standby":"a"}`, "a"}, 0},
		{"behind the best, who is first", func(b *Ballot) { b.Pledges[1].at.LSN = 200 }, "pledged=2/2 best=d(0/C8 on 3) behind=0/64", Fetch{"d", Position{3, 200}}, 1},
		{"behind the best, who may not lead", func(b *Ballot) { b.Pledges[1].at.LSN, b.Pledges[1].nofailover = 200, true }, "pledged=2/2 best=d(0/C8 on 3) behind=0/64", Fetch{"d", Position{3, 200}}, 0},
		{"a later timeline is ahead whatever its position", func(b *Ballot) { b.Pledges[0].at, b.At = Position{2, 900}, Position{2, 900} }, "pledged=2/2 best=d(0/64 on 3) behind=0/384", Fetch{"d", Position{3, 100}}, 1},
		{"one short", func(b *Ballot) { b.Pledges = b.Pledges[:1] }, "pledged=1/2", Ask{"c,d", 1}, 0},
		{"the quorum alone is not enough", func(b *Ballot) { b.Sync.Quorum = 2 }, "pledged=2/3", Ask{"c", 1}, 0},
		{"its own is missing", func(b *Ballot) { b.Pledges[0].member = "c" }, "pledged=2/2", Ask{"b", 1}, 0},
		{"its own is not true any more", func(b *Ballot) { b.At.LSN = 99 }, "data=behind-pledge(0/64) pledged=1/2", Ask{"b,c", 1}, 0},
		{"a pledge of another epoch", func(b *Ballot) { b.Pledges[1].epoch = 8 }, "pledged=1/2", Ask{"c,d", 1}, 0},
		{"a pledge of nobody who counts", func(b *Ballot) { b.Pledges[1].member = "e" }, "pledged=1/2", Ask{"c,d", 1}, 0},
		{"a pledge of the leader itself", func(b *Ballot) { b.Pledges[1].member, b.Sync.Standby = "a", []string{"a", "b", "c"} }, "pledged=1/2", Ask{"c", 1}, 0},
		{"one pledge twice", func(b *Ballot) { b.Pledges[1].member = "B" }, "pledged=1/2", Ask{"c,d", 1}, 0},
		{"a timeline that nobody was to lead", func(b *Ballot) { b.Pledges[1].at.Timeline = 4 }, "pledge=foreign(d on 4) pledged=1/2", Ask{"c,d", 1}, 0},
		{"a timeline that is no ancestor", func(b *Ballot) { b.Pledges[1].at.Timeline, b.Lineage = 2, pg.History{{Timeline: 1, At: 50}} }, "pledge=foreign(d on 2) pledged=1/2", Ask{"c,d", 1}, 0},
		{"an ancestor counts", func(b *Ballot) {
			b.Pledges[1].at.Timeline, b.Lineage = 1, pg.History{{Timeline: 1, At: 50}}
		}, "pledged=2/2 best=b(0/64 on 3)", Take{9, 4, `{"leader":"b","quorum":1,"sync_standby":"a,c,d"}`, "ANY 2 (a,c,d)"}, 0},
		{"may not lead", func(b *Ballot) { b.Pledges[0].nofailover = true }, "pledged=2/2 best=b(0/64 on 3) candidate=no(nofailover)", nil, 0},
		{"does not count", func(b *Ballot) { b.Self = "e" }, "candidate=no(voter)", nil, 0},
		{"its data were copied", func(b *Ballot) { b.Whole = false }, "data=copied", nil, 0},
		{"the leader itself needs nobody", func(b *Ballot) { b.Self, b.Pledges = "a", nil }, "last-leader=self", Take{9, 4, `{"leader":"a","quorum":1,"sync_standby":"b,c,d"}`, "ANY 2 (b,c,d)"}, 0},
		{"… but its data", func(b *Ballot) { b.Self, b.Whole = "a", false }, "data=copied", nil, 0},
		{"the leader alone is eligible", func(b *Ballot) { b.Sync.Quorum, b.Sync.Standby = 0, nil }, "voters=none(only a)", nil, 0},
		{"no synchronous mode", func(b *Ballot) { b.Sync = cluster.Sync{} }, "sync=none", nil, 0},
		{"/sync of another leader than the epoch's", func(b *Ballot) { b.Leader = "c" }, "sync=of-a epoch=of-c", nil, 0},
	} {
		b := base()
		tt.with(&b)
		got := Elect(b)
		if trail := strings.Join(got.Trail, " "); trail != tt.trail || got.Act != tt.act || got.Rank != tt.rank {
			t.Errorf("%s:\n got %s, %v, rank %d\nwant %s, %v, rank %d", tt.name, trail, got.Act, got.Rank, tt.trail, tt.act, tt.rank)
		}
	}
	take, _ := Elect(base()).Act.(Take)
	if m := take.Begin(); m.Rule.String() != "ANY 2 (a,c,d)" || m.Written.String() != m.Rule.String() {
		t.Errorf("a leader begins with %+v", m)
	}
}
