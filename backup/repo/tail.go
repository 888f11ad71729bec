package repo

import (
	"cmp"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
)

// TailPath is where pieces of segments are that the archive does not have yet:
// beside archive and backup, where no pgBackRest looks.
//
//	wal-tail/STANZA/15-1/000000010000000000000005/00000000-00042A18-SHA1.zst
func TailPath(stanza string, rest ...string) string {
	return path.Join(append([]string{TailDir, stanza}, rest...)...)
}

// TailDir is the directory of all tails.
const TailDir = "wal-tail"

// A Piece is a part of a segment, as a tail stores it.
type Piece struct {
	From, To int64 // bytes of the segment
	Checksum string
	Coding   Compression
}

var pieceName = regexp.MustCompile(`^([0-9A-F]{8})-([0-9A-F]{8})-([0-9a-f]{40})(\.(?:gz|lz4|zst|bz2))?$`)

// ParsePiece reads the name of a stored piece.
func ParsePiece(name string) (Piece, bool) {
	m := pieceName.FindStringSubmatch(name)
	if m == nil {
		return Piece{}, false
	}
	from, _ := strconv.ParseInt(m[1], 16, 64)
	to, _ := strconv.ParseInt(m[2], 16, 64)
	return Piece{from, to, m[3], compressionOf(m[4])}, from < to
}

// String is the name it is stored by.
func (p Piece) String() string {
	return fmt.Sprintf("%08X-%08X-%s%s", p.From, p.To, p.Checksum, p.Coding.Ext())
}

// Lead picks the pieces that lead from the beginning of a segment as far as
// possible without a gap, and says how far. Where they overlap, the longer one
// is taken: they are of the same log.
func Lead(pieces []Piece) (way []Piece, end int64) {
	pieces = slices.SortedFunc(slices.Values(pieces), func(a, b Piece) int { return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(b.To, a.To)) })
	for i := 0; i < len(pieces); {
		best := -1
		for ; i < len(pieces) && pieces[i].From <= end; i++ {
			if pieces[i].To > end && (best < 0 || pieces[i].To > pieces[best].To) {
				best = i
			}
		}
		if best < 0 {
			break
		}
		way, end = append(way, pieces[best]), pieces[best].To
	}
	return way, end
}
