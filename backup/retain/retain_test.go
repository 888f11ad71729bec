package retain

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"howdah/backup/repo"
)

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// list makes one backup a day, the last one day before noon: F, D and I, each
// with a segment of its own.
func list(kinds string) []repo.Backup {
	var all []repo.Backup
	full, last := "", ""
	for i, k := range kinds {
		at := noon.AddDate(0, 0, i-len(kinds))
		b := repo.Backup{Start: at.Unix() - 60, Stop: at.Unix(), DB: 1, Type: map[rune]repo.Type{'F': repo.Full, 'D': repo.Diff, 'I': repo.Incr}[k]}
		b.ArchiveStart = fmt.Sprintf("0000000100000000000000%02X", 2*i)
		b.ArchiveStop = fmt.Sprintf("0000000100000000000000%02X", 2*i+1)
		switch k {
		case 'F':
			b.Label = at.Format("20060102-150405F")
			full = b.Label
		case 'D':
			b.Label, b.Prior = full+at.Format("_20060102-150405D"), full
		case 'I':
			b.Label, b.Prior = full+at.Format("_20060102-150405I"), last
		}
		if b.Prior != "" {
			b.Reference = []string{full}
		}
		last = b.Label
		all = append(all, b)
	}
	return all
}

func TestExpire(t *testing.T) {
	for _, tt := range []struct {
		name, kinds string
		p           Policy
		gone        string // by place in kinds
	}{
		{"no policy keeps all", "FIDFF", Policy{}, ""},
		{"one full", "FIDFI", Policy{Full: 1}, "012"},
		{"two full", "FIFIF", Policy{Full: 2}, "01"},
		{"more than there are", "FIF", Policy{Full: 5}, ""},
		{"one differential, and what hangs on the others", "FDIDI", Policy{Diff: 1}, "12"},
		{"a full counts as differential", "FDIFD", Policy{Diff: 2}, "12"},
		{"three days: the full before stays", "FFFFFF", Policy{Full: 3, ByTime: true}, "01"},
		{"days that none is older than", "FFF", Policy{Full: 9, ByTime: true}, ""},
	} {
		all := list(tt.kinds)
		gone := Expire(all, tt.p, noon)
		got := ""
		for i, b := range all {
			if slices.Contains(gone, b.Label) {
				got += fmt.Sprint(i)
			}
		}
		if got != tt.gone {
			t.Errorf("%s: of %s go %q, want %q", tt.name, tt.kinds, got, tt.gone)
		}
	}
}

func TestOne(t *testing.T) {
	all := list("FIDIF")
	for _, tt := range []struct {
		label int
		gone  int // how many go
	}{{0, 4}, {1, 1}, {2, 2}, {3, 1}, {4, 1}} {
		gone, err := One(all, all[tt.label].Label, 1)
		if err != nil || len(gone) != tt.gone {
			t.Errorf("with %s go %v, %v", all[tt.label].Label, gone, err)
		}
	}
	for _, bad := range []string{"20200101-000000F", list("FI")[0].Label} {
		if _, err := One(list("FI"), bad, 1); repo.ClassOf(err) != repo.BackupSetInvalid {
			t.Errorf("expire %s: %v", bad, err)
		}
	}
}

func TestWAL(t *testing.T) {
	all := list("FIFDF")
	for _, tt := range []struct {
		name string
		p    Policy
		db   int
		want string
	}{
		{"no policy", Policy{}, 1, "everything"},
		{"two full", Policy{Full: 2}, 1, "04-;00-01;02-03"},
		{"WAL for one only, the older stay consistent", Policy{Full: 3, Archive: 1}, 1, "08-;00-01;02-03;04-05;06-07"},
		{"for two, differential ones counted", Policy{Archive: 2, ArchiveOf: repo.Diff}, 1, "06-;00-01;02-03;04-05"},
		{"by time, and none old enough", Policy{Full: 9, ByTime: true}, 1, "everything"},
		{"another system, without backups", Policy{Full: 2}, 2, "nothing"},
	} {
		keep, limited := WAL(all, tt.p, tt.db, noon.AddDate(0, 0, -1))
		var parts []string
		for _, r := range keep {
			stop := ""
			if r.Stop != "" {
				stop = r.Stop[22:]
			}
			parts = append(parts, r.Start[22:]+"-"+stop)
		}
		got := strings.Join(parts, ";")
		if !limited {
			got = "everything"
		} else if got == "" {
			got = "nothing"
		}
		if got != tt.want {
			t.Errorf("%s: keeps %s, want %s", tt.name, got, tt.want)
		}
	}
	if _, limited := WAL(all, Policy{Full: 1, ByTime: true}, 1, noon.AddDate(0, 0, 2)); !limited {
		t.Error("by time, a week later: everything is kept")
	}
}

// Whatever the list and the policy: what stays is whole, and has its WAL.
func TestNothingThatStaysLosesAnything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		kinds := "F" + rapid.StringMatching(`[FDI]{0,12}`).Draw(t, "kinds")
		p := Policy{
			Full: rapid.IntRange(0, 4).Draw(t, "full"), ByTime: rapid.Bool().Draw(t, "by time"), Diff: rapid.IntRange(0, 3).Draw(t, "diff"),
			Archive: rapid.IntRange(0, 3).Draw(t, "archive"), ArchiveOf: rapid.SampledFrom([]repo.Type{"", repo.Full, repo.Diff, repo.Incr}).Draw(t, "of"),
		}
		info := repo.BackupInfo{Backups: list(kinds)}
		newest := info.Backups[len(info.Backups)-1]
		info.Drop(Expire(info.Backups, p, noon)...)
		full := 0
		for _, b := range info.Backups {
			if b.Type == repo.Full {
				full++
			}
			for _, need := range append(b.Reference, b.Prior) {
				if _, ok := info.Find(need); need != "" && !ok {
					t.Fatalf("%s stays without %s", b.Label, need)
				}
			}
		}
		if full == 0 {
			t.Fatal("no full backup is left")
		}
		keep, limited := WAL(info.Backups, p, 1, noon)
		for _, b := range info.Backups {
			for _, segment := range []string{b.ArchiveStart, b.ArchiveStop} {
				if limited && !slices.ContainsFunc(keep, func(r Range) bool { return r.Has(segment) }) {
					t.Fatalf("%s stays without its WAL %s", b.Label, segment)
				}
			}
		}
		if _, ok := info.Find(newest.Label); !ok && newest.Type == repo.Full {
			t.Fatalf("the newest backup %s is gone", newest.Label)
		}
	})
}
