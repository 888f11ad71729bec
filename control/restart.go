package control

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"howdah/cluster"
	"howdah/dcs"
	"howdah/problem"
)

// restartWithin is the time allowed to one member's restart: a shutdown
// checkpoint and crash recovery may take minutes.
const restartWithin = 5 * time.Minute

// PlanRestart checks the members named, or takes all of them, and puts them in
// order: replicas first, the leader last.
func (c *Cluster) PlanRestart(ctx context.Context, names ...string) ([]string, error) {
	s, err := c.State(ctx)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if !slices.Contains(s.Names(), name) {
			return nil, c.unknownMember(name, s)
		}
		if _, live := s.Member(name); !live {
			return nil, &problem.Error{
				Code: "member-away", What: "cannot restart " + name,
				Why: "it does not show itself: its agent is not running or does not reach the store",
				Do:  "start it first; `howdah status " + c.Name + "` says who is up",
			}
		}
	}
	if len(names) == 0 {
		for _, m := range s.Members {
			names = append(names, m.Name)
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	if i := slices.Index(names, s.LeaderName()); i >= 0 {
		names = append(slices.Delete(names, i, i+1), s.LeaderName())
	}
	return names, nil
}

// Restart asks a member to restart its PostgreSQL and waits until it runs again.
func (c *Cluster) Restart(ctx context.Context, name string) (took time.Duration, err error) {
	what := "cannot restart " + name
	began, before := c.now(), c.postmaster(name)
	key := cluster.DirRequests + name
	r := cluster.Request{ID: rand.Text(), Kind: cluster.RequestRestart, At: began.UTC(), By: c.person()}
	mod, ok, err := c.commit(ctx, []dcs.Op{dcs.Put(key, r.Encode(), 0)}, dcs.Absent(key))
	switch {
	case err != nil:
		return 0, err
	case !ok:
		return 0, &problem.Error{
			Code: "request-pending", What: what, Why: "something else was asked of it and is not done",
			Do: "wait for it; `howdah why " + c.Name + "` says what it does",
		}
	}
	ctx, cancel := context.WithTimeout(ctx, restartWithin)
	defer cancel()
	var taken, down bool
	state := "unknown"
	err = c.watch(ctx, func(s cluster.State) bool {
		if s.Revision < mod {
			return false
		}
		_, asked := s.Request(name)
		taken = taken || !asked
		m, live := s.Member(name)
		if live {
			state = m.State
		}
		down = down || taken && (!live || !m.Running())
		// A restart may be over between two looks; then its server is another one.
		if now := c.postmaster(name); before != "" && now != "" && now != before {
			down = true
		}
		return taken && down && live && m.Running()
	})
	if err == nil {
		return c.now().Sub(began), nil
	}
	p := &problem.Error{
		Code: "restart-unknown", What: what,
		Why: fmt.Sprintf("it is %s, and not seen to run again", state),
		Do:  "see `howdah why " + c.Name + "` and its log",
	}
	if !taken {
		p.Why = "its agent did not take the request"
		// Nobody should be surprised by it later.
		_, _, _ = c.commit(context.WithoutCancel(ctx), []dcs.Op{dcs.Delete(key)}, dcs.ModIs(key, mod))
	}
	if errors.Is(err, context.DeadlineExceeded) {
		p.Why += fmt.Sprintf(" after %s", restartWithin)
	}
	return 0, p
}

// postmaster tells one run of a member's server from the next, where its data
// directory is on this machine: pid, directory and start time.
func (c *Cluster) postmaster(name string) string {
	n, ok := c.node(name)
	if !ok {
		return ""
	}
	b, err := os.ReadFile(filepath.Join(n.Postgres.Data, "postmaster.pid"))
	if err != nil {
		return ""
	}
	return lines(string(b), 3)
}

// lines returns the first n lines of text, or nothing while there are fewer.
func lines(text string, n int) string {
	for i := range text {
		if text[i] == '\n' {
			if n--; n == 0 {
				return text[:i]
			}
		}
	}
	return ""
}
