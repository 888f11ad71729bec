package agent

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"

	"howdah/cluster"
	"howdah/dcs"
	"howdah/ha"
)

// Request is the request to the store that carries out an action of the lock
// lane. Every change of the leader key is a compare-and-swap on the revision
// that was seen, and puts the term beside it: the revision of both is the epoch.
func Request(self string, action ha.Action) dcs.Request {
	lead := func(lease int64, term string) []dcs.Op {
		return []dcs.Op{
			dcs.Put(cluster.KeyLeader, self, dcs.LeaseID(lease)),
			dcs.Put(cluster.KeyTerm, term, 0),
		}
	}
	switch a := action.(type) {
	case ha.GrantLease:
		return dcs.Request{Kind: dcs.Grant, TTL: a.TTL}
	case ha.Renew:
		r := dcs.Request{Kind: dcs.Renew, Lease: dcs.LeaseID(a.Lease)}
		if a.Bare {
			r.Kind = dcs.Keep
		}
		if a.Epoch > 0 {
			r.If = []dcs.Cond{dcs.ModIs(cluster.KeyLeader, a.Epoch)}
			if a.Status != "" {
				r.Ops = []dcs.Op{dcs.Put(cluster.KeyStatus, a.Status, 0)}
			}
		}
		return r
	case ha.Acquire:
		r := dcs.Request{
			Kind: dcs.Commit,
			If:   []dcs.Cond{dcs.Absent(cluster.KeyLeader), dcs.ModIs(cluster.KeyTerm, a.After)},
			Ops:  lead(a.Lease, a.Term),
		}
		if a.Held {
			r.If[0] = dcs.ModIs(cluster.KeyLeader, a.After)
		}
		promise(&r, a.Sync, a.SyncOver)
		for line := range strings.Lines(a.Compared) {
			line = strings.TrimSuffix(line, "\n")
			i := strings.LastIndexByte(line, '=') // a member's name may hold one
			mod, _ := strconv.ParseInt(line[i+1:], 10, 64)
			r.If = append(r.If, dcs.ModIs(cluster.DirPledges+line[:i], mod))
		}
		if a.ClearFailover > 0 {
			r.If = append(r.If, dcs.ModIs(cluster.KeyFailover, a.ClearFailover))
			r.Ops = append(r.Ops, dcs.Put(cluster.KeyFailover, cluster.Failover{}.Encode(), 0))
		}
		return r
	case ha.Retake:
		return dcs.Request{
			Kind: dcs.Commit,
			If:   []dcs.Cond{dcs.ModIs(cluster.KeyLeader, a.Epoch)},
			Ops:  lead(a.Lease, a.Term),
		}
	case ha.Revert:
		return dcs.Request{
			Kind: dcs.Commit,
			If:   []dcs.Cond{dcs.ModIs(cluster.KeyLeader, a.Epoch), dcs.ModIs(cluster.KeyRestore, a.Over)},
			Ops:  append(lead(a.Lease, a.Term), dcs.Put(cluster.KeyRestore, a.Record, 0)),
		}
	case ha.Lift:
		return dcs.Request{
			Kind: dcs.Commit,
			If:   []dcs.Cond{dcs.ModIs(cluster.KeyLeader, a.Epoch), dcs.ModIs(cluster.KeyConfig, a.Config)},
			Ops:  lead(a.Lease, a.Term),
		}
	case ha.Subject:
		return dcs.Request{
			Kind: dcs.Commit,
			If:   []dcs.Cond{dcs.ModIs(cluster.KeyLeader, a.Epoch), dcs.ModIs(cluster.KeyConfig, a.Config)},
			Ops:  append(lead(a.Lease, a.Term), dcs.Delete(cluster.KeySync)),
		}
	case ha.Take:
		r := dcs.Request{
			Kind: dcs.Commit,
			If:   []dcs.Cond{dcs.ModIs(cluster.KeyLeader, a.Epoch), dcs.ModIs(cluster.KeyHandover, a.Handover)},
			Ops:  append(lead(a.Lease, a.Term), dcs.Put(cluster.KeyHandover, cluster.Handover{}.Encode(), 0)),
		}
		promise(&r, a.Sync, a.SyncOver)
		if a.Failover > 0 {
			r.If = append(r.If, dcs.ModIs(cluster.KeyFailover, a.Failover))
			r.Ops = append(r.Ops, dcs.Put(cluster.KeyFailover, cluster.Failover{}.Encode(), 0))
		}
		return r
	case ha.Release:
		return dcs.Request{
			Kind: dcs.Commit,
			If:   []dcs.Cond{dcs.ModIs(cluster.KeyLeader, a.Epoch)},
			Ops:  []dcs.Op{dcs.Delete(cluster.KeyLeader)},
		}
	case ha.Resign:
		return dcs.Request{Kind: dcs.Revoke, Lease: dcs.LeaseID(a.Lease)}
	case ha.Found:
		return dcs.Request{
			Kind: dcs.Commit,
			If:   []dcs.Cond{dcs.ModIs(cluster.KeyInitialize, a.Over), dcs.Absent(cluster.KeyClaim), dcs.Absent(cluster.KeyLeader)},
			Ops: []dcs.Op{
				dcs.Put(cluster.KeyInitialize, "", 0),
				dcs.Put(cluster.KeyClaim, self, dcs.LeaseID(a.Lease)),
			},
		}
	case ha.Open:
		r := dcs.Request{
			Kind: dcs.Commit,
			If:   []dcs.Cond{dcs.ModIs(cluster.KeyInitialize, a.Claim), dcs.Absent(cluster.KeyLeader)},
			Ops: append(lead(a.Lease, a.Term),
				dcs.Put(cluster.KeyInitialize, a.System.String(), 0),
				dcs.Put(cluster.KeyConfig, a.Config, 0),
				dcs.Delete(cluster.KeyClaim)),
		}
		var back map[string]string
		if a.Back != "" {
			_ = json.Unmarshal([]byte(a.Back), &back) // ha wrote it
		}
		for _, key := range slices.Sorted(maps.Keys(back)) {
			r.Ops = append(r.Ops, dcs.Put(key, back[key], 0))
		}
		return r
	}
	panic("no request for " + action.String())
}

// promise puts /sync in the transaction that takes the key, over what it was: who
// may acknowledge under the new leader changes with the leader.
func promise(r *dcs.Request, value string, over int64) {
	if value != "" {
		r.If = append(r.If, dcs.ModIs(cluster.KeySync, over))
		r.Ops = append(r.Ops, dcs.Put(cluster.KeySync, value, 0))
	}
}

// Notes is the one transaction that publishes everything a turn puts. A key that
// is put twice is put as last said.
func Notes(actions []ha.Action) dcs.Request {
	r := dcs.Request{Kind: dcs.Commit}
	guard := func(epoch int64) {
		c := dcs.ModIs(cluster.KeyLeader, epoch)
		if epoch > 0 && !slices.Contains(r.If, c) {
			r.If = append(r.If, c)
		}
	}
	seen := map[string]bool{}
	for _, a := range slices.Backward(actions) {
		switch a := a.(type) {
		case ha.Put:
			if seen[a.Key] {
				continue
			}
			seen[a.Key] = true
			guard(a.Guard)
			if a.Over >= 0 {
				r.If = append(r.If, dcs.ModIs(a.Key, a.Over))
			}
			r.Ops = append(r.Ops, dcs.Put(a.Key, a.Value, dcs.LeaseID(a.Lease)))
		case ha.Drop:
			if seen[a.Key] {
				continue
			}
			seen[a.Key] = true
			guard(a.Guard)
			r.If = append(r.If, dcs.ModIs(a.Key, a.Over))
			r.Ops = append(r.Ops, dcs.Delete(a.Key))
		}
	}
	return r
}

// Answer is what a response, or an error, means to ha.Decide.
func Answer(a ha.Action, resp dcs.Response, err error) ha.Answer {
	out := ha.Answer{Action: a, OK: resp.OK, Revision: resp.Revision, Lease: int64(resp.Lease), TTL: resp.TTL}
	if err != nil {
		out.OK = false
		out.NoLease = isLease(err)
		out.Unknown = !out.NoLease
	}
	return out
}
