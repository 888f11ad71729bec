package store

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/smtp"
	"os"
	"strings"
	"time"

	"howdah/observe/notice"
)

// mailWithin is what the taker of a letter may take.
const mailWithin = 20 * time.Second

// implicit is the port that speaks TLS from the beginning (RFC 8314).
const implicit = "465"

// send sends one letter. Trusted are the authorities of who takes it; nil: those of
// the system.
func send(ctx context.Context, m notice.Mail, letter []byte, trusted *x509.CertPool) (err error) {
	host, port, err := net.SplitHostPort(m.Smarthost)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, mailWithin)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", m.Smarthost)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	config := &tls.Config{ServerName: host, RootCAs: trusted, MinVersion: tls.VersionTLS12}
	if port == implicit {
		conn = tls.Client(conn, config)
	}
	c, err := smtp.NewClient(conn, host)
	if err != nil {
		return errors.Join(err, conn.Close())
	}
	defer c.Close()
	if m.Hello != "" {
		if err := c.Hello(m.Hello); err != nil {
			return err
		}
	}
	if port != implicit {
		switch ok, _ := c.Extension("STARTTLS"); {
		case ok:
			err = c.StartTLS(config)
		case !m.Clear:
			err = fmt.Errorf("%s offers no TLS, and require_tls is not false", m.Smarthost)
		}
		if err != nil {
			return err
		}
	}
	if m.User != "" {
		password, err := os.ReadFile(m.Password)
		if err != nil {
			return fmt.Errorf("auth_password_file: %w", err)
		}
		// It is given by TLS, or to this machine itself: net/smtp sees to that.
		if err := c.Auth(smtp.PlainAuth("", m.User, strings.TrimSpace(string(password)), host)); err != nil {
			return err
		}
	}
	if err := c.Mail(m.From); err != nil {
		return err
	}
	for _, to := range m.To {
		if err := c.Rcpt(to); err != nil {
			return fmt.Errorf("%s: %w", to, err)
		}
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	if _, err := w.Write(letter); err != nil {
		return err
	}
	if err := w.Close(); err != nil { // here it is taken, or not
		return err
	}
	_ = c.Quit() // it has been taken
	return nil
}
