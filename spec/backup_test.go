package spec_test

import (
	"slices"
	"testing"
	"time"

	"howdah/spec"
)

func TestBackupTime(t *testing.T) {
	const form = "2006-01-02 15:04:05"
	for _, tt := range []struct{ line, after, next string }{
		{"0 1 * * 0 full", "2026-11-21 12:00:00", "2026-11-22 01:00:00"}, // a Saturday
		{"0 1 * * 7 full", "2026-11-21 12:00:00", "2026-11-22 01:00:00"},
		{"0 1 * * 1-6 incr", "2026-11-21 00:59:59", "2026-11-21 01:00:00"},
		{"0 1 * * 1-6 incr", "2026-11-21 01:00:00", "2026-11-23 01:00:00"},
		{"*/20 * * * * diff", "2026-11-21 12:40:00", "2026-11-21 13:00:00"},
		{"5,35 8-9 * * * incr", "2026-11-21 09:35:00", "2026-11-22 08:05:00"},
		{"0 0 29 2 * full", "2026-11-21 00:00:00", "2028-02-29 00:00:00"},
		{"0 0 13 * 5 full", "2026-11-21 00:00:00", "2026-11-27 00:00:00"}, // a Friday, or the 13th
		{"0 0 31 2 * full", "2026-11-21 00:00:00", "0001-01-01 00:00:00"},
	} {
		line, err := spec.ParseBackupTime(tt.line)
		if err != nil {
			t.Errorf("%s: %v", tt.line, err)
			continue
		}
		after, err := time.Parse(form, tt.after)
		if err != nil {
			t.Fatal(err)
		}
		if got := line.Next(after).Format(form); got != tt.next {
			t.Errorf("%s after %s: %s, want %s", tt.line, tt.after, got, tt.next)
		}
	}
	for _, bad := range []string{"", "0 1 * * 0", "0 1 * * 0 most", "60 1 * * 0 full", "0 1-0 * * 0 full", "0 1 * * */0 full", "0 1 0 * * full", "a 1 * * * full"} {
		if _, err := spec.ParseBackupTime(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestCronBackup(t *testing.T) {
	for _, tt := range []struct{ line, want string }{
		{"00 01 * * * /pg/bin/pg-backup full", "00 01 * * * full"},
		{"00 01 * * * postgres /pg/bin/pg-backup full", "00 01 * * * full"},
		{"00 01 * * 1-6 /pg/bin/pg-backup", "00 01 * * 1-6 incr"},
		{"0 1 * * * pgbackrest --stanza=main --type=diff backup", "0 1 * * * diff"},
		{"0 1 * * 0 full", "0 1 * * 0 full"},
		{"0 1 * * * pgbackrest --stanza=main expire", ""},
		{"0 4 * * * /pg/bin/pg-vacuum", ""},
		{"# 0 1 * * * /pg/bin/pg-backup full", ""},
	} {
		if got, ok := spec.CronBackup(tt.line); got != tt.want && ok || ok != (tt.want != "") {
			t.Errorf("%s: %q, %v, want %q", tt.line, got, ok, tt.want)
		}
	}
}

func TestHolders(t *testing.T) {
	b := spec.Backup{Copies: 2, Members: []spec.Holder{{Member: "a"}, {Member: "b"}, {Member: "c"}}}
	for leader, want := range map[string][]string{"a": {"a", "b"}, "c": {"c", "a"}, "x": nil} {
		if got := b.Holders(leader); !slices.Equal(got, want) {
			t.Errorf("%s leads: %v hold, want %v", leader, got, want)
		}
	}
	b.Copies = 9
	if got := b.Holders("b"); !slices.Equal(got, []string{"b", "c", "a"}) {
		t.Errorf("more copies than members: %v", got)
	}
}

func TestBucketIsHere(t *testing.T) {
	for at, want := range map[spec.Bucket]bool{
		{Endpoint: "localhost"}: true, {Endpoint: "http://127.0.0.1:9000/"}: true, {Endpoint: "[::1]:9000"}: true, {Endpoint: "s3.lab", Host: "127.10.10.11"}: true,
		{Endpoint: "sss.pigsty"}: false, {Endpoint: "https://10.10.10.10:9000"}: false, {Endpoint: "localhost", Host: "10.10.10.10"}: false, {}: false, {Endpoint: "localhost.example.com"}: false,
	} {
		if got := at.Here(); got != want {
			t.Errorf("%+v: %t", at, got)
		}
	}
}

// What has come waits for the interval, or until it is enough; who waits for enough
// looks more often.
func TestStreamIsDue(t *testing.T) {
	const often = 240 * time.Millisecond
	for _, tt := range []struct {
		s      spec.Stream
		waited time.Duration
		bytes  int64
		due    bool
		look   time.Duration
	}{
		{spec.Stream{}, often, 1, true, often},
		{spec.Stream{}, often / 2, 1 << 30, false, often},
		{spec.Stream{Size: 1000}, often / 2, 999, false, often / 8},
		{spec.Stream{Size: 1000}, often / 2, 1000, true, often / 8},
		{spec.Stream{Size: 1000}, often, 1, true, often / 8},
	} {
		if due, look := tt.s.Due(tt.waited, often, tt.bytes), tt.s.Look(often); due != tt.due || look != tt.look {
			t.Errorf("%+v after %s with %d bytes: %t, looked each %s; want %t, %s", tt.s, tt.waited, tt.bytes, due, look, tt.due, tt.look)
		}
	}
}
