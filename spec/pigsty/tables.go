package pigsty

import (
	"fmt"

	"howdah/spec"
)

// Tables are an inventory as Pigsty's CMDB has it (files/cmdb.sql): a group knows its
// hosts by address, and no group is below another.
type Tables struct {
	Vars   map[string]any   `json:"vars"`
	Groups map[string]Group `json:"groups"`
}

// A Group of Tables.
type Group struct {
	Vars  map[string]any            `json:"vars"`
	Hosts map[string]map[string]any `json:"hosts"` // by address, with what is said there
}

// AsTables takes an inventory apart. It refuses one that tables can not hold.
func AsTables(file string, text []byte) (Tables, error) {
	r := &reader{file: file, known: newCatalogue()}
	root := r.read(text)
	t := Tables{Vars: map[string]any{}, Groups: map[string]Group{}}
	if r.failed() {
		return t, spec.World{File: file, Findings: r.findings}.Err()
	}
	if native(root) {
		return t, fmt.Errorf("%s is of the short form, and the tables are of Pigsty's", file)
	}
	inv := r.inventory(root)
	if r.failed() {
		return t, spec.World{File: file, Findings: r.findings}.Err()
	}
	vars := func(v *value) map[string]any {
		if v.null() {
			return map[string]any{}
		}
		return v.plain().(map[string]any)
	}
	t.Vars = vars(inv.vars)
	for _, g := range inv.groups {
		if g.parent != nil || g.name == "ungrouped" {
			return t, fmt.Errorf("%s: group %s: the tables have groups of hosts alone, none below another", r.place(g.line), g.name)
		}
		hosts := map[string]map[string]any{}
		for _, e := range g.own {
			hosts[e.host.name] = vars(e.vars) // an IPv4 address: others are refused above
		}
		t.Groups[g.name] = Group{vars(g.vars), hosts}
	}
	return t, nil
}
