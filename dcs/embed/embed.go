// Package embed runs one member of etcd inside this process: etcd's own server
// package, with our timing, TLS, limits and end.
//
// It keeps what etcd promises and adds two things: the members of a new cluster
// start without waiting for each other, and leadership stays off the node of
// the PostgreSQL primary (yield.go). The data directory is etcd's and stays
// readable by its own tools.
package embed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver"
	"google.golang.org/grpc"

	"howdah/logkey"
	"howdah/netport"
	"howdah/problem"
	"howdah/spec"
)

const (
	stagger  = 150 * time.Millisecond // between the first starts of two members
	handover = 500 * time.Millisecond // allowed to give leadership away before stopping
	stop     = 2 * time.Second        // allowed to stop; etcd survives being killed
)

// Run serves the node's member until ctx ends or etcd gives up.
func Run(ctx context.Context, node spec.Node, log *slog.Logger) error {
	what := "cannot start etcd member " + node.Etcd.Member
	l := &logger{to: log}
	c, err := config(node, l)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return &problem.Error{
			Code: "etcd-data",
			What: what,
			Why:  "its data directory cannot be used",
			Do:   "make it belong to the user that runs this node",
			Err:  err,
		}
	}
	founds, err := prepare(ctx, c, log)
	if err != nil {
		return err
	}
	if !founds {
		if err := takeTurns(ctx, c, node); err != nil {
			return err
		}
	}
	// While its server starts, etcd serves nobody and asks the others; gRPC
	// servers are only known once it is ready.
	servers := make(chan *grpc.Server, 2)
	c.ServiceRegister = func(s *grpc.Server) { servers <- s }
	var e *embed.Etcd
	anew := !founds && replacing(c)
	if !anew {
		e, err = embed.StartEtcd(c)
		anew = lost(err)
	}
	if anew {
		if err := replace(ctx, c, node, log); err != nil {
			return err
		}
		e, err = embed.StartEtcd(c)
	}
	if err != nil {
		if errors.Is(err, syscall.EADDRINUSE) {
			return taken(c, what, err)
		}
		return &problem.Error{
			Code: "etcd-start",
			What: what,
			Do:   "read the cause; the data directory is " + c.Dir,
			Err:  err,
		}
	}

	if anew || founds {
		go func() {
			select {
			case <-e.Server.ReadyNotify():
				os.Remove(leaving(c)) // it has data again
				os.Remove(founding(c.Dir))
				os.Remove(filepath.Join(c.Dir, founded))
			case <-e.Server.StopNotify():
			}
		}()
	}
	yielded := make(chan struct{})
	yieldCtx, cancel := context.WithCancel(ctx)
	go func() {
		defer close(yielded)
		promote(yieldCtx, e.Server, node, log)
		yield(yieldCtx, e.Server, node, log)
	}()
	select {
	case <-ctx.Done():
	case err = <-e.Err():
	case <-e.Server.StopNotify():
		err = errors.New("etcd stopped by itself")
	}
	l.quiet.Store(true)
	cancel()
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		<-yielded
		end(e, servers)
	}()
	timer := time.NewTimer(stop)
	defer timer.Stop()
	select {
	case <-closed:
	case <-timer.C:
		// Its peers are gone, or the disk hangs. Whoever called ends the
		// process; what was acknowledged is on disk.
		log.Warn("etcd left behind while stopping", logkey.Took, stop)
	}
	if err != nil {
		return fmt.Errorf("etcd member %s: %w", node.Etcd.Member, err)
	}
	return nil
}

// taken names who holds one of the member's ports.
func taken(c *embed.Config, what string, err error) error {
	for _, u := range slices.Concat(c.ListenClientUrls, c.ListenPeerUrls) {
		port, _ := strconv.Atoi(u.Port())
		if held := netport.Check(u.Hostname(), port); held != nil {
			return held
		}
	}
	return &problem.Error{
		Code: "port-taken",
		What: what,
		Why:  "one of its ports is taken",
		Do:   "stop the program that has it; if it is another playground, `howdah down --dir` of that one",
		Err:  err,
	}
}

// takeTurns lets the members of a new cluster start one after another, in the
// order of the list. A new member first asks every other one whether it is
// known already (etcdserver/bootstrap.go, isMemberBootstrapped), a second
// each, and one that asks at the same time listens but does not answer.
func takeTurns(ctx context.Context, c *embed.Config, node spec.Node) error {
	if _, err := os.Stat(filepath.Join(c.Dir, "member")); err == nil {
		return nil
	}
	i := slices.IndexFunc(node.Etcd.Members, func(m spec.EtcdMember) bool { return m.Name == node.Etcd.Member })
	timer := time.NewTimer(time.Duration(i) * stagger)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// end stops a member: leadership first, so that writes go on elsewhere; then
// its clients, whose watches would hold etcd's own Close for seconds; then the
// server, which must have stopped before Close when it never became ready.
func end(e *embed.Etcd, servers <-chan *grpc.Server) {
	if ready(e.Server) {
		giveAway(e.Server)
	}
	for {
		select {
		case s := <-servers:
			s.Stop()
			continue
		default:
		}
		break
	}
	e.Server.HardStop()
	e.Close()
}

func ready(s *etcdserver.EtcdServer) bool {
	select {
	case <-s.ReadyNotify():
		return true
	default:
		return false
	}
}

// giveAway hands leadership to the member that etcd would choose, if there is one.
func giveAway(s *etcdserver.EtcdServer) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.TryTransferLeadershipOnShutdown() // ends with the server at the latest
	}()
	timer := time.NewTimer(handover)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	}
}
