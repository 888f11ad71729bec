package cli

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"howdah/cluster"
	"howdah/control"
	"howdah/problem"
	"howdah/spec/plan"
)

// chosen reads FILE [CLUSTER[/MEMBER]…].
func (a *app) chosen(ctx context.Context, args []string, o *control.Choice) (control.House, control.Inventory, error) {
	h, err := a.house()
	if err != nil {
		return h, control.Inventory{}, err
	}
	inv, err := a.judged(ctx, args[0])
	if err != nil {
		return h, inv, err
	}
	o.Only = args[1:]
	return h, inv, nil
}

func needsInventory(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return usage("%s needs an inventory: the path of a YAML file", cmd.Name())
	}
	return nil
}

func (a *app) plan() *cobra.Command {
	var o control.Choice
	cmd := &cobra.Command{
		Use: "plan INVENTORY [CLUSTER[/MEMBER]…]", Short: "What applying an inventory would change, step by step",
		Long: `Plan compares an inventory with what is there: the members' descriptions, the
dynamic configuration, the catalogs of the primary. It prints every change with
its exact SQL or settings, what it can cost (safe, reload, restart, rewrite,
destructive) and why; what is there and in no inventory (drift); and what is
otherwise and can not be changed any more. It changes nothing.

Drift stays as it is, unless --prune is given here and to apply.
It ends with 0 when there is nothing to change, and with 2 when there is.`,
		Example: `  howdah plan pigsty.yml
  howdah plan pigsty.yml pg-test pg-meta/pg-meta-2
  howdah plan pigsty.yml --json | jq '.clusters[].steps[].what'`,
		SuggestFor: []string{"diff", "check"}, Args: needsInventory,
		RunE: func(cmd *cobra.Command, args []string) error {
			h, inv, err := a.chosen(cmd.Context(), args, &o)
			if err != nil {
				return err
			}
			r, err := h.Review(cmd.Context(), inv, o)
			if err != nil {
				return err
			}
			if a.json {
				a.printJSON(a.Out, planJSON(r))
			} else {
				planText(a.Out, r)
			}
			if !r.Empty() || r.Refused() != nil {
				return exitError(changesExit)
			}
			return nil
		},
	}
	a.jsonFlag(cmd)
	cmd.Flags().BoolVar(&o.Prune, "prune", false, "take away what the inventory does not know")
	cmd.Flags().BoolVar(&o.Purge, "purge", false, "delete what members had who leave")
	return cmd
}

func planJSON(r control.Review) any {
	return struct {
		control.Review
		Changes int            `json:"changes"`
		Risk    plan.Risk      `json:"risk"`
		Refused *problem.Error `json:"refused,omitempty"` // why apply would not begin
	}{r, r.Count(), r.Risk(), refused(r)}
}

func refused(r control.Review) *problem.Error {
	if r.Refused() == nil {
		return nil
	}
	p := problem.Plain(r.Refused())
	return &p
}

// planText prints a plan for a person.
func planText(out io.Writer, r control.Review) {
	if len(r.Clusters) == 0 {
		fmt.Fprintln(out, "nothing of the inventory is on this machine")
	}
	for _, c := range r.Clusters {
		switch n := len(c.Steps); {
		case n == 0:
			fmt.Fprintf(out, "cluster %s: nothing to change\n", c.Cluster)
		case c.New:
			fmt.Fprintf(out, "cluster %s, which is not there yet: %s\n", c.Cluster, count(n, "change"))
		default:
			fmt.Fprintf(out, "cluster %s: %s, at worst %s\n", c.Cluster, count(n, "change"), c.Plan.Risk())
		}
		for i, s := range c.Steps {
			stepText(out, strconv.Itoa(i+1), s)
		}
		for _, d := range c.Drift {
			fmt.Fprintf(out, "  drift: %s %s%s\n", d.Object, d.What, because(d.Why))
		}
		for _, d := range c.Cannot {
			fmt.Fprintf(out, "  can not be done: %s: %s%s\n", d.Object, d.What, because(d.Why))
		}
		if len(c.Missing) > 0 {
			fmt.Fprintf(out, "  not to be had: extensions %s, which the leader's PostgreSQL has not\n", strings.Join(c.Missing, ", "))
		}
	}
}

func because(why string) string {
	if why == "" {
		return ""
	}
	return " (" + why + ")"
}

func count(n int, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + one + "s"
}

// stepText prints a step: what and why, then its SQL, settings and lines.
func stepText(out io.Writer, number string, s plan.Step) {
	fmt.Fprintf(out, "%4s  %-11s  %s\n", number, s.Risk, shown(s.What))
	line := func(format string, args ...any) { fmt.Fprintf(out, "                   "+format+"\n", args...) }
	line("(%s)", shown(s.Why))
	in := ""
	if s.Database != "" {
		in = "   -- in database " + shown(s.Database)
	}
	for _, st := range s.SQL {
		line("%s;%s", shown(st.Text), in)
	}
	if len(s.SQL) == 0 { // else they are in it
		for _, set := range s.Settings {
			line("%s: %s -> %s", shown(set.Name), valueText(set.From), valueText(set.To))
		}
	}
	for _, l := range s.Lines {
		line("%s", shown(l))
	}
}

// shown keeps control characters, which a name may hold, off the terminal.
func shown(text string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 && r != '\t' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return '\ufffd'
		}
		return r
	}, text)
}

func valueText(v string) string {
	if v == "" {
		return "(nothing)"
	}
	return shown(v)
}

func (a *app) apply() *cobra.Command {
	var o control.Choice
	var step bool
	cmd := &cobra.Command{
		Use: "apply INVENTORY [CLUSTER[/MEMBER]…]", Short: "Make clusters what an inventory says",
		Long: `Apply carries out what "howdah plan" prints: descriptions of members first, then
the dynamic configuration, roles and databases, and restarts at the end, one
member at a time, the leader after a switchover. It shows the plan and asks
once; with --step it asks before every step. What restarts, rewrites or destroys
needs --yes where nobody can be asked.

It may be ended anywhere and given again: it does what is left. A change of
leader in between is followed. What was done is kept in the store, and shown by
"howdah applied". Given twice, the second time changes nothing.`,
		Example: `  howdah apply pigsty.yml
  howdah apply pigsty.yml pg-test --yes
  howdah apply pigsty.yml --prune --step`,
		Args: needsInventory,
		RunE: func(cmd *cobra.Command, args []string) error {
			h, inv, err := a.chosen(cmd.Context(), args, &o)
			if err != nil {
				return err
			}
			if step && !a.Terminal {
				return usage("--step asks before every step, and there is no terminal to ask at")
			}
			r, err := h.Review(cmd.Context(), inv, o)
			if err != nil {
				return err
			}
			if !a.json {
				planText(a.Out, r)
			} else if a.dry {
				a.printJSON(a.Out, planJSON(r))
			}
			if err := r.Refused(); err != nil && !a.dry {
				return err
			}
			if r.Empty() && !a.dry && a.json {
				a.printJSON(a.Out, map[string]any{"clusters": []control.Outcome{}})
			}
			if r.Empty() || a.dry {
				return nil
			}
			if !step {
				what := fmt.Sprintf("make %s to %s", count(r.Count(), "change"), clustersOf(r))
				if ok, err := a.sure(what, risk(r.Risk().Over(plan.Reload))); !ok {
					return err
				}
			}
			var failed bool
			p := control.Applying{Choice: o, What: "apply " + filepath.Base(args[0])}
			if step {
				p.Before = a.askStep
			}
			p.After = func(cluster string, s plan.Step, err error) {
				failed = failed || err != nil
				switch {
				case a.json:
				case err != nil:
					a.printf("%s: could not %s: %s\n", cluster, shown(s.What), shown(err.Error()))
				default:
					a.printf("%s: %s\n", cluster, shown(s.Done()))
				}
			}
			done, err := h.Apply(cmd.Context(), inv, p)
			switch {
			case a.json:
				a.printJSON(a.Out, map[string]any{"clusters": done})
			case err == nil:
				for _, d := range done {
					for _, left := range d.Left {
						a.warnf("%s: still to be done, though it was tried: %s\n", d.Cluster, shown(left))
					}
				}
			}
			return err
		},
	}
	a.changeFlags(cmd)
	cmd.Flags().BoolVar(&o.Prune, "prune", false, "take away what the inventory does not know")
	cmd.Flags().BoolVar(&o.Purge, "purge", false, "delete what members had who leave")
	cmd.Flags().BoolVar(&step, "step", false, "ask before every step")
	return cmd
}

// askStep asks about one step.
func (a *app) askStep(cluster string, s plan.Step) error {
	a.printf("cluster %s\n", cluster)
	stepText(a.Out, "", s)
	fmt.Fprint(a.Err, "Do this? [y]es, [n]o, [q]uit ")
	answer, _ := bufio.NewReader(a.In).ReadString('\n') // end of input is the end
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return nil
	case "n", "no":
		return control.ErrSkip
	}
	return &problem.Error{
		Code: "declined", What: "did not go on applying", Why: "you said no more", Do: "what was done stays; the same command goes on with the rest",
	}
}

func clustersOf(r control.Review) string {
	var names []string
	for _, c := range r.Clusters {
		if len(c.Steps) > 0 && !slices.Contains(names, c.Cluster) {
			names = append(names, c.Cluster)
		}
	}
	return list(names)
}

func (a *app) applied() *cobra.Command {
	cmd := &cobra.Command{
		Use: "applied [CLUSTER]", Short: "What was applied to a cluster, by whom, and when",
		Long: `Applied prints what "howdah apply", "up" and "provision" changed of a cluster, the
latest last: who, when, every step that was taken, and those that could not be.
The cluster's store keeps the last 50 times.`,
		Example: `  howdah applied pg-test`,
		Args:    takes(0), ValidArgsFunction: a.completeCluster,
		RunE: a.on(func(cmd *cobra.Command, c *control.Cluster) error {
			all, err := c.Applied(cmd.Context())
			if err != nil {
				return err
			}
			if a.json {
				if all == nil {
					all = []cluster.Applied{}
				}
				a.printJSON(a.Out, all)
				return nil
			}
			if len(all) == 0 {
				a.printf("nothing was applied to cluster %s so far\n", c.Name)
			}
			for _, r := range slices.Backward(all) {
				state := "ended " + r.Ended.Format("15:04:05")
				if r.Ended.IsZero() {
					state = "not seen to end"
				}
				a.printf("%s  %s  by %s, %s\n", r.At.Format("2006-01-02 15:04:05Z"), shown(r.What), shown(r.By), state)
				for _, s := range r.Steps {
					a.printf("    %s\n", shown(s))
				}
				for _, s := range r.Failed {
					a.printf("    could not %s\n", shown(s))
				}
				if r.More > 0 {
					a.printf("    and %d more\n", r.More)
				}
			}
			return nil
		}),
	}
	a.jsonFlag(cmd)
	return cmd
}
