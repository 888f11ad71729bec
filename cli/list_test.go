package cli

import (
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"howdah/cluster"
)

var update = flag.Bool("update", false, "write the golden files")

// golden compares got with testdata/name.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
	}
}

// keys are a cluster of three as a store holds it.
func keys() map[string]string {
	return map[string]string{
		"initialize": "7388123456789012345",
		"config":     `{"ttl":30}`,
		"leader":     "demo-1",
		"status":     `{"optime":50331744}`,
		"members/demo-1": `{"conn_url":"postgres://10.10.10.11:5432/postgres","api_url":"http://10.10.10.11:8008/patroni",` +
			`"state":"running","role":"primary","version":"4.1.4","xlog_location":50331744,"timeline":1}`,
		"members/demo-2": `{"conn_url":"postgres://10.10.10.12:5432/postgres","api_url":"http://10.10.10.12:8008/patroni",` +
			`"state":"running","role":"replica","version":"4.1.4","xlog_location":50331744,"replay_lsn":50331744,"receive_lsn":50331744,` +
			`"replication_state":"streaming","timeline":1}`,
		"members/demo-3": `{"conn_url":"postgres://10.10.10.13:5432/postgres","api_url":"http://10.10.10.13:8008/patroni",` +
			`"state":"running","role":"replica","version":"4.1.4","xlog_location":48234496,"replay_lsn":46137344,"receive_lsn":48234496,` +
			`"replication_state":"streaming","timeline":1}`,
	}
}

func parse(t *testing.T, keys map[string]string) cluster.State {
	t.Helper()
	kvs := map[string]cluster.KV{}
	mod := int64(10)
	for key, value := range keys {
		kvs[key] = cluster.KV{Key: key, Value: []byte(value), Create: mod, Mod: mod}
	}
	s := cluster.Parse(mod, kvs)
	for _, p := range s.Problems {
		t.Fatalf("%s: %s", p.Key, p.Why)
	}
	return s
}

func TestList(t *testing.T) {
	for _, tt := range []struct {
		name string
		with func(map[string]string) // how this case differs from the base
	}{
		{"healthy", func(map[string]string) {}},
		{"uninitialized", func(k map[string]string) { clear(k) }},
		{"initializing", func(k map[string]string) {
			clear(k)
			k["initialize"] = ""
			k["members/demo-1"] = `{"conn_url":"postgres://10.10.10.11:5432/postgres","api_url":"http://10.10.10.11:8008/patroni","state":"initializing new cluster","role":"uninitialized","version":"4.1.4"}`
		}},
		{"ports", func(k map[string]string) {
			k["members/demo-2"] = `{"conn_url":"postgres://10.10.10.12:5433/postgres","api_url":"http://10.10.10.12:8008/patroni","state":"starting","role":"replica","version":"4.1.4"}`
		}},
		{"paused", func(k map[string]string) { k["config"] = `{"pause":true}` }},
		{"scheduled", func(k map[string]string) {
			k["failover"] = `{"leader":"demo-1","member":"demo-2","scheduled_at":"2026-11-20T12:00:00+00:00"}`
		}},
		{"sync", func(k map[string]string) {
			k["config"] = `{"synchronous_mode":true}`
			k["sync"] = `{"leader":"demo-1","quorum":0,"sync_standby":"demo-2"}`
		}},
		{"quorum", func(k map[string]string) {
			k["config"] = `{"synchronous_mode":"quorum"}`
			k["sync"] = `{"leader":"demo-1","quorum":1,"sync_standby":"demo-2,demo-3"}`
		}},
		{"old-member", func(k map[string]string) { // of Patroni 4.0: one position
			k["members/demo-2"] = `{"conn_url":"postgres://10.10.10.12:5432/postgres","api_url":"http://10.10.10.12:8008/patroni","state":"running","role":"replica","version":"4.0.5","xlog_location":50331744,"replication_state":"streaming","timeline":1}`
		}},
		{"pending", func(k map[string]string) {
			k["members/demo-3"] = `{"conn_url":"postgres://10.10.10.13:5432/postgres","api_url":"http://10.10.10.13:8008/patroni","state":"running","role":"replica","version":"4.1.4",` +
				`"tags":{"clonefrom":true,"zone":"a"},"pending_restart":true,"pending_restart_reason":{"max_connections":{"old_value":"100","new_value":"200"},"shared_preload_libraries":{"old_value":"","new_value":"pg_stat_statements,auto_explain"}},` +
				`"xlog_location":50331744,"replay_lsn":50331744,"receive_lsn":50331744,"replication_state":"streaming","timeline":1}`
		}},
		{"no-leader", func(k map[string]string) { delete(k, "leader"); delete(k, "members/demo-1") }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			k := keys()
			tt.with(k)
			s := parse(t, k)
			golden(t, "list-"+tt.name+".txt", listTable("demo", s))
			golden(t, "list-"+tt.name+".json", listJSON("demo", s)+"\n")
		})
	}
}

func TestHistory(t *testing.T) {
	h, err := cluster.ParseHistory([]byte(`[[1,50331976,"no recovery target specified"],[2,83886080,"no recovery target specified","2026-11-20T12:00:00.500000+00:00","demo-2"]]`))
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "history.txt", historyTable(h))
	golden(t, "history.json", historyJSON(h)+"\n")
	golden(t, "history-none.txt", historyTable(nil))
}

func TestPage(t *testing.T) {
	lost := int64(4096)
	p := cluster.FailoverPage{
		Number: 3, Epoch: 43, Kind: cluster.KindCrash, From: "demo-1", To: "demo-2", Timeline: 8,
		At:     time.Date(2026, 11, 20, 12, 0, 0, 0, time.Local),
		Reason: []string{"the postmaster died", "this server has its whole log"},
		Phases: []cluster.Phase{{Name: "elected", After: 61 * time.Millisecond}, {Name: "promoted", After: 312500 * time.Microsecond}, {Name: cluster.PhaseWrites, After: 320 * time.Millisecond}},
	}
	golden(t, "page.txt", pageText(p))
	p.LostBytes = &lost
	golden(t, "page-lost.txt", pageText(p))
	if got, want := pageLine(3, p, p.At.Add(3*time.Minute)), "#3 crash demo-1 -> demo-2 in 320 ms, 4.0 kB lost, 3 min ago (howdah why --failover 3)"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
