package cli

import (
	"time"

	"github.com/spf13/cobra"

	"howdah/control"
	"howdah/spec"
)

func (a *app) upgrade() *cobra.Command {
	var o control.Installation
	cmd := &cobra.Command{
		Use: "upgrade INVENTORY", Short: "Have all machines run this program, one after the other",
		Long: `Upgrade brings this program to one machine of the inventory after the other, over
SSH as "howdah install" logs in, and has each restart howdah with it: those first
that lead nothing, the machine of a leader last. PostgreSQL runs on, its leader leads
on under the same epoch, and sessions through a gateway go over to the next one.

Each machine is begun only while all others are well, and left only when it runs this
program in every role, with the servers, the leader and the epoch of before, and
everything is well. At the first trouble it stops, says what to do, and touches no
machine after that one. Given again it goes on; given with the program of the version
before, it goes back in the same way.`,
		Example: `  howdah upgrade pigsty.yml --dry-run
  howdah upgrade pigsty.yml
  howdah upgrade pigsty.yml --host 10.10.10.12 --yes`,
		SuggestFor: []string{"update"},
		Args: func(_ *cobra.Command, args []string) error {
			switch {
			case len(args) != 1:
				return usage("upgrade needs one inventory: the path of a YAML file")
			case o.Wait <= 0:
				return usage("--wait %s is no time to wait", o.Wait)
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			h, err := a.house()
			if err != nil {
				return err
			}
			inv, err := control.ReadInventory(args[0])
			if err != nil {
				return err
			}
			a.findings(inv.World, spec.Warning)
			way := a.climbing(a.Out, time.Now())
			o.Login, o.Progress = a.login(o.Login), way.step
			i, err := h.Installer(cmd.Context(), inv, o)
			if err != nil {
				return err
			}
			defer i.Close()
			plans, err := i.UpgradePlan(cmd.Context())
			way.end()
			if err != nil {
				return err
			}
			n := a.showUpgrade(plans)
			switch {
			case a.dry && a.json:
				a.printJSON(a.Out, map[string]any{"dry_run": true, "hosts": plans})
				return nil
			case a.dry:
				return nil
			case n > 0:
				if ok, err := a.sure("upgrade "+count(n, "machine")+", one after the other", harmless); !ok {
					return err
				}
			}
			done, err := i.Upgrade(cmd.Context())
			way.end()
			if a.json {
				a.printJSON(a.Out, map[string]any{"hosts": done, "complete": err == nil})
			}
			if err != nil || a.json {
				return err
			}
			if n == 0 {
				a.printf("Every machine runs this program: nothing was changed.\n")
				return nil
			}
			a.printf("%s upgraded in %.1f s.\n", count(n, "machine"), time.Since(way.began).Seconds())
			return nil
		},
	}
	a.changeFlags(cmd)
	a.loginFlags(cmd, &o.Login, &o.Hosts)
	cmd.Flags().DurationVar(&o.Wait, "wait", 5*time.Minute, "how long one machine may take until everything is well")
	return cmd
}

// showUpgrade prints what would be done, and returns on how many machines.
func (a *app) showUpgrade(plans []control.UpgradePlan) (n int) {
	for _, p := range plans {
		if len(p.Steps) > 0 {
			n++
		}
		if a.json {
			continue
		}
		leads := ""
		if len(p.Leads) > 0 {
			leads = ", leads " + list(p.Leads)
		}
		if len(p.Steps) == 0 {
			a.printf("%s (%s%s): nothing to do\n", p.Host, p.Member, leads)
			continue
		}
		a.printf("%s (%s%s): %s\n", p.Host, p.Member, leads, list(p.Steps))
	}
	return n
}
