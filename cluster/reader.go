package cluster

import (
	"bytes"
	"slices"
	"strings"
)

// A Reader parses the snapshots of one store one after another. What a value
// says depends on its name and bytes alone, so a value that stayed as it was is
// not read again, and a directory in which nothing changed is the last one.
// States that it returned share what did not change: whoever has one only reads
// it. The zero Reader has read nothing.
type Reader struct {
	keys  []entry // of the last snapshot, sorted
	known map[string]known
	last  State
}

// known is what a value was found to say.
type known struct {
	value []byte
	says  any
	err   error
}

// An entry is a key and the directory it is in, as an index in dirs.
type entry struct {
	KV
	dir int
}

// dirs are the directories that are kept whole; what is in none of them has index 0.
var dirs = [...]string{"", DirMembers, DirRecorded, DirPledges, DirRequests, DirSchedules, DirSuspects, DirWhy, DirFailovers, DirGateways}

// begin takes the next snapshot up, and says in which directories nothing changed.
func (r *Reader) begin(keys map[string]KV) (same [len(dirs)]bool) {
	if !r.update(keys, &same) {
		r.replace(keys)
		same = [len(dirs)]bool{}
	}
	same[0] = false // these are few, and problems among them are listed anew
	if len(r.last.Problems) > 0 {
		same = [len(dirs)]bool{}
	}
	return same
}

// update takes up new values of the same keys; false: they are not the same keys.
func (r *Reader) update(keys map[string]KV, same *[len(dirs)]bool) bool {
	if r.known == nil || len(keys) != len(r.keys) {
		return false
	}
	for d := range same {
		same[d] = true
	}
	for i := range r.keys {
		e := &r.keys[i]
		kv, ok := keys[e.Key]
		if !ok {
			return false
		}
		if kv.Mod != e.Mod || kv.Lease != e.Lease || !bytes.Equal(kv.Value, e.Value) {
			kv.Key = e.Key
			e.KV = kv
			same[e.dir] = false
		}
	}
	return true
}

// replace takes up other keys.
func (r *Reader) replace(keys map[string]KV) {
	if r.known == nil {
		r.known = make(map[string]known, len(keys))
	}
	for _, e := range r.keys {
		if _, ok := keys[e.Key]; !ok {
			delete(r.known, e.Key)
		}
	}
	r.keys = r.keys[:0]
	for key, kv := range keys {
		kv.Key = key
		dir := slices.Index(dirs[:], key[:strings.LastIndexByte(key, '/')+1])
		r.keys = append(r.keys, entry{kv, max(dir, 0)})
	}
	slices.SortFunc(r.keys, func(a, b entry) int { return strings.Compare(a.Key, b.Key) })
}

// keep fills s with the directories of the last state that are the same.
func (r *Reader) keep(s *State, same [len(dirs)]bool) {
	for d, dir := range dirs {
		if !same[d] {
			continue
		}
		switch dir {
		case DirMembers:
			s.Members = r.last.Members
		case DirRecorded:
			s.Recorded = r.last.Recorded
		case DirPledges:
			s.Pledges = r.last.Pledges
		case DirRequests:
			s.Requests = r.last.Requests
		case DirSchedules:
			s.Schedules = r.last.Schedules
		case DirSuspects:
			s.Suspects = r.last.Suspects
		case DirWhy:
			s.Whys = r.last.Whys
		case DirFailovers:
			s.Failovers = r.last.Failovers
		case DirGateways:
			s.Gateways = r.last.Gateways
		}
	}
}

// parsed is what kv's value says.
func parsed[T any](r *Reader, kv KV, parse func([]byte) (T, error)) (T, error) {
	if k, ok := r.known[kv.Key]; ok && bytes.Equal(k.value, kv.Value) {
		if says, ok := k.says.(T); ok {
			return says, k.err
		}
	}
	says, err := parse(kv.Value)
	r.known[kv.Key] = known{kv.Value, says, err}
	return says, err
}

// parsedAs is what kv's value says of name.
func parsedAs[T any](r *Reader, name string, kv KV, parse func(string, []byte) (T, error)) (T, error) {
	return parsed(r, kv, func(value []byte) (T, error) { return parse(name, value) })
}
