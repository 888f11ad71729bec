package control

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"howdah/access/gateway"
	"howdah/cluster"
)

// gatewayWithin is the time that a gateway has to answer. It answers from
// memory: a slower one is not there for clients either.
const gatewayWithin = time.Second

// A Gateway is one of the ways into the cluster, as it says of itself.
type Gateway struct {
	Member   string           `json:"member"`
	Services []gateway.Routed `json:"services"`
	Unwell   string           `json:"unwell,omitempty"` // why clients had better take another one

	told *gateway.Routes // nil: it did not answer
}

// Gateways asks every gateway where it leads clients: those of this machine, and
// those that have announced themselves in the store.
func (c *Cluster) Gateways(ctx context.Context, s cluster.State) []Gateway {
	ctx, cancel := context.WithTimeout(ctx, gatewayWithin)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	all := []Gateway{}
	var pages []string
	add := func(node, page string) {
		if !slices.Contains(pages, page) {
			pages, all = append(pages, page), append(all, Gateway{Member: node, Services: []gateway.Routed{}})
		}
	}
	for _, n := range c.carriers() {
		if len(c.front(n).Services) > 0 {
			add(n.Member, n.Gateway.Listen)
		}
	}
	for _, g := range s.Gateways {
		add(g.Node, g.Listen)
	}
	var wg sync.WaitGroup
	for i, page := range pages {
		wg.Go(func() {
			told, err := c.ask(ctx, client, page)
			if err != nil {
				all[i].Unwell = "does not answer"
				return
			}
			all[i].told, all[i].Services = &told, told.Services
		})
	}
	wg.Wait()
	return all
}

// ask asks the gateway with that page about this cluster.
func (c *Cluster) ask(ctx context.Context, client *http.Client, page string) (gateway.Routes, error) {
	host, port, err := net.SplitHostPort(page)
	if err != nil {
		return gateway.Routes{}, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(c.door(host), port)+gateway.RoutesPath, nil)
	if err != nil {
		return gateway.Routes{}, err
	}
	resp, err := client.Do(r)
	if err != nil {
		return gateway.Routes{}, err
	}
	defer resp.Body.Close()
	var all []gateway.Routes
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&all); err != nil {
		return gateway.Routes{}, err
	}
	for _, told := range all {
		if told.Cluster == c.Name && told.Namespace == c.namespace() {
			return told, nil
		}
	}
	return gateway.Routes{}, fmt.Errorf("the gateway at %s does not know cluster %s", page, c.Name)
}

// namespace is where the cluster's keys are: the same for all of its nodes.
func (c *Cluster) namespace() string {
	for _, n := range c.Nodes {
		if f := c.front(n); f.Namespace != "" {
			return f.Namespace
		}
		if n.Cluster == c.Name {
			return n.Namespace
		}
	}
	return ""
}

// judge says which gateways do not follow what the cluster is now.
func judge(all []Gateway, p cluster.Picture) {
	for i, g := range all {
		switch {
		case g.told == nil:
		case g.told.Generation == 0:
			all[i].Unwell = "has not seen the cluster yet"
		case g.told.Generation < p.Epoch:
			all[i].Unwell = "has not seen the present leader yet"
		case g.told.Blind:
			all[i].Unwell = "does not see the store"
		}
	}
}
