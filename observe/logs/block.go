package logs

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"math/bits"
	"slices"
	"time"

	"github.com/klauspost/compress/zstd"

	"howdah/observe/logbook"
)

// A segment is a file of blocks, one behind the other:
//
//	+-------+------------+------------+--------------------+------+------+
//	| HLB1  | bytes head | bytes body | CRC-32C head, body | head | body |
//	| 4     | 4          | 4          | 4                  |      |      |
//	+-------+------------+------------+--------------------+------+------+
//
// Numbers are little-endian. The head is JSON: what is in the block, and how far the
// log files had been read when it was written. The body is zstd, of records:
//
//	time, µs after the one before (signed varint) | level (1) | job | fields (uvarint) | name, value … | message
//
// Values are their length (uvarint) and their bytes. Jobs and names of fields are
// numbers of a table that grows as the block is read: a number that is not there yet
// is followed by the word.
const (
	magic    = "HLB1"
	preamble = 16
	blockRaw = 1 << 20  // a body is closed when it has so many bytes, before it is compressed
	bodyMost = 64 << 20 // what is longer is none of ours
	headMost = 1 << 20
	distinct = 64 // users or databases that a head names; with more it says nothing of them
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// A head says what is in a block, so that it need not be opened for nothing.
type head struct {
	From    int64    `json:"from"` // µs since 1970, of its oldest record
	To      int64    `json:"to"`
	Records int      `json:"records"`
	Raw     int      `json:"raw"` // bytes
	Levels  uint     `json:"levels"`
	Jobs    []string `json:"jobs"`
	Users   []string `json:"users,omitempty"`
	Bases   []string `json:"dbs,omitempty"`
	Any     bool     `json:"any,omitempty"` // there are more users or databases than are named

	Files []position `json:"files"`
}

// A position is how far a log file had been read. The file is known by its number,
// and by what it begins with: a number is given to another one day.
type position struct {
	Device uint64 `json:"dev"`
	Inode  uint64 `json:"ino"`
	At     int64  `json:"at"`
	Begins uint32 `json:"sum"` // CRC-32C of its first bytes …
	Bytes  int    `json:"of"`  // … so many
}

// may says whether a record that f wants may be in the block.
func (h head) may(f logbook.Filter) bool {
	has := func(all []string, one string) bool { return one == "" || h.Any || slices.Contains(all, one) }
	switch {
	case !f.Since.IsZero() && h.To < f.Since.UnixMicro(), !f.Until.IsZero() && h.From > f.Until.UnixMicro():
		return false
	case bits.Len(h.Levels) <= int(f.Level): // its worst is not so bad
		return false
	case len(f.Jobs) > 0 && !slices.ContainsFunc(f.Jobs, func(j string) bool { return slices.Contains(h.Jobs, j) }):
		return false
	}
	return has(h.Users, f.User) && has(h.Bases, f.Database)
}

// A builder makes a block of records.
type builder struct {
	head  head
	raw   []byte
	words map[string]uint64
	last  int64
	zip   *zstd.Encoder
}

func newBuilder() (*builder, error) {
	zip, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithWindowSize(blockRaw), zstd.WithLowerEncoderMem(true))
	return &builder{zip: zip, words: map[string]uint64{}}, err
}

func (b *builder) empty() bool { return b.head.Records == 0 }

func (b *builder) full() bool { return len(b.raw) >= blockRaw }

func (b *builder) word(s string) {
	n, ok := b.words[s]
	if !ok {
		n = uint64(len(b.words))
		b.words[s] = n
	}
	if b.raw = binary.AppendUvarint(b.raw, n); !ok {
		b.text(s)
	}
}

func (b *builder) text(s string) {
	b.raw = append(binary.AppendUvarint(b.raw, uint64(len(s))), s...)
}

func (b *builder) add(r logbook.Record) {
	at, h := r.Time.UnixMicro(), &b.head
	if h.Records == 0 {
		h.From, h.To = at, at
	}
	h.From, h.To = min(h.From, at), max(h.To, at)
	h.Records++
	h.Levels |= 1 << r.Level
	b.raw = append(binary.AppendVarint(b.raw, at-b.last), byte(r.Level))
	b.last = at
	b.word(r.Job)
	if !slices.Contains(h.Jobs, r.Job) {
		h.Jobs = append(h.Jobs, r.Job)
	}
	b.raw = binary.AppendUvarint(b.raw, uint64(len(r.Fields)))
	for _, f := range r.Fields {
		b.word(f.Name)
		b.text(f.Value)
		switch f.Name {
		case "user":
			h.Users = h.note(h.Users, f.Value)
		case "db":
			h.Bases = h.note(h.Bases, f.Value)
		}
	}
	b.text(r.Message)
}

func (h *head) note(all []string, one string) []string {
	switch {
	case h.Any || slices.Contains(all, one):
	case len(all) == distinct || len(one) > 63: // PostgreSQL's names are no longer
		h.Any = true
	default:
		return append(all, one)
	}
	return all
}

// block is what was added, with how far the files were read; the builder begins anew.
func (b *builder) block(files []position) ([]byte, error) {
	b.head.Raw, b.head.Files = len(b.raw), files
	text, err := json.Marshal(b.head)
	if err != nil {
		return nil, err
	}
	out := append(make([]byte, preamble, preamble+len(text)+len(b.raw)/4), text...)
	out = b.zip.EncodeAll(b.raw, out)
	copy(out, magic)
	binary.LittleEndian.PutUint32(out[4:], uint32(len(text)))
	binary.LittleEndian.PutUint32(out[8:], uint32(len(out)-preamble-len(text)))
	binary.LittleEndian.PutUint32(out[12:], crc32.Checksum(out[preamble:], castagnoli))
	b.head, b.raw, b.last = head{}, b.raw[:0], 0
	clear(b.words)
	return out, nil
}

var errBlock = errors.New("no block of logs")

// lengths are those of the head and the body of the block that b begins.
func lengths(b []byte) (head, body int64, err error) {
	if len(b) < preamble || string(b[:4]) != magic {
		return 0, 0, errBlock
	}
	head, body = int64(binary.LittleEndian.Uint32(b[4:])), int64(binary.LittleEndian.Uint32(b[8:]))
	if head > headMost || body > bodyMost {
		return 0, 0, errBlock
	}
	return head, body, nil
}

// whole says that b is a block without damage.
func whole(b []byte) bool {
	h, body, err := lengths(b)
	return err == nil && int64(len(b)) == preamble+h+body && crc32.Checksum(b[preamble:], castagnoli) == binary.LittleEndian.Uint32(b[12:])
}

// decode returns the records of a block, those of from.
func decode(b []byte, from logbook.Source, unzip *zstd.Decoder) ([]logbook.Record, error) {
	if !whole(b) {
		return nil, errBlock
	}
	h, _, _ := lengths(b) // whole has seen them
	raw, err := unzip.DecodeAll(b[preamble+h:], nil)
	if err != nil {
		return nil, fmt.Errorf("block of logs: %w", err)
	}
	d := decoder{text: string(raw)} // all records share it
	var all []logbook.Record
	var at int64
	for len(d.text) > 0 && !d.bad {
		r := logbook.Record{Source: from}
		at += d.signed()
		r.Time, r.Level, r.Job = time.UnixMicro(at).UTC(), logbook.Level(d.byte()), d.word()
		n := d.number()
		if n > uint64(len(d.text)) {
			d.bad = true
			break
		}
		r.Fields = make([]logbook.Field, n)
		for i := range r.Fields {
			r.Fields[i] = logbook.Field{Name: d.word(), Value: d.string()}
		}
		if r.Message = d.string(); int(r.Level) >= len(logbook.Levels) {
			d.bad = true
		}
		all = append(all, r)
	}
	if d.bad {
		return nil, errBlock
	}
	return all, nil
}

// A decoder reads the body of a block; bad says that it is none.
type decoder struct {
	text  string
	words []string
	bad   bool
}

func (d *decoder) byte() byte {
	if len(d.text) == 0 {
		d.bad = true
		return 0
	}
	c := d.text[0]
	d.text = d.text[1:]
	return c
}

func (d *decoder) number() (n uint64) {
	for shift := 0; shift < 64; shift += 7 {
		c := d.byte()
		if n |= uint64(c&0x7f) << shift; c < 0x80 {
			return n
		}
	}
	d.bad = true
	return 0
}

// signed is a number as binary.AppendVarint writes it.
func (d *decoder) signed() int64 {
	n := d.number()
	return int64(n>>1) ^ -int64(n&1)
}

func (d *decoder) string() string {
	n := d.number()
	if n > uint64(len(d.text)) {
		d.bad, n = true, 0
	}
	s := d.text[:n]
	d.text = d.text[n:]
	return s
}

func (d *decoder) word() string {
	n := d.number()
	switch {
	case n < uint64(len(d.words)):
		return d.words[n]
	case n > uint64(len(d.words)):
		d.bad = true
		return ""
	}
	d.words = append(d.words, d.string())
	return d.words[n]
}
