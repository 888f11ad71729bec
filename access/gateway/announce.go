package gateway

import (
	"context"
	"errors"
	"time"

	"howdah/cluster"
	"howdah/dcs"
	"howdah/logkey"
)

// A gateway that is not heard of for announcedFor is taken for gone. It keeps
// its lease three times as often, which changes no key.
const (
	announcedFor  = 15 * time.Second
	announceEvery = announcedFor / 3
	announceIn    = 2 * time.Second // one request
)

// announce shows in the store that this gateway is there, where it answers, and
// which reign it follows: whoever asks for the cluster's status may be anywhere.
func (f *front) announce(ctx context.Context, store dcs.Store) error {
	n := f.gateway.node
	key := cluster.DirGateways + n.Host
	since := time.Now().UTC().Round(0)
	var lease dcs.LeaseID
	do := func(ctx context.Context, r dcs.Request) (dcs.Response, error) {
		ctx, cancel := context.WithTimeout(ctx, announceIn)
		defer cancel()
		return store.Do(ctx, r)
	}
	defer func() {
		if lease != 0 && f.gateway.succession.leaving.Err() == nil { // nobody asks a gateway that has ended; a successor has the key by now
			_, _ = do(context.WithoutCancel(ctx), dcs.Request{Kind: dcs.Revoke, Lease: lease})
		}
	}()
	put := func(is standing) error {
		if lease == 0 {
			got, err := do(ctx, dcs.Request{Kind: dcs.Grant, TTL: announcedFor})
			if err != nil {
				return err
			}
			lease = got.Lease
		}
		value := cluster.Gateway{
			Node: n.Member, Listen: n.Gateway.Listen, Epoch: is.epoch,
			Ready: is.ready, Held: is.held, Open: is.open, HeldAt: is.heldAt, Served: is.served, ServedAt: is.servedAt,
			Since: since, Refused: is.refused,
		}.Encode()
		_, err := do(ctx, dcs.Request{Kind: dcs.Commit, Ops: []dcs.Op{dcs.Put(key, value, lease)}})
		return err
	}
	tick := time.NewTicker(announceEvery)
	defer tick.Stop()
	var shown uint64 // version of the standing
	said := false
	for {
		is, version := f.standing.Get()
		var err error
		switch {
		case version == 0:
		case version != shown || lease == 0:
			if err = put(is); err == nil {
				shown = version
			}
		default:
			_, err = do(ctx, dcs.Request{Kind: dcs.Keep, Lease: lease})
		}
		if errors.Is(err, dcs.ErrLease) {
			lease = 0
		}
		if err != nil && ctx.Err() == nil && !said {
			f.log.Warn("gateway not announced", logkey.Error, err)
		}
		said = err != nil
		select {
		case <-f.standing.Changed(version):
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}
