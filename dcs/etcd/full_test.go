package etcd_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"howdah/dcs"
	"howdah/dcs/embed/embedtest"
)

// A store at its quota takes nothing more, and whoever leads goes on leading: a renewal
// is confirmed by its conditions, without what was to be written. It does not confirm
// what is not so, and takes everything again once there is room.
func TestFull(t *testing.T) {
	t.Parallel()
	nodes := embedtest.Nodes(t, 3, false)
	for i := range nodes {
		nodes[i].Etcd.Quota = 4 << 20
	}
	c := embedtest.Start(t, nodes)
	s, client := open(t, c, base()), c.Client()
	do := func(r dcs.Request) (dcs.Response, error) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		return s.Do(ctx, r)
	}
	lease, err := do(dcs.Request{Kind: dcs.Grant, TTL: 30 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	led, err := do(dcs.Request{Kind: dcs.Commit, Ops: []dcs.Op{dcs.Put("leader", "a", lease.Lease), dcs.Put("status", "1", 0)}})
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err = client.Put(t.Context(), "/somebody-else", strings.Repeat("x", 200_000)); err != nil {
			break
		}
	}
	if !errors.Is(err, rpctypes.ErrNoSpace) {
		t.Fatalf("the store is filled: %v", err)
	}

	renew := dcs.Request{Kind: dcs.Renew, Lease: lease.Lease, If: []dcs.Cond{dcs.ModIs("leader", led.Revision)}, Ops: []dcs.Op{dcs.Put("status", "2", 0)}}
	for range 3 {
		if r, err := do(renew); err != nil || !r.OK || r.TTL <= 0 {
			t.Errorf("whoever leads is not confirmed: %+v, %v", r, err)
		}
	}
	other := renew
	other.If = []dcs.Cond{dcs.ModIs("leader", led.Revision+1)}
	if r, err := do(other); err != nil || r.OK {
		t.Errorf("somebody who does not lead is confirmed: %+v, %v", r, err)
	}
	if _, err := do(dcs.Request{Kind: dcs.Keep, Lease: lease.Lease}); err != nil {
		t.Errorf("a lease is not kept: %v", err)
	}
	if r, err := do(dcs.Request{Kind: dcs.Commit, Ops: []dcs.Op{dcs.Put("status", "3", 0)}}); err == nil {
		t.Errorf("a full store took a write: %+v", r)
	}
	if got, err := do(dcs.Request{Kind: dcs.Read}); err != nil || string(got.Snapshot.Keys["status"].Value) != "1" {
		t.Errorf("status is %q, %v", got.Snapshot.Keys["status"].Value, err)
	}

	// Room again: what was overwritten goes, the files shrink, the alarm is taken back.
	got, err := client.Delete(t.Context(), "/somebody-else")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Compact(t.Context(), got.Header.Revision, clientv3.WithCompactPhysical()); err != nil {
		t.Fatal(err)
	}
	for _, endpoint := range c.Endpoints() {
		if _, err := client.Defragment(t.Context(), endpoint); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := client.AlarmDisarm(t.Context(), &clientv3.AlarmMember{}); err != nil {
		t.Fatal(err)
	}
	if r, err := do(renew); err != nil || !r.OK {
		t.Errorf("with room: %+v, %v", r, err)
	}
	if got, err := do(dcs.Request{Kind: dcs.Read}); err != nil || string(got.Snapshot.Keys["status"].Value) != "2" {
		t.Errorf("with room, status is %q, %v", got.Snapshot.Keys["status"].Value, err)
	}
}
