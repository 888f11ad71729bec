package gateway

import (
	"context"
	"io"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// kinship is both ends of what a gateway and its successor talk over.
func kinship(t *testing.T) (a, b *kin) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends []*kin
	for _, fd := range fds {
		k, err := kinOf(fd)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { k.conn.Close() })
		ends = append(ends, k)
	}
	return ends[0], ends[1]
}

// Sessions of untouched bytes go over while they live: those that rest, those whose client or
// server has said its last, and those that were just busy. One that never rests is cut at the end.
func TestUntouchedBytesGoOver(t *testing.T) {
	server := newFake(t)
	before, after := newWorld(t, nil), newWorld(t, nil)
	before.lead(server.addr, time.Minute)
	after.lead(server.addr, time.Minute)
	rests, spoken, slow := before.dial("primary"), before.dial("primary"), before.dial("primary")
	hello := startup("demo")
	send(t, rests, string(hello))
	s1 := server.next(t, hello)
	send(t, spoken, string(hello))
	s2 := server.next(t, hello)
	send(t, slow, string(hello))
	s3 := server.next(t, hello)
	if err := spoken.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if _, err := s2.Read(make([]byte, 1)); err != io.EOF {
		t.Fatalf("the server hears %v", err)
	}
	stuffed := make(chan int64) // more than the kernel takes: the gateway may have some of it in hand
	go func() {
		n, _ := io.CopyN(s3, zeros{}, 32<<20)
		stuffed <- n
	}()
	eventually(t, "bytes for the slow client", func() bool {
		fd, err := descriptor(slow)
		n, _ := unix.IoctlGetInt(fd, unix.TIOCINQ)
		return err == nil && n > 0
	})

	a, b := kinship(t)
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	life, end := context.WithCancel(t.Context())
	var sessions sync.WaitGroup
	defer sessions.Wait()
	defer end()
	came := make(chan error, 10)
	go func() {
		for {
			kind, body, fds, err := b.receive()
			if err != nil {
				return
			}
			if kind != frameRelayed || len(fds) != 2 {
				err = errFrame
			} else {
				err = after.g.adopt(life, &sessions, body, fds)
			}
			came <- err
		}
	}()
	gone := make(chan struct{})
	go func() {
		before.g.ports[0].handOver(ctx, a)
		close(gone)
	}()
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		if n, err := io.CopyN(io.Discard, slow, 32<<20); err != nil || n != 32<<20 || <-stuffed != n {
			t.Errorf("%d bytes, %v", n, err)
		}
	}()
	for range 3 {
		if err := <-came; err != nil {
			t.Fatal(err)
		}
	}
	<-drained
	<-gone
	send(t, rests, "question")
	expect(t, s1, "question")
	send(t, s1, "answer")
	expect(t, rests, "answer")
	send(t, s2, "last words")
	expect(t, spoken, "last words")
	s2.Close()
	closed(t, spoken)
	send(t, slow, "still here")
	expect(t, s3, "still here")
	// What the new gateway knows of them is as true as of its own.
	after.picture.Epoch++
	after.member("b", newFake(t).addr, primary)
	after.picture.Leader = "b"
	after.member("a", server.addr, nil)
	after.see()
	closed(t, rests)
	closed(t, slow)
}

// zeros are as many as one likes.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }
