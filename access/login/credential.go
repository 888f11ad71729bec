// Package login is how a client proves who she is to the pooler, and the pooler
// to a server: PostgreSQL's authentication as machines that take the bytes of
// one side and return what to send, and in the end a verdict.
//
// It has no sockets, clock or randomness; what it needs of chance comes with the
// question. A user that does not exist is asked as one that does, and refused at
// the same moment with the same words. Messages and SQLSTATEs are PgBouncer's,
// which are not PostgreSQL's: 08P01 for all that the pooler refuses itself.
// Sources: "Frontend/Backend Protocol, Start-up"; PgBouncer's src/client.c,
// src/server.c (login_*, handle_auth_*), src/scram.c.
package login

import (
	"crypto/md5"
	"crypto/subtle"
	"encoding/hex"
	"strings"

	"howdah/scram"
	"howdah/secret"
)

// A Kind says what a stored secret is.
type Kind int

// The kinds of secrets.
const (
	Nothing  Kind = iota // empty: it never matches
	Plain                // the password itself
	Hash                 // md5 and 32 digits: the MD5 of password and name
	Verifier             // SCRAM-SHA-256$…
)

// A Credential is what is known of a user: it proves her to us, and logs in for
// her at a server.
type Credential struct {
	Kind     Kind
	Secret   secret.Text    // as stored; the hash for Hash
	Verifier scram.Verifier // for Verifier; for Plain the one it was prepared with, if it was
	// Keys are what a client's proof gave away: they log in wherever the same
	// verifier is stored. Nil before such a proof.
	Keys *scram.Keys
}

// Parse says what a stored secret is (src/scram.c, get_password_type).
func Parse(stored secret.Text) Credential {
	text := stored.Reveal()
	c := Credential{Kind: Plain, Secret: stored}
	if text == "" {
		c.Kind = Nothing
	} else if digits, ok := strings.CutPrefix(text, "md5"); ok && len(digits) == 32 && strings.Trim(digits, "0123456789abcdef") == "" {
		c.Kind = Hash
	} else if v, ok := scram.Parse(text); ok {
		c.Kind, c.Verifier = Verifier, v
	}
	return c
}

// Prepared is a plain password with a verifier of its own, so that its SCRAM
// exchanges cost no derivation each; anything else is left as it is.
func (c Credential) Prepared(salt []byte, iterations int) (Credential, error) {
	if c.Kind != Plain || c.prepared() {
		return c, nil
	}
	v, err := scram.New(c.Secret.Reveal(), salt, iterations)
	if err != nil {
		return c, err
	}
	c.Verifier = v
	return c, nil
}

func (c Credential) prepared() bool { return c.Verifier.Iterations > 0 }

// Keeping is c, unless it proves nothing to a server and old, from an earlier
// login of the same user, still may: who was let in without a proof must not take
// away what a proof gave.
func (c Credential) Keeping(old Credential) Credential {
	if c.Kind != Verifier || c.Keys != nil {
		return c
	}
	if old.Kind == Plain || old.Keys != nil && old.Secret == c.Secret {
		return old
	}
	return c
}

// hash is the digits that an MD5 proof rests on; "" if c cannot give them.
func (c Credential) hash(user string) string {
	switch c.Kind {
	case Plain:
		return digest(c.Secret.Reveal() + user)
	case Hash:
		return strings.TrimPrefix(c.Secret.Reveal(), "md5")
	}
	return ""
}

// is says whether c is of the password that user gave.
func (c Credential) is(user, password string) bool {
	switch c.Kind {
	case Plain:
		return same(c.Secret.Reveal(), password)
	case Hash:
		return same(c.hash(user), digest(password+user))
	case Verifier:
		return c.Verifier.Is(password)
	}
	return false
}

// proof is the answer to a request for an MD5 password.
func proof(hash string, salt []byte) string { return "md5" + digest(hash+string(salt)) }

func digest(text string) string {
	sum := md5.Sum([]byte(text))
	return hex.EncodeToString(sum[:])
}

func same(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }
