package cli

import (
	"time"

	"github.com/spf13/cobra"

	"howdah/control"
	"howdah/machine/doctor"
	"howdah/problem"
	"howdah/spec"
)

func (a *app) doctor() *cobra.Command {
	var o control.Examination
	var look, fix bool
	cmd := &cobra.Command{
		Use: "doctor [INVENTORY]", Short: "What is wrong with the machines, and how to mend it",
		Long: `Doctor looks at what PostgreSQL and a cluster need of a machine: its clock, names,
ports, limits, huge pages, settings of the kernel, how long a flush of the disk
takes, room, the versions of PostgreSQL, rights on files, how long certificates are
good. It says what was seen, how well that is (ok, warn, fail), and what to do.

Without an inventory it looks at this machine, at the nodes that are set up here,
and at their clusters, as the console shows it. With one it logs in to the machines of the inventory, as "howdah install"
does, and also compares their clocks. Without --fix it changes nothing.

With --fix it then mends what is safe to mend: settings of the kernel (in
/etc/sysctl.d/60-howdah.conf and /etc/tmpfiles.d/60-howdah.conf, and at once), names
in /etc/hosts, the clock's service, files of passwords that others can read. It shows
that and asks once; nothing that runs is restarted. What else there is to do stays
yours.

It ends with 3 if anything fails.`,
		Example: `  howdah doctor
  howdah doctor pigsty.yml
  howdah doctor --fix --dry-run
  howdah doctor pigsty.yml --host 10.10.10.11 --json | jq '.findings[] | select(.grade == "fail")'`,
		SuggestFor: []string{"diagnose", "preflight"},
		Args: func(_ *cobra.Command, args []string) error {
			switch {
			case len(args) > 1:
				return usage("doctor takes one inventory, not %d: %q", len(args), args)
			case !fix && (a.dry || a.yes):
				return usage("--dry-run and --yes go with --fix: doctor changes nothing else")
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
			var inv control.Inventory
			examine := func() (control.Diagnosis, error) {
				if len(args) == 0 {
					return h.Doctor(cmd.Context())
				}
				way := a.climbing(a.Err, time.Now())
				defer way.end()
				o.Progress = way.step
				return h.DoctorAll(cmd.Context(), inv, o)
			}
			mend := func(m doctor.Mend) error { return control.Mend(cmd.Context(), m) }
			if len(args) > 0 {
				if inv, err = control.ReadInventory(args[0]); err != nil {
					return err
				}
				a.findings(inv.World, spec.Warning)
				o.Login = a.login(o.Login)
				mend = func(m doctor.Mend) error { return control.MendThere(cmd.Context(), inv, o.Login, m) }
			}
			d, err := examine()
			if err != nil {
				return err
			}
			mended := []string{}
			if fix {
				if !a.json {
					a.showFindings(d.Findings)
					a.showMends(d.Mends)
				}
				if len(d.Mends) > 0 && !a.dry {
					if !a.Root && len(args) == 0 {
						return &problem.Error{Code: "mend-root", What: "cannot mend this machine", Why: "it takes root", Do: "run `howdah doctor --fix` as root"}
					}
					if ok, err := a.sure("mend "+count(len(d.Mends), "thing"), harmless); !ok {
						return err
					}
					for _, m := range d.Mends {
						if err := mend(m); err != nil {
							return err
						}
						mended = append(mended, m.What)
					}
					if d, err = examine(); err != nil { // as it is now
						return err
					}
					if !a.json {
						a.printf("\nafter that:\n")
					}
				}
			}
			worst := doctor.Worst(d.Findings)
			switch {
			case a.json && fix:
				a.printJSON(a.Out, map[string]any{"grade": worst, "findings": d.Findings, "mends": d.Mends, "mended": mended})
			case a.json:
				a.printJSON(a.Out, map[string]any{"grade": worst, "findings": d.Findings})
			case !fix || len(mended) > 0:
				a.showFindings(d.Findings)
			}
			if worst == doctor.Fail {
				return errUnhealthy
			}
			return nil
		},
	}
	a.changeFlags(cmd)
	cmd.Flags().BoolVar(&fix, "fix", false, "mend what is safe to mend")
	a.loginFlags(cmd, &o.Login, &o.Hosts)
	cmd.Flags().BoolVar(&look, "look", false, "read what to look at from stdin and write what is seen")
	_ = cmd.Flags().MarkHidden("look") // the flag was just made
	return cmd
}

// showMends prints what --fix does.
func (a *app) showMends(all []doctor.Mend) {
	if len(all) == 0 {
		a.printf("nothing of it is mended by --fix\n")
	}
	for _, m := range all {
		a.printf("  mend     %-12s  %s%s\n", m.Check, shown(m.What), on(m.Host))
		for _, l := range m.Lines {
			a.printf("  %-7s  %-12s  %s\n", "", "", shown(l))
		}
	}
}

func on(host string) string {
	if host == "" {
		return ""
	}
	return " on " + host
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
