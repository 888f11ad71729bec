package control

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"howdah/cluster"
	"howdah/dcs"
	"howdah/problem"
)

// Pause hands the servers to a person: nothing is promoted, stopped or started
// by itself until Resume. changed is false if it was paused already.
func (c *Cluster) Pause(ctx context.Context) (changed bool, err error) { return c.pause(ctx, true) }

// Resume takes the servers back.
func (c *Cluster) Resume(ctx context.Context) (changed bool, err error) { return c.pause(ctx, false) }

func pauseVerb(on bool) string {
	if on {
		return "pause"
	}
	return "resume"
}

// pause merges the switch into the dynamic configuration over the revision that
// was read; others may write it at the same time.
func (c *Cluster) pause(ctx context.Context, on bool) (bool, error) {
	const attempts = 5
	for range attempts {
		s, err := c.State(ctx)
		switch {
		case err != nil:
			return false, err
		case s.Unknown(cluster.KeyConfig):
			return false, &problem.Error{
				Code: "config-unreadable", What: "cannot " + pauseVerb(on) + " cluster " + c.Name,
				Why: "its dynamic configuration is not a JSON object, and must not be overwritten",
				Do:  "repair the key " + cluster.KeyConfig + " in the store",
			}
		case s.Config.Pause() == on:
			return false, nil
		}
		config := cluster.Config{Data: maps.Clone(s.Config.Data)}
		if config.Data == nil {
			config.Data = map[string]any{}
		}
		delete(config.Data, "pause")
		if on {
			config.Data["pause"] = true
		}
		_, ok, err := c.commit(ctx, []dcs.Op{dcs.Put(cluster.KeyConfig, config.Encode(), 0)}, unless(cluster.KeyConfig, s.Config.Mod))
		if err != nil || ok {
			return ok, err
		}
	}
	return false, &problem.Error{
		Code: "config-conflict", What: "cannot " + pauseVerb(on) + " cluster " + c.Name,
		Why: "its configuration was changed by someone else each time", Do: "try again",
	}
}

// AwaitPause waits until every member that shows itself has seen the switch.
func (c *Cluster) AwaitPause(ctx context.Context, on bool, within time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	var late []string
	err := c.watch(ctx, func(s cluster.State) bool {
		late = nil
		for _, m := range s.Members {
			if m.Pause != on {
				late = append(late, m.Name)
			}
		}
		return len(late) == 0
	})
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.DeadlineExceeded):
		return &problem.Error{
			Code: "pause-unseen", What: fmt.Sprintf("cluster %s is told to %s, but not every member has seen it", c.Name, pauseVerb(on)),
			Why: fmt.Sprintf("after %s this waits for %s", within, strings.Join(late, ", ")),
			Do:  "see `howdah list " + c.Name + "`: a member that is down will see it when it starts",
		}
	}
	return err
}
