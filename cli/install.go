package cli

import (
	"strings"
	"time"

	"github.com/spf13/cobra"

	"howdah/control"
	"howdah/machine/install"
	"howdah/spec"
)

// loginFlags are those of a verb that logs in to machines.
func (a *app) loginFlags(cmd *cobra.Command, l *control.Login, hosts *[]string) {
	cmd.Flags().StringSliceVar(hosts, "host", nil, "only this host of the inventory; may be given again")
	cmd.Flags().StringVarP(&l.Identity, "identity", "i", "", "file of the private key to log in with (default: those of the agent and of ~/.ssh)")
	cmd.Flags().BoolVar(&l.AcceptNew, "accept-new", false, "trust machines that nobody knows yet, and write their keys to ~/.ssh/known_hosts")
	_ = cmd.MarkFlagFilename("identity") // the flag was just made
}

// login is who asks.
func (a *app) login(l control.Login) control.Login {
	l.Home, l.Agent, l.User = a.Env("HOME"), a.Env("SSH_AUTH_SOCK"), a.Env("USER")
	if l.User == "" && a.Root {
		l.User = "root"
	}
	return l
}

func (a *app) install() *cobra.Command {
	var o control.Installation
	cmd := &cobra.Command{
		Use: "install INVENTORY", Short: "Set up the machines of an inventory, over SSH",
		Long: `Install logs in to every machine of the inventory and gives it what it lacks to
run its share: PostgreSQL from the repositories configured there, this program, the
inventory, the authority and the passwords (made in the state directory, as "howdah
keys" does), and a systemd unit. When every machine has everything it starts them
all, waits until the clusters are healthy, and makes their roles and databases.

It logs in with the keys of the agent and of ~/.ssh, as ansible_user at
ansible_host and ansible_port where the inventory has them. Whoever is not root
there needs sudo without a password. A machine whose key nobody knows is refused,
unless --accept-new is given.

It shows what it would change and asks once. Given again it does what is left: of
machines that have everything it changes nothing. What runs is never restarted.`,
		Example: `  howdah install pigsty.yml --dry-run
  howdah install pigsty.yml
  howdah install pigsty.yml --host 10.10.10.13 --yes`,
		SuggestFor: []string{"deploy", "setup", "bootstrap"},
		Args: func(_ *cobra.Command, args []string) error {
			switch {
			case len(args) != 1:
				return usage("install needs one inventory: the path of a YAML file")
			case o.Init != "" && o.Init != install.Systemd && o.Init != install.None:
				return usage("--init %s: say %s or %s", o.Init, install.Systemd, install.None)
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
			way.end()
			a.showInstall(i.Plans())
			if a.dry {
				if a.json {
					a.printJSON(a.Out, map[string]any{"dry_run": true, "hosts": i.Plans()})
				}
				return i.Lacking()
			}
			if err := i.Lacking(); err != nil {
				return err
			}
			if n := i.Count(); n > 0 {
				what := "take " + count(n, "step") + " on " + hostsOf(i.Plans())
				if ok, err := a.sure(what, harmless); !ok {
					return err
				}
			}
			done, err := i.Run(cmd.Context())
			way.end()
			if err != nil {
				return err
			}
			a.installed(i, done, time.Since(way.began))
			return nil
		},
	}
	a.changeFlags(cmd)
	a.loginFlags(cmd, &o.Login, &o.Hosts)
	cmd.Flags().StringVar(&o.Init, "init", "", "what starts the supervisor: systemd, or none, which starts it this once (default systemd)")
	cmd.Flags().DurationVar(&o.Wait, "wait", 10*time.Minute, "how long a cluster may take to be healthy")
	_ = cmd.RegisterFlagCompletionFunc("init", cobra.FixedCompletions([]string{install.Systemd, install.None}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func hostsOf(plans []control.HostPlan) string {
	var names []string
	for _, p := range plans {
		if len(p.Steps) > 0 {
			names = append(names, p.Host)
		}
	}
	return list(names)
}

// showInstall prints what would be done on each host.
func (a *app) showInstall(plans []control.HostPlan) {
	if a.json {
		return
	}
	for _, p := range plans {
		if p.Key != "" {
			a.warnf("%s: its key %s is now known\n", p.Host, p.Key)
		}
		switch {
		case len(p.Lacks) > 0:
			a.printf("%s (%s): can not be installed\n", p.Host, p.Member)
		case len(p.Steps) == 0:
			a.printf("%s (%s): nothing to do\n", p.Host, p.Member)
		default:
			a.printf("%s (%s): %s\n", p.Host, p.Member, count(len(p.Steps), "step"))
		}
		for _, s := range p.Steps {
			a.printf("    %s (%s)\n", shown(s.What), shown(s.Why))
		}
	}
}

// installed says how it went, and what is left to a person.
func (a *app) installed(i *control.Installer, done control.Installed, took time.Duration) {
	n := i.Count()
	if a.json {
		a.printJSON(a.Out, struct {
			control.Installed
			Steps   int     `json:"steps"`
			Seconds float64 `json:"seconds"`
		}{done, n, took.Seconds()})
		return
	}
	for _, c := range done.Clusters {
		switch made := len(c.Made); {
		case made > 4:
			a.printf("%s: %s, and %d more\n", c.Cluster, strings.Join(c.Made[:3], ", "), made-3)
		case made > 0:
			a.printf("%s: %s\n", c.Cluster, strings.Join(c.Made, ", "))
		}
		a.printf("cluster %s is healthy; %s leads\n", c.Cluster, c.Leader)
	}
	for _, p := range done.Hosts {
		for _, note := range p.Notes {
			a.warnf("%s: %s\n", p.Host, note)
		}
	}
	if n == 0 {
		a.printf("Every machine has everything: nothing was changed.\n")
		return
	}
	a.printf("%s taken in %.1f s. On any of the machines, as root: howdah list\n", count(n, "step"), took.Seconds())
}
