package postgres

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"

	"howdah/pg"
)

// control is pg_control: what pg_controldata prints, read from the file so
// that looking costs no process and works where that program is missing.
type control struct {
	pg.Control
	segment uint64         // bytes of a log segment
	least   map[string]int // settings that a standby must not undercut
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var errControl = errors.New("pg_control is damaged or of an unknown version")

// readControl reads global/pg_control. The server replaces it by one write, which a
// reader may see half done: the checksum tells, and the next try reads it whole.
func readControl(data string) (c control, err error) {
	path := filepath.Join(data, "global", "pg_control")
	for range 5 {
		var raw []byte
		if raw, err = os.ReadFile(path); err != nil {
			return control{}, err
		}
		if c, err = parseControl(raw); err == nil {
			return c, nil
		}
	}
	return control{}, fmt.Errorf("%s: %w", path, err)
}

// parseControl reads ControlFileData (src/include/catalog/pg_control.h). From
// 14 to 18 the fields we need did not move: CheckPoint gained wal_level in a
// hole, and 18 one flag just before the checksum, which the checksum finds.
func parseControl(b []byte) (control, error) {
	le := binary.LittleEndian
	if len(b) < 300 {
		return control{}, errControl
	}
	whole := false
	for _, at := range []int{288, 292} {
		whole = whole || crc32.Checksum(b[:at], castagnoli) == le.Uint32(b[at:])
	}
	states := []pg.ControlState{
		pg.ControlStartingUp, pg.ControlShutDown, pg.ControlShutDownInRecovery, pg.ControlShuttingDown,
		pg.ControlInCrashRecovery, pg.ControlInArchiveRecovery, pg.ControlInProduction,
	}
	state := le.Uint32(b[16:])
	if !whole || state >= uint32(len(states)) {
		return control{}, errControl
	}
	u32 := func(at int) int { return int(le.Uint32(b[at:])) }
	return control{
		Control: pg.Control{
			State:      states[state],
			System:     pg.SystemID(le.Uint64(b)),
			Checkpoint: pg.LSN(le.Uint64(b[32:])),
			Redo:       pg.LSN(le.Uint64(b[40:])),
			Timeline:   pg.Timeline(le.Uint32(b[48:])),
			MinEnd:     pg.LSN(le.Uint64(b[136:])),
			MinEndTL:   pg.Timeline(le.Uint32(b[144:])),
			LogHints:   b[176] != 0,
			Checksums:  le.Uint32(b[252:]) != 0,
		},
		segment: uint64(le.Uint32(b[228:])),
		least: map[string]int{
			"max_connections":           u32(180),
			"max_worker_processes":      u32(184),
			"max_wal_senders":           u32(188),
			"max_prepared_transactions": u32(192),
			"max_locks_per_transaction": u32(196),
		},
	}, nil
}
