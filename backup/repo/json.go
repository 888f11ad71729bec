package repo

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// The values of info files are JSON, in a dialect: pgBackRest's reader walks
// an object's keys in the order it expects, so they must ascend bytewise, and
// numbers are integers. encoding/json keeps no order and escapes other
// characters, so reading and writing stand here.

// A Line is a key and its value as it stands in the file: JSON.
type Line struct {
	Key   string
	Value string
}

// scanner reads JSON values from text.
type scanner struct {
	text  string
	at    int
	depth int
}

// deepest nesting that is followed: nothing real has more than three.
const deepest = 32

func (s *scanner) space() {
	for s.at < len(s.text) && strings.IndexByte(" \t\n\r", s.text[s.at]) >= 0 {
		s.at++
	}
}

func (s *scanner) wrong(what string) error {
	return Errorf(BadFormat, "%s at byte %d of '%.60s'", what, s.at, s.text)
}

// take passes over c, if it comes next.
func (s *scanner) take(c byte) bool {
	s.space()
	if s.at < len(s.text) && s.text[s.at] == c {
		s.at++
		return true
	}
	return false
}

// value passes over one value and returns it as it stands.
func (s *scanner) value() (string, error) {
	s.space()
	from := s.at
	if s.at == len(s.text) {
		return "", s.wrong("a value is missing")
	}
	if s.depth++; s.depth > deepest {
		return "", s.wrong("too deep")
	}
	defer func() { s.depth-- }()
	var err error
	switch c := s.text[s.at]; {
	case c == '"':
		err = s.pass()
	case c == '{':
		err = s.object(func(string, string) error { return nil })
	case c == '[':
		err = s.array(func(string) error { return nil })
	case c == '-' || c >= '0' && c <= '9':
		for s.at++; s.at < len(s.text) && s.text[s.at] >= '0' && s.text[s.at] <= '9'; {
			s.at++
		}
		if s.text[from:s.at] == "-" {
			err = s.wrong("a number is missing")
		}
	default:
		for _, word := range []string{"true", "false", "null"} {
			if strings.HasPrefix(s.text[s.at:], word) {
				s.at += len(word)
				return word, nil
			}
		}
		err = s.wrong("no value")
	}
	return s.text[from:s.at], err
}

// pass passes over a string.
func (s *scanner) pass() error {
	for s.at++; s.at < len(s.text); s.at++ {
		switch s.text[s.at] {
		case '\\':
			s.at++
		case '"':
			s.at++
			return nil
		}
	}
	s.at = len(s.text)
	return s.wrong("a string does not end")
}

func (s *scanner) object(each func(key, value string) error) error {
	if !s.take('{') {
		return s.wrong("an object is missing")
	}
	if s.take('}') {
		return nil
	}
	for {
		s.space()
		from := s.at
		if s.at == len(s.text) || s.text[s.at] != '"' {
			return s.wrong("a key is missing")
		}
		if err := s.pass(); err != nil {
			return err
		}
		key, err := unquote(s.text[from:s.at])
		if err != nil {
			return err
		}
		if !s.take(':') {
			return s.wrong("a colon is missing")
		}
		value, err := s.value()
		if err != nil {
			return err
		}
		if err := each(key, value); err != nil {
			return err
		}
		if s.take('}') {
			return nil
		}
		if !s.take(',') {
			return s.wrong("a comma is missing")
		}
	}
}

func (s *scanner) array(each func(value string) error) error {
	if !s.take('[') {
		return s.wrong("an array is missing")
	}
	if s.take(']') {
		return nil
	}
	for {
		value, err := s.value()
		if err != nil {
			return err
		}
		if err := each(value); err != nil {
			return err
		}
		if s.take(']') {
			return nil
		}
		if !s.take(',') {
			return s.wrong("a comma is missing")
		}
	}
}

// end says whether nothing but space is left.
func (s *scanner) end() error {
	if s.space(); s.at < len(s.text) {
		return s.wrong("something follows the value")
	}
	return nil
}

// valid says that text is exactly one value.
func valid(text string) bool {
	s := scanner{text: text}
	_, err := s.value()
	return err == nil && s.end() == nil
}

// members visits the members of an object.
func members(text string, each func(key, value string) error) error {
	s := scanner{text: text}
	if err := s.object(each); err != nil {
		return err
	}
	return s.end()
}

// elements visits the elements of an array.
func elements(text string, each func(value string) error) error {
	s := scanner{text: text}
	if err := s.array(each); err != nil {
		return err
	}
	return s.end()
}

// unquote reads a string.
func unquote(text string) (string, error) {
	if len(text) < 2 || text[0] != '"' || text[len(text)-1] != '"' {
		return "", Errorf(BadFormat, "'%.60s' is no string", text)
	}
	text = text[1 : len(text)-1]
	if strings.IndexByte(text, '\\') < 0 {
		return text, nil
	}
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] != '\\' {
			b.WriteByte(text[i])
			continue
		}
		if i++; i == len(text) {
			return "", Errorf(BadFormat, "'%.60s' ends in an escape", text)
		}
		switch c := text[i]; c {
		case '"', '\\', '/':
			b.WriteByte(c)
		case 'n':
			b.WriteByte('\n')
		case 'r':
			b.WriteByte('\r')
		case 't':
			b.WriteByte('\t')
		case 'b':
			b.WriteByte('\b')
		case 'f':
			b.WriteByte('\f')
		case 'u':
			if i+4 >= len(text) {
				return "", Errorf(BadFormat, "'%.60s' ends in an escape", text)
			}
			n, err := strconv.ParseUint(text[i+1:i+5], 16, 8) // higher ones pgBackRest neither reads nor writes
			if err != nil {
				return "", Errorf(BadFormat, "'%.60s' has an escape that is not of one byte", text)
			}
			b.WriteByte(byte(n))
			i += 4
		default:
			return "", Errorf(BadFormat, "'%.60s' has an unknown escape", text)
		}
	}
	return b.String(), nil
}

// quote writes a string as pgBackRest does: it leaves UTF-8 and slashes alone.
func quote(text string) string {
	b := make([]byte, 0, len(text)+2)
	b = append(b, '"')
	for i := 0; i < len(text); i++ {
		switch c := text[i]; c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, `\n`...)
		case '\r':
			b = append(b, `\r`...)
		case '\t':
			b = append(b, `\t`...)
		case '\b':
			b = append(b, `\b`...)
		case '\f':
			b = append(b, `\f`...)
		default:
			if c < ' ' {
				b = fmt.Appendf(b, `\u%04x`, c)
				continue
			}
			b = append(b, c)
		}
	}
	return string(append(b, '"'))
}

func readInt(text string) (int64, error) {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, Errorf(BadFormat, "'%.60s' is no number", text)
	}
	return n, nil
}

func readBool(text string) (bool, error) {
	if text != "true" && text != "false" {
		return false, Errorf(BadFormat, "'%.60s' is neither true nor false", text)
	}
	return text == "true", nil
}

// object writes members in the order that readers need.
func object(lines []Line) string {
	slices.SortStableFunc(lines, func(a, b Line) int { return cmp.Compare(a.Key, b.Key) })
	var b strings.Builder
	b.WriteByte('{')
	for i, l := range lines {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(quote(l.Key))
		b.WriteByte(':')
		b.WriteString(l.Value)
	}
	b.WriteByte('}')
	return b.String()
}

// array writes elements.
func array(values []string) string { return "[" + strings.Join(values, ",") + "]" }

func integer(n int64) string { return strconv.FormatInt(n, 10) }

// A field of a value is read into and written from one place, so that the two
// can not drift apart.
type field struct {
	key   string
	read  func(value string) error
	write func() (value string, present bool)
}

// readFields reads an object into fields and returns what is none of theirs.
func readFields(text string, fields []field) (rest []Line, err error) {
	err = members(text, func(key, value string) error {
		for _, f := range fields {
			if f.key == key {
				return f.read(value)
			}
		}
		rest = append(rest, Line{strings.Clone(key), strings.Clone(value)})
		return nil
	})
	return rest, err
}

// lines writes fields and what was none of theirs.
func lines(fields []field, rest []Line) []Line {
	all := slices.Clone(rest)
	for _, f := range fields {
		if value, ok := f.write(); ok {
			all = append(all, Line{f.key, value})
		}
	}
	slices.SortStableFunc(all, func(a, b Line) int { return cmp.Compare(a.Key, b.Key) })
	return all
}

// text is a field that holds a string; left out when it is empty, unless always.
func text(key string, p *string, always bool) field {
	return field{key, func(v string) (err error) { *p, err = unquote(v); return err }, func() (string, bool) { return quote(*p), always || *p != "" }}
}

// textOrNull is a field that is written as null when it is empty.
func textOrNull(key string, p *string) field {
	return field{
		key, func(v string) (err error) {
			if v != "null" {
				*p, err = unquote(v)
			}
			return err
		}, func() (string, bool) {
			if *p == "" {
				return "null", true
			}
			return quote(*p), true
		},
	}
}

// number is a field that holds an integer.
func number[N ~int | ~int64](key string, p *N, always bool) field {
	return field{key, func(v string) error { n, err := readInt(v); *p = N(n); return err }, func() (string, bool) { return integer(int64(*p)), always || *p != 0 }}
}

// unsigned is a field that holds a system identifier.
func unsigned[N ~uint64](key string, p *N) field {
	return field{
		key, func(v string) error {
			n, err := strconv.ParseUint(v, 10, 64)
			if err != nil {
				return Errorf(BadFormat, "'%.60s' is no number", v)
			}
			*p = N(n)
			return nil
		}, func() (string, bool) { return strconv.FormatUint(uint64(*p), 10), true },
	}
}

// flag is a field that is written only when it is true, unless always.
func flag(key string, p *bool, always bool) field {
	return field{key, func(v string) (err error) { *p, err = readBool(v); return err }, func() (string, bool) { return strconv.FormatBool(*p), always || *p }}
}

// choice is a field that may be true, false or absent.
func choice(key string, p **bool) field {
	return field{
		key, func(v string) error { b, err := readBool(v); *p = &b; return err },
		func() (string, bool) {
			if *p == nil {
				return "", false
			}
			return strconv.FormatBool(**p), true
		},
	}
}

// texts is a field that holds an array of strings; left out when it is empty.
func texts(key string, p *[]string) field {
	return field{
		key, func(v string) error {
			return elements(v, func(v string) error {
				s, err := unquote(v)
				*p = append(*p, s)
				return err
			})
		}, func() (string, bool) {
			quoted := make([]string, len(*p))
			for i, s := range *p {
				quoted[i] = quote(s)
			}
			return array(quoted), len(*p) > 0
		},
	}
}

// pairs is a field that holds an object of strings; left out when it is empty.
func pairs(key string, p *map[string]string) field {
	return field{
		key, func(v string) error {
			*p = map[string]string{}
			return members(v, func(k, v string) error {
				s, err := unquote(v)
				(*p)[k] = s
				return err
			})
		}, func() (string, bool) {
			var all []Line
			for k, v := range *p {
				all = append(all, Line{k, quote(v)})
			}
			return object(all), len(all) > 0
		},
	}
}
