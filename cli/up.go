package cli

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"howdah/cluster"
	"howdah/control"
)

func (a *app) up() *cobra.Command {
	var ground, loss string
	var observe bool
	cmd := &cobra.Command{
		Use: "up [INVENTORY]", Short: "Start the clusters of an inventory on this machine",
		Long: `Up starts every cluster of the inventory on this machine, each host with an
address of its own, makes their users and databases, waits until all are
healthy, and says how to connect. Without an inventory it starts what is there
already, or else the cluster "demo" of three nodes. It may be given again at any
time: what runs and is as it should be stays untouched.

A new cluster of three or more data nodes loses nothing that it acknowledged: a
commit waits until a replica has it. One of two does so while both are up, and one
that is left alone goes on. --max-loss makes the demo with less than
that: commits wait for nobody, and what a lost host may take along is that many
bytes of log at most if another is to lead. It is for a new demo; an inventory
says max_loss or pg_rpo, and "howdah edit-config" changes a cluster that is there.`,
		Example: `  howdah up
  howdah up --max-loss 1MB
  howdah up pigsty.yml
  howdah up --dir /tmp/try --ground loopback`,
		SuggestFor: []string{"start", "create", "run"},
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usage("up takes one inventory, not %d: %q", len(args), args)
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			most, err := parseMaxLoss(loss)
			if err != nil {
				return err
			}
			if loss != "" && len(args) == 1 {
				return usage("--max-loss is for the demo; write max_loss (or pg_rpo) into %s", args[0])
			}
			h, err := a.house()
			if err != nil {
				return err
			}
			var inv control.Inventory
			if len(args) == 1 {
				if inv, err = a.judged(cmd.Context(), args[0]); err != nil {
					return err
				}
			}
			var keep *bool // metrics; as it is, if nobody says
			if cmd.Flags().Changed("observe") {
				keep = &observe
			}
			what, err := h.PlanUp(ground, inv, keep)
			if err != nil {
				return err
			}
			if a.dry {
				if what == "" {
					what = "start nothing: every node runs"
				}
				_, err := a.sure(what, harmless)
				return err
			}
			began := time.Now()
			switch {
			case a.json:
			case what == "":
				a.printf("Every node runs already.\n")
			default:
				a.printf("%s.\n", sentence(what))
			}
			up, err := h.Up(cmd.Context(), ground, inv, most, keep)
			if err != nil {
				return err
			}
			defer up.Close()
			if !a.json {
				for _, s := range up.Substituted {
					a.printf("  not as in production: %s\n", s)
				}
			}
			var all []risen
			for _, c := range up.Clusters {
				r, err := a.rise(cmd.Context(), c, began)
				if err != nil {
					return err
				}
				all = append(all, r)
				if loss != "" {
					a.keeps(c.Name, r.state.Config, most)
				}
			}
			a.raised(up, all, time.Since(began))
			return nil
		},
	}
	cmd.Flags().StringVar(&ground, "ground", "", "loopback or isolated (default: isolated for root, else loopback)")
	cmd.Flags().StringVar(&loss, "max-loss", "", "what a lost host may cost the new demo, like 1MB; 0 (the default): nothing")
	_ = cmd.RegisterFlagCompletionFunc("max-loss", cobra.FixedCompletions([]string{"0", "1MB", "16MB"}, cobra.ShellCompDirectiveNoFileComp))
	cmd.Flags().BoolVar(&observe, "observe", false, "keep metrics of all nodes, with rules and alerts, on port 9090 of one (default: as it is, at first not)")
	_ = cmd.RegisterFlagCompletionFunc("ground", cobra.FixedCompletions([]string{"loopback", "isolated"}, cobra.ShellCompDirectiveNoFileComp))
	a.changeFlags(cmd)
	return cmd
}

var maxLossText = regexp.MustCompile(`(?i)^([0-9]{1,15})(b|kb|mb|gb|tb)?$`)

// parseMaxLoss reads a size as PostgreSQL writes them, by 1024: 0, 512kB, 16MB.
func parseMaxLoss(text string) (int64, error) {
	if text == "" {
		return 0, nil
	}
	const most = 1 << 53 // what a number of the dynamic configuration holds exactly
	m := maxLossText.FindStringSubmatch(text)
	if m == nil {
		return 0, usage("--max-loss %s: give a size, like 1MB, 512kB, or 0", text)
	}
	n, err := strconv.ParseInt(m[1], 10, 64)
	unit := int64(1) << (10 * strings.Index("bkmgt", strings.ToLower(m[2] + "b")[:1]))
	if err != nil || n > most/unit {
		return 0, usage("--max-loss %s: that is more than can be meant", text)
	}
	return n * unit, nil
}

// keeps says that a cluster which was there before goes on by what it has in the
// store, where that is not what was asked for.
func (a *app) keeps(name string, has cluster.Config, most int64) {
	mode := has.SynchronousMode()
	switch {
	case most == 0 && mode == cluster.SyncOff:
		a.warnf("cluster %s is there already, and commits wait for nobody as before; `howdah edit-config %[1]s --set synchronous_mode=quorum --set synchronous_mode_strict=true` has them wait\n", name)
	case most > 0 && mode != cluster.SyncOff:
		a.warnf("cluster %s is there already, and keeps synchronous_mode=%s; `howdah edit-config %[1]s --set synchronous_mode=off --set maximum_lag_on_failover=%[3]d` has commits wait for nobody\n", name, mode, most)
	case most > 0 && has.MaximumLagOnFailover() != most:
		a.warnf("cluster %s is there already, and keeps maximum_lag_on_failover=%d; `howdah edit-config %[1]s --set maximum_lag_on_failover=%[3]d` changes it\n", name, has.MaximumLagOnFailover(), most)
	}
}

// risen is a cluster that is up, healthy, and has all that it is to have.
type risen struct {
	cluster *control.Cluster
	state   cluster.State
	access  control.Access
}

// rise waits until the cluster is healthy and makes its users and databases.
func (a *app) rise(ctx context.Context, c *control.Cluster, began time.Time) (risen, error) {
	say := func(format string, args ...any) {
		if !a.json {
			a.printf("%6.1f s  "+format+"\n", append([]any{time.Since(began).Seconds()}, args...)...)
		}
	}
	way := a.climbing(a.Out, began)
	s, err := c.AwaitHealthy(ctx, way.step)
	way.end()
	if err != nil {
		return risen{}, err
	}
	report, err := c.Provision(ctx, control.Provisioning{What: "up"})
	switch n := len(report.Done); {
	case n > 4:
		say("%s: %s, and %d more", c.Name, strings.Join(report.Done[:3], ", "), n-3)
	case n > 0:
		say("%s: %s", c.Name, strings.Join(report.Done, ", "))
	}
	if len(report.Missing) > 0 && !a.json {
		a.printf("  not as in production: cluster %s is without %s, which this machine's PostgreSQL has not\n", c.Name, strings.Join(report.Missing, ", "))
	}
	if err != nil {
		return risen{}, err
	}
	access, err := c.Access()
	return risen{c, s, access}, err
}

// raised prints how to go on with clusters that are up.
func (a *app) raised(up control.Raised, all []risen, took time.Duration) {
	if a.json {
		type one struct {
			Cluster     string            `json:"cluster"`
			Ground      string            `json:"ground"`
			Substituted []string          `json:"substituted"`
			Seconds     float64           `json:"seconds"`
			URL         string            `json:"url"`
			Passfile    string            `json:"pgpass"`
			Services    string            `json:"service_file"`
			Through     map[string]string `json:"service_urls"`
			Metrics     string            `json:"metrics,omitempty"`
			Console     string            `json:"console,omitempty"`
			Picture     cluster.Picture   `json:"picture"`
		}
		var list []one
		for _, r := range all {
			list = append(list, one{r.cluster.Name, up.Ground, up.Substituted, took.Seconds(), r.access.URL(true), r.access.Passfile, r.access.Services, through(r.cluster, r.access), up.Metrics, up.Console, cluster.PictureOf(r.state)})
		}
		if len(list) == 1 {
			a.printJSON(a.Out, list[0])
		} else {
			a.printJSON(a.Out, list)
		}
		return
	}
	name := ""
	if len(all) > 1 {
		name = " " + all[0].cluster.Name
	}
	if a.dir != a.defaultDir() {
		name += " --dir " + a.home(a.dir)
	}
	for _, r := range all {
		a.printf("\n%s", listTable(r.cluster.Name, r.state))
	}
	text := fmt.Sprintf("\nHealthy after %.1f s. Connect:\n  howdah psql%s\n", took.Seconds(), name)
	for _, r := range all {
		text += fmt.Sprintf("%s  PGSERVICEFILE=%s psql service=%s\n", urls(r.cluster, r.access), r.access.Services, r.cluster.Name)
	}
	if up.Metrics != "" {
		text += "Metrics, rules and alerts, as Prometheus has them:\n  " + up.Metrics + "\n"
	}
	if up.Console != "" {
		text += "The console, to look at all of it:\n  " + up.Console + "   # password " + up.Password.Reveal() + ", to change something " + up.Operator.Reveal() + "\n"
	}
	text += fmt.Sprintf(`
Try:
  howdah status --watch%[1]s
  howdah fault kill-postgres%[1]s
  howdah fault kill-node%[1]s
  howdah fault start-node%[1]s
  howdah switchover%[1]s
  howdah why%[1]s
  howdah down%[2]s
`, name, strings.TrimPrefix(name, " "+all[0].cluster.Name))
	if strings.Contains(a.Called, "/") { // not through PATH: it may not be there
		text = strings.ReplaceAll(text, "\n  howdah ", "\n  "+a.Called+" ")
	}
	a.printf("%s", text)
}

// through are the connection strings of the services, by name.
func through(c *control.Cluster, access control.Access) map[string]string {
	all := map[string]string{}
	for _, name := range c.Services() {
		all[name] = c.Through(access, name, true)
	}
	return all
}

// urls are the lines by which a person connects: through a service to the
// primary, and to a replica.
func urls(c *control.Cluster, access control.Access) string {
	var b strings.Builder
	for _, s := range []struct{ name, why string }{{control.Primary, "the primary"}, {control.Replica, "a replica"}} {
		if url := c.Through(access, s.name, true); url != "" {
			fmt.Fprintf(&b, "  psql '%s'   # %s, through any node\n", url, s.why)
		}
	}
	if b.Len() == 0 { // no gateway: libpq itself looks for the primary
		fmt.Fprintf(&b, "  psql '%s'\n", access.URL(true))
	}
	return b.String()
}

func (a *app) down() *cobra.Command {
	var purge bool
	cmd := &cobra.Command{
		Use: "down", Short: "Stop the cluster on this machine",
		Long: `Down stops every node in order: replicas first, then the primary, the store
last. The data stays, and "howdah up" starts it again; --purge deletes it.`,
		Example: `  howdah down
  howdah down --purge --yes`,
		SuggestFor: []string{"stop", "destroy", "delete", "halt"},
		Args:       nothing(": it stops all that was started in --dir"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			h, err := a.house()
			if err != nil {
				return err
			}
			what, found, err := h.PlanDown(purge)
			switch {
			case err != nil:
				return err
			case !found && a.json:
				a.printJSON(a.Out, map[string]any{"stopped": false, "dir": h.Dir})
				return nil
			case !found:
				a.printf("nothing to stop: there is no playground in %s\n", h.Dir)
				return nil
			}
			if ok, err := a.sure(what, risk(purge)); !ok {
				return err
			}
			still := h.Stopped()
			err = h.Down(cmd.Context(), purge, func(step string) {
				if !a.json && !still {
					a.printf("%s\n", step)
				}
			})
			switch {
			case err != nil:
				return err
			case a.json:
				a.printJSON(a.Out, map[string]any{"stopped": !still, "purged": purge, "dir": h.Dir})
			case still && purge:
				a.printf("nothing was running; the data is deleted\n")
			case still:
				a.printf("nothing was running; the data stays in %s\n", h.Dir)
			case purge:
				a.printf("stopped, and the data is deleted\n")
			default:
				a.printf("stopped; the data stays in %s\n", h.Dir)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&purge, "purge", false, "delete the data too")
	a.changeFlags(cmd)
	return cmd
}

// sentence begins what with a capital letter.
func sentence(what string) string {
	return fmt.Sprintf("%c%s", what[0]-'a'+'A', what[1:])
}
