package repo

import (
	"encoding/binary"
	"hash/crc32"

	"howdah/pg"
)

// What the repository must know of PostgreSQL's own files: which system a WAL
// segment or a data directory belongs to. Catalog and control numbers are those
// of each release's catversion.h and pg_control.h, the magic xlog_internal.h's.

// A Release is what the files of one major version are told by.
type Release struct {
	Version string
	Catalog int
	Control int
	Magic   uint16 // of a WAL page
}

// Releases that have been released.
var Releases = []Release{
	{"9.6", 201608131, 960, 0xD093},
	{"10", 201707211, 1002, 0xD097},
	{"11", 201809051, 1100, 0xD098},
	{"12", 201909212, 1201, 0xD101},
	{"13", 202007201, 1300, 0xD106},
	{"14", 202107181, 1300, 0xD10D},
	{"15", 202209061, 1300, 0xD110},
	{"16", 202307071, 1300, 0xD113},
	{"17", 202406281, 1700, 0xD116},
	{"18", 202506291, 1800, 0xD118},
}

// A WALHeader is what the first page of a segment says.
type WALHeader struct {
	Version string
	System  pg.SystemID
	Size    int64
}

// WALHeaderSize is how many bytes of a segment ParseWALHeader wants.
const WALHeaderSize = 40

// ParseWALHeader reads XLogLongPageHeaderData, which every segment begins with.
func ParseWALHeader(b []byte) (WALHeader, error) {
	if len(b) < WALHeaderSize {
		return WALHeader{}, Errorf(BadFormat, "the file is too short for a WAL segment")
	}
	le := binary.LittleEndian
	const long = 2 // XLP_LONG_HEADER
	magic := le.Uint16(b)
	if le.Uint16(b[2:])&long == 0 {
		return WALHeader{}, Errorf(BadFormat, "first page header in WAL file is expected to be in long format")
	}
	for _, r := range Releases {
		if r.Magic == magic {
			return WALHeader{r.Version, pg.SystemID(le.Uint64(b[24:])), int64(le.Uint32(b[32:]))}, nil
		}
	}
	return WALHeader{}, Errorf(VersionUnsupported, "unexpected WAL magic %d", magic)
}

// A Control is what global/pg_control says of a data directory.
type Control struct {
	DB         DB // without ID
	Checkpoint pg.LSN
	Timeline   pg.Timeline
	Segment    int64 // bytes of a WAL segment
	Checksums  bool
	// Least are settings that the server had: with smaller ones its log is not replayed.
	Least map[string]int
}

// ParseControl reads ControlFileData (12 and later, whose fields stay where
// they are) and proves its checksum.
func ParseControl(b []byte) (Control, error) {
	le := binary.LittleEndian
	if len(b) < 300 {
		return Control{}, Errorf(BadFormat, "pg_control is too short")
	}
	whole := false
	for _, at := range []int{288, 292} { // 18 has one more field
		whole = whole || crc32.Checksum(b[:at], crc32.MakeTable(crc32.Castagnoli)) == le.Uint32(b[at:])
	}
	if !whole {
		return Control{}, Errorf(Checksum, "pg_control has a wrong checksum, or is of a version before 12")
	}
	control, catalog := int(le.Uint32(b[8:])), int(le.Uint32(b[12:]))
	for _, r := range Releases {
		if r.Control == control && r.Catalog == catalog {
			return Control{
				DB:         DB{System: pg.SystemID(le.Uint64(b)), Version: r.Version, Catalog: catalog, Control: control},
				Checkpoint: pg.LSN(le.Uint64(b[32:])),
				Timeline:   pg.Timeline(le.Uint32(b[48:])),
				Segment:    int64(le.Uint32(b[228:])),
				Checksums:  le.Uint32(b[252:]) != 0,
				Least: map[string]int{
					"max_connections": int(le.Uint32(b[180:])), "max_worker_processes": int(le.Uint32(b[184:])),
					"max_wal_senders": int(le.Uint32(b[188:])), "max_prepared_transactions": int(le.Uint32(b[192:])),
					"max_locks_per_transaction": int(le.Uint32(b[196:])),
				},
			}, nil
		}
	}
	return Control{}, Errorf(VersionUnsupported, "unexpected control version = %d and catalog version = %d", control, catalog)
}
