package control

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"howdah/postgres"
	"howdah/spec"
)

// judgeWithin bounds what PostgreSQL is asked of an inventory.
const judgeWithin = 20 * time.Second

// JudgeInventory is ReadInventory where clusters are to run here: the PostgreSQL of
// this machine says in the same round which names in it it does not know. Where
// there is none of a cluster's major, nobody is asked about that cluster.
func JudgeInventory(ctx context.Context, path string) (Inventory, error) {
	return readInventory(path, func(w *spec.World) {
		ctx, cancel := context.WithTimeout(ctx, judgeWithin)
		defer cancel()
		for _, c := range w.Clusters {
			var all []spec.Mention
			for _, m := range w.Mentions {
				if m.Cluster == c.Name {
					all = append(all, m)
				}
			}
			if len(all) == 0 {
				continue
			}
			if p, err := postgres.Find(c.Major); err == nil {
				w.Say(unknown(ctx, p, all)...)
			}
		}
	})
}

// unknown asks one installation about what one cluster names.
func unknown(ctx context.Context, p postgres.Programs, all []spec.Mention) (found []spec.Finding) {
	// Members, users and databases may each give a parameter another value.
	asked := make([]map[string]string, 0, 1)
	ask := func(m spec.Mention) {
		name := strings.ToLower(m.Name)
		for _, set := range asked {
			if value, there := set[name]; !there || value == m.Value {
				set[name] = m.Value
				return
			}
		}
		if len(asked) < 8 { // further values of the same name are PostgreSQL's to judge when it gets them
			asked = append(asked, map[string]string{name: m.Value})
		}
	}
	for _, m := range all {
		if m.Kind == spec.ParameterName {
			ask(m)
		}
	}
	why := map[[2]string]string{} // by name and value
	for _, set := range asked {
		bad, err := p.Refuses(ctx, set)
		if err != nil {
			break // it can not be asked; it says itself what it does not take
		}
		for name, text := range bad {
			why[[2]string{name, set[name]}] = text
		}
	}
	has := p.Extensions(ctx)
	for _, m := range all {
		of := "cluster " + m.Cluster
		if m.Of != "" {
			of = m.Of + " of " + of
		}
		switch m.Kind {
		case spec.ParameterName:
			if text := why[[2]string{strings.ToLower(m.Name), m.Value}]; text != "" {
				found = append(found, spec.Finding{
					Kind: spec.Problem, Line: m.Line, Text: fmt.Sprintf("PostgreSQL %d refuses a parameter of %s: %s", p.Major, of, text),
					Do: "correct it, or take it out",
				})
			}
		case spec.LibraryName:
			if !postgres.HasLibrary(p.Bin, m.Name) {
				found = append(found, spec.Finding{
					Kind: spec.Warning, Line: m.Line, Text: fmt.Sprintf("PostgreSQL %d of this machine has no library %q, which %s is to load", p.Major, m.Name, of),
					Do: "install its package, or take it out of pg_libs",
				})
			}
		case spec.ExtensionName:
			if len(has) > 0 && !slices.Contains(has, m.Name) {
				found = append(found, spec.Finding{
					Kind: spec.Warning, Line: m.Line, Text: fmt.Sprintf("PostgreSQL %d of this machine has no extension %q, which %s is to have", p.Major, m.Name, of),
					Do: "correct its name, or install its package",
				})
			}
		}
	}
	return found
}
