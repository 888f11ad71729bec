// Package probe looks at places from outside, as Prometheus's blackbox_exporter
// does, and answers with its series.
//
// It reaches hosts that it was told of and no others: whoever may ask can not
// have it look around in networks. Names are not resolved, and a redirect is
// followed to such a host or not at all. Modules are icmp, tcp_connect, http_2xx,
// and pg, which asks a server whether it speaks PostgreSQL's protocol.
package probe

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"howdah/exposition"
)

const (
	within  = 5 * time.Second // that a probe may take, unless who asks has less
	atOnce  = 32
	maxRead = 1 << 20 // of a page
)

// A Prober probes hosts.
type Prober struct {
	hosts map[netip.Addr]bool
	roots *x509.CertPool // nil: the system's
	turns chan struct{}
}

// New probes these hosts; what is no address is left out.
func New(hosts []string, roots *x509.CertPool) *Prober {
	p := &Prober{hosts: map[netip.Addr]bool{}, roots: roots, turns: make(chan struct{}, atOnce)}
	for _, h := range hosts {
		if a, err := netip.ParseAddr(h); err == nil {
			p.hosts[a.Unmap()] = true
		}
	}
	return p
}

var errElsewhere = errors.New("only addresses of hosts in the inventory are probed")

// address is host:port of a host that may be probed.
func (p *Prober) address(target string) (netip.AddrPort, error) {
	a, err := netip.ParseAddrPort(target)
	if err != nil {
		return a, fmt.Errorf("%w, as ADDRESS:PORT: %w", errElsewhere, err)
	}
	if !p.hosts[a.Addr().Unmap()] {
		return a, errElsewhere
	}
	return a, nil
}

// dial connects to a host that may be probed.
func (p *Prober) dial(ctx context.Context, network, target string) (net.Conn, error) {
	if _, err := p.address(target); err != nil {
		return nil, err
	}
	return new(net.Dialer).DialContext(ctx, network, target)
}

// A seen is what a probe found, beside whether it succeeded.
type seen struct{ text exposition.Text }

type module struct {
	check func(p *Prober, target string) error // that it may be probed
	run   func(p *Prober, ctx context.Context, target string, s *seen) error
}

var modules = map[string]module{
	"icmp": {(*Prober).host, (*Prober).icmp},
	"tcp_connect": {(*Prober).port, func(p *Prober, ctx context.Context, target string, _ *seen) error {
		c, err := p.dial(ctx, "tcp", target)
		if err != nil {
			return err
		}
		return c.Close()
	}},
	"pg":       {(*Prober).port, (*Prober).postgres},
	"http_2xx": {(*Prober).page, (*Prober).http},
}

func (p *Prober) host(target string) error {
	a, err := netip.ParseAddr(target)
	if err != nil || !p.hosts[a.Unmap()] {
		return errElsewhere
	}
	return nil
}

func (p *Prober) port(target string) error {
	_, err := p.address(target)
	return err
}

func (p *Prober) page(target string) error {
	u, err := url.Parse(target)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" {
		return errors.New("a target of http_2xx is a URL that begins with http:// or https://")
	}
	return p.host(u.Hostname())
}

// postgres asks for TLS, which every server answers with one letter, before anybody says who they are.
func (p *Prober) postgres(ctx context.Context, target string, s *seen) error {
	c, err := p.dial(ctx, "tcp", target)
	if err != nil {
		return err
	}
	defer c.Close()
	if end, ok := ctx.Deadline(); ok {
		_ = c.SetDeadline(end) // of a connection that was made
	}
	if _, err := c.Write([]byte{0, 0, 0, 8, 4, 210, 22, 47}); err != nil { // SSLRequest, 80877103
		return err
	}
	var answer [1]byte
	if _, err := io.ReadFull(c, answer[:]); err != nil {
		return err
	}
	s.text.Gauge("probe_pg_ssl", "1: the server offers TLS", exposition.Truth(answer[0] == 'S'))
	if answer[0] != 'S' && answer[0] != 'N' {
		return fmt.Errorf("answered %q, which is not PostgreSQL's", answer[0])
	}
	return nil
}

func (p *Prober) http(ctx context.Context, target string, s *seen) error {
	t := &http.Transport{DialContext: p.dial, TLSClientConfig: &tls.Config{RootCAs: p.roots, MinVersion: tls.VersionTLS12}, DisableKeepAlives: true}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return err
	}
	r.Header.Set("User-Agent", "howdah observe")
	resp, err := (&http.Client{Transport: t}).Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	n, err := io.Copy(io.Discard, io.LimitReader(resp.Body, maxRead))
	s.text.Gauge("probe_http_status_code", "status of the answer", float64(resp.StatusCode))
	s.text.Gauge("probe_http_uncompressed_body_length", "bytes of the answer, up to 1 MiB", float64(n))
	s.text.Gauge("probe_http_ssl", "1: by TLS", exposition.Truth(resp.TLS != nil))
	if resp.TLS != nil && len(resp.TLS.PeerCertificates) > 0 {
		s.text.Gauge("probe_ssl_earliest_cert_expiry", "when the first of its certificates ends, seconds since 1970", float64(resp.TLS.PeerCertificates[0].NotAfter.Unix()))
	}
	if err == nil && resp.StatusCode/100 != 2 {
		err = errors.New(resp.Status)
	}
	return err
}

// icmp sends an echo request over a socket for which no right is needed where
// net.ipv4.ping_group_range has our group; the kernel puts the identifier and the sum.
func (p *Prober) icmp(ctx context.Context, target string, s *seen) error {
	began := time.Now()
	to, err := netip.ParseAddr(target)
	if err != nil {
		return err
	}
	to = to.Unmap()
	family, protocol, request, reply := unix.AF_INET, unix.IPPROTO_ICMP, byte(8), byte(0)
	var address unix.Sockaddr = &unix.SockaddrInet4{}
	if to.Is4() {
		address = &unix.SockaddrInet4{Addr: to.As4()}
	} else {
		family, protocol, request, reply = unix.AF_INET6, unix.IPPROTO_ICMPV6, 128, 129
		address = &unix.SockaddrInet6{Addr: to.As16()}
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return fmt.Errorf("no socket for pings (net.ipv4.ping_group_range): %w", err)
	}
	defer unix.Close(fd)
	setup := time.Since(began)
	packet := make([]byte, 64)
	packet[0] = request
	binary.BigEndian.PutUint16(packet[6:], 1)
	sent := time.Now()
	if err := unix.Sendto(fd, packet, 0, address); err != nil {
		return err
	}
	end, ok := ctx.Deadline()
	if !ok {
		end = sent.Add(within)
	}
	for {
		left := time.Until(end)
		if left <= 0 {
			return errors.New("no answer")
		}
		wait := unix.NsecToTimeval(left.Nanoseconds())
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait); err != nil {
			return err
		}
		n, _, err := unix.Recvfrom(fd, packet, 0)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN):
			return errors.New("no answer")
		case err != nil:
			return err
		case n < 8 || packet[0] != reply:
			continue
		}
		rtt := time.Since(sent)
		for phase, took := range map[string]time.Duration{"resolve": 0, "setup": setup, "rtt": rtt} {
			s.text.Gauge("probe_icmp_duration_seconds", "seconds by phase", took.Seconds(), "phase", phase)
		}
		return nil
	}
}

// CanPing says why pings can not be sent; nil: they can.
func CanPing() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMP)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

// Handler answers /probe.
func (p *Prober) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /-/healthy", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "Healthy") })
	mux.HandleFunc("GET /probe", func(w http.ResponseWriter, r *http.Request) {
		name, target := r.FormValue("module"), r.FormValue("target")
		if name == "" {
			name = "http_2xx"
		}
		m, ok := modules[name]
		if !ok {
			http.Error(w, "the modules are icmp, tcp_connect, http_2xx, pg", http.StatusBadRequest)
			return
		}
		if err := m.check(p, target); err != nil {
			http.Error(w, err.Error(), http.StatusForbidden)
			return
		}
		limit := within
		if s, err := strconv.ParseFloat(r.Header.Get("X-Prometheus-Scrape-Timeout-Seconds"), 64); err == nil && s > 0 && s < within.Seconds() {
			limit = time.Duration(s * 0.9 * float64(time.Second))
		}
		ctx, cancel := context.WithTimeout(r.Context(), limit)
		defer cancel()
		select {
		case p.turns <- struct{}{}:
			defer func() { <-p.turns }()
		case <-ctx.Done():
			http.Error(w, "too many probes at once", http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", exposition.ContentType)
		_, _ = w.Write(p.look(ctx, m, target)) // who has gone asks again
	})
	return mux
}

func (p *Prober) look(ctx context.Context, m module, target string) []byte {
	var s seen
	began := time.Now()
	err := m.run(p, ctx, target, &s)
	s.text.Gauge("probe_success", "1: it answered as it should", exposition.Truth(err == nil))
	s.text.Gauge("probe_duration_seconds", "seconds that the probe took", time.Since(began).Seconds())
	s.text.Gauge("probe_dns_lookup_time_seconds", "0: names are not looked up", 0)
	return s.text.Bytes()
}
