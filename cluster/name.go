package cluster

import (
	"fmt"
	"strings"
)

// longestName is what fits everywhere that a name goes: application_name and
// a replication slot hold 63 bytes (NAMEDATALEN), as a label of a host name does.
const longestName = 63

// CheckName says why name can not be that of a cluster or a member, in words
// for a person; "" is a name. It becomes a segment of keys in the store, a
// directory, the application_name that replication is known by and a label that
// people give machines, so it holds what all of these take.
func CheckName(name string) string {
	switch {
	case name == "":
		return "it is empty"
	case len(name) > longestName:
		return fmt.Sprintf("it has %d bytes, and a name may have %d", len(name), longestName)
	}
	for _, r := range name {
		if !strings.ContainsRune(nameChars, r) {
			return fmt.Sprintf("it holds %q, and a name is of letters, digits, '-', '_' and '.'", r)
		}
	}
	if strings.ContainsRune("-_.", rune(name[0])) {
		return fmt.Sprintf("it begins with %q, and a name begins with a letter or a digit", name[0])
	}
	return ""
}

const nameChars = slotChars + "ABCDEFGHIJKLMNOPQRSTUVWXYZ-."

// CheckMembers says why members can not be those of one cluster: a name that is
// none, one that is there twice, or two that would share a slot. "" if they can.
func CheckMembers(members []string) string {
	seen := map[string]bool{}
	for _, m := range members {
		if why := CheckName(m); why != "" {
			return fmt.Sprintf("%q can not be a member's name: %s", m, why)
		}
		if seen[m] {
			return "two members are called " + m
		}
		seen[m] = true
	}
	if groups := SlotCollisions(members); len(groups) > 0 {
		return fmt.Sprintf("%s would share the replication slot %s, and lose each other's log",
			strings.Join(groups[0], " and "), SlotName(groups[0][0]))
	}
	return ""
}
