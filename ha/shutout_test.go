package ha

import (
	"testing"
	"time"

	"howdah/pg"
)

// A leader whose server answers us and lets nobody in.
func TestShutOut(t *testing.T) {
	shut := func(tries int, long time.Duration) func(*View) {
		return func(v *View) {
			v.Server.Logins = pg.Logins{Answered: 7, Silent: tries, Since: long}
			v.Memory.Logins = Logins{Epoch: v.Memory.Right.Epoch, PID: v.Server.PID, From: 6, Let: true}
		}
	}
	with := func(first func(*View), then func(*View)) func(*View) {
		return func(v *View) { first(v); then(v) }
	}
	const long = silentFor + time.Second
	check(t, []row{
		{"one try", leader, shut(1, 9*time.Second), "leader=self server=primary -> nothing"},
		{"one try, for our own clock stood still", leader, shut(1, long), "leader=self server=primary -> nothing"},
		{"a person is told", leader, shut(2, 18*time.Second), "leader=self server=primary logins=silent -> nothing"},
		{"it is ended, for others can lead", leader, shut(3, long), "leader=self server=primary logins=silent logins=overdue -> kill"},
		{"not if nobody can", leader, with(shut(3, long), func(v *View) { v.Server.Replicas = nil }), "leader=self server=primary logins=silent -> nothing"},
		{"too few tries, however long", leader, shut(2, long), "leader=self server=primary logins=silent -> nothing"},
		{"not long enough, however many", leader, shut(9, silentFor-time.Second), "leader=self server=primary logins=silent -> nothing"},
		{"nobody was let in since it leads", leader, with(shut(3, long), func(v *View) { v.Memory.Logins = Logins{} }), "leader=self server=primary logins=silent logins=never -> nothing"},
		{"nor by this process", leader, with(shut(3, long), func(v *View) { v.Memory.Logins.PID = 10 }), "leader=self server=primary logins=silent logins=never -> nothing"},
		{"under maintenance it is a person's business", leader, with(shut(3, long), func(v *View) {
			v.State.Config.Data = map[string]any{"pause": true}
		}), "paused -> nothing"},
	})
	v := leader()
	shut(2, 18*time.Second)(&v)
	tn := &turn{View: v, m: v.Memory}
	if tn.shutOut() || len(tn.problems) != 1 || tn.problems[0].Code != "logins-silent" {
		t.Errorf("problems %+v", tn.problems)
	}
	// One that is answered in its reign is remembered.
	v = leader()
	v.Server.Logins = pg.Logins{Answered: 1}
	v.Memory = Decide(v).Memory
	if want := (Logins{Epoch: v.Memory.Right.Epoch, PID: v.Server.PID, From: 1}); v.Memory.Logins != want {
		t.Errorf("remembers %+v, want %+v", v.Memory.Logins, want)
	}
	v.Server.Logins.Answered++
	if d := Decide(v); !d.Memory.Logins.Let {
		t.Errorf("remembers %+v of an answer", d.Memory.Logins)
	}
}
