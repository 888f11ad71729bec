package console

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"howdah/control"
	"howdah/machine/doctor"
	"howdah/problem"
)

// answering is a cluster whose servers and machines answer.
type answering struct{ *looked }

func (a answering) Activity(_ context.Context, member string) (now control.Activity, err error) {
	if member != "demo-1" {
		return now, &problem.Error{Code: "jobs-away", What: "cannot ask the jobs of " + member}
	}
	now.Sessions = append(now.Sessions, control.Session{PID: 7, Query: "SELECT 'hush'", Statement: "1"})
	return now, nil
}

func (a answering) Statements(context.Context, string, []string) (map[string]string, error) {
	return map[string]string{"1": "SELECT $1 FROM t -- 'x'", "2": "ALTER ROLE a VALID UNTIL 'hush'"}, nil
}

func (a answering) Peeks(context.Context) []control.PeekThere {
	return []control.PeekThere{{Beside: "demo-2"}}
}

func (a answering) Machines(context.Context) []doctor.Finding { return nil }

// What sessions say is for operators; whoever only looks reads no constant.
func TestAsk(t *testing.T) {
	base, ask := opened(t, answering{demo()})
	for _, path := range []string{"activity", "statements", "machines", "peeks"} {
		if r, _ := get(t, ask, base+"/api/"+path+"?cluster=demo&member=demo-1"); r.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s before anybody came in: %d", path, r.StatusCode)
		}
	}
	for password, reads := range map[string]bool{"open sesame": false, "open up": true} {
		logIn(t, ask, base, password)
		for _, path := range []string{"activity", "statements"} {
			r, text := get(t, ask, base+"/api/"+path+"?cluster=demo&member=demo-1&ids=1,2")
			if r.StatusCode != 200 || strings.Contains(text, "hush") != reads || !strings.Contains(text, map[string]string{"activity": `"pid":7`, "statements": "SELECT $1 FROM t "}[path]) {
				t.Errorf("%s for %q: %d %s", path, password, r.StatusCode, text)
			}
		}
		if r, text := get(t, ask, base+"/api/peeks?cluster=demo"); r.StatusCode != 200 || strings.Contains(text, "demo-2") != reads {
			t.Errorf("peeks for %q: %d %s", password, r.StatusCode, text)
		}
		if r, text := get(t, ask, base+"/api/machines?cluster=demo"); r.StatusCode != 200 || !strings.Contains(text, `"findings":[]`) {
			t.Errorf("machines: %d %s", r.StatusCode, text)
		}
		if r, text := get(t, ask, base+"/api/activity?cluster=demo&member=demo-9"); r.StatusCode != http.StatusBadGateway || !strings.Contains(text, "jobs-away") {
			t.Errorf("of somebody who does not answer: %d %s", r.StatusCode, text)
		}
		if r, _ := get(t, ask, base+"/api/activity?cluster=other&member=demo-1"); r.StatusCode != http.StatusNotFound {
			t.Errorf("of another cluster: %d", r.StatusCode)
		}
	}
}
