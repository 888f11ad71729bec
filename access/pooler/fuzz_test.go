package pooler

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"testing"

	"golang.org/x/sys/unix"

	"howdah/access/pool"
	"howdah/pgwire"
)

// A bench is a loop that does not run, with one client and one server on
// socket pairs: what they are fed, they pass on.
type bench struct {
	t    testing.TB
	d    *room
	c    *client
	s    *server
	far  [2]int // the other ends: of the client, of the server
	said [2][]byte
}

func newBench(t testing.TB, mode pool.Mode) *bench {
	t.Helper()
	settings := pool.Defaults()
	settings.PoolMode, settings.MaxPreparedStatements = mode, 3
	p, err := newPooler(slog.New(slog.DiscardHandler), Spread{Loops: 1}, &Door{
		Name: "bench", Settings: settings, ResetQuery: "DISCARD ALL", Log: slog.New(slog.DiscardHandler),
		Dial: func(context.Context) (Backend, error) { return Backend{}, errors.New("there is no other") },
	})
	if err != nil {
		t.Fatal(err)
	}
	d := p.halls[0].rooms[0]
	l := d.loop
	l.closed = true // what logs in elsewhere is heard by nobody
	b := &bench{t: t, d: d}
	k := pool.Key{Database: "d", User: "u"}
	pair := func(i int) int {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		b.far[i] = fds[0]
		return fds[1]
	}
	b.c = &client{room: d, key: k, mode: mode, welcomed: true, counts: &stats{}}
	if b.c.id, err = d.book.Join(k); err != nil {
		t.Fatal(err)
	}
	d.book.Want(b.c.id, 0)
	open := d.book.Actions()[0]
	b.c.loop, b.c.fd, b.c.events = l, pair(0), readable
	if err := l.add(b.c.fd, b.c, readable); err != nil {
		t.Fatal(err)
	}
	d.clients = at(d.clients, int(b.c.id))
	d.clients[b.c.id] = b.c
	b.s = &server{room: d, key: k, id: open.Server, status: 'I'}
	b.s.loop, b.s.fd, b.s.events = l, pair(1), readable
	if err := l.add(b.s.fd, b.s, readable); err != nil {
		t.Fatal(err)
	}
	d.servers = at(d.servers, int(b.s.id))
	d.servers[b.s.id] = b.s
	d.book.Ready(b.s.id, 0)
	for _, a := range d.book.Actions() {
		if a.Kind == pool.Link {
			b.c.server, b.s.client = b.s, b.c
		}
	}
	t.Cleanup(func() {
		if !b.c.hup {
			l.drop(b.c.fd)
		}
		if !b.s.hup {
			l.drop(b.s.fd)
		}
		for _, fd := range append(b.far[:], l.wake, l.ep) {
			unix.Close(fd)
		}
	})
	return b
}

// drain reads what came out at the other ends.
func (b *bench) drain() {
	var buf [64 << 10]byte
	for i, fd := range b.far {
		for {
			n, err := rawRead(fd, buf[:])
			if err != nil {
				break
			}
			b.said[i] = append(b.said[i], buf[:n]...)
		}
	}
	if !b.c.hup && b.c.pending() {
		b.c.flush()
	}
	if !b.s.hup && b.s.pending() {
		b.s.flush()
	}
}

// feed has one side say something.
func (b *bench) feed(server bool, data []byte) {
	l := b.d.loop
	if server {
		if !b.s.hup && b.s.late == nil {
			b.s.feed(data)
		}
	} else if !b.c.hup && b.c.pend == nil {
		b.c.feed(data)
	}
	l.finish()
	b.drain()
	if n := len(b.c.hold); n > parseMax {
		b.t.Fatalf("%d bytes held of a client", n)
	}
	if n := len(b.s.hold); n > namesMax+headSize {
		b.t.Fatalf("%d bytes held of a server", n)
	}
}

// series are messages as clients send them.
var series = [][]byte{
	appendMessage(nil, 'Q', "SELECT 1"),
	bytes.Join([][]byte{
		append(appendHead(nil, 'P', 12), "\x00SELECT 1\x00\x00\x00"...), append(appendHead(nil, 'B', 8), 0, 0, 0, 0, 0, 0, 0, 0), append(appendHead(nil, 'E', 5), 0, 0, 0, 0, 0), appendHead(nil, 'S', 0),
	}, nil),
	bytes.Join([][]byte{
		append(appendHead(nil, 'P', 13), "a\x00SELECT 1\x00\x00\x00"...), append(appendHead(nil, 'B', 9), 0, 'a', 0, 0, 0, 0, 0, 0, 0),
		append(appendHead(nil, 'D', 3), "Sa\x00"...), append(appendHead(nil, 'E', 5), 0, 0, 0, 0, 0), append(appendHead(nil, 'C', 3), "Sa\x00"...), appendHead(nil, 'S', 0),
	}, nil),
	append(append(appendMessage(nil, 'Q', "COPY t FROM STDIN"), append(appendHead(nil, 'd', 4), "row\n"...)...), appendHead(nil, 'c', 0)...),
}

// However a client's bytes are cut, the server gets the same.
func FuzzClient(f *testing.F) {
	for i, s := range series {
		f.Add(s, uint64(i))
		f.Add(bytes.Join([][]byte{s, s, series[0]}, nil), uint64(i))
	}
	f.Add([]byte{'Q', 0x7f, 0xff, 0xff, 0xff}, uint64(1))
	f.Add([]byte{'B', 0, 1, 0, 0, 'x'}, uint64(1))
	f.Fuzz(func(t *testing.T, data []byte, seed uint64) {
		whole, cut := newBench(t, pool.Transaction), newBench(t, pool.Transaction)
		whole.feed(false, data)
		r := rand.New(rand.NewPCG(seed, 0))
		for rest := data; len(rest) > 0; {
			n := min(1+r.IntN(7), len(rest))
			cut.feed(false, rest[:n])
			rest = rest[n:]
		}
		// What is not whole yet may have been passed on or not.
		a, b := whole.said[1], cut.said[1]
		if whole.c.hup != cut.c.hup || !whole.c.hup && !bytes.Equal(a, b) {
			t.Errorf("the server got %q at once and %q in pieces (ended: %v, %v)", a, b, whole.c.hup, cut.c.hup)
		}
	})
}

// Whatever a server says, and a client with it, nobody panics or hoards.
func FuzzServer(f *testing.F) {
	answers := bytes.Join([][]byte{
		appendMessage(nil, 'S', "TimeZone", "UTC"), appendHead(nil, '1', 0), appendHead(nil, '2', 0), appendMessage(nil, 'C', "SELECT 1"), {'Z', 0, 0, 0, 5, 'I'},
	}, nil)
	for _, s := range series {
		f.Add(s, answers, uint64(3))
	}
	f.Add(series[0], appendNotice(nil, 'E', "FATAL", "57P01", "gone"), uint64(1))
	f.Add(series[3], append(append(appendHead(nil, 'G', 3), 0, 0, 0), answers...), uint64(9))
	f.Add(series[2], []byte{'Z', 0, 0, 0, 4}, uint64(9))
	f.Add(append(appendMessage(nil, 'Q', "BEGIN"), appendMessage(nil, 'Q', "COMMIT")...), []byte{'Z', 0, 0, 0, 5, 'T', 'D', 0, 0, 0, 6, 0, 2, 'Z', 0, 0, 0, 5, 'T'}, uint64(4))
	f.Fuzz(func(t *testing.T, client, server []byte, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 1))
		b := newBench(t, []pool.Mode{pool.Session, pool.Transaction, pool.Statement}[seed%3])
		if seed%2 == 0 {
			b.d.Outlive, b.d.Settings.ResolveCommits = true, true
			b.d.Fate = func(context.Context, Doubt) Fate { return Unknown }
		}
		for len(client)+len(server) > 0 {
			from := &client
			if r.IntN(2) == 0 {
				from = &server
			}
			n := min(1+r.IntN(24), len(*from))
			if n > 0 {
				b.feed(from == &server, (*from)[:n])
			}
			*from = (*from)[n:]
		}
		if b.c.server == nil != (b.s.client == nil) && !b.s.hup {
			t.Error("only one of them thinks that they are together")
		}
	})
}

func FuzzStartup(f *testing.F) {
	f.Add(uint32(3<<16), []byte("user\x00demo\x00database\x00d\x00options\x00-c TimeZone=UTC\x00\x00"))
	f.Add(uint32(3<<16|2), []byte("user\x00demo\x00_pq_.x\x00y\x00\x00"))
	f.Add(uint32(2<<16), []byte("\x00"))
	f.Fuzz(func(t *testing.T, version uint32, body []byte) {
		g := &guest{door: &Door{Ignore: []string{"options"}}}
		if err := g.startup(pgwire.First{Code: version, Body: body}); err == nil && (g.key.User == "" || g.key.Database == "") {
			t.Errorf("%q is nobody, or nowhere", body)
		}
		fieldsOfError(body)
		namesOfBind(body)
	})
}
