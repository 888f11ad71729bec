package cli

import (
	"time"

	"github.com/spf13/cobra"

	"howdah/cluster"
	"howdah/control"
)

func (a *app) degrade() *cobra.Command {
	var until string
	cmd := &cobra.Command{
		Use: "degrade [CLUSTER]", Short: "Accept for a while that commits wait for nobody while no standby is left",
		Long: `Degrade lets a cluster in strict synchronous mode go on when every standby is gone.
Standbys that stream are waited for as ever. Once none counts, nobody but the leader
may lead, and its commits wait no more: what it acknowledges until a standby has it
is lost with its host.

It is on record who accepted that, and "howdah status" says so (with an alert) until
the time is over and "howdah undegrade" takes it back.`,
		Example: "  howdah degrade --until 2h\n  howdah degrade demo --until 2026-12-01T06:00+01:00 --yes",
		Args:    takes(0), ValidArgsFunction: a.completeCluster,
		RunE: a.on(func(cmd *cobra.Command, c *control.Cluster) error {
			at, err := parseUntil(until, time.Now())
			if err != nil {
				return err
			}
			long := "until somebody takes it back"
			if !at.IsZero() {
				long = "until " + at.Local().Format(time.RFC3339)
			}
			if ok, err := a.sure("let commits of cluster "+c.Name+" wait for nobody while no standby is left, "+long, destructive); !ok {
				return err
			}
			d, err := c.Degrade(cmd.Context(), at)
			if err != nil {
				return err
			}
			if a.json {
				a.printJSON(a.Out, struct {
					Cluster string `json:"cluster"`
					cluster.Degraded
				}{c.Name, d})
				return nil
			}
			a.printf("cluster %s is degraded %s, by %s\n", c.Name, long, d.By)
			return nil
		}),
	}
	cmd.Flags().StringVar(&until, "until", "", "for how long (2h), or a time like 2026-12-01T06:00+01:00")
	a.changeFlags(cmd)
	return cmd
}

func (a *app) undegrade() *cobra.Command {
	cmd := &cobra.Command{
		Use: "undegrade [CLUSTER]", Short: "Let commits wait for standbys again, come what may",
		Long:    `Undegrade takes back what "howdah degrade" accepted.`,
		Example: "  howdah undegrade",
		Args:    takes(0), ValidArgsFunction: a.completeCluster,
		RunE: a.on(func(cmd *cobra.Command, c *control.Cluster) error {
			if ok, err := a.sure("let commits of cluster "+c.Name+" wait for standbys again, also while none is left", harmless); !ok {
				return err
			}
			changed, err := c.Undegrade(cmd.Context())
			switch {
			case err != nil:
				return err
			case a.json:
				a.printJSON(a.Out, map[string]any{"cluster": c.Name, "changed": changed})
			case changed:
				a.printf("commits of cluster %s wait for standbys again\n", c.Name)
			default:
				a.printf("cluster %s is not degraded\n", c.Name)
			}
			return nil
		}),
	}
	a.changeFlags(cmd)
	return cmd
}

// parseUntil reads a time to come, or how long it is till then.
func parseUntil(text string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(text); err == nil && d > 0 {
		return now.Add(d).Truncate(time.Second), nil
	}
	at, err := parseAt(text)
	if err != nil {
		return at, usage("--until %q is neither how long (2h) nor a time like 2026-12-01T06:00+01:00", text)
	}
	return at, nil
}
