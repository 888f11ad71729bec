// Package userlist reads where a pooler knows its users from: PgBouncer's
// auth_file, and the answers of its auth_query.
//
// Sources: PgBouncer's src/loader.c (load_auth_file), src/client.c
// (handle_auth_query_response), config.md.
package userlist

import (
	"fmt"
	"strings"

	"howdah/secret"
)

// Limits of names and secrets, in bytes.
const (
	NameMax   = 127
	SecretMax = 65530
)

// Parse reads an auth_file: on each line a name and a secret in double quotes,
// where a double quote is written twice. Blank lines and those that begin with a
// semicolon do not count, nor does what follows the secret; of two lines for a
// name the later wins. A broken line ends the reading: what stood before it is
// returned with the error. A quote that does not end on its line is broken too:
// PgBouncer would go on, and take the next line's name for a secret.
//
//	"name" "secret"
func Parse(text string) (map[string]secret.Text, error) {
	users := map[string]secret.Text{}
	for at := 0; ; {
		for at < len(text) && strings.IndexByte(" \t\v\f\r\n", text[at]) >= 0 {
			at++
		}
		switch {
		case at == len(text):
			return users, nil
		case text[at] == ';':
			at = endOfLine(text, at)
			continue
		}
		begin := at
		broken := func(what string) error {
			return fmt.Errorf("broken auth file: line %d: %s", 1+strings.Count(text[:begin], "\n"), what)
		}
		name, next, ok := unquote(text, at)
		if !ok {
			return users, broken("a name in double quotes expected")
		}
		gap := strings.IndexAny(text[next:], "\"\n")
		if gap < 0 || text[next+gap] == '\n' {
			return users, broken("a secret in double quotes expected")
		}
		word, next, ok := unquote(text, next+gap)
		switch {
		case !ok:
			return users, broken("the secret's quote does not end")
		case len(name) > NameMax:
			return users, broken("the name is too long")
		case len(word) > SecretMax:
			return users, broken("the secret is too long")
		case strings.ContainsRune(name, 0) || strings.ContainsRune(word, 0):
			return users, broken("a zero byte")
		}
		users[name] = secret.Text(word)
		at = endOfLine(text, next)
	}
}

func endOfLine(text string, at int) int {
	if n := strings.IndexByte(text[at:], '\n'); n >= 0 {
		return at + n
	}
	return len(text)
}

// unquote reads the quoted string that begins at at, and returns where it ends.
func unquote(text string, at int) (s string, next int, ok bool) {
	if text[at] != '"' {
		return "", at, false
	}
	var b strings.Builder
	for i := at + 1; i < len(text) && text[i] != '\n'; i++ {
		if text[i] == '"' {
			if i+1 == len(text) || text[i+1] != '"' {
				return b.String(), i + 1, true
			}
			i++
		}
		b.WriteByte(text[i])
	}
	return "", at, false
}

// Text prints users as Parse reads them, in the order of names, none of which
// has a newline in it.
func Text(names []string, of func(name string) secret.Text) string {
	double := strings.NewReplacer(`"`, `""`)
	var b strings.Builder
	for _, name := range names {
		fmt.Fprintf(&b, "\"%s\" \"%s\"\n", double.Replace(name), double.Replace(of(name).Reveal()))
	}
	return b.String()
}
