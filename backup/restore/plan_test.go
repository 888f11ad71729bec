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
	const whole = 16 << 20
	segment := func(tl pg.Timeline, n uint64) string { return tl.Segment(pg.LSN(n<<24), 16<<20) }
	const left = "1\t0/5000028\tno recovery target specified\n" // timeline 1 was left in segment 5
	for _, tt := range []struct {
		name          string
		have          []string
		history       string
		last, missing string
		timeline      pg.Timeline
		segments      int
		tails         map[string]int64 // bytes of segments that were streamed
		end           pg.LSN
	}{
		{"one timeline", []string{segment(1, 3), segment(1, 4)}, "", segment(1, 4), "", 1, 2, nil, 0},
		{"older WAL does not count", []string{segment(1, 1), segment(1, 3)}, "", segment(1, 3), "", 1, 1, nil, 0},
		{"nothing", nil, "", "", "", 1, 0, nil, 0},
		{"not even the first", []string{segment(1, 4)}, "", "", segment(1, 3), 1, 0, nil, 0},
		{"a gap", []string{segment(1, 3), segment(1, 5)}, "", segment(1, 3), segment(1, 4), 1, 1, nil, 0},
		{"over a promotion", []string{segment(1, 3), segment(1, 4), segment(2, 5), segment(2, 6)}, left, segment(2, 6), "", 2, 4, nil, 0},
		{"the segment of the promotion is there of both", []string{segment(1, 3), segment(1, 4), segment(1, 5), segment(2, 5), segment(2, 6)}, left, segment(2, 6), "", 2, 4, nil, 0},
		{"a gap before the promotion", []string{segment(1, 3), segment(2, 5)}, left, segment(1, 3), segment(1, 4), 2, 1, nil, 0},
		{"a gap after it", []string{segment(1, 3), segment(1, 4), segment(2, 5), segment(2, 7)}, left, segment(2, 5), segment(2, 6), 2, 3, nil, 0},
		{"the archive ends with the promotion", []string{segment(1, 3), segment(1, 4)}, left, segment(1, 4), "", 2, 2, nil, 0},
		{"of a timeline that came from elsewhere", []string{segment(1, 3), segment(2, 4)}, "3\t0/1000000\tx\n", segment(1, 3), "", 1, 1, nil, 0},
		{"the end was streamed", []string{segment(1, 3)}, "", segment(1, 4), "", 1, 2, map[string]int64{segment(1, 4): 0x100}, 0x4000100},
		{"whole segments were", []string{segment(1, 3)}, "", segment(1, 5), "", 1, 3, map[string]int64{segment(1, 4): whole, segment(1, 5): 0x100}, 0x5000100},
		{"what is archived needs no tail", []string{segment(1, 3), segment(1, 4)}, "", segment(1, 4), "", 1, 2, map[string]int64{segment(1, 4): 0x100}, 0},
		{"streamed behind a gap", []string{segment(1, 3)}, "", segment(1, 3), "", 1, 1, map[string]int64{segment(1, 5): 0x100}, 0},
		{"archived behind what was streamed", []string{segment(1, 3), segment(1, 5)}, "", segment(1, 4), segment(1, 4), 1, 2, map[string]int64{segment(1, 4): 0x100}, 0x4000100},
		{"streamed beyond where the timeline was left", []string{segment(1, 3), segment(1, 4)}, left, segment(1, 5), "", 2, 3, map[string]int64{segment(1, 5): whole, segment(1, 6): 0x100}, 0x5000028},
		{"streamed of both timelines", []string{segment(1, 3), segment(1, 4)}, left, segment(2, 5), "", 2, 3, map[string]int64{segment(1, 5): whole, segment(2, 5): 0x200}, 0x5000200},
		{"streamed of the later one", []string{segment(1, 3), segment(1, 4), segment(2, 5)}, left, segment(2, 6), "", 2, 4, map[string]int64{segment(1, 5): whole, segment(2, 6): 0x200}, 0x6000200},
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
			for name, end := range tt.tails {
				piece := repo.Piece{To: end, Checksum: sum[1:41], Coding: repo.Zstd}
				if err := s.Put(t.Context(), repo.TailPath("t", "15-1", name, piece.String()), func(io.Writer) error { return nil }); err != nil {
					t.Fatal(err)
				}
			}
			if tt.history != "" {
				put("00000002.history", tt.history)
			}
			p, err := Restore{Type: Default}.Plan(t.Context(), s)
			if err != nil || p.Last != tt.last || p.Missing != tt.missing || p.Timeline != tt.timeline || p.Segments != tt.segments || p.End != tt.end {
				t.Errorf("up to %q (%d segments, %s) on %s, missing %q, %v; want %q (%d, %s) on %s, %q",
					p.Last, p.Segments, p.End, p.Timeline, p.Missing, err, tt.last, tt.segments, tt.end, tt.timeline, tt.missing)
			}
		})
	}
}
