package cli

import (
	"context"
	"errors"
	"fmt"
	"os/exec"

	"github.com/spf13/cobra"

	"howdah/control"
	"howdah/problem"
)

func (a *app) psql() *cobra.Command {
	service := control.Primary
	var url bool
	cmd := &cobra.Command{
		Use: "psql [CLUSTER] [MEMBER] [-- FLAGS OF PSQL]", Short: "A shell through a service, or on one member",
		Long: `Psql starts PostgreSQL's own shell through a service: 5433 to the primary, 5434 to
a replica, and whatever else the inventory has; or on the member named. What
follows "--" goes to psql. The password comes from a file that only you can read.`,
		Example: `  howdah psql
  howdah psql demo-2
  howdah psql --service replica -- -c 'select pg_is_in_recovery()'
  pgbench -i "$(howdah psql --print-url)"`,
		SuggestFor: []string{"connect", "shell", "sql"},
		Args: func(cmd *cobra.Command, args []string) error {
			if n := cmd.ArgsLenAtDash(); n > 2 || n < 0 && len(args) > 2 {
				return usage("psql takes one cluster and one member; flags of psql come after --")
			}
			return nil
		},
		ValidArgsFunction: a.completeMembers,
		RunE: func(cmd *cobra.Command, args []string) error {
			if a.json && !url {
				return usage("--json goes with --print-url: psql itself prints what you ask it")
			}
			var flags []string
			if n := cmd.ArgsLenAtDash(); n >= 0 {
				args, flags = args[:n], args[n:]
			}
			c, members, err := a.open(args, 1)
			if err != nil {
				return err
			}
			defer c.Close()
			var t control.Target
			switch {
			case len(members) == 0:
				t, err = c.Psql(cmd.Context(), service)
			case cmd.Flags().Changed("service"):
				return usage("psql takes a member or --service, not both")
			default:
				t, err = c.PsqlAt(cmd.Context(), members[0])
			}
			if err != nil {
				return err
			}
			if url {
				access, err := c.Access()
				if err != nil {
					return err
				}
				url := access.At(t)
				if len(members) == 0 {
					url = c.Through(access, service, true)
				}
				if a.json {
					a.printJSON(a.Out, map[string]any{"member": t.Member, "host": t.Host, "port": t.Port, "url": url})
				} else {
					a.printf("%s\n", url)
				}
				return nil
			}
			return a.shell(cmd.Context(), c, t, flags)
		},
	}
	cmd.Flags().StringVar(&service, "service", control.Primary, "primary, replica, default, offline, or another of the inventory")
	_ = cmd.RegisterFlagCompletionFunc("service", cobra.FixedCompletions([]string{control.Primary, control.Replica, "default", "offline"}, cobra.ShellCompDirectiveNoFileComp))
	cmd.Flags().BoolVar(&url, "print-url", false, "print a connection string with the password instead; that of a service names every node that has it")
	a.jsonFlag(cmd)
	return cmd
}

// shell becomes psql: signals are its own then, Ctrl-C cancels a query.
func (a *app) shell(ctx context.Context, c *control.Cluster, t control.Target, flags []string) error {
	path, err := exec.LookPath("psql")
	if err != nil {
		path, err = c.Program("psql")
	}
	if err != nil {
		return &problem.Error{
			Code: "psql-missing", What: "cannot start psql", Why: "it is not in PATH, nor beside the server's programs",
			Do: "install PostgreSQL's client programs, or use `howdah psql --print-url`", Err: err,
		}
	}
	env := environ(t.Env())
	if a.Exec != nil {
		return fmt.Errorf("start %s: %w", path, a.Exec(path, append([]string{"psql"}, flags...), env))
	}
	psql := exec.CommandContext(ctx, path, flags...)
	psql.Stdin, psql.Stdout, psql.Stderr, psql.Env = a.In, a.Out, a.Err, env
	err = psql.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exitError(exit.ExitCode())
	}
	return err
}
