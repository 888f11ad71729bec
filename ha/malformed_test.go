package ha

import (
	"slices"
	"strings"
	"testing"

	"howdah/cluster"
)

// keysOf are the keys of a cluster that is well, as the store holds them.
func keysOf(s cluster.State) map[string]cluster.KV {
	keys := map[string]cluster.KV{}
	put := func(key, value string, mod, lease int64) {
		keys[key] = cluster.KV{Key: key, Value: []byte(value), Mod: mod, Lease: lease}
	}
	put(cluster.KeyInitialize, s.Initialize.System.String(), s.Initialize.Mod, 0)
	put(cluster.KeyConfig, `{"ttl":30,"postgresql":{"parameters":{"work_mem":"4MB"}}}`, 3, 0)
	put(cluster.KeyLeader, s.Leader.Name, s.Leader.Mod, s.Leader.Lease)
	put(cluster.KeyTerm, s.Term.Encode(), s.Term.Mod, 0)
	put(cluster.KeyStatus, `{"optime":1000}`, 41, 0)
	put(cluster.KeyHistory, s.History.Encode(), 42, 0)
	put(cluster.KeyFailover, "{}", 43, 0)
	put(cluster.KeySync, "{}", 44, 0)
	put(cluster.KeyFailsafe, "{}", 44, 0)
	put(cluster.KeyHandover, cluster.Handover{}.Encode(), 45, 0)
	for _, m := range s.Members {
		put(cluster.DirMembers+m.Name, m.Encode(), m.Mod, m.Lease)
		put(cluster.DirRecorded+m.Name, cluster.Recorded{Host: "h"}.Encode(), 31, 0)
		put(cluster.DirPledges+m.Name, cluster.Pledge{Epoch: 1}.Encode(), 32, 0)
		put(cluster.DirWhy+m.Name, cluster.Why{}.Encode(), 33, 0)
		put(cluster.DirRequests+m.Name, "", 34, 0)
		put(cluster.DirSchedules+m.Name, "", 35, 0)
	}
	put(cluster.DirFailovers+"000001", "{}", 36, 0)
	return keys
}

// Whatever stands in a key, nobody is stopped, fenced or promoted for it, but by
// two: in the leader key any other text, with a lease, is another leader, and digits in
// initialize are another cluster. A leader key without a lease, as a stranger puts it,
// silences who leads until it has put its own over it.
func TestMalformedKeysMoveNobody(t *testing.T) {
	bad := []string{
		"", "{", "[]", "null", "7", "-1", `"x"`, "\x00\xff", "{}", `{"a":{}}`, strings.Repeat("[", 5000), strings.Repeat("9", 400),
		`{"optime":{},"lsn":"x","epoch":"x","schedule":"x","kind":7,"id":[],"tags":7,"timeline":-1,"postgresql":{"parameters":[1]}}`,
		`{"leader":7,"member":[],"scheduled_at":"soon"}`, `{"postgresql":7,"pause":"maybe","ttl":"x","synchronous_mode":{}}`,
		`{"postgresql":{"parameters":{"a\nb":"x","work_mem":{"x":1},"c":1e400}}}`,
	}
	for _, base := range []struct {
		name string
		view func() View
	}{{"leader", leader}, {"standby", standby}} {
		good := keysOf(base.view().State)
		for key := range good {
			for _, value := range append(slices.Clone(bad), "a", "b", "c") {
				v := base.view()
				keys := map[string]cluster.KV{}
				for k, kv := range good {
					keys[k] = kv
				}
				kv := keys[key]
				kv.Value = []byte(value)
				if key == cluster.KeyLeader {
					kv.Mod, kv.Lease = 50, 0
				}
				keys[key] = kv
				v.State = cluster.Parse(50, keys)
				d := Decide(v)
				for _, a := range d.Actions {
					switch a.(type) {
					case Freeze, Retake:
						if key == cluster.KeyLeader && base.name == "leader" {
							continue
						}
						t.Errorf("%s, %s = %.40q: %s", base.name, key, value, d)
					case Stop, Kill, Promote, Release, Resign, Acquire, Take, MoveAside, Rewind, Clone, Initdb, Start:
						if key == cluster.KeyInitialize && value == strings.Repeat("9", 400) {
							continue
						}
						t.Errorf("%s, %s = %.40q: %s", base.name, key, value, d)
					}
				}
				_ = Show(v, d) // must not panic
			}
		}
	}
}
