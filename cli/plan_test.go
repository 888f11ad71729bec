package cli

import (
	"encoding/json"
	"strings"
	"testing"

	"howdah/control"
	"howdah/spec/plan"
)

func reviewed() control.Review {
	return control.Review{Clusters: []control.Reviewed{
		{Cluster: "pg-meta"},
		{Cluster: "pg-test", Plan: plan.Plan{
			Steps: []plan.Step{
				{Object: "role a", What: "set the password of role a", Risk: plan.Reload, Why: "it has another", SQL: []plan.Statement{{Text: `ALTER ROLE "a" PASSWORD '***'`, Password: "a"}}},
				{Object: "member pg-test-1", What: "set work_mem of member pg-test-1", Risk: plan.Reload, Why: "its server takes them while it runs", Settings: []plan.Setting{{Name: "work_mem", To: "5MB"}}},
				{Object: "database b", What: "drop schema s of database b", Risk: plan.Destructive, Why: "it is declared absent", Database: "b", SQL: []plan.Statement{{Text: "DROP SCHEMA \"s\x1b[2J\""}}},
			},
			Drift:   []plan.Note{{Object: "role x", What: "is in no list"}},
			Cannot:  []plan.Note{{Object: "database b", What: "change encoding from A to B", Why: "it is settled"}},
			Missing: []string{"postgis"},
		}},
	}}
}

func TestAPlanIsPrinted(t *testing.T) {
	var out strings.Builder
	planText(&out, reviewed())
	want := `cluster pg-meta: nothing to change
cluster pg-test: 3 changes, at worst destructive
   1  reload       set the password of role a
                   (it has another)
                   ALTER ROLE "a" PASSWORD '***';
   2  reload       set work_mem of member pg-test-1
                   (its server takes them while it runs)
                   work_mem: (nothing) -> 5MB
   3  destructive  drop schema s of database b
                   (it is declared absent)
                   DROP SCHEMA "s` + "\ufffd" + `[2J";   -- in database b
  drift: role x is in no list
  can not be done: database b: change encoding from A to B (it is settled)
  not to be had: extensions postgis, which the leader's PostgreSQL has not
`
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
	text, err := json.Marshal(planJSON(reviewed()))
	var read struct {
		Changes  int
		Risk     string
		Clusters []struct {
			Cluster string
			Steps   []struct {
				What string
				SQL  []string
			}
		}
	}
	if err != nil || json.Unmarshal(text, &read) != nil || read.Changes != 3 || read.Risk != "destructive" || read.Clusters[1].Steps[0].SQL[0] != `ALTER ROLE "a" PASSWORD '***'` {
		t.Errorf("as JSON: %s, %v", text, err)
	}
}

func TestPlanAndApplyNeedAnInventory(t *testing.T) {
	dir := t.TempDir()
	for _, verb := range []string{"plan", "apply"} {
		if code, _, errs := run(t, dir, verb); code != Usage || !strings.Contains(errs, "needs an inventory") {
			t.Errorf("%s: %d, %s", verb, code, errs)
		}
		if code, _, errs := run(t, dir, verb, "nowhere.yml"); code != NotDone || !strings.Contains(errs, "[inventory-unreadable]") {
			t.Errorf("%s nowhere.yml: %d, %s", verb, code, errs)
		}
	}
}
