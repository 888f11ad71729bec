package cli

import (
	"time"

	"github.com/spf13/cobra"

	"howdah/control"
	"howdah/machine/doctor"
	"howdah/spec"
)

func (a *app) doctor() *cobra.Command {
	var o control.Examination
	var look bool
	cmd := &cobra.Command{
		Use: "doctor [INVENTORY]", Short: "What is wrong with the machines, and how to mend it",
		Long: `Doctor looks at what PostgreSQL and a cluster need of a machine: its clock, names,
ports, limits, huge pages, settings of the kernel, how long a flush of the disk
takes, room, the versions of PostgreSQL, rights on files, how long certificates are
good. It says what was seen, how well that is (ok, warn, fail), and what to do.

Without an inventory it looks at this machine, and at the nodes that are set up
here. With one it logs in to the machines of the inventory, as "howdah install"
does, and also compares their clocks. It changes nothing.

It ends with 3 if anything fails.`,
		Example: `  howdah doctor
  howdah doctor pigsty.yml
  howdah doctor pigsty.yml --host 10.10.10.11 --json | jq '.findings[] | select(.grade == "fail")'`,
		SuggestFor: []string{"diagnose", "preflight"},
		Args: func(_ *cobra.Command, args []string) error {
			switch {
			case len(args) > 1:
				return usage("doctor takes one inventory, not %d: %q", len(args), args)
			case len(args) == 0 && len(o.Hosts) > 0:
				return usage("--host is for a host of an inventory, and none is given")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if look {
				return control.Look(cmd.Context(), a.In, a.Out)
			}
			h, err := a.house()
			if err != nil {
				return err
			}
			var all []doctor.Finding
			if len(args) == 0 {
				all, err = h.Doctor(cmd.Context())
			} else {
				inv, wrong := control.ReadInventory(args[0])
				if wrong != nil {
					return wrong
				}
				a.findings(inv.World, spec.Warning)
				way := a.climbing(a.Err, time.Now())
				o.Login, o.Progress = a.login(o.Login), way.step
				all, err = h.DoctorAll(cmd.Context(), inv, o)
				way.end()
			}
			if err != nil {
				return err
			}
			worst := doctor.Worst(all)
			if a.json {
				a.printJSON(a.Out, map[string]any{"grade": worst, "findings": all})
			} else {
				a.showFindings(all)
			}
			if worst == doctor.Fail {
				return errUnhealthy
			}
			return nil
		},
	}
	a.jsonFlag(cmd)
	a.loginFlags(cmd, &o.Login, &o.Hosts)
	cmd.Flags().BoolVar(&look, "look", false, "read what to look at from stdin and write what is seen")
	_ = cmd.Flags().MarkHidden("look") // the flag was just made
	return cmd
}

// showFindings prints findings under their machines, and how many are how.
func (a *app) showFindings(all []doctor.Finding) {
	count := map[doctor.Grade]int{}
	host := ""
	for i, f := range all {
		if f.Host != host || i == 0 && f.Host != "" {
			host = f.Host
			if host == "" {
				a.printf("all of them\n")
			} else {
				a.printf("%s\n", host)
			}
		}
		count[f.Grade]++
		a.printf("  %-7s  %-12s  %s\n", f.Grade, f.Check, shown(f.Evidence))
		if f.Do != "" {
			a.printf("  %-7s  %-12s  do: %s\n", "", "", shown(f.Do))
		}
	}
	a.printf("%d ok, %d warn, %d fail, %d unknown\n", count[doctor.OK], count[doctor.Warn], count[doctor.Fail], count[doctor.Unknown])
}
