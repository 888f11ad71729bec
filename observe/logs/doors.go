package logs

import (
	"context"
	"net"
	"sync"
	"time"
)

const (
	maxGuests = 64              // connections at once
	sayWithin = 5 * time.Second // until the first byte
)

// doors are two ways into one port: by TLS, and in clear. Who comes is told by the
// first byte, which of TLS is that of a handshake.
type doors struct {
	l    net.Listener
	of   [2]door
	once sync.Once
}

const handshake = 22 // RFC 8446, section 5.1: ContentType

func newDoors(l net.Listener) *doors {
	d := &doors{l: l}
	for i := range d.of {
		d.of[i] = door{all: d, came: make(chan net.Conn), closed: make(chan struct{})}
	}
	return d
}

// run leads everybody to a door, until one of them is closed or ctx ends.
func (d *doors) run(ctx context.Context) error {
	var led sync.WaitGroup
	defer led.Wait()
	defer d.close()
	for {
		c, err := d.l.Accept()
		if err != nil {
			return err
		}
		led.Go(func() { d.lead(ctx, c) })
	}
}

func (d *doors) lead(ctx context.Context, c net.Conn) {
	first := make([]byte, 1)
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	_ = c.SetReadDeadline(time.Now().Add(sayWithin)) // else the read below says so
	if _, err := c.Read(first); err != nil {
		c.Close()
		return
	}
	_ = c.SetReadDeadline(time.Time{})
	to := &d.of[1]
	if first[0] == handshake {
		to = &d.of[0]
	}
	select {
	case to.came <- &begun{Conn: c, first: first}:
	case <-to.closed:
		c.Close()
	}
}

func (d *doors) close() {
	d.once.Do(func() {
		d.l.Close()
		for i := range d.of {
			close(d.of[i].closed)
		}
	})
}

// A door is the listener of those who come one way.
type door struct {
	all    *doors
	came   chan net.Conn
	closed chan struct{}
}

func (d *door) Accept() (net.Conn, error) {
	select {
	case c := <-d.came:
		return c, nil
	case <-d.closed:
		return nil, net.ErrClosed
	}
}

func (d *door) Close() error {
	d.all.close()
	return nil
}

func (d *door) Addr() net.Addr { return d.all.l.Addr() }

// A begun connection has its first byte still to be read.
type begun struct {
	net.Conn
	first []byte
}

func (b *begun) Read(p []byte) (int, error) {
	if len(b.first) == 0 || len(p) == 0 {
		return b.Conn.Read(p)
	}
	n := copy(p, b.first)
	b.first = b.first[n:]
	return n, nil
}
