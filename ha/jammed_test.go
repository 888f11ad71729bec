package ha

import (
	"testing"
	"time"

	"howdah/pg"
)

// A leader whose server answers and flushes no log.
func TestJammed(t *testing.T) {
	jammed := func(long time.Duration) func(*View) {
		return func(v *View) {
			v.Server.Unflushed = true
			v.Memory.Jam = Jam{PID: 11, At: 1000, Since: v.ServerAt - long}
		}
	}
	const long = silentFor + time.Second
	check(t, []row{
		{"a moment", leader, jammed(jamTold - time.Second), "leader=self server=primary -> nothing"},
		{"a person is told", leader, jammed(jamTold), "leader=self server=primary log=jammed -> nothing"},
		{"it is ended, for others can lead", leader, jammed(long), "leader=self server=primary log=jammed jammed=overdue -> kill"},
		{"not if nobody can", leader, func(v *View) { jammed(long)(v); v.Server.Replicas = nil }, "leader=self server=primary log=jammed -> nothing"},
		{"what is flushed moves", leader, func(v *View) { jammed(long)(v); v.Memory.Jam.At = 999 }, "leader=self server=primary -> nothing"},
		{"everything is flushed", leader, func(v *View) { jammed(long)(v); v.Server.Unflushed = false }, "leader=self server=primary -> nothing"},
		{"another process is another jam", leader, func(v *View) { jammed(long)(v); v.Memory.Jam.PID = 10 }, "leader=self server=primary -> nothing"},
		{"under maintenance it is a person's business", leader, func(v *View) {
			jammed(long)(v)
			v.State.Config.Data = map[string]any{"pause": true}
		}, "paused -> nothing"},
	})
	v := leader()
	jammed(jamTold)(&v)
	tn := &turn{View: v, m: v.Memory}
	if tn.jammed() || len(tn.problems) != 1 || tn.problems[0].Code != "log-jammed" {
		t.Errorf("problems %+v", tn.problems)
	}
	v = leader()
	v.Server.Unflushed = true
	if d := Decide(v); d.Memory.Jam != (Jam{PID: 11, At: pg.LSN(1000), Since: v.ServerAt}) {
		t.Errorf("remembers %+v", d.Memory.Jam)
	}
}
