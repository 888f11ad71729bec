package cli

import (
	"strings"

	"github.com/spf13/cobra"

	"howdah/control"
	"howdah/spec"
)

func (a *app) node() *cobra.Command {
	var dir, host string
	cmd := &cobra.Command{
		Use: "node [INVENTORY]", Short: "Supervise the roles of one node, and guard its lease",
		Long: `Node starts the roles of a node, starts them again when they die, and freezes
PostgreSQL when its right to write ends. It is what systemd runs.

On a machine of its own it is given the inventory and the machine's address in
it: it then makes the node's directory, certificate and settings in the state
directory, or brings them to what the inventory says now. What "howdah keys"
made must be there. With --node it runs a node that was made before.`,
		Example: `  howdah node /etc/howdah/pigsty.yml --host 10.10.10.11
  howdah node --node /var/lib/howdah/demo/demo-1`,
		Args: func(_ *cobra.Command, args []string) error {
			switch {
			case len(args) > 1:
				return usage("node takes one inventory, not %d: %q", len(args), args)
			case len(args) == 1 && dir != "":
				return usage("node takes an inventory and --host, or --node DIR, not both")
			case len(args) == 1 && host == "":
				return usage("node needs --host ADDRESS: which host of the inventory this machine is")
			case len(args) == 0 && host != "":
				return usage("--host is for a host of an inventory, and none is given")
			case len(args) == 0 && dir == "":
				return usage("node needs an inventory and --host ADDRESS, or --node DIR, the directory with node.json")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if dir != "" {
				return a.Roles.Node(cmd.Context(), dir)
			}
			h, err := a.house()
			if err != nil {
				return err
			}
			inv, err := control.ReadInventory(args[0])
			if err != nil {
				return err
			}
			a.findings(inv.World, spec.Warning)
			return a.Roles.Machine(cmd.Context(), h.Dir, host, inv.World)
		},
	}
	cmd.Flags().StringVar(&dir, "node", "", "directory of the node")
	cmd.Flags().StringVar(&host, "host", "", "address of this machine in the inventory")
	_ = cmd.MarkFlagDirname("node") // the flag was just made
	return cmd
}

func (a *app) keys() *cobra.Command {
	cmd := &cobra.Command{
		Use: "keys INVENTORY", Short: "Make what all machines of an inventory must have alike",
		Long: `Keys makes the certificate authority by which the machines of an inventory know
each other, and the passwords that the inventory leaves open. It is run once, on
one machine; a person copies the files that it names to the same place on the
others, before "howdah node" runs there. What is there already is kept.`,
		Example: `  howdah keys /etc/howdah/pigsty.yml`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usage("keys needs one inventory: the path of a YAML file")
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			h, err := a.house()
			if err != nil {
				return err
			}
			inv, err := control.ReadInventory(args[0])
			if err != nil {
				return err
			}
			paths, err := h.Keys(inv)
			switch {
			case err != nil:
				return err
			case a.json:
				a.printJSON(a.Out, map[string]any{"dir": h.Dir, "copy": paths})
			default:
				a.printf("Copy these to the same place on every other machine, readable by root alone:\n  %s\n", strings.Join(paths, "\n  "))
			}
			return nil
		},
	}
	a.jsonFlag(cmd)
	return cmd
}

func (a *app) provision() *cobra.Command {
	cmd := &cobra.Command{
		Use: "provision [CLUSTER]", Short: "Make the roles and databases that a cluster is to have",
		Long: `Provision makes the users, databases and extensions that the inventory gave the
cluster, and brings those that are there to what it says. It is run on the
machine of the leader, as root or as PostgreSQL's user, and may be given again
at any time. "howdah up" does the same by itself. With --dry-run it prints each step
with its SQL, and changes nothing.`,
		Example: `  howdah provision pg-test
  howdah provision pg-test --dry-run`,
		Args: takes(0),
		RunE: a.on(func(cmd *cobra.Command, c *control.Cluster) error {
			if a.dry {
				p, err := c.PlanProvision(cmd.Context())
				if err != nil {
					return err
				}
				r := control.Review{Clusters: []control.Reviewed{{Cluster: c.Name, Plan: p}}}
				if a.json {
					a.printJSON(a.Out, r.Clusters[0])
					return nil
				}
				planText(a.Out, r)
				return nil
			}
			if ok, err := a.sure("make the roles and databases that cluster "+c.Name+" is to have", harmless); !ok {
				return err
			}
			report, err := c.Provision(cmd.Context(), control.Provisioning{What: "provision"})
			switch {
			case a.json && err == nil:
				a.printJSON(a.Out, map[string]any{"cluster": c.Name, "done": report.Done, "missing": report.Missing})
				return nil
			case a.json:
				return err
			}
			for _, done := range report.Done {
				a.printf("%s\n", done)
			}
			for _, missing := range report.Missing {
				a.warnf("not made: %s, which this machine's PostgreSQL has not\n", missing)
			}
			if err == nil && len(report.Done) == 0 {
				a.printf("cluster %s has all that it is to have\n", c.Name)
			}
			return err
		}),
	}
	a.changeFlags(cmd)
	return cmd
}
