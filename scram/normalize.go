package scram

import (
	"slices"
	"unicode/utf8"

	"golang.org/x/text/unicode/bidi"
	"golang.org/x/text/unicode/norm"
)

// Normalize prepares a password as PostgreSQL does (pg_saslprep, after RFC
// 4013): what cannot be prepared, because it is no UTF-8 or has characters that
// the RFC forbids, is used as it stands.
func Normalize(password string) string {
	if ascii(password) || !utf8.ValidString(password) {
		return password
	}
	var mapped []rune
	for _, c := range password {
		switch {
		case in(toSpace, c):
			mapped = append(mapped, ' ')
		case in(toNothing, c):
		default:
			mapped = append(mapped, c)
		}
	}
	// An empty password is none. RFC 4013 would look at what is forbidden after
	// the normalisation; PostgreSQL does before it.
	if len(mapped) == 0 || !allowed(mapped) {
		return password
	}
	return norm.NFKC.String(string(mapped))
}

// allowed checks what RFC 4013 §2.3 to §2.5 forbid: characters, what Unicode
// 3.2 did not know, and text of both directions that does not begin and end
// with a character from right to left.
func allowed(text []rune) bool {
	var left, right bool
	for _, c := range text {
		if in(prohibited, c) || in(unassigned, c) {
			return false
		}
		left = left || class(c) == bidi.L
		right = right || fromRight(c)
	}
	return !right || !left && fromRight(text[0]) && fromRight(text[len(text)-1])
}

func class(c rune) bidi.Class {
	p, _ := bidi.LookupRune(c)
	return p.Class()
}

func fromRight(c rune) bool { return class(c) == bidi.R || class(c) == bidi.AL }

func ascii(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// in says whether c is in one of the ranges.
func in(ranges []rune, c rune) bool {
	i, exact := slices.BinarySearch(ranges, c)
	return exact || i%2 == 1 // between the first and the last of a range
}
