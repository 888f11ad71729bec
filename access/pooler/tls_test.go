package pooler

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"howdah/access/login"
	"howdah/pgwire"
	"howdah/secret"
	"howdah/test/testpg"
)

// tlsDoor gives a door a certificate of its own.
func tlsDoor(t *testing.T) *tls.Config {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS12, NextProtos: []string{"postgresql"}}
}

// Trouble with TLS is the trouble of whoever makes it.
func TestTroubleWithTLS(t *testing.T) {
	w, log := watched(t, func(d *Door) { d.TLS = tlsDoor(t) })
	w.well("before")
	before := carried()
	asked := func() net.Conn {
		conn := w.raw()
		_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
		if _, err := conn.Write(startup(pgwire.SSLRequest)); err != nil {
			t.Fatal(err)
		}
		yes := make([]byte, 1)
		if _, err := io.ReadFull(conn, yes); err != nil || yes[0] != 'S' {
			t.Fatalf("%q, %v", yes, err)
		}
		return conn
	}
	for name, do := range map[string]func(net.Conn){
		"garbage":                    func(c net.Conn) { _, _ = io.WriteString(c, strings.Repeat("garbage", 10000)) },
		"a startup in clear":         func(c net.Conn) { _, _ = c.Write(hello) },
		"a record of 64 kB":          func(c net.Conn) { _, _ = io.WriteString(c, "\x16\x03\x03\xff\xff"+strings.Repeat("x", 0xffff)) },
		"an alert":                   func(c net.Conn) { _, _ = io.WriteString(c, "\x15\x03\x03\x00\x02\x02\x28") },
		"a client that knows us not": func(c net.Conn) { _ = tls.Client(c, &tls.Config{ServerName: "elsewhere"}).Handshake() },
		"TLS 1.0": func(c net.Conn) {
			_ = tls.Client(c, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}).Handshake()
		},
	} {
		conn := asked()
		do(conn)
		_, err := io.Copy(io.Discard, conn)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: the connection stays", name)
		}
		conn.Close()
	}
	if log.count("TLS handshake failed") < 5 {
		t.Error("the log does not say what was wrong with TLS")
	}
	// TLS inside of TLS, and a cancel of nobody inside.
	conn := tls.Client(asked(), &tls.Config{InsecureSkipVerify: true})
	if _, err := conn.Write(startup(pgwire.SSLRequest)); err != nil {
		t.Fatal(err)
	}
	no := make([]byte, 1)
	if _, err := io.ReadFull(conn, no); err != nil || no[0] != 'N' {
		t.Errorf("TLS inside of TLS: %q, %v", no, err)
	}
	conn.Close()
	// Records of one byte, and no end of the session.
	whole := tls.Client(asked(), &tls.Config{InsecureSkipVerify: true})
	k, err := enter(whole, login.Parse(secret.Text(testpg.Password)), func(b []byte) error {
		for i := range b {
			if _, err := whole.Write(b[i : i+1]); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatalf("a record for each byte: %v", err)
	}
	if _, err := k.Write(query("SELECT 'encrypted'")); err != nil {
		t.Fatal(err)
	}
	if m, err := k.until(pgwire.DataRow); err != nil || !bytes.HasSuffix(m.Body, []byte("encrypted")) {
		t.Errorf("%q, %v", m.Body, err)
	}
	whole.NetConn().Close() // without a word
	w.well("after trouble with TLS")
	shed(t, before)
}
