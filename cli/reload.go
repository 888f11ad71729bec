package cli

import (
	"fmt"

	"github.com/spf13/cobra"
)

func (a *app) reload() *cobra.Command {
	cmd := &cobra.Command{
		Use: "reload [CLUSTER] [MEMBER…]", Short: "Have members read their configuration anew",
		Long: `Reload has the members named, or all, read their description and their
parameters anew. What PostgreSQL takes only at a start is then said to wait for
a restart.`,
		Example: `  howdah reload
  howdah reload demo demo-2`,
		Args: takes(many), ValidArgsFunction: a.completeMembers,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, members, err := a.open(args, many)
			if err != nil {
				return err
			}
			defer c.Close()
			names, err := c.PlanRestart(cmd.Context(), members...) // the same members, in the same order
			if err != nil {
				return err
			}
			if ok, err := a.sure("reload "+list(names), harmless); !ok {
				return err
			}
			for _, name := range names {
				if err := c.Reload(cmd.Context(), name); err != nil {
					return err
				}
			}
			if a.json {
				a.printJSON(a.Out, map[string]any{"cluster": c.Name, "reload": names})
			} else {
				a.printf("asked %s to reload\n", list(names))
			}
			return nil
		},
	}
	a.changeFlags(cmd)
	return cmd
}

func (a *app) reinit() *cobra.Command {
	var wait, force bool
	cmd := &cobra.Command{
		Use: "reinit [CLUSTER] MEMBER", Short: "Rebuild a replica from the leader",
		Long: `Reinit ends PostgreSQL of a replica, moves its data directory into kept/ beside
it, and takes a fresh copy from the leader. What it keeps there needs room until
somebody deletes it.`,
		Example: `  howdah reinit demo-2
  howdah reinit demo demo-2 --wait --yes`,
		Args: takes(1), ValidArgsFunction: a.completeMembers,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, members, err := a.open(args, 1)
			if err != nil {
				return err
			}
			defer c.Close()
			if len(members) != 1 {
				return usage("reinit needs the name of one MEMBER")
			}
			name := members[0]
			if err := c.PlanReinit(cmd.Context(), name); err != nil {
				return err
			}
			if ok, err := a.sure(fmt.Sprintf("move the data of %s aside and take a fresh copy from the leader", name), destructive); !ok {
				return err
			}
			if err := c.Reinit(cmd.Context(), name, force); err != nil {
				return err
			}
			if wait {
				if err := c.AwaitReinit(cmd.Context(), name); err != nil {
					return err
				}
			}
			switch {
			case a.json:
				a.printJSON(a.Out, map[string]any{"cluster": c.Name, "member": name, "done": wait})
			case wait:
				a.printf("%s is a fresh copy\n", name)
			default:
				a.printf("%s begins anew; `howdah status --watch` shows how far it is\n", name)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&wait, "wait", false, "until it streams")
	cmd.Flags().BoolVar(&force, "force", false, "also instead of a copy or a start that is under way")
	a.changeFlags(cmd)
	return cmd
}
