package control

import (
	"slices"
	"strings"
	"testing"

	"howdah/playground"
	"howdah/problem"
	"howdah/spec"
)

// What is planned of the store follows from who carries it and who is to, wherever a
// change before was cut off.
func TestCarriers(t *testing.T) {
	member := func(n string) spec.EtcdMember {
		return spec.EtcdMember{Name: "m" + n, Client: "https://10.10.10.1" + n + ":2379", Peer: "https://10.10.10.1" + n + ":2380"}
	}
	members := func(names string) (all []spec.EtcdMember) {
		for _, n := range strings.Fields(names) {
			all = append(all, member(n))
		}
		return all
	}
	// A node is "name carries knows": "1 + 1,2"; one with a server has a dot: "1. + 1,2".
	nodes := func(texts ...string) (all []spec.Node) {
		for _, text := range texts {
			f := strings.Fields(text)
			name, server := strings.CutSuffix(f[0], ".")
			n := spec.Node{Member: "m" + name, Host: "10.10.10.1" + name, Paths: spec.Paths{Dir: "/d/m" + name}}
			if server {
				n.Postgres.Data = "/d/m" + name + "/data"
			}
			if f[1] == "+" {
				n.Etcd.Member, n.Etcd.Data = n.Member, n.Paths.Dir+"/etcd"
			}
			n.Etcd.Members = members(strings.ReplaceAll(f[2], ",", " "))
			all = append(all, n)
		}
		return all
	}
	for _, tt := range []struct {
		name      string
		was, want []spec.Node
		prune     bool
		steps     string
		risk      string
	}{
		{name: "as it is", was: nodes("1. + 1,2", "2. + 1,2"), want: nodes("1. + 1,2", "2. + 1,2")},
		{name: "a node with a server joins", was: nodes("1. + 1", "2. - 1"), want: nodes("1. + 1,2", "2. + 1,2"), steps: "let m2 join the store", risk: "safe"},
		{name: "a new node joins", was: nodes("1. + 1"), want: nodes("1. + 1,3", "3 + 1,3"), steps: "let m3 join the store", risk: "safe"},
		{name: "it was to join, and nobody was told", was: nodes("1. + 1", "3 + 1,3"), want: nodes("1. + 1,3", "3 + 1,3"), steps: "let m3 join the store", risk: "safe"},
		{name: "one is too many", was: nodes("1. + 1,2,3", "2. + 1,2,3", "3. + 1,2,3"), want: nodes("1. + 1,2", "2. + 1,2", "3. - 1,2"), risk: "safe"},
		{name: "one between others", was: nodes("1. + 1,2,3", "2. + 1,2,3", "3. + 1,2,3"), want: nodes("1. + 1,3", "2. - 1,3", "3. + 1,3"), risk: "safe"},
		{name: "and leaves", was: nodes("1. + 1,2,3", "2. + 1,2,3", "3. + 1,2,3"), want: nodes("1. + 1,2", "2. + 1,2", "3. - 1,2"), prune: true, steps: "remove m3 from the store", risk: "restart"},
		{name: "another in its place", was: nodes("1. + 1,2,3", "2. + 1,2,3", "3 + 1,2,3"), want: nodes("1. + 1,2,4", "2. + 1,2,4", "4 + 1,2,4"), prune: true, steps: "let m4 join the store; remove m3 from the store", risk: "restart"},
		{name: "not all were told", was: nodes("1. + 1,2,3", "2. + 1,2", "3. - 1,2"), want: nodes("1. + 1,2", "2. + 1,2", "3. - 1,2"), prune: true, steps: "describe its members to the nodes", risk: "safe"},
	} {
		a := arrangement{was: tt.was, want: tt.want}
		a.store = playground.Hold(a.was, a.want)
		r := a.reviewStore(Choice{Prune: tt.prune})
		var steps []string
		for _, s := range r.Steps {
			steps = append(steps, s.What)
		}
		if got := strings.Join(steps, "; "); got != tt.steps || r.refused != nil || string(r.Plan.Risk()) != tt.risk && tt.risk != "" {
			t.Errorf("%s: %q, at worst %v, refused %v; want %q, %s", tt.name, got, r.Plan.Risk(), r.refused, tt.steps, tt.risk)
		}
		if tooMany := tt.steps == "" && tt.risk != ""; tooMany != (len(r.Drift) == 1) {
			t.Errorf("%s: drift is %v", tt.name, r.Drift)
		}
		for _, n := range a.want { // everything else leaves the store alone
			if i := slices.IndexFunc(a.was, func(w spec.Node) bool { return w.Member == n.Member }); i >= 0 && n.Etcd.Member != a.was[i].Etcd.Member {
				t.Errorf("%s: %s would carry %q, and carries %q", tt.name, n.Member, n.Etcd.Member, a.was[i].Etcd.Member)
			}
		}
	}

	for _, tt := range []struct {
		name, code string
		was, want  []spec.Node
	}{
		{"of two one leaves", "etcd-quorum", nodes("1. + 1,2", "2. + 1,2"), nodes("1. + 1", "2. - 1")},
		{"of three two leave", "etcd-quorum", nodes("1. + 1,2,3", "2. + 1,2,3", "3. + 1,2,3"), nodes("1. + 1", "2. - 1", "3. - 1")},
	} {
		a := arrangement{was: tt.was, want: tt.want}
		a.store = playground.Hold(a.was, a.want)
		if r := a.reviewStore(Choice{Prune: true}); problem.Code(r.refused) != tt.code || len(r.Steps) > 0 || len(r.Cannot) != 1 {
			t.Errorf("%s: %v, %v", tt.name, r.Steps, r.refused)
		}
	}
	a := arrangement{was: nodes("1. + 1"), want: nodes("1. + 1")}
	other := member("1")
	other.Name = "m9"
	a.store = []spec.EtcdMember{other}
	if r := a.reviewStore(Choice{}); problem.Code(r.refused) != "store-fixed" {
		t.Errorf("another name on the same host: %v, %v", r.Steps, r.refused)
	}
}
