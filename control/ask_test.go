package control

import (
	"testing"
	"time"

	"howdah/cluster"
	"howdah/problem"
)

func TestConfigIsPutOverWhatWasSeen(t *testing.T) {
	w := newWorld(t)
	seen, err := w.c.Config(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if c, err := w.c.PatchConfig(t.Context(), map[string]any{"ttl": 20.0}); err != nil || w.get("config") != `{"ttl":20}` || c.Mod == seen.Mod {
		t.Errorf("patched: %v %v, the key is %s", c, err, w.get("config"))
	}
	if _, err := w.c.PutConfig(t.Context(), map[string]any{"ttl": 40.0}, seen.Mod); problem.Code(err) != "config-conflict" {
		t.Errorf("over an old one: %v", err)
	}
	w.put("config", "[]")
	if _, err := w.c.PatchConfig(t.Context(), map[string]any{"ttl": 1.0}); problem.Code(err) != "config-unreadable" || w.get("config") != "[]" {
		t.Errorf("over what can not be read: %v", err)
	}
	w.drop("config")
	if _, err := w.c.Config(t.Context()); problem.Code(err) != "config-none" {
		t.Errorf("none: %v", err)
	}
}

func TestRequests(t *testing.T) {
	w := newWorld(t)
	if err := w.c.Reload(t.Context(), "demo-2"); err != nil {
		t.Fatal(err)
	}
	if err := w.c.Reload(t.Context(), "demo-2"); problem.Code(err) != "request-pending" {
		t.Errorf("a second one: %v", err)
	}
	later := cluster.Request{Kind: cluster.RequestRestart, Schedule: time.Now().Add(time.Hour)}
	if _, ok, err := w.c.Ask(t.Context(), "demo-2", later); !ok || err != nil {
		t.Errorf("one for later beside it: %t %v", ok, err)
	}
	if _, ok, _ := w.c.Ask(t.Context(), "demo-2", later); ok {
		t.Error("two for later")
	}
	for range 2 {
		done, err := w.c.Unschedule(t.Context(), "demo-2")
		if err != nil || done != (w.get(cluster.DirSchedules+"demo-2") == "" && done) {
			t.Errorf("unschedule: %t %v", done, err)
		}
	}
	if got := w.get(cluster.DirSchedules + "demo-2"); got != "" {
		t.Errorf("still asked: %s", got)
	}
	for member, want := range map[string]string{"demo-1": "reinit-refused", "demo-9": "member-unknown", "demo-3": ""} {
		if err := w.c.Reinit(t.Context(), member, false); problem.Code(err) != want {
			t.Errorf("reinit %s: %v, want %q", member, err, want)
		}
	}
	w.drop("leader")
	if err := w.c.Reinit(t.Context(), "demo-2", false); problem.Code(err) != "reinit-refused" {
		t.Errorf("reinit without a leader: %v", err)
	}
}
