package names

import (
	"errors"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"howdah/spec"
)

// The lines between which names stand in a hosts file.
const (
	begin = "# BEGIN howdah: names of clusters. What is changed in here is changed again"
	end   = "# END howdah"
)

// ErrMarks says that the marks of our names are not a pair: where they end is not
// known, and nothing is touched.
var ErrMarks = errors.New("the marks of our names in it are not a pair of one beginning and one end")

// Lines are the table for a hosts file, one address and name each, sorted. A name
// that nobody has at the moment is left as it was: the file can not say "for now".
func (t Table) Lines(before []string) []string {
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(t.names)) {
		for _, a := range t.names[name] {
			lines = append(lines, a.String()+" "+name)
		}
		if len(t.names[name]) == 0 {
			lines = append(lines, slices.DeleteFunc(slices.Clone(before), func(l string) bool { return !strings.HasSuffix(l, " "+name) })...)
		}
	}
	return lines
}

// Known keeps the lines whose names can be of zones. Whoever writes a machine's file
// of hosts for somebody asks this first.
func Known(lines []string, zones []spec.Zone) []string {
	var known []string
	for _, l := range lines {
		address, name, _ := strings.Cut(l, " ")
		_, err := netip.ParseAddr(address)
		ours := slices.ContainsFunc(zones, func(z spec.Zone) bool {
			of, rest := plain(z.Cluster), strings.TrimSuffix(name, plain(z.Suffix))
			return rest == of || strings.HasPrefix(rest, of+"-") && !strings.ContainsFunc(rest, func(r rune) bool {
				return r != '-' && r != '_' && (r < '0' || r > '9') && (r < 'a' || r > 'z')
			})
		})
		if err == nil && ours && !slices.Contains(known, l) {
			known = append(known, l)
		}
	}
	return known
}

// Merge puts lines between our marks in the text of a hosts file, at its end if it
// has none; without lines the marks go too. All that stands outside of them is left.
func Merge(text string, lines []string) (string, error) {
	var head, tail []string
	state := 0 // before our names, in them, behind them
	for line := range strings.Lines(text) {
		switch mark := strings.TrimRight(line, "\r\n"); {
		case mark == begin && state == 0, mark == end && state == 1:
			state++
		case mark == begin || mark == end:
			return "", ErrMarks
		case state == 0:
			head = append(head, line)
		case state == 2:
			tail = append(tail, line)
		}
	}
	if state == 1 {
		return "", ErrMarks
	}
	out := strings.Join(head, "")
	if len(lines) > 0 {
		if out != "" && !strings.HasSuffix(out, "\n") {
			out += "\n"
		}
		out += begin + "\n" + strings.Join(lines, "\n") + "\n" + end + "\n"
	}
	return out + strings.Join(tail, ""), nil
}
