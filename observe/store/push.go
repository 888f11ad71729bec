package store

import (
	"context"
	"net"
	"path/filepath"
	"time"

	"howdah/lifecycle"
	"howdah/logkey"
)

// pushPort is Pushgateway's.
const pushPort = "9091"

// beside is a port at the address of the API.
func (s *Store) beside(port string) string {
	host, _, _ := net.SplitHostPort(s.Node.Observe.Listen[0]) // we made it
	return net.JoinHostPort(host, port)
}

// pushParts take what jobs push, and keep it beside the samples. Whoever may read
// metrics may push some.
func (s *Store) pushParts() []lifecycle.Part {
	path := filepath.Join(filepath.Dir(s.Node.Observe.Data), "pushed.json")
	if err := s.pushes.Load(path, s.Log); err != nil {
		s.Log.Error("pushed metrics not kept", logkey.Error, err)
	}
	return []lifecycle.Part{
		{Name: "pushed metrics", Grace: 2 * time.Second, Run: func(ctx context.Context) error { return s.pushes.Run(ctx, path, s.Log) }},
		{Name: "push on " + s.beside(pushPort), Grace: 2 * time.Second, Run: func(ctx context.Context) error {
			return serve(ctx, s.beside(pushPort), s.bounded(s.pushes.Handler(s.Log)), s.Log)
		}},
	}
}
