package pgwire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"
)

func first(code uint32, body string) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(8+len(body)))
	return append(binary.BigEndian.AppendUint32(b, code), body...)
}

func TestFirstPackets(t *testing.T) {
	startup := first(3<<16, "user\x00demo\x00\x00")
	for _, tt := range []struct {
		name string
		in   []byte
		code uint32
		n    int
		bad  bool
	}{
		{"nothing yet", nil, 0, 0, false},
		{"half a length", startup[:3], 0, 0, false},
		{"all but a byte", startup[:len(startup)-1], 3 << 16, 0, false},
		{"startup", startup, 3 << 16, len(startup), false},
		{"startup and more", append(startup, "Q"...), 3 << 16, len(startup), false},
		{"TLS", first(SSLRequest, ""), SSLRequest, 8, false},
		{"cancel", first(CancelRequest, "\x00\x00\x00\x07keys"), CancelRequest, 16, false},
		{"cancel of protocol 3.2", first(CancelRequest, "\x00\x00\x00\x07a longer secret"), CancelRequest, 27, false},
		{"cancel without a key", first(CancelRequest, "\x00\x00\x00\x07"), CancelRequest, 0, true},
		{"HTTP", []byte("GET / HTTP/1.0\r\n"), 0, 0, true},
		{"TLS at once", []byte{TLSRecord, 3, 1}, 0, 0, true},
		{"too long", first(3<<16, string(make([]byte, StartupMax))), 0, 0, true},
		{"too short", []byte{0, 0, 0, 7, 0, 3, 0, 0}, 0, 0, true},
		{"too short, and all there", []byte{0, 0, 0, 7, 0, 3, 0}, 0, 0, true},
		{"a length of nothing, as soon as it is there", []byte{0, 0, 0, 0}, 0, 0, true},
	} {
		f, n, err := ReadFirst(tt.in)
		if n != tt.n || errors.Is(err, ErrFirst) != tt.bad || n > 0 && f.Code != tt.code {
			t.Errorf("%s: ReadFirst = %#x, %d, %v; want %#x, %d, bad %v", tt.name, f.Code, n, err, tt.code, tt.n, tt.bad)
		}
	}
}

func message(kind byte, body string) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{kind}, uint32(4+len(body))), body...)
}

func TestTheKeyIsFoundHoweverItArrives(t *testing.T) {
	session := bytes.Join([][]byte{
		[]byte("NN"), // neither GSSAPI nor TLS
		message(Authentication, "\x00\x00\x00\x00"), message(ParameterStatus, "server_version\x0015\x00"),
		message(BackendKeyData, "\x00\x00\x00\x07keys"), message(ReadyForQuery, "I"),
	}, nil)
	for step := 1; step <= len(session); step++ {
		var s KeyScan
		var got Key
		for rest := session; len(rest) > 0; {
			n := min(step, len(rest))
			if k, ok := s.Feed(rest[:n]); ok {
				got = k
			}
			rest = rest[n:]
		}
		if got != "\x00\x00\x00\x07keys" || !s.Done {
			t.Errorf("in pieces of %d: key %q, done %v", step, got, s.Done)
		}
	}
}

func TestNoKeyWhereThereIsNone(t *testing.T) {
	for name, b := range map[string][]byte{
		"TLS":         append([]byte("S"), 0x16, 3, 3, 0, 0x7a, 2, 0, 0, 0x76, 3, 3),
		"an error":    AppendError(nil, CannotConnectNow, "the database system is starting up", ""),
		"a short key": message(BackendKeyData, "\x00\x00\x00\x07"),
		"a huge one":  message(BackendKeyData, string(make([]byte, 400))),
	} {
		var s KeyScan
		if k, ok := s.Feed(b); ok || !s.Done {
			t.Errorf("%s: key %q, done %v", name, k, s.Done)
		}
	}
}

func TestAnErrorIsOneMessage(t *testing.T) {
	b := AppendError([]byte("before"), CannotConnectNow, "no primary", "wait")[6:]
	if b[0] != ErrorResponse || int(binary.BigEndian.Uint32(b[1:])) != len(b)-1 || b[len(b)-1] != 0 {
		t.Errorf("framing of %q", b)
	}
	if want := "SFATAL\x00VFATAL\x00C57P03\x00Mno primary\x00Hwait\x00\x00"; string(b[5:]) != want {
		t.Errorf("body %q, want %q", b[5:], want)
	}
}

func FuzzFirstPacket(f *testing.F) {
	f.Add(first(SSLRequest, ""))
	f.Add(first(3<<16, "user\x00demo\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, n, err := ReadFirst(b)
		if n < 0 || n > len(b) || n > StartupMax || n > 0 && (err != nil || len(got.Body) != n-8) {
			t.Errorf("ReadFirst(%q) = %v, %d, %v", b, got, n, err)
		}
	})
}

func FuzzKeyScan(f *testing.F) {
	f.Add(message(BackendKeyData, "\x00\x00\x00\x07keys"), 3)
	f.Fuzz(func(t *testing.T, b []byte, step int) {
		var s KeyScan
		step = max(step%7, 1)
		for len(b) > 0 {
			n := min(step, len(b))
			if k, ok := s.Feed(b[:n]); ok && (len(k) < 8 || len(k) > keyMax) {
				t.Errorf("key of %d bytes", len(k))
			}
			b = b[n:]
		}
	})
}
