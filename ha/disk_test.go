package ha

import (
	"testing"
	"time"

	"howdah/cluster"
	"howdah/problem"
)

func TestMarks(t *testing.T) {
	for _, tt := range []struct{ size, low, last int64 }{
		{128 * mib, 26843545, 13421772},
		{gib, 214748364, 107374182},
		{20 * gib, gib, 214748364},
		{100 * gib, 5 * gib, gib},
		{10 << 40, 50 * gib, 5 * gib},
	} {
		if low, last := marks(tt.size); low != tt.low || last != tt.last || last >= low {
			t.Errorf("marks of %d: %d, %d; want %d, %d", tt.size, low, last, tt.low, tt.last)
		}
	}
}

func TestDiskGuard(t *testing.T) {
	const so = "leader=self server=primary "
	free := func(part int64) func(*View) { // of 1,000, of a file system of 100 GiB: the marks are 50 and 10
		return func(v *View) {
			v.Server.Size, v.Server.Free = 100*gib, part*gib/10
			v.State.Config = cluster.Config{Mod: 7, Data: map[string]any{}}
			v.Memory.SetAt = 7
			for i := range v.State.Members {
				v.State.Whys = append(v.State.Whys, cluster.Why{Member: v.State.Members[i].Name})
			}
		}
	}
	tight := func(v *View, members ...int) {
		for _, i := range members {
			v.State.Whys[i].Problems = []problem.Error{{Code: "disk-low"}}
		}
	}
	says := func(v *View, what string) {
		v.State.Config.Data["howdah"] = map[string]any{cluster.SetDisk: what}
	}
	alone := func(v *View) { free(9)(v); tight(v, 1, 2) }
	away := func(v *View) {
		v.State.Members = v.State.Members[:2]
		v.Memory.Away = []away{{"c", now - shortTTL}}
	}
	check(t, []row{
		{"room enough", leader, free(51), so + "-> nothing"},
		{"the first mark: a person is told", leader, free(49), so + "-> nothing"},
		{"and who is away has a slot no longer", leader, func(v *View) { free(49)(v); away(v) }, so + "slots=missing -> slots(b)"},
		{"as long as there is room he has", leader, func(v *View) { free(51)(v); away(v) }, so + "-> nothing"},
		{"the last: to a member that has room", leader, free(9), so + "disk=last(b has room) -> put failover"},
		{"not to one that has none", leader, func(v *View) { free(9)(v); tight(v, 1) }, so + "disk=last(c has room) -> put failover"},
		{"nor to one that says nothing", leader, func(v *View) { free(9)(v); v.State.Whys = v.State.Whys[2:] }, so + "disk=last(c has room) -> put failover"},
		{"nor to one that must not lead", leader, func(v *View) {
			free(9)(v)
			v.State.Members[1].Tags = cluster.Tags{"nofailover": true}
		}, so + "disk=last(c has room) -> put failover"},
		{"nor to one that does not stream", leader, func(v *View) { free(9)(v); v.Server.Replicas = v.Server.Replicas[1:] }, so + "disk=last(c has room) -> put failover"},
		{"it is asked for once", leader, func(v *View) { free(9)(v); v.Memory.Disk = Disk{Mark: diskLast, Asked: now - time.Second} }, so + "-> nothing"},
		{"it does not come to that: nothing is written", leader, func(v *View) {
			free(9)(v)
			v.Memory.Disk = Disk{Mark: diskLast, Asked: now - askAgain}
		}, so + "disk=last config=changed -> configure"},
		{"nobody has room: nothing is written", leader, alone, so + "disk=last config=changed -> configure"},
		{"that stays so below a quarter more", leader, func(v *View) {
			alone(v)
			v.Server.Free = gib * 12 / 10
			v.Memory.Disk = Disk{Mark: diskLast, Shut: true}
			v.Memory.Set = `{"default_transaction_read_only":"on"}`
		}, so + "disk=last -> nothing"},
		{"above it is taken back", leader, func(v *View) {
			alone(v)
			v.Server.Free = gib * 13 / 10
			v.Memory.Disk = Disk{Mark: diskLast, Shut: true}
			v.Memory.Set = `{"default_transaction_read_only":"on"}`
		}, so + "config=changed -> configure"},
		{"told only", leader, func(v *View) { free(9)(v); says(v, "tell") }, so + "-> nothing"},
		{"not even that", leader, func(v *View) { free(9)(v); says(v, "off") }, so + "-> nothing"},
		{"a standby takes its log as long as it can", standby, free(9), "leader=a server=standby -> nothing"},
		{"who led is not read-only any more", standby, func(v *View) {
			free(9)(v)
			v.Memory.Disk, v.Memory.Set = Disk{Mark: diskLast, Shut: true}, `{"default_transaction_read_only":"on"}`
		}, "leader=a server=standby config=changed -> configure"},
	})
	for _, tt := range []struct {
		code string
		with func(*View)
		want bool
	}{
		{"disk-low", free(49), true},
		{"disk-low", free(51), false},
		{"disk-low", func(v *View) { free(49)(v); says(v, "off") }, false},
		{"disk-low", func(v *View) { free(49)(v); v.Server.Problem.Code = codeDiskFull }, false},
		{"disk-read-only", func(v *View) { alone(v); v.Memory.Disk = Disk{Mark: diskLast, Shut: true} }, true},
	} {
		v := leader()
		tt.with(&v)
		v.Memory.Told = 0
		if d := Decide(v); told(d, tt.code) != tt.want {
			t.Errorf("%s is told: %v, want %v: %s", tt.code, !tt.want, tt.want, d)
		}
	}
}

// At the last mark a primary that nobody relieves is never stopped for it.
func TestTheDiskGuardDemotesNobody(t *testing.T) {
	v := leader()
	v.State.Config = cluster.Config{Mod: 7, Data: map[string]any{}}
	v.Server.Size, v.Server.Free = 100*gib, 0
	for range 100 {
		d := Decide(v)
		for _, a := range d.Actions {
			switch a.(type) {
			case Stop, Kill, Freeze, Release, Resign:
				t.Fatalf("%s", d)
			}
		}
		v.Memory = d.Memory
		v.Now += time.Second
		v.ServerAt, v.Memory.Lease.Sent, v.Memory.Right.Sent = v.Now, v.Now, v.Now
	}
	if !v.Memory.Disk.Shut {
		t.Error("it still takes writes")
	}
}
