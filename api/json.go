package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// python writes v as Python's json.dumps does, byte for byte: a space after
// every comma and colon, and nothing but ASCII. Some clients compare text.
func python(v any) []byte {
	compact, err := json.Marshal(v)
	if err != nil { // our own types, and maps that JSON gave us
		panic(fmt.Sprintf("api: encode %T: %v", v, err))
	}
	out := make([]byte, 0, len(compact)+len(compact)/8)
	inside := false
	for i := 0; i < len(compact); {
		c := compact[i]
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRune(compact[i:])
			for _, unit := range utf16.Encode([]rune{r}) {
				out = fmt.Appendf(out, `\u%04x`, unit)
			}
			i += n
			continue
		}
		i++
		switch {
		case inside && c == '\\':
			// encoding/json escapes these for HTML; Python does not.
			if raw, ok := html[string(compact[i:min(i+5, len(compact))])]; ok {
				out = append(out, raw)
				i += 5
				continue
			}
			out = append(out, c, compact[i])
			i++
		case c == '"':
			inside = !inside
			out = append(out, c)
		case !inside && (c == ',' || c == ':'):
			out = append(out, c, ' ')
		default:
			out = append(out, c)
		}
	}
	return out
}

var html = map[string]byte{"u003c": '<', "u003e": '>', "u0026": '&'}

// answer sends v as JSON.
func answer(w http.ResponseWriter, status int, v any) {
	send(w, status, "application/json", python(v))
}

// text sends a sentence; its type is Patroni's.
func text(w http.ResponseWriter, status int, said string) {
	send(w, status, "text/html", []byte(said))
}

func send(w http.ResponseWriter, status int, kind string, body []byte) {
	h := w.Header()
	h.Set("Content-Type", kind)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // whoever asked is gone
}
