package control

import (
	"context"
	"crypto/rand"
	"slices"
	"strings"
	"time"

	"howdah/cluster"
	"howdah/dcs"
	"howdah/problem"
)

// succeedWithin is the time allowed to one gateway's restart: until its successor serves.
const succeedWithin = 40 * time.Second

// PlanGateways checks the nodes named, or takes all whose gateways have announced
// themselves.
func (c *Cluster) PlanGateways(ctx context.Context, names ...string) ([]string, error) {
	s, err := c.State(ctx)
	if err != nil {
		return nil, err
	}
	var all []string
	for _, g := range s.Gateways {
		all = append(all, g.Node)
	}
	slices.Sort(all)
	if len(names) == 0 && len(all) > 0 {
		return slices.Compact(all), nil
	}
	for _, name := range names {
		if !slices.Contains(all, name) {
			return nil, gatewayAway(name, all)
		}
	}
	if len(names) == 0 {
		return nil, gatewayAway("of "+c.Name, all)
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

func gatewayAway(name string, all []string) error {
	p := &problem.Error{
		Code: "gateway-away", What: "cannot restart the gateway of " + name,
		Why: "no gateway has announced itself in the store",
		Do:  "see whether it runs: `howdah status`, and its log",
	}
	if len(all) > 0 {
		p.Why = "those that have announced themselves are " + strings.Join(all, ", ")
	}
	return p
}

// RestartGateway asks the gateway of a node to give its place to a successor, and waits
// until that one serves. Sessions go over beside that, and longer.
func (c *Cluster) RestartGateway(ctx context.Context, node string) (took time.Duration, err error) {
	s, err := c.State(ctx)
	if err != nil {
		return 0, err
	}
	i := slices.IndexFunc(s.Gateways, func(g cluster.Gateway) bool { return g.Node == node })
	if i < 0 {
		return 0, gatewayAway(node, nil)
	}
	what, was := "cannot restart the gateway of "+node, s.Gateways[i]
	began := c.now()
	key := cluster.DirSuccessions + was.Host
	r := cluster.Request{ID: rand.Text(), Kind: cluster.RequestRestart, At: began.UTC(), By: c.person()}
	mod, ok, err := c.commit(ctx, []dcs.Op{dcs.Put(key, r.Encode(), 0)}, dcs.Absent(key))
	switch {
	case err != nil:
		return 0, err
	case !ok:
		return 0, &problem.Error{
			Code: "request-pending", What: what, Why: "it was asked for already, and is not taken up yet",
			Do: "wait for it; what no gateway takes up is `howdah/successions/` in the store",
		}
	}
	ctx, cancel := context.WithTimeout(ctx, succeedWithin)
	defer cancel()
	refused := ""
	err = c.watch(ctx, func(s cluster.State) bool {
		for _, g := range s.Gateways {
			if g.Host == was.Host {
				id, why, _ := strings.Cut(g.Refused, ": ")
				if id == r.ID {
					refused = why
				}
				return refused != "" || !g.Since.Equal(was.Since) && s.Revision >= mod
			}
		}
		return false
	})
	if err == nil && refused == "" {
		return c.now().Sub(began), nil
	}
	// Nobody should be surprised by it later.
	_, _, _ = c.commit(context.WithoutCancel(ctx), []dcs.Op{dcs.Delete(key)}, dcs.ModIs(key, mod))
	if refused == "" {
		refused = "its successor was not seen to serve in " + succeedWithin.String()
	}
	return 0, &problem.Error{
		Code: "gateway-kept", What: what, Why: refused + "; it goes on as before",
		Do: "see its log",
	}
}
