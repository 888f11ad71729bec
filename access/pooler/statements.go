package pooler

import (
	"strconv"
)

// A statement is one text with its parameters' types that some client prepared
// by a name: shared by all clients of its user and database, under a name of ours.
type statement struct {
	of    *statements
	name  string // at servers
	parse []byte // body of its Parse after the name
	key   string
	users int // clients that have it
	class class
	age   uint32 // grows when its plan must be made anew
}

// statements are those of a pair's clients, by text and types.
type statements struct {
	all  map[string]*statement
	next int
}

// get finds the statement whose Parse goes on like rest, or makes it.
func (t *statements) get(rest []byte) *statement {
	if x := t.all[string(rest)]; x != nil {
		return x
	}
	t.next++
	key := string(rest)
	x := &statement{of: t, name: "PGBOUNCER_" + strconv.Itoa(t.next), parse: []byte(key), key: key}
	if text, _, ok := cstring(x.parse); ok {
		x.class = classOf(text)
	}
	if t.all == nil {
		t.all = map[string]*statement{}
	}
	t.all[key] = x
	return x
}

// let is the end of one client's use. A statement without users is forgotten;
// servers that have it close it when they have too many.
func (x *statement) let() {
	if x.users--; x.users == 0 && x.of.all[x.key] == x {
		delete(x.of.all, x.key)
	}
}

// appendParse appends the Parse of x under its shared name.
func (x *statement) appendParse(b []byte) []byte {
	b = appendHead(b, 'P', len(x.name)+1+len(x.parse))
	b = append(append(b, x.name...), 0)
	return append(b, x.parse...)
}

// A prepared is a statement that a server has.
type prepared struct {
	used uint64 // when, as a count
	age  uint32 // of the statement, when it was prepared
}
