package cli

import (
	"bufio"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"howdah/problem"
	"howdah/spec/pigsty"
)

// answers are what init asks for.
type answers struct {
	cluster, hosts, version, database, loss string
}

func (a *app) init() *cobra.Command {
	var got answers
	var force bool
	cmd := &cobra.Command{
		Use: "init [FILE]", Short: "Write a short inventory, from five answers",
		Long: `Init asks for what a cluster needs and writes an inventory in the short form,
howdah.yml unless a file is named. Every answer has a default and a flag; without
a terminal, or with --yes, nothing is asked.`,
		Example: `  howdah init
  howdah init shop.yml --cluster shop --hosts 10.10.10.11,10.10.10.12,10.10.10.13 --database shop --yes`,
		SuggestFor: []string{"new", "configure"},
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usage("init writes one file, not %d: %s", len(args), strings.Join(args, " "))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			path := "howdah.yml"
			if len(args) == 1 {
				path = args[0]
			}
			if _, err := os.Lstat(path); err == nil && !force {
				return &problem.Error{
					Code: "init-exists", What: "cannot write " + path, Why: "there is a file of that name",
					Do: "name another file, or give --force to write over it",
				}
			}
			if a.Terminal && !a.yes {
				in := bufio.NewReader(a.In)
				for _, q := range []struct{ flag, ask string }{
					{"cluster", "Name of the cluster"},
					{"hosts", "Addresses of its hosts, the first one begins as the primary"},
					{"version", "PostgreSQL, 14 to 18, or newest"},
					{"database", "Database, with a user of the same name who owns it"},
					{"max-loss", "Bytes of log that a lost host may cost; default: none, from three hosts on"},
				} {
					f := cmd.Flags().Lookup(q.flag)
					if f.Changed {
						continue
					}
					fmt.Fprintf(a.Err, "%s [%s]: ", q.ask, f.Value)
					line, _ := in.ReadString('\n') // end of input takes the default
					if line = strings.TrimSpace(line); line != "" {
						if err := f.Value.Set(line); err != nil {
							return usage("%s: %w", q.flag, err)
						}
					}
				}
			}
			text, err := got.inventory()
			if err != nil {
				return err
			}
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				return &problem.Error{Code: "init-write", What: "cannot write " + path, Do: "name a file in a directory that you may write to", Err: err}
			}
			if a.json {
				a.printJSON(a.Out, map[string]string{"written": path})
				return nil
			}
			a.printf("wrote %s; try it with `howdah up %s`, and see what it means with `howdah spec %s`\n", path, path, path)
			return nil
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&got.cluster, "cluster", "pg-main", "name of the cluster")
	flags.StringVar(&got.hosts, "hosts", "10.10.10.11,10.10.10.12,10.10.10.13", "addresses of its hosts")
	flags.StringVar(&got.version, "version", "newest", "major version of PostgreSQL")
	flags.StringVar(&got.database, "database", "app", "a database, and the user who owns it")
	flags.StringVar(&got.loss, "max-loss", "default", "bytes of log that a lost host may cost; default: none, from three hosts on")
	flags.BoolVar(&force, "force", false, "write over a file that is there")
	flags.BoolVarP(&a.yes, "yes", "y", false, "do not ask")
	a.jsonFlag(cmd)
	return cmd
}

// inventory is the short form that says what was answered; what cannot be
// meant is refused before it is written.
func (g answers) inventory() (string, error) {
	var hosts []string
	for h := range strings.FieldsFuncSeq(g.hosts, func(c rune) bool { return c == ',' || c == ' ' }) {
		if _, err := netip.ParseAddr(h); err != nil {
			return "", usage("--hosts: %q is no address", h)
		}
		hosts = append(hosts, h)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "# An inventory in the short form: `howdah spec` shows all that follows from it.\ncluster: %s\nhosts: [%s]\n", quoted(g.cluster), strings.Join(hosts, ", "))
	if g.version != "newest" {
		fmt.Fprintf(&b, "version: %s\n", quoted(g.version))
	}
	fmt.Fprintf(&b, `users:
  - { name: %[1]s } # its password is generated; or write password: …, env:NAME, file:PATH
databases:
  - { name: %[1]s, owner: %[1]s }
`, quoted(g.database))
	if g.loss != "default" {
		fmt.Fprintf(&b, "max_loss: %s # bytes\n", quoted(g.loss))
	}
	if w := pigsty.Read("the answers", []byte(b.String())); w.Err() != nil {
		return "", w.Err()
	}
	return b.String(), nil
}

// quoted is a word as YAML reads it as text, or as it is where that is plain.
func quoted(s string) string {
	for _, c := range s {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return strconv.Quote(s)
		}
	}
	return s
}
