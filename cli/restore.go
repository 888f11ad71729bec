package cli

import (
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
	var peek bool
	cmd := &cobra.Command{
		Use: "restore [CLUSTER] --to MOMENT --peek [-- COMMAND]", Short: "Look at the cluster as it was",
		Long: `Restore --peek starts a server that shows the cluster as it was at a moment, from
a backup and the WAL after it. It is read-only, listens on a socket alone, and is
removed when this command ends. The cluster does not notice.

MOMENT is a time ('2026-11-21 14:30:00', 14:30, '10 minutes ago'), an LSN
(0/3000060), a transaction's number, the name of a restore point, "latest" or
"immediate", the end of the backup. A word before a colon says which: name:742.

With a COMMAND, the command finds the server by PGHOST and PGPORT, and the server
goes when the command ends.`,
		Example: `  howdah restore --to '10 minutes ago' --peek
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
			case to == "":
				return usage("restore needs --to MOMENT")
			case !peek:
				return usage("restore needs --peek: this version looks at a moment, and does not bring a cluster back to it (`howdah pgbackrest restore` restores one server)")
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
	a.changeFlags(cmd)
	return cmd
}

func peekedText(cluster string, p *control.Peeked) string {
	text := fmt.Sprintf("%s at %s", cluster, p.LSN)
	if !p.Commit.IsZero() {
		text += ", its last transaction committed " + p.Commit.Local().Format("2006-01-02 15:04:05.000 MST") + " (" + ago(time.Since(p.Commit)) + ")"
	}
	return text + fmt.Sprintf(", to be read:\n  psql 'host=%s port=%d user=%s dbname=%s'", p.Host, p.Port, p.User, p.Database)
}
