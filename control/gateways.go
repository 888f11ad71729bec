package control

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"howdah/access/gateway"
	"howdah/cluster"
	"howdah/spec"
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

// Gateways asks every gateway of this machine where it leads clients.
func (c *Cluster) Gateways(ctx context.Context) []Gateway {
	ctx, cancel := context.WithTimeout(ctx, gatewayWithin)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	all := []Gateway{}
	var nodes []spec.Node
	for _, n := range c.Nodes {
		if len(c.front(n).Services) > 0 {
			nodes, all = append(nodes, n), append(all, Gateway{Member: n.Member, Services: []gateway.Routed{}})
		}
	}
	var wg sync.WaitGroup
	for i, n := range nodes {
		wg.Go(func() {
			told, err := c.ask(ctx, client, n)
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

// ask asks the gateway of n about this cluster.
func (c *Cluster) ask(ctx context.Context, client *http.Client, n spec.Node) (gateway.Routes, error) {
	host, port, err := net.SplitHostPort(n.Gateway.Listen)
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
	front := c.front(n)
	for _, told := range all {
		if told.Cluster == c.Name && told.Namespace == front.Namespace {
			return told, nil
		}
	}
	return gateway.Routes{}, fmt.Errorf("the gateway of %s does not know cluster %s", n.Member, c.Name)
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
