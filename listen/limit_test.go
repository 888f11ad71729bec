package listen

import (
	"io"
	"net"
	"testing"
)

// Beyond its number a connection is let go; one that ends makes room.
func TestAtMost(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := AtMost(inner, 1)
	defer l.Close()
	accepted := make(chan net.Conn)
	go func() {
		defer close(accepted)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			accepted <- c
		}
	}()
	dial := func() net.Conn {
		c, err := net.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	dial()
	first := <-accepted
	if _, err := dial().Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("one too many reads %v, want its end", err)
	}
	first.Close()
	first.Close() // twice makes no room for two
	dial()
	second := <-accepted
	if _, err := dial().Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("another too many reads %v, want its end", err)
	}
	second.Close()
}
