package cli

import (
	"context"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"howdah/cli/pgbackrest"
)

// pgbackrest is pgBackRest's command line as a verb of ours. Its arguments are
// not ours to read.
func (a *app) pgbackrest() *cobra.Command {
	return &cobra.Command{
		Use: "pgbackrest [OPTIONS] COMMAND", Short: "pgBackRest's commands on pgBackRest's repositories (also when called by that name)",
		Example: `  howdah pgbackrest --stanza=main info
  howdah pgbackrest --stanza=main --type=full backup`,
		DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if code := a.runPgBackRest(cmd.Context(), args, "pgbackrest"); code != Done {
				return exitError(code)
			}
			return nil
		},
	}
}

// runPgBackRest runs one of its commands; verb is what leads to it behind the
// program's name, if that name does not.
func (a *app) runPgBackRest(ctx context.Context, args []string, verb string) int {
	self, err := os.Executable()
	if err != nil {
		self = a.Called
	}
	called := []string{self, verb}
	if verb == "" {
		called = []string{filepath.Join(filepath.Dir(self), pgBackRest)} // PostgreSQL's commands must have that word
		if _, err := os.Stat(called[0]); err != nil {
			called = []string{self, pgBackRest}
		}
	}
	return pgbackrest.Run(ctx, args, pgbackrest.Process{Out: a.Out, Err: a.Err, Environ: os.Environ(), Self: called})
}

// pgBackRest is its name, under which this program is pgBackRest.
const pgBackRest = "pgbackrest"
