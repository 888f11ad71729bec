package control

import (
	"testing"
	"time"

	"howdah/problem"
)

func TestParseMoment(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 30, 0, 0, time.UTC)
	for _, tt := range []struct{ text, kind, value string }{
		{"latest", "latest", ""},
		{"immediate", "immediate", ""},
		{"1 minute ago", "time", "2026-11-21 12:29:00+00"},
		{"90s ago", "time", "2026-11-21 12:28:30+00"},
		{"2 days ago", "time", "2026-11-19 12:30:00+00"},
		{"11:15", "time", "2026-11-21 11:15:00+00"},
		{"2026-11-20 10:00:00.25+01", "time", "2026-11-20 09:00:00.25+00"},
		{"time: 2026-11-20T10:00:00Z", "time", "2026-11-20 10:00:00+00"},
		{"0/3000060", "lsn", "0/3000060"},
		{"lsn:a/b", "lsn", "A/B"},
		{"742", "xid", "742"},
		{"before_release", "name", "before_release"},
		{"name:742", "name", "742"},
		{"name:latest", "name", "latest"},
	} {
		got, err := ParseMoment(tt.text, now)
		if err != nil || got.Kind != tt.kind || got.Value != tt.value {
			t.Errorf("%q: %s %q, %v, want %s %q", tt.text, got.Kind, got.Value, err, tt.kind, tt.value)
		}
	}
	for _, bad := range []string{"", " ", "lsn:12", "xid:x", "time:never", "yesterday at noon", "name:"} {
		if got, err := ParseMoment(bad, now); problem.Code(err) != "restore-target" {
			t.Errorf("%q is taken for %+v, %v", bad, got, err)
		}
	}
}
