package control

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"howdah/cluster"
	"howdah/problem"
)

// A Why is the last decision of each member and the page of one change of leader.
type Why struct {
	Members []cluster.Why
	Page    *cluster.FailoverPage // nil: there was no change yet
}

// Why reads the last decisions, and page number (0: the last one).
func (c *Cluster) Why(ctx context.Context, number int64) (Why, error) {
	s, err := c.State(ctx)
	if err != nil {
		return Why{}, err
	}
	w := Why{Members: s.Whys}
	for i, p := range s.Failovers {
		if p.Number == number || number == 0 && i == len(s.Failovers)-1 {
			w.Page = &p
		}
	}
	if number != 0 && w.Page == nil {
		var have []string
		for _, p := range s.Failovers {
			have = append(have, strconv.FormatInt(p.Number, 10))
		}
		p := &problem.Error{
			Code: "failover-unknown", What: fmt.Sprintf("cannot show failover %d of cluster %s", number, c.Name),
			Why: "there are pages of " + strings.Join(have, ", "), Do: "give one of these numbers; without --failover the last one is shown",
		}
		if len(have) == 0 {
			p.Why, p.Do = "its leader never changed", "leave --failover out"
		}
		return Why{}, p
	}
	return w, nil
}

// History is every change of timeline, oldest first.
func (c *Cluster) History(ctx context.Context) (cluster.History, error) {
	s, err := c.State(ctx)
	if err != nil {
		return nil, err
	}
	if s.Unknown(cluster.KeyHistory) {
		return nil, &problem.Error{
			Code: "history-unreadable", What: "cannot show the history of cluster " + c.Name,
			Why: "its key does not hold a JSON array", Do: "the leader writes it again at its next promotion",
		}
	}
	return s.History, nil
}
