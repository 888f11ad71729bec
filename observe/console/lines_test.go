package console

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"howdah/control"
	"howdah/observe/logbook"
	"howdah/problem"
)

// logged is one line a second of two clusters; a member is away.
type logged struct{ begun time.Time }

func (l logged) Read(_ context.Context, q control.LogQuery, tell func(logbook.Record) error) error {
	q.Away(&problem.Error{Code: "logs-away", What: "cannot read the logs of demo-3"})
	for i := range 600 {
		for _, name := range []string{"demo", "other"} {
			r := logbook.Record{Source: logbook.Source{Cluster: name, Member: name + "-1", Job: "agent"}, Time: l.begun.Add(time.Duration(i) * time.Second), Level: logbook.Level(i % 3), Message: fmt.Sprint("m", i, strings.Repeat("x", longLine))}
			if q.Wants(r) {
				if err := tell(r); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// Around what happened the lines of that cluster are told, and who could not be asked.
func TestLines(t *testing.T) {
	begun := time.UnixMilli(1_800_000_000_000)
	c := New(Options{Clusters: map[string]Looked{"demo": demo()}, Password: "open sesame", Log: quiet(), Metrics: http.NotFoundHandler(), Logs: logged{begun}})
	base, ask := served(t, c)
	path := fmt.Sprintf("%s/api/lines?cluster=demo&at=%d&for=", base, begun.Add(100*time.Second).UnixMilli())
	if r, _ := get(t, ask, path+"0"); r.StatusCode != http.StatusUnauthorized {
		t.Errorf("before anybody came in: %d", r.StatusCode)
	}
	logIn(t, ask, base, "open sesame")
	r, text := get(t, ask, path+"1500.5")
	// 85 to 116.5 s, without what is for debugging.
	if n := strings.Count(text, `"member":"demo-1"`); r.StatusCode != 200 || n != 22 || strings.Contains(text, "other-1") || !strings.Contains(text, "cannot read the logs of demo-3") || !strings.Contains(text, "m85x") || len(text) > 22*(longLine+200) {
		t.Errorf("%d, %d lines: %.300s", r.StatusCode, n, text)
	}
	for _, bad := range []string{"", "-1", "600001", "NaN"} {
		if r, text := get(t, ask, path+bad); r.StatusCode != http.StatusBadRequest {
			t.Errorf("for %q: %d %s", bad, r.StatusCode, text)
		}
	}
	if r, _ := get(t, ask, base+"/api/lines?cluster=nobody&at=1&for=1"); r.StatusCode != http.StatusNotFound {
		t.Errorf("of nobody: %d", r.StatusCode)
	}
}
