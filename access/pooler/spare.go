package pooler

import (
	"net"
	"os"
)

// A spare descriptor lets a client be told that there are no more.
type spare struct{ f *os.File }

func newSpare() *spare {
	f, _ := os.Open(os.DevNull)
	return &spare{f}
}

func (s *spare) close() {
	if s.f != nil {
		s.f.Close()
	}
}

// refuse accepts one client on the spare descriptor and sends it away.
func (s *spare) refuse(l net.Listener) {
	s.close()
	if c, err := l.Accept(); err == nil {
		refuse(c, "the gateway has no file descriptors left")
	}
	s.f, _ = os.Open(os.DevNull)
}
