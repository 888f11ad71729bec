package cli

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"howdah/control"
)

func (a *app) alerts() *cobra.Command {
	var pending, rules bool
	cmd := &cobra.Command{
		Use: "alerts [CLUSTER]", Short: "What a person should hear of now",
		Long: `Alerts prints what fires of the rules of the store of metrics ("howdah up
--observe"): how bad it is (CRIT: now, WARN: today, INFO: it was noticed), whom it
is about, since when, and the entry of docs/problems.md that has the remedy. With
--pending also what has not lasted for long enough yet; with --rules the rules.

It ends with 3 when something of severity CRIT fires.`,
		Example: `  howdah alerts
  howdah alerts --rules
  howdah alerts --json | jq -r '.[] | select(.severity == "CRIT").summary'`,
		SuggestFor: []string{"alarms", "alert", "warnings"},
		Args:       takes(0), ValidArgsFunction: a.completeCluster,
		RunE: a.on(func(cmd *cobra.Command, c *control.Cluster) error {
			if rules {
				all, err := c.Rules(cmd.Context())
				switch {
				case err != nil:
					return err
				case a.json:
					a.printJSON(a.Out, all)
				default:
					a.printf("%s", rulesText(all))
				}
				return nil
			}
			all, err := c.Alerts(cmd.Context())
			if err != nil {
				return err
			}
			if !pending {
				all = control.Alerts{All: all}.Firing()
			}
			if a.json {
				a.printJSON(a.Out, all)
			} else {
				a.printf("%s", alertsText(all, time.Now()))
			}
			if slices.ContainsFunc(all, func(a control.Alert) bool { return a.State == control.Firing && a.Severity == control.Critical }) {
				return errUnhealthy
			}
			return nil
		}),
	}
	cmd.Flags().BoolVar(&pending, "pending", false, "also those whose cause has not lasted for long enough")
	cmd.Flags().BoolVar(&rules, "rules", false, "what has to be so, and for how long, until each alert fires")
	a.jsonFlag(cmd)
	return cmd
}

// alertsText is a line each.
func alertsText(all []control.Alert, now time.Time) string {
	if len(all) == 0 {
		return "nothing fires\n"
	}
	var b strings.Builder
	for _, a := range all {
		state := ""
		if a.State == control.Pending {
			state = "pending, "
		}
		fmt.Fprintf(&b, "%-4s %-22s %s\n%27s %ssince %s (%s); see %s in docs/problems.md\n",
			a.Severity, a.Name, a.Summary, "", state, a.Since.Local().Format(time.DateTime), ago(now.Sub(a.Since)), a.Problem)
	}
	return b.String()
}

func rulesText(all []control.Rule) string {
	t := table{columns: []string{"Severity", "Alert", "For", "State", "Problem", "When"}, right: map[string]bool{"For": true}}
	for _, r := range all {
		state := r.State
		if r.Failed != "" {
			state = "fails: " + r.Failed
		}
		t.rows = append(t.rows, []string{r.Severity, r.Alert, r.For.String(), state, r.Problem, r.Query})
	}
	return t.String()
}

// alertsLine is what status says of alerts.
func alertsLine(a control.Alerts) string {
	firing := a.Firing()
	switch {
	case a.Unwell != "":
		return "unknown: " + a.Unwell
	case len(firing) == 0:
		return "nothing fires"
	}
	const shown = 3
	var worst []string
	for _, f := range firing[:min(shown, len(firing))] {
		worst = append(worst, strings.TrimSpace(f.Severity+" "+f.Name+" "+f.Member))
	}
	text := fmt.Sprintf("%d fire: %s", len(firing), strings.Join(worst, ", "))
	if len(firing) == 1 {
		text = "one fires: " + worst[0]
	}
	if len(firing) > shown {
		text += " …"
	}
	return text + " (howdah alerts)"
}

func (a *app) metrics() *cobra.Command {
	cmd := &cobra.Command{
		Use: "metrics QUERY", Short: "Ask the store of metrics, in Prometheus's language",
		Long: `Metrics asks the store of metrics ("howdah up --observe") a question in
Prometheus's language and prints what is so now: one line a series.`,
		Example: `  howdah metrics pg_up
  howdah metrics 'rate(pg_db_xact_commit{datname="demo"}[1m])'
  howdah metrics 'topk(5, pg:query:call_rate1m)' --json`,
		SuggestFor: []string{"promql", "query"},
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usage("metrics takes one query, in quotes, not %d", len(args))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			h, err := a.house()
			if err != nil {
				return err
			}
			name := ""
			if all := h.Clusters(); len(all) > 0 {
				name = all[0] // they have one store
			}
			c, err := h.Open(name)
			if err != nil {
				return err
			}
			defer c.Close()
			all, err := c.Query(cmd.Context(), args[0])
			switch {
			case err != nil:
				return err
			case a.json:
				a.printJSON(a.Out, all)
			default:
				a.printf("%s", samplesText(all))
			}
			return nil
		},
	}
	a.jsonFlag(cmd)
	return cmd
}

// samplesText prints series as Prometheus writes them.
func samplesText(all []control.Sample) string {
	if len(all) == 0 {
		return "nothing has such a series now\n"
	}
	var b strings.Builder
	for _, s := range all {
		name := s.Labels["__name__"]
		var words []string
		for _, k := range slices.Sorted(maps.Keys(s.Labels)) {
			if k != "__name__" {
				words = append(words, fmt.Sprintf("%s=%q", k, s.Labels[k]))
			}
		}
		if len(words) > 0 || name == "" {
			name += "{" + strings.Join(words, ",") + "}"
		}
		fmt.Fprintf(&b, "%s %s\n", name, s.Value)
	}
	return b.String()
}
