package restore

import (
	"errors"
	"fmt"
	"testing"
	"time"
)

func TestMarks(t *testing.T) {
	got := marks([]byte(`rmgr: Transaction len (rec/tot):     34/    34, tx:        737, lsn: 0/01537A68, prev 0/01537A30, desc: COMMIT 2026-11-21 21:11:14.123456 UTC
rmgr: Transaction len (rec/tot):     34/    34, tx:        738, lsn: 0/01537A90, prev 0/01537A68, desc: ABORT 2026-11-21 21:11:15.000000 UTC
rmgr: Transaction len (rec/tot):    405/   405, tx:        739, lsn: 0/01537AB8, prev 0/01537A90, desc: COMMIT 2026-11-21 21:11:16.5 UTC; inval msgs: catcache 51 catcache 50
rmgr: XLOG        len (rec/tot):     98/    98, tx:          0, lsn: 0/01537C50, prev 0/01537AB8, desc: RESTORE_POINT before the release
rmgr: XLOG        len (rec/tot):     24/    24, tx:          0, lsn: 0/01537CB8, prev 0/01537C50, desc: SWITCH
`))
	want := "[{0/1537A68 737 2026-11-21 21:11:14.123456 +0000 UTC } {0/1537AB8 739 2026-11-21 21:11:16.5 +0000 UTC } {0/1537C50  0001-01-01 00:00:00 +0000 UTC before the release}]"
	if fmt.Sprint(got) != want {
		t.Errorf("got  %v\nwant %s", got, want)
	}
}

// Whatever the segments hold, the search finds what reading all of them finds,
// and reads few.
func TestAround(t *testing.T) {
	noon := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	at := func(s int) time.Time { return noon.Add(time.Duration(s) * time.Second) }
	log := func(segments ...[]int) [][]Mark {
		all := make([][]Mark, len(segments))
		for i, seconds := range segments {
			for _, s := range seconds {
				all[i] = append(all[i], Mark{XID: fmt.Sprint(s), At: at(s)})
			}
		}
		return all
	}
	long := make([][]int, 1000)
	for i := range long {
		if i%7 != 3 {
			long[i] = []int{10 * i, 10*i + 5}
		}
	}
	for _, tt := range []struct {
		name          string
		log           [][]Mark
		to            int
		before, after string
		reads         int
	}{
		{"no log", nil, 5, "", "", 0},
		{"nothing in it", log(nil, nil), 5, "", "", 4},
		{"within a segment", log([]int{1, 4}, []int{6, 9}), 7, "6", "9", 9},
		{"between two", log([]int{1, 4}, []int{6, 9}), 5, "4", "6", 9},
		{"between two, with empty ones", log([]int{1, 4}, nil, nil, []int{6, 9}), 5, "4", "6", 9},
		{"that very commit is there", log([]int{1, 4}, []int{6, 9}), 6, "6", "9", 9},
		{"before all", log(nil, []int{6, 9}), 5, "", "6", 9},
		{"after all", log([]int{1, 4}, []int{6, 9}, nil), 10, "9", "", 9},
		{"many", log(long...), 5013, "5010", "5015", 40},
		{"many, at an empty one", log(long...), 5072, "5065", "5080", 40},
	} {
		reads := 0
		before, after, err := around(len(tt.log), at(tt.to), func(i int) ([]Mark, error) { reads++; return tt.log[i], nil })
		xid := func(m *Mark) string {
			if m == nil {
				return ""
			}
			return m.XID
		}
		if err != nil || xid(before) != tt.before || xid(after) != tt.after || reads > tt.reads {
			t.Errorf("%s: between %q and %q after %d reads, %v; want %q and %q, at most %d", tt.name, xid(before), xid(after), reads, err, tt.before, tt.after, tt.reads)
		}
	}
	broken := errors.New("broken")
	if _, _, err := around(3, noon, func(int) ([]Mark, error) { return nil, broken }); !errors.Is(err, broken) {
		t.Errorf("a segment that cannot be read: %v", err)
	}
}
