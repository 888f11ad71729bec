package schedule_test

import (
	"testing"
	"time"

	"howdah/backup/schedule"
	"howdah/spec"
)

// A restore is rehearsed when it is time, beside one member, which is not the
// leader where there is another with room.
func TestRehearsal(t *testing.T) {
	noon := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC) // a Saturday, eight hours after it was due
	const hour, day = time.Hour, 24 * time.Hour
	line, err := spec.ParseDrillTime(spec.DrillTime)
	if err != nil {
		t.Fatal(err)
	}
	base := func() schedule.Rehearsal {
		return schedule.Rehearsal{
			Now: noon, Time: &line, Leads: noon.Add(-hour), First: noon.Add(-14 * day), Last: noon.Add(-7*day - hour),
			Members: []schedule.Rehearser{{Member: "a", Leads: true, Room: true, Holds: true}, {Member: "b", Room: true}, {Member: "c", Room: true, Holds: true}},
		}
	}
	for _, tt := range []struct {
		name string
		with func(*schedule.Rehearsal)
		want string
	}{
		{"it is time, and c holds the newest", nil, "c"},
		{"c has no room", func(r *schedule.Rehearsal) { r.Members[2].Room = false }, "b"},
		{"nobody but the leader has room", func(r *schedule.Rehearsal) { r.Members[1].Room, r.Members[2].Room = false, false }, "a"},
		{"nobody has room, and somebody has to say so", func(r *schedule.Rehearsal) {
			for i := range r.Members {
				r.Members[i].Room = false
			}
		}, "c"},
		{"the leader is alone", func(r *schedule.Rehearsal) { r.Members = r.Members[:1] }, "a"},
		{"both hold it, and b made one longer ago", func(r *schedule.Rehearsal) {
			r.Members[1].Holds = true
			r.Members[1].Last, r.Members[2].Last = noon.Add(-21*day), noon.Add(-14*day)
		}, "b"},
		{"it was made this morning", func(r *schedule.Rehearsal) { r.Last = noon.Add(-7 * hour) }, ""},
		{"a person made one on Friday: Saturday's is due all the same", func(r *schedule.Rehearsal) { r.Last = noon.Add(-day) }, "c"},
		{"never, and the oldest backup is of yesterday", func(r *schedule.Rehearsal) { r.First, r.Last = noon.Add(-day), time.Time{} }, "c"},
		{"never, and the oldest backup is of this morning", func(r *schedule.Rehearsal) { r.First, r.Last = noon.Add(-hour), time.Time{} }, ""},
		{"there is no backup", func(r *schedule.Rehearsal) { r.First = time.Time{} }, ""},
		{"it is off", func(r *schedule.Rehearsal) { r.Time = nil }, ""},
		{"this member does not lead", func(r *schedule.Rehearsal) { r.Leads = time.Time{} }, ""},
		{"a new leader has more to do", func(r *schedule.Rehearsal) { r.Leads = noon.Add(-time.Second) }, ""},
		{"one is being made, asked for by whoever led before", func(r *schedule.Rehearsal) { r.Members[1].Busy = true }, ""},
		{"somebody was just asked", func(r *schedule.Rehearsal) { r.Asked = noon.Add(-time.Minute) }, ""},
		{"somebody was asked, and nothing was heard", func(r *schedule.Rehearsal) { r.Asked = noon.Add(-hour) }, "c"},
		{"one broke this morning", func(r *schedule.Rehearsal) { r.Broke = noon.Add(-7 * hour) }, ""},
		{"one broke yesterday", func(r *schedule.Rehearsal) { r.Broke = noon.Add(-day) }, "c"},
	} {
		r := base()
		if tt.with != nil {
			tt.with(&r)
		}
		if got := r.Beside(); got != tt.want {
			t.Errorf("%s: beside %q, want %q (due %s)", tt.name, got, tt.want, r.Due())
		}
	}
	r := base()
	r.Last = noon
	if got, want := r.Due(), noon.Add(6*day+16*hour); !got.Equal(want) {
		t.Errorf("the next is due %s, want %s", got, want)
	}
}
