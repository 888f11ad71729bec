package control

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"howdah/cluster"
)

// standingWithin is what an agent may take to say how it stands.
const standingWithin = time.Second

// standing is what the agents of this machine say of their leader while the store says
// nothing, in words; "": nothing.
func (c *Cluster) standing(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, standingWithin)
	defer cancel()
	all := make([]cluster.Standing, len(c.Nodes))
	together(len(c.Nodes), func(i int) {
		if n := c.Nodes[i]; n.Agent.Listen != "" {
			all[i] = c.standingAt(ctx, n.Agent.Listen)
		}
	})
	return standingText(all, c.now())
}

// standingAt asks one agent.
func (c *Cluster) standingAt(ctx context.Context, listen string) (said cluster.Standing) {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return said
	}
	at := url.URL{Scheme: "http", Host: net.JoinHostPort(c.door(host), port), Path: cluster.StandingPath}
	if c.peers != nil {
		at.Scheme = "https"
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return said
	}
	resp, err := (&http.Client{Transport: c.transport()}).Do(r)
	if err != nil {
		return said
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<16)).Decode(&said); err != nil || resp.StatusCode != http.StatusOK {
		return cluster.Standing{}
	}
	return said
}

// standingText is the leader's own account, or that of somebody whose word it has.
func standingText(all []cluster.Standing, now time.Time) string {
	until := func(d time.Duration) string { return now.Add(d).Local().Format(time.TimeOnly) }
	other := ""
	for _, s := range all {
		switch {
		case s.Right > 0 && len(s.By) == 1 && s.By[0] == s.Member:
			return fmt.Sprintf("%s leads without it: there is nobody who could take over", s.Member)
		case s.Right > 0 && len(s.By) > 0:
			return fmt.Sprintf("%s leads without it, by the word of %s, until %s and as long as they give it anew", s.Member, strings.Join(s.By, ", "), until(s.Right))
		case s.Right > 0:
			return fmt.Sprintf("%s leads until %s by what it confirmed last", s.Member, until(s.Right))
		case s.Given > 0 && other == "":
			other = fmt.Sprintf("%s has given %s its word not to take over before %s", s.Member, s.Leader, until(s.Given))
		}
	}
	return other
}
