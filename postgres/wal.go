package postgres

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"howdah/pg"
)

// walNames returns the names in pg_wal, sorted.
func walNames(data string) ([]string, error) {
	d, err := os.Open(filepath.Join(data, "pg_wal"))
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	slices.Sort(names)
	return names, err
}

// isSegment says whether a name in pg_wal is that of a log segment.
func isSegment(name string) bool {
	return len(name) == 24 && strings.Trim(name, "0123456789ABCDEF") == ""
}

// End returns the end of the valid log on disk of a server that is not
// running: where crash recovery would stop reading. Everything it could have
// acknowledged lies before. It reads from the latest checkpoint's redo, at the
// speed of a checksum, and needs no program: pg_waldump is not installed everywhere.
func (s *Server) End(ctx context.Context) (pg.LSN, error) {
	ctl, err := s.stopped("find the end of the log")
	if err != nil {
		return 0, err
	}
	from := ctl.Redo
	if ctl.State == pg.ControlShutDown {
		from = ctl.Checkpoint // its last record
	}
	end, err := walEnd(ctx, filepath.Join(s.data, "pg_wal"), ctl.segment, ctl.Timeline, from)
	if err != nil {
		return 0, fmt.Errorf("find the end of the log: %w", err)
	}
	return max(end, ctl.MinEnd), nil
}

// The log's format (src/include/access/xlog_internal.h, xlogrecord.h):
//
//	page  | magic 2 | info 2 | timeline 4 | address 8 | remaining 4 | pad 4 | (first of a segment: system 8 | segment 4 | page 4)
//	record| length 4 | xid 4 | previous 8 | info 1 | rmgr 1 | pad 2 | crc 4 | body …   at multiples of 8, across pages
const (
	walPage        = 8192
	walContinues   = 0x0001 // XLP_FIRST_IS_CONTRECORD: the page begins inside a record
	walOverwritten = 0x0008 // XLP_FIRST_IS_OVERWRITE_CONTRECORD: a record that a crash cut off was given up
	walRecord      = 24     // SizeOfXLogRecord
)

// errWALEnd says that what follows is not valid log.
var errWALEnd = errors.New("end of the log")

// walEnd walks the records from one that is known to begin at from, and
// returns where the last valid one ends.
func walEnd(ctx context.Context, dir string, segment uint64, tl pg.Timeline, from pg.LSN) (pg.LSN, error) {
	if segment == 0 || segment%walPage != 0 {
		return 0, fmt.Errorf("a segment of %d bytes", segment)
	}
	names, err := walNames(filepath.Dir(dir))
	if err != nil {
		return 0, err
	}
	w := &walReader{dir: dir, names: names, segment: segment, timeline: tl}
	defer w.close()
	at, prev := from, pg.LSN(0)
	for {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		start, next, err := w.record(at, prev)
		if errors.Is(err, errWALEnd) {
			return at, nil
		}
		if err != nil {
			return 0, err
		}
		at, prev = next, start
	}
}

type walReader struct {
	dir      string
	names    []string // in pg_wal, sorted
	segment  uint64
	timeline pg.Timeline // of the segment that is open

	file   *os.File
	number uint64 // of the segment that is open
	page   [walPage]byte
	loaded pg.LSN // address of page; 0 none
	body   []byte
}

func (w *walReader) close() {
	if w.file != nil {
		w.file.Close()
	}
}

// record checks the record at or, past a page header, just after at: it
// returns where the record starts and where the next may.
func (w *walReader) record(at, prev pg.LSN) (start, next pg.LSN, err error) {
	if at%walPage == 0 {
		if err := w.load(at); err != nil {
			return 0, 0, err
		}
		switch info := binary.LittleEndian.Uint16(w.page[2:]); {
		case info&walOverwritten != 0:
			prev = 0 // it names the record that was given up
		case info&walContinues != 0:
			return 0, 0, errWALEnd
		}
		at += w.header(at)
	} else if err := w.load(at - at%walPage); err != nil {
		return 0, 0, err
	}
	start = at
	length := binary.LittleEndian.Uint32(w.page[at%walPage:])
	if length < walRecord || length > 1<<30 {
		return 0, 0, errWALEnd
	}
	w.body = w.body[:0]
	for left := int(length); ; {
		here := w.page[at%walPage:]
		if left <= len(here) {
			w.body = append(w.body, here[:left]...)
			at += pg.LSN(left)
			break
		}
		w.body = append(w.body, here...)
		left -= len(here)
		at += pg.LSN(len(here))
		if err := w.load(at); err != nil {
			return 0, 0, err
		}
		info := binary.LittleEndian.Uint16(w.page[2:])
		if info&walOverwritten != 0 { // the log goes on at this page without the record
			return start, at, nil
		}
		if info&walContinues == 0 || binary.LittleEndian.Uint32(w.page[16:]) != uint32(left) {
			return 0, 0, errWALEnd
		}
		at += w.header(at)
	}
	crc := crc32.Update(0, castagnoli, w.body[walRecord:])
	crc = crc32.Update(crc, castagnoli, w.body[:20])
	if crc != binary.LittleEndian.Uint32(w.body[20:]) {
		return 0, 0, errWALEnd
	}
	// A segment used again holds valid records of the past: they name another predecessor.
	if before := pg.LSN(binary.LittleEndian.Uint64(w.body[8:])); prev != 0 && before != prev {
		return 0, 0, errWALEnd
	}
	next = (at + 7) &^ 7
	const xlogSwitch = 0x40 // of resource manager 0: the rest of the segment is empty
	if w.body[17] == 0 && w.body[16]&0xF0 == xlogSwitch && uint64(next)%w.segment != 0 {
		next = pg.LSN((uint64(next)/w.segment + 1) * w.segment)
	}
	return start, next, nil
}

// header is the length of the page header at an address.
func (w *walReader) header(at pg.LSN) pg.LSN {
	if uint64(at)%w.segment == 0 {
		return 40
	}
	return 24
}

// load reads the page at an address that is a multiple of its size.
func (w *walReader) load(at pg.LSN) error {
	if w.loaded == at && at != 0 {
		return nil
	}
	number := uint64(at) / w.segment
	if w.file == nil || w.number != number {
		if err := w.open(number); err != nil {
			return err
		}
	}
	w.loaded = 0
	_, err := w.file.ReadAt(w.page[:], int64(uint64(at)%w.segment))
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errWALEnd
	} else if err != nil {
		return err
	}
	if w.page[1] != 0xD1 || pg.LSN(binary.LittleEndian.Uint64(w.page[8:])) != at { // XLOG_PAGE_MAGIC is 0xD1xx
		return errWALEnd
	}
	w.loaded = at
	return nil
}

// open opens a segment on the newest timeline that has it, as recovery does.
func (w *walReader) open(number uint64) error {
	suffix := pg.Timeline(1).Segment(pg.LSN(number*w.segment), w.segment)[8:]
	for _, name := range slices.Backward(w.names) {
		if !isSegment(name) || name[8:] != suffix {
			continue
		}
		tl, _ := strconv.ParseUint(name[:8], 16, 32)
		if pg.Timeline(tl) < w.timeline {
			break
		}
		f, err := os.Open(filepath.Join(w.dir, name))
		if err != nil {
			return err
		}
		w.close()
		w.file, w.number, w.timeline = f, number, pg.Timeline(tl)
		return nil
	}
	return errWALEnd
}
