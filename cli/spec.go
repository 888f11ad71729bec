package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"howdah/control"
	"howdah/postgres/conf"
	"howdah/problem"
	"howdah/spec"
	"howdah/spec/pigsty"
	"howdah/spec/vipmanager"
)

func (a *app) spec() *cobra.Command {
	var schema, living bool
	var into, vip string
	cmd := &cobra.Command{
		Use: "spec INVENTORY", Short: "What an inventory means, and where every value comes from",
		Long: `Spec reads an inventory and prints the clusters that it describes: each value
with the line it stands on, or what else gave it. Nothing is started or changed.
All problems are named at once, each with its line; so are names that nobody
knows, and parameters that have no effect here. Where this machine has the
PostgreSQL that is asked for, that says which parameters, libraries and
extensions it does not know. With --json and problems, the findings are printed.

With --from-cluster it writes the inventory of clusters that exist, of all of this
machine or of those named: a plan of it is empty, and what no inventory can say is
named. It holds what the servers store of passwords.

With --from-vip-manager it reads the configuration of vip-manager, and writes what
an inventory has in its stead.

An inventory may be kept in a database, in the tables of Pigsty's CMDB: whatever
takes an inventory takes postgresql://USER@HOST/DATABASE in a file's stead. With
--into, spec writes one there; what the tables have besides goes.`,
		Example: `  howdah spec pigsty.yml
  howdah spec pigsty.yml --json
  howdah spec pigsty.yml --into postgresql://dbuser_meta@10.10.10.10/meta
  howdah spec --schema > inventory.schema.json
  howdah spec --from-cluster pg-test > pg-test.yml
  howdah spec --from-vip-manager /etc/default/vip-manager.yml`,
		SuggestFor: []string{"check", "validate", "parse"},
		Args: func(_ *cobra.Command, args []string) error {
			if (a.dry || a.yes) && into == "" || into != "" && (schema || living) {
				return usage("--into goes with an inventory, and --dry-run and --yes go with --into")
			}
			if vip != "" {
				if len(args) > 0 || living || schema || into != "" || a.dry || a.yes {
					return usage("--from-vip-manager takes the file of vip-manager and nothing else")
				}
				return nil
			}
			if living {
				if schema || a.json {
					return usage("--from-cluster writes an inventory: it goes with names of clusters alone")
				}
				return nil
			}
			if schema && len(args) == 0 {
				return nil
			}
			if len(args) != 1 || schema {
				return usage("spec needs one inventory: the path of a YAML file")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if vip != "" {
				return a.fromVIPManager(vip)
			}
			if living {
				return a.fromCluster(cmd, args)
			}
			if schema {
				a.printJSON(a.Out, pigsty.Schema())
				return nil
			}
			inv, err := control.JudgeInventory(cmd.Context(), args[0])
			if err != nil {
				a.findings(inv.World, spec.Warning)
				if a.json && len(inv.World.Findings) > 0 { // what else there is of it would be half of it
					a.printJSON(a.Out, map[string]any{"file": inv.World.File, "findings": inv.World.Findings})
				}
				return err
			}
			if into != "" {
				return a.record(cmd.Context(), inv, into)
			}
			machine, err := control.Machine(a.dir)
			if err != nil {
				return err
			}
			if a.json {
				a.printJSON(a.Out, specJSON(inv.World, machine))
				return nil
			}
			specText(a.Out, inv.World, machine)
			return nil
		},
	}
	a.changeFlags(cmd)
	cmd.Flags().StringVar(&into, "into", "", "write it into Pigsty's tables of the database at this `URI`, which then hold it alone")
	cmd.Flags().BoolVar(&living, "from-cluster", false, "write the inventory of clusters that exist")
	cmd.Flags().StringVar(&vip, "from-vip-manager", "", "write what an inventory has in the stead of this `FILE` of vip-manager")
	_ = cmd.MarkFlagFilename("from-vip-manager", "yml", "yaml") // the flag was just made
	cmd.Flags().BoolVar(&schema, "schema", false, "print the JSON Schema by which editors check an inventory")
	return cmd
}

// record writes an inventory into the tables of a CMDB. It tells first what that changes.
func (a *app) record(ctx context.Context, inv control.Inventory, uri string) error {
	r, err := inv.Record(ctx, uri, true)
	if err != nil {
		return err
	}
	if r.Written+r.Removed > 0 {
		cost := harmless
		if r.Removed > 0 {
			cost = destructive
		}
		if ok, err := a.sure("write into the tables "+r.String(), cost); !ok {
			return err
		}
		if r, err = inv.Record(ctx, uri, false); err != nil {
			return err
		}
	}
	if a.json {
		a.printJSON(a.Out, r)
		return nil
	}
	a.printf("the tables hold %s\n", r)
	return nil
}

// fromCluster writes the inventory of what is, and says what it does not hold.
func (a *app) fromCluster(cmd *cobra.Command, names []string) error {
	h, err := a.house()
	if err != nil {
		return err
	}
	d, err := h.Declare(cmd.Context(), names...)
	if err != nil {
		return err
	}
	a.printf("%s", d.Text)
	for _, left := range d.LeftOut {
		a.warnf("left out, because to declare it would change it: %s\n", shown(left))
	}
	for _, o := range d.Otherwise {
		a.warnf("no inventory says it all; a plan of this one would: %s\n", shown(o))
	}
	return nil
}

// fromVIPManager says in the words of an inventory what vip-manager was told.
func (a *app) fromVIPManager(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return &problem.Error{Code: "inventory-unreadable", What: "cannot read vip-manager's " + path, Err: err, Do: "name its configuration: /etc/default/vip-manager.yml as a rule"}
	}
	c := vipmanager.Read(path, text, a.Env)
	w := spec.World{File: path}
	w.Say(c.Findings...)
	a.findings(w, spec.Warning, spec.Inapplicable)
	if err := w.Err(); err != nil {
		return err
	}
	if !a.json {
		a.printf("%s", c.Inventory())
		return nil
	}
	a.printJSON(a.Out, struct {
		Cluster   string         `json:"cluster,omitempty"`
		Member    string         `json:"member,omitempty"`
		Address   string         `json:"pg_vip_address"`
		Interface string         `json:"pg_vip_interface,omitempty"`
		Findings  []spec.Finding `json:"findings"`
	}{c.Cluster, c.Member, c.Address.String(), c.Link, append([]spec.Finding{}, w.Findings...)})
	return nil
}

// A tuned member is one with the parameters of its server on a machine.
type tuned struct {
	Member     string            `json:"member"`
	Machine    conf.Machine      `json:"machine"`
	Parameters map[string]string `json:"parameters"`
}

func specJSON(w spec.World, m conf.Machine) any {
	var all []tuned
	for _, c := range w.Clusters {
		for _, member := range c.Members {
			p := conf.Tune(member.Tuning, m, major(c))
			maps.Copy(p, member.Parameters)
			all = append(all, tuned{member.Name, m, p})
		}
	}
	return struct {
		spec.World
		Tuned []tuned `json:"tuned"`
	}{w, all}
}

// major is the version that a cluster's parameters are for.
func major(c spec.Cluster) int {
	if c.Major == 0 {
		return 18
	}
	return c.Major
}

// specText prints the world for a person.
func specText(out io.Writer, w spec.World, m conf.Machine) {
	t := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	defer t.Flush()
	row := func(indent, name string, value any, origin string) {
		fmt.Fprintf(t, "%s%s\t%s\t%s\n", indent, name, oneLine(value), origin)
	}
	for _, c := range w.Clusters {
		fmt.Fprintf(t, "cluster %s\n", c.Name)
		for _, s := range c.Settings {
			row("  ", s.Name, s.Value, s.Origin)
		}
		row("  ", "keys in etcd", c.Namespace+"/"+c.Name+"/", "derived")
		for _, s := range c.Services {
			row("  ", "service "+s.Name, fmt.Sprintf("port %d to %s, %s", s.Port, s.Dest, s.Check), "on "+strings.Join(c.Carriers, ", "))
		}
		for _, member := range c.Members {
			fmt.Fprintf(t, "\n  member %s on %s\n", member.Name, member.Host)
			for _, s := range member.Settings {
				row("    ", s.Name, s.Value, s.Origin)
			}
			for _, name := range slices.Sorted(maps.Keys(member.Tags)) {
				row("    ", "tag "+name, member.Tags[name], "derived")
			}
		}
		first := c.Members[0]
		fmt.Fprintf(t, "\n  server parameters, if a member has %s\n", m)
		p := conf.Tune(first.Tuning, m, major(c))
		for _, name := range slices.Sorted(maps.Keys(p)) {
			if _, own := first.Parameters[name]; !own {
				row("    ", name, p[name], "template "+first.Tuning.Template)
			}
		}
		for _, name := range slices.Sorted(maps.Keys(first.Parameters)) {
			row("    ", name, first.Parameters[name], "pg_parameters")
		}
		if len(first.HBA) > 0 {
			fmt.Fprintf(t, "\n  access rules of %s\n", first.Name)
			for _, r := range first.HBA {
				for _, line := range r.Lines {
					only := ""
					if r.Role != "" {
						only = ", while it is a " + r.Role
					}
					fmt.Fprintf(t, "    %s  # %s%s\n", line, r.Title, only)
				}
			}
		}
		fmt.Fprintln(t)
	}
	fmt.Fprintln(t, "etcd")
	if w.Beat.Election > 0 {
		pace := spec.Etcd{Election: w.Beat.Election, Heartbeat: w.Beat.Heartbeat}
		row("  ", "pace", fmt.Sprintf("election after %s, heartbeats every %s", pace.Misses(), pace.Beats()), w.Beat.Origin)
	}
	for _, s := range w.Stores {
		row("  ", s.Name, fmt.Sprintf("%s:%d", s.Host, s.Client), s.Origin)
	}
	for _, kind := range []string{spec.Warning, spec.Later, spec.Inapplicable} {
		said := false
		for _, f := range w.Findings {
			if f.Kind != kind {
				continue
			}
			if !said {
				fmt.Fprintf(t, "\n%s\n", kind)
				said = true
			}
			text := f.Text
			if f.Do != "" {
				text += "; " + f.Do
			}
			fmt.Fprintf(t, "  %s: %s\n", w.Place(f.Line), text)
		}
	}
}

// oneLine is a value as it fits beside others.
func oneLine(v any) string {
	text, ok := v.(string)
	if !ok {
		b, err := json.Marshal(v)
		if err != nil {
			return err.Error()
		}
		text = string(b)
	}
	if r := []rune(text); len(r) > 72 {
		text = string(r[:69]) + "..."
	}
	return strings.NewReplacer("\t", " ", "\n", " ").Replace(text)
}

// findings prints what there is to say about an inventory to stderr.
func (a *app) findings(w spec.World, kinds ...string) {
	if a.json {
		return
	}
	for _, f := range w.Findings {
		if slices.Contains(kinds, f.Kind) {
			text := f.Text
			if f.Do != "" {
				text += "; " + f.Do
			}
			a.warnf("%s: %s: %s\n", w.Place(f.Line), f.Kind, text)
		}
	}
}
