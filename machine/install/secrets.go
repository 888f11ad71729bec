package install

import (
	"maps"
	"slices"

	"howdah/secret"
)

// Passwords are those that a machine is to have: ours, with what it has beside them.
// other are the names of those that nobody chose and that it has otherwise: then its
// cluster is another one. Those that the inventory gives and that it has otherwise
// stay as they are: to change the password of a living role is "howdah apply"'s work.
func Passwords(given, ours, theirs map[string]secret.Text) (all map[string]secret.Text, other []string) {
	all = maps.Clone(theirs)
	if all == nil {
		all = map[string]secret.Text{}
	}
	for _, name := range slices.Sorted(maps.Keys(ours)) {
		has, there := theirs[name]
		switch {
		case !there || has == "":
			all[name] = ours[name]
		case has != ours[name] && given[name] == "":
			other = append(other, name)
		}
	}
	return all, other
}
