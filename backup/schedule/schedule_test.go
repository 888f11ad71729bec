package schedule_test

import (
	"testing"
	"time"

	"howdah/backup/repo"
	"howdah/backup/schedule"
	"howdah/spec"
)

func TestNext(t *testing.T) {
	noon := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC) // a Saturday
	var times []spec.BackupTime
	for _, line := range spec.BackupTimes() {
		at, err := spec.ParseBackupTime(line)
		if err != nil {
			t.Fatal(err)
		}
		times = append(times, at)
	}
	at := func(d time.Duration) int64 { return noon.Add(d).Unix() }
	const hour, day = time.Hour, 24 * time.Hour
	base := func() schedule.View { // the full one of Sunday, and this morning's
		return schedule.View{
			Now: noon, Leads: noon.Add(-hour), First: true, Times: times, Stanza: true, Filled: true, Looked: true,
			Backups: []repo.Backup{{Type: repo.Full, Start: at(-6*day - 11*hour)}, {Type: repo.Incr, Start: at(-11 * hour)}},
		}
	}
	for _, tt := range []struct {
		name string
		with func(*schedule.View)
		do   schedule.Deed
		kind repo.Type
		from string
	}{
		{"all is well", nil, schedule.Rest, "", ""},
		{"the first", func(v *schedule.View) { v.Backups = nil }, schedule.Take, repo.Full, ""},
		{"not unasked", func(v *schedule.View) { v.Backups, v.First = nil, false }, schedule.Rest, "", ""},
		{"a new leader has more to do", func(v *schedule.View) { v.Backups, v.Leads = nil, noon.Add(-time.Second) }, schedule.Rest, "", ""},
		{"another has newer ones", func(v *schedule.View) { v.Source = "b" }, schedule.Copy, "", "b"},
		{"a gap in the archive", func(v *schedule.View) { v.Hole = "000000010000000000000004" }, schedule.Take, repo.Incr, ""},
		{"nobody was asked yet whether another has some", func(v *schedule.View) { v.Backups, v.Looked = nil, false }, schedule.Rest, "", ""},
		{"this morning's was missed", func(v *schedule.View) { v.Backups = v.Backups[:1] }, schedule.Take, repo.Incr, ""},
		{"Sunday's was missed", func(v *schedule.View) { v.Backups[0].Start = at(-7 * day) }, schedule.Take, repo.Full, ""},
		{"it failed just now", func(v *schedule.View) { v.Backups, v.Failed = nil, noon.Add(-30*time.Second) }, schedule.Rest, "", ""},
		{"it failed, and time has passed", func(v *schedule.View) { v.Backups, v.Failed = nil, noon.Add(-schedule.Pause) }, schedule.Take, repo.Full, ""},
		{"a person asks whatever failed", func(v *schedule.View) { v.Asked, v.Failed = repo.Diff, noon }, schedule.Take, repo.Diff, ""},
		{"a repository of nothing", func(v *schedule.View) { v.Stanza, v.Asked = false, repo.Full }, schedule.Introduce, "", ""},
		{"what the predecessor owes comes before a backup", func(v *schedule.View) { v.Filled, v.Asked = false, repo.Full }, schedule.Fill, "", ""},
		{"a standby makes none", func(v *schedule.View) { v.Leads, v.Backups, v.Asked = time.Time{}, nil, repo.Full }, schedule.Rest, "", ""},
		{"a standby that is to hold them", func(v *schedule.View) { v.Leads, v.Wanted, v.Source = time.Time{}, true, "a" }, schedule.Copy, "", "a"},
		{"of a bucket there is no second copy", func(v *schedule.View) {
			v.Leads, v.Wanted, v.Source, v.Shared = time.Time{}, true, "a", true
		}, schedule.Rest, "", ""},
		{"nobody has another bucket", func(v *schedule.View) { v.Backups, v.Looked, v.Source, v.Shared = nil, false, "b", true }, schedule.Take, repo.Full, ""},
		{"a standby that is not", func(v *schedule.View) { v.Leads, v.Source = time.Time{}, "a" }, schedule.Rest, "", ""},
	} {
		v := base()
		if tt.with != nil {
			tt.with(&v)
		}
		if got := schedule.Next(v); got.Do != tt.do || got.Type != tt.kind || got.From != tt.from {
			t.Errorf("%s: %+v, want %s %s %s", tt.name, got, tt.do, tt.kind, tt.from)
		}
	}
	if got, want := schedule.Soonest(base()), noon.Add(13*hour); !got.Equal(want) {
		t.Errorf("the next is at %s, want %s", got, want)
	}
}

func TestSource(t *testing.T) {
	offers := []schedule.Offer{
		{Member: "b", Leads: true, Mark: "2", Backups: []repo.Backup{{Stop: 5}}},
		{Member: "c", Mark: "1", Backups: []repo.Backup{{Stop: 7}}},
	}
	for _, tt := range []struct {
		name  string
		leads bool
		seen  map[string]string
		own   int64 // when its newest backup ended; 0: it has none
		want  string
	}{
		{"a standby has not seen the leader's", false, nil, 0, "b"},
		{"a standby has seen something older", false, map[string]string{"b": "1"}, 9, "b"},
		{"a standby has seen all", false, map[string]string{"b": "2"}, 0, ""},
		{"a leader takes the newest", true, nil, 0, "c"},
		{"a leader has an older one", true, nil, 6, "c"},
		{"a leader has the newest", true, nil, 7, ""},
	} {
		var own []repo.Backup
		if tt.own > 0 {
			own = []repo.Backup{{Stop: tt.own}}
		}
		if got := schedule.Source(tt.leads, own, tt.seen, offers); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
	if got := schedule.Source(true, nil, nil, []schedule.Offer{{Member: "b"}}); got != "" {
		t.Errorf("a leader takes nothing from %q", got)
	}
}
