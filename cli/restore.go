package cli

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"howdah/control"
	"howdah/spec"
)

func (a *app) restore() *cobra.Command {
	var to, set, as, inventory string
	var peek, confirm, undo bool
	cmd := &cobra.Command{
		Use: "restore [CLUSTER] --to MOMENT [--as NAME | --peek [-- COMMAND]]", Short: "Bring the cluster back to a moment, make a new one of it, or look at it as it was",
		Long: `Restore brings a cluster back to a moment, from a backup and the WAL after it. The
data are made beside the leader's while the cluster goes on; then the leader turns
to them, on a new timeline, and the others follow. What was committed after the
moment is there no more; what the leader had is kept until --confirm removes it, or
--undo goes back to it. Interrupted, the command is given again and goes on.

Restore --as NAME makes a new cluster of it in the playground, with members, keys and
an archive of its own, and leaves the other alone. What it is like --inventory says:
it declares a cluster NAME, on hosts of its own. Of the demo there is another without.

Restore --peek starts a server of its own that shows the cluster at that moment. It
is read-only, listens on a socket alone, and is removed when this command ends. The
cluster does not notice.

MOMENT is a time ('2026-11-21 14:30:00', 14:30, '10 minutes ago'), an LSN
(0/3000060), a transaction's number, the name of a restore point, "latest" or
"immediate", the end of the backup. A word before a colon says which: name:742.

With a COMMAND, the command finds the server by PGHOST and PGPORT, and the server
goes when the command ends.`,
		Example: `  howdah restore --to '10 minutes ago' --peek
  howdah restore demo --to '2026-11-21 14:30:00'
  howdah restore demo --to latest --as demo-2
  howdah restore demo --to 14:30 --peek -- pg_dump -t orders demo`,
		Args: func(cmd *cobra.Command, args []string) error {
			if n := cmd.ArgsLenAtDash(); n > 1 || n < 0 && len(args) > 1 {
				return usage("restore takes one cluster; a command comes after --")
			}
			return nil
		},
		ValidArgsFunction: a.completeCluster,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case confirm && undo || (confirm || undo) && (to != "" || set != "" || peek):
				return usage("--confirm and --undo stand alone")
			case as != "" && (confirm || undo || peek):
				return usage("--as makes a new cluster, and stands without --peek, --confirm and --undo")
			case inventory != "" && as == "":
				return usage("--inventory says what the new cluster is like that --as names")
			case to == "" && !confirm && !undo:
				return usage("restore needs --to MOMENT")
			case !peek && cmd.ArgsLenAtDash() >= 0:
				return usage("a command looks at the moment, which --peek shows")
			}
			var command []string
			if n := cmd.ArgsLenAtDash(); n >= 0 {
				args, command = args[:n], args[n:]
			}
			c, _, err := a.open(args, 0)
			if err != nil {
				return err
			}
			defer c.Close()
			switch {
			case confirm:
				return a.confirmRestore(cmd.Context(), c)
			case undo:
				r, err := c.PlanUndo(cmd.Context())
				if err != nil {
					return err
				}
				return a.bringBack(cmd.Context(), r)
			case as != "":
				return a.restoreAs(cmd.Context(), c, to, set, as, inventory)
			case !peek:
				r, err := c.PlanRestore(cmd.Context(), to, set)
				if err != nil {
					return err
				}
				return a.bringBack(cmd.Context(), r)
			}
			p, err := c.PlanPeek(cmd.Context(), to, set)
			if err != nil {
				return err
			}
			say := func(format string, args ...any) {
				if !a.json {
					a.warnf(format+"\n", args...)
				}
			}
			for _, note := range p.Notes {
				say("%s", note)
			}
			if a.dry && a.json {
				a.printJSON(a.Out, map[string]any{"dry_run": true, "would": p.String(), "plan": p})
				return nil
			}
			if ok, err := a.sure(p.String(), harmless); !ok {
				return err
			}
			say("%s", sentence(p.String()))
			open, err := p.Open(cmd.Context(), func(step string) { say("%s", step) })
			if err != nil {
				return err
			}
			defer open.Close()
			if a.json {
				a.printJSON(a.Out, map[string]any{"plan": p, "server": open})
			}
			say("%s", peekedText(c.Name, open))
			if len(command) == 0 {
				say("It is there until you press Ctrl-C.")
				select {
				case <-cmd.Context().Done():
				case <-open.Ended():
					return errors.New("the server has ended")
				}
				return nil
			}
			program := command[0]
			if _, err := exec.LookPath(program); err != nil { // psql and pg_dump are beside the server's programs
				if found, err := c.Program(program); err == nil {
					program = found
				}
			}
			run := exec.CommandContext(cmd.Context(), program, command[1:]...)
			run.Stdin, run.Stdout, run.Stderr, run.Env = a.In, a.Out, a.Err, environ(open.Env())
			err = run.Run()
			if exit, ok := errors.AsType[*exec.ExitError](err); ok {
				return exitError(exit.ExitCode())
			}
			return err
		},
	}
	cmd.Flags().StringVar(&to, "to", "", "the moment")
	cmd.Flags().StringVar(&set, "set", "", "label of the backup to begin with, instead of the newest from which the moment can be reached")
	cmd.Flags().StringVar(&as, "as", "", "make a new cluster of this name of it, in the playground")
	cmd.Flags().StringVar(&inventory, "inventory", "", "file that declares the new cluster")
	cmd.Flags().BoolVar(&peek, "peek", false, "show it in a server of its own, and change nothing")
	cmd.Flags().BoolVar(&confirm, "confirm", false, "remove what the last restore of the cluster moved aside")
	cmd.Flags().BoolVar(&undo, "undo", false, "go back to what the last restore moved aside, or give up one that has not come so far")
	a.changeFlags(cmd)
	return cmd
}

// bringBack restores the whole cluster, or undoes that.
func (a *app) bringBack(ctx context.Context, r *control.Restoration) error {
	if !a.json && r.Peek != nil {
		for _, note := range r.Notes {
			a.warnf("%s\n", note)
		}
	}
	if a.dry && a.json {
		a.printJSON(a.Out, map[string]any{"dry_run": true, "would": r.String(), "plan": r})
		return nil
	}
	if ok, err := a.sure(r.String(), destructive); !ok {
		return err
	}
	if err := r.Apply(ctx, a.steps()); err != nil {
		return err
	}
	if a.json {
		a.printJSON(a.Out, r)
		return nil
	}
	if r.Record.Turned() {
		a.printf("The cluster is back to %s. What it was before is kept: --confirm removes that, --undo goes back to it.\n", r.Record.To)
	} else {
		a.printf("Given up; nothing of it is left.\n")
	}
	return nil
}

// steps prints what a restore does, one after the other.
func (a *app) steps() func(control.RestoreStep) {
	tell, last := a.progress(), ""
	return func(s control.RestoreStep) {
		if s.Does != last && !a.json {
			last = s.Does
			a.printf("%s\n", sentence(s.Does))
		}
		if s.Total > 0 {
			tell(control.BackupRun{Does: s.Does, Done: s.Done, Total: s.Total, Began: s.Began})
		}
	}
}

// restoreAs makes a new cluster of a moment of another.
func (a *app) restoreAs(ctx context.Context, c *control.Cluster, to, set, name, file string) error {
	var inv control.Inventory
	if file != "" {
		var err error
		if inv, err = control.ReadInventory(file); err != nil {
			return err
		}
		a.findings(inv.World, spec.Warning)
	}
	p, err := c.PlanRestoreAs(ctx, to, set, name, inv)
	if err != nil {
		return err
	}
	if !a.json && p.Peek != nil {
		for _, note := range p.Notes {
			a.warnf("%s\n", note)
		}
	}
	if a.dry && a.json {
		a.printJSON(a.Out, map[string]any{"dry_run": true, "would": p.String(), "plan": p})
		return nil
	}
	if ok, err := a.sure(p.String(), harmless); !ok {
		return err
	}
	if err := p.Apply(ctx, a.steps()); err != nil {
		return err
	}
	if a.json {
		a.printJSON(a.Out, p)
		return nil
	}
	a.printf("Cluster %s is there: `howdah psql %s`, `howdah list %s`. Its roles have the passwords of %s.\n", name, name, name, c.Name)
	return nil
}

// confirmRestore removes what a restore has kept.
func (a *app) confirmRestore(ctx context.Context, c *control.Cluster) error {
	p, err := c.PlanConfirm(ctx)
	if err != nil {
		return err
	}
	var dirs []string
	for _, dir := range p.Remove {
		dirs = append(dirs, a.home(dir))
	}
	if ok, err := a.sure("remove what cluster "+c.Name+" had before it was brought back to "+p.To+", in "+strings.Join(dirs, ", "), destructive); !ok {
		return err
	}
	if err := c.Confirm(ctx, p); err != nil {
		return err
	}
	if a.json {
		a.printJSON(a.Out, map[string]any{"removed": p.Remove})
		return nil
	}
	for _, dir := range dirs {
		a.printf("removed %s\n", dir)
	}
	return nil
}

func peekedText(cluster string, p *control.Peeked) string {
	text := fmt.Sprintf("%s at %s", cluster, p.LSN)
	if !p.Commit.IsZero() {
		text += ", its last transaction committed " + p.Commit.Local().Format("2006-01-02 15:04:05.000 MST") + " (" + ago(time.Since(p.Commit)) + ")"
	}
	return text + fmt.Sprintf(", to be read:\n  psql 'host=%s port=%d user=%s dbname=%s'", p.Host, p.Port, p.User, p.Database)
}
