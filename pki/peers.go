package pki

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"syscall"

	"howdah/spec"
)

// Peers is how a node knows the others of its cluster, and they know it, by its
// files as they are at each handshake: certificates are renewed and authorities
// follow each other while connections come and go. Files that can not be read, or do
// not belong together, leave what was known before. nil is a node without TLS.
type Peers struct {
	files spec.TLS

	mu     sync.Mutex
	times  int // that it was read
	seen   []stamp
	client *tls.Config
	server *tls.Config
}

// A stamp tells whether a file was replaced.
type stamp struct {
	inode, size uint64
	time        int64
}

// Open reads the files; nil if there are none.
func Open(files spec.TLS) (*Peers, error) {
	if files.CA == "" {
		return nil, nil
	}
	p := &Peers{files: files}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.read(); err != nil {
		return nil, err
	}
	return p, nil
}

// To is how the node dials host: for one connection, since the next may need newer files.
func (p *Peers) To(host string) *tls.Config {
	if p == nil {
		return nil
	}
	c, _ := p.now()
	c = c.Clone()
	c.ServerName = host
	return c
}

// Server is how the node listens, for as long as it does: it asks for a certificate
// of the cluster's authority from whoever dials.
func (p *Peers) Server() *tls.Config {
	if p == nil {
		return nil
	}
	_, c := p.now()
	c = c.Clone()
	c.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		_, newest := p.now()
		return newest, nil
	}
	return c
}

// Trusted are the authorities that count now.
func (p *Peers) Trusted() *x509.CertPool {
	c, _ := p.now()
	return c.RootCAs
}

// Times is how often the files became others: whoever keeps connections that are judged
// by what was shown on them begins new ones then.
func (p *Peers) Times() int {
	if p == nil {
		return 0
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = p.read() // as in now
	return p.times
}

// Dial is d for connections with TLS, as http.Transport.DialTLSContext wants it.
func (p *Peers) Dial(d *net.Dialer) func(ctx context.Context, network, addr string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		host, _, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, err
		}
		secure := tls.Dialer{NetDialer: d, Config: p.To(host)}
		return secure.DialContext(ctx, network, addr)
	}
}

func stamps(files ...string) (all []stamp, err error) {
	for _, file := range files {
		if file == "" {
			continue
		}
		st, err := os.Stat(file)
		if err != nil {
			return nil, err
		}
		s := stamp{size: uint64(st.Size()), time: st.ModTime().UnixNano()}
		if of, ok := st.Sys().(*syscall.Stat_t); ok {
			s.inode = of.Ino
		}
		all = append(all, s)
	}
	return all, nil
}

func (p *Peers) now() (client, server *tls.Config) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = p.read() // then it is as before: somebody is in the midst of writing them
	return p.client, p.server
}

// read reads the files if they are others than before.
func (p *Peers) read() error {
	seen, err := stamps(p.files.CA, p.files.Cert, p.files.Key)
	if err != nil {
		return fmt.Errorf("certificates of this node: %w", err)
	}
	if p.client != nil && slices.Equal(seen, p.seen) {
		return nil
	}
	client, err := ClientConfig(p.files)
	if err != nil {
		return err
	}
	p.times++
	p.seen, p.client, p.server = seen, client, client
	if p.files.Cert != "" {
		p.server = serving(client)
	}
	return nil
}
