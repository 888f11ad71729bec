package cli

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestPgExporter(t *testing.T) {
	base := Exporter{
		Discover: true, Exclude: []string{"template0", "template1", "postgres"}, Connect: 100 * time.Millisecond,
		Listen: ":9630", Path: "/metrics", Level: "info", Format: "logfmt",
	}
	for _, tt := range []struct {
		name   string
		called string
		args   string
		env    map[string]string
		with   func(*Exporter)
		code   int
		says   string
	}{
		{name: "as it comes", args: "pg_exporter"},
		{name: "called by its name", called: "/usr/bin/pg_exporter", args: "-u postgres:///x -c a.yml", with: func(o *Exporter) { o.URL, o.Config = "postgres:///x", "a.yml" }},
		{
			name: "flags", args: "pg_exporter --label=a=b,c=d --tag x,y --no-auto-discovery --connect-timeout 250 --include-database app -L 127.0.0.1:1 --disable-cache",
			with: func(o *Exporter) {
				o.Labels, o.Tags, o.Discover = [][2]string{{"a", "b"}, {"c", "d"}}, []string{"x", "y"}, false
				o.Connect, o.Include, o.Listen, o.NoCache = 250*time.Millisecond, []string{"app"}, "127.0.0.1:1", true
			},
		},
		{
			name: "variables, and a flag that wins", args: "pg_exporter --url postgres:///flag",
			env:  map[string]string{"PG_EXPORTER_URL": "postgres:///variable", "PG_EXPORTER_NAMESPACE": "db", "PG_EXPORTER_AUTO_DISCOVERY": "false"},
			with: func(o *Exporter) { o.URL, o.Namespace, o.Discover = "postgres:///flag", "db", false },
		},
		{name: "refused by name", args: "pg_exporter --web.config.file web.yml", code: NotDone, says: "exporter-unsupported"},
		{name: "no label", args: "pg_exporter --label a", code: Usage, says: "name=value"},
		{name: "no number", args: "pg_exporter", env: map[string]string{"PG_EXPORTER_CONNECT_TIMEOUT": "soon"}, code: Usage, says: "PG_EXPORTER_CONNECT_TIMEOUT=soon"},
	} {
		var got *Exporter
		var out, errs strings.Builder
		code := Run(t.Context(), strings.Fields(tt.args), Process{
			Out: &out, Err: &errs, Called: tt.called, Env: func(name string) string { return tt.env[name] },
			Roles: Roles{PgExporter: func(_ context.Context, o Exporter) error { got = &o; return nil }},
		})
		if code != tt.code || !strings.Contains(errs.String(), tt.says) {
			t.Errorf("%s: %d %s", tt.name, code, errs.String())
		}
		want := base
		if tt.with != nil {
			tt.with(&want)
		}
		if tt.code == Done && (got == nil || fmt.Sprint(*got) != fmt.Sprint(want)) {
			t.Errorf("%s:\n got %+v\nwant %+v", tt.name, got, want)
		}
	}
}
