package cluster

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"
)

// encode writes v as Patroni writes its values (Python's json.dumps with
// compact separators): no spaces, only ASCII, and no escapes for HTML. Our
// types hold nothing that JSON can not carry, so an error is a programmer's.
func encode(v any) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(fmt.Sprintf("cluster: encode %T: %v", v, err))
	}
	return ascii(bytes.TrimSuffix(b.Bytes(), []byte("\n")))
}

// ascii escapes what lies beyond printable ASCII, which in encoded JSON occurs within strings only.
func ascii(text []byte) string {
	if !slices.ContainsFunc(text, func(c byte) bool { return c >= 0x7F }) {
		return string(text) // as nearly always
	}
	out := make([]byte, 0, len(text))
	for i := 0; i < len(text); {
		r, n := utf8.DecodeRune(text[i:])
		switch {
		case r < 0x7F:
			out = append(out, text[i])
		case r > 0xFFFF:
			r -= 0x10000
			out = fmt.Appendf(out, `\u%04x\u%04x`, 0xD800+r>>10, 0xDC00+r&0x3FF)
		default:
			out = fmt.Appendf(out, `\u%04x`, r)
		}
		i += n
	}
	return string(out)
}

// decode reads a JSON object into v. A field of the wrong type is an error,
// but every other field is filled all the same.
func decode(value []byte, v any) error {
	trimmed := bytes.TrimSpace(value)
	if len(trimmed) == 0 {
		return errors.New("empty, a JSON object is expected")
	}
	err := json.Unmarshal(trimmed, v)
	if _, ok := errors.AsType[*json.UnmarshalTypeError](err); !ok && err != nil {
		return fmt.Errorf("not JSON: %w", err)
	}
	if trimmed[0] != '{' {
		return fmt.Errorf("JSON, but not an object: %s", shorten(trimmed))
	}
	return err
}

// shorten keeps a foreign value readable in a message.
func shorten(value []byte) string {
	const most = 60
	if len(value) > most {
		return fmt.Sprintf("%q…", value[:most])
	}
	return fmt.Sprintf("%q", value)
}
