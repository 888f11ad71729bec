package pooler

import (
	"bytes"
	"encoding/binary"
)

// Messages are framed alike in both directions:
//
//	+------+--------+------
//	| type | length | body      the length counts itself and the body
//	1      5
const headSize = 5

// bodyMax is the longest body that the protocol's readers accept
// (PQ_LARGE_MESSAGE_LIMIT; pqformat.h).
const bodyMax = 0x3fffffff - 4

// bodyOf is the length of the body that a header announces; negative: it is none.
func bodyOf(head []byte) int {
	n := int(int32(binary.BigEndian.Uint32(head[1:headSize]))) - 4
	if n > bodyMax {
		return -1
	}
	return n
}

// appendHead appends a header.
func appendHead(b []byte, kind byte, body int) []byte {
	b = append(b, kind)
	return binary.BigEndian.AppendUint32(b, uint32(body+4))
}

// appendMessage appends a message of strings that end in zero.
func appendMessage(b []byte, kind byte, parts ...string) []byte {
	n := 0
	for _, p := range parts {
		n += len(p) + 1
	}
	b = appendHead(b, kind, n)
	for _, p := range parts {
		b = append(append(b, p...), 0)
	}
	return b
}

// cstring takes a string that ends in zero from the front of b.
func cstring(b []byte) (s, rest []byte, ok bool) {
	i := bytes.IndexByte(b, 0)
	if i < 0 {
		return nil, b, false
	}
	return b[:i], b[i+1:], true
}

// namesOfBind reads what a Bind begins with: the name of the portal, and that of the
// statement. ok is false if body does not hold them whole.
func namesOfBind(body []byte) (portal, statement []byte, ok bool) {
	portal, rest, ok := cstring(body)
	if !ok {
		return nil, nil, false
	}
	statement, _, ok = cstring(rest)
	return portal, statement, ok
}

// appendNotice appends an ErrorResponse or a NoticeResponse.
func appendNotice(b []byte, kind byte, severity, state, text string) []byte {
	start := len(b)
	b = append(b, kind, 0, 0, 0, 0)
	for _, f := range []struct {
		kind byte
		text string
	}{{'S', severity}, {'V', severity}, {'C', state}, {'M', text}} {
		b = append(append(append(b, f.kind), f.text...), 0)
	}
	b = append(b, 0)
	binary.BigEndian.PutUint32(b[start+1:], uint32(len(b)-start-1))
	return b
}

// fieldsOfError are the SQLSTATE and the text of an ErrorResponse's body; a
// server need not send either.
func fieldsOfError(body []byte) (code, text string) {
	for len(body) > 1 && body[0] != 0 {
		value, rest, ok := cstring(body[1:])
		if !ok {
			break
		}
		switch body[0] {
		case 'C':
			code = string(value)
		case 'M':
			text = string(value)
		}
		body = rest
	}
	return code, text
}
