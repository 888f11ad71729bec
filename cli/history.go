package cli

import (
	"github.com/spf13/cobra"

	"howdah/cluster"
	"howdah/control"
)

func (a *app) history() *cobra.Command {
	cmd := &cobra.Command{
		Use: "history [CLUSTER]", Short: "Every change of timeline",
		Long: `History prints what "patronictl history" prints, but LSNs as PostgreSQL writes them;
with --json what that prints with -f json.`,
		Example: `  howdah history`,
		Args:    takes(0), ValidArgsFunction: a.completeCluster,
		RunE: a.on(func(cmd *cobra.Command, c *control.Cluster) error {
			h, err := c.History(cmd.Context())
			if err != nil {
				return err
			}
			if a.json {
				a.printf("%s\n", historyJSON(h))
			} else {
				a.printf("%s", historyTable(h))
			}
			return nil
		}),
	}
	a.jsonFlag(cmd)
	return cmd
}

func historyTable(h cluster.History) string {
	t := table{
		columns: []string{"TL", "LSN", "Reason", "Timestamp", "New Leader"},
		right:   map[string]bool{"TL": true, "LSN": true},
	}
	for _, r := range h {
		t.rows = append(t.rows, []string{r.Timeline.String(), r.LSN.String(), r.Reason, r.At, r.Leader})
	}
	return t.String()
}

func historyJSON(h cluster.History) string {
	var rows []object
	for _, r := range h {
		rows = append(rows, object{
			{"TL", uint32(r.Timeline)}, {"LSN", uint64(r.LSN)}, {"Reason", r.Reason}, {"Timestamp", r.At}, {"New Leader", r.Leader},
		})
	}
	return pythonJSON(rows)
}
