// Package pgwire holds the words of PostgreSQL's wire protocol that somebody
// between client and server needs: what a client may send first, and the
// messages that end a session before it began.
//
// Source: PostgreSQL manual, "Frontend/Backend Protocol, Message Formats";
// src/include/libpq/pqcomm.h; src/backend/tcop/backend_startup.c.
package pgwire

import (
	"encoding/binary"
	"errors"
)

// Codes that stand where a startup message has its protocol version.
const (
	CancelRequest = 1234<<16 | 5678
	SSLRequest    = 1234<<16 | 5679
	GSSENCRequest = 1234<<16 | 5680
)

// Limits of a first packet, as the server has them.
const (
	startupMin = 8     // length and code
	StartupMax = 10000 // MAX_STARTUP_PACKET_LENGTH
	cancelMin  = 16    // with the four bytes of key that protocols before 3.2 have
)

// TLSRecord is the first byte of a client that begins with TLS at once
// (sslnegotiation=direct): a handshake record.
const TLSRecord = 0x16

// A First is the first packet of a client: a startup message, or a request in
// its place. It has no type byte.
//
//	+--------+--------+------------------
//	| length | code   | parameters, or the key of a cancel request
//	4        8
type First struct {
	Code uint32
	Body []byte // after the code
}

// ErrFirst says that what a client began with is no packet of this protocol.
var ErrFirst = errors.New("not a startup packet")

// ReadFirst reads the first packet from b, and returns how many bytes it takes.
// 0 without an error: b does not hold all of it yet.
func ReadFirst(b []byte) (f First, n int, err error) {
	if len(b) > 0 && b[0] != 0 {
		return f, 0, ErrFirst // no packet is that long
	}
	if len(b) < 4 {
		return f, 0, nil
	}
	length := binary.BigEndian.Uint32(b)
	if length < startupMin || length > StartupMax {
		return f, 0, ErrFirst // waiting for the rest of it would be in vain
	}
	if len(b) < startupMin {
		return f, 0, nil
	}
	f.Code = binary.BigEndian.Uint32(b[4:])
	if f.Code == CancelRequest && length < cancelMin {
		return f, 0, ErrFirst
	}
	if uint32(len(b)) < length {
		return f, 0, nil
	}
	f.Body = b[startupMin:length]
	return f, int(length), nil
}

// Types of messages that a server sends while a session begins.
const (
	Authentication  = 'R'
	BackendKeyData  = 'K'
	ErrorResponse   = 'E'
	ParameterStatus = 'S'
	ReadyForQuery   = 'Z'
)

// AppendError appends an ErrorResponse of severity FATAL.
//
//	+---+--------+---+----------+---+---+
//	| E | length | S | FATAL \0 | … | 0 |
//	1   5
func AppendError(b []byte, code, message, hint string) []byte {
	start := len(b)
	b = append(b, ErrorResponse, 0, 0, 0, 0)
	for _, f := range []struct {
		kind byte
		text string
	}{{'S', "FATAL"}, {'V', "FATAL"}, {'C', code}, {'M', message}, {'H', hint}} {
		if f.text != "" {
			b = append(append(append(b, f.kind), f.text...), 0)
		}
	}
	b = append(b, 0)
	binary.BigEndian.PutUint32(b[start+1:], uint32(len(b)-start-1))
	return b
}

// SQLSTATEs that we answer with.
const (
	CannotConnectNow   = "57P03"
	TooManyConnections = "53300"
)

// A Key names a session to whoever wants to cancel what it does: the body of
// BackendKeyData, and of a cancel request. Protocol 3.2 lets the secret be
// longer than four bytes.
type Key string

// A KeyScan finds the BackendKeyData in what a server sends. It looks no
// further than the first ReadyForQuery or error, and gives up on what is not
// the protocol: an encrypted stream. A server's refusal to encrypt, one byte, may
// come before the first message.
type KeyScan struct {
	began bool // a message came
	head  [5]byte
	have  int  // bytes of head
	left  int  // bytes of the message's body to come
	keep  bool // the body is a key
	key   []byte
	Done  bool
}

// keyMax is the longest body of BackendKeyData: a process id and 256 bytes.
const keyMax = 4 + 256

// Feed takes the next bytes and returns the key once it is complete.
func (s *KeyScan) Feed(b []byte) (Key, bool) {
	for len(b) > 0 && !s.Done {
		if !s.began && b[0] == 'N' {
			b = b[1:]
			continue
		}
		s.began = true
		if s.have < len(s.head) {
			n := copy(s.head[s.have:], b)
			b, s.have = b[n:], s.have+n
			if s.have < len(s.head) {
				return "", false
			}
			s.begin()
			if s.Done {
				return "", false
			}
		}
		n := min(s.left, len(b))
		if s.keep {
			s.key = append(s.key, b[:n]...)
		}
		b, s.left = b[n:], s.left-n
		if s.left > 0 {
			return "", false
		}
		s.have = 0
		if s.keep {
			s.Done = true
			return Key(s.key), true
		}
	}
	return "", false
}

// begin looks at a complete head.
func (s *KeyScan) begin() {
	length := int(binary.BigEndian.Uint32(s.head[1:]))
	s.left = length - 4
	switch s.head[0] {
	case Authentication, ParameterStatus, 'N', 'v': // notice, NegotiateProtocolVersion
	case BackendKeyData:
		s.keep = s.left >= 8 && s.left <= keyMax
		s.Done = !s.keep
	default:
		s.Done = true
	}
	if s.left < 0 || s.left > 1<<20 {
		s.Done = true
	}
}
