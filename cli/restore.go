package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"

	"github.com/spf13/cobra"

	"howdah/control"
)

func (a *app) restore() *cobra.Command {
	var to, set string
	var peek, confirm, undo bool
	cmd := &cobra.Command{
		Use: "restore [CLUSTER] --to MOMENT [--peek [-- COMMAND]]", Short: "Bring the cluster back to a moment, or look at it as it was",
		Long: `Restore brings a cluster back to a moment, from a backup and the WAL after it. The
data are made beside the leader's while the cluster goes on; then the leader turns
to them, on a new timeline, and the others follow. What was committed after the
moment is there no more; what the leader had is kept until --confirm removes it, or
--undo goes back to it. Interrupted, the command is given again and goes on.

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
			run.Stdin, run.Stdout, run.Stderr, run.Env = a.In, a.Out, a.Err, append(os.Environ(), open.Env()...)
			err = run.Run()
			if exit, ok := errors.AsType[*exec.ExitError](err); ok {
				return exitError(exit.ExitCode())
			}
			return err
		},
	}
	cmd.Flags().StringVar(&to, "to", "", "the moment")
	cmd.Flags().StringVar(&set, "set", "", "label of the backup to begin with, instead of the newest from which the moment can be reached")
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
	tell, last := a.progress(), ""
	err := r.Apply(ctx, func(s control.RestoreStep) {
		if s.Does != last && !a.json {
			last = s.Does
			a.printf("%s\n", sentence(s.Does))
		}
		if s.Total > 0 {
			tell(control.BackupRun{Does: s.Does, Done: s.Done, Total: s.Total, Began: s.Began})
		}
	})
	if err != nil {
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

// confirmRestore removes what a restore has kept.
func (a *app) confirmRestore(ctx context.Context, c *control.Cluster) error {
	r, dir, err := c.PlanConfirm(ctx)
	if err != nil {
		return err
	}
	if ok, err := a.sure("remove what cluster "+c.Name+" had before it was brought back to "+r.To+", in "+dir, destructive); !ok {
		return err
	}
	if err := c.Confirm(ctx, r, dir); err != nil {
		return err
	}
	if !a.json {
		a.printf("removed %s\n", a.home(dir))
		return nil
	}
	a.printJSON(a.Out, map[string]any{"removed": dir})
	return nil
}

func peekedText(cluster string, p *control.Peeked) string {
	text := fmt.Sprintf("%s at %s", cluster, p.LSN)
	if !p.Commit.IsZero() {
		text += ", its last transaction committed " + p.Commit.Local().Format("2006-01-02 15:04:05.000 MST") + " (" + ago(time.Since(p.Commit)) + ")"
	}
	return text + fmt.Sprintf(", to be read:\n  psql 'host=%s port=%d user=%s dbname=%s'", p.Host, p.Port, p.User, p.Database)
}
