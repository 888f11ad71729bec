package pooler

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"reflect"

	"golang.org/x/crypto/chacha20poly1305"
)

// A session over TLS 1.3 whose handshake another process has made goes on here: what is
// left of the protocol then is its record layer (RFC 8446, 5 and 7.2), from the secrets
// and the numbers of the next records. crypto/tls takes in no such connection, and gives
// none out; what it has of one is read by Sealing.

// Sealed is such a connection on its way: its keys are worth what it carries.
type Sealed struct {
	Suite uint16     `json:"suite"`
	In    SealedHalf `json:"in"`
	Out   SealedHalf `json:"out"`
	Raw   []byte     `json:"raw,omitempty"`   // of a record that has come in part
	Plain []byte     `json:"plain,omitempty"` // opened, and not read yet
}

// A SealedHalf is one direction.
type SealedHalf struct {
	Secret []byte `json:"secret"`
	Next   uint64 `json:"next"` // number of the next record
}

const (
	recordHead = 5
	recordMost = 1<<14 + 256 // of what is sealed
	plainMost  = 1 << 14
	idleMost   = 16 // records without data, one after another

	typeAlert     = 21
	typeHandshake = 22
	typeData      = 23

	keyUpdate = 24 // a handshake message
)

var (
	errRecord = errors.New("TLS: a record that can not be")
	errAlert  = errors.New("TLS: the other side gave up")
)

// Sealing is what c will go on from elsewhere; false: it can not. Nobody may be
// reading or writing. crypto/tls keeps it to itself, so it is read by the names that
// Go gives to it; where another release has other names, sessions are not handed
// over, and a test fails.
func Sealing(c *tls.Conn) (s Sealed, ok bool) {
	defer func() {
		if recover() != nil {
			s, ok = Sealed{}, false
		}
	}()
	state := c.ConnectionState()
	if state.Version != tls.VersionTLS13 || !state.HandshakeComplete {
		return s, false
	}
	conn := reflect.ValueOf(c).Elem()
	half := func(name string) SealedHalf {
		v := conn.FieldByName(name)
		seq := v.FieldByName("seq")
		var n [8]byte
		for i := range n {
			n[i] = byte(seq.Index(i).Uint())
		}
		return SealedHalf{append([]byte(nil), v.FieldByName("trafficSecret").Bytes()...), binary.BigEndian.Uint64(n[:])}
	}
	unread := func(name, bytes, from string) []byte {
		v := conn.FieldByName(name)
		return append([]byte(nil), v.FieldByName(bytes).Bytes()[v.FieldByName(from).Int():]...)
	}
	for _, name := range []string{"in", "out"} {
		if !conn.FieldByName(name).FieldByName("err").IsNil() {
			return s, false
		}
	}
	if len(unread("hand", "buf", "off")) > 0 || conn.FieldByName("sendBuf").Len() > 0 {
		return s, false
	}
	s = Sealed{Suite: state.CipherSuite, In: half("in"), Out: half("out"), Raw: unread("rawInput", "buf", "off"), Plain: unread("input", "s", "i")}
	if _, err := newSeal(s.Suite, s.In); err != nil {
		return s, false
	}
	_, err := newSeal(s.Suite, s.Out)
	return s, err == nil
}

// A seal opens or closes the records of one direction.
type seal struct {
	suite uint16
	SealedHalf
	aead cipher.AEAD
	iv   []byte
}

func hashOf(suite uint16) (func() hash.Hash, int, error) {
	switch suite {
	case tls.TLS_AES_128_GCM_SHA256:
		return sha256.New, 16, nil
	case tls.TLS_AES_256_GCM_SHA384:
		return sha512.New384, 32, nil
	case tls.TLS_CHACHA20_POLY1305_SHA256:
		return sha256.New, chacha20poly1305.KeySize, nil
	}
	return nil, 0, fmt.Errorf("TLS: cipher suite %#04x", suite)
}

// expand is HKDF-Expand-Label with no context.
func expand(h func() hash.Hash, secret []byte, label string, n int) ([]byte, error) {
	label = "tls13 " + label
	info := binary.BigEndian.AppendUint16(nil, uint16(n))
	info = append(append(info, byte(len(label))), label...)
	return hkdf.Expand(h, secret, string(append(info, 0)), n)
}

func newSeal(suite uint16, half SealedHalf) (*seal, error) {
	h, keyLen, err := hashOf(suite)
	if err != nil {
		return nil, err
	}
	if len(half.Secret) != h().Size() {
		return nil, fmt.Errorf("TLS: a secret of %d bytes", len(half.Secret))
	}
	key, err := expand(h, half.Secret, "key", keyLen)
	if err != nil {
		return nil, err
	}
	s := &seal{suite: suite, SealedHalf: half}
	if s.iv, err = expand(h, half.Secret, "iv", 12); err != nil {
		return nil, err
	}
	if suite == tls.TLS_CHACHA20_POLY1305_SHA256 {
		s.aead, err = chacha20poly1305.New(key)
		return s, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	s.aead, err = cipher.NewGCM(block)
	return s, err
}

// nonce is that of the next record.
func (s *seal) nonce() []byte {
	var n [12]byte
	binary.BigEndian.PutUint64(n[4:], s.Next)
	s.Next++
	for i := range n {
		n[i] ^= s.iv[i]
	}
	return n[:]
}

// update goes on to the next secret.
func (s *seal) update() error {
	h, _, err := hashOf(s.suite)
	if err != nil {
		return err
	}
	next, err := expand(h, s.Secret, "traffic upd", len(s.Secret))
	if err != nil {
		return err
	}
	fresh, err := newSeal(s.suite, SealedHalf{Secret: next})
	if err == nil {
		*s = *fresh
	}
	return err
}

// A record is the layer of a connection that was sealed elsewhere.
type record struct {
	socket  *socket
	in, out *seal
	raw     []byte
	plain   []byte
	err     error
}

func newRecord(s *socket, from Sealed) (*record, error) {
	in, err := newSeal(from.Suite, from.In)
	if err != nil {
		return nil, err
	}
	out, err := newSeal(from.Suite, from.Out)
	if err != nil {
		return nil, err
	}
	return &record{socket: s, in: in, out: out, raw: from.Raw, plain: from.Plain}, nil
}

// sealed is what another process goes on from.
func (r *record) sealed() (Sealed, bool) {
	return Sealed{Suite: r.in.suite, In: r.in.SealedHalf, Out: r.out.SealedHalf, Raw: r.raw, Plain: r.plain}, r.err == nil
}

// Read implements layer.
func (r *record) Read(b []byte) (int, error) {
	for range idleMost {
		if len(r.plain) > 0 {
			n := copy(b, r.plain)
			if r.plain = r.plain[n:]; len(r.plain) == 0 {
				r.plain = nil
			}
			return n, nil
		}
		if r.err != nil {
			return 0, r.err
		}
		body, err := r.next()
		if err != nil {
			if err != errAgain {
				r.err = err
				return 0, err
			}
			return 0, wouldBlock{}
		}
		r.err = r.take(body)
	}
	r.err = errRecord
	return 0, r.err
}

// next reads a record: its head and what is sealed.
func (r *record) next() ([]byte, error) {
	for {
		if len(r.raw) >= recordHead {
			n := int(binary.BigEndian.Uint16(r.raw[3:]))
			if r.raw[0] != typeData || n > recordMost || n < 1 {
				return nil, errRecord
			}
			if whole := recordHead + n; len(r.raw) >= whole {
				body := r.raw[:whole:whole]
				if r.raw = r.raw[whole:]; len(r.raw) == 0 {
					r.raw = nil
				}
				return body, nil
			}
		}
		piece := r.socket.loop.in // also of whoever reads, who gets what was opened afterwards
		n, err := rawRead(r.socket.fd, piece)
		if err != nil {
			return nil, err
		}
		r.raw = append(r.raw, piece[:n]...)
	}
}

// take opens a record and does what it says.
func (r *record) take(body []byte) error {
	plain, err := r.in.aead.Open(body[recordHead:recordHead], r.in.nonce(), body[recordHead:], body[:recordHead])
	if err != nil {
		return errRecord
	}
	end := len(plain) - 1
	for end >= 0 && plain[end] == 0 {
		end--
	}
	if end < 0 || end > plainMost {
		return errRecord
	}
	kind, plain := plain[end], plain[:end]
	switch kind {
	case typeData:
		r.plain = plain
		return nil
	case typeAlert:
		if len(plain) == 2 && plain[1] == 0 { // close_notify
			return io.EOF
		}
		return errAlert
	case typeHandshake:
		if len(plain) != 5 || plain[0] != keyUpdate || plain[3] != 1 || plain[4] > 1 {
			return errRecord
		}
		if err := r.in.update(); err != nil || plain[4] == 0 {
			return err
		}
		r.send(typeHandshake, []byte{keyUpdate, 0, 0, 1, 0})
		return r.out.update()
	}
	return errRecord
}

// Write implements layer.
func (r *record) Write(b []byte) (int, error) {
	for all := b; len(all) > 0; {
		n := min(len(all), plainMost)
		r.send(typeData, all[:n])
		all = all[n:]
	}
	return len(b), nil
}

// send sends one record; what the kernel does not take now waits.
func (r *record) send(kind byte, plain []byte) {
	n := len(plain) + 1 + r.out.aead.Overhead()
	b := make([]byte, recordHead, recordHead+n)
	b[0], b[1], b[2] = typeData, 3, 3
	binary.BigEndian.PutUint16(b[3:], uint16(n))
	head := [recordHead]byte(b)
	b = append(append(b, plain...), kind)
	b = r.out.aead.Seal(b[:recordHead], r.out.nonce(), b[recordHead:], head[:])
	s := r.socket
	if s.dead {
		return
	}
	for !s.pending() && len(b) > 0 {
		m, err := rawWrite(s.fd, b)
		if err == errAgain {
			break
		}
		if err != nil {
			s.dead = true
			return
		}
		b = b[m:]
	}
	s.out = append(s.out, b...)
}

// CloseWrite implements layer.
func (r *record) CloseWrite() error {
	r.send(typeAlert, []byte{1, 0}) // a warning: close_notify
	return nil
}
