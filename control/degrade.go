package control

import (
	"context"
	"time"

	"howdah/cluster"
	"howdah/problem"
)

// Degrade accepts, until a time (zero: until Undegrade), that commits wait for nobody
// while no standby is left, although the mode is strict. It is on record in the
// dynamic configuration, and the leader tells of it for as long as it stands there.
func (c *Cluster) Degrade(ctx context.Context, until time.Time) (cluster.Degraded, error) {
	s, err := c.configured(ctx)
	if err != nil {
		return cluster.Degraded{}, err
	}
	what := "cannot degrade cluster " + c.Name
	switch {
	case s.SynchronousMode() == cluster.SyncOff || !s.Config.SynchronousModeStrict():
		return cluster.Degraded{}, &problem.Error{
			Code: "degrade-moot", What: what, Why: "its commits do not wait where no standby is left: it is not in strict synchronous mode",
			Do: "see `howdah status " + c.Name + "`",
		}
	case !until.IsZero() && !until.After(c.now()):
		return cluster.Degraded{}, &problem.Error{
			Code: "schedule-past", What: what, Why: until.Format(time.RFC3339) + " is over", Do: "give a time to come, or leave --until out",
		}
	}
	d := cluster.Degraded{By: c.person(), Since: c.now().UTC().Truncate(time.Second), Until: until}
	if old, ok := s.Config.Degraded(); ok && !old.Over(c.now()) {
		if old.Until.Equal(until.Truncate(time.Second)) {
			return old, nil
		}
		d.Since = old.Since
	}
	// What stood there (a time that is over, say) does not shine through.
	next, _ := s.Config.Patched(map[string]any{"howdah": map[string]any{cluster.SetDegraded: nil}})
	next, _ = cluster.Config{Data: next}.Patched(map[string]any{"howdah": map[string]any{cluster.SetDegraded: d.Data()}})
	_, err = c.PutConfig(ctx, next, s.Config.Mod)
	return d, err
}

// Undegrade takes that back. changed is false if nobody had accepted it.
func (c *Cluster) Undegrade(ctx context.Context) (changed bool, err error) {
	s, err := c.configured(ctx)
	if err != nil {
		return false, err
	}
	if _, there := s.Config.Lookup("howdah", cluster.SetDegraded); !there {
		return false, nil
	}
	_, err = c.PatchConfig(ctx, map[string]any{"howdah": map[string]any{cluster.SetDegraded: nil}})
	return err == nil, err
}
