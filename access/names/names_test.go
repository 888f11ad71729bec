package names

import (
	"fmt"
	"testing"

	"howdah/cluster"
	"howdah/spec"
)

func TestNames(t *testing.T) {
	member := func(name, host string, running bool) cluster.PictureMember {
		return cluster.PictureMember{Name: name, Host: host, Running: running}
	}
	base := func() View {
		return View{
			Zone: spec.Zone{Cluster: "pg-test", Suffix: ".Pigsty", Members: []spec.Named{
				{Name: "pg-test-1", Address: "10.10.10.11"}, {Name: "pg-test-2", Address: "10.10.10.12"}, {Name: "pg-test-3", Address: "10.10.10.13", Offline: true},
			}},
			Known: true,
			Picture: cluster.Picture{Leader: "pg-test-1", Members: []cluster.PictureMember{
				member("pg-test-1", "10.10.10.11", true), member("pg-test-2", "10.10.10.12", true), member("pg-test-3", "10.10.10.13", true),
			}},
		}
	}
	const nobody, none, foreign = "waiting", "absent", "foreign"
	for _, tt := range []struct {
		name string
		with func(*View)
		want map[string]string
	}{
		{"as it is", nil, map[string]string{
			"pg-test.pigsty.": "[10.10.10.11]", "PG-Test.pigsty": "[10.10.10.11]", "pg-test": foreign, "pg-test-primary": "[10.10.10.11]",
			"pg-test-replica.pigsty": "[10.10.10.12]", "pg-test-offline": "[10.10.10.13]", "pg-test-2": "[10.10.10.12]",
			"pg-test-2.pigsty": "[10.10.10.12]", "pg-test-4": none, "pg-test-4.elsewhere.org": foreign, "example.org": foreign, ".": foreign,
			"i.pigsty": "[10.10.10.10 fd00::10]", "g.pigsty": "[10.10.10.10]",
		}},
		{"another leads", func(v *View) { v.Picture.Leader = "pg-test-2" }, map[string]string{
			"pg-test.pigsty": "[10.10.10.12]", "pg-test-primary": "[10.10.10.12]", "pg-test-replica": "[10.10.10.11]", "pg-test-1": "[10.10.10.11]",
		}},
		{"nobody leads", func(v *View) { v.Picture.Leader = "" }, map[string]string{
			"pg-test.pigsty": nobody, "pg-test-primary": nobody, "pg-test-replica": "[10.10.10.11 10.10.10.12]",
		}},
		{"nothing was seen yet", func(v *View) { v.Known = false }, map[string]string{
			"pg-test.pigsty": nobody, "pg-test-replica": nobody, "pg-test-1": "[10.10.10.11]",
		}},
		{"the primary alone", func(v *View) {
			v.Picture.Members[1].Running, v.Picture.Members[2].Running = false, false
		}, map[string]string{"pg-test-replica": "[10.10.10.11]", "pg-test-offline": nobody}},
		{"no member for slow queries", func(v *View) { v.Picture.Members[2].Running = false }, map[string]string{"pg-test-offline": "[10.10.10.12]"}},
		{"a virtual address", func(v *View) { v.Zone.Target, v.Picture.Leader = "10.10.10.2", "" }, map[string]string{
			"pg-test.pigsty": "[10.10.10.2]", "pg-test-primary": nobody,
		}},
		{"no name", func(v *View) { v.Zone.Target = "none" }, map[string]string{"pg-test.pigsty": foreign, "pg-test-1": "[10.10.10.11]"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := base()
			if tt.with != nil {
				tt.with(&v)
			}
			table := Make([]View{v}, []string{"10.10.10.10 i.pigsty  g.pigsty", "fd00::10 I.pigsty", "nonsense x", ""})
			for name, want := range tt.want {
				addrs, kind := table.Find(name)
				got := map[Kind]string{Foreign: foreign, Absent: none, Waiting: nobody, Present: fmt.Sprint(addrs)}[kind]
				if got != want {
					t.Errorf("%s is %s, want %s", name, got, want)
				}
			}
			if !table.Equal(Make([]View{v}, []string{"10.10.10.10 i.pigsty g.pigsty", "fd00::10 i.pigsty"})) {
				t.Error("the same table is another")
			}
			v.Picture.Leader = "pg-test-3"
			if table.Equal(Make([]View{v}, nil)) {
				t.Error("another table is the same")
			}
		})
	}
}
