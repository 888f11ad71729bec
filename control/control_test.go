package control

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"howdah/cluster"
	"howdah/dcs"
	"howdah/dcs/mem"
	"howdah/pg"
	"howdah/problem"
	"howdah/spec"
)

const base = "/service/demo/"

// world is a cluster of three in a store for tests.
type world struct {
	t      *testing.T
	server *mem.Server
	store  *mem.Store
	c      *Cluster
}

func newWorld(t *testing.T) *world {
	t.Helper()
	server := mem.Serve(mem.Etcd())
	store := server.Open(base)
	w := &world{t, server, store, On("demo", store)}
	w.put("initialize", "7388123456789012345")
	w.put("config", `{"ttl":30}`)
	w.put("leader", "demo-1")
	w.put("status", `{"optime":1000}`)
	w.member("demo-1", cluster.Member{State: cluster.StateRunning, Role: cluster.RolePrimary, XlogLocation: 1000, Timeline: 1})
	for _, name := range []string{"demo-2", "demo-3"} {
		w.member(name, cluster.Member{
			State: cluster.StateRunning, Role: cluster.RoleReplica, ReplicationState: cluster.ReplicationStreaming,
			ReceiveLSN: 900, ReplayLSN: 800, XlogLocation: 900, Timeline: 1,
		})
	}
	return w
}

func (w *world) put(key, value string) {
	w.t.Helper()
	if _, err := w.store.Do(context.Background(), dcs.Request{Kind: dcs.Commit, Ops: []dcs.Op{dcs.Put(key, value, 0)}}); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) drop(key string) {
	w.t.Helper()
	if _, err := w.store.Do(context.Background(), dcs.Request{Kind: dcs.Commit, Ops: []dcs.Op{dcs.Delete(key)}}); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) member(name string, m cluster.Member) { w.put(cluster.DirMembers+name, m.Encode()) }

func (w *world) get(key string) string {
	w.t.Helper()
	r, err := w.store.Do(context.Background(), dcs.Request{Kind: dcs.Read})
	if err != nil {
		w.t.Fatal(err)
	}
	return string(r.Snapshot.Keys[key].Value)
}

// when runs then once key exists and holds something else than {}.
func (w *world) when(key string, then func()) {
	go func() {
		ctx := w.t.Context()
		if err := w.c.watch(ctx, func(cluster.State) bool { v := w.get(key); return v != "" && v != "{}" }); err == nil {
			then()
		}
	}()
}

func TestPlansAreChecked(t *testing.T) {
	soon := time.Now().Add(time.Hour)
	replica := cluster.Member{State: cluster.StateRunning, Role: cluster.RoleReplica}
	for _, tt := range []struct {
		name string
		with func(*world) // how this case differs from the base
		plan func(*Cluster) (*Change, error)
		want string // code of the problem; "" for none
	}{
		{"to any", nil, switchTo("", time.Time{}), ""},
		{"to one", nil, switchTo("demo-2", time.Time{}), ""},
		{"later", nil, switchTo("demo-2", soon), ""},
		{"in the past", nil, switchTo("demo-2", time.Now().Add(-time.Hour)), "schedule-past"},
		{"to the leader", nil, switchTo("demo-1", time.Time{}), "candidate-leads"},
		{"to nobody we know", nil, switchTo("demo-9", time.Time{}), "member-unknown"},
		{"to one away", func(w *world) {
			w.put(cluster.DirRecorded+"demo-4", `{"host":"10.10.10.14","joined":"2026-11-20T12:00:00Z"}`)
		}, switchTo("demo-4", time.Time{}), "candidate-away"},
		{"no leader", func(w *world) { w.drop("leader") }, switchTo("demo-2", time.Time{}), "leader-none"},
		{"whom commits wait for can not be read", func(w *world) { w.put("sync", "{") }, switchTo("", time.Time{}), "sync-unreadable"},
		{"paused, to any", func(w *world) { w.put("config", `{"pause":true}`) }, switchTo("", time.Time{}), "switchover-paused"},
		{"paused, to one", func(w *world) { w.put("config", `{"pause":true}`) }, switchTo("demo-2", time.Time{}), ""},
		{"paused, later", func(w *world) { w.put("config", `{"pause":true}`) }, switchTo("demo-2", soon), "switchover-paused"},
		{"alone", func(w *world) { w.drop("members/demo-2"); w.drop("members/demo-3") }, switchTo("", time.Time{}), "candidate-none"},
		{"none may lead", func(w *world) {
			m := replica
			m.Tags = cluster.Tags{cluster.TagNoFailover: true}
			w.member("demo-2", m)
			m = replica
			m.State = cluster.StateStarting
			w.member("demo-3", m)
		}, switchTo("", time.Time{}), "candidate-none"},
		{"to one that may not lead", func(w *world) {
			m := replica
			m.Tags = cluster.Tags{cluster.TagNoFailover: true}
			w.member("demo-2", m)
		}, switchTo("demo-2", time.Time{}), "candidate-none"},
		{"synchronous, to the other one", synchronous, switchTo("demo-3", time.Time{}), "candidate-async"},
		{"synchronous, to the right one", synchronous, switchTo("demo-2", time.Time{}), ""},
		{"synchronous, a person decides", synchronous, failTo("demo-3"), ""},
		{"synchronous with nobody", func(w *world) {
			synchronous(w)
			w.put("sync", `{"leader":"demo-1","quorum":0,"sync_standby":null}`)
		}, switchTo("", time.Time{}), "candidate-none"},
		{"another one under way", func(w *world) { w.put("failover", `{"leader":"demo-1"}`) }, switchTo("demo-2", time.Time{}), "change-underway"},
		{"another one scheduled", func(w *world) {
			w.put("failover", `{"leader":"demo-1","scheduled_at":"2099-01-01T00:00:00+00:00"}`)
		}, switchTo("demo-2", time.Time{}), ""},
		{"fail over to nobody", nil, failTo(""), "candidate-needed"},
		{"fail over without a leader", func(w *world) { w.drop("leader") }, failTo("demo-2"), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			if tt.with != nil {
				tt.with(w)
			}
			_, err := tt.plan(w.c)
			if got := problem.Code(err); got != tt.want || (err != nil) != (tt.want != "") {
				t.Errorf("got %v (%s), want code %q", err, got, tt.want)
			}
			if p, ok := errors.AsType[*problem.Error](err); ok && (p.What == "" || p.Why == "" || p.Do == "") {
				t.Errorf("a part is missing: %v", err)
			}
		})
	}
}

func synchronous(w *world) {
	w.put("config", `{"synchronous_mode":true}`)
	w.put("sync", `{"leader":"demo-1","quorum":0,"sync_standby":"demo-2"}`)
}

func switchTo(to string, at time.Time) func(*Cluster) (*Change, error) {
	return func(c *Cluster) (*Change, error) { return c.PlanSwitchover(context.Background(), to, at) }
}

func failTo(to string) func(*Cluster) (*Change, error) {
	return func(c *Cluster) (*Change, error) { return c.PlanFailover(context.Background(), to) }
}

// A plan says who would lead as things are, by the leader's own rule.
func TestSwitchoverSaysWhoWouldLead(t *testing.T) {
	w := newWorld(t)
	w.member("demo-3", cluster.Member{
		State: cluster.StateRunning, Role: cluster.RoleReplica, ReplicationState: cluster.ReplicationStreaming,
		XlogLocation: 950, Timeline: 1,
	})
	ch, err := w.c.PlanSwitchover(t.Context(), "", time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	first, all := ch.Candidates()
	if first != "demo-3" || len(all) != 2 || all[0].Member != "demo-2" || all[0].Behind != 100 || all[1].Behind != 50 {
		t.Errorf("%q of %+v", first, all)
	}
}

func TestSwitchover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		ch, err := w.c.PlanSwitchover(t.Context(), "demo-2", time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		w.when("failover", func() {
			if got, want := w.get("failover"), `{"leader":"demo-1","member":"demo-2"}`; got != want {
				t.Errorf("failover key: got %s, want %s", got, want)
			}
			w.put("leader", "demo-2")
			w.put("failover", "{}")
			w.member("demo-2", cluster.Member{State: cluster.StateRunning, Role: cluster.RolePrimary, Timeline: 2})
		})
		done, err := ch.Do(t.Context())
		if err != nil || done.To != "demo-2" || done.From != "demo-1" || done.Timeline != 2 {
			t.Errorf("got %+v, %v", done, err)
		}
	})
}

func TestScheduledSwitchoverIsWritten(t *testing.T) {
	w := newWorld(t)
	at := time.Date(2099, 1, 2, 3, 4, 5, 0, time.UTC)
	ch, err := w.c.PlanSwitchover(t.Context(), "", at)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ch.Do(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, want := w.get("failover"), `{"leader":"demo-1","scheduled_at":"2099-01-02T03:04:05+00:00"}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestAScheduledSwitchoverIsCanceled(t *testing.T) {
	w := newWorld(t)
	if _, err := w.c.Scheduled(t.Context()); problem.Code(err) != "schedule-none" {
		t.Errorf("nothing is scheduled: got %v", err)
	}
	w.put("failover", `{"leader":"demo-1","scheduled_at":"2099-01-01T00:00:00+00:00"}`)
	f, err := w.c.Scheduled(t.Context())
	if err != nil || f.Leader != "demo-1" {
		t.Fatalf("got %+v, %v", f, err)
	}
	w.put("failover", `{"leader":"demo-1","scheduled_at":"2099-01-02T00:00:00+00:00"}`)
	if err := w.c.Cancel(t.Context(), f); problem.Code(err) != "change-conflict" {
		t.Errorf("it is another one by now: got %v", err)
	}
	if f, err = w.c.Scheduled(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := w.c.Cancel(t.Context(), f); err != nil || w.get("failover") != "{}" {
		t.Errorf("got %v, and the key is %s", err, w.get("failover"))
	}
}

func TestFailoverWithoutALeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.drop("leader")
		ch, err := w.c.PlanFailover(t.Context(), "demo-3")
		if err != nil {
			t.Fatal(err)
		}
		w.when("failover", func() {
			if got, want := w.get("failover"), `{"member":"demo-3"}`; got != want {
				t.Errorf("failover key: got %s, want %s", got, want)
			}
			w.member("demo-3", cluster.Member{State: cluster.StateRunning, Role: cluster.RolePrimary, Timeline: 2})
			w.put("leader", "demo-3")
		})
		if done, err := ch.Do(t.Context()); err != nil || done.To != "demo-3" {
			t.Errorf("got %+v, %v", done, err)
		}
	})
}

func TestARefusedSwitchoverSaysWhy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		ch, err := w.c.PlanSwitchover(t.Context(), "", time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		w.when("failover", func() {
			w.put("failover", "{}")
			w.put(cluster.DirWhy+"demo-1", cluster.Why{Trail: []string{"leader=self", "switchover=refused(candidate-behind)"}}.Encode())
		})
		_, err = ch.Do(t.Context())
		p, ok := errors.AsType[*problem.Error](err)
		if !ok || p.Code != "change-refused" || p.Why != "demo-1 turned the request down: candidate-behind" {
			t.Errorf("got %v", err)
		}
	})
}

func TestASwitchoverThatNobodyCarriesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		ch, err := w.c.PlanSwitchover(t.Context(), "", time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err = ch.Do(t.Context()); problem.Code(err) != "change-unknown" {
			t.Errorf("got %v", err)
		}
	})
}

func TestALeaderThatChangedMeanwhile(t *testing.T) {
	w := newWorld(t)
	ch, err := w.c.PlanSwitchover(t.Context(), "demo-2", time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	w.put("leader", "demo-2")
	if _, err := ch.Do(t.Context()); problem.Code(err) != "change-conflict" {
		t.Errorf("got %v, want change-conflict", err)
	}
	if got := w.get("failover"); got != "" {
		t.Errorf("the request was written all the same: %s", got)
	}
}

func TestPauseKeepsWhatOthersWrite(t *testing.T) {
	w := newWorld(t)
	w.put("config", `{"ttl":30,"postgresql":{"parameters":{"max_connections":200}}}`)
	raced := false
	w.store.Faults(func(r dcs.Request) mem.Fault {
		if r.Kind == dcs.Commit && len(r.If) > 0 && !raced { // someone is faster, once
			raced = true
			other := *w
			other.store = w.server.Open(base)
			other.put("config", `{"ttl":31,"postgresql":{"parameters":{"max_connections":200}}}`)
		}
		return mem.Fault{}
	})
	changed, err := w.c.Pause(t.Context())
	if err != nil || !changed {
		t.Fatalf("got %v, %v", changed, err)
	}
	if got, want := w.get("config"), `{"pause":true,"postgresql":{"parameters":{"max_connections":200}},"ttl":31}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if changed, err := w.c.Pause(t.Context()); changed || err != nil {
		t.Errorf("again: got %v, %v", changed, err)
	}
	if changed, err := w.c.Resume(t.Context()); !changed || err != nil {
		t.Errorf("resume: got %v, %v", changed, err)
	}
	if got, want := w.get("config"), `{"postgresql":{"parameters":{"max_connections":200}},"ttl":31}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestAConfigurationThatCanNotBeReadIsNotOverwritten(t *testing.T) {
	w := newWorld(t)
	w.put("config", `broken`)
	if _, err := w.c.Pause(t.Context()); problem.Code(err) != "config-unreadable" {
		t.Errorf("got %v", err)
	}
	if got := w.get("config"); got != "broken" {
		t.Errorf("got %s", got)
	}
}

func TestAwaitPauseNamesWhoIsLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.member("demo-1", cluster.Member{State: cluster.StateRunning, Role: cluster.RolePrimary, Pause: true})
		w.member("demo-2", cluster.Member{State: cluster.StateRunning, Role: cluster.RoleReplica, Pause: true})
		err := w.c.AwaitPause(t.Context(), true, 10*time.Second)
		p, ok := errors.AsType[*problem.Error](err)
		if !ok || p.Code != "pause-unseen" || p.Why != "after 10s this waits for demo-3" {
			t.Errorf("got %v", err)
		}
	})
}

func TestRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		names, err := w.c.PlanRestart(t.Context())
		if err != nil || len(names) != 3 || names[2] != "demo-1" {
			t.Fatalf("got %v, %v: the leader must be the last", names, err)
		}
		key := cluster.DirRequests + "demo-2"
		w.when(key, func() {
			r, err := cluster.ParseRequest("demo-2", []byte(w.get(key)))
			if err != nil || r.Kind != cluster.RequestRestart || r.ID == "" || r.By == "" {
				t.Errorf("request %+v, %v", r, err)
			}
			w.drop(key)
			w.member("demo-2", cluster.Member{State: cluster.StateStopping, Role: cluster.RoleReplica})
			// Seen in between, then running again.
			_ = w.c.watch(t.Context(), func(s cluster.State) bool { m, _ := s.Member("demo-2"); return !m.Running() })
			timer := time.NewTimer(time.Second)
			<-timer.C
			w.member("demo-2", cluster.Member{State: cluster.StateRunning, Role: cluster.RoleReplica})
		})
		if took, err := w.c.Restart(t.Context(), "demo-2"); err != nil || took < time.Second {
			t.Errorf("got %s, %v", took, err)
		}
	})
}

func TestARequestThatNobodyTakesIsTakenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		if _, err := w.c.Restart(t.Context(), "demo-2"); problem.Code(err) != "restart-unknown" {
			t.Errorf("got %v", err)
		}
		if got := w.get(cluster.DirRequests + "demo-2"); got != "" {
			t.Errorf("the request is still there: %s", got)
		}
	})
}

func TestASecondRequestWaits(t *testing.T) {
	w := newWorld(t)
	w.put(cluster.DirRequests+"demo-2", cluster.Request{ID: "1", Kind: cluster.RequestRestart}.Encode())
	if _, err := w.c.Restart(t.Context(), "demo-2"); problem.Code(err) != "request-pending" {
		t.Errorf("got %v", err)
	}
}

func TestAStoreThatDoesNotAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.store.Faults(func(dcs.Request) mem.Fault { return mem.Fault{Refuse: true} })
		_, err := w.c.State(t.Context())
		if problem.Code(err) != "store-unreachable" {
			t.Errorf("got %v", err)
		}
		w.store.Faults(nil)
		ch, err := w.c.PlanSwitchover(t.Context(), "", time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		writes := 0
		w.store.Faults(func(r dcs.Request) mem.Fault {
			if r.Kind == dcs.Commit {
				writes++
			}
			return mem.Fault{Lose: true}
		})
		_, err = ch.Do(t.Context())
		if p, ok := errors.AsType[*problem.Error](err); !ok || p.Code != "store-unreachable" || writes != 1 {
			t.Errorf("got %v after %d writes: what may have been applied is not asked again", err, writes)
		}
	})
}

func TestAnElectionOfTheStoreIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		began := time.Now()
		w.store.Faults(func(dcs.Request) mem.Fault { return mem.Fault{Refuse: time.Since(began) < time.Second} })
		if _, err := w.c.State(t.Context()); err != nil {
			t.Errorf("reading: %v", err)
		}
		began = time.Now()
		if changed, err := w.c.Pause(t.Context()); err != nil || !changed {
			t.Errorf("writing: %v, %v", changed, err)
		}
	})
}

func TestStatus(t *testing.T) {
	w := newWorld(t)
	w.put(cluster.KeyTerm, cluster.Term{Leader: "demo-1", Timeline: 1, Kind: cluster.KindBootstrap}.Encode())
	up := []EtcdMember{{Name: "demo-1", Up: true, Leads: true}, {Name: "demo-2", Up: true}, {Name: "demo-3", Up: true}}
	state := func() cluster.State {
		s, err := w.c.State(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	st := statusOf("demo", state(), up, time.Now())
	if st.Exposure == nil || *st.Exposure != 100 {
		t.Errorf("exposure: got %v, want the 100 bytes that demo-2 does not have", st.Exposure)
	}
	if st.Survives != 1 || len(st.Unwell) != 0 {
		t.Errorf("got survives %d, unwell %v; want 1 and none", st.Survives, st.Unwell)
	}
	up[2].Up = false
	if st := statusOf("demo", state(), up, time.Now()); st.Survives != 0 {
		t.Errorf("a second etcd member may not go: got survives %d", st.Survives)
	}
	up[2].Up = true
	synchronous(w)
	if st := statusOf("demo", state(), up, time.Now()); st.Commits == nil || st.Commits.Wait != 1 || st.Survives != 1 {
		t.Errorf("got commits %+v, survives %d; they wait for demo-2, and with one of the two nothing is lost", st.Commits, st.Survives)
	}
	w.put("sync", `{"leader":"demo-1","quorum":0,"sync_standby":null}`)
	if st := statusOf("demo", state(), up, time.Now()); st.Survives != 0 {
		t.Errorf("nobody but the leader may lead: got survives %d", st.Survives)
	}
	w.drop("leader")
	if st := statusOf("demo", state(), up, time.Now()); len(st.Unwell) != 1 || st.Exposure != nil {
		t.Errorf("without a leader: got %v, %v", st.Unwell, st.Exposure)
	}
}

// A leader key that is no member's stands in everybody's way: status says so.
func TestStatusNamesAForeignLeaderKey(t *testing.T) {
	for value, foreign := range map[string]bool{"demo-1": false, "nobody-here": true, "": true, "a\nb": true, "{\"x\":1}": true} {
		w := newWorld(t)
		w.put(cluster.KeyLeader, value)
		st, err := w.c.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(st.Problems, func(p MemberProblem) bool { return p.Code == "leader-key-foreign" })
		if i >= 0 != foreign {
			t.Errorf("leader %q: problems %v", value, st.Problems)
		}
		if i >= 0 && (!strings.Contains(st.Problems[i].Why, strconv.Quote(value)) || !strings.Contains(st.Problems[i].Do, "del ") || !strings.Contains(st.Problems[i].Do, "/demo/leader`")) {
			t.Errorf("leader %q: %s", value, problem.Text(&st.Problems[i].Error))
		}
	}
	// One whose own key has just ended is known by what it wrote before.
	w := newWorld(t)
	w.put(cluster.DirRecorded+"demo-1", cluster.Recorded{Name: "demo-1"}.Encode())
	w.drop(cluster.DirMembers + "demo-1")
	if st, err := w.c.Status(t.Context()); err != nil || slices.ContainsFunc(st.Problems, func(p MemberProblem) bool { return p.Code == "leader-key-foreign" }) {
		t.Errorf("a leader that is silent: %v, %v", st.Problems, err)
	}
}

// Without a gateway nobody gets in by a service, which is said with what to do.
func TestStatusSaysThatNoGatewayRuns(t *testing.T) {
	w := newWorld(t)
	code := func() string {
		st, err := w.c.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range st.Problems {
			if strings.HasPrefix(p.Code, "gateway-") {
				return p.Code + " " + p.What + " " + p.Why
			}
		}
		return ""
	}
	if got := code(); !strings.HasPrefix(got, "gateway-none ") {
		t.Errorf("none is known: %q", got)
	}
	gone := httptest.NewServer(nil)
	gone.Close()
	w.put(cluster.DirGateways+"demo-2", cluster.Gateway{Node: "demo-2", Listen: strings.TrimPrefix(gone.URL, "http://")}.Encode())
	if got := code(); !strings.HasPrefix(got, "gateway-down ") || !strings.Contains(got, "demo-2") {
		t.Errorf("the only one is silent: %q", got)
	}
	lives := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		_, _ = rw.Write([]byte(`[{"cluster":"demo","namespace":"","generation":9,"services":[]}]`))
	}))
	defer lives.Close()
	w.put(cluster.DirGateways+"demo-3", cluster.Gateway{Node: "demo-3", Listen: strings.TrimPrefix(lives.URL, "http://")}.Encode())
	if got := code(); got != "" {
		t.Errorf("one answers: %q", got)
	}
}

func TestWhyNamesThePagesThatExist(t *testing.T) {
	w := newWorld(t)
	w.put(cluster.PageKey(1), cluster.FailoverPage{Epoch: 5, Kind: cluster.KindBootstrap, To: "demo-1"}.Encode())
	w.put(cluster.PageKey(2), cluster.FailoverPage{Epoch: 9, Kind: cluster.KindCrash, From: "demo-1", To: "demo-2"}.Encode())
	got, err := w.c.Why(t.Context())
	if err != nil || got.Page == nil || got.Page.Number != 2 {
		t.Errorf("last page: got %+v, %v", got.Page, err)
	}
	if got, err := w.c.Failover(t.Context(), 1); err != nil || got.Epoch != 5 {
		t.Errorf("page 1: got %+v, %v", got, err)
	}
	_, err = w.c.Failover(t.Context(), 7)
	if p, ok := errors.AsType[*problem.Error](err); !ok || p.Code != "failover-unknown" || p.Why != "there are pages of 1, 2" {
		t.Errorf("got %v", err)
	}
}

func TestWhyOfMembers(t *testing.T) {
	w := newWorld(t)
	for _, name := range []string{"demo-1", "demo-2", "demo-3"} {
		w.put(cluster.DirWhy+name, cluster.Why{Trail: []string{"of=" + name}}.Encode())
	}
	got, err := w.c.Why(t.Context(), "demo-2")
	if err != nil || len(got.Members) != 1 || got.Members[0].Member != "demo-2" {
		t.Errorf("got %+v, %v", got.Members, err)
	}
	if _, err := w.c.Why(t.Context(), "demo-9"); problem.Code(err) != "member-unknown" {
		t.Errorf("got %v", err)
	}
}

// Right after a fault the last page is that of another change: why waits a
// moment for the new one, and says so if it does not come.
func TestWhyWhileAChangeIsUnderWay(t *testing.T) {
	page := cluster.FailoverPage{Epoch: 9, Kind: cluster.KindCrash, From: "demo-1", To: "demo-2"}
	for _, tt := range []struct {
		name   string
		begins func(*world)
		want   string
	}{
		{"nothing happens", func(*world) {}, ""},
		{"the key is gone", func(w *world) { w.drop("leader") }, "nobody leads"},
		{"the server died", func(w *world) {
			w.member("demo-1", cluster.Member{State: cluster.StateCrashed, Role: cluster.RoleReplica})
		}, "demo-1 leads and is crashed"},
		{"the successor is not there yet", func(w *world) { w.put("leader", "demo-2") }, "demo-2 leads and does not write yet"},
		{"a switchover was asked for", func(w *world) { w.put("failover", `{"leader":"demo-1"}`) }, "a switchover was asked for"},
		{"nobody acts in pause", func(w *world) { w.put("config", `{"pause":true}`); w.drop("leader") }, ""},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.put(cluster.PageKey(1), page.Encode())
			tt.begins(w)
			began := time.Now()
			got, err := w.c.Why(t.Context())
			if err != nil || got.Underway != tt.want || got.Page == nil {
				t.Errorf("%s: got %q, %v, want %q", tt.name, got.Underway, err, tt.want)
			}
			if took := time.Since(began); (took >= settle) != (tt.want != "") {
				t.Errorf("%s: it took %s", tt.name, took)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.drop("leader")
		time.AfterFunc(settle/2, func() {
			w.member("demo-2", cluster.Member{State: cluster.StateRunning, Role: cluster.RolePrimary})
			w.put(cluster.PageKey(1), page.Encode())
			w.put("leader", "demo-2")
		})
		if got, err := w.c.Why(t.Context()); err != nil || got.Underway != "" || got.Page == nil {
			t.Errorf("a change that ends meanwhile: got %+v, %v", got, err)
		}
	})
}

// Nothing of the cluster runs: that is said at once, of whatever is asked.
func TestAStoppedCluster(t *testing.T) {
	w := newWorld(t)
	dir := t.TempDir()
	w.c.local = true
	w.c.Nodes = []spec.Node{{Cluster: "demo", Member: "demo-1", Paths: spec.Paths{Dir: dir, Run: dir}, Etcd: spec.Etcd{Member: "demo-1"}}}
	for name, ask := range map[string]func() error{
		"state":      func() error { _, err := w.c.State(t.Context()); return err },
		"why":        func() error { _, err := w.c.Why(t.Context()); return err },
		"psql":       func() error { _, err := w.c.Psql(t.Context(), Primary); return err },
		"status":     func() error { _, err := w.c.Status(t.Context()); return err },
		"switchover": func() error { _, err := w.c.PlanSwitchover(t.Context(), "", time.Time{}); return err },
		"restart":    func() error { _, err := w.c.PlanRestart(t.Context()); return err },
		"pause":      func() error { _, err := w.c.Pause(t.Context()); return err },
	} {
		if err := ask(); problem.Code(err) != "cluster-stopped" {
			t.Errorf("%s: got %v, want cluster-stopped", name, err)
		}
	}
}

func TestPsqlAtAMember(t *testing.T) {
	w := newWorld(t)
	w.member("demo-3", cluster.Member{ConnURL: "postgres://10.10.10.13:5433/postgres", State: cluster.StateRunning, Role: cluster.RoleReplica})
	if got, err := w.c.PsqlAt(t.Context(), "demo-3"); err != nil || got.Host != "10.10.10.13" || got.Port != 5433 {
		t.Errorf("got %+v, %v", got, err)
	}
	if _, err := w.c.PsqlAt(t.Context(), "demo-9"); problem.Code(err) != "member-unknown" {
		t.Errorf("got %v", err)
	}
	w.put(cluster.DirRecorded+"demo-4", `{"host":"10.10.10.14","joined":"2026-11-20T12:00:00Z"}`)
	if _, err := w.c.PsqlAt(t.Context(), "demo-4"); problem.Code(err) != "member-away" {
		t.Errorf("got %v", err)
	}
}

// A cluster that comes up is waited for as long as something moves: a copy of
// a terabyte takes hours, and what hangs is given up.
func TestPatience(t *testing.T) {
	copying := cluster.Member{State: cluster.StateCreatingReplica, Role: cluster.RoleUninitialized}
	for _, tt := range []struct {
		name string
		move func(w *world, i int) // what is seen a minute after the last time; i counts 30
		most time.Duration         // given up so long after the last of them
	}{
		{"nobody is at work", func(*world, int) {}, patience},
		{"a copy gets on by the quarter of an hour", func(w *world, i int) {
			w.put(cluster.DirWhy+"demo-3", cluster.Why{Trail: []string{"leader=demo-1", fmt.Sprintf("job=clone(%d%%)", i/10)}}.Encode())
		}, workPatience},
		{"a standby replays", func(w *world, i int) {
			w.member("demo-3", cluster.Member{
				State: cluster.StateRunning, Role: cluster.RoleReplica, ReplicationState: cluster.ReplicationInRecovery, ReplayLSN: pg.LSN(1000 + i),
			})
		}, patience},
		{"a copy fails again and again", func(w *world, i int) {
			stopped := copying
			if i%2 == 1 {
				stopped.State = cluster.StateStopped
			}
			w.member("demo-3", stopped)
			w.put(cluster.DirWhy+"demo-3", cluster.Why{Trail: []string{"leader=demo-1"}, Waiting: []string{fmt.Sprintf("clone(demo-1) failed %d times: no route", 2+i)}}.Encode())
		}, patience},
		{"only the leader writes", func(w *world, i int) {
			if i > 0 {
				w.put("status", fmt.Sprintf(`{"optime":%d}`, 1000+i))
				w.member("demo-1", cluster.Member{State: cluster.StateRunning, Role: cluster.RolePrimary, XlogLocation: pg.LSN(1000 + i)})
			}
		}, patience},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			for _, name := range []string{"demo-1", "demo-2", "demo-3"} {
				w.c.Nodes = append(w.c.Nodes, spec.Node{Member: name, Paths: spec.Paths{Dir: t.TempDir()}})
			}
			w.member("demo-3", copying)
			tt.move(w, 0)
			began, moved, signs := time.Now(), time.Now(), 0
			done := make(chan struct{})
			go func() {
				defer close(done)
				for i := 1; i <= 30; i++ {
					select {
					case <-time.After(time.Minute):
					case <-t.Context().Done():
						return
					}
					tt.move(w, i)
				}
			}()
			copied := -1
			_, err := w.c.AwaitHealthy(t.Context(), func(s Step) {
				moved = time.Now()
				if s.Member == "demo-3" {
					copied, signs = s.Copied, signs+1
				}
			})
			if problem.Code(err) != "up-unhealthy" {
				t.Errorf("%s: got %v", tt.name, err)
			}
			took := time.Since(moved)
			switch tt.name {
			case "a copy gets on by the quarter of an hour":
				if copied != 3 || signs != 4 || took < tt.most || took > tt.most+time.Minute {
					t.Errorf("%s: given up %s after %d %% in %d steps, want %s after 3 %% in 4", tt.name, took, copied, signs, tt.most)
				}
			case "a copy fails again and again":
				if took := time.Since(began); took < tt.most || took > 2*tt.most || !strings.Contains(err.Error(), "no route") {
					t.Errorf("%s: given up after %s: %v", tt.name, took, err)
				}
			case "a standby replays":
				if took < 30*time.Minute {
					t.Errorf("%s: given up after %s", tt.name, took)
				}
			default:
				if took < tt.most || took > tt.most+time.Minute {
					t.Errorf("%s: given up after %s, want %s", tt.name, took, tt.most)
				}
			}
			<-done
		})
	}
}
