package repo

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestPieceName(t *testing.T) {
	p := Piece{From: 0, To: 0x42A18, Checksum: strings.Repeat("ab", 20), Coding: Zstd}
	if got, ok := ParsePiece(p.String()); !ok || got != p {
		t.Errorf("%s is read as %+v, %t", p, got, ok)
	}
	for _, name := range []string{"", "00000000-00000000-" + p.Checksum, "00000010-00000008-" + p.Checksum + ".zst", p.String() + ".pgbackrest.tmp", "0-8-" + p.Checksum} {
		if got, ok := ParsePiece(name); ok {
			t.Errorf("%q is read as %+v", name, got)
		}
	}
}

func TestLead(t *testing.T) {
	for _, tt := range []struct {
		pieces string // from-to
		want   string
		end    int64
	}{
		{"", "", 0},
		{"0-4", "0-4", 4},
		{"0-4 4-9", "0-4 4-9", 9},
		{"4-9 0-4", "0-4 4-9", 9},
		{"4-9", "", 0},
		{"0-4 5-9", "0-4", 4},
		{"0-4 4-6 0-8 6-9", "0-8 6-9", 9}, // begun again, and gone on
		{"0-4 2-6 3-9 9-12", "0-4 3-9 9-12", 12},
		{"0-4 0-4 4-5 2-3", "0-4 4-5", 5},
	} {
		var pieces []Piece
		for _, text := range strings.Fields(tt.pieces) {
			var p Piece
			if _, err := fmt.Sscanf(text, "%d-%d", &p.From, &p.To); err != nil {
				t.Fatal(err)
			}
			pieces = append(pieces, p)
		}
		way, end := Lead(pieces)
		var got []string
		for _, p := range way {
			got = append(got, fmt.Sprintf("%d-%d", p.From, p.To))
		}
		if !slices.Equal(got, strings.Fields(tt.want)) || end != tt.end {
			t.Errorf("%q: %v to %d, want %s to %d", tt.pieces, got, end, tt.want, tt.end)
		}
	}
}
