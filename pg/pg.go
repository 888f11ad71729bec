// Package pg holds the words PostgreSQL itself uses: log positions, timelines,
// history files, system identifiers, versions and connection strings.
//
// It reads and prints them exactly as the server does and touches nothing.
// Sources: src/include/access/xlogdefs.h (XLogRecPtr, TimeLineID),
// src/backend/access/transam/timeline.c (history files),
// src/interfaces/libpq/fe-connect.c (connection strings).
package pg

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// An LSN is a byte position in the write-ahead log; 0 means unknown.
// It prints as the server prints it ("16/B374D848") and travels in JSON as a
// decimal number, which is how Patroni publishes positions.
type LSN uint64

// String prints the position as two hexadecimal halves.
func (l LSN) String() string { return fmt.Sprintf("%X/%X", uint64(l)>>32, uint32(l)) }

// ParseLSN reads the server's form of a position.
func ParseLSN(s string) (LSN, error) {
	hi, lo, ok := strings.Cut(s, "/")
	h, err1 := strconv.ParseUint(hi, 16, 32)
	l, err2 := strconv.ParseUint(lo, 16, 32)
	if !ok || err1 != nil || err2 != nil {
		return 0, fmt.Errorf("log position %q is not of the form X/Y in hexadecimal", s)
	}
	return LSN(h<<32 | l), nil
}

// Behind returns by how many bytes l lies before other, never less than zero.
func (l LSN) Behind(other LSN) int64 {
	if other <= l {
		return 0
	}
	return int64(other - l)
}

// A Timeline is a branch of the log's history; every promotion starts a new
// one. 0 means unknown.
type Timeline uint32

// String prints the timeline as a decimal number.
func (t Timeline) String() string { return strconv.FormatUint(uint64(t), 10) }

// HistoryFile is the name of the timeline's history file in pg_wal.
func (t Timeline) HistoryFile() string { return fmt.Sprintf("%08X.history", uint32(t)) }

// Segment is the name of the log segment that holds byte l, for segments of
// size bytes (16 MiB unless initdb was told otherwise).
func (t Timeline) Segment(l LSN, size uint64) string {
	n, per := uint64(l)/size, uint64(1)<<32/size
	return fmt.Sprintf("%08X%08X%08X", uint32(t), uint32(n/per), uint32(n%per))
}

// ParseSegment reads a segment's name: its timeline, and where it begins.
func ParseSegment(name string, size uint64) (Timeline, LSN, error) {
	var parts [3]uint64
	if len(name) != 24 || size == 0 || size > 1<<32 {
		return 0, 0, fmt.Errorf("%q is no segment", name)
	}
	for i := range parts {
		var err error
		if parts[i], err = strconv.ParseUint(name[8*i:8*i+8], 16, 32); err != nil {
			return 0, 0, fmt.Errorf("%q is no segment", name)
		}
	}
	return Timeline(parts[0]), LSN(parts[1]<<32 + parts[2]*size), nil
}

// A Switch is one line of a history file: Timeline was left at position At.
type Switch struct {
	Timeline Timeline
	At       LSN
	Reason   string
}

// History is the ancestry of a timeline, oldest first.
type History []Switch

// ParseHistory reads a history file as readTimeLineHistory does: empty lines
// and comments are passed over, timelines must increase.
func ParseHistory(text string) (History, error) {
	var h History
	for n, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		fields := strings.SplitN(line, "\t", 3)
		if len(fields) < 2 {
			fields = strings.Fields(line)
		}
		if len(fields) < 2 {
			return nil, fmt.Errorf("history file line %d: %q has no switch point", n+1, line)
		}
		tl, err := strconv.ParseUint(strings.TrimSpace(fields[0]), 10, 32)
		if err != nil {
			return nil, fmt.Errorf("history file line %d: %q is not a timeline", n+1, fields[0])
		}
		at, err := ParseLSN(strings.TrimSpace(fields[1]))
		if err != nil {
			return nil, fmt.Errorf("history file line %d: %w", n+1, err)
		}
		if tl == 0 || len(h) > 0 && Timeline(tl) <= h[len(h)-1].Timeline {
			return nil, fmt.Errorf("history file line %d: timeline %d is out of sequence", n+1, tl)
		}
		s := Switch{Timeline: Timeline(tl), At: at}
		if len(fields) > 2 {
			s.Reason = strings.TrimSpace(fields[2])
		}
		h = append(h, s)
	}
	return h, nil
}

// Left returns where timeline t was left, and whether h mentions it at all.
func (h History) Left(t Timeline) (LSN, bool) {
	for _, s := range h {
		if s.Timeline == t {
			return s.At, true
		}
	}
	return 0, false
}

// A SystemID names the database system an initdb created; 0 means unknown.
type SystemID uint64

// String prints the identifier as pg_controldata does.
func (s SystemID) String() string { return strconv.FormatUint(uint64(s), 10) }

// ErrSystemID says that text is no system identifier.
var ErrSystemID = errors.New("not a system identifier: at least ten digits are expected")

// ParseSystemID reads an identifier; Patroni's rule (digits only, ten or more)
// tells it from a marker.
func ParseSystemID(text string) (SystemID, error) {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil || len(text) < 10 {
		return 0, fmt.Errorf("%q: %w", text, ErrSystemID)
	}
	return SystemID(n), nil
}

// Supported majors, oldest first.
const (
	OldestMajor = 14
	NewestMajor = 18
)

// A DSN is the settings of a libpq connection string, in order.
type DSN [][2]string

// String prints key='value' pairs as libpq reads them; empty values are left out.
func (d DSN) String() string {
	var b strings.Builder
	for _, kv := range d {
		if kv[1] == "" {
			continue
		}
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(kv[0] + "=" + quoteDSN(kv[1]))
	}
	return b.String()
}

func quoteDSN(s string) string {
	if !strings.ContainsAny(s, ` '\`+"\t\n\v\f\r") {
		return s
	}
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
}

// QuoteIdent quotes a name for use in SQL.
func QuoteIdent(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }

// QuoteLiteral quotes text for use in SQL; with standard_conforming_strings on,
// a backslash needs the E form.
func QuoteLiteral(s string) string {
	q := "'" + strings.ReplaceAll(s, "'", "''") + "'"
	if strings.Contains(s, `\`) {
		return "E" + strings.ReplaceAll(q, `\`, `\\`)
	}
	return q
}

// VersionNum reads a version as people write it, "15.4" or "9.6.3", as the
// number that the server calls server_version_num.
func VersionNum(text string) (int, error) {
	parts := strings.Split(text, ".")
	if len(parts) < 2 || len(parts) > 3 {
		return 0, fmt.Errorf("invalid PostgreSQL version %q: two or three numbers with points are expected", text)
	}
	var n [3]int
	for i, p := range parts {
		v, err := strconv.ParseUint(p, 10, 16)
		if err != nil || v > 99 {
			return 0, fmt.Errorf("invalid PostgreSQL version %q: %q is no part of one", text, p)
		}
		n[i] = int(v)
	}
	if len(parts) == 2 {
		n = [3]int{n[0], 0, n[1]}
	}
	return n[0]*10000 + n[1]*100 + n[2], nil
}
