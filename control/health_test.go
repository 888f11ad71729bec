package control

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"howdah/backup/keep"
	"howdah/cluster"
	"howdah/dcs"
	"howdah/dcs/mem"
	"howdah/machine/doctor"
	"howdah/problem"
)

// Every check says what was seen, and whatever is not well what mends it; what is not
// known is not said to be well.
func TestHealth(t *testing.T) {
	noon := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	well := func() Status {
		b := &Backups{Cluster: "demo", Leader: "demo-1", Members: []keep.State{{Member: "demo-1", Leads: true, Newest: "000000010000000000000007", Drill: &keep.Drill{Verdict: keep.Passed, Last: noon.Add(-time.Hour)}}}}
		b.Backups = []HeldBackup{{Backup: keep.Backup{Label: "20261122-010000F", Stop: noon.Add(-11 * time.Hour)}, Members: []string{"demo-1", "demo-2"}}}
		return Status{
			Cluster: "demo", At: noon, Survives: 1, Etcd: []EtcdMember{{Name: "demo-1", Up: true}, {Name: "demo-2", Up: true}, {Name: "demo-3", Up: true}},
			Picture: cluster.Picture{Leader: "demo-1", Timeline: 1, Members: []cluster.PictureMember{
				{Name: "demo-1", Role: cluster.Leads, Running: true, State: cluster.StateRunning}, {Name: "demo-2", Running: true, State: cluster.ReplicationStreaming},
			}},
			Commits: &Commits{Mode: "quorum", Wait: 1, Voters: []string{"demo-2"}}, Access: []Gateway{{Member: "demo-1"}, {Member: "demo-2"}}, Backup: b, Alerts: &Alerts{},
		}
	}
	grades := func(all []doctor.Finding) string {
		var b []string
		for _, f := range all {
			if f.Grade != doctor.OK {
				b = append(b, f.Check+" "+string(f.Grade))
				if f.Do == "" {
					t.Errorf("%s: nobody says what to do about %s", f.Check, f.Evidence)
				}
			}
			if f.Evidence == "" || f.Host != "cluster demo" || f.Grade == doctor.OK && f.Do != "" {
				t.Errorf("a finding is %+v", f)
			}
		}
		return strings.Join(b, ", ")
	}
	for _, tt := range []struct {
		name string
		with func(*Status)
		want string
	}{
		{"all is well", func(*Status) {}, ""},
		{"nobody leads", func(s *Status) { s.Picture.Leader, s.Survives = "", 0 }, "leader fail, survival warn"},
		{"paused", func(s *Status) { s.Picture.Paused = true }, "leader warn"},
		{"one is away", func(s *Status) { s.Picture.Away = []string{"demo-3"} }, "servers fail"},
		{"one does not stream", func(s *Status) { s.Picture.Members[1].State = "catchup" }, "replication warn"},
		{"one waits for a restart", func(s *Status) { s.Picture.Members[1].PendingRestart = true }, "settings warn"},
		{"commits wait for nobody", func(s *Status) { s.Commits.Wait, s.Commits.Voters = 0, nil }, "commits warn"},
		{"one of etcd is down", func(s *Status) { s.Etcd[0].Up = false }, "store warn"},
		{"two of etcd are", func(s *Status) { s.Etcd[0].Up, s.Etcd[1].Up = false, false }, "store fail"},
		{"etcd is nearly full", func(s *Status) { s.Etcd[0].Bytes, s.Etcd[0].Quota = 90, 100 }, "store warn"},
		{"a gateway hangs", func(s *Status) { s.Access[0].Unwell = "does not answer" }, "gateways warn"},
		{"there is no gateway", func(s *Status) { s.Access = nil }, "gateways fail"},
		{"no backups are kept", func(s *Status) { s.Backup = nil }, "backups warn"},
		{"no backup was made", func(s *Status) { s.Backup.Backups = nil }, "backups fail"},
		{"the backup is old", func(s *Status) { s.Backup.Backups[0].Stop = noon.Add(-3 * backupSoon) }, "backups warn"},
		{"WAL is missing", func(s *Status) { s.Backup.Members[0].Hole = "000000010000000000000005" }, "archive fail"},
		{"nothing was rehearsed", func(s *Status) { s.Backup.Members[0].Drill = nil }, "drill warn"},
		{"the drill failed", func(s *Status) { s.Backup.Members[0].Drill.Verdict = keep.Failed }, "drill fail"},
		{"the drill is old", func(s *Status) { s.Backup.Members[0].Drill.Last = noon.Add(-2 * drillSoon) }, "drill warn"},
		{"nobody keeps metrics", func(s *Status) { s.Alerts = nil }, "alerts unknown"},
		{"an alert fires", func(s *Status) { s.Alerts.All = []Alert{{Name: "MemberDown", Severity: Critical, State: Firing}} }, "alerts warn"},
		{"one is about to", func(s *Status) { s.Alerts.All = []Alert{{Name: "MemberDown", Severity: Critical, State: Pending}} }, ""},
		{"a member has a problem", func(s *Status) {
			s.Problems = []MemberProblem{{"demo-2", problem.Error{Code: "disk-full", What: "no room", Why: "it is full", Do: "make some"}}}
		}, "disk-full fail"},
	} {
		s := well()
		tt.with(&s)
		if got := grades(Health(s)); got != tt.want {
			t.Errorf("%s: %q, want %q\n%+v", tt.name, got, tt.want, Health(s))
		}
	}
}

// Of a store that does not answer nothing is known.
func TestHealthUnseen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.store.Faults(func(dcs.Request) mem.Fault { return mem.Fault{Refuse: true} })
		if all := w.c.Health(t.Context()); len(all) != 1 || all[0].Grade != doctor.Unknown || all[0].Do == "" {
			t.Errorf("got %+v", all)
		}
	})
}
