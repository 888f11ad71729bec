// Package pki makes the certificates that machines know each other by: one
// authority for a cluster, one certificate for each node, as PEM files.
//
// A node's certificate serves and dials, because every node of a cluster does
// both. Files that exist and are still good are kept, so making them again is
// harmless; nothing that exists is ever replaced by another authority, since
// that would lock out the nodes that trust the first.
package pki

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"howdah/problem"
	"howdah/spec"
)

// Certificates are for the machines of one cluster and their authority is
// ours, so they live long: an expired one would take the cluster down.
const (
	caYears   = 20
	nodeYears = 10
	renewal   = 30 * 24 * time.Hour // a certificate that ends sooner is made again
)

// An Owner is who the files belong to; nil leaves them with whoever makes them.
type Owner struct{ UID, GID int }

// An Authority signs the certificates of one cluster.
type Authority struct {
	File  string // its certificate, which everyone trusts
	cert  *x509.Certificate
	key   *ecdsa.PrivateKey
	owner *Owner
}

// OpenAuthority returns the authority in dir (ca.pem, ca.key), made if it does
// not exist yet. Its key is readable by the maker alone.
func OpenAuthority(dir, name string) (*Authority, error) {
	certFile, keyFile := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "ca.key")
	cert, key, err := load(certFile, keyFile)
	switch {
	case err == nil:
		return &Authority{File: certFile, cert: cert, key: key}, nil
	case !errors.Is(err, fs.ErrNotExist) || exists(certFile):
		return nil, &problem.Error{
			Code: "ca-unusable",
			What: "cannot use the cluster's certificate authority in " + dir,
			Do:   "restore ca.pem and ca.key from a copy; remove both (and every node's certificate) only if the whole cluster is set up anew",
			Err:  err,
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("certificate authority: %w", err)
	}
	key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("certificate authority: %w", err)
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber:          serial(),
		Subject:               pkix.Name{CommonName: name, Organization: []string{"Howdah"}},
		NotBefore:             now.Add(-time.Hour), // clocks of machines differ
		NotAfter:              now.AddDate(caYears, 0, 0),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	if err := sign(certFile, keyFile, template, template, key, key, nil); err != nil {
		return nil, fmt.Errorf("certificate authority: %w", err)
	}
	cert, key, err = load(certFile, keyFile)
	if err != nil {
		return nil, fmt.Errorf("certificate authority: %w", err)
	}
	return &Authority{File: certFile, cert: cert, key: key}, nil
}

// For returns the same authority, making files that belong to owner.
func (a *Authority) For(owner *Owner) *Authority {
	b := *a
	b.owner = owner
	return &b
}

// Issue puts a node's certificate, key and a copy of the authority's
// certificate into dir (node.pem, node.key, ca.pem), for the node's name and
// the addresses that others dial. What is there and still good is kept.
func (a *Authority) Issue(dir, name string, addrs ...netip.Addr) (spec.TLS, error) {
	files := spec.TLS{
		CA:   filepath.Join(dir, "ca.pem"),
		Cert: filepath.Join(dir, "node.pem"),
		Key:  filepath.Join(dir, "node.key"),
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return files, fmt.Errorf("certificate of %s: %w", name, err)
	}
	if err := a.owner.give(dir); err != nil {
		return files, fmt.Errorf("certificate of %s: %w", name, err)
	}
	ca := encode("CERTIFICATE", a.cert.Raw)
	if old, err := os.ReadFile(files.CA); err != nil || !bytes.Equal(old, ca) {
		if err := write(files.CA, ca, 0o644, a.owner); err != nil {
			return files, fmt.Errorf("certificate of %s: %w", name, err)
		}
	}
	if cert, _, err := load(files.Cert, files.Key); err == nil && a.good(cert, name, addrs) {
		return files, nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return files, fmt.Errorf("certificate of %s: %w", name, err)
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: serial(),
		Subject:      pkix.Name{CommonName: name, Organization: []string{"Howdah"}},
		NotBefore:    now.Add(-time.Hour),
		NotAfter:     now.AddDate(nodeYears, 0, 0),
		DNSNames:     []string{name},
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, addr := range addrs {
		template.IPAddresses = append(template.IPAddresses, addr.AsSlice())
	}
	if err := sign(files.Cert, files.Key, template, a.cert, key, a.key, a.owner); err != nil {
		return files, fmt.Errorf("certificate of %s: %w", name, err)
	}
	return files, nil
}

// good says whether cert still is what Issue would make.
func (a *Authority) good(cert *x509.Certificate, name string, addrs []netip.Addr) bool {
	if cert.CheckSignatureFrom(a.cert) != nil || time.Until(cert.NotAfter) < renewal || cert.VerifyHostname(name) != nil {
		return false
	}
	for _, addr := range addrs {
		if cert.VerifyHostname(addr.String()) != nil {
			return false
		}
	}
	return true
}

// ClientConfig is how a node dials another: it shows its own certificate and
// trusts the cluster's authority alone. Without files it is nil: no TLS.
func ClientConfig(files spec.TLS) (*tls.Config, error) {
	if files.CA == "" {
		return nil, nil
	}
	pool, err := trust(files.CA)
	if err != nil {
		return nil, err
	}
	config := &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	if files.Cert != "" {
		cert, err := tls.LoadX509KeyPair(files.Cert, files.Key)
		if err != nil {
			return nil, fmt.Errorf("certificate of this node: %w", err)
		}
		config.Certificates = []tls.Certificate{cert}
	}
	return config, nil
}

// ServerConfig is how a node listens: it asks for a certificate of the
// cluster's authority from whoever dials.
func ServerConfig(files spec.TLS) (*tls.Config, error) {
	pool, err := trust(files.CA)
	if err != nil {
		return nil, err
	}
	cert, err := tls.LoadX509KeyPair(files.Cert, files.Key)
	if err != nil {
		return nil, fmt.Errorf("certificate of this node: %w", err)
	}
	return &tls.Config{
		Certificates: []tls.Certificate{cert},
		ClientCAs:    pool,
		ClientAuth:   tls.RequireAndVerifyClientCert,
		MinVersion:   tls.VersionTLS12,
	}, nil
}

// PageConfig is how a node serves pages to people, who have no certificate. Its own
// is read for each of them: it may have been made anew.
func PageConfig(files spec.TLS) *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		cert, err := tls.LoadX509KeyPair(files.Cert, files.Key)
		if err != nil {
			return nil, fmt.Errorf("certificate of this node: %w", err)
		}
		return &cert, nil
	}}
}

func trust(file string) (*x509.CertPool, error) {
	ca, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("cluster's authority: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		return nil, fmt.Errorf("cluster's authority: %s holds no certificate", file)
	}
	return pool, nil
}

func sign(certFile, keyFile string, template, parent *x509.Certificate, key, signer *ecdsa.PrivateKey, owner *Owner) error {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		return err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := write(keyFile, encode("PRIVATE KEY", secret), 0o600, owner); err != nil {
		return err
	}
	return write(certFile, encode("CERTIFICATE", der), 0o644, owner)
}

func load(certFile, keyFile string) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, nil, err
	}
	key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		return nil, nil, fmt.Errorf("%s: not an elliptic curve key", keyFile)
	}
	return pair.Leaf, key, nil
}

// write replaces a file as a whole, so that nobody reads half a key.
func write(path string, data []byte, mode os.FileMode, owner *Owner) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // 0600 from the start
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // gone already if all went well
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err != nil {
		return err
	}
	if err := owner.give(f.Name()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

func (o *Owner) give(path string) error {
	if o == nil {
		return nil
	}
	return os.Chown(path, o.UID, o.GID)
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func serial() *big.Int {
	n, _ := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127)) // crypto/rand does not fail
	return n
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
