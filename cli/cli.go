// Package cli is the command line: one file a verb.
//
// It parses arguments, asks control, and prints; it decides nothing. What it
// prints for machines is Patroni's where Patroni prints the same, and errors go
// to stderr with what, why and what to do. It never ends the process itself:
// Run returns the exit code.
package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"howdah/control"
	"howdah/problem"
	"howdah/spec"
)

// Exit codes.
const (
	Done      = 0
	NotDone   = 1
	Usage     = 2
	Unhealthy = 3
)

// A Process is what the command line gets from the process that it runs in.
type Process struct {
	In       io.Reader
	Out, Err io.Writer
	Terminal bool // a person sits there: In and Out are a terminal
	Env      func(string) string
	Root     bool
	Version  Version
	Called   string // how the person called this program: ./howdah
	Roles    Roles
	Exec     func(path string, argv, env []string) error // become another program; nil: run it as a child
}

// Roles are the daemons; main brings them, because doors know nothing of them.
type Roles struct {
	Node func(ctx context.Context, dir string) error
	// Machine is Node for a host of an inventory, whose node it first makes in dir.
	Machine func(ctx context.Context, dir, host string, w spec.World) error
	Agent   func(ctx context.Context, dir string) error
	// Gateway carries clients to the members that serve them.
	Gateway func(ctx context.Context, dir string) error
	Etcd    func(ctx context.Context, dir string) error
	Keep    func(ctx context.Context, dir string) error // holds a playground's networks
	// VIP holds the cluster's virtual address while the node in DIR may.
	VIP func(ctx context.Context, dir string) error
	// DNS answers for the names of clusters, by the description in DIR.
	DNS func(ctx context.Context, dir string) error
	// Jobs is whatever may wait: metrics, backups.
	Jobs func(ctx context.Context, dir string) error
	// Observe keeps the metrics of all clusters.
	Observe    func(ctx context.Context, dir string) error
	PgExporter func(ctx context.Context, o Exporter) error
	// Replica fills an empty data directory from a repository, and tells out how far it is.
	Replica func(ctx context.Context, r Replica, out io.Writer) error
	// Found fills it with what a new cluster begins with, and tells the same.
	Found func(ctx context.Context, dir string, dry bool, out io.Writer) error
}

// changesExit is the exit code of a plan that is not empty.
const changesExit = 2

// errUnhealthy ends a verb that did its work and found the cluster unwell.
var errUnhealthy = errors.New("unhealthy")

// An exitError ends with the exit code of another program.
type exitError int

func (e exitError) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// app is one run of the command line.
type app struct {
	Process
	dir  string
	json bool
	dry  bool
	yes  bool
}

// Run carries out one command line and returns the exit code.
func Run(ctx context.Context, args []string, p Process) int {
	a := &app{Process: p}
	if filepath.Base(p.Called) == pgBackRest {
		return a.runPgBackRest(ctx, args, "")
	}
	root := a.root()
	args = called(p.Called, args)
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	if exit, ok := errors.AsType[exitError](err); ok {
		return int(exit)
	}
	switch {
	case err == nil:
		return Done
	case errors.Is(err, errUnhealthy):
		return Unhealthy
	case errors.Is(err, context.Canceled) && problem.Code(err) == "":
		err = &problem.Error{
			Code: "interrupted", What: "interrupted", Why: "a signal ended this command, but not what it had begun",
			Do: "`howdah status` shows how far that came; the same command goes on with it",
		}
	}
	_, wrong := errors.AsType[usageError](err)
	if wrong {
		err = misused(err, cmd)
		// What stood before --json on the line may have ended the reading of flags.
		words, _, _ := strings.Cut(strings.Join(args, "\n"), "\n--\n")
		a.json = a.json || slices.Contains(strings.Split(words, "\n"), "--json")
	}
	a.complain(err)
	switch {
	case wrong:
		return Usage
	case problem.Code(err) == "cluster-stopped":
		return Unhealthy
	}
	return NotDone
}

// judged reads the inventory of what is to run here. Its warnings are printed, also
// beside its problems: whoever corrects these reads of both at once.
func (a *app) judged(ctx context.Context, path string) (control.Inventory, error) {
	inv, err := control.JudgeInventory(ctx, path)
	a.findings(inv.World, spec.Warning)
	return inv, err
}

// complain prints err to stderr: for a person, or with --json for a program.
func (a *app) complain(err error) {
	if !a.json {
		fmt.Fprintln(a.Err, problem.Text(err))
		return
	}
	p := problem.Plain(err)
	if p.Code == "" {
		p.What = err.Error()
	}
	a.printJSON(a.Err, p)
}

// help is cobra's help verb, which takes a word that it does not know for none.
func (a *app) help() *cobra.Command {
	return &cobra.Command{
		Use: "help [VERB]", Short: "Help about a verb", Example: "  howdah help why",
		RunE: func(cmd *cobra.Command, args []string) error {
			at := cmd.Root()
			for _, word := range args {
				i := slices.IndexFunc(at.Commands(), func(c *cobra.Command) bool { return c.Name() == word })
				if i < 0 {
					return unknownWord(at, "verb", word)
				}
				at = at.Commands()[i]
			}
			at.InitDefaultHelpFlag()
			return at.Help()
		},
	}
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "howdah",
		Short: "PostgreSQL that stays up: high availability in one program",
		Long: `Howdah runs PostgreSQL clusters: it elects, promotes, rejoins, and says why.

On one machine, "howdah up" starts a complete cluster of three nodes to try.`,
		Example: `  howdah up                       a cluster of three nodes on this machine
  howdah list                     its members, as patronictl prints them
  howdah psql                     a shell on the primary
  howdah fault kill-postgres      break it, and watch: howdah status --watch
  howdah why                      what happened, and why`,
		SilenceErrors: true, SilenceUsage: true,
		Version: a.Version.Version,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownWord(cmd, "verb", args[0])
			}
			return nil
		},
		PersistentPreRun: func(cmd *cobra.Command, _ []string) {
			if name := cmd.Name(); name != pgBackRest && name != pgExporterName { // they obey them, as those whose names they have
				forgetElsewhere()
			}
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetIn(a.In)
	root.SetOut(a.Out)
	root.SetErr(a.Err)
	root.SetVersionTemplate("howdah {{.Version}}\n")
	root.SetFlagErrorFunc(wrongFlag)
	root.SetHelpCommand(a.help())
	root.CompletionOptions.HiddenDefaultCmd = false
	root.PersistentFlags().StringVar(&a.dir, "dir", a.defaultDir(), "state directory")
	_ = root.MarkPersistentFlagDirname("dir") // the flag was just made
	root.AddGroup(
		&cobra.Group{ID: "play", Title: "On this machine:"},
		&cobra.Group{ID: "look", Title: "Look:"},
		&cobra.Group{ID: "change", Title: "Change:"},
		&cobra.Group{ID: "daemon", Title: "Daemons:"},
	)
	for group, verbs := range map[string][]*cobra.Command{
		"play":   {a.up(), a.down(), a.init(), a.spec(), a.fault(), a.demoFaults()},
		"look":   {a.list(), a.status(), a.why(), a.top(), a.alerts(), a.metrics(), a.dashboards(), a.logs(), a.history(), a.showConfig(), a.psql(), a.plan(), a.applied(), a.backups(), a.restore(), a.drill(), a.doctor()},
		"change": {a.apply(), a.switchover(), a.failover(), a.restart(), a.reload(), a.reinit(), a.pause(), a.resume(), a.degrade(), a.undegrade(), a.editConfig(), a.install(), a.upgrade(), a.keys(), a.certs(), a.provision(), a.backup(), a.pgbackrest()},
		"daemon": {a.node(), a.agent(), a.gateway(), a.etcd(), a.jobs(), a.observe(), a.vip(), a.dns(), a.pgExporter(), a.replica(), a.founding(), a.playground()},
	} {
		for _, v := range verbs {
			v.GroupID = group
			root.AddCommand(v)
		}
	}
	root.AddCommand(a.version())
	return root
}

// defaultDir is where clusters live unless --dir says otherwise.
func (a *app) defaultDir() string {
	if dir := a.Env("HOWDAH_DIR"); dir != "" {
		return dir
	}
	if a.Root {
		return "/var/lib/howdah"
	}
	if dir := a.Env("XDG_STATE_HOME"); dir != "" {
		return filepath.Join(dir, "howdah")
	}
	return filepath.Join(a.Env("HOME"), ".local", "state", "howdah")
}

// house is the state directory, absolute.
func (a *app) house() (control.House, error) {
	if a.dir == "" {
		return control.House{}, usage("--dir needs the name of a directory")
	}
	dir, err := filepath.Abs(a.dir)
	if err != nil {
		return control.House{}, usage("--dir %s: %w", a.dir, err)
	}
	return control.House{Dir: dir}, nil
}

// open opens the cluster that args begin with, or the only one; the rest of
// args are members, at most as many as allowed.
func (a *app) open(args []string, members int) (*control.Cluster, []string, error) {
	h, err := a.house()
	if err != nil {
		return nil, nil, err
	}
	name, rest := split(h, args, members)
	c, err := h.Open(name)
	if err != nil {
		return nil, nil, err
	}
	return c, rest, nil
}

// on is a verb about one cluster, which is named by the first word or the only
// one there is.
func (a *app) on(do func(cmd *cobra.Command, c *control.Cluster) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		c, _, err := a.open(args, 0)
		if err != nil {
			return err
		}
		defer c.Close()
		return do(cmd, c)
	}
}

// split tells the cluster's name from members' names: the first word is the
// cluster unless it may be a member and no cluster is called so.
func split(h control.House, args []string, members int) (name string, rest []string) {
	if len(args) == 0 {
		return "", nil
	}
	if members > 0 && !slices.Contains(h.Clusters(), args[0]) && len(args) <= members {
		return "", args
	}
	return args[0], args[1:]
}

// takes limits the arguments of a verb to a cluster and so many members.
func takes(members int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > members+1 {
			return usage("%s takes at most %d arguments, not %d: %s", cmd.Name(), members+1, len(args), strings.Join(args, " "))
		}
		return nil
	}
}

const many = 1000 // members

func (a *app) jsonFlag(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&a.json, "json", false, "print JSON")
}

// changeFlags are those of a verb that changes something.
func (a *app) changeFlags(cmd *cobra.Command) {
	a.jsonFlag(cmd)
	cmd.Flags().BoolVar(&a.dry, "dry-run", false, "say what would be done, and do nothing")
	cmd.Flags().BoolVarP(&a.yes, "yes", "y", false, "do not ask")
}

// A risk says what a verb can cost; without a terminal and without --yes it
// decides whether the verb goes on.
type risk bool

const (
	harmless    risk = false
	destructive risk = true
)

// sure tells or asks whether to go on with what. go on is false after
// --dry-run and after a no.
func (a *app) sure(what string, r risk) (goOn bool, err error) {
	switch {
	case a.dry && a.json:
		a.printJSON(a.Out, map[string]any{"dry_run": true, "would": what})
		return false, nil
	case a.dry:
		fmt.Fprintln(a.Out, "would "+what)
		return false, nil
	case a.yes:
		return true, nil
	case !a.Terminal && r == destructive:
		return false, &problem.Error{
			Code: "confirm", What: "did not " + what, Why: "this can lose data, and there is no terminal to ask at",
			Do: "add --yes if you mean it, or --dry-run to look first",
		}
	case !a.Terminal:
		return true, nil
	}
	fmt.Fprintf(a.Err, "%s? [y/N] ", strings.ToUpper(what[:1])+what[1:])
	answer, _ := bufio.NewReader(a.In).ReadString('\n') // end of input is a no
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return true, nil
	}
	return false, &problem.Error{Code: "declined", What: "did not " + what, Why: "you said no", Do: "nothing was changed"}
}

func (a *app) printf(format string, args ...any) { fmt.Fprintf(a.Out, format, args...) }

func (a *app) warnf(format string, args ...any) { fmt.Fprintf(a.Err, format, args...) }

func (a *app) printJSON(w io.Writer, v any) {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		fmt.Fprintln(a.Err, err)
	}
}

// home shortens a path for people.
func (a *app) home(path string) string {
	if rest, ok := strings.CutPrefix(path, a.Env("HOME")+string(os.PathSeparator)); ok && a.Env("HOME") != "" {
		return "~/" + rest
	}
	return path
}
