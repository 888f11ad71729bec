package api

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"

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
