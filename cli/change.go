package cli

import (
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"howdah/cluster"
	"howdah/control"
	"howdah/ha"
)

func (a *app) switchover() *cobra.Command {
	var to, at string
	var cancel bool
	cmd := &cobra.Command{
		Use: "switchover [CLUSTER]", Short: "Hand leadership to another member",
		Long: `Switchover shuts the primary down in order, hands everything that it wrote to
the candidate, and lets that one lead: nothing is lost. Without --to the most
advanced replica is chosen; --dry-run says which that is now, and what keeps the
others.`,
		Example: `  howdah switchover
  howdah switchover demo --to demo-2
  howdah switchover --to demo-2 --at 2026-12-01T03:00+01:00
  howdah switchover --dry-run
  howdah switchover --cancel`,
		SuggestFor: []string{"promote", "demote"},
		Args:       takes(0), ValidArgsFunction: a.completeCluster,
		RunE: func(cmd *cobra.Command, args []string) error {
			when, err := parseAt(at)
			if err == nil && cancel && (to != "" || at != "") {
				err = usage("--cancel takes back what is scheduled, and goes with neither --to nor --at")
			}
			if err != nil {
				return err
			}
			c, _, err := a.open(args, 0)
			if err != nil {
				return err
			}
			defer c.Close()
			if cancel {
				return a.cancel(cmd, c)
			}
			change, err := c.PlanSwitchover(cmd.Context(), to, when)
			if err != nil {
				return err
			}
			if a.dry {
				first, all := change.Candidates()
				a.wouldLead(change.String(), to != "", first, all)
				return nil
			}
			return a.change(cmd, change, harmless)
		},
	}
	cmd.Flags().StringVar(&to, "to", "", "member that is to lead")
	cmd.Flags().StringVar(&at, "at", "", "when, as an ISO 8601 time; without a zone it is local")
	cmd.Flags().BoolVar(&cancel, "cancel", false, "take back what is scheduled with --at")
	_ = cmd.RegisterFlagCompletionFunc("to", a.completeTo)
	a.changeFlags(cmd)
	return cmd
}

func (a *app) failover() *cobra.Command {
	var to string
	cmd := &cobra.Command{
		Use: "failover [CLUSTER] --to MEMBER", Short: "Make a member the leader, also without one",
		Long: `Failover names the next leader. It is for a cluster that can not choose by
itself; commits that the member does not have are lost. Where there is a leader,
"howdah switchover" loses nothing.`,
		Example: `  howdah failover --to demo-2
  howdah failover demo --to demo-2 --yes`,
		Args: takes(0), ValidArgsFunction: a.completeCluster,
		RunE: func(cmd *cobra.Command, args []string) error {
			if to == "" {
				return usage("failover needs --to MEMBER")
			}
			c, _, err := a.open(args, 0)
			if err != nil {
				return err
			}
			defer c.Close()
			change, err := c.PlanFailover(cmd.Context(), to)
			if err != nil {
				return err
			}
			return a.change(cmd, change, destructive)
		},
	}
	cmd.Flags().StringVar(&to, "to", "", "member that is to lead")
	_ = cmd.RegisterFlagCompletionFunc("to", a.completeTo)
	a.changeFlags(cmd)
	return cmd
}

// wouldLead is the answer to switchover --dry-run: to whom, and why not to another.
func (a *app) wouldLead(what string, named bool, first string, all []ha.Candidate) {
	if a.json {
		a.printJSON(a.Out, map[string]any{"dry_run": true, "would": what, "would_lead": first, "candidates": all})
		return
	}
	a.printf("would %s\n", what)
	switch {
	case first == "":
		a.printf("nobody can take over as things are\n")
	case named:
		a.printf("%s would lead\n", first)
	default:
		a.printf("%s would lead, as things are: of those who may, nobody has told of more log\n", first)
	}
	w := tabwriter.NewWriter(a.Out, 0, 8, 2, ' ', 0)
	for _, c := range all {
		has, verdict := "-", "may lead"
		if c.At != 0 {
			has = "all of the log"
			if c.Behind > 0 {
				has = bytes(c.Behind) + " behind"
			}
		}
		switch {
		case c.No != "":
			verdict = "no: " + c.No
		case c.Member == first:
			verdict = "would lead"
		}
		fmt.Fprintf(w, "  %s\t%s\t%s\n", c.Member, has, verdict)
	}
	_ = w.Flush()
	a.printf("what each has is what was told last, up to a few seconds ago; the leader decides by what it sees then\n")
}

func (a *app) change(cmd *cobra.Command, change *control.Change, r risk) error {
	if ok, err := a.sure(change.String(), r); !ok {
		return err
	}
	done, err := change.Do(cmd.Context())
	switch {
	case err != nil:
		return err
	case a.json:
		a.printJSON(a.Out, done)
	case !done.At.IsZero():
		a.printf("scheduled for %s\n", done.At.Local().Format(time.RFC3339))
	default:
		a.printf("%s leads on timeline %s after %s", done.To, done.Timeline, milliseconds(done.Took))
		if change.To != "" && done.To != change.To {
			a.printf(", instead of %s", change.To)
		}
		a.printf("\n")
	}
	return nil
}

// cancel takes back what was scheduled.
func (a *app) cancel(cmd *cobra.Command, c *control.Cluster) error {
	f, err := c.Scheduled(cmd.Context())
	if err != nil {
		return err
	}
	at := f.ScheduledAt.Local().Format(time.RFC3339)
	if ok, err := a.sure(fmt.Sprintf("cancel the switchover of %s scheduled for %s", c.Name, at), harmless); !ok {
		return err
	}
	switch err := c.Cancel(cmd.Context(), f); {
	case err != nil:
		return err
	case a.json:
		a.printJSON(a.Out, map[string]any{"cluster": c.Name, "canceled": f.ScheduledAt})
	default:
		a.printf("the switchover scheduled for %s is canceled\n", at)
	}
	return nil
}

// parseAt reads a time; without a zone it is local, as patronictl reads it.
func parseAt(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if at, err := cluster.ParseTime(text); err == nil {
		return at, nil
	}
	for _, form := range []string{"2006-01-02T15:04:05", "2006-01-02T15:04", time.DateTime, "2006-01-02 15:04"} {
		if at, err := time.ParseInLocation(form, text, time.Local); err == nil {
			return at, nil
		}
	}
	return time.Time{}, usage("--at %q is not a time like 2026-12-01T03:00+01:00", text)
}

func (a *app) restart() *cobra.Command {
	cmd := &cobra.Command{
		Use: "restart [CLUSTER] [MEMBER…]", Short: "Restart PostgreSQL of members, one after another",
		Long: `Restart restarts PostgreSQL of the members named, or of all: replicas first, the
leader last, each one only when the one before runs again.`,
		Example: `  howdah restart demo-2
  howdah restart demo demo-2 demo-3`,
		Args: takes(many), ValidArgsFunction: a.completeMembers,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, members, err := a.open(args, many)
			if err != nil {
				return err
			}
			defer c.Close()
			names, err := c.PlanRestart(cmd.Context(), members...)
			if err != nil {
				return err
			}
			if ok, err := a.sure(fmt.Sprintf("restart PostgreSQL of %s", list(names)), harmless); !ok {
				return err
			}
			return a.inTurn(names, "", func(name string) (time.Duration, error) {
				return c.Restart(cmd.Context(), name)
			})
		},
	}
	a.changeFlags(cmd)
	cmd.AddCommand(a.restartGateway())
	return cmd
}

func (a *app) restartGateway() *cobra.Command {
	cmd := &cobra.Command{
		Use: "gateway [CLUSTER] [NODE…]", Short: "Restart gateways, one after another, without dropping their clients",
		Long: `Gateway has the gateways of the nodes named, or all of the cluster's, give their
places to successors: with the program and the description of the node as they
are by now. A successor serves before its predecessor takes nobody in any more;
sessions go over as soon as they are between two transactions. Who is not
after a minute, or has a server for good (session mode), has to connect again.`,
		Example: `  howdah restart gateway
  howdah restart gateway demo demo-2`,
		Args: takes(many), ValidArgsFunction: a.completeMembers,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, nodes, err := a.open(args, many)
			if err != nil {
				return err
			}
			defer c.Close()
			names, err := c.PlanGateways(cmd.Context(), nodes...)
			if err != nil {
				return err
			}
			if ok, err := a.sure(fmt.Sprintf("restart the gateways of %s", list(names)), harmless); !ok {
				return err
			}
			return a.inTurn(names, "gateway of ", func(name string) (time.Duration, error) {
				return c.RestartGateway(cmd.Context(), name)
			})
		},
	}
	a.changeFlags(cmd)
	return cmd
}

// inTurn restarts one after another, and prints what each took.
func (a *app) inTurn(names []string, what string, restart func(name string) (time.Duration, error)) error {
	type restarted struct {
		Member string  `json:"member"`
		MS     float64 `json:"ms"`
	}
	done := []restarted{}
	for _, name := range names {
		took, err := restart(name)
		if err != nil {
			return err
		}
		done = append(done, restarted{name, ms(took)})
		if !a.json {
			a.printf("%s%s restarted in %s\n", what, name, milliseconds(took))
		}
	}
	if a.json {
		a.printJSON(a.Out, done)
	}
	return nil
}

func (a *app) pause() *cobra.Command {
	return a.toggle("pause", "Leave the servers to a person: no failover", `Pause switches automatic failover off: nothing is promoted, demoted, started or
stopped by itself until "howdah resume".`, true)
}

func (a *app) resume() *cobra.Command {
	return a.toggle("resume", "Take the servers back: failover is on again", `Resume ends a pause.`, false)
}

func (a *app) toggle(verb, short, long string, on bool) *cobra.Command {
	var wait bool
	cmd := &cobra.Command{
		Use: verb + " [CLUSTER]", Short: short, Long: long,
		Example: fmt.Sprintf("  howdah %s\n  howdah %s demo --wait", verb, verb),
		Args:    takes(0), ValidArgsFunction: a.completeCluster,
		RunE: a.on(func(cmd *cobra.Command, c *control.Cluster) error {
			if ok, err := a.sure(verb+" cluster "+c.Name, harmless); !ok {
				return err
			}
			set := c.Resume
			if on {
				set = c.Pause
			}
			changed, err := set(cmd.Context())
			if err != nil {
				return err
			}
			if wait {
				if err := c.AwaitPause(cmd.Context(), on, 15*time.Second); err != nil {
					return err
				}
			}
			switch {
			case a.json:
				a.printJSON(a.Out, map[string]any{"cluster": c.Name, "paused": on, "changed": changed})
			case !changed && on:
				a.printf("cluster %s is paused already\n", c.Name)
			case !changed:
				a.printf("cluster %s is not paused\n", c.Name)
			default:
				a.printf("cluster %s is %sd\n", c.Name, verb)
			}
			return nil
		}),
	}
	cmd.Flags().BoolVar(&wait, "wait", false, "until every member has seen it")
	a.changeFlags(cmd)
	return cmd
}

func list(names []string) string {
	switch n := len(names); n {
	case 0:
		return "nobody"
	case 1:
		return names[0]
	default:
		text := names[0]
		for _, name := range names[1 : n-1] {
			text += ", " + name
		}
		return text + " and " + names[n-1]
	}
}
