package scram

import (
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"hash"
	"strconv"
	"strings"
)

// A Server is the server's side of one exchange. It refuses whoever it was told
// not to know at the same moment and in the same way as a wrong password.
type Server struct {
	verifier Verifier
	known    bool
	nonce    string
	binding  []byte // of the connection; nil if none was offered
	header   string // what the client's first message began with
	bound    bool   // the client chose the mechanism with channel binding
	first    string // both first messages, without header, as they are signed
	full     string // both nonces
}

// NewServer begins an exchange about v with a fresh nonce. An unknown user gets
// an exchange of the same shape, about a verifier that nobody has the password
// of (see Mock). binding is the channel's, if the mechanism that uses it is offered.
func NewServer(v Verifier, known bool, nonce string, binding []byte) *Server {
	return &Server{verifier: v, known: known, nonce: nonce, binding: binding}
}

// Mechanisms lists what a server offers; binding is nil without TLS.
func Mechanisms(binding []byte) []string {
	if binding == nil {
		return []string{Mechanism}
	}
	return []string{Plus, Mechanism}
}

// Mock is the verifier of a user that does not exist: the same for a name as
// long as secret is the same, so that asking twice tells nothing.
func Mock(user string, secret []byte, iterations int) Verifier {
	salt := mac(secret, user)
	return Verifier{Iterations: iterations, Salt: salt[:SaltSize]}
}

// First answers the client's first message, sent with the choice of mechanism.
func (s *Server) First(mechanism, msg string) (reply string, err error) {
	if err := text(msg); err != nil {
		return "", err
	}
	s.bound = mechanism == Plus
	if mechanism != Mechanism && (!s.bound || s.binding == nil) {
		return "", fmt.Errorf("%w: mechanism %q was not offered", ErrMessage, mechanism)
	}
	flag, rest, ok := strings.Cut(msg, ",")
	switch {
	case !ok:
		return "", fmt.Errorf("%w: it has no commas", ErrMessage)
	case s.bound && flag == "p=tls-server-end-point", !s.bound && flag == "n":
	case !s.bound && flag == "y" && s.binding == nil:
	case flag == "y":
		return "", fmt.Errorf("%w: the client thinks that it was not offered", ErrBinding)
	default:
		return "", fmt.Errorf("%w: flag %.32q", ErrBinding, flag)
	}
	if !strings.HasPrefix(rest, ",") { // an identity to act for
		return "", fmt.Errorf("%w: an authorization identity is not supported", ErrMessage)
	}
	s.header = flag + ",,"
	bare := rest[1:]
	rest = bare
	if _, err := attribute(&rest, 'n'); err != nil { // the startup message has the name
		return "", err
	}
	theirs, err := attribute(&rest, 'r')
	if err != nil {
		return "", err
	}
	if !nonce(theirs) {
		return "", fmt.Errorf("%w: the nonce is not printable", ErrMessage)
	}
	for rest != "" {
		if _, _, err := anyAttribute(&rest); err != nil { // extensions that we need not know
			return "", err
		}
	}
	s.full = theirs + s.nonce
	reply = "r=" + s.full + ",s=" + base64.StdEncoding.EncodeToString(s.verifier.Salt) + ",i=" + strconv.Itoa(s.verifier.Iterations)
	s.first = bare + "," + reply
	return reply, nil
}

// Final answers the client's last message. Its keys log in wherever the same
// verifier is stored. ErrProof: not the password, or nobody of this name.
func (s *Server) Final(msg string) (reply string, k Keys, err error) {
	if err := text(msg); err != nil {
		return "", k, err
	}
	rest := msg
	bound, err := attribute(&rest, 'c')
	if err != nil {
		return "", k, err
	}
	want := []byte(s.header)
	if s.bound {
		want = append(want, s.binding...)
	}
	if bound != base64.StdEncoding.EncodeToString(want) {
		return "", k, ErrBinding
	}
	full, err := attribute(&rest, 'r')
	if err != nil {
		return "", k, err
	}
	if full != s.full || s.full == "" {
		return "", k, fmt.Errorf("%w: the nonce does not match", ErrMessage)
	}
	without, proof, err := proof(msg, rest)
	if err != nil {
		return "", k, err
	}
	signed := s.first + "," + without
	k.Client = xor(mac(s.verifier.Stored[:], signed), proof)
	k.Server = s.verifier.Server
	if holds := s.verifier.holds(k.Client); !holds || !s.known {
		return "", Keys{}, ErrProof
	}
	signature := mac(s.verifier.Server[:], signed)
	return "v=" + base64.StdEncoding.EncodeToString(signature[:]), k, nil
}

// proof reads the last attribute of msg, whose tail is rest, and returns what
// stands before it.
func proof(msg, rest string) (without string, p [Size]byte, err error) {
	for {
		at := len(msg) - len(rest)
		name, value, err := anyAttribute(&rest)
		if err != nil {
			return "", p, err
		}
		if name != 'p' {
			continue // an extension
		}
		if rest != "" || strings.HasSuffix(msg, ",") || !key(&p, value) {
			return "", p, fmt.Errorf("%w: the proof", ErrMessage)
		}
		return msg[:at-1], p, nil
	}
}

// text refuses what is no message: too long, or with a zero byte inside.
func text(msg string) error {
	if len(msg) > messageMax || strings.IndexByte(msg, 0) >= 0 {
		return fmt.Errorf("%w: its length", ErrMessage)
	}
	return nil
}

// EndPoint is the binding of a TLS connection to its server's certificate (RFC
// 5929, tls-server-end-point); nil where the certificate's signature names no
// hash, as Ed25519: then there is none to offer.
func EndPoint(cert *x509.Certificate) []byte {
	var h hash.Hash
	switch cert.SignatureAlgorithm {
	case x509.MD5WithRSA, x509.SHA1WithRSA, x509.ECDSAWithSHA1, x509.SHA256WithRSA, x509.ECDSAWithSHA256, x509.SHA256WithRSAPSS:
		h = sha256.New()
	case x509.SHA384WithRSA, x509.ECDSAWithSHA384, x509.SHA384WithRSAPSS:
		h = sha512.New384()
	case x509.SHA512WithRSA, x509.ECDSAWithSHA512, x509.SHA512WithRSAPSS:
		h = sha512.New()
	default:
		return nil
	}
	h.Write(cert.Raw)
	return h.Sum(nil)
}
