package logs

import (
	"slices"
	"strings"

	"howdah/observe/logbook"
)

// tailBytes is what a Tail may hold: whoever asks for many records of long statements
// gets fewer of them.
const tailBytes = 32 << 20

// A Tail is the newest of the records that it is given, the oldest first: Most of them,
// or as many as are not too long.
type Tail struct {
	Most  int
	all   []logbook.Record
	bytes int
	full  bool // some were let go of, or there is room for no more
}

// Add adds a record; none that was added before is newer.
func (t *Tail) Add(r logbook.Record) {
	t.all, t.bytes = append(t.all, r), t.bytes+sizeOf(r)
	for len(t.all) > t.Most || t.bytes > tailBytes && len(t.all) > 1 {
		t.bytes -= sizeOf(t.all[0])
		t.all[0] = logbook.Record{}
		t.all, t.full = t.all[1:], true
	}
	t.full = t.full || len(t.all) == t.Most
}

// Records are those that it holds.
func (t *Tail) Records() []logbook.Record { return t.all }

func sizeOf(r logbook.Record) int {
	n := 128 + len(r.Message)
	for _, f := range r.Fields {
		n += 32 + len(f.Value)
	}
	return n
}

// alone is r without the block that it was read from.
func alone(r logbook.Record) logbook.Record {
	r.Message, r.Fields = strings.Clone(r.Message), slices.Clone(r.Fields)
	for i := range r.Fields {
		r.Fields[i].Value = strings.Clone(r.Fields[i].Value)
	}
	return r
}
