package pooler

import (
	"slices"
	"strings"
)

// tracked are the parameters that follow a client from server to server: those
// of which a server tells when they change, as far as PgBouncer tracks them.
var tracked = [...]string{
	"client_encoding", "DateStyle", "TimeZone", "standard_conforming_strings", "application_name", "IntervalStyle",
}

// parameters are values of the tracked ones; "" is none.
type parameters [len(tracked)]string

func trackedIndex(name string) int {
	return slices.IndexFunc(tracked[:], func(t string) bool { return strings.EqualFold(t, name) })
}

// isTracked says which parameter a server tells of; -1: none of ours.
func isTracked(name []byte) int {
	for i := range tracked {
		if tracked[i] == string(name) {
			return i
		}
	}
	return -1
}

// appendSets appends the statements that make a server with is a server with
// want, as one simple query; nothing if it is one.
func appendSets(b []byte, want, is *parameters) []byte {
	start := len(b)
	for i := range want {
		if want[i] == is[i] || want[i] == "" && tracked[i] != "application_name" { // whose is nobody's by then
			continue
		}
		if len(b) == start {
			b = append(b, 'Q', 0, 0, 0, 0)
		}
		b = append(append(append(b, "SET "...), tracked[i]...), '=')
		b = appendLiteral(b, want[i])
		b = append(b, ';')
	}
	if len(b) == start {
		return b
	}
	b = append(b, 0)
	n := len(b) - start - 1
	b[start+1], b[start+2], b[start+3], b[start+4] = byte(n>>24), byte(n>>16), byte(n>>8), byte(n)
	return b
}

// appendLiteral quotes a value so that it reads the same whatever
// standard_conforming_strings is.
func appendLiteral(b []byte, s string) []byte {
	if strings.ContainsRune(s, '\\') {
		b = append(b, 'E')
	}
	b = append(b, '\'')
	for i := range len(s) {
		if s[i] == '\'' || s[i] == '\\' {
			b = append(b, s[i])
		}
		b = append(b, s[i])
	}
	return append(b, '\'')
}
