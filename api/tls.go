package api

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"strings"
	"sync"

	"howdah/logkey"
)

// again reads certificate and key of the interface anew. When they can not be
// read the old ones stay; without any, nobody is served: never in clear.
func (s *Server) again() {
	if s.Node.Agent.REST.Cert == "" {
		return
	}
	c, err := s.secure()
	if err != nil {
		s.Log.Error("certificate of the api not read", logkey.Error, err)
		return
	}
	s.tls.Store(c)
}

// files are some as they were seen last.
type files struct {
	mu  sync.Mutex
	was string
}

func (f *files) changed(names ...string) bool {
	var b strings.Builder
	for _, name := range names {
		if st, err := os.Stat(name); err == nil { // what is not there now is not read now
			fmt.Fprintln(&b, name, st.Size(), st.ModTime().UnixNano())
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	now := b.String()
	defer func() { f.was = now }()
	return now != f.was
}

// renewed has them read again if they are others than before.
func (s *Server) renewed() {
	rest := s.Node.Agent.REST
	if rest.Cert != "" && s.files.changed(rest.Cert, rest.Key, rest.CA, s.Node.TLS.CA) {
		s.again()
	}
}

// secure is the TLS of the interface. Certificates of clients are asked for in
// any case, because nodes show theirs for a grant; what they are worth otherwise
// is verify_client's to say.
func (s *Server) secure() (*tls.Config, error) {
	rest := s.Node.Agent.REST
	cert, err := tls.LoadX509KeyPair(rest.Cert, rest.Key)
	if err != nil {
		return nil, err
	}
	c := &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12, ClientAuth: tls.RequestClientCert}
	switch rest.VerifyClient {
	case "optional":
		c.ClientAuth = tls.VerifyClientCertIfGiven
	case "required":
		c.ClientAuth = tls.RequireAndVerifyClientCert
	}
	c.ClientCAs = x509.NewCertPool()
	for _, file := range []string{rest.CA, s.Node.TLS.CA} { // nodes may always ask
		if file == "" {
			continue
		}
		pem, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		if !c.ClientCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no certificate", file)
		}
	}
	return c, nil
}
