package repo

import (
	"encoding/json"
	"fmt"
	"path"
	"time"
)

// A Hole is WAL that no archive has any more, because it was given up or was lost:
// what comes after it is reached from a backup that is later, too.
type Hole struct {
	First    string    `json:"first"`            // segment
	Last     string    `json:"last"`             // the last of them; what lies between may be there
	Segments int       `json:"segments"`         // that are missing, as far as is known
	At       time.Time `json:"at"`               // when that was found, or decided
	Member   string    `json:"member,omitempty"` // who led
	Why      string    `json:"why"`
	Backup   string    `json:"backup,omitempty"` // the first that was made after it
}

// Covers says that a segment is one of the hole's.
func (h Hole) Covers(segment string) bool {
	return segment[:8] == h.First[:8] && segment >= h.First && segment <= h.Last
}

// String tells of it in words.
func (h Hole) String() string {
	return fmt.Sprintf("%s to %s (%d): %s, %s", h.First, h.Last, h.Segments, h.Why, h.At.UTC().Format(time.RFC3339))
}

// HolePath is where holes are recorded: beside archive and backup, where no
// pgBackRest looks.
//
//	wal-holes/STANZA/15-1/000000010000000000000005.json
func HolePath(stanza string, rest ...string) string {
	return path.Join(append([]string{"wal-holes", stanza}, rest...)...)
}

// Roots are the directories of all that a stanza has in a repository.
func Roots(stanza string) []string {
	return []string{ArchivePath(stanza), BackupPath(stanza), TailPath(stanza), HolePath(stanza)}
}

// ParseHole reads a record.
func ParseHole(data []byte) (h Hole, err error) {
	if err := json.Unmarshal(data, &h); err != nil {
		return Hole{}, Errorf(BadFormat, "record of missing WAL: %w", err)
	}
	if !IsSegment(h.First) || !IsSegment(h.Last) || h.First[:8] != h.Last[:8] || h.Last < h.First {
		return Hole{}, Errorf(BadFormat, "record of missing WAL: from '%s' to '%s'", h.First, h.Last)
	}
	return h, nil
}

// Bytes is the record as it is stored.
func (h Hole) Bytes() []byte {
	b, _ := json.Marshal(h) // it has nothing that does not
	return append(b, '\n')
}
