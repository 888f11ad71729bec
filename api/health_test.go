package api

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"howdah/cluster"
	"howdah/ha"
	"howdah/pg"
)

// At the moment of every question the lease has a second left, and the store was heard of just now.
const noon = time.Hour

func state(config, sync string) cluster.State {
	keys := map[string]cluster.KV{}
	put := func(key, value string) { keys[key] = cluster.KV{Key: key, Value: []byte(value), Mod: 7} }
	put(cluster.KeyConfig, config)
	put(cluster.KeyLeader, "a")
	put(cluster.KeyStatus, `{"optime":5000}`)
	if sync != "" {
		put(cluster.KeySync, sync)
	}
	return cluster.Parse(9, keys)
}

func primary() moment {
	return moment{
		now: noon, view: 5 * time.Second,
		Shown: ha.Shown{
			At: noon, Next: noon, Known: true, Heard: noon, State: state("{}", ""), Epoch: 7, Until: noon + time.Second,
			Member: cluster.Member{Name: "a", State: cluster.StateRunning, Role: cluster.RolePrimary},
			Server: pg.Status{Process: pg.ProcessRunning, Answers: true, Flushed: 5000},
		},
	}
}

func standby() moment {
	m := primary()
	m.Epoch, m.Until = 0, 0
	m.Member = cluster.Member{
		Name: "b", State: cluster.StateRunning, Role: cluster.RoleReplica, ReplicationState: cluster.ReplicationStreaming,
		Tags: cluster.Tags{"zone": "x", "clonefrom": true, "n": 3.0},
	}
	m.Server = pg.Status{Process: pg.ProcessRunning, Answers: true, Recovering: true, Flushed: 4900, Replayed: 4000, Streaming: true}
	return m
}

// Every path against every role: the table of the contract, a row a role.
func TestHealth(t *testing.T) {
	paths := strings.Fields(`/ /primary /master /read-write /leader /standby-leader /standby_leader /replica /read-only /health
		/sync /synchronous /quorum /async /asynchronous /read-only-quorum /read-only-sync /read-only-synchronous /nothing /primary/x /xreplicax`)
	for _, tt := range []struct {
		name string
		base func() moment
		with func(*moment)
		want string // the paths that answer 200
	}{
		{"primary", primary, nil, "/ /primary /master /read-write /leader /read-only /health /read-only-quorum /read-only-sync /read-only-synchronous /primary/x"},
		{"primary past its deadline", primary, func(m *moment) { m.now = m.Until }, "/health"},
		{"primary, lock lost", primary, func(m *moment) { m.Epoch = 0 }, "/health"},
		{"primary, busy", primary, func(m *moment) { m.Server.Answers = false }, "/ /primary /master /read-write /leader /read-only /read-only-quorum /read-only-sync /read-only-synchronous /primary/x"},
		{"primary, down", primary, func(m *moment) {
			m.Server = pg.Status{Process: pg.ProcessNone}
			m.Member.State = cluster.StateCrashed
		}, "/leader"},
		{"primary, frozen", primary, func(m *moment) { m.Server = pg.Status{Process: pg.ProcessFrozen} }, "/leader"},
		{"leader that is not promoted yet", primary, func(m *moment) { m.Server.Recovering = true; m.Member.Role = cluster.RoleReplica }, "/leader /replica /read-only /health /async /asynchronous /xreplicax"},
		{"primary that lets nobody in yet", primary, func(m *moment) { m.Server.Shut, m.Member.State = true, cluster.StateStarting }, "/leader"},
		{"primary that has not heard of the store for long", primary, func(m *moment) { m.Heard, m.Until = m.now-time.Minute, m.now }, "/health"},
		{"paused primary, store away", primary, func(m *moment) {
			m.State = state(`{"pause":true}`, "")
			m.Heard, m.Until = m.now-time.Minute, m.now
		}, "/ /primary /master /read-write /leader /read-only /health /primary/x"},
		{"paused replica, store away", standby, func(m *moment) {
			m.State = state(`{"pause":true}`, "")
			m.Heard = m.now - time.Minute
		}, "/replica /read-only /health /xreplicax"},
		{"standby leader", primary, func(m *moment) {
			m.State = state(`{"standby_cluster":{"host":"h"}}`, "")
			m.Server.Recovering, m.Member.Role = true, cluster.RoleStandbyLeader
		}, "/leader /standby-leader /standby_leader /read-only /health /read-only-quorum /read-only-sync /read-only-synchronous"},
		{"replica", standby, nil, "/replica /read-only /health /async /asynchronous /xreplicax"},
		{"replica, store away", standby, func(m *moment) { m.Heard = m.now - time.Minute }, "/replica /read-only /health /xreplicax"},
		{"replica, nothing ever heard", standby, func(m *moment) { m.Known, m.Heard, m.State = false, 0, cluster.State{} }, "/replica /read-only /health /xreplicax"},
		{"replica that takes no load", standby, func(m *moment) { m.Member.Tags = cluster.Tags{cluster.TagNoLoadBalance: true} }, "/health"},
		{"replica, starting", standby, func(m *moment) { m.Member.State, m.Server.Answers = cluster.StateStarting, false }, ""},
		{"replica, silent", standby, func(m *moment) { m.Server.Answers = false }, ""},
		{"synchronous standby", standby, func(m *moment) {
			m.State = state(`{"synchronous_mode":true}`, `{"leader":"a","sync_standby":"B"}`)
		}, "/replica /read-only /health /sync /synchronous /read-only-sync /read-only-synchronous /xreplicax"},
		{"not among the synchronous", standby, func(m *moment) {
			m.State = state(`{"synchronous_mode":true}`, `{"leader":"a","sync_standby":"c"}`)
		}, "/replica /read-only /health /async /asynchronous /xreplicax"},
		{"quorum standby", standby, func(m *moment) {
			m.State = state(`{"synchronous_mode":"quorum"}`, `{"leader":"a","quorum":1,"sync_standby":"b,c"}`)
		}, "/replica /read-only /health /quorum /read-only-quorum /xreplicax"},
		{"an agent before its first turn", func() moment { return moment{now: noon} }, nil, ""},
	} {
		m := tt.base()
		if tt.with != nil {
			tt.with(&m)
		}
		want := strings.Fields(tt.want)
		var got []string
		for _, p := range paths {
			if m.healthy(p, nil) {
				got = append(got, p)
			}
		}
		if strings.Join(got, " ") != strings.Join(want, " ") {
			t.Errorf("%s:\n got %v\nwant %v", tt.name, got, want)
		}
	}
}

func TestHealthAsksMore(t *testing.T) {
	for _, tt := range []struct {
		base  func() moment
		query string
		want  bool
	}{
		{standby, "/replica?lag=1000", true},
		{standby, "/replica?lag=999", false},
		{standby, "/replica?lag=1kB", true},
		{standby, "/read-only?lag=100", false},
		{primary, "/read-only?lag=100", true},
		{standby, "/async?lag=10MB", true},
		{standby, "/replica?lag=soon", true},
		{standby, "/replica?lag=", true},
		{standby, "/replica?replication_state=streaming", true},
		{standby, "/replica?replication_state=in%20archive%20recovery", false},
		{standby, "/replica?tag_zone=x", true},
		{standby, "/replica?tag_zone=y", false},
		{standby, "/replica?tag_zone=x&tag_clonefrom=true", true},
		{standby, "/replica?tag_clonefrom=True", false},
		{standby, "/replica?tag_n=3", true},
		{standby, "/replica?tag_none=1", false},
		{standby, "/health?tag_zone=x", true},
		{standby, "/health?tag_none=1", false},
		{primary, "/primary?tag_none=1", true},
		{primary, "/leader?tag_none=1", true},
	} {
		u, err := url.Parse(tt.query)
		if err != nil {
			t.Fatal(err)
		}
		m := tt.base()
		if got := m.healthy(u.Path, u.Query()); got != tt.want {
			t.Errorf("%s on %s = %t, want %t", tt.query, m.name(), got, tt.want)
		}
	}
}
