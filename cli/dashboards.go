package cli

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"howdah/observe/dashboard"
	"howdah/problem"
)

func (a *app) dashboards() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use: "dashboards [NAME]", Short: "Dashboards for a Grafana that you have, as JSON",
		Long: `Dashboards prints a dashboard as Grafana imports it; with --out all of them, each
into a file of that directory, as Grafana's provisioning reads them. Without a name
it lists them, with --json as JSON. They ask a data source of Prometheus's kind: the store of
"howdah up --observe", or any that gathers from our exporters.`,
		Example: `  howdah dashboards
  howdah dashboards howdah-cluster > cluster.json
  howdah dashboards --out /var/lib/grafana/dashboards`,
		SuggestFor: []string{"grafana", "dashboard"},
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 || len(args) == 1 && out != "" {
				return usage("dashboards takes one name, or --out DIR for all")
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			all := dashboard.All()
			switch {
			case out != "":
				for _, d := range all {
					if err := os.WriteFile(filepath.Join(out, d.UID+".json"), d.JSON(), 0o644); err != nil {
						return &problem.Error{
							Code: "dashboards-write", What: "cannot write dashboards into " + out,
							Do: "give a directory that is there and that you may write into", Err: err,
						}
					}
				}
				if a.json {
					a.printJSON(a.Out, map[string]any{"directory": out, "dashboards": len(all)})
					return nil
				}
				a.printf("wrote %d dashboards into %s\n", len(all), out)
				return nil
			case len(args) == 0:
				if a.json {
					type entry struct {
						Name  string `json:"name"`
						Title string `json:"title"`
						About string `json:"about"`
					}
					var list []entry
					for _, d := range all {
						list = append(list, entry{d.UID, d.Title, d.About})
					}
					a.printJSON(a.Out, list)
					return nil
				}
				t := table{columns: []string{"Name", "Title", "About"}}
				for _, d := range all {
					t.rows = append(t.rows, []string{d.UID, d.Title, d.About})
				}
				a.printf("%s", t.String())
				return nil
			}
			var names []string
			for _, d := range all {
				if d.UID == args[0] || d.UID == "howdah-"+args[0] {
					a.printf("%s", d.JSON())
					return nil
				}
				names = append(names, d.UID)
			}
			return usage("there is no dashboard %s; there are %s", args[0], strings.Join(names, ", "))
		},
	}
	a.jsonFlag(cmd)
	cmd.Flags().StringVar(&out, "out", "", "directory to write all of them into")
	_ = cmd.MarkFlagDirname("out")
	return cmd
}
