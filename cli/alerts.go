package cli

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"howdah/control"
	"howdah/observe/notice"
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
		RunE: func(cmd *cobra.Command, args []string) error {
			h, m, err := a.metricStore()
			if err != nil {
				return err
			}
			if rules {
				all, err := m.Rules(cmd.Context())
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
			name := strings.Join(args, "")
			if len(h.Clusters()) > 0 { // else what fires is kept here of clusters elsewhere
				if name, err = h.Name(name); err != nil {
					return err
				}
			}
			all, err := m.Alerts(cmd.Context(), name)
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
		},
	}
	cmd.Flags().BoolVar(&pending, "pending", false, "also those whose cause has not lasted for long enough")
	cmd.Flags().BoolVar(&rules, "rules", false, "what has to be so, and for how long, until each alert fires")
	a.jsonFlag(cmd)
	cmd.AddCommand(a.silence(), a.silences(), a.unsilence())
	return cmd
}

// metricStore is the house with its store of metrics.
func (a *app) metricStore() (control.House, control.MetricStore, error) {
	h, err := a.house()
	if err != nil {
		return h, control.MetricStore{}, err
	}
	m, err := h.Metrics()
	return h, m, err
}

func (a *app) silence() *cobra.Command {
	var (
		last, begin string
		s           notice.Silence
	)
	cmd := &cobra.Command{
		Use: "silence MATCHER...", Short: "Have alerts told to nobody for a while",
		Long: `Silence keeps alerts from being told by webhook and mail for a while. They fire
all the same, are shown as before, and are told when the time is over and they
still fire.

A matcher is what a label of theirs has to be: NAME=VALUE, NAME!=VALUE,
NAME=~REGEX or NAME!~REGEX; a word alone is the name of an alert. All of them have
to match. Labels are shown by "howdah alerts --json".

On the machine that keeps metrics nothing has to run for that; from another one of the
inventory it goes to the jobs of that machine, as root or as the node's user.
Alertmanagers that are told have silences of their own.`,
		Example: `  howdah alerts silence NodeLoadHigh cls=demo --for 2h --comment "batch jobs"
  howdah alerts silence ins=demo-3 --for 30m --comment "new disks"
  howdah alerts silence 'alertname=~Backup.*' --begin '2026-12-24 20:00:00' --for 10h`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usage("silence takes what alerts have to be: an alert's name, or NAME=VALUE")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, text := range args {
				m, err := notice.ParseMatcher(text)
				if err != nil {
					return usage("%w", err)
				}
				s.Matchers = append(s.Matchers, m)
			}
			now := time.Now().UTC().Truncate(time.Second)
			s.Starts = now
			if begin != "" {
				at, err := control.ParseMoment(begin, now)
				if err != nil || at.At.IsZero() {
					return usage("--begin %s: give a time like '2026-12-24 20:00:00'", begin)
				}
				s.Starts = at.At.UTC()
			}
			d, err := parseFor(last)
			if err != nil {
				return err
			}
			s.Ends = s.Starts.Add(d)
			_, m, err := a.metricStore()
			if err != nil {
				return err
			}
			made, err := m.Silence(cmd.Context(), s, now)
			switch {
			case err != nil:
				return err
			case a.json:
				a.printJSON(a.Out, made)
			default:
				a.printf("%s: %s is told to nobody until %s\n", made.ID, made, made.Ends.Local().Format(time.DateTime))
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&last, "for", "1h", "for how long: 30m, 2h, 3d")
	cmd.Flags().StringVar(&begin, "begin", "", "when it begins; now, unless it is given")
	cmd.Flags().StringVar(&s.Comment, "comment", "", "why")
	cmd.Flags().StringVar(&s.By, "author", "", "who says so; this user, unless it is given")
	a.jsonFlag(cmd)
	return cmd
}

// parseFor reads how long something is to last.
func parseFor(text string) (time.Duration, error) {
	if m := daysText.FindStringSubmatch(text); m != nil {
		days, _ := strconv.Atoi(m[1]) // five digits are a number
		return time.Duration(min(days, 3650)) * 24 * time.Hour, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		return 0, usage("--for %s: give a time like 30m, 2h or 3d", text)
	}
	return d, nil
}

func (a *app) silences() *cobra.Command {
	var ended bool
	cmd := &cobra.Command{
		Use: "silences", Short: "Which alerts are told to nobody, and until when",
		Long: `Silences prints which alerts are told to nobody, until when, who said so and why:
those given by "howdah alerts silence", and those of notify.yml, called file-….`,
		Example: `  howdah alerts silences
  howdah alerts silences --ended --json`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usage("silences takes no arguments, not %s", strings.Join(args, " "))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, m, err := a.metricStore()
			if err != nil {
				return err
			}
			all, err := m.Silences(cmd.Context())
			if err != nil {
				return err
			}
			if !ended {
				all = slices.DeleteFunc(all, func(s control.Silenced) bool { return s.Status.State == notice.Expired })
			}
			if a.json {
				a.printJSON(a.Out, all)
			} else {
				a.printf("%s", silencesText(all))
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&ended, "ended", false, "also those that have ended, for five days")
	a.jsonFlag(cmd)
	return cmd
}

func silencesText(all []control.Silenced) string {
	if len(all) == 0 {
		return "nothing is silenced\n"
	}
	t := table{columns: []string{"ID", "State", "Alerts", "Until", "By", "Why"}}
	for _, s := range all {
		until := "-"
		if !s.Ends.IsZero() {
			until = s.Ends.Local().Format(time.DateTime)
		}
		t.rows = append(t.rows, []string{s.ID, s.Status.State, s.String(), until, s.By, printable(s.Comment)})
	}
	return t.String()
}

func (a *app) unsilence() *cobra.Command {
	cmd := &cobra.Command{
		Use: "unsilence ID...", Short: "Have alerts told again",
		Long: `Unsilence ends silences before their time. What fires still is told at its next
turn, within seconds. Other machines can do that too, as with "howdah alerts silence".`,
		Example: `  howdah alerts silences
  howdah alerts unsilence k3v7qa2d`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usage("unsilence takes the ID of a silence; `howdah alerts silences` shows them")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			_, m, err := a.metricStore()
			if err != nil {
				return err
			}
			ended, err := m.Unsilence(cmd.Context(), args, time.Now().UTC())
			switch {
			case err != nil:
				return err
			case a.json:
				a.printJSON(a.Out, ended)
			default:
				for _, s := range ended {
					a.printf("%s: %s is told again\n", s.ID, s)
				}
			}
			return nil
		},
	}
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
			_, m, err := a.metricStore()
			if err != nil {
				return err
			}
			all, err := m.Query(cmd.Context(), args[0])
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
