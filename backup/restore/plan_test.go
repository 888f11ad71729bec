package restore

import (
	"io"
	"testing"

	"howdah/backup/repo"
	"howdah/pg"
)

// The log is followed over timelines, and a gap is told from its end.
func TestPlan(t *testing.T) {
	const sum = "-da39a3ee5e6b4b0d3255bfef95601890afd80709.zst"
	segment := func(tl pg.Timeline, n uint64) string { return tl.Segment(pg.LSN(n<<24), 16<<20) }
	const left = "1\t0/5000028\tno recovery target specified\n" // timeline 1 was left in segment 5
	for _, tt := range []struct {
		name          string
		have          []string
		history       string
		last, missing string
		timeline      pg.Timeline
		segments      int
	}{
		{"one timeline", []string{segment(1, 3), segment(1, 4)}, "", segment(1, 4), "", 1, 2},
		{"older WAL does not count", []string{segment(1, 1), segment(1, 3)}, "", segment(1, 3), "", 1, 1},
		{"nothing", nil, "", "", "", 1, 0},
		{"not even the first", []string{segment(1, 4)}, "", "", segment(1, 3), 1, 0},
		{"a gap", []string{segment(1, 3), segment(1, 5)}, "", segment(1, 3), segment(1, 4), 1, 1},
		{"over a promotion", []string{segment(1, 3), segment(1, 4), segment(2, 5), segment(2, 6)}, left, segment(2, 6), "", 2, 4},
		{"the segment of the promotion is there of both", []string{segment(1, 3), segment(1, 4), segment(1, 5), segment(2, 5), segment(2, 6)}, left, segment(2, 6), "", 2, 4},
		{"a gap before the promotion", []string{segment(1, 3), segment(2, 5)}, left, segment(1, 3), segment(1, 4), 2, 1},
		{"a gap after it", []string{segment(1, 3), segment(1, 4), segment(2, 5), segment(2, 7)}, left, segment(2, 5), segment(2, 6), 2, 3},
		{"the archive ends with the promotion", []string{segment(1, 3), segment(1, 4)}, left, segment(1, 4), "", 2, 2},
		{"of a timeline that came from elsewhere", []string{segment(1, 3), segment(2, 4)}, "3\t0/1000000\tx\n", segment(1, 3), "", 1, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := stored(t)
			info, err := s.BackupInfo(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			m, err := s.Manifest(t.Context(), info.Backups[0].Label, info)
			if err != nil {
				t.Fatal(err)
			}
			m.ArchiveStart, m.ArchiveStop, m.LSNStart, m.LSNStop = segment(1, 3), segment(1, 3), "0/3000028", "0/3000100"
			if err := s.FinishManifest(t.Context(), m, info); err != nil {
				t.Fatal(err)
			}
			put := func(name, text string) {
				if err := s.Put(t.Context(), repo.WALPath("t", "15-1", name), func(w io.Writer) error { _, err := io.WriteString(w, text); return err }); err != nil {
					t.Fatal(err)
				}
			}
			for _, name := range tt.have {
				put(name+sum, "")
			}
			if tt.history != "" {
				put("00000002.history", tt.history)
			}
			p, err := Restore{Type: Default}.Plan(t.Context(), s)
			if err != nil || p.Last != tt.last || p.Missing != tt.missing || p.Timeline != tt.timeline || p.Segments != tt.segments {
				t.Errorf("up to %q (%d segments) on %s, missing %q, %v; want %q (%d) on %s, %q", p.Last, p.Segments, p.Timeline, p.Missing, err, tt.last, tt.segments, tt.timeline, tt.missing)
			}
		})
	}
}
