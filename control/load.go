package control

import (
	"context"
	"fmt"
	"math"
	"strconv"
)

// A Load is what a member does, as the store of metrics has it: about ten seconds
// old. nil is what it does not have.
type Load struct {
	Member       string   `json:"member"`
	Transactions *float64 `json:"transactions"` // a second
	Active       *float64 `json:"active"`       // sessions at work
	Sessions     *float64 `json:"sessions"`
	WAL          *float64 `json:"wal"`        // bytes a second
	Processors   *float64 `json:"processors"` // share of all that are busy
	Space        *float64 `json:"space"`      // share of the fullest file system that is used
}

// Loads are those of all members that the store of metrics knows, by name.
func (c *Cluster) Loads(ctx context.Context) (map[string]Load, error) {
	all := map[string]Load{}
	for _, of := range []struct {
		series string
		into   func(*Load) **float64
	}{
		{"pg:ins:xact_total_rate1m", func(l *Load) **float64 { return &l.Transactions }},
		{"pg:ins:active_backends", func(l *Load) **float64 { return &l.Active }},
		{"pg:ins:num_backends", func(l *Load) **float64 { return &l.Sessions }},
		{"pg:ins:lsn_rate1m", func(l *Load) **float64 { return &l.WAL }},
		{"pg:ins:cpu_usage_1m", func(l *Load) **float64 { return &l.Processors }},
		{"pg:ins:space_usage", func(l *Load) **float64 { return &l.Space }},
	} {
		told, err := c.metrics.Query(ctx, fmt.Sprintf("%s{cls=%q}", of.series, c.Name))
		if err != nil {
			return nil, err
		}
		for _, s := range told {
			v, err := strconv.ParseFloat(s.Value, 64)
			if err != nil || math.IsNaN(v) {
				continue
			}
			l := all[s.Labels["ins"]]
			l.Member = s.Labels["ins"]
			*of.into(&l) = &v
			all[l.Member] = l
		}
	}
	return all, nil
}
