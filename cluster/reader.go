package cluster

import (
	"bytes"
	"slices"
)

// A Reader parses the snapshots of one store one after another. What a value
// says depends on its name and bytes alone, so a value that stayed as it was is
// not read again. States that it returned share what did not change: whoever
// has one only reads it. The zero Reader has read nothing.
type Reader struct {
	order []string // keys of the last snapshot, sorted
	known map[string]known
}

// known is what a value was found to say.
type known struct {
	value []byte
	says  any
	err   error
}

// begin sorts the keys of the next snapshot and forgets those that are gone.
func (r *Reader) begin(keys map[string]KV) {
	if r.known == nil {
		r.known = make(map[string]known, len(keys))
	}
	same := len(keys) == len(r.order)
	for i := 0; same && i < len(r.order); i++ {
		_, same = keys[r.order[i]]
	}
	if same {
		return
	}
	for _, key := range r.order {
		if _, ok := keys[key]; !ok {
			delete(r.known, key)
		}
	}
	r.order = r.order[:0]
	for key := range keys {
		r.order = append(r.order, key)
	}
	slices.Sort(r.order)
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
