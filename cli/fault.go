package cli

import (
	"time"

	"github.com/spf13/cobra"

	"howdah/control"
)

func (a *app) fault() *cobra.Command {
	cmd := &cobra.Command{
		Use: "fault", Short: "Break something of the cluster on this machine",
		Long: `Fault breaks a node of the playground, as the world does it to real ones.
MEMBER may be the word primary, which is also what is meant without one.`,
		Example: `  howdah fault kill-postgres
  howdah fault kill-node demo-2
  howdah fault start-node`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownWord(cmd, "fault", args[0])
			}
			return usage("fault needs to know which one")
		},
		RunE: func(*cobra.Command, []string) error { return nil },
	}
	for _, f := range control.Faults {
		cmd.AddCommand(a.oneFault(f.Name, f.Does))
	}
	return cmd
}

func (a *app) oneFault(name, does string) *cobra.Command {
	cmd := &cobra.Command{
		Use: name + " [CLUSTER] [MEMBER…]", Short: sentence(does),
		Example: "  howdah fault " + name + "\n  howdah fault " + name + " demo-2",
		Args:    takes(many), ValidArgsFunction: a.completeMembers,
		RunE: func(cmd *cobra.Command, args []string) error {
			h, err := a.house()
			if err != nil {
				return err
			}
			clusterName, members := split(h, args, many)
			f, err := h.PlanFault(cmd.Context(), clusterName, name, members...)
			if err != nil {
				return err
			}
			if ok, err := a.sure(f.String(), harmless); !ok {
				return err
			}
			at := time.Now()
			if err := f.Do(cmd.Context()); err != nil {
				return err
			}
			if a.json {
				a.printJSON(a.Out, map[string]any{"fault": name, "members": f.Members, "primary": f.Primary, "at": at})
				return nil
			}
			a.printf("%s: done at %s; see `howdah status` and `howdah why`\n", f, at.Format("15:04:05.000"))
			return nil
		},
	}
	a.changeFlags(cmd)
	return cmd
}
