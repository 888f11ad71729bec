package quorum

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Names is a value of synchronous_standby_names, and as such a rule by which
// commits are acknowledged: once Num of List have flushed them. The zero Names
// is the empty setting: nobody is waited for.
//
// With First those Num of List are waited for that stand first in it and stream.
// Which they are changes with who streams, so as a rule it allows what Any allows.
type Names struct {
	First bool
	Num   int
	List  []string // "*" is everybody
}

// everybody is the name that PostgreSQL matches with any application_name,
// whether it was quoted or not (SyncRepGetStandbyPriority).
const everybody = "*"

// nobody is Patroni's name of a standby that is never there: with it alone a
// commit waits for ever (patroni/postgresql/sync.py).
const nobody = "__patroni_strict_sync_replica_placeholder__"

// Any is the setting by which num of the named must have flushed a commit.
func Any(num int, names ...string) Names { return Names{Num: num, List: newSet(names...)} }

// Nobody is the setting by which no commit is acknowledged at all.
func Nobody() Names { return Names{First: true, Num: 1, List: []string{nobody}} }

// Async says that nobody is waited for.
func (n Names) Async() bool { return n.Num == 0 }

// Blocks says that it is the setting by which nothing is acknowledged.
func (n Names) Blocks() bool { return n.Num == 1 && len(n.List) == 1 && n.List[0] == nobody }

// Wild says that anybody who streams may acknowledge.
func (n Names) Wild() bool { return newSet(n.List...).has(everybody) }

func (n Names) set() set { return newSet(n.List...) }

// Same says that both allow the same commits to be acknowledged.
func (n Names) Same(o Names) bool { return n.Num == o.Num && n.set().equal(o.set()) }

// Is says that n and o are the same setting.
func (n Names) Is(o Names) bool { return n.String() == o.String() }

// Loosen is the rule that holds while a server goes from one setting to another.
// Each WAL sender reads the new setting when it gets to it, and decides by its
// own reading of Num which commits to release, counting senders that may have
// read another (SyncRepReleaseWaiters, SyncRepGetCandidateStandbys). What none
// of these mixtures can go below is the smaller Num of both lists together.
func Loosen(a, b Names) Names {
	if a.Async() || b.Async() {
		return Names{}
	}
	return Any(min(a.Num, b.Num), a.set().or(b.set())...)
}

// String is the value as Patroni would write it: ANY k (…), k (…), or a name.
func (n Names) String() string {
	if n.Async() {
		return ""
	}
	quoted := make([]string, len(n.List))
	for i, name := range n.List {
		quoted[i] = quoteName(name)
	}
	list := strings.Join(quoted, ",")
	switch {
	case !n.First:
		return fmt.Sprintf("ANY %d (%s)", n.Num, list)
	case n.Num == 1 && len(n.List) == 1:
		return list
	}
	return fmt.Sprintf("%d (%s)", n.Num, list)
}

// quoteName leaves alone what the scanner takes for one NAME.
func quoteName(name string) string {
	if name == everybody {
		return name
	}
	if kind, size := scanName(name); kind == 'n' && size > 0 && size == len(name) {
		return name
	}
	return `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
}

// ParseNames reads a value as src/backend/replication/syncrep_gram.y and
// syncrep_scanner.l do (the same in PostgreSQL 14 to 18).
func ParseNames(text string) (Names, error) {
	if text == "" {
		return Names{}, nil
	}
	tokens, err := scan(text)
	if err != nil {
		return Names{}, fmt.Errorf("synchronous_standby_names %q: %w", text, err)
	}
	n, err := parse(tokens)
	if err != nil {
		return Names{}, fmt.Errorf("synchronous_standby_names %q: %w", text, err)
	}
	return n, nil
}

// A token is a NAME (n), a NUM (1), ANY (a), FIRST (f), or one of "(),".
type token struct {
	kind byte
	text string
}

var errSyntax = errors.New("want a list of names, or [ANY | FIRST] number (list of names)")

func parse(t []token) (Names, error) {
	n := Names{First: true, Num: 1}
	switch {
	case len(t) > 0 && (t[0].kind == 'a' || t[0].kind == 'f'):
		n.First = t[0].kind == 'f'
		if len(t) < 4 || t[1].kind != '1' || t[2].kind != '(' {
			return Names{}, errSyntax
		}
		t = t[1:]
		fallthrough
	case len(t) > 1 && t[0].kind == '1' && t[1].kind == '(':
		num, err := strconv.ParseUint(t[0].text, 10, 64)
		if err != nil || num == 0 || num > math.MaxInt32 {
			return Names{}, fmt.Errorf("number of synchronous standbys (%s) must be greater than zero, and no more than can be", t[0].text)
		}
		if t[len(t)-1].kind != ')' {
			return Names{}, errSyntax
		}
		n.Num, t = int(num), t[2:len(t)-1]
	}
	for i, name := range t {
		switch {
		case i%2 == 1 && name.kind != ',', i%2 == 0 && name.kind != 'n' && name.kind != '1':
			return Names{}, errSyntax
		case i%2 == 0:
			n.List = append(n.List, name.text)
		}
	}
	if len(t)%2 == 0 {
		return Names{}, errSyntax
	}
	return n, nil
}

func scan(text string) ([]token, error) {
	var tokens []token
	for i := 0; i < len(text); {
		switch c := text[i]; {
		case strings.IndexByte(" \t\n\r\f\v", c) >= 0:
			i++
		case strings.IndexByte("(),", c) >= 0:
			tokens = append(tokens, token{kind: c})
			i++
		case c == '*':
			tokens = append(tokens, token{'n', everybody})
			i++
		case c == '"':
			name, size, ok := unquote(text[i:])
			if !ok {
				return nil, errors.New("unterminated quoted identifier")
			}
			tokens = append(tokens, token{'n', name})
			i += size
		default:
			kind, size := scanName(text[i:])
			if size == 0 {
				return nil, fmt.Errorf("syntax error at or near %q", text[i:i+1])
			}
			tokens = append(tokens, token{kind, text[i : i+size]})
			i += size
		}
	}
	return tokens, nil
}

// unquote reads a quoted name, in which two quotes stand for one.
func unquote(text string) (name string, size int, ok bool) {
	var b strings.Builder
	for i := 1; i < len(text); i++ {
		switch {
		case text[i] != '"':
			b.WriteByte(text[i])
		case i+1 < len(text) && text[i+1] == '"':
			b.WriteByte('"')
			i++
		default:
			return b.String(), i + 1, true
		}
	}
	return "", 0, false
}

// scanName reads a number, a keyword or a name that needs no quotes.
func scanName(text string) (kind byte, size int) {
	digit := func(c byte) bool { return '0' <= c && c <= '9' }
	letter := func(c byte) bool { return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c >= 0x80 || c == '_' }
	for size < len(text) && digit(text[size]) {
		size++
	}
	if size > 0 {
		return '1', size
	}
	for size < len(text) && (letter(text[size]) || size > 0 && (digit(text[size]) || text[size] == '$')) {
		size++
	}
	switch word := text[:size]; {
	case strings.EqualFold(word, "any"):
		return 'a', size
	case strings.EqualFold(word, "first"):
		return 'f', size
	}
	return 'n', size
}
