package store

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"mime"
	"net"
	"net/http"
	"net/http/httptest"
	"net/mail"
	"net/textproto"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/rules"

	"howdah/observe/notice"
)

// A postOffice takes mail as RFC 5321 has it, with STARTTLS and AUTH PLAIN.
type postOffice struct {
	address string
	trusted *x509.CertPool
	config  *tls.Config // nil: it has no TLS

	mu      sync.Mutex
	busy    bool // it takes nothing for now
	letters []string
	said    []string // by whoever came, but for letters
}

func newPostOffice(t *testing.T, secure bool) *postOffice {
	t.Helper()
	o := &postOffice{}
	if secure {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		of := &x509.Certificate{
			SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
			IsCA: true, BasicConstraintsValid: true,
		}
		der, err := x509.CreateCertificate(rand.Reader, of, of, &key.PublicKey, key)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		o.trusted = x509.NewCertPool()
		o.trusted.AddCert(cert)
		o.config = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o.address = l.Addr().String()
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { o.talk(c) })
		}
	})
	t.Cleanup(func() { l.Close(); all.Wait() })
	return o
}

func (o *postOffice) talk(c net.Conn) {
	defer func() { c.Close() }()
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	in := textproto.NewReader(bufio.NewReader(c))
	say := func(lines ...string) {
		fmt.Fprint(c, strings.Join(lines, "\r\n")+"\r\n")
	}
	say("220 post.lab ESMTP")
	for secure := false; ; {
		line, err := in.ReadLine()
		if err != nil {
			return
		}
		o.mu.Lock()
		o.said = append(o.said, line)
		busy := o.busy
		o.mu.Unlock()
		switch verb, _, _ := strings.Cut(line, " "); strings.ToUpper(verb) {
		case "EHLO":
			if o.config != nil && !secure {
				say("250-post.lab", "250 STARTTLS")
			} else {
				say("250-post.lab", "250 AUTH PLAIN")
			}
		case "STARTTLS":
			say("220 go on")
			c, secure = tls.Server(c, o.config), true
			in = textproto.NewReader(bufio.NewReader(c))
		case "AUTH":
			say("235 welcome")
		case "MAIL", "RCPT":
			if busy {
				say("451 later")
				continue
			}
			say("250 good")
		case "DATA":
			say("354 speak")
			text, err := in.ReadDotBytes()
			if err != nil {
				return
			}
			o.mu.Lock()
			o.letters = append(o.letters, string(text))
			o.mu.Unlock()
			say("250 taken")
		case "QUIT":
			say("221 bye")
			return
		default:
			say("500 what?")
		}
	}
}

// got is what it took so far.
func (o *postOffice) got() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.letters)
}

// read is what a letter says to who gets it.
func read(t *testing.T, letter string) (subject, text string) {
	t.Helper()
	m, err := mail.ReadMessage(strings.NewReader(letter))
	if err != nil {
		t.Fatalf("%v in\n%s", err, letter)
	}
	if _, err := m.Header.Date(); err != nil || m.Header.Get("Message-Id") == "" || m.Header.Get("To") != "dba@lab, boss@lab" || m.Header.Get("From") != "howdah@lab" {
		t.Errorf("%v in the head of\n%s", err, letter)
	}
	subject, err = new(mime.WordDecoder).DecodeHeader(m.Header.Get("Subject"))
	if err != nil {
		t.Error(err)
	}
	b, err := io.ReadAll(base64.NewDecoder(base64.StdEncoding, m.Body))
	if err != nil {
		t.Error(err)
	}
	return subject, string(b)
}

// People are told by mail: over TLS, with the password in no other way, again when it
// was not taken, and of the end.
func TestMail(t *testing.T) {
	s, office := open(t), newPostOffice(t, true)
	s.trusted = office.trusted
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("open sesame\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	set, err := notice.Parse([]byte("group_wait: 0s\ngroup_interval: 0s\nemails:\n  - { to: [dba@lab, boss@lab], from: howdah@lab, smarthost: '" + office.address + "', auth_username: u, auth_password_file: " + password + " }\n"))
	if err != nil {
		t.Fatal(err)
	}
	to := s.mail(set.Mails[0])
	now := time.Unix(1_800_000_000, 0)
	down := []notice.Alert{{
		Labels:      map[string]string{"alertname": "PostgresDown", "cls": "prüf", "ins": "pg-1", "severity": "CRIT"},
		Annotations: map[string]string{"summary": "pg-1 does not answer\r\nBcc: x@lab"}, Starts: now,
	}}
	office.mu.Lock()
	office.busy = true
	office.mu.Unlock()
	s.tellOne(t.Context(), to, set, now, down)
	office.mu.Lock()
	office.busy = false
	office.mu.Unlock()
	if len(office.got()) > 0 {
		t.Fatal("one who is busy took a letter")
	}
	for range 2 { // and once is enough
		now = now.Add(tellEvery)
		s.tellOne(t.Context(), to, set, now, down)
	}
	s.tellOne(t.Context(), to, set, now.Add(time.Minute), nil)
	if len(office.got()) != 2 {
		t.Fatalf("letters: %q", office.got())
	}
	subject, text := read(t, office.got()[0])
	if subject != "[FIRING:1] PostgresDown prüf" || !strings.Contains(text, "FIRING CRIT PostgresDown\r\n  pg-1 does not answer") || !strings.Contains(text, "since 2027-01-15 08:00:00 UTC") || !strings.Contains(text, " ins=pg-1") {
		t.Errorf("%q says\n%s", subject, text)
	}
	if subject, text := read(t, office.got()[1]); subject != "[RESOLVED] PostgresDown prüf" || !strings.Contains(text, "RESOLVED CRIT PostgresDown") || !strings.Contains(text, ", until ") {
		t.Errorf("%q says\n%s", subject, text)
	}
	office.mu.Lock()
	talk := strings.Join(office.said, "\n")
	office.mu.Unlock()
	auth := "AUTH PLAIN " + base64.StdEncoding.EncodeToString([]byte("\x00u\x00open sesame"))
	if i, j := strings.Index(talk, "STARTTLS"), strings.Index(talk, auth); i < 0 || j < i || !strings.Contains(talk, "RCPT TO:<boss@lab>") {
		t.Errorf("the talk was\n%s", talk)
	}
	// Whom nobody vouches for is told nothing.
	s.trusted = x509.NewCertPool()
	if err := send(t.Context(), set.Mails[0], []byte("x"), s.trusted); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("with a foreign certificate: %v", err)
	}
}

// Without TLS mail goes only where somebody wrote that it may.
func TestMailInClear(t *testing.T) {
	office := newPostOffice(t, false)
	m := notice.Mail{To: []string{"dba@lab"}, From: "howdah@lab", Smarthost: office.address}
	if err := send(t.Context(), m, []byte("x"), nil); err == nil || len(office.got()) > 0 {
		t.Errorf("it was sent in clear: %v", err)
	}
	m.Clear = true
	if err := send(t.Context(), m, []byte("Subject: x\r\n\r\n.x\r\n"), nil); err != nil || len(office.got()) != 1 || !strings.Contains(office.got()[0], "\n.x") {
		t.Errorf("%v, %q", err, office.got())
	}
}

// An Alertmanager gets what fires and what has ended, by its API.
func TestAlertmanager(t *testing.T) {
	s := open(t)
	type alert struct {
		Labels           map[string]string
		StartsAt, EndsAt time.Time
	}
	var got []alert
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var some []alert
		if err := json.NewDecoder(r.Body).Decode(&some); err != nil || r.URL.Path != "/api/v2/alerts" || r.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s %v: %v", r.URL, r.Header, err)
		}
		got = append(got, some...)
	}))
	defer server.Close()
	set, err := notice.Parse([]byte("alertmanagers: ['" + server.URL + "']\n"))
	if err != nil {
		t.Fatal(err)
	}
	s.managers = set.Managers
	at := time.Unix(1_800_000_000, 0).UTC()
	s.notify(t.Context(), "", &rules.Alert{Labels: labels.FromStrings("alertname", "A"), FiredAt: at, ValidUntil: at.Add(time.Hour)},
		&rules.Alert{Labels: labels.FromStrings("alertname", "B"), FiredAt: at, ValidUntil: at.Add(time.Hour), ResolvedAt: at.Add(time.Minute)})
	if len(got) != 2 || got[0].Labels["alertname"] != "A" || !got[0].EndsAt.Equal(at.Add(time.Hour)) || !got[1].EndsAt.Equal(at.Add(time.Minute)) || !got[1].StartsAt.Equal(at) {
		t.Errorf("it got %+v", got)
	}
}
