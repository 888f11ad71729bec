package hba

import (
	"fmt"
	"strings"
)

// A Map says as whom an identity of the outside, a certificate's name or a user
// of the operating system, may log in: auth_ident_file.
type Map struct{ lines []mapping }

type mapping struct{ name, system, user string }

// ParseMap reads lines of "mapname system-user user", where the last may be all.
func ParseMap(text string) (m Map, problems []Problem) {
	line := 0
	for raw := range strings.Lines(text) {
		line++
		p := &parser{rest: strings.TrimRight(raw, "\r\n")}
		var fields []string
		all := false
		for p.next(); p.kind == word || p.kind == quoted; p.next() {
			all = p.kind == word && p.text == "all"
			fields = append(fields, p.text)
		}
		switch {
		case len(fields) == 0 && p.kind == end:
		case p.kind != end || len(fields) != 3:
			problems = append(problems, Problem{Line: line, What: "three fields expected: map, system user, user"})
		case strings.HasPrefix(fields[1], "/"):
			problems = append(problems, Problem{Line: line, What: fmt.Sprintf("%s: regular expressions are not supported", fields[1])})
		default:
			if all {
				fields[2] = ""
			}
			m.lines = append(m.lines, mapping{fields[0], fields[1], fields[2]})
		}
	}
	return m, problems
}

// Allows says whether whoever is system outside may log in as user. Without a
// map they must be the same.
func (m Map) Allows(name, system, user string) bool {
	if name == "" {
		return system != "" && system == user
	}
	for _, l := range m.lines {
		if l.name == name && l.system == system && (l.user == "" || l.user == user) {
			return true
		}
	}
	return false
}
