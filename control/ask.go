package control

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"

	"howdah/cluster"
	"howdah/dcs"
	"howdah/problem"
)

// PatchConfig merges patch into the dynamic configuration, as Patroni does: an
// object goes into the object that is there, null takes away. Somebody else's
// change in between is a config-conflict.
func (c *Cluster) PatchConfig(ctx context.Context, patch map[string]any) (cluster.Config, error) {
	s, err := c.configured(ctx)
	if err != nil {
		return cluster.Config{}, err
	}
	next, changed := s.Config.Patched(patch)
	if !changed {
		return s.Config, nil
	}
	return c.PutConfig(ctx, next, s.Config.Mod)
}

// PutConfig makes data the dynamic configuration, over the one that was put at
// mod (-1: whatever there is).
func (c *Cluster) PutConfig(ctx context.Context, data map[string]any, mod int64) (cluster.Config, error) {
	config := cluster.Config{Data: data}
	_, err := config.SetTimers()
	if err = errors.Join(err, config.CheckModes(), config.CheckStandby(), config.CheckSlots()); err != nil {
		return cluster.Config{}, &problem.Error{
			Code: "config-invalid", What: "cannot change the configuration of cluster " + c.Name,
			Why: strings.ReplaceAll(err.Error(), "\n", "; "), Do: "correct it; nothing was changed",
		}
	}
	var conds []dcs.Cond
	if mod >= 0 {
		conds = append(conds, unless(cluster.KeyConfig, mod))
	}
	rev, ok, err := c.commit(ctx, []dcs.Op{dcs.Put(cluster.KeyConfig, config.Encode(), 0)}, conds...)
	switch {
	case err != nil:
		return cluster.Config{}, err
	case !ok:
		return cluster.Config{}, &problem.Error{
			Code: "config-conflict", What: "cannot change the configuration of cluster " + c.Name,
			Why: "it was changed by someone else meanwhile", Do: "look at it (`howdah show-config`) and try again",
		}
	}
	config.Mod = rev
	return config, nil
}

// Config is the dynamic configuration.
func (c *Cluster) Config(ctx context.Context) (cluster.Config, error) {
	s, err := c.configured(ctx)
	return s.Config, err
}

func (c *Cluster) configured(ctx context.Context) (cluster.State, error) {
	s, err := c.State(ctx)
	switch {
	case err != nil:
		return s, err
	case s.Unknown(cluster.KeyConfig):
		return s, &problem.Error{
			Code: "config-unreadable", What: "cannot read the configuration of cluster " + c.Name,
			Why: "it is not a JSON object, and must not be overwritten by accident",
			Do:  "repair the key " + cluster.KeyConfig + " in the store, or put a whole new one (`howdah edit-config --replace FILE`)",
		}
	case s.Config.Mod == 0:
		return s, &problem.Error{
			Code: "config-none", What: "cannot read the configuration of cluster " + c.Name,
			Why: "the cluster has none yet", Do: "wait until it has been created (`howdah status " + c.Name + "`)",
		}
	}
	return s, nil
}

// AskChange asks for a change of leader without waiting for it. ok is false if
// the leader, or another such request, is not what s shows.
func (c *Cluster) AskChange(ctx context.Context, s cluster.State, f cluster.Failover) (rev int64, ok bool, err error) {
	leader := dcs.Absent(cluster.KeyLeader)
	if s.Leader != nil {
		leader = dcs.ModIs(cluster.KeyLeader, s.Leader.Mod)
	}
	return c.commit(ctx, []dcs.Op{dcs.Put(cluster.KeyFailover, f.Encode(), 0)}, leader, unless(cluster.KeyFailover, s.Failover.Mod))
}

// Ask puts a request before a member, now or with a Schedule for later. ok is
// false while another one of its kind of time waits there.
func (c *Cluster) Ask(ctx context.Context, member string, r cluster.Request) (rev int64, ok bool, err error) {
	r.ID, r.At = rand.Text(), c.now().UTC()
	if r.By == "" {
		r.By = c.person()
	}
	key := cluster.DirRequests + member
	if !r.Schedule.IsZero() {
		key = cluster.DirSchedules + member
	}
	return c.commit(ctx, []dcs.Op{dcs.Put(key, r.Encode(), 0)}, dcs.Absent(key))
}

// Unschedule takes back what member was asked for later. done is false if that
// is nothing.
func (c *Cluster) Unschedule(ctx context.Context, member string) (done bool, err error) {
	s, err := c.State(ctx)
	if err != nil {
		return false, err
	}
	r, ok := s.Schedule(member)
	if !ok {
		return false, nil
	}
	_, done, err = c.commit(ctx, []dcs.Op{dcs.Delete(cluster.DirSchedules + member)}, dcs.ModIs(cluster.DirSchedules+member, r.Mod))
	return done, err
}

// Reload has members read their configuration anew.
func (c *Cluster) Reload(ctx context.Context, member string) error {
	return c.askOne(ctx, member, cluster.Request{Kind: cluster.RequestReload}, "reload")
}

// PlanReinit checks that a member can be copied anew.
func (c *Cluster) PlanReinit(ctx context.Context, member string) error {
	s, err := c.State(ctx)
	if err != nil {
		return err
	}
	no := func(why, do string) error {
		return &problem.Error{Code: "reinit-refused", What: "cannot reinitialize " + member, Why: why, Do: do}
	}
	switch _, live := s.Member(member); {
	case !slices.Contains(s.Names(), member):
		return c.unknownMember(member, s)
	case !live:
		return no("it does not show itself: its agent is not running or does not reach the store", "start it first; `howdah status "+c.Name+"` says who is up")
	case s.Leader == nil:
		return no("the cluster has no leader to copy from", "see `howdah why "+c.Name+"`")
	case s.LeaderName() == member && !s.Standby():
		return no("it is the leader", "`howdah switchover "+c.Name+"` first")
	}
	return nil
}

// Reinit has a member give up its data, which are moved aside, and take a fresh copy.
func (c *Cluster) Reinit(ctx context.Context, member string, force bool) error {
	if err := c.PlanReinit(ctx, member); err != nil {
		return err
	}
	return c.askOne(ctx, member, cluster.Request{Kind: cluster.RequestReinit, Force: force}, "reinitialize")
}

func (c *Cluster) askOne(ctx context.Context, member string, r cluster.Request, verb string) error {
	s, err := c.State(ctx)
	if err != nil {
		return err
	}
	if !slices.Contains(s.Names(), member) {
		return c.unknownMember(member, s)
	}
	_, ok, err := c.Ask(ctx, member, r)
	if err == nil && !ok {
		err = &problem.Error{
			Code: "request-pending", What: fmt.Sprintf("cannot %s %s", verb, member),
			Why: "something else was asked of it and is not done",
			Do:  "wait for it; `howdah why " + c.Name + "` says what it does",
		}
	}
	return err
}

// AwaitReinit waits until a member that was asked to begin anew streams.
func (c *Cluster) AwaitReinit(ctx context.Context, member string) error {
	begun := false
	return c.watch(ctx, func(s cluster.State) bool {
		if _, asked := s.Request(member); asked {
			return false
		}
		m, live := s.Member(member)
		begun = begun || live && !m.Running()
		return begun && live && m.Running() && m.ReplicationState == cluster.ReplicationStreaming
	})
}
