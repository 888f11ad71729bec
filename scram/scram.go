// Package scram is SCRAM-SHA-256 as PostgreSQL speaks it: how a password is
// normalised and kept, and both sides of the exchange as messages in and out.
//
// It has no randomness of its own: nonces and salts come from outside. It never
// prints a key. Sources: RFC 5802, RFC 7677, RFC 5929 (tls-server-end-point),
// RFC 4013; src/common/scram-common.c, src/common/saslprep.c,
// src/backend/libpq/auth-scram.c, src/interfaces/libpq/fe-auth-scram.c.
package scram

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Names of the mechanisms.
const (
	Mechanism = "SCRAM-SHA-256"
	Plus      = "SCRAM-SHA-256-PLUS" // with channel binding
)

// Sizes, as PostgreSQL has them (scram-common.h).
const (
	Iterations = 4096 // what a new secret gets
	SaltSize   = 16   // bytes of a new salt
	NonceSize  = 18   // random bytes of a nonce, before base64

	// IterationsMax bounds the work that a server can demand of whoever logs in
	// to it with a password: about half a second.
	IterationsMax = 2_000_000

	saltMax    = 1024
	messageMax = 4096 // of the other side, in bytes; a server's nonce may be long
)

// Size is that of every key.
const Size = sha256.Size

// Keys are what a password is worth for one salt and count: who holds the
// client key can log in wherever the same verifier is stored.
type Keys struct{ Client, Server [Size]byte }

// Format masks the keys under every verb of fmt.
func (Keys) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "***") }

// A Verifier is what a server stores of a password.
type Verifier struct {
	Iterations     int
	Salt           []byte
	Stored, Server [Size]byte
}

// Format masks the verifier: whoever reads it can try passwords against it.
func (Verifier) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "***") }

// Derive computes the keys of a password; it costs about a millisecond for
// 4096 iterations.
func Derive(password string, salt []byte, iterations int) (Keys, error) {
	if iterations < 1 || iterations > IterationsMax || len(salt) > saltMax {
		return Keys{}, fmt.Errorf("%w: %d iterations, %d bytes of salt", ErrMessage, iterations, len(salt))
	}
	salted, err := pbkdf2.Key(sha256.New, Normalize(password), salt, iterations, Size)
	if err != nil {
		return Keys{}, err
	}
	return Keys{mac(salted, "Client Key"), mac(salted, "Server Key")}, nil
}

// Verifier is what a server stores of k.
func (k Keys) Verifier(salt []byte, iterations int) Verifier {
	return Verifier{iterations, salt, sha256.Sum256(k.Client[:]), k.Server}
}

// New is the verifier of a password.
func New(password string, salt []byte, iterations int) (Verifier, error) {
	k, err := Derive(password, salt, iterations)
	return k.Verifier(salt, iterations), err
}

// Text is v as pg_authid.rolpassword has it:
//
//	SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>
func (v Verifier) Text() string {
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("%s$%d:%s$%s:%s", Mechanism, v.Iterations, b64(v.Salt), b64(v.Stored[:]), b64(v.Server[:]))
}

// Parse reads what Text writes; anything else is no verifier.
func Parse(text string) (v Verifier, ok bool) {
	name, rest, ok1 := strings.Cut(text, "$")
	head, keys, ok2 := strings.Cut(rest, "$")
	count, salt, ok3 := strings.Cut(head, ":")
	stored, server, ok4 := strings.Cut(keys, ":")
	if !ok1 || !ok2 || !ok3 || !ok4 || name != Mechanism {
		return Verifier{}, false
	}
	n, err := strconv.ParseInt(count, 10, 32)
	if err != nil || n < 1 {
		return Verifier{}, false
	}
	v.Iterations = int(n)
	if v.Salt, err = decode(salt); err != nil || len(v.Salt) > saltMax {
		return Verifier{}, false
	}
	if !key(&v.Stored, stored) || !key(&v.Server, server) {
		return Verifier{}, false
	}
	return v, true
}

// Is says whether v is password's.
func (v Verifier) Is(password string) bool {
	k, err := Derive(password, v.Salt, v.Iterations)
	return err == nil && v.holds(k.Client)
}

// holds says whether v was made of the client key k.
func (v Verifier) holds(k [Size]byte) bool {
	stored := sha256.Sum256(k[:])
	return hmac.Equal(stored[:], v.Stored[:])
}

// Errors of an exchange.
var (
	ErrMessage = errors.New("malformed SCRAM message")
	ErrBinding = errors.New("SCRAM channel binding does not match")
	ErrProof   = errors.New("SCRAM proof does not match")
)

// decode reads base64 without the leniency of newlines.
func decode(s string) ([]byte, error) {
	if strings.ContainsAny(s, "\r\n") {
		return nil, ErrMessage
	}
	return base64.StdEncoding.Strict().DecodeString(s)
}

// key decodes one key.
func key(k *[Size]byte, text string) bool {
	b, err := decode(text)
	return err == nil && copy(k[:], b) == Size && len(b) == Size
}

func mac(key []byte, text string) (sum [Size]byte) {
	h := hmac.New(sha256.New, key)
	_, _ = io.WriteString(h, text)
	h.Sum(sum[:0])
	return sum
}

// xor undoes or makes a proof.
func xor(a, b [Size]byte) [Size]byte {
	for i := range a {
		a[i] ^= b[i]
	}
	return a
}

// attribute takes "name=value" from the front of msg, up to the next comma.
func attribute(msg *string, name byte) (value string, err error) {
	n, value, err := anyAttribute(msg)
	if err == nil && n != name {
		err = fmt.Errorf("%w: attribute %q expected, %q found", ErrMessage, name, n)
	}
	return value, err
}

func anyAttribute(msg *string) (name byte, value string, err error) {
	s := *msg
	if len(s) < 2 || s[1] != '=' || s[0]|0x20 < 'a' || s[0]|0x20 > 'z' {
		return 0, "", fmt.Errorf("%w: an attribute expected", ErrMessage)
	}
	value, *msg, _ = strings.Cut(s[2:], ",")
	return s[0], value, nil
}

// nonce says whether s may be one: printable, without a comma.
func nonce(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(c rune) bool { return c < 0x21 || c > 0x7e || c == ',' })
}

// Nonce is a nonce made of random bytes.
func Nonce(random []byte) string { return base64.StdEncoding.EncodeToString(random) }
