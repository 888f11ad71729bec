package s3

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"howdah/backup/repo"
)

// dialLimit is how long a connection may take to be there.
const dialLimit = 5 * time.Second

// hush is how long nothing may move on a connection by default, which is
// pgBackRest's io-timeout. Some stores put a large object together that long
// before they say a word.
const hush = time.Minute

// transport makes connections.
func (c Config) transport() (*http.Transport, error) {
	roots, err := c.roots()
	if err != nil {
		return nil, err
	}
	dialer, limit := &net.Dialer{Timeout: dialLimit}, cmp.Or(c.Hush, hush)
	return &http.Transport{
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			if c.Host != "" {
				_, port, err := net.SplitHostPort(addr)
				if err != nil {
					return nil, err
				}
				if c.Port != 0 {
					port = strconv.Itoa(c.Port)
				}
				addr = net.JoinHostPort(c.Host, port)
			}
			conn, err := dialer.DialContext(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			return impatient{conn, limit}, nil
		},
		// As pgBackRest: the certificate is that of the host to which it connects.
		TLSClientConfig:     &tls.Config{RootCAs: roots, ServerName: c.Host, InsecureSkipVerify: c.NoVerify, MinVersion: tls.VersionTLS12}, //nolint:gosec // only where the option says so
		TLSHandshakeTimeout: 2 * dialLimit,
		MaxIdleConnsPerHost: 64,
		IdleConnTimeout:     time.Minute,
		DisableCompression:  true, // what is stored is what is got
	}, nil
}

// roots are the authorities that are trusted; nil: the system's.
func (c Config) roots() (*x509.CertPool, error) {
	var files []string
	if c.CAFile != "" {
		files = append(files, c.CAFile)
	}
	if c.CAPath != "" {
		list, err := os.ReadDir(c.CAPath)
		if err != nil {
			return nil, repo.Errorf(repo.Crypto, "repo-storage-ca-path: %w", err)
		}
		for _, e := range list {
			name := filepath.Join(c.CAPath, e.Name())
			if st, err := os.Stat(name); err == nil && st.Mode().IsRegular() { // also behind a link
				files = append(files, name)
			}
		}
	}
	if c.NoVerify || c.CAFile == "" && c.CAPath == "" {
		return nil, nil
	}
	pool, some := x509.NewCertPool(), false
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			return nil, repo.Errorf(repo.Crypto, "certificate of an authority: %w", err)
		}
		some = pool.AppendCertsFromPEM(text) || some
	}
	if !some {
		return nil, repo.Errorf(repo.Crypto, "there is no certificate in %v", files)
	}
	return pool, nil
}

// impatient gives a connection up on which nothing moves.
type impatient struct {
	net.Conn
	limit time.Duration
}

func (c impatient) Read(p []byte) (int, error) {
	if err := c.SetDeadline(time.Now().Add(c.limit)); err != nil {
		return 0, err
	}
	return c.Conn.Read(p)
}

// Write also prolongs a Read that waits for the answer.
func (c impatient) Write(p []byte) (int, error) {
	if err := c.SetDeadline(time.Now().Add(c.limit)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}
