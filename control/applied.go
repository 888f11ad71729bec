package control

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"howdah/cluster"
	"howdah/dcs"
)

// A journal records what is applied to a cluster, in its store: who, what, when.
// It begins with the first step, so that what was cut off shows too; what can
// not be recorded does not hold up the work, and is told at its end.
type journal struct {
	c    *Cluster
	rec  cluster.Applied
	lost error // why the last record is not in the store
}

func (c *Cluster) journal(what string) *journal {
	return &journal{c: c, rec: cluster.Applied{By: person(), What: what}}
}

// note adds a step; err is why it could not be taken.
func (j *journal) note(ctx context.Context, step string, err error) {
	first := j.rec.Key == ""
	if first {
		j.rec.At = j.c.now().UTC()
		j.rec.Key = cluster.DirApplied + j.rec.At.Format("20060102T150405.000000Z")
	}
	if err != nil {
		step += ": " + strings.ReplaceAll(err.Error(), "\n", " ")
	}
	j.rec.Note(step, err != nil)
	if first {
		j.put(ctx)
	}
}

// end closes the record, if there is one.
func (j *journal) end(ctx context.Context) error {
	if j.rec.Key == "" {
		return nil
	}
	j.rec.Ended = j.c.now().UTC()
	j.put(context.WithoutCancel(ctx))
	return j.lost
}

func (j *journal) put(ctx context.Context) {
	ops := []dcs.Op{dcs.Put(j.rec.Key, j.rec.Encode(), 0)}
	if old, err := j.c.Applied(ctx); err == nil {
		old = slices.DeleteFunc(old, func(a cluster.Applied) bool { return a.Key == j.rec.Key })
		for i := cluster.AppliedKept - 1; i < len(old); i++ {
			ops = append(ops, dcs.Delete(old[i].Key))
		}
	}
	_, _, j.lost = j.c.commit(ctx, ops)
}

// Applied is what was applied to the cluster, the latest first.
func (c *Cluster) Applied(ctx context.Context) ([]cluster.Applied, error) {
	r, err := c.do(ctx, dcs.Request{Kind: dcs.Read})
	if err != nil {
		return nil, c.unreachable(ctx, "read", err)
	}
	var all []cluster.Applied
	for key, kv := range r.Snapshot.Keys {
		if !strings.HasPrefix(key, cluster.DirApplied) {
			continue
		}
		a, err := cluster.ParseApplied(key, kv.Value)
		if err != nil {
			a = cluster.Applied{Key: key, What: "(this record can not be read)", At: time.Time{}}
		}
		all = append(all, a)
	}
	slices.SortFunc(all, func(a, b cluster.Applied) int { return cmp.Compare(b.Key, a.Key) })
	return all, nil
}
