package repo

import (
	"cmp"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Type says how much of the cluster a backup stores.
type Type string

// The types of backups.
const (
	Full Type = "full" // everything
	Diff Type = "diff" // what changed since the last full one
	Incr Type = "incr" // what changed since the last of any type
)

// Names of the repository's files.
const (
	ArchiveInfoName = "archive.info"
	BackupInfoName  = "backup.info"
	ManifestName    = "backup.manifest"
	Copy            = ".copy" // what is appended for the second of two equal files
)

// ArchivePath is a name in the archive of a stanza.
func ArchivePath(stanza string, parts ...string) string {
	return path.Join("archive", stanza, path.Join(parts...))
}

// BackupPath is a name among the backups of a stanza.
func BackupPath(stanza string, parts ...string) string {
	return path.Join("backup", stanza, path.Join(parts...))
}

// HistoryPath is where the manifest of a backup outlives it.
func HistoryPath(stanza, label string) string {
	when := label
	if i := strings.IndexByte(label, '_'); i >= 0 {
		when = label[i+1:]
	}
	return BackupPath(stanza, "backup.history", when[:4], label+".manifest.gz")
}

var (
	fullLabel      = regexp.MustCompile(`^\d{8}-\d{6}F$`)
	dependentLabel = regexp.MustCompile(`^\d{8}-\d{6}F_\d{8}-\d{6}[DI]$`)
	archiveID      = regexp.MustCompile(`^\d+(\.\d+)?-\d+$`)
	segmentName    = regexp.MustCompile(`^[0-9A-F]{24}$`)
	storedName     = regexp.MustCompile(`^([0-9A-F]{24})(\.partial)?-([0-9a-f]{40})(\.gz|\.lz4|\.zst|\.bz2)?$`)
	walName        = regexp.MustCompile(`^([0-9A-F]{24}(\.partial|\.[0-9A-F]{8}\.backup)?|[0-9A-F]{8}\.history)$`)
)

// IsLabel says whether name is that of a backup.
func IsLabel(name string) bool {
	return fullLabel.MatchString(name) || dependentLabel.MatchString(name)
}

// FullOf is the full backup that a label's chain begins with.
func FullOf(label string) string { return label[:16] }

// IsArchiveID says whether name is a directory of WAL: 15-1.
func IsArchiveID(name string) bool { return archiveID.MatchString(name) }

// IsSegment says whether name is that of a WAL segment.
func IsSegment(name string) bool { return segmentName.MatchString(name) }

// IsWAL says whether name is one that PostgreSQL asks an archive for or offers it.
func IsWAL(name string) bool { return walName.MatchString(name) }

const stamp = "20060102-150405"

// Label names a backup that begins at now. It sorts after last, the newest
// label there is, or it would be taken for an older backup; a clock that went
// back by less than two hours (summer time) is stepped over, one that went
// back further is an error.
func Label(t Type, now time.Time, prior, last string) (string, error) {
	make := func(at time.Time) string {
		when := at.Format(stamp)
		switch t {
		case Full:
			return when + "F"
		case Diff:
			return FullOf(prior) + "_" + when + "D"
		}
		return FullOf(prior) + "_" + when + "I"
	}
	label := make(now)
	if moment(label) > moment(last) {
		return label, nil
	}
	after, err := time.ParseInLocation(stamp, moment(last), now.Location())
	if err != nil || after.Sub(now) > 2*time.Hour {
		return "", Errorf(Clock, "new backup label '%s' is not later than latest backup label '%s'; has the clock been set back, or the time zone changed?", label, last)
	}
	return make(after.Add(time.Second)), nil
}

// moment is the time in a label.
func moment(label string) string {
	if len(label) < 16 {
		return ""
	}
	if dependentLabel.MatchString(label) {
		label = label[17:]
	}
	return label[:15]
}

// Later orders labels by their time.
func Later(a, b string) int { return cmp.Compare(moment(a), moment(b)) }

// A Segment is a WAL segment as the archive stores it.
type Segment struct {
	Name     string // 24 digits
	Partial  bool   // the end of a timeline that was left
	Checksum string // SHA-1 of its content
	Coding   Compression
}

// ParseSegment reads the name of a stored segment.
func ParseSegment(name string) (Segment, bool) {
	m := storedName.FindStringSubmatch(name)
	if m == nil {
		return Segment{}, false
	}
	return Segment{m[1], m[2] != "", m[3], compressionOf(m[4])}, true
}

// String is the name it is stored by.
func (s Segment) String() string {
	partial := ""
	if s.Partial {
		partial = ".partial"
	}
	return s.Name + partial + "-" + s.Checksum + s.Coding.Ext()
}

// WALPath is where the archive keeps a WAL file; stored is its name there.
func WALPath(stanza, id, stored string) string {
	if len(stored) >= 24 && segmentName.MatchString(stored[:24]) {
		return ArchivePath(stanza, id, stored[:16], stored)
	}
	return ArchivePath(stanza, id, stored)
}

// Segments names the segments of one timeline from first to last.
func Segments(first, last string, size int64) ([]string, error) {
	if !IsSegment(first) || !IsSegment(last) || first[:8] != last[:8] || size <= 0 || size > 1<<32 {
		return nil, Errorf(BadFormat, "no range of segments from '%s' to '%s'", first, last)
	}
	per := uint64(1<<32) / uint64(size)
	at, end := segmentNumber(first, per), segmentNumber(last, per)
	if end < at || end-at > 1<<20 {
		return nil, Errorf(BadFormat, "no range of segments from '%s' to '%s'", first, last)
	}
	var all []string
	for ; at <= end; at++ {
		all = append(all, fmt.Sprintf("%s%08X%08X", first[:8], at/per, at%per))
	}
	return all, nil
}

func segmentNumber(name string, per uint64) uint64 {
	high, _ := strconv.ParseUint(name[8:16], 16, 32)
	low, _ := strconv.ParseUint(name[16:], 16, 32)
	return high*per + low
}

// NextSegment is the one after name.
func NextSegment(name string, size int64) string {
	per := uint64(1<<32) / uint64(size)
	n := segmentNumber(name, per) + 1
	return fmt.Sprintf("%s%08X%08X", name[:8], n/per, n%per)
}

// A Compression is the way objects are compressed, by pgBackRest's name.
type Compression string

// The compressions.
const (
	None Compression = "none"
	Gzip Compression = "gz"
	LZ4  Compression = "lz4"
	Zstd Compression = "zst"
	Bzip Compression = "bz2"
)

// Compressions are all that can be read.
var Compressions = []Compression{None, Gzip, LZ4, Zstd, Bzip}

// Ext is what is appended to an object's name.
func (c Compression) Ext() string {
	if c == None || c == "" {
		return ""
	}
	return "." + string(c)
}

func compressionOf(ext string) Compression {
	if ext == "" {
		return None
	}
	return Compression(ext[1:])
}

// Level is what pgBackRest compresses at when nobody says otherwise.
func (c Compression) Level() int64 {
	switch c {
	case Gzip:
		return 6
	case LZ4:
		return 1
	case Zstd:
		return 3
	case Bzip:
		return 9
	}
	return 0
}

// Known says whether c is a compression at all.
func (c Compression) Known() bool { return slices.Contains(Compressions, c) }

// Size prints bytes as pgBackRest does: 25.2MB, 4MB, 16B. (It leaves the
// decimal out when it is zero before rounding, so 3.97 is 4.0 and 4.04 is 4.)
func Size(n int64) string {
	units := []string{"B", "KB", "MB", "GB", "TB", "PB"}
	i, size := 0, float64(n)
	for size >= 1024 && i < len(units)-1 {
		i, size = i+1, size/1024
	}
	if i == 0 || int64(size*10)%10 == 0 {
		return fmt.Sprintf("%d%s", int64(size), units[i])
	}
	return fmt.Sprintf("%.1f%s", size, units[i])
}
