package login

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"howdah/access/hba"
	"howdah/pgwire"
	"howdah/scram"
	"howdah/secret"
)

// An Ask is one client who wants in, and what is known of her.
type Ask struct {
	Method hba.Method
	User   string
	// Known is false if there is nobody of this name: she is asked like all
	// others, and refused at the end.
	Known      bool
	Credential Credential
	// Likely is what users here mostly have stored; nobody's secret is taken for
	// one. Nothing means Verifier.
	Likely Kind

	Mock       []byte           // this process's secret for the salts of nobody
	Random     [RandomSize]byte // fresh, from the system
	Iterations int              // for verifiers that are made of plain passwords; 0 means PostgreSQL's default
	Binding    []byte           // of the TLS connection, to offer channel binding; nil for none

	Certificate string // for cert: the common name that was verified; "" for none
	Peer        string // for peer: the user at the other end of the socket; "" for none
	Map         hba.Map
	MapName     string
}

// RandomSize is how much chance one login needs: a nonce, and a salt.
const RandomSize = scram.NonceSize + scram.SaltSize

func (a Ask) nonce() string     { return scram.Nonce(a.Random[:scram.NonceSize]) }
func (a Ask) salt() []byte      { return a.Random[scram.NonceSize:] }
func (a Ask) challenge() []byte { return a.salt()[:4] } // of MD5

// A Verdict is what came of a login so far.
type Verdict int

// The verdicts.
const (
	More    Verdict = iota // wait for the other side
	Proven                 // she is who she says
	Refused                // say so and close
)

// A Refusal is why a client was not let in.
type Refusal struct {
	Code    string // SQLSTATE
	Message string // what she reads
	Reason  string // what the log says; "" if that is the same
}

func (r *Refusal) Error() string {
	if r.Reason != "" {
		return r.Message + ": " + r.Reason
	}
	return r.Message
}

// Violation is the SQLSTATE of all that a pooler refuses itself.
const Violation = "08P01"

// Limits of a client's message, in bytes of its body.
const (
	passwordMax = 65530 + 1     // and its zero byte
	saslMax     = 1024 + 64 + 4 // a message, the name of a mechanism, a length
)

// state is what a server waits for.
type state int

const (
	over state = iota
	password
	challenged // an MD5 password
	mechanism  // SASLInitialResponse
	continuing // SASLResponse
)

// A Server is the server's side of one login.
type Server struct {
	ask      Ask
	state    state
	exchange *scram.Server
	refusal  *Refusal
	proven   Credential
}

// Begin appends to out what the client hears first. The verdict may be final at
// once; what ends a login well, AuthenticationOk, is left to whoever goes on.
func Begin(a Ask, out []byte) (*Server, []byte, Verdict) {
	s := &Server{ask: a, proven: a.Credential}
	kind := a.Likely
	if a.Known && a.Credential.Kind != Nothing {
		kind = a.Credential.Kind
	}
	switch a.Method {
	case hba.Trust:
		if !a.Known {
			return s.refuse(out, `"trust" authentication failed`, "there is no such user")
		}
		return s, out, Proven
	case hba.Cert:
		if !a.Map.Allows(a.MapName, a.Certificate, a.User) || !a.Known {
			return s.refuse(out, "certificate authentication failed", fmt.Sprintf("the certificate is %q's", a.Certificate))
		}
		return s, out, Proven
	case hba.Peer:
		if !a.Map.Allows(a.MapName, a.Peer, a.User) || !a.Known {
			return s.refuse(out, "unix socket login rejected", fmt.Sprintf("the peer is %q", a.Peer))
		}
		return s, out, Proven
	case hba.Password:
		s.state = password
		return s, pgwire.AppendAuth(out, pgwire.AuthPassword), More
	case hba.MD5:
		if kind == Verifier || kind == Nothing {
			return s.sasl(out)
		}
		s.state = challenged
		return s, pgwire.AppendAuth(out, pgwire.AuthMD5, string(a.challenge())), More
	case hba.SCRAM:
		return s.sasl(out)
	case hba.Reject:
		return s.refuse(out, "login rejected", "by a rule")
	}
	return s.refuse(out, "login rejected", fmt.Sprintf("method %q is not one", a.Method))
}

// sasl offers SCRAM.
func (s *Server) sasl(out []byte) (*Server, []byte, Verdict) {
	a := s.ask
	iterations := a.Iterations
	if iterations == 0 {
		iterations = scram.Iterations
	}
	verifier, known := a.Credential.Verifier, a.Known
	switch {
	case known && a.Credential.Kind == Verifier:
	case known && a.Credential.Kind == Plain:
		c, err := a.Credential.Prepared(a.salt(), iterations)
		if err != nil {
			return s.refuse(out, "SASL authentication failed", err.Error())
		}
		verifier = c.Verifier
	default: // nobody, no secret, or one that SCRAM cannot use
		verifier, known = scram.Mock(a.User, a.Mock, iterations), false
	}
	s.state = mechanism
	s.exchange = scram.NewServer(verifier, known, a.nonce(), a.Binding)
	offer := strings.Join(scram.Mechanisms(a.Binding), "\x00") + "\x00\x00"
	return s, pgwire.AppendAuth(out, pgwire.AuthSASL, offer), More
}

// Credential is what proved her, and what logs in for her at a server.
func (s *Server) Credential() Credential { return s.proven }

// Refusal is why she was not let in.
func (s *Server) Refusal() *Refusal { return s.refusal }

// Limit is how many bytes of a message may have to be kept until it is whole.
func (s *Server) Limit() int { return 5 + s.limit() }

func (s *Server) limit() int {
	if s.state == mechanism || s.state == continuing {
		return saslMax
	}
	return passwordMax
}

// Feed takes what the client sent and returns how much of it was a message: none
// while it is not whole. What it appends to out is to be sent before the verdict
// is acted upon; a refusal is in it already.
func (s *Server) Feed(in, out []byte) (used int, _ []byte, _ Verdict) {
	if s.state == over {
		return 0, out, Refused
	}
	if len(in) > 0 && in[0] != pgwire.Password {
		_, out, v := s.refuse(out, "bad packet", fmt.Sprintf("a password was waited for, %q came", in[0]))
		return 0, out, v
	}
	m, used, err := pgwire.ReadMessage(in, s.limit())
	switch {
	case err != nil:
		_, out, v := s.refuse(out, "password too long", "")
		return 0, out, v
	case used == 0:
		return 0, out, More
	}
	out, v := s.message(string(m.Body), out)
	return used, out, v
}

func (s *Server) message(body string, out []byte) ([]byte, Verdict) {
	switch s.state {
	case password, challenged:
		text, ok := strings.CutSuffix(body, "\x00")
		if !ok || strings.IndexByte(text, 0) >= 0 {
			_, out, v := s.refuse(out, "bad packet", "the password does not end with its zero byte")
			return out, v
		}
		return s.password(text, out)
	case mechanism:
		name, rest, ok := strings.Cut(body, "\x00")
		if !ok || len(rest) < 4 {
			_, out, v := s.refuse(out, "SASL authentication failed", "a SASLInitialResponse that ends early")
			return out, v
		}
		if name != scram.Mechanism && (name != scram.Plus || s.ask.Binding == nil) {
			_, out, v := s.refuse(out, "client selected an invalid SASL authentication mechanism", "")
			return out, v
		}
		// -1 would mean that the message comes later, which SCRAM has no use for.
		if binary.BigEndian.Uint32([]byte(rest)) != uint32(len(rest)-4) {
			_, out, v := s.refuse(out, "SASL authentication failed", "a SASLInitialResponse of another length than it says")
			return out, v
		}
		reply, err := s.exchange.First(name, rest[4:])
		if err != nil {
			_, out, v := s.refuse(out, "SASL authentication failed", err.Error())
			return out, v
		}
		s.state = continuing
		return pgwire.AppendAuth(out, pgwire.AuthSASLContinue, reply), More
	}
	reply, keys, err := s.exchange.Final(body)
	if err != nil {
		_, out, v := s.refuse(out, "SASL authentication failed", s.why(err))
		return out, v
	}
	if s.ask.Credential.Kind == Verifier {
		s.proven.Keys = &keys
	}
	s.state = over
	return pgwire.AppendAuth(out, pgwire.AuthSASLFinal, reply), Proven
}

// why says to the log what the client is not told.
func (s *Server) why(err error) string {
	c := s.ask.Credential
	switch {
	case !errors.Is(err, scram.ErrProof):
		return err.Error()
	case !s.ask.Known:
		return "there is no such user"
	case c.Kind == Nothing:
		return "the user has no secret"
	case c.Kind == Hash:
		return "the user's secret is an MD5 hash, which SCRAM cannot use"
	}
	return "wrong password"
}

// password judges a password, or the proof of one, that came in one message.
func (s *Server) password(text string, out []byte) ([]byte, Verdict) {
	a := s.ask
	holds := false
	switch {
	case s.state == challenged:
		// Nobody's hash costs as much as somebody's.
		hash := a.Credential.hash(a.User)
		holds = same(proof(hash, a.challenge()), text) && hash != ""
	case text == "":
		_, out, v := s.refuse(out, "empty password returned by client", "")
		return out, v
	case a.Known && a.Credential.Kind != Nothing:
		holds = a.Credential.is(a.User, text)
		s.proven = Credential{Kind: Plain, Secret: secret.Text(text)}
	case a.Likely == Verifier || a.Likely == Nothing:
		scram.Mock(a.User, a.Mock, scram.Iterations).Is(text) // as long as for somebody
	}
	if !holds || !a.Known {
		_, out, v := s.refuse(out, "password authentication failed", s.why(scram.ErrProof))
		return out, v
	}
	s.state = over
	return out, Proven
}

// refuse ends the login.
func (s *Server) refuse(out []byte, message, reason string) (*Server, []byte, Verdict) {
	s.state, s.proven = over, Credential{}
	s.refusal = &Refusal{Violation, message, reason}
	return s, pgwire.AppendError(out, Violation, message, ""), Refused
}
