package cli

import (
	"testing"
	"time"

	"howdah/control"
)

func TestAlertsText(t *testing.T) {
	now := time.Date(2026, 11, 22, 3, 0, 0, 0, time.Local)
	down := control.Alert{Name: "MemberDown", Severity: "CRIT", State: control.Firing, Member: "demo-3", Problem: "member-down", Summary: "demo-3 of demo is down", Since: now.Add(-5 * time.Minute)}
	load := control.Alert{Name: "NodeLoadHigh", Severity: "WARN", State: control.Pending, Member: "demo-1", Problem: "processor-high", Summary: "busy", Since: now.Add(-30 * time.Second)}
	for _, tt := range []struct {
		all        []control.Alert
		text, line string
	}{
		{nil, "nothing fires\n", "nothing fires"},
		{
			[]control.Alert{down, load}, `CRIT MemberDown             demo-3 of demo is down
                            since 2026-11-22 02:55:00 (5 min ago); see member-down in docs/problems.md
WARN NodeLoadHigh           busy
                            pending, since 2026-11-22 02:59:30 (30 s ago); see processor-high in docs/problems.md
`, "one fires: CRIT MemberDown demo-3 (howdah alerts)",
		},
		{[]control.Alert{down, down, down, down}, "", "4 fire: CRIT MemberDown demo-3, CRIT MemberDown demo-3, CRIT MemberDown demo-3 … (howdah alerts)"},
	} {
		if got := alertsText(tt.all, now); tt.text != "" && got != tt.text {
			t.Errorf("got\n%s\nwant\n%s", got, tt.text)
		}
		if got := alertsLine(control.Alerts{All: tt.all}); got != tt.line {
			t.Errorf("got %s, want %s", got, tt.line)
		}
	}
	if got, want := alertsLine(control.Alerts{Unwell: "it does not answer"}), "unknown: it does not answer"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	got := samplesText([]control.Sample{{Labels: map[string]string{"__name__": "pg_up", "ins": "demo-1", "cls": "demo"}, Value: "1"}, {Value: "3"}})
	if want := "pg_up{cls=\"demo\",ins=\"demo-1\"} 1\n{} 3\n"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
