package quorum

import (
	"slices"
	"strings"
)

// A set of members, in order, each once. Case does not matter, as it does not to
// PostgreSQL (pg_strcasecmp in SyncRepGetStandbyPriority): two names that differ
// in nothing else are one member, or one would acknowledge for two.
type set []string

func fold(name string) string { return strings.ToLower(name) }

func newSet(names ...string) set {
	s := slices.Clone(names)
	slices.SortStableFunc(s, func(a, b string) int { return strings.Compare(fold(a), fold(b)) })
	return slices.CompactFunc(s, func(a, b string) bool { return fold(a) == fold(b) })
}

func (s set) has(name string) bool {
	return slices.ContainsFunc(s, func(n string) bool { return fold(n) == fold(name) })
}

func (s set) or(o set) set { return newSet(slices.Concat(s, o)...) }

func (s set) and(o set) set {
	return slices.DeleteFunc(slices.Clone(s), func(n string) bool { return !o.has(n) })
}

func (s set) without(name string) set {
	return slices.DeleteFunc(slices.Clone(s), func(n string) bool { return fold(n) == fold(name) })
}

func (s set) within(o set) bool { return len(s.and(o)) == len(s) }

func (s set) equal(o set) bool { return len(s) == len(o) && s.within(o) }

func (s set) String() string { return strings.Join(s, ",") }
