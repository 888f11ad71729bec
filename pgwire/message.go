package pgwire

import (
	"encoding/binary"
	"errors"
	"strings"
)

// Types of messages that a client sends while it logs in, and later.
const (
	Password  = 'p' // also SASLInitialResponse and SASLResponse
	Query     = 'Q'
	Terminate = 'X'
)

// Types of messages that a server sends, besides those of a beginning.
const (
	NoticeResponse  = 'N'
	RowDescription  = 'T'
	DataRow         = 'D'
	CommandComplete = 'C'
	EmptyQuery      = 'I'
)

// Kinds of Authentication messages: the four bytes that their bodies begin with.
const (
	AuthOK           = 0
	AuthPassword     = 3
	AuthMD5          = 5
	AuthSASL         = 10
	AuthSASLContinue = 11
	AuthSASLFinal    = 12
)

// A Message is one message after the first packet. Its body is part of the
// buffer that it was read from.
//
//	+------+--------+------
//	| type | length | body
//	1      5
type Message struct {
	Type byte
	Body []byte
}

// ErrMessage says that what came is no message: its length is impossible, or
// more than whoever waits for it takes.
var ErrMessage = errors.New("message with a bad length")

// ReadMessage reads a message of at most limit bytes of body from b, and returns
// how many bytes it takes; 0 without an error: b does not hold all of it yet.
func ReadMessage(b []byte, limit int) (m Message, n int, err error) {
	if len(b) < 5 {
		return m, 0, nil
	}
	length := int64(binary.BigEndian.Uint32(b[1:]))
	switch {
	case length < 4 || length-4 > int64(limit):
		return m, 0, ErrMessage
	case int64(len(b)) < 1+length:
		return m, 0, nil
	}
	n = int(1 + length)
	return Message{b[0], b[5:n]}, n, nil
}

// Begin appends the head of a message whose length End will fill in: b =
// End(append(Begin(b, kind), body...), start), where start was len(b).
func Begin(b []byte, kind byte) []byte { return append(b, kind, 0, 0, 0, 0) }

// End fills in the length of the message that begins at start.
func End(b []byte, start int) []byte {
	binary.BigEndian.PutUint32(b[start+1:], uint32(len(b)-start-1))
	return b
}

// AppendMessage appends a message with parts as its body.
func AppendMessage(b []byte, kind byte, parts ...string) []byte {
	start := len(b)
	b = Begin(b, kind)
	for _, p := range parts {
		b = append(b, p...)
	}
	return End(b, start)
}

// AppendAuth appends an Authentication message of a kind, with its data.
func AppendAuth(b []byte, kind uint32, data ...string) []byte {
	start := len(b)
	b = binary.BigEndian.AppendUint32(Begin(b, Authentication), kind)
	for _, d := range data {
		b = append(b, d...)
	}
	return End(b, start)
}

// AppendStatus appends a ParameterStatus.
func AppendStatus(b []byte, name, value string) []byte {
	return AppendMessage(b, ParameterStatus, name, "\x00", value, "\x00")
}

// AppendReady appends a ReadyForQuery; status is 'I', 'T' or 'E'.
func AppendReady(b []byte, status byte) []byte { return append(b, ReadyForQuery, 0, 0, 0, 5, status) }

// AppendComplete appends a CommandComplete.
func AppendComplete(b []byte, tag string) []byte {
	return AppendMessage(b, CommandComplete, tag, "\x00")
}

// A Report is the content of an ErrorResponse or a NoticeResponse.
type Report struct{ Severity, Code, Message, Detail, Hint string }

// AppendReport appends r as a message of a kind: ErrorResponse or NoticeResponse.
func AppendReport(b []byte, kind byte, r Report) []byte {
	start := len(b)
	b = Begin(b, kind)
	for _, f := range []struct {
		kind byte
		text string
	}{{'S', r.Severity}, {'V', r.Severity}, {'C', r.Code}, {'M', r.Message}, {'D', r.Detail}, {'H', r.Hint}} {
		if f.text != "" {
			b = append(append(append(b, f.kind), strings.ReplaceAll(f.text, "\x00", "")...), 0)
		}
	}
	return End(append(b, 0), start)
}

// ReadReport reads the body of an ErrorResponse or a NoticeResponse; fields that
// a server left out are empty, and what is no field ends it.
func ReadReport(body []byte) (r Report) {
	rest := string(body)
	for len(rest) > 1 && rest[0] != 0 {
		value, after, ok := strings.Cut(rest[1:], "\x00")
		if !ok {
			break
		}
		switch rest[0] {
		case 'S':
			if r.Severity == "" {
				r.Severity = value
			}
		case 'V': // the one that no server translates
			r.Severity = value
		case 'C':
			r.Code = value
		case 'M':
			r.Message = value
		case 'D':
			r.Detail = value
		case 'H':
			r.Hint = value
		}
		rest = after
	}
	return r
}

// Types of columns, by the OIDs of pg_type.
const (
	Bytea   = 17
	Int8    = 20
	Int4    = 23
	Text    = 25
	Numeric = 1700
)

// A Column is one of a result in text format.
type Column struct {
	Name string
	Type uint32
}

// AppendColumns appends a RowDescription.
func AppendColumns(b []byte, columns []Column) []byte {
	start := len(b)
	b = binary.BigEndian.AppendUint16(Begin(b, RowDescription), uint16(len(columns)))
	for _, c := range columns {
		b = append(append(b, c.Name...), 0)
		b = append(b, 0, 0, 0, 0, 0, 0) // no table
		b = binary.BigEndian.AppendUint32(b, c.Type)
		b = binary.BigEndian.AppendUint16(b, uint16(size(c.Type)))
		b = binary.BigEndian.AppendUint32(b, ^uint32(0)) // no modifier
		b = append(b, 0, 0)                              // text
	}
	return End(b, start)
}

// size is pg_type.typlen: -1 for what varies.
func size(typ uint32) int16 {
	switch typ {
	case Int4:
		return 4
	case Int8:
		return 8
	}
	return -1
}

// A Value is one of a row; Null has none.
type Value struct {
	Text string
	Null bool
}

// AppendRow appends a DataRow.
func AppendRow(b []byte, values []Value) []byte {
	start := len(b)
	b = binary.BigEndian.AppendUint16(Begin(b, DataRow), uint16(len(values)))
	for _, v := range values {
		if v.Null {
			b = binary.BigEndian.AppendUint32(b, ^uint32(0))
			continue
		}
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(v.Text))), v.Text...)
	}
	return End(b, start)
}
