package control

import (
	"strings"
	"testing"

	"howdah/cluster"
	"howdah/dcs"
	"howdah/problem"
	"howdah/spec"
	"howdah/spec/plan"
)

// Who is needed stays: somebody must lead, and commits must have who confirms them.
func TestWhoMayLeave(t *testing.T) {
	const strict = `{"ttl":30,"synchronous_mode":"quorum","synchronous_mode_strict":true}`
	here := func(names ...string) (all []leaving) {
		for _, name := range names {
			all = append(all, leaving{member: name, node: &spec.Node{Member: name, Host: "10.0.0.9"}})
		}
		return all
	}
	for _, tt := range []struct {
		name string
		with func(*world)
		all  []leaving
		want string // code; "": they may
	}{
		{"a replica", nil, here("demo-3"), ""},
		{"the leader", nil, here("demo-1"), ""},
		{"all replicas", nil, here("demo-2", "demo-3"), ""},
		{"everybody", nil, here("demo-1", "demo-2", "demo-3"), "member-needed"},
		{"nobody", func(w *world) { w.put("config", `{"pause":true}`) }, nil, ""},
		{"in a pause", func(w *world) { w.put("config", `{"pause":true}`) }, here("demo-3"), "member-needed"},
		{"without a leader", func(w *world) { w.drop("leader") }, here("demo-3"), "member-needed"},
		{"one of three that confirm", func(w *world) { w.put("config", strict) }, here("demo-3"), ""},
		{"the last that confirm", func(w *world) { w.put("config", strict) }, here("demo-2", "demo-3"), "member-needed"},
		{"the leader, and one that confirms", func(w *world) { w.put("config", strict) }, here("demo-1", "demo-2"), "member-needed"},
		{"the only one that streams", func(w *world) {
			w.put("config", strict)
			w.member("demo-2", cluster.Member{State: cluster.StateStopped, Role: cluster.RoleReplica})
		}, here("demo-3"), "member-needed"},
		{"one of as many as are asked for", func(w *world) {
			w.put("config", `{"synchronous_mode":true,"synchronous_mode_strict":true,"synchronous_node_count":2}`)
		}, here("demo-3"), "member-needed"},
		{"those that nobody insists on", func(w *world) { w.put("config", `{"synchronous_mode":"quorum"}`) }, here("demo-2", "demo-3"), ""},
		{"the leader, for one that may not lead", func(w *world) {
			w.drop(cluster.DirMembers + "demo-2")
			w.member("demo-3", cluster.Member{
				State: cluster.StateRunning, Role: cluster.RoleReplica, ReplicationState: cluster.ReplicationStreaming,
				Tags: cluster.Tags{"nofailover": true},
			})
		}, here("demo-1"), "member-needed"},
		{"one that runs elsewhere", nil, []leaving{{member: "demo-3"}}, "member-elsewhere"},
		{"one that is gone", func(w *world) { w.drop(cluster.DirMembers + "demo-3"); w.put("howdah/members/demo-3", "{}") }, []leaving{{member: "demo-3"}}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			if tt.with != nil {
				tt.with(w)
			}
			s, err := w.c.State(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if err := w.c.stays(s, tt.all); problem.Code(err) != tt.want || err != nil && tt.want == "" {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

// Who leaves is told from who is elsewhere, the leader comes last, and what the
// inventory does not know goes only when that is asked for.
func TestWhoLeaves(t *testing.T) {
	w := newWorld(t)
	w.put("howdah/members/demo-4", "{}")
	s, err := w.c.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	node := func(name, host string) spec.Node {
		return spec.Node{Cluster: "demo", Member: name, Host: host, Postgres: spec.Postgres{Data: "/d/demo/" + name + "/data"}, Paths: spec.Paths{Dir: "/d/demo/" + name}}
	}
	a := arrangement{was: []spec.Node{node("demo-1", "10.0.0.1"), node("demo-2", "10.0.0.2"), node("demo-3", "10.0.0.3")}}
	all := a.leavers("demo", map[string]string{"demo-3": "10.0.0.4"}, s)
	var said []string
	for _, l := range all {
		said = append(said, l.step(false).Done())
	}
	want := "removed member demo-2 from host 10.0.0.2\n" +
		"moved member demo-3 from host 10.0.0.3 to 10.0.0.4\n" +
		"forgot member demo-4\n" +
		"removed member demo-1 from host 10.0.0.1"
	if got := strings.Join(said, "\n"); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	for _, tt := range []struct {
		o    Choice
		want string
	}{
		{Choice{}, "demo-3"},
		{Choice{Prune: true}, "demo-2 demo-3 demo-4 demo-1"},
		{Choice{Prune: true, Only: []string{"demo/demo-4"}}, "demo-4"},
		{Choice{Only: []string{"demo/demo-4"}}, ""},
	} {
		var names []string
		for _, l := range all {
			if tt.o.goes("demo", s, l) {
				names = append(names, l.member)
			}
		}
		if got := strings.Join(names, " "); got != tt.want {
			t.Errorf("%+v: %q go, want %q", tt.o, got, tt.want)
		}
	}
	if k := all[0].step(true).Risk; k != plan.Destructive {
		t.Errorf("what deletes data is %s", k)
	}
}

// A member is forgotten when nobody counts on it any more, and not before.
func TestForget(t *testing.T) {
	w := newWorld(t)
	w.put("howdah/members/demo-2", "{}")
	w.put("howdah/members/demo-3", "{}")
	w.put("howdah/why/demo-3", "{}")
	w.put("sync", `{"leader":"demo-1","sync_standby":"demo-2,demo-3","quorum":1}`)
	done := make(chan error)
	go func() { done <- w.c.forget(t.Context(), "demo-3") }()
	w.drop(cluster.DirMembers + "demo-3")
	select {
	case err := <-done:
		t.Fatalf("forgotten while commits wait for it: %v", err)
	default:
	}
	if w.get("howdah/members/demo-3") == "" {
		t.Fatal("forgotten while commits wait for it")
	}
	w.put("sync", `{"leader":"demo-1","sync_standby":"demo-2","quorum":1}`)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	r, err := w.store.Do(t.Context(), dcs.Request{Kind: dcs.Read})
	if err != nil {
		t.Fatal(err)
	}
	for key := range r.Snapshot.Keys {
		if strings.HasSuffix(key, "demo-3") {
			t.Errorf("%s is still there", key)
		}
	}
	if w.get("howdah/members/demo-2") == "" {
		t.Error("another one was forgotten too")
	}
}
