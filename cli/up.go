package cli

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"howdah/cluster"
	"howdah/control"
)

func (a *app) up() *cobra.Command {
	var ground string
	cmd := &cobra.Command{
		Use: "up", Short: "Start a cluster of three nodes on this machine",
		Long: `Up makes the cluster "demo" of three nodes on this machine, or starts the one
that is there, waits until it is healthy, and says how to connect. It may be
given again at any time: what runs stays untouched.`,
		Example: `  howdah up
  howdah up --dir /tmp/try --ground loopback`,
		SuggestFor: []string{"start", "create", "init", "run"},
		Args:       nothing(" yet: it starts the demo cluster"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			h, err := a.house()
			if err != nil {
				return err
			}
			what, err := h.PlanUp(ground)
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
			up, err := h.Up(cmd.Context(), ground)
			if err != nil {
				return err
			}
			defer up.Cluster.Close()
			if !a.json {
				for _, s := range up.Substituted {
					a.printf("  not as in production: %s\n", s)
				}
			}
			way := &climb{out: a.Out, draw: a.Terminal, began: began, shown: map[string]control.Step{}}
			if a.json {
				way.out = io.Discard
			}
			s, err := up.Cluster.AwaitHealthy(cmd.Context(), way.step)
			way.end()
			if err != nil {
				return err
			}
			access, err := up.Cluster.Access()
			if err != nil {
				return err
			}
			a.raised(up, s, access, time.Since(began))
			return nil
		},
	}
	cmd.Flags().StringVar(&ground, "ground", "", "loopback or isolated (default: isolated for root, else loopback)")
	_ = cmd.RegisterFlagCompletionFunc("ground", cobra.FixedCompletions([]string{"loopback", "isolated"}, cobra.ShellCompDirectiveNoFileComp))
	a.changeFlags(cmd)
	return cmd
}

// raised prints how to go on with a cluster that is up.
func (a *app) raised(up control.Raised, s cluster.State, access control.Access, took time.Duration) {
	c := up.Cluster
	if a.json {
		a.printJSON(a.Out, struct {
			Cluster     string          `json:"cluster"`
			Ground      string          `json:"ground"`
			Substituted []string        `json:"substituted"`
			Seconds     float64         `json:"seconds"`
			URL         string          `json:"url"`
			Passfile    string          `json:"pgpass"`
			Services    string          `json:"service_file"`
			Picture     cluster.Picture `json:"picture"`
		}{c.Name, up.Ground, up.Substituted, took.Seconds(), access.URL(true), access.Passfile, access.Services, cluster.PictureOf(s)})
		return
	}
	name := ""
	if h, err := a.house(); err == nil && len(h.Clusters()) > 1 {
		name = " " + c.Name
	}
	if a.dir != a.defaultDir() {
		name += " --dir " + a.home(a.dir)
	}
	a.printf("\n%s", listTable(c.Name, s))
	text := fmt.Sprintf(`
Healthy after %.1f s. Connect:
  howdah psql%s
  psql '%s'
  PGSERVICEFILE=%s psql service=%s

Try:
  howdah status --watch%s
  howdah fault kill-postgres%s
  howdah fault kill-node%s
  howdah fault start-node%s
  howdah switchover%s
  howdah why%s
  howdah down%s
`, took.Seconds(), name, access.URL(true), access.Services, c.Name, name, name, name, name, name, name, name)
	if strings.Contains(a.Called, "/") { // not through PATH: it may not be there
		text = strings.ReplaceAll(text, "\n  howdah ", "\n  "+a.Called+" ")
	}
	a.printf("%s", text)
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
