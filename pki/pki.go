// Package pki makes the certificates that machines know each other by: one
// authority for a cluster, one certificate for each node, as PEM files.
//
// A node's certificate serves and dials, because every node of a cluster does
// both. Files that exist and are still good are kept, so making them again is
// harmless; nothing that exists is ever replaced by another authority at once, since
// that would lock out the nodes that trust the first: both are trusted for a while
// (turn.go).
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
	"syscall"
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
	File  string // the certificates that everyone trusts: its own, and one that comes or goes
	cert  *x509.Certificate
	key   *ecdsa.PrivateKey
	trust []*x509.Certificate // those of File
	owner *Owner
}

// OpenAuthority returns the authority in dir (ca.pem, ca.key), made if it does
// not exist yet. Its key is readable by the maker alone.
func OpenAuthority(dir, name string) (*Authority, error) {
	certFile, keyFile := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "ca.key")
	a, err := authorityIn(dir)
	switch {
	case err == nil:
		return a, nil
	case !errors.Is(err, fs.ErrNotExist) || exists(certFile):
		return nil, unusable(dir, err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("certificate authority: %w", err)
	}
	cert, key, err := newAuthority(name)
	if err == nil {
		err = write(keyFile, key, 0o600, nil)
	}
	if err == nil {
		err = write(certFile, cert, 0o644, nil)
	}
	if err == nil {
		a, err = authorityIn(dir)
	}
	if err != nil {
		return nil, fmt.Errorf("certificate authority: %w", err)
	}
	return a, nil
}

func unusable(dir string, err error) error {
	return &problem.Error{
		Code: "ca-unusable",
		What: "cannot use the cluster's certificate authority in " + dir,
		Do:   "restore ca.pem and ca.key from a copy; remove both (and every node's certificate) only if the whole cluster is set up anew",
		Err:  err,
	}
}

// newAuthority makes a certificate that signs others, and its key.
func newAuthority(name string) (cert, key []byte, err error) {
	secret, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
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
	return pair(template, template, secret, secret)
}

// authorityIn reads the authority in dir: of the certificates there, the one that the
// key is of signs.
func authorityIn(dir string) (*Authority, error) {
	a := &Authority{File: filepath.Join(dir, "ca.pem")}
	var err error
	if a.trust, err = Certificates(a.File); err != nil {
		return nil, err
	}
	keyFile := filepath.Join(dir, "ca.key")
	text, err := os.ReadFile(keyFile)
	if err != nil {
		return nil, err
	}
	if a.key, err = keyOf(text); err != nil {
		return nil, fmt.Errorf("%s: %w", keyFile, err)
	}
	for _, c := range a.trust {
		if a.key.PublicKey.Equal(c.PublicKey) {
			a.cert = c
		}
	}
	if a.cert == nil {
		return nil, fmt.Errorf("%s is of no certificate in %s", keyFile, a.File)
	}
	return a, nil
}

// Certificates are those of a file: one or more.
func Certificates(file string) (all []*x509.Certificate, err error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		all = append(all, c)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s holds no certificate", file)
	}
	return all, nil
}

func keyOf(text []byte) (*ecdsa.PrivateKey, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("it holds no key")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	own, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return nil, errors.New("not an elliptic curve key")
	}
	return own, nil
}

// bundle is what everyone trusts, as a file holds it.
func (a *Authority) bundle() []byte {
	var b []byte
	for _, c := range a.trust {
		b = append(b, encode("CERTIFICATE", c.Raw)...)
	}
	return b
}

// For returns the same authority, making files that belong to owner.
func (a *Authority) For(owner *Owner) *Authority {
	b := *a
	b.owner = owner
	return &b
}

// Issue puts a node's certificate, key and a copy of the authorities'
// certificates into dir (node.pem, node.key, ca.pem), for the node's name and
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
	if _, err := a.tell(files, name); err != nil {
		return files, err
	}
	if cert, _, err := load(files.Cert, files.Key); err == nil && a.good(cert, name, addrs) {
		return files, nil
	}
	return files, a.certify(files, name, addrs)
}

// tell has a node trust what is to be trusted now, and says whether that is new to it.
func (a *Authority) tell(files spec.TLS, name string) (bool, error) {
	ca := a.bundle()
	if old, err := os.ReadFile(files.CA); err == nil && bytes.Equal(old, ca) {
		return false, nil
	}
	if err := write(files.CA, ca, 0o644, a.owner); err != nil {
		return false, fmt.Errorf("certificate of %s: %w", name, err)
	}
	return true, nil
}

// certify makes a node's certificate and key.
func (a *Authority) certify(files spec.TLS, name string, addrs []netip.Addr) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("certificate of %s: %w", name, err)
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
	cert, secret, err := pair(template, a.cert, key, a.key)
	if err == nil {
		err = write(files.Key, secret, 0o600, a.owner)
	}
	if err == nil {
		err = write(files.Cert, cert, 0o644, a.owner)
	}
	if err != nil {
		return fmt.Errorf("certificate of %s: %w", name, err)
	}
	return nil
}

// Renew gives a node another certificate and key, for the name and the addresses and
// to the owner of those that it has, if they end soon or are of an authority that
// signs no more; with anew in any case. It has the node trust what is to be trusted
// now, and says what of both it changed.
func (a *Authority) Renew(files spec.TLS, anew bool) (cert, trust bool, err error) {
	has, err := Certificates(files.Cert)
	if err != nil {
		return false, false, err
	}
	st, err := os.Stat(files.Cert)
	if err != nil {
		return false, false, err
	}
	if of, ok := st.Sys().(*syscall.Stat_t); ok && os.Geteuid() == 0 {
		a = a.For(&Owner{UID: int(of.Uid), GID: int(of.Gid)})
	}
	name := has[0].Subject.CommonName
	var addrs []netip.Addr
	for _, ip := range has[0].IPAddresses {
		if addr, ok := netip.AddrFromSlice(ip); ok {
			addrs = append(addrs, addr.Unmap())
		}
	}
	if trust, err = a.tell(files, name); err != nil {
		return false, trust, err
	}
	if own, _, err := load(files.Cert, files.Key); err == nil && !anew && a.good(own, name, addrs) {
		return false, trust, nil
	}
	return true, trust, a.certify(files, name, addrs)
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

// serving is how a node listens whose way to dial is c.
func serving(c *tls.Config) *tls.Config {
	return &tls.Config{Certificates: c.Certificates, ClientCAs: c.RootCAs, ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: c.MinVersion}
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

// pair makes a certificate and its key, as files hold them.
func pair(template, parent *x509.Certificate, key, signer *ecdsa.PrivateKey) (cert, secret []byte, err error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		return nil, nil, err
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	return encode("CERTIFICATE", der), encode("PRIVATE KEY", raw), nil
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
