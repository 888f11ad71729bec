package gateway

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"howdah/access/route"
	"howdah/cluster"
	"howdah/dcs"
	"howdah/dcs/mem"
	"howdah/lease"
	"howdah/lifecycle"
	"howdah/pgwire"
	"howdah/pki"
	"howdah/spec"
)

// A world is a gateway on node a of cluster demo, told of the cluster by the
// test, and what it listens on.
type world struct {
	t       testing.TB
	g       *Gateway
	addr    map[string]string // by service
	picture cluster.Picture
	page    *lease.Writer
}

func newWorld(t testing.TB, with func(*spec.Node)) *world {
	t.Helper()
	dir := t.TempDir()
	n := spec.Node{
		Cluster: "demo", Namespace: "/service", Member: "a",
		Paths: spec.Paths{Dir: dir, Run: dir, Page: filepath.Join(dir, "lease")},
		Gateway: spec.Gateway{Wait: 300 * time.Millisecond, Fronts: []spec.Front{{
			Cluster: "demo", Namespace: "/service", Dest: cluster.DestPostgres, Services: cluster.DefaultServices(),
		}}},
	}
	authority, err := pki.OpenAuthority(filepath.Join(dir, "ca"), "demo")
	if err != nil {
		t.Fatal(err)
	}
	if n.TLS, err = authority.Issue(filepath.Join(dir, "tls"), "a", netip.MustParseAddr("127.0.0.1")); err != nil {
		t.Fatal(err)
	}
	if with != nil {
		with(&n)
	}
	w := &world{t: t, addr: map[string]string{}, picture: cluster.Picture{Epoch: 7}}
	if w.page, err = lease.Create(n.Paths.Page); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.page.Close() })
	if w.g, err = New(n, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	parts := []lifecycle.Part{{Name: "grants", Run: w.g.grants.run, Grace: 5 * time.Second}}
	for _, p := range w.g.ports {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		w.addr[p.service.Name] = l.Addr().String()
		parts = append(parts, lifecycle.Part{Name: p.name, Grace: 5 * time.Second, Run: func(ctx context.Context) error {
			return p.serve(ctx, l.(*net.TCPListener))
		}})
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- lifecycle.Run(ctx, parts...) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the gateway ended with %v", err)
		}
	})
	return w
}

// member adds or replaces a member at addr.
func (w *world) member(name, addr string, with func(*cluster.PictureMember)) {
	host, port, _ := net.SplitHostPort(addr)
	m := cluster.PictureMember{
		Name: name, Role: cluster.Replicates, State: cluster.ReplicationStreaming, Running: true, Host: host,
		APIURL: "http://127.0.0.1:1/patroni",
	}
	fmt.Sscan(port, &m.Port)
	if with != nil {
		with(&m)
	}
	w.picture.Members = slices.DeleteFunc(slices.Clone(w.picture.Members), func(o cluster.PictureMember) bool { return o.Name == name })
	w.picture.Members = append(w.picture.Members, m)
}

func primary(m *cluster.PictureMember) {
	m.Role, m.Primary, m.State = cluster.Leads, true, cluster.StateRunning
}

// see tells the gateway of the picture.
func (w *world) see() { w.g.fronts[0].see(w.picture) }

// lead makes a, whose server is at addr, the primary, with the right to be
// heard for d.
func (w *world) lead(addr string, d time.Duration) {
	w.t.Helper()
	w.member("a", addr, primary)
	w.picture.Leader = "a"
	w.right(d)
	w.see()
}

func (w *world) right(d time.Duration) {
	w.t.Helper()
	if err := w.page.Set(lease.Page{Role: lease.Primary, Epoch: w.picture.Epoch, Deadline: lease.Now() + d}); err != nil {
		w.t.Fatal(err)
	}
}

// dial connects to a service.
func (w *world) dial(service string) *net.TCPConn {
	w.t.Helper()
	c, err := net.Dial("tcp", w.addr[service])
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	return c.(*net.TCPConn)
}

// startup is a client's first packet.
func startup(user string) []byte {
	body := "user\x00" + user + "\x00\x00"
	b := binary.BigEndian.AppendUint32(nil, uint32(8+len(body)))
	return append(binary.BigEndian.AppendUint32(b, 3<<16), body...)
}

// A fake is a server that does as it is told with each connection.
type fake struct {
	addr  string
	conns chan *net.TCPConn
	count atomic.Int64
}

func newFake(t *testing.T) *fake {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &fake{addr: l.Addr().String(), conns: make(chan *net.TCPConn, 100)}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { c.Close() })
			f.count.Add(1)
			f.conns <- c.(*net.TCPConn)
		}
	}()
	return f
}

// next is the next connection, after its startup packet was read.
func (f *fake) next(t *testing.T, want []byte) *net.TCPConn {
	t.Helper()
	select {
	case c := <-f.conns:
		c.SetDeadline(time.Now().Add(20 * time.Second))
		expect(t, c, string(want))
		return c
	case <-time.After(10 * time.Second):
		t.Fatal("no connection reached the server")
		return nil
	}
}

func expect(t testing.TB, c net.Conn, want string) {
	t.Helper()
	b := make([]byte, len(want))
	if _, err := io.ReadFull(c, b); err != nil || string(b) != want {
		t.Fatalf("read %q, %v; want %q", b, err, want)
	}
}

func send(t testing.TB, c net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
}

// silent checks that nothing comes for d.
func silent(t testing.TB, c net.Conn, d time.Duration) {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(d))
	var b [64]byte
	n, err := c.Read(b[:])
	var timeout net.Error
	if n != 0 || !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Fatalf("read %q, %v; want silence", b[:n], err)
	}
	c.SetReadDeadline(time.Now().Add(20 * time.Second))
}

func closed(t testing.TB, c net.Conn) {
	t.Helper()
	if n, err := io.Copy(io.Discard, c); n != 0 || errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("read %d bytes, %v; want the end", n, err)
	}
}

func eventually(t testing.TB, what string, so func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(10 * time.Second); !so(); <-tick.C {
		if time.Now().After(end) {
			t.Fatal("in vain: " + what)
		}
	}
}

func TestAClientWaitsForAPrimary(t *testing.T) {
	w := newWorld(t, func(n *spec.Node) { n.Gateway.Wait = 10 * time.Second })
	server := newFake(t)
	c := w.dial("primary")
	hello := startup("demo")
	c.Write(hello[:5]) // slowly
	c.Write(hello[5:])
	silent(t, c, 50*time.Millisecond)
	w.member("b", server.addr, nil)
	w.see()
	silent(t, c, 50*time.Millisecond)
	seen := time.Now()
	w.lead(server.addr, time.Minute)
	s := server.next(t, hello)
	if took := time.Since(seen); took > 200*time.Millisecond {
		t.Errorf("the server was reached %s after the picture", took)
	}
	send(t, s, "welcome")
	expect(t, c, "welcome")
	send(t, c, "bye")
	expect(t, s, "bye")
	c.CloseWrite() // half of it
	closed(t, s)
	send(t, s, "last words")
	s.Close()
	expect(t, c, "last words")
	closed(t, c)
	p := w.g.ports[0]
	eventually(t, "the session ends", func() bool { p.mu.Lock(); defer p.mu.Unlock(); return len(p.sessions) == 0 })
	if p.counts.waited.Load() != 1 || p.counts.accepted.Load() != 1 {
		t.Errorf("waited %d, accepted %d", p.counts.waited.Load(), p.counts.accepted.Load())
	}
}

func TestWhoWaitsInVainIsTold(t *testing.T) {
	for _, tt := range []struct {
		name, mode string
		tls        bool
	}{
		{"plain", "disable", true},
		{"TLS if there is", "prefer", true},
		{"TLS", "require", true},
		{"no TLS to offer", "prefer", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, func(n *spec.Node) {
				if !tt.tls {
					n.TLS = spec.TLS{}
				}
			})
			w.see()
			host, port, _ := net.SplitHostPort(w.addr["primary"])
			began := time.Now()
			_, err := pgconn.Connect(t.Context(), fmt.Sprintf("host=%s port=%s user=demo dbname=demo sslmode=%s", host, port, tt.mode))
			var refusal *pgconn.PgError
			if !errors.As(err, &refusal) || refusal.Code != "57P03" {
				t.Fatalf("Connect = %v; want 57P03", err)
			}
			if took := time.Since(began); took < 250*time.Millisecond {
				t.Errorf("told after %s; it was to wait 300ms", took)
			}
			if !strings.Contains(refusal.Message, "no member belongs") && !strings.Contains(refusal.Message, "no primary") {
				t.Errorf("it says %q", refusal.Message)
			}
		})
	}
}

func TestWhoLeavesWhileWaitingIsForgotten(t *testing.T) {
	w := newWorld(t, func(n *spec.Node) { n.Gateway.Wait = time.Hour })
	for range 10 {
		c := w.dial("primary")
		c.Write(startup("demo"))
		c.Close()
	}
	p := w.g.ports[0]
	eventually(t, "all have left", func() bool { return p.counts.accepted.Load() == 10 && p.counts.now.Load() == 0 })
}

func TestADeposedPrimaryIsCut(t *testing.T) {
	w := newWorld(t, nil)
	one, other := newFake(t), newFake(t)
	w.member("b", other.addr, nil)
	w.lead(one.addr, time.Minute)
	var clients []*net.TCPConn
	for _, service := range []string{"primary", "default"} {
		c := w.dial(service)
		c.Write(startup("demo"))
		one.next(t, startup("demo"))
		clients = append(clients, c)
	}
	reader := w.dial("replica")
	reader.Write(startup("demo"))
	r := other.next(t, startup("demo"))

	w.picture.Epoch, w.picture.Leader = 8, "b"
	w.member("a", one.addr, nil)
	w.member("b", other.addr, func(m *cluster.PictureMember) {
		m.Role, m.APIURL = cluster.Leads, ""
	})
	seen := time.Now()
	w.see()
	for _, c := range clients {
		closed(t, c)
	}
	if took := time.Since(seen); took > 50*time.Millisecond {
		t.Errorf("cut %s after the picture", took)
	}
	// The replica that was promoted keeps its sessions, but nothing proves that
	// it may be heard.
	send(t, r, "an answer")
	silent(t, reader, 100*time.Millisecond)
}

// A leader that only hung its key on another lease has lost no session, and is
// heard under the epoch that this began.
func TestAKeyThatMovedCutsNobody(t *testing.T) {
	w := newWorld(t, nil)
	server := newFake(t)
	w.lead(server.addr, time.Minute)
	c := w.dial("default")
	c.Write(startup("demo"))
	s := server.next(t, startup("demo"))
	w.picture.Epoch = 9
	w.right(time.Minute)
	send(t, s, "one")
	silent(t, c, 50*time.Millisecond) // the picture does not tell yet that it is the same reign
	w.picture.Before = 7
	w.see()
	expect(t, c, "one")
	w.picture.Epoch, w.picture.Before = 11, 10 // and not the one after the next
	w.right(time.Minute)
	w.see()
	closed(t, c)
}

func TestNothingIsHeardPastTheDeadline(t *testing.T) {
	w := newWorld(t, nil)
	server := newFake(t)
	w.lead(server.addr, 200*time.Millisecond)
	c := w.dial("default")
	c.Write(startup("demo"))
	s := server.next(t, startup("demo"))
	deadline := lease.Now() + 200*time.Millisecond // not before the page's
	go func() {
		for i := 0; ; i++ { // until the session ends
			if _, err := fmt.Fprintf(s, "%08d", i); err != nil {
				return
			}
		}
	}()
	var b [8 << 10]byte
	total := 0
	for {
		c.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
		n, err := c.Read(b[:])
		if err != nil {
			break
		}
		total += n
		// What was sent before the deadline may still lie in a buffer of the kernel's.
		if late := lease.Now() - deadline; late > 150*time.Millisecond {
			t.Fatalf("heard %s after the deadline", late)
		}
	}
	if total == 0 {
		t.Fatal("nothing was heard before it")
	}
	w.right(time.Minute) // the same reign again: what waited goes on, and nothing is lost
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.ReadFull(c, b[:8-total%8]); err != nil {
		t.Fatal(err)
	}
	total += 8 - total%8
	expect(t, c, fmt.Sprintf("%08d", total/8))

	w.page.Set(lease.Page{Role: lease.Primary, Epoch: 8, Deadline: lease.Now() + time.Minute}) // another reign
	c.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
	io.Copy(io.Discard, c)
	silent(t, c, 100*time.Millisecond)
}

// agentOf serves grants like the agent of member, as far as right lets it.
func agentOf(t *testing.T, w *world, answer http.HandlerFunc) string {
	t.Helper()
	peers, err := pki.Open(w.g.node.TLS)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /howdah/grant", answer)
	s := httptest.NewUnstartedServer(mux)
	s.TLS = peers.Server()
	s.StartTLS()
	t.Cleanup(s.Close)
	return strings.Replace(s.URL, "https:", "http:", 1) + "/patroni" // as members publish it
}

func TestAServerElsewhereIsHeardByGrant(t *testing.T) {
	w := newWorld(t, func(n *spec.Node) { n.Gateway.Wait = 10 * time.Second })
	server := newFake(t)
	frozen := make(chan struct{})
	until := atomic.Int64{}
	until.Store(int64(lease.Now() + time.Minute))
	var asked atomic.Int64
	api := agentOf(t, w, func(rw http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		select {
		case <-frozen:
			<-r.Context().Done()
			return
		default:
		}
		json.NewEncoder(rw).Encode(granted{"b", 7, max(0, time.Duration(until.Load())-lease.Now())})
	})
	w.member("b", server.addr, func(m *cluster.PictureMember) { primary(m); m.APIURL = api })
	w.picture.Leader = "b"
	w.see()
	c := w.dial("primary")
	c.Write(startup("demo"))
	s := server.next(t, startup("demo"))
	send(t, s, "heard")
	expect(t, c, "heard")

	deadline := lease.Now() + 700*time.Millisecond
	until.Store(int64(deadline))
	before := asked.Load()
	eventually(t, "it asks again", func() bool { return asked.Load() > before })
	close(frozen)
	for { // until it falls silent
		if _, err := io.WriteString(s, "."); err != nil {
			t.Fatal(err)
		}
		c.SetReadDeadline(time.Now().Add(time.Second))
		var b [1]byte
		if _, err := c.Read(b[:]); err != nil {
			break
		}
		if late := lease.Now() - deadline; late > 50*time.Millisecond { // it was sent before, and this test is not always at work
			t.Fatalf("heard %s after the right's end", late)
		}
	}
	if lease.Now() < deadline {
		t.Errorf("silent %s before the right's end, though it was granted", deadline-lease.Now())
	}
}

// Who asks for a grant shows the certificate that the node has now, also where a
// connection was kept: its agent may trust the authority of the one before no more.
func TestAGrantIsAskedWithTheNewestCertificate(t *testing.T) {
	w := newWorld(t, nil)
	shown := make(chan string, 100)
	api := agentOf(t, w, func(rw http.ResponseWriter, r *http.Request) {
		select {
		case shown <- r.TLS.PeerCertificates[0].SerialNumber.String():
		default: // the test has ended
		}
		json.NewEncoder(rw).Encode(granted{"b", 7, time.Minute})
	})
	ask := func(epoch int64) string {
		t.Helper()
		held, err := w.g.grants.hold("b", api, epoch) // of another reign than the newest: it is asked for at once
		if err != nil {
			t.Fatal(err)
		}
		defer w.g.grants.let(held)
		select {
		case serial := <-shown:
			return serial
		case <-time.After(30 * time.Second):
			t.Fatal("nobody asks")
		}
		return ""
	}
	before := ask(8)
	if again := ask(9); again != before {
		t.Errorf("asked with %s, and before with %s", again, before)
	}
	authority, err := pki.OpenAuthority(filepath.Join(w.g.node.Paths.Dir, "ca"), "demo")
	if err != nil {
		t.Fatal(err)
	}
	if cert, _, err := authority.Renew(w.g.node.TLS, true); !cert || err != nil {
		t.Fatal(cert, err)
	}
	eventually(t, "it is asked with the other certificate", func() bool { return ask(10) != before })
}

func TestNoGrantNoResult(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"another member": func(rw http.ResponseWriter, _ *http.Request) {
			json.NewEncoder(rw).Encode(granted{"c", 7, time.Minute})
		},
		"another reign": func(rw http.ResponseWriter, _ *http.Request) {
			json.NewEncoder(rw).Encode(granted{"b", 6, time.Minute})
		},
		"no right":  func(rw http.ResponseWriter, _ *http.Request) { json.NewEncoder(rw).Encode(granted{"b", 7, 0}) },
		"a debt":    func(rw http.ResponseWriter, _ *http.Request) { json.NewEncoder(rw).Encode(granted{"b", 7, -5}) },
		"garbage":   func(rw http.ResponseWriter, _ *http.Request) { io.WriteString(rw, "{") },
		"forbidden": func(rw http.ResponseWriter, _ *http.Request) { http.Error(rw, "no", http.StatusForbidden) },
		"elsewhere": func(rw http.ResponseWriter, r *http.Request) {
			http.Redirect(rw, r, "/howdah/grant?", http.StatusFound)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, nil)
			server := newFake(t)
			api := agentOf(t, w, answer)
			w.member("b", server.addr, func(m *cluster.PictureMember) { primary(m); m.APIURL = api })
			w.picture.Leader = "b"
			w.see()
			c := w.dial("primary")
			c.Write(startup("demo"))
			b, _ := io.ReadAll(c)
			if !bytes.Contains(b, []byte("57P03")) || server.count.Load() != 0 {
				t.Errorf("the client hears %q, the server has %d connections", b, server.count.Load())
			}
		})
	}
}

func TestHalfOpenConnectionsHurtNobody(t *testing.T) {
	w := newWorld(t, nil)
	server := newFake(t)
	w.lead(server.addr, time.Minute)
	var silentOnes []net.Conn
	for range 1000 {
		silentOnes = append(silentOnes, w.dial("primary"))
	}
	silentOnes[0].Write([]byte{0, 0}) // one that begins and stops
	began := time.Now()
	c := w.dial("primary")
	c.Write(startup("demo"))
	s := server.next(t, startup("demo"))
	send(t, s, "welcome")
	expect(t, c, "welcome")
	if took := time.Since(began); took > time.Second {
		t.Errorf("served after %s among 1,000 that say nothing", took)
	}
	if n := server.count.Load(); n != 1 {
		t.Errorf("the server has %d connections", n)
	}
}

// serverMessage is one message of a server.
func serverMessage(kind byte, body string) string {
	return string(append(binary.BigEndian.AppendUint32([]byte{kind}, uint32(4+len(body))), body...))
}

func cancelOf(key string) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(8+len(key)))
	return append(binary.BigEndian.AppendUint32(b, pgwire.CancelRequest), key...)
}

func TestACancelReachesItsSession(t *testing.T) {
	w := newWorld(t, nil)
	one, other := newFake(t), newFake(t)
	w.member("b", one.addr, nil)
	w.member("c", other.addr, nil)
	w.see()
	keys := map[*fake]string{one: "\x00\x00\x00\x01aaaa", other: "\x00\x00\x00\x02bbbb"}
	for range 2 {
		c := w.dial("replica")
		c.Write(startup("demo"))
		var server *fake
		var s *net.TCPConn
		select {
		case s = <-one.conns:
			server = one
		case s = <-other.conns:
			server = other
		case <-time.After(10 * time.Second):
			t.Fatal("no server was reached")
		}
		expect(t, s, string(startup("demo")))
		session := serverMessage('R', "\x00\x00\x00\x00") + serverMessage('K', keys[server]) + serverMessage('Z', "I")
		send(t, s, session)
		expect(t, c, session)
	}
	for server, key := range keys {
		c := w.dial("replica")
		c.Write(cancelOf(key))
		s := server.next(t, cancelOf(key))
		silent(t, c, 20*time.Millisecond) // until the server has done it
		s.Close()
		closed(t, c)
	}
	// A session that nobody could listen to: whoever may have it is asked.
	c := w.dial("replica")
	c.Write(cancelOf("\x00\x00\x00\x03cccc"))
	for _, server := range []*fake{one, other} {
		server.next(t, cancelOf("\x00\x00\x00\x03cccc")).Close()
	}
	closed(t, c)
	if one.count.Load() != 3 || other.count.Load() != 3 {
		t.Errorf("%d and %d connections; want a session, its cancel and the one for all", one.count.Load(), other.count.Load())
	}
}

func TestAServerThatRefusesIsPassedOver(t *testing.T) {
	w := newWorld(t, nil)
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead.Close()
	server := newFake(t)
	w.member("b", dead.Addr().String(), nil)
	w.member("c", server.addr, nil)
	w.see()
	for range 4 {
		c := w.dial("replica")
		c.Write(startup("demo"))
		server.next(t, startup("demo"))
	}
}

func TestMoreThanMaxconnWait(t *testing.T) {
	w := newWorld(t, func(n *spec.Node) { n.Gateway.Fronts[0].Services[0].MaxConn = 2 })
	server := newFake(t)
	w.lead(server.addr, time.Minute)
	first := w.dial("primary")
	first.Write(startup("1"))
	ends := server.next(t, startup("1"))
	second := w.dial("primary")
	second.Write(startup("2"))
	server.next(t, startup("2"))
	third := w.dial("primary")
	third.Write(startup("3"))
	silent(t, third, 50*time.Millisecond)
	if n := server.count.Load(); n != 2 {
		t.Fatalf("%d connections beside maxconn 2", n)
	}
	first.Close()
	ends.Close()
	server.next(t, startup("3"))
}

func TestWithoutDescriptorsAClientIsTold(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s := newSpare()
	defer s.close()
	var wg sync.WaitGroup
	defer wg.Wait()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s.refuse(l.(*net.TCPListener))
	if b, _ := io.ReadAll(c); !bytes.Contains(b, []byte("C53300")) {
		t.Errorf("it hears %q", b)
	}
	s.refuse(l.(*net.TCPListener)) // nobody there: it does not wait for long
	if s.f == nil {
		t.Error("the spare descriptor is not back")
	}
}

func TestBalances(t *testing.T) {
	back := func(weights ...int) (all []route.Backend) {
		for i, w := range weights {
			all = append(all, route.Backend{Member: string(rune('a' + i)), Weight: w})
		}
		return all
	}
	for _, tt := range []struct {
		how     string
		weights []int
		stay    bool // sessions last
		want    string
	}{
		{"roundrobin", []int{100, 100, 100}, true, "a4 b4 c4"},
		{"static-rr", []int{200, 100}, true, "a8 b4"},
		{"leastconn", []int{100, 100, 100}, true, "a4 b4 c4"},
		{"leastconn", []int{200, 100}, true, "a8 b4"},
		{"leastconn", []int{100, 100}, false, "a6 b6"}, // equally loaded: in turn
		{"first", []int{1, 100}, true, "a12"},
	} {
		var b balance
		load, got := map[string]int64{}, map[string]int{}
		for range 12 {
			m := b.pick(tt.how, back(tt.weights...), netip.Addr{}, func(m string) int64 { return load[m] }).Member
			got[m]++
			if tt.stay {
				load[m]++
			}
		}
		var text []string
		for _, m := range []string{"a", "b", "c"} {
			if got[m] > 0 {
				text = append(text, fmt.Sprint(m, got[m]))
			}
		}
		if s := strings.Join(text, " "); s != tt.want {
			t.Errorf("%s %v: %s, want %s", tt.how, tt.weights, s, tt.want)
		}
	}
	var b balance
	none := func(string) int64 { return 0 }
	seen := map[string]bool{}
	for i := range 64 {
		client := netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})
		m := b.pick("source", back(100, 100), client, none).Member
		if again := b.pick("source", back(100, 100), client, none).Member; again != m {
			t.Errorf("client %s goes to %s, then to %s", client, m, again)
		}
		seen[m] = true
	}
	if len(seen) != 2 {
		t.Errorf("64 clients all go to %v", seen)
	}
	counts := map[string]int64{}
	for range 1000 {
		counts[b.pick("random", back(100, 100), netip.Addr{}, func(m string) int64 { return counts[m] }).Member]++
	}
	if d := counts["a"] - counts["b"]; d > 100 || d < -100 {
		t.Errorf("random: %v", counts)
	}
}

func TestAnIdleSessionEndsAfterADay(t *testing.T) {
	w := newWorld(t, nil)
	server := newFake(t)
	w.lead(server.addr, time.Minute)
	c := w.dial("primary")
	c.Write(startup("demo"))
	s := server.next(t, startup("demo"))
	p := w.g.ports[0]
	at := time.Now()
	p.endIdle(at)
	p.endIdle(at.Add(idleFor - time.Second))
	send(t, s, "a word")
	expect(t, c, "a word")
	eventually(t, "the word is counted", func() bool { p.mu.Lock(); defer p.mu.Unlock(); return p.servers["a"].out.Load() == 6 })
	p.endIdle(at.Add(idleFor))
	send(t, s, "another")
	expect(t, c, "another")
	eventually(t, "the word is counted", func() bool { p.mu.Lock(); defer p.mu.Unlock(); return p.servers["a"].out.Load() == 13 })
	p.endIdle(at.Add(idleFor + time.Second))
	p.endIdle(at.Add(2*idleFor + time.Second))
	closed(t, c)
}

// TestTheStoreIsFollowed lets the gateway follow a store by its own watch.
func TestTheStoreIsFollowed(t *testing.T) {
	w := newWorld(t, func(n *spec.Node) { n.Gateway.Wait = 10 * time.Second })
	server := mem.Serve(mem.Etcd())
	store := server.Open("/service/demo/")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.g.fronts[0].follow(ctx, store) }()
	defer func() {
		cancel()
		<-ended
	}()
	put := func(ops ...dcs.Op) dcs.Response {
		t.Helper()
		r, err := store.Do(t.Context(), dcs.Request{Kind: dcs.Commit, Ops: ops})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	to := func(member string, within time.Duration) {
		t.Helper()
		began := time.Now()
		eventually(t, "the service leads to "+member, func() bool {
			all, version := w.g.fronts[0].routes.Get()
			if version == 0 {
				return false
			}
			usable := all[0].Usable()
			return len(usable) == 0 && member == "" || len(usable) == 1 && usable[0].Member == member
		})
		if took := time.Since(began); took > within {
			t.Errorf("it led to %q %s after the store", member, took)
		}
	}
	member := func(name, role string) dcs.Op {
		return dcs.Put(cluster.DirMembers+name, cluster.Member{
			ConnURL: "postgres://127.0.0.1:1/postgres", State: cluster.StateRunning, Role: role,
		}.Encode(), 0)
	}
	put(dcs.Put(cluster.KeyLeader, "a", 0), member("a", cluster.RolePrimary), member("b", cluster.RoleReplica))
	to("a", time.Second)
	put(dcs.Put(cluster.KeyLeader, "b", 0))
	to("", 50*time.Millisecond) // b does not write yet
	put(member("b", cluster.RolePrimary))
	to("b", 50*time.Millisecond)
	server.Break()
	put(dcs.Delete(cluster.KeyLeader))
	to("", time.Second)
	put(dcs.Put(cluster.KeyLeader, "\x00", 0), dcs.Put(cluster.DirMembers+"b", "[", 0))
	to("", time.Second)
	put(dcs.Put(cluster.KeyLeader, "a", 0))
	to("a", 50*time.Millisecond)
}
