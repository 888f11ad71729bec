package spec

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"howdah/pg"
)

// A Privilege is a default one: what ALTER DEFAULT PRIVILEGES FOR ROLE … is to
// say, taken apart. It is written anew from its parts, so nothing but a
// privilege can stand in an inventory's pg_default_privileges.
type Privilege struct {
	Revoke    bool
	OptionFor bool     // of a REVOKE: only the right to grant it on
	Schemas   []string // none: in every schema
	Rights    []string // SELECT …; "ALL"
	On        string   // TABLES, SEQUENCES, FUNCTIONS, TYPES, SCHEMAS
	Roles     []string // "" is PUBLIC
	Grantable bool     // of a GRANT: WITH GRANT OPTION
}

// rightsOn are what can be granted on each kind of object; ALL is all of them.
var rightsOn = map[string][]string{
	"TABLES":    {"SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER", "MAINTAIN"},
	"SEQUENCES": {"USAGE", "SELECT", "UPDATE"},
	"FUNCTIONS": {"EXECUTE"},
	"TYPES":     {"USAGE"},
	"SCHEMAS":   {"USAGE", "CREATE"},
}

// Each are the rights one by one, as the major has them: MAINTAIN came with 17.
func (p Privilege) Each(major int) []string {
	all := p.Rights
	if slices.Equal(all, []string{"ALL"}) {
		all = rightsOn[p.On]
	}
	var each []string
	for _, r := range all {
		if r != "MAINTAIN" || major >= 17 || slices.Contains(p.Rights, "MAINTAIN") {
			each = append(each, r)
		}
	}
	return each
}

// String is the body of the statement, with every name quoted.
func (p Privilege) String() string {
	quoted := func(names []string) string {
		var all []string
		for _, n := range names {
			if n == "" {
				all = append(all, "PUBLIC")
			} else {
				all = append(all, pg.QuoteIdent(n))
			}
		}
		return strings.Join(all, ", ")
	}
	var b strings.Builder
	if len(p.Schemas) > 0 {
		b.WriteString("IN SCHEMA " + quoted(p.Schemas) + " ")
	}
	verb, to := "GRANT ", " TO "
	if p.Revoke {
		verb, to = "REVOKE ", " FROM "
	}
	b.WriteString(verb)
	if p.OptionFor {
		b.WriteString("GRANT OPTION FOR ")
	}
	b.WriteString(strings.Join(p.Rights, ", ") + " ON " + p.On + to + quoted(p.Roles))
	if p.Grantable {
		b.WriteString(" WITH GRANT OPTION")
	}
	return b.String()
}

// ParsePrivilege reads the body of ALTER DEFAULT PRIVILEGES: IN SCHEMA …, then
// GRANT … ON … TO … or REVOKE … ON … FROM ….
func ParsePrivilege(text string) (Privilege, error) {
	words, err := tokens(text)
	if err != nil {
		return Privilege{}, err
	}
	t := &phrase{words: words}
	var p Privilege
	if t.take("IN") {
		if !t.take("SCHEMA") {
			return p, t.wrong("SCHEMA")
		}
		if p.Schemas, err = t.names(false); err != nil {
			return p, err
		}
	}
	switch {
	case t.take("GRANT"):
	case t.take("REVOKE"):
		p.Revoke = true
		if t.take("GRANT") {
			if !t.take("OPTION") || !t.take("FOR") {
				return p, t.wrong("GRANT OPTION FOR")
			}
			p.OptionFor = true
		}
	default:
		return p, t.wrong("GRANT or REVOKE")
	}
	for {
		right := strings.ToUpper(t.word())
		p.Rights = append(p.Rights, right)
		if right == "ALL" {
			t.take("PRIVILEGES")
		}
		if !t.take(",") {
			break
		}
	}
	if !t.take("ON") {
		return p, t.wrong("ON")
	}
	p.On = strings.ToUpper(t.word())
	if p.On == "ROUTINES" {
		p.On = "FUNCTIONS"
	}
	can, ok := rightsOn[p.On]
	if !ok {
		return p, fmt.Errorf("%q is none of TABLES, SEQUENCES, FUNCTIONS, TYPES, SCHEMAS", p.On)
	}
	if p.On == "SCHEMAS" && len(p.Schemas) > 0 {
		return p, errors.New("a schema has no schemas in it")
	}
	for _, r := range p.Rights {
		if !slices.Contains(can, r) && (r != "ALL" || len(p.Rights) > 1) {
			return p, fmt.Errorf("%q can not be granted on %s", r, p.On)
		}
	}
	to := "TO"
	if p.Revoke {
		to = "FROM"
	}
	if !t.take(to) {
		return p, t.wrong(to)
	}
	if p.Roles, err = t.names(true); err != nil {
		return p, err
	}
	if !p.Revoke && t.take("WITH") {
		if !t.take("GRANT") || !t.take("OPTION") {
			return p, t.wrong("GRANT OPTION")
		}
		p.Grantable = true
	}
	if p.Revoke {
		_ = t.take("CASCADE") || t.take("RESTRICT") // of a default privilege nothing depends
	}
	t.take(";")
	if len(t.words) > 0 {
		return p, fmt.Errorf("%q is too much", t.words[0].text)
	}
	return p, nil
}

type token struct {
	text   string
	quoted bool
}

// phrase is what is left to read.
type phrase struct{ words []token }

func (t *phrase) take(word string) bool {
	if len(t.words) == 0 || t.words[0].quoted || !strings.EqualFold(t.words[0].text, word) {
		return false
	}
	t.words = t.words[1:]
	return true
}

func (t *phrase) word() string {
	if len(t.words) == 0 || t.words[0].quoted {
		return ""
	}
	w := t.words[0].text
	t.words = t.words[1:]
	return w
}

func (t *phrase) wrong(want string) error {
	if len(t.words) == 0 {
		return fmt.Errorf("%s is expected at its end", want)
	}
	return fmt.Errorf("%s is expected in place of %q", want, t.words[0].text)
}

// names reads a list of names; PUBLIC, where it may stand, becomes "".
func (t *phrase) names(public bool) ([]string, error) {
	var all []string
	for {
		if public {
			t.take("GROUP")
		}
		if len(t.words) == 0 || !t.words[0].quoted && strings.ContainsAny(t.words[0].text, ",;") {
			return nil, t.wrong("a name")
		}
		w := t.words[0]
		t.words = t.words[1:]
		switch {
		case w.quoted:
			all = append(all, w.text)
		case public && strings.EqualFold(w.text, "PUBLIC"):
			all = append(all, "")
		default:
			all = append(all, strings.ToLower(w.text))
		}
		if !t.take(",") {
			return all, nil
		}
	}
}

// tokens splits into words, quoted names, commas and semicolons.
func tokens(text string) ([]token, error) {
	var all []token
	for text = strings.TrimSpace(text); text != ""; text = strings.TrimSpace(text) {
		switch c := text[0]; {
		case c == ',' || c == ';':
			all, text = append(all, token{text: text[:1]}), text[1:]
		case c == '"':
			var name strings.Builder
			rest := text[1:]
			for {
				i := strings.IndexByte(rest, '"')
				if i < 0 {
					return nil, errors.New("a quoted name has no end")
				}
				name.WriteString(rest[:i])
				if rest = rest[i+1:]; !strings.HasPrefix(rest, `"`) {
					break
				}
				name.WriteByte('"')
				rest = rest[1:]
			}
			if name.Len() == 0 {
				return nil, errors.New("a quoted name is empty")
			}
			all, text = append(all, token{name.String(), true}), rest
		case letter(c):
			n := 1
			for n < len(text) && (letter(text[n]) || text[n] >= '0' && text[n] <= '9' || text[n] == '$') {
				n++
			}
			all, text = append(all, token{text: text[:n]}), text[n:]
		default:
			return nil, fmt.Errorf("%q has no place in it", text[:1])
		}
		if len(all) > 1000 {
			return nil, errors.New("it is too long")
		}
	}
	return all, nil
}

func letter(c byte) bool {
	return c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= 0x80
}
