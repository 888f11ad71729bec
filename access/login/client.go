package login

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"howdah/pgwire"
	"howdah/scram"
)

// Errors of logging in to a server, besides a Rejection.
var (
	// ErrKind: what the server asks for cannot be made of what is stored.
	ErrKind = errors.New("server login failed: wrong password type")
	// ErrMethod: the server asks for something that a pooler does not speak.
	ErrMethod = errors.New("unknown/unsupported auth method")
	// ErrServer: the server breaks the protocol, or did not prove itself.
	ErrServer = errors.New("bad answer of the server to a login")
)

// A Rejection is what a server said when it refused a login. Its code is never
// empty.
type Rejection struct{ pgwire.Report }

func (r *Rejection) Error() string {
	return fmt.Sprintf("server login failed: %s %s (SQLSTATE %s)", r.Severity, r.Message, r.Code)
}

// A Client is the client's side of one login at a server.
type Client struct {
	user       string
	credential Credential
	nonce      string
	exchange   *scram.Client
	asked      bool // for a proof
	answered   bool // the server's challenge, once
	verified   bool // the server proved itself too
	proven     bool
	// Derive computes keys of a password; nil is scram.Derive. Whoever logs in
	// often puts a memory here.
	Derive func(password string, salt []byte, iterations int) (scram.Keys, error)
}

// NewClient begins a login as user; random is scram.NonceSize fresh bytes.
func NewClient(user string, c Credential, random []byte) *Client {
	return &Client{user: user, credential: c, nonce: scram.Nonce(random)}
}

// Feed takes the server's next message and appends to out what to answer. Proven
// comes with AuthenticationOk; what the server sends after it is not Feed's. An
// error comes with Refused.
func (c *Client) Feed(m pgwire.Message, out []byte) ([]byte, Verdict, error) {
	switch m.Type {
	case pgwire.NoticeResponse, pgwire.ParameterStatus, 'v': // NegotiateProtocolVersion
		return out, More, nil
	case pgwire.ErrorResponse:
		r := pgwire.ReadReport(m.Body)
		if len(r.Code) != 5 {
			r.Code = Violation
		}
		return out, Refused, &Rejection{r}
	case pgwire.Authentication:
		if len(m.Body) < 4 || c.proven {
			break
		}
		return c.authentication(binary.BigEndian.Uint32(m.Body), m.Body[4:], out)
	}
	return out, Refused, fmt.Errorf("%w: message %q of %d bytes", ErrServer, m.Type, len(m.Body))
}

func (c *Client) authentication(kind uint32, data, out []byte) ([]byte, Verdict, error) {
	fail := func(err error) ([]byte, Verdict, error) { return out, Refused, err }
	early := fmt.Errorf("%w: authentication request %d at this point", ErrServer, kind)
	switch kind {
	case pgwire.AuthOK:
		if c.exchange != nil && !c.verified {
			return fail(fmt.Errorf("%w: it let us in without proving itself", ErrServer))
		}
		c.proven = true
		return out, Proven, nil
	case pgwire.AuthPassword, pgwire.AuthMD5, pgwire.AuthSASL:
		if c.asked {
			return fail(early)
		}
		c.asked = true
	case pgwire.AuthSASLContinue, pgwire.AuthSASLFinal:
		if c.exchange == nil || c.verified || c.answered != (kind == pgwire.AuthSASLFinal) {
			return fail(early)
		}
	default:
		return fail(fmt.Errorf("%w: %d", ErrMethod, kind))
	}
	switch kind {
	case pgwire.AuthPassword:
		if c.credential.Kind != Plain {
			return fail(fmt.Errorf("%w: it asks for the password itself", ErrKind))
		}
		return pgwire.AppendMessage(out, pgwire.Password, c.credential.Secret.Reveal(), "\x00"), More, nil
	case pgwire.AuthMD5:
		hash := c.credential.hash(c.user)
		if hash == "" {
			return fail(fmt.Errorf("%w: it asks for an MD5 proof", ErrKind))
		}
		if len(data) != 4 {
			return fail(fmt.Errorf("%w: a salt of %d bytes", ErrServer, len(data)))
		}
		return pgwire.AppendMessage(out, pgwire.Password, proof(hash, data), "\x00"), More, nil
	case pgwire.AuthSASL:
		if !slices.Contains(strings.Split(string(data), "\x00"), scram.Mechanism) {
			return fail(fmt.Errorf("%w: SASL without %s", ErrMethod, scram.Mechanism))
		}
		if c.credential.Kind != Plain && c.credential.Keys == nil {
			return fail(fmt.Errorf("%w: it asks for a SCRAM proof", ErrKind))
		}
		c.exchange = scram.NewClient(c.nonce)
		first := c.exchange.First()
		length := binary.BigEndian.AppendUint32(nil, uint32(len(first)))
		return pgwire.AppendMessage(out, pgwire.Password, scram.Mechanism, "\x00", string(length), first), More, nil
	case pgwire.AuthSASLContinue:
		c.answered = true
		reply, err := c.exchange.Final(string(data), c.keys)
		if err != nil {
			return fail(fmt.Errorf("%w: %w", ErrServer, err))
		}
		return pgwire.AppendMessage(out, pgwire.Password, reply), More, nil
	}
	if err := c.exchange.Verify(string(data)); err != nil {
		return fail(fmt.Errorf("%w: %w", ErrServer, err))
	}
	c.verified = true
	return out, More, nil
}

// keys are what the server's salt and count make of the credential.
func (c *Client) keys(salt []byte, iterations int) (scram.Keys, error) {
	if c.credential.Keys != nil {
		return *c.credential.Keys, nil
	}
	derive := c.Derive
	if derive == nil {
		derive = scram.Derive
	}
	return derive(c.credential.Secret.Reveal(), salt, iterations)
}
