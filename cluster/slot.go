package cluster

import (
	"fmt"
	"slices"
	"strings"
)

// SlotName is the physical replication slot of a member: PostgreSQL allows
// lower-case letters, digits and underscores, 63 of them
// (Patroni: slot_name_from_member_name).
func SlotName(member string) string {
	if len(member) <= 63 && within(member, slotChars) {
		return member
	}
	var b strings.Builder
	b.Grow(len(member))
	for _, r := range strings.ToLower(member) {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '_':
			b.WriteRune(r)
		case r == '-', r == '.':
			b.WriteByte('_')
		default:
			fmt.Fprintf(&b, "u%04d", r)
		}
	}
	name := b.String()
	return name[:min(len(name), 63)]
}

const slotChars = digits + "abcdefghijklmnopqrstuvwxyz_"

// SlotCollisions lists the groups of members that would share one slot: they
// would hold back, and lose, each other's WAL.
func SlotCollisions(members []string) [][]string {
	by := map[string][]string{}
	var slots []string
	for _, m := range members {
		slot := SlotName(m)
		if len(by[slot]) == 0 {
			slots = append(slots, slot)
		}
		if !slices.Contains(by[slot], m) {
			by[slot] = append(by[slot], m)
		}
	}
	slices.Sort(slots)
	var groups [][]string
	for _, slot := range slots {
		if len(by[slot]) > 1 {
			slices.Sort(by[slot])
			groups = append(groups, by[slot])
		}
	}
	return groups
}
