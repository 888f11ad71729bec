package cli

import (
	"testing"
	"time"

	"howdah/observe/logbook"
)

func TestParseSince(t *testing.T) {
	now := time.Date(2026, 11, 22, 15, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		text string
		want time.Time
	}{
		{"", time.Time{}},
		{"10m", now.Add(-10 * time.Minute)},
		{"1h30m", now.Add(-90 * time.Minute)},
		{"2d", now.AddDate(0, 0, -2)},
		{"10 minutes ago", now.Add(-10 * time.Minute)},
		{"14:30", now.Add(-30 * time.Minute)},
		{"2026-11-21 14:30:00+00", now.Add(-24*time.Hour - 30*time.Minute)},
	} {
		if got, err := parseSince("--since", tt.text, now); err != nil || !got.Equal(tt.want) {
			t.Errorf("%q: %v %v, want %v", tt.text, got, err, tt.want)
		}
	}
	for _, text := range []string{"soon", "-5m", "latest", "0/3000060", "12345678d"} {
		if got, err := parseSince("--since", text, now); err == nil {
			t.Errorf("%q is taken for %v", text, got)
		}
	}
}

// A record for a person is one line and what is further in; no byte of it rules the terminal.
func TestLogText(t *testing.T) {
	at := time.Date(2026, 11, 22, 15, 0, 0, 0, time.Local)
	for _, tt := range []struct {
		r    logbook.Record
		want string
	}{
		{
			logbook.Record{
				Source: logbook.Source{Member: "demo-1", Job: logbook.Postgres}, Time: at, Level: logbook.Err, Message: "a\nb\x1b[2J",
				Fields: []logbook.Field{{Name: "user", Value: "app"}, {Name: "db", Value: "shop"}, {Name: "lv", Value: "ERROR"}, {Name: "q", Value: "SELECT\n1"}},
			},
			"2026-11-22 15:00:00.000 demo-1 postgres err app@shop: a\n    b\uFFFD[2J\n    STATEMENT:  SELECT\n    1\n",
		},
		{
			logbook.Record{
				Source: logbook.Source{Member: "demo-1", Job: "agent"}, Time: at, Level: logbook.Info, Message: "decision",
				Fields: []logbook.Field{{Name: "trail", Value: "a b"}, {Name: "n", Value: "1"}},
			},
			"2026-11-22 15:00:00.000 demo-1 agent info: decision trail=\"a b\" n=1\n",
		},
		{logbook.Record{Message: "x"}, "- debug: x\n"},
	} {
		if got := logText(tt.r); got != tt.want {
			t.Errorf("got  %q\nwant %q", got, tt.want)
		}
	}
}
