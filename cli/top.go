package cli

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"howdah/control"
)

func (a *app) top() *cobra.Command {
	var every time.Duration
	cmd := &cobra.Command{
		Use: "top [CLUSTER]", Short: "What every member does now",
		Long: `Top draws the members with what they do, from the store of metrics ("howdah up
--observe"): transactions, sessions, WAL, processors, disk; beside that who leads,
who lags, and what fires. It goes on until it is interrupted; where there is no
terminal it prints once. With --json it prints one picture: the status, as "howdah
status --json" has it, and what every member does.`,
		Example: `  howdah top
  howdah top --every 10s
  howdah top --json`,
		SuggestFor: []string{"activity", "load"},
		Args:       takes(0), ValidArgsFunction: a.completeCluster,
		RunE: a.on(func(cmd *cobra.Command, c *control.Cluster) error {
			if every < time.Second {
				return usage("--every %s: once a second is as often as it makes sense", every)
			}
			ctx := cmd.Context()
			tick := time.NewTicker(every)
			defer tick.Stop()
			for {
				loads, err := c.Loads(ctx)
				if err != nil && ctx.Err() == nil && (!a.Terminal || a.json) {
					return err
				}
				st, stErr := c.Status(ctx)
				if ctx.Err() != nil {
					return nil
				}
				if a.json {
					if err := errors.Join(stErr, err); err != nil {
						return err
					}
					a.printJSON(a.Out, topJSON{st, slices.SortedFunc(maps.Values(loads), func(a, b control.Load) int { return strings.Compare(a.Member, b.Member) })})
					return nil
				}
				if a.Terminal {
					a.printf("\x1b[H\x1b[2J")
				}
				if stErr != nil { // that is when one looks
					a.complain(stErr)
				} else {
					a.printf("%s", topText(st, loads, time.Now()))
				}
				if err != nil {
					a.complain(err)
				}
				if !a.Terminal {
					return stErr
				}
				select {
				case <-tick.C:
				case <-ctx.Done():
					return nil
				}
			}
		}),
	}
	a.jsonFlag(cmd)
	cmd.Flags().DurationVar(&every, "every", 2*time.Second, "how often it is drawn anew")
	return cmd
}

// topJSON is one picture for a program.
type topJSON struct {
	Status control.Status `json:"status"`
	Loads  []control.Load `json:"loads"` // by member
}

// topText is one picture.
func topText(s control.Status, loads map[string]control.Load, now time.Time) string {
	t := table{
		title:   " " + s.Cluster + ", " + now.Format(time.TimeOnly) + " ",
		columns: []string{"Member", "Role", "State", "Behind", "Transactions/s", "At work", "Sessions", "WAL/s", "Processors", "Disk"},
		right:   map[string]bool{"Behind": true, "Transactions/s": true, "At work": true, "Sessions": true, "WAL/s": true, "Processors": true, "Disk": true},
	}
	number := func(v *float64, format func(float64) string) string {
		if v == nil {
			return ""
		}
		return format(*v)
	}
	plain := func(v float64) string { return fmt.Sprintf("%.0f", v) }
	share := func(v float64) string { return fmt.Sprintf("%.0f %%", 100*v) }
	for _, m := range s.Picture.Members {
		l, lag := loads[m.Name], ""
		if n, known := m.Lag(); known && !m.Leads() {
			lag = bytes(n)
		}
		t.rows = append(t.rows, []string{
			m.Name, m.Role.Title(), m.State, lag, number(l.Transactions, plain), number(l.Active, plain), number(l.Sessions, plain),
			number(l.WAL, func(v float64) string { return bytes(int64(v)) }), number(l.Processors, share), number(l.Space, share),
		})
	}
	var b strings.Builder
	b.WriteString(t.String())
	for _, name := range s.Picture.Away {
		fmt.Fprintf(&b, "%s does not show itself\n", name)
	}
	if s.Alerts != nil {
		fmt.Fprintf(&b, "alerts: %s\n", alertsLine(*s.Alerts))
	}
	for _, p := range s.Problems {
		fmt.Fprintf(&b, "problem: %s: %s [%s]\n", p.Member, p.What, p.Code)
	}
	for _, u := range s.Unwell {
		fmt.Fprintf(&b, "unwell: %s\n", u)
	}
	return b.String()
}
