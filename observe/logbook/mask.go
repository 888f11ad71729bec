package logbook

import (
	"regexp"
	"strings"
)

// Whatever follows a password's usual beginnings is one. A statement may be cut
// off within a text, so the closing quote may be missing.
var masks = []struct {
	find *regexp.Regexp
	put  string
}{
	{regexp.MustCompile(`(?is)\b((?:ssl)?passw(?:or)?d)(\s*(?:=>?|:)?\s*)E?'(?:[^'\\]|''|\\.)*(?:'|\\?$)`), `$1$2'***'`},
	{regexp.MustCompile(`(?is)\b((?:ssl)?passw(?:or)?d)(\s*(?:=>?|:)?\s*)\$[A-Za-z_0-9]*\$.*?(?:\$[A-Za-z_0-9]*\$|$)`), `$1$2'***'`},
	{regexp.MustCompile(`(?is)\b((?:ssl)?passw(?:or)?d"?)(\s*[=:]\s*)"(?:[^"\\]|\\.)*(?:"|$)`), `$1$2"***"`},
	{regexp.MustCompile(`(?i)\b((?:ssl)?passw(?:or)?d)(\s*=\s*)[^\s'"&;,*][^\s'"&;,]*`), `$1$2***`},
	{regexp.MustCompile(`(?i)\b([a-z][a-z0-9+.-]*://[^\s:/@]*:)[^\s@/]+@`), `$1***@`},
	{regexp.MustCompile(`(?i)\bSCRAM-SHA-256\$[0-9]+:[^\s'"]+`), `SCRAM-SHA-256$$***`},
	{regexp.MustCompile(`\bmd5[0-9a-f]{32}\b`), `md5***`},
}

// masked is r without passwords.
func (r Record) masked() Record {
	r.Message = Mask(r.Message)
	for i := range r.Fields {
		r.Fields[i].Value = Mask(r.Fields[i].Value)
	}
	return r
}

// Mask is s without passwords.
func Mask(s string) string {
	if !suspicious(s) {
		return s
	}
	for _, m := range masks {
		s = m.find.ReplaceAllString(s, m.put)
	}
	return s
}

// suspicious says that a mask may find something: nearly no line is.
func suspicious(s string) bool {
	has := func(at int, word string) bool {
		return len(s)-at >= len(word) && strings.EqualFold(s[at:at+len(word)], word)
	}
	for i := range len(s) {
		switch s[i] {
		case 'p', 'P':
			if has(i, "passw") {
				return true
			}
		case 's', 'S':
			if has(i, "scram-sha-256$") {
				return true
			}
		case 'm', 'M':
			if has(i, "md5") {
				return true
			}
		case ':':
			if has(i, "://") {
				return true
			}
		}
	}
	return false
}
