package scram

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// The secret that PostgreSQL makes of "pencil" with the salt of RFC 7677.
const pencil = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="

// The exchange of RFC 7677 §3.
func TestRFC7677(t *testing.T) {
	v, ok := Parse(pencil)
	if !ok {
		t.Fatal("the verifier does not parse")
	}
	s := NewServer(v, true, "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0", nil)
	reply, err := s.First(Mechanism, "n,,n=user,r=rOprNGfwEbeRWgbNEkqO")
	if want := "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"; err != nil || reply != want {
		t.Fatalf("first = %q, %v; want %q", reply, err, want)
	}
	reply, k, err := s.Final("c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")
	if want := "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="; err != nil || reply != want {
		t.Fatalf("final = %q, %v; want %q", reply, err, want)
	}
	if derived, err := Derive("pencil", v.Salt, v.Iterations); err != nil || k != derived {
		t.Errorf("the keys that the proof gave away are not those of the password (%v)", err)
	}
	if v.Text() != pencil {
		t.Errorf("Text = %q", v.Text())
	}
}

// exchange runs a client against a server.
func exchange(s *Server, c *Client, keys func([]byte, int) (Keys, error)) (Keys, error) {
	reply, err := s.First(Mechanism, c.First())
	if err != nil {
		return Keys{}, err
	}
	final, err := c.Final(reply, keys)
	if err != nil {
		return Keys{}, err
	}
	last, k, err := s.Final(final)
	if err != nil {
		return Keys{}, err
	}
	return k, c.Verify(last)
}

func withPassword(p string) func([]byte, int) (Keys, error) {
	return func(salt []byte, n int) (Keys, error) { return Derive(p, salt, n) }
}

var words = rapid.StringMatching(`[a-zé½א ]{0,6}`)

func TestWhoKnowsThePasswordAndOnlySheGetsIn(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		stored, given := words.Draw(t, "stored"), words.Draw(t, "given")
		salt := rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(t, "salt")
		n := rapid.IntRange(1, 5).Draw(t, "iterations")
		known := rapid.Bool().Draw(t, "known")
		v, err := New(stored, salt, n)
		if err != nil {
			t.Fatal(err)
		}
		again, ok := Parse(v.Text())
		if !ok || again.Text() != v.Text() {
			t.Fatalf("%q does not survive", v.Text())
		}
		k, err := exchange(NewServer(again, known, "server", nil), NewClient("client"), withPassword(given))
		if want := known && Normalize(stored) == Normalize(given); want != (err == nil) {
			t.Fatalf("stored %q, given %q, known %v: %v", stored, given, known, err)
		}
		if err != nil {
			if !errors.Is(err, ErrProof) || k != (Keys{}) {
				t.Fatalf("refused with keys or with %v", err)
			}
			return
		}
		// What the proof gave away logs in at another server with the same verifier, and at no other.
		pass := func([]byte, int) (Keys, error) { return k, nil }
		if _, err := exchange(NewServer(v, true, "other", nil), NewClient("pooler"), pass); err != nil {
			t.Fatalf("pass-through: %v", err)
		}
		other, _ := New(stored, append(salt, 1), n)
		if _, err := exchange(NewServer(other, true, "other", nil), NewClient("pooler"), pass); !errors.Is(err, ErrProof) {
			t.Fatalf("pass-through to another salt: %v", err)
		}
	})
}

func TestAClientSeesThroughAServerThatKnowsNothing(t *testing.T) {
	c := NewClient("abc")
	salt := []byte("0123456789abcdef")
	if _, err := c.Final("r=abcdef,s="+base64.StdEncoding.EncodeToString(salt)+",i=1", withPassword("pencil")); err != nil {
		t.Fatal(err)
	}
	for _, msg := range []string{"v=" + base64.StdEncoding.EncodeToString(make([]byte, Size)), "v=", "v=AAAA", "e=other-error", "", "v"} {
		if err := c.Verify(msg); err == nil {
			t.Errorf("%q was taken for a proof", msg)
		}
	}
	if err := NewClient("abc").Verify("v=" + base64.StdEncoding.EncodeToString(make([]byte, Size))); err == nil {
		t.Error("a signature before any challenge was taken for a proof")
	}
}

func TestNobodyIsAskedLikeSomebody(t *testing.T) {
	secret := []byte("of this process")
	a, b := Mock("nobody", secret, Iterations), Mock("nobody", secret, Iterations)
	if !bytes.Equal(a.Salt, b.Salt) || len(a.Salt) != SaltSize || bytes.Equal(a.Salt, Mock("noone", secret, Iterations).Salt) {
		t.Error("a mock's salt must be a name's own, and stay")
	}
	if bytes.Equal(a.Salt, Mock("nobody", []byte("another"), Iterations).Salt) {
		t.Error("a mock's salt must not be foreseen")
	}
}

func TestChannelBinding(t *testing.T) {
	v, _ := New("pencil", []byte("salt"), 1)
	bind := []byte("certificate")
	k, _ := Derive("pencil", v.Salt, 1)
	sign := func(s *Server, header, bare string, binding []byte) string {
		first := bare + "," + "r=cs,s=" + base64.StdEncoding.EncodeToString(v.Salt) + ",i=1"
		without := "c=" + base64.StdEncoding.EncodeToString(append([]byte(header), binding...)) + ",r=cs"
		stored := sha256.Sum256(k.Client[:])
		p := xor(mac(stored[:], first+","+without), k.Client)
		return without + ",p=" + base64.StdEncoding.EncodeToString(p[:])
	}
	for _, tt := range []struct {
		name, mechanism, header string
		offered, sent           []byte
		first, final            bool
	}{
		{"bound", Plus, "p=tls-server-end-point,,", bind, bind, true, true},
		{"bound to another certificate", Plus, "p=tls-server-end-point,,", bind, []byte("of the one between"), true, false},
		{"not bound though offered", Mechanism, "n,,", bind, nil, true, true},
		{"offered, and the client was told otherwise", Mechanism, "y,,", bind, nil, false, false},
		{"not offered, and the client could", Mechanism, "y,,", nil, nil, true, true},
		{"chosen but not offered", Plus, "p=tls-server-end-point,,", nil, bind, false, false},
		{"of another kind", Plus, "p=tls-unique,,", bind, bind, false, false},
		{"the flag without the mechanism", Mechanism, "p=tls-server-end-point,,", bind, bind, false, false},
		{"the mechanism without the flag", Plus, "n,,", bind, nil, false, false},
		{"another header in the end", Mechanism, "n,,", nil, []byte("x"), true, false},
	} {
		s := NewServer(v, true, "s", tt.offered)
		_, err := s.First(tt.mechanism, tt.header+"n=,r=c")
		if (err == nil) != tt.first {
			t.Errorf("%s: first: %v", tt.name, err)
		}
		if err != nil {
			continue
		}
		if _, _, err := s.Final(sign(s, tt.header, "n=,r=c", tt.sent)); (err == nil) != tt.final {
			t.Errorf("%s: final: %v", tt.name, err)
		}
	}
}

func TestMessagesThatAreRefused(t *testing.T) {
	v, _ := New("pencil", []byte("salt"), 1)
	for _, msg := range []string{
		"", "n", "n,", "n,,", "n,a=me,n=,r=c", "x,,n=,r=c", "n,,r=c", "n,,n=", "n,,n=,r=", "n,,n=,r=a b", "n,,m=x,n=,r=c",
		"n,,n=,r=c,?", "n,,n=,r=c\x00", "n,,n=,r=" + strings.Repeat("c", messageMax),
	} {
		if _, err := NewServer(v, true, "s", nil).First(Mechanism, msg); err == nil {
			t.Errorf("first message %.40q was taken", msg)
		}
	}
	good := base64.StdEncoding.EncodeToString(make([]byte, Size))
	for _, msg := range []string{
		"", "c=biws", "c=biws,r=cs", "c=eSws,r=cs,p=" + good, "c=biws,r=other,p=" + good, "c=biws,r=cs,p=AAAA",
		"c=biws,r=cs,p=" + good + ",", "c=biws,r=cs,p=" + good + ",x=y", "r=cs,c=biws,p=" + good,
	} {
		s := NewServer(v, true, "s", nil)
		if _, err := s.First(Mechanism, "n,,n=,r=c"); err != nil {
			t.Fatal(err)
		}
		if _, _, err := s.Final(msg); err == nil || errors.Is(err, ErrProof) {
			t.Errorf("last message %.40q: %v", msg, err)
		}
	}
	if _, _, err := NewServer(v, true, "s", nil).Final("c=,r=,p=" + good); err == nil {
		t.Error("a last message without a first was taken")
	}
	for _, msg := range []string{"", "r=c", "r=c,s=,i=1", "r=x,s=,i=1", "r=cs", "r=cs,s=?,i=1", "r=cs,s=,i=0", "r=cs,s=,i=x", "r=cs,s=,i=1,", "r=cs,s=,i=1,x=", "r=cs,s=,i=99999999"} {
		if _, err := NewClient("c").Final(msg, withPassword("x")); err == nil {
			t.Errorf("challenge %q was answered", msg)
		}
	}
}

func TestVerifiers(t *testing.T) {
	for _, text := range []string{
		"", "SCRAM-SHA-256", "SCRAM-SHA-256$", "SCRAM-SHA-1$4096:AAAA$" + strings.Repeat("A", 43) + "=:" + strings.Repeat("A", 43) + "=",
		strings.Replace(pencil, "4096", "0", 1), strings.Replace(pencil, "4096", "-1", 1), strings.Replace(pencil, "4096", "99999999999", 1),
		strings.Replace(pencil, "W22Z", "?", 1), pencil + "A", pencil[:len(pencil)-4], pencil + "\n",
	} {
		if _, ok := Parse(text); ok {
			t.Errorf("%q was taken for a verifier", text)
		}
	}
	v, _ := Parse(pencil)
	k, _ := Derive("pencil", v.Salt, 1)
	if text := fmt.Sprintf("%v %+v %#v %s %x", v, &v, v, k, k); strings.Trim(text, "*& ") != "" {
		t.Errorf("keys are printed: %s", text)
	}
	if !v.Is("pencil") || v.Is("pencils") || v.Is("") {
		t.Error("the verifier takes another password, or not its own")
	}
}

// What PostgreSQL 15 makes of passwords, seen in its hashes by TestAgainstPostgreSQL of access/login.
func TestNormalize(t *testing.T) {
	for in, want := range map[string]string{
		"pencil": "pencil", "": "", "a b": "a b", "tab\there": "tab\there",
		"I\u00adX": "IX", "ª": "a", "Ⅸ": "IX", "½": "1⁄2", "a\u00a0b": "a b", "ﬁ": "fi", "e\u0301": "é",
		"\u00ad":   "\u00ad", // nothing would be left
		"\u0340½":  "\u0340½",
		"a\u0007½": "a\u0007½",                      // forbidden
		"ا1½":      "ا1½", "اب": "اب", "ﺍ1ﺏ": "ا1ب", // from right to left: begins and ends so
		"\xff½": "\xff½", "😀½": "😀½", "\u0221½": "\u0221½", // no UTF-8; not in Unicode 3.2
	} {
		if got := Normalize(in); got != want {
			t.Errorf("Normalize(%q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzServer(f *testing.F) {
	f.Add(Mechanism, "n,,n=,r=c", "c=biws,r=cs,p="+base64.StdEncoding.EncodeToString(make([]byte, Size)))
	f.Add(Plus, "p=tls-server-end-point,,n=,r=c", "c=,r=,p=")
	v, _ := New("pencil", []byte("salt"), 1)
	f.Fuzz(func(t *testing.T, mechanism, first, final string) {
		for _, binding := range [][]byte{nil, []byte("b")} {
			s := NewServer(v, true, "s", binding)
			if _, err := s.First(mechanism, first); err != nil {
				continue
			}
			if _, _, err := s.Final(final); err == nil {
				t.Fatalf("%q, %q got in", first, final)
			}
		}
	})
}

func FuzzClient(f *testing.F) {
	f.Add("r=cs,s=AAAA,i=1", "v=AAAA")
	f.Fuzz(func(t *testing.T, first, final string) {
		c := NewClient("c")
		_, err := c.Final(first, func([]byte, int) (Keys, error) { return Keys{}, nil })
		if verr := c.Verify(final); err != nil && verr == nil {
			t.Fatalf("%q: a server proved itself after a bad challenge %q", final, first)
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add(pencil)
	f.Fuzz(func(t *testing.T, text string) {
		if v, ok := Parse(text); ok {
			if again, ok := Parse(v.Text()); !ok || again.Text() != v.Text() {
				t.Fatalf("%q does not survive", text)
			}
		}
	})
}

func FuzzNormalize(f *testing.F) {
	f.Add("ª\u00ad")
	f.Fuzz(func(t *testing.T, p string) {
		once := Normalize(p)
		if p != "" && once == "" {
			t.Fatalf("%q became empty", p)
		}
		if len(once) > 40*len(p)+1 {
			t.Fatalf("%q grew to %d bytes", p, len(once))
		}
	})
}
