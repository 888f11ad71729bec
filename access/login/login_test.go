package login

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"howdah/access/hba"
	"howdah/pgwire"
	"howdah/scram"
	"howdah/secret"
)

const iterations = 4 // enough for tests

// stored is the secret of a password in a kind.
func stored(t interface{ Fatal(...any) }, kind Kind, user, password string) Credential {
	switch kind {
	case Plain:
		return Parse(secret.Text(password))
	case Hash:
		return Parse(secret.Text("md5" + digest(password+user)))
	case Verifier:
		v, err := scram.New(password, []byte("salt of "+user), iterations)
		if err != nil {
			t.Fatal(err)
		}
		return Parse(secret.Text(v.Text()))
	}
	return Parse("")
}

// converse runs a client that is user with c against the machine for a, and
// returns the server, what it said in all and what the client thought.
func converse(a Ask, c Credential) (s *Server, said []byte, v Verdict, err error) {
	client := NewClient(a.User, c, make([]byte, scram.NonceSize))
	s, out, v := Begin(a, nil)
	for {
		said = append(said, out...)
		var answer []byte
		for len(out) > 0 {
			m, n, _ := pgwire.ReadMessage(out, 1<<16)
			if n == 0 {
				panic("half a message")
			}
			out = out[n:]
			var cv Verdict
			if answer, cv, err = client.Feed(m, answer); cv != More {
				return s, said, v, err
			}
		}
		if v != More {
			return s, said, v, err
		}
		if len(answer) == 0 {
			return s, said, v, errors.New("both wait")
		}
		for len(answer) > 0 && v == More {
			var n int
			n, out, v = s.Feed(answer, out)
			if n == 0 && v == More {
				panic("a whole message was not taken")
			}
			answer = answer[n:]
		}
	}
}

var (
	kinds   = rapid.SampledFrom([]Kind{Nothing, Plain, Hash, Verifier})
	methods = rapid.SampledFrom([]hba.Method{hba.Password, hba.MD5, hba.SCRAM})
	secrets = rapid.SampledFrom([]string{"pencil", "Pencil", "it's a \\secret", "½"})
)

// Which method takes which secret: the table of PgBouncer's manual.
func takes(m hba.Method, k Kind) bool {
	return k != Nothing && (m != hba.SCRAM || k != Hash)
}

func TestNobodyGetsInWithoutTheSecret(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		method, kind := methods.Draw(t, "method"), kinds.Draw(t, "kind")
		right, given := secrets.Draw(t, "right"), secrets.Draw(t, "given")
		a := Ask{Method: method, User: "ann", Known: rapid.Bool().Draw(t, "known"), Iterations: iterations, Likely: kinds.Draw(t, "likely"), Mock: []byte("m")}
		copy(a.Random[:], rapid.SliceOfN(rapid.Byte(), RandomSize, RandomSize).Draw(t, "random"))
		if rapid.Bool().Draw(t, "stored at all") {
			a.Credential = stored(t, kind, "ann", right)
		} else {
			kind = Nothing
		}
		s, _, v, err := converse(a, Parse(secret.Text(given)))
		want := a.Known && right == given && takes(method, kind)
		if want != (v == Proven) || v == More {
			t.Fatalf("%s with kind %d, known %v, %q for %q: %v, %v", method, kind, a.Known, given, right, v, err)
		}
		if v == Refused {
			if r := s.Refusal(); r == nil || r.Code != "08P01" || r.Message == "" || s.Credential().Kind != Nothing || s.Credential().Keys != nil {
				t.Fatalf("refused with %+v", r)
			}
			if _, out, again := s.Feed([]byte("p\x00\x00\x00\x05\x00"), nil); again != Refused || out != nil {
				t.Fatal("who was refused may go on")
			}
			return
		}
		// What proved her logs in where the same secret is stored, by every
		// method but those that PgBouncer cannot pass through either.
		c := s.Credential()
		for _, at := range []hba.Method{hba.Password, hba.MD5, hba.SCRAM} {
			b := Ask{Method: at, User: "ann", Known: true, Credential: stored(t, kind, "ann", right), Iterations: iterations}
			_, _, v, err := converse(b, c)
			can := takes(at, kind)
			switch {
			case c.Kind == Plain:
			case c.Kind == Hash:
				can = at == hba.MD5
			default: // SCRAM keys
				can = c.Keys != nil && (at == hba.SCRAM || at == hba.MD5)
			}
			if can != (v == Proven) {
				t.Fatalf("proven by %s with kind %d, then %s: %v, %v", method, kind, at, v, err)
			}
		}
	})
}

// Whoever asks about users learns nothing: what she hears until the end depends
// on what she says, not on whether there is such a user.
func TestNobodyIsToldWhoExists(t *testing.T) {
	for _, method := range []hba.Method{hba.Password, hba.MD5, hba.SCRAM} {
		for _, kind := range []Kind{Plain, Hash, Verifier} {
			shape := func(known bool) string {
				a := Ask{Method: method, User: "ann", Known: known, Likely: kind, Iterations: iterations, Mock: []byte("m")}
				if known {
					a.Credential = stored(t, kind, "ann", "pencil")
					if kind == Verifier { // as PostgreSQL makes it
						v, _ := scram.New("pencil", make([]byte, scram.SaltSize), iterations)
						a.Credential = Parse(secret.Text(v.Text()))
					}
				}
				_, said, v, _ := converse(a, Parse("wrong"))
				if v != Refused {
					t.Fatalf("%s: %v", method, v)
				}
				var b strings.Builder
				for len(said) > 0 {
					m, n, _ := pgwire.ReadMessage(said, 1<<16)
					said = said[n:]
					fmt.Fprintf(&b, "%c%d ", m.Type, len(m.Body))
					if m.Type == pgwire.ErrorResponse {
						b.WriteString(pgwire.ReadReport(m.Body).Message)
					}
				}
				return b.String()
			}
			if a, b := shape(true), shape(false); a != b {
				t.Errorf("%s, secrets of kind %d:\nsomebody hears %s\nnobody hears   %s", method, kind, a, b)
			}
		}
	}
}

func TestWhatNeedsNoSecret(t *testing.T) {
	m, _ := hba.ParseMap("m her ann\nm root all\n")
	for _, tt := range []struct {
		name string
		ask  Ask
		want string
	}{
		{"trust", Ask{Method: hba.Trust, Known: true}, ""},
		{"trust nobody", Ask{Method: hba.Trust}, `"trust" authentication failed`},
		{"reject", Ask{Method: hba.Reject, Known: true}, "login rejected"},
		{"no method", Ask{Known: true}, "login rejected"},
		{"cert", Ask{Method: hba.Cert, Known: true, Certificate: "ann"}, ""},
		{"another's cert", Ask{Method: hba.Cert, Known: true, Certificate: "bob"}, "certificate authentication failed"},
		{"no cert", Ask{Method: hba.Cert, Known: true}, "certificate authentication failed"},
		{"cert by a map", Ask{Method: hba.Cert, Known: true, Certificate: "her", Map: m, MapName: "m"}, ""},
		{"cert that the map does not have", Ask{Method: hba.Cert, Known: true, Certificate: "ann", Map: m, MapName: "m"}, "certificate authentication failed"},
		{"peer by a map", Ask{Method: hba.Peer, Known: true, Peer: "root", Map: m, MapName: "m"}, ""},
		{"another peer", Ask{Method: hba.Peer, Known: true, Peer: "bob"}, "unix socket login rejected"},
	} {
		tt.ask.User = "ann"
		s, out, v := Begin(tt.ask, nil)
		switch {
		case tt.want == "":
			if v != Proven || len(out) > 0 {
				t.Errorf("%s: %v, %q", tt.name, v, out)
			}
		case v != Refused || s.Refusal().Message != tt.want || pgwire.ReadReport(out[5:]).Message != tt.want:
			t.Errorf("%s: %v, %+v, want %q", tt.name, v, s.Refusal(), tt.want)
		}
	}
}

func TestHostilePasswords(t *testing.T) {
	ask := func(m hba.Method) *Server {
		s, _, v := Begin(Ask{Method: m, User: "ann", Known: true, Credential: stored(t, Verifier, "ann", "pencil")}, nil)
		if v != More {
			t.Fatal(v)
		}
		return s
	}
	sasl := func(name, data string) string {
		return name + "\x00" + string(binary.BigEndian.AppendUint32(nil, uint32(len(data)))) + data
	}
	for _, tt := range []struct {
		name   string
		method hba.Method
		in     string
		want   string
	}{
		{"a query", hba.Password, "Q\x00\x00\x00\x05\x00", "bad packet"},
		{"2^31-1 bytes", hba.Password, "p\x7f\xff\xff\xff", "password too long"},
		{"2^32-1 bytes", hba.Password, "p\xff\xff\xff\xff", "password too long"},
		{"a length of 3", hba.Password, "p\x00\x00\x00\x03", "password too long"},
		{"no zero", hba.Password, "p\x00\x00\x00\x05a", "bad packet"},
		{"two zeros", hba.Password, "p\x00\x00\x00\x08a\x00b\x00", "bad packet"},
		{"empty", hba.Password, "p\x00\x00\x00\x05\x00", "empty password returned by client"},
		{"SASL of 64 kB", hba.SCRAM, "p\x00\x00\xff\xff", "password too long"},
		{"a mechanism that ends nowhere", hba.SCRAM, "p\x00\x00\x00\x08abcd", "SASL authentication failed"},
		{"another mechanism", hba.SCRAM, string(pgwire.AppendMessage(nil, 'p', sasl("SCRAM-SHA-1", "n,,n=,r=c"))), "client selected an invalid SASL authentication mechanism"},
		{"binding without TLS", hba.SCRAM, string(pgwire.AppendMessage(nil, 'p', sasl(scram.Plus, "p=tls-server-end-point,,n=,r=c"))), "client selected an invalid SASL authentication mechanism"},
		{"no first message", hba.SCRAM, string(pgwire.AppendMessage(nil, 'p', scram.Mechanism+"\x00\xff\xff\xff\xff")), "SASL authentication failed"},
		{"a length that lies", hba.SCRAM, string(pgwire.AppendMessage(nil, 'p', scram.Mechanism+"\x00\x7f\xff\xff\xffn,,n=,r=c")), "SASL authentication failed"},
		{"a plain password", hba.SCRAM, string(pgwire.AppendMessage(nil, 'p', "pencil\x00")), "SASL authentication failed"},
	} {
		s := ask(tt.method)
		_, out, v := s.Feed([]byte(tt.in), nil)
		if v != Refused || s.Refusal().Message != tt.want {
			t.Errorf("%s: %v, %v; want %q", tt.name, v, s.Refusal(), tt.want)
			continue
		}
		if r := pgwire.ReadReport(out[5:]); r.Message != tt.want || r.Code != "08P01" || r.Severity != "FATAL" {
			t.Errorf("%s: the client hears %+v", tt.name, r)
		}
	}
}

// A client that drips gets the same answer, and no more than Limit is ever kept.
func TestADrippingClient(t *testing.T) {
	c := stored(t, Verifier, "ann", "pencil")
	s, out, _ := Begin(Ask{Method: hba.SCRAM, User: "ann", Known: true, Credential: c}, nil)
	client := NewClient("ann", Parse("pencil"), make([]byte, scram.NonceSize))
	var v Verdict
	for v == More {
		m, _, _ := pgwire.ReadMessage(out, 1<<16)
		answer, _, err := client.Feed(m, nil)
		if err != nil {
			t.Fatal(err)
		}
		out = nil
		for n := range answer {
			var used int
			used, out, v = s.Feed(answer[:n+1], nil)
			if (used > 0) != (n+1 == len(answer)) {
				t.Fatalf("%d of %d bytes: used %d", n+1, len(answer), used)
			}
		}
	}
	if v != Proven || s.Credential().Keys == nil {
		t.Errorf("%v", v)
	}
}

func TestServersThatCheat(t *testing.T) {
	auth := func(kind uint32, data ...string) pgwire.Message {
		return pgwire.Message{Type: 'R', Body: pgwire.AppendAuth(nil, kind, data...)[5:]}
	}
	sasl := auth(pgwire.AuthSASL, scram.Mechanism+"\x00\x00")
	challenge := auth(pgwire.AuthSASLContinue, "r="+scram.Nonce(make([]byte, scram.NonceSize))+"x,s=AAAA,i=1")
	for _, tt := range []struct {
		name   string
		cred   Credential
		script []pgwire.Message
		want   error
	}{
		{"it lets us in without a proof", Parse("pencil"), []pgwire.Message{sasl, challenge, auth(pgwire.AuthOK)}, ErrServer},
		{"a challenge without a beginning", Parse("pencil"), []pgwire.Message{challenge}, ErrServer},
		{"an end without a challenge", Parse("pencil"), []pgwire.Message{sasl, auth(pgwire.AuthSASLFinal, "v=AAAA")}, ErrServer},
		{"two challenges", Parse("pencil"), []pgwire.Message{sasl, challenge, challenge}, ErrServer},
		{"the password after a SCRAM offer", Parse("pencil"), []pgwire.Message{sasl, auth(pgwire.AuthPassword)}, ErrServer},
		{"a forged signature", Parse("pencil"), []pgwire.Message{sasl, challenge, auth(pgwire.AuthSASLFinal, "v="+strings.Repeat("A", 43)+"=")}, scram.ErrProof},
		{"a nonce that is not ours", Parse("pencil"), []pgwire.Message{sasl, auth(pgwire.AuthSASLContinue, "r=xyz,s=AAAA,i=1")}, scram.ErrMessage},
		{"work without end", Parse("pencil"), []pgwire.Message{sasl, auth(pgwire.AuthSASLContinue, "r="+scram.Nonce(make([]byte, scram.NonceSize))+"x,s=AAAA,i=2147483647")}, scram.ErrMessage},
		{"SCRAM for a hash", stored(t, Hash, "ann", "p"), []pgwire.Message{sasl}, ErrKind},
		{"SCRAM for a verifier without keys", stored(t, Verifier, "ann", "p"), []pgwire.Message{sasl}, ErrKind},
		{"MD5 for a verifier", stored(t, Verifier, "ann", "p"), []pgwire.Message{auth(pgwire.AuthMD5, "salt")}, ErrKind},
		{"MD5 with half a salt", Parse("pencil"), []pgwire.Message{auth(pgwire.AuthMD5, "sa")}, ErrServer},
		{"a password for a hash", stored(t, Hash, "ann", "p"), []pgwire.Message{auth(pgwire.AuthPassword)}, ErrKind},
		{"a password for nothing", Parse(""), []pgwire.Message{auth(pgwire.AuthPassword)}, ErrKind},
		{"Kerberos", Parse("pencil"), []pgwire.Message{auth(7)}, ErrMethod},
		{"SASL of another kind", Parse("pencil"), []pgwire.Message{auth(pgwire.AuthSASL, "OAUTHBEARER\x00\x00")}, ErrMethod},
		{"half a request", Parse("pencil"), []pgwire.Message{{Type: 'R', Body: []byte{0, 0}}}, ErrServer},
		{"a row", Parse("pencil"), []pgwire.Message{{Type: 'D'}}, ErrServer},
	} {
		c := NewClient("ann", tt.cred, make([]byte, scram.NonceSize))
		var err error
		var v Verdict
		for i, m := range tt.script {
			if _, v, err = c.Feed(m, nil); v != More && i < len(tt.script)-1 {
				t.Errorf("%s: %v already at message %d: %v", tt.name, v, i, err)
			}
		}
		if v != Refused || !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, %v; want %v", tt.name, v, err, tt.want)
		}
	}
}

func TestARefusalOfTheServerIsRelayed(t *testing.T) {
	full := pgwire.AppendReport(nil, pgwire.ErrorResponse, pgwire.Report{Severity: "FATAL", Code: "28P01", Message: "no"})
	for _, tt := range []struct{ body, code string }{
		{string(full[5:]), "28P01"},
		{"SFATAL\x00Mno\x00\x00", "08P01"}, // no SQLSTATE
		{"", "08P01"},
		{"Cx", "08P01"},
	} {
		_, v, err := NewClient("ann", Parse("p"), nil).Feed(pgwire.Message{Type: 'E', Body: []byte(tt.body)}, nil)
		r, ok := errors.AsType[*Rejection](err)
		if v != Refused || !ok || r.Code != tt.code {
			t.Errorf("%q: %v, %v", tt.body, v, err)
		}
	}
}

func TestAPlainPasswordIsPreparedOnce(t *testing.T) {
	c, err := Parse("pencil").Prepared([]byte("salt"), iterations)
	if err != nil || !c.prepared() {
		t.Fatal(err)
	}
	again, err := c.Prepared([]byte("another"), iterations)
	if err != nil || !bytes.Equal(again.Verifier.Salt, c.Verifier.Salt) {
		t.Errorf("it was derived again: %v", err)
	}
	_, said, v, err := converse(Ask{Method: hba.SCRAM, User: "ann", Known: true, Credential: c}, Parse("pencil"))
	if v != Proven || err != nil || !bytes.Contains(said, []byte("s=c2FsdA==,i=4")) {
		t.Errorf("%v, %v, %q", v, err, said)
	}
}

func TestAProofIsKept(t *testing.T) {
	bare, other := stored(t, Verifier, "ann", "pencil"), stored(t, Verifier, "ann", "changed")
	proven := bare
	proven.Keys = &scram.Keys{}
	for _, tt := range []struct {
		name      string
		now, then Credential
		kept      bool
	}{
		{"let in on trust after a proof", bare, proven, true},
		{"let in on trust after a password", bare, Parse("pencil"), true},
		{"let in on trust after the password was changed", other, proven, false},
		{"a new proof", proven, Parse("pencil"), false},
		{"a password", Parse("pencil"), proven, false},
		{"a hash", stored(t, Hash, "ann", "pencil"), proven, false},
		{"nobody was there before", bare, Credential{}, false},
	} {
		got := tt.now.Keeping(tt.then)
		if want := map[bool]Credential{true: tt.then, false: tt.now}[tt.kept]; got.Secret != want.Secret || got.Keys != want.Keys || got.Kind != want.Kind {
			t.Errorf("%s: kept is the other one", tt.name)
		}
	}
}

func TestSecretsStayInside(t *testing.T) {
	for _, kind := range []Kind{Plain, Hash, Verifier} {
		c := stored(t, kind, "ann", "pencil")
		text := fmt.Sprintf("%v %+v %#v", c, Ask{Credential: c}, &c)
		for _, leak := range []string{"pencil", digest("pencilann"), "c2FsdA", "salt of"} {
			if strings.Contains(text, leak) {
				t.Errorf("kind %d is printed: %s", kind, text)
			}
		}
	}
}

func FuzzServer(f *testing.F) {
	f.Add(uint8(0), []byte("p\x00\x00\x00\x0bpencils\x00"))
	f.Add(uint8(2), pgwire.AppendMessage(nil, 'p', scram.Mechanism+"\x00\x00\x00\x00\x09n,,n=,r=c"))
	v := Parse(secret.Text("SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="))
	f.Fuzz(func(t *testing.T, m uint8, in []byte) {
		method := []hba.Method{hba.Password, hba.MD5, hba.SCRAM}[m%3]
		if method == hba.Password && bytes.Contains(in, []byte("pencil\x00")) {
			t.Skip("that is it")
		}
		s, _, verdict := Begin(Ask{Method: method, User: "ann", Known: true, Credential: v}, nil)
		for len(in) > 0 && verdict == More {
			n, _, next := s.Feed(in, nil)
			if n == 0 && next == More {
				if len(in) >= s.Limit() {
					t.Fatalf("%d bytes are kept, the limit is %d", len(in), s.Limit())
				}
				break
			}
			in, verdict = in[n:], next
		}
		if verdict == Proven {
			t.Fatal("somebody got in")
		}
	})
}

func FuzzClient(f *testing.F) {
	f.Add([]byte("R\x00\x00\x00\x17\x00\x00\x00\x0aSCRAM-SHA-256\x00\x00"))
	f.Add([]byte("E\x00\x00\x00\x06C\x00"))
	f.Fuzz(func(t *testing.T, in []byte) {
		c := NewClient("ann", Parse("pencil"), make([]byte, scram.NonceSize))
		c.Derive = func(string, []byte, int) (scram.Keys, error) { return scram.Keys{}, nil }
		for len(in) > 0 {
			m, n, err := pgwire.ReadMessage(in, 1<<16)
			if n == 0 || err != nil {
				return
			}
			in = in[n:]
			if _, v, err := c.Feed(m, nil); v != More || err != nil {
				return
			}
		}
	})
}
