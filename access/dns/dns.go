// Package dns answers for the names of clusters over UDP and TCP, with what
// package names makes of the store's newest pictures.
//
// It keeps nothing and caches nothing, and tells others to keep an answer for a
// second. While a store does not answer it goes on with what it last saw: a
// client that comes to a former primary is refused there. A name that nobody has
// at the moment is a failure for now, which resolvers try again, and not an
// absence, which they believe.
//
// Other names go to the resolvers of its machine, for clients in private networks
// alone, or are refused; nobody can use it to reach a third party.
package dns

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"

	"howdah/access/names"
	"howdah/cluster"
	"howdah/dcs"
	"howdah/dcs/etcd"
	"howdah/latest"
	"howdah/logkey"
	"howdah/nodefile"
	"howdah/problem"
	"howdah/spec"
)

const (
	// ttl is how long others may keep an answer, in seconds.
	ttl = 1
	// largest is what a datagram of ours may hold where the client takes more than
	// 512 bytes: it crosses every network unfragmented (DNS flag day 2020).
	largest = 1232
	// Bounds of what strangers may cost.
	forwards    = 64 // questions that others are asked at a time
	forwardFor  = 2 * time.Second
	idle        = 5 * time.Second // of a connection
	questions   = 128             // on one connection
	connections = 64              // at a time
)

// Run answers for the node's names until ctx ends.
func Run(ctx context.Context, n spec.Node, log *slog.Logger) error {
	views := make([]names.View, len(n.DNS.Zones))
	var mu sync.Mutex
	s := &server{log: log, slots: make(chan struct{}, forwards)}
	for i, z := range n.DNS.Zones {
		views[i].Zone = z
	}
	s.table.Set(names.Make(views, n.DNS.Records))
	if n.DNS.Forward {
		s.upstreams = resolvers(n.DNS.Listen)
	}
	servers, err := s.listen(n.DNS.Listen)
	if err != nil {
		return err
	}

	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop(servers)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for i, z := range n.DNS.Zones {
		store, err := etcd.OpenBase(n, z.Namespace+"/"+z.Cluster+"/")
		if err != nil {
			return err
		}
		wg.Go(func() {
			defer store.Close()
			follow(ctx, store, log.With(logkey.Cluster, z.Cluster), func(p cluster.Picture) {
				mu.Lock()
				defer mu.Unlock()
				views[i].Known, views[i].Picture = true, p
				before, _ := s.table.Get()
				if now := names.Make(views, n.DNS.Records); !now.Equal(before) {
					s.table.Set(now)
					log.Info("names changed", logkey.Cluster, z.Cluster, "leader", p.Leader)
				}
				if err := tell(n, views); err != nil {
					log.Error("names not told", logkey.Error, err)
				}
			})
		})
	}
	failed := make(chan error, len(servers))
	for _, srv := range servers {
		wg.Go(func() {
			if err := srv.ActivateAndServe(); err != nil && ctx.Err() == nil {
				failed <- err
			}
		})
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-failed:
		return err
	}
}

// tell says for the supervisor, who alone may write a file of hosts, what is to be in it.
func tell(n spec.Node, views []names.View) error {
	if n.DNS.Hosts == "" {
		return nil
	}
	told := nodefile.ReadNames(n)
	lines := names.Make(views, nil).Lines(told)
	if slices.Equal(lines, told) {
		return nil
	}
	return nodefile.WriteNames(n, lines)
}

// stop ends servers; one that was not serving yet loses its socket all the same.
func stop(servers []*dns.Server) {
	for _, srv := range servers {
		if srv.Listener != nil {
			srv.Listener.Close()
		}
		if srv.PacketConn != nil {
			srv.PacketConn.Close()
		}
		_ = srv.Shutdown() // it may not have begun
	}
}

// follow tells of each picture of the cluster in store, until ctx ends.
func follow(ctx context.Context, store dcs.Store, log *slog.Logger, see func(cluster.Picture)) {
	var snapshots latest.Value[dcs.Snapshot]
	var blind atomic.Bool
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		_ = store.Watch(ctx, &snapshots, func(err error) { // it begins again by itself
			if blind.CompareAndSwap(false, true) { // once: it is tried again several times a second
				log.Warn("watch lost", logkey.Error, err)
			}
		})
	})
	var reader cluster.Reader
	var seen uint64
	for {
		snap, version, err := snapshots.Wait(ctx, seen)
		if err != nil {
			return
		}
		seen = version
		blind.Store(false)
		see(cluster.PictureOf(reader.Parse(snap.Revision, snap.Keys)))
	}
}

// A server answers by the newest table.
type server struct {
	table     latest.Value[names.Table]
	upstreams []string // host:port of other resolvers; none: what is not ours is refused
	slots     chan struct{}
	log       *slog.Logger
}

// listen opens both sockets of each address.
func (s *server) listen(addrs []string) (all []*dns.Server, err error) {
	for _, addr := range addrs {
		p, err := net.ListenPacket("udp", addr)
		if err == nil {
			all = append(all, &dns.Server{PacketConn: p, Handler: s, UDPSize: largest})
			var l net.Listener
			if l, err = net.Listen("tcp", addr); err == nil {
				all = append(all, &dns.Server{
					Listener: &few{Listener: l, free: make(chan struct{}, connections)}, Handler: s, MaxTCPQueries: questions,
					ReadTimeout: idle, WriteTimeout: idle, IdleTimeout: func() time.Duration { return idle },
				})
			}
		}
		if err != nil {
			stop(all)
			return nil, &problem.Error{
				Code: "dns-listen", What: "cannot answer for names at " + addr, Why: "the socket can not be opened",
				Do: "end the other name server there (`ss -lunp` shows it), or write another dns_port; ports below 1024 need a supervisor that is root", Err: err,
			}
		}
	}
	return all, nil
}

// few accepts so many connections at a time; who comes beyond them waits.
type few struct {
	net.Listener
	free chan struct{}
}

func (l *few) Accept() (net.Conn, error) {
	l.free <- struct{}{}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.free
		return nil, err
	}
	return &one{Conn: c, done: sync.OnceFunc(func() { <-l.free })}, nil
}

type one struct {
	net.Conn
	done func()
}

func (c *one) Close() error {
	defer c.done()
	return c.Conn.Close()
}

// ServeDNS answers one question.
func (s *server) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	a := s.answer(q, w.RemoteAddr())
	size := dns.MinMsgSize
	if opt := q.IsEdns0(); opt != nil {
		size = int(min(max(opt.UDPSize(), dns.MinMsgSize), largest))
		if a.IsEdns0() == nil {
			a.SetEdns0(largest, false)
		}
	}
	if _, udp := w.RemoteAddr().(*net.UDPAddr); udp {
		a.Truncate(size)
	}
	_ = w.WriteMsg(a) // who is gone asks again
}

// answer is what a client hears.
func (s *server) answer(q *dns.Msg, client net.Addr) *dns.Msg {
	a := new(dns.Msg)
	switch {
	case q.Opcode != dns.OpcodeQuery:
		return a.SetRcode(q, dns.RcodeNotImplemented)
	case len(q.Question) != 1:
		return a.SetRcodeFormatError(q)
	case q.Question[0].Qclass != dns.ClassINET:
		return a.SetRcode(q, dns.RcodeRefused)
	}
	a.SetReply(q)
	question := q.Question[0]
	table, _ := s.table.Get()
	addrs, kind := table.Find(question.Name)
	switch kind {
	case names.Foreign:
		return s.ask(q, client)
	case names.Absent:
		a.Authoritative, a.Rcode = true, dns.RcodeNameError
	case names.Waiting:
		a.Rcode = dns.RcodeServerFailure
	case names.Present:
		a.Authoritative = true
		head := dns.RR_Header{Name: question.Name, Class: dns.ClassINET, Ttl: ttl}
		for _, addr := range addrs {
			switch every := question.Qtype == dns.TypeANY; {
			case addr.Is4() && (every || question.Qtype == dns.TypeA):
				head.Rrtype = dns.TypeA
				a.Answer = append(a.Answer, &dns.A{Hdr: head, A: addr.AsSlice()})
			case addr.Is6() && (every || question.Qtype == dns.TypeAAAA):
				head.Rrtype = dns.TypeAAAA
				a.Answer = append(a.Answer, &dns.AAAA{Hdr: head, AAAA: addr.AsSlice()})
			}
		}
	}
	return a
}

// ask passes a question on, for a client of our own networks.
func (s *server) ask(q *dns.Msg, client net.Addr) *dns.Msg {
	refused := new(dns.Msg).SetRcode(q, dns.RcodeRefused)
	if len(s.upstreams) == 0 || !q.RecursionDesired || !private(client) {
		return refused
	}
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	default:
		return refused
	}
	ctx, cancel := context.WithTimeout(context.Background(), forwardFor)
	defer cancel()
	for i, upstream := range s.upstreams {
		// Each has its share of the time.
		left, end := context.WithTimeout(ctx, forwardFor/time.Duration(len(s.upstreams)-i))
		a, _, err := (&dns.Client{Net: "udp"}).ExchangeContext(left, q, upstream)
		if err == nil && a.Truncated {
			a, _, err = (&dns.Client{Net: "tcp"}).ExchangeContext(left, q, upstream)
		}
		end()
		if err == nil {
			a.Id = q.Id
			return a
		}
	}
	return new(dns.Msg).SetRcode(q, dns.RcodeServerFailure)
}

func private(client net.Addr) bool {
	a, err := netip.ParseAddrPort(client.String())
	if err != nil {
		return false
	}
	ip := a.Addr().Unmap()
	return ip.IsPrivate() || ip.IsLoopback() || ip.IsLinkLocalUnicast()
}

// resolvers are those of this machine that are not us.
func resolvers(own []string) (all []string) {
	c, err := dns.ClientConfigFromFile("/etc/resolv.conf")
	if err != nil {
		return nil
	}
	for _, host := range c.Servers {
		if at := net.JoinHostPort(host, c.Port); !slices.Contains(own, at) {
			all = append(all, at)
		}
	}
	return all
}
