package kept

import (
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

const gib = 1 << 30

func TestSpare(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	data := func(age time.Duration) Entry {
		return Entry{Name: Data(now.Add(-age)), At: now.Add(-age), Data: true}
	}
	log := func(age time.Duration, bytes int64) Entry {
		return Entry{Name: Log(now.Add(-age), "3-0-5000000"), At: now.Add(-age), Bytes: bytes}
	}
	const hour, day = time.Hour, 24 * time.Hour
	roomy := Disk{Size: 100 * gib, Free: 50 * gib}
	tight := Disk{Size: 100 * gib, Free: 9 * gib}
	for _, c := range []struct {
		what string
		all  []Entry
		disk Disk
		gone []Entry
	}{
		{"nothing", nil, tight, nil},
		{"the newest data stay", []Entry{data(hour)}, roomy, nil},
		{"older data go, the oldest first", []Entry{data(hour), data(3 * hour), data(2 * hour)}, roomy, []Entry{data(3 * hour), data(2 * hour)}},
		{"after a week the newest goes too", []Entry{data(8 * day)}, roomy, []Entry{data(8 * day)}},
		{"and when room is scarce", []Entry{data(hour)}, tight, []Entry{data(hour)}},
		{"what is being made stays", []Entry{data(time.Second), data(hour)}, tight, []Entry{data(hour)}},
		{"log stays, also when room is scarce", []Entry{log(hour, gib), log(day, gib)}, tight, nil},
		{"log goes after thirty days", []Entry{log(hour, 1), log(31*day, 1)}, roomy, []Entry{log(31*day, 1)}},
		{"but never the newest", []Entry{log(31*day, 1)}, tight, nil},
		{
			"log beyond its share goes, the oldest first",
			[]Entry{log(3*hour, gib), log(hour, 3*gib), log(2*hour, 2*gib)},
			roomy,
			[]Entry{log(3*hour, gib), log(2*hour, 2*gib)},
		},
	} {
		if gone := Spare(c.all, c.disk, now); !slices.Equal(gone, c.gone) {
			t.Errorf("%s: %v goes; want %v", c.what, gone, c.gone)
		}
	}
}

func TestTidy(t *testing.T) {
	dir := t.TempDir()
	now := time.Now()
	old, newest, young := Data(now.Add(-2*time.Hour)), Data(now.Add(-time.Hour)), Log(now, "1-0-3000000")
	stay := []string{newest, young, "before-20261122", "a person's file"}
	for _, name := range append(stay, old) {
		if err := os.MkdirAll(filepath.Join(dir, name, "base"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name, "base", "1"), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := tidy(t.Context(), filepath.Join(dir, "none"), slog.New(slog.DiscardHandler)); err != nil {
		t.Errorf("nothing was put aside: %v", err)
	}
	if err := tidy(t.Context(), dir, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	var left []string
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		left = append(left, e.Name())
	}
	slices.Sort(stay)
	slices.Sort(left)
	if !slices.Equal(left, stay) && !(len(left) == len(stay)-1 && !slices.Contains(left, newest)) { // where room is scarce here
		t.Errorf("left: %q; want %q", left, stay)
	}
}
