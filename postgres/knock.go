package postgres

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"howdah/pg"
	"howdah/pgwire"
	"howdah/spec"
)

// A login of ours is tried at a running primary: one at a time, a moment after the last
// that was not answered, and far more seldom while all is well.
const (
	knockEvery = 10 * time.Second
	knockAgain = time.Second
	knockFor   = 8 * time.Second
)

// knocks is how they fared at one postmaster.
type knocks struct {
	sync.Mutex
	at       Proc
	answered int
	silent   int       // since the last that was answered
	since    time.Time // when the first of these began
}

// knocking tries logins until ctx ends.
func (s *Server) knocking(ctx context.Context) {
	for {
		tried, cancel := context.WithTimeout(ctx, knockFor)
		answered := s.Knock(tried)
		cancel()
		pause := knockEvery
		if !answered {
			pause = knockAgain
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

// Knock tries a login as long as ctx allows, if a primary runs that could let somebody in,
// and says whether it was answered; the next look tells. Whatever is said to it is an
// answer: who is turned away because all places are taken was heard. What can not be
// told, like a socket that is not there, counts neither way.
func (s *Server) Knock(ctx context.Context) (answered bool) {
	p, running := Postmaster(s.data)
	if f, _ := readPIDFile(s.data); !running || f.status != "ready" || s.signalled() {
		return true // there is no door yet, or it is a standby's
	}
	began := time.Now()
	silent, err := s.login(ctx)
	k := &s.knocks
	k.Lock()
	defer k.Unlock()
	if k.at.PID != p.PID || k.at.Ticks != p.Ticks {
		k.at, k.answered, k.silent = p, 0, 0
	}
	if stat, ok := readStat(p.PID); !ok || stat.ticks != p.Ticks || stat.stopped() {
		return err == nil // it died, or was stopped meanwhile, which is another matter
	}
	switch {
	case err == nil:
		k.answered, k.silent = k.answered+1, 0
	case silent:
		if k.silent == 0 {
			k.since = began
		}
		k.silent++
	}
	return err == nil
}

// login is answered, or met by silence, or fails in another way.
func (s *Server) login(ctx context.Context) (silent bool, err error) {
	path := filepath.Join(s.node.Paths.Sockets, ".s.PGSQL."+strconv.Itoa(s.node.Postgres.Port))
	var conn net.Conn
	for {
		if conn, err = new(net.Dialer).DialContext(ctx, "unix", path); err == nil {
			break
		}
		if !errors.Is(err, syscall.EAGAIN) {
			return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded), err
		}
		select { // so many wait that there is no room for another one: a storm, or nobody is let in
		case <-ctx.Done():
			return errors.Is(ctx.Err(), context.DeadlineExceeded), err
		case <-time.After(100 * time.Millisecond):
		}
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	first := binary.BigEndian.AppendUint32(make([]byte, 4, 128), 3<<16)
	first = append(first, "user\x00"+spec.Superuser+"\x00database\x00postgres\x00application_name\x00howdah agent\x00\x00"...)
	binary.BigEndian.PutUint32(first, uint32(len(first)))
	if _, err := conn.Write(first); err != nil {
		return !errors.Is(ctx.Err(), context.Canceled), err
	}
	var b []byte
	part := make([]byte, 4096)
	for {
		n, err := conn.Read(part)
		if n == 0 && err != nil {
			return !errors.Is(ctx.Err(), context.Canceled), err // in time or not, whoever came hears nothing
		}
		b = append(b, part[:n]...)
		for {
			m, n, err := pgwire.ReadMessage(b, 1<<20)
			if err != nil {
				return true, err // a fork that failed, in the words of another age (postmaster.c, report_fork_failure_to_client)
			}
			if n == 0 {
				break
			}
			b = b[n:]
			switch {
			case m.Type == pgwire.ErrorResponse, m.Type == pgwire.Authentication && len(m.Body) >= 4 && binary.BigEndian.Uint32(m.Body) != pgwire.AuthOK:
				return false, nil
			case m.Type == pgwire.ReadyForQuery:
				_, _ = conn.Write(pgwire.AppendMessage(nil, pgwire.Terminate))
				return false, nil
			}
		}
	}
}

// known is how logins fare at p. While ours are not answered somebody else's count as
// well, of which newest tells: whether anybody was let in who came so long ago or later.
func (s *Server) known(p Proc, newest func(time.Duration) bool) pg.Logins {
	k := &s.knocks
	k.Lock()
	at, l, since := k.at, pg.Logins{Answered: k.answered, Silent: k.silent}, k.since
	k.Unlock()
	switch {
	case at.PID != p.PID || at.Ticks != p.Ticks:
		return pg.Logins{}
	case l.Silent == 0:
		return l
	}
	l.Since = time.Since(since)
	if !newest(l.Since) {
		return l
	}
	k.Lock()
	defer k.Unlock()
	if k.at == at && k.since.Equal(since) {
		k.answered, k.silent = k.answered+1, 0
	}
	return pg.Logins{Answered: l.Answered + 1}
}

// others asks whether anybody was let in who came at most so long ago. Who still knocks
// is in no view up to 17, and from 18 on says so.
const others = `SELECT EXISTS (SELECT FROM pg_stat_get_activity(NULL) WHERE backend_type IN ('client backend', 'walsender')
  AND state IS DISTINCT FROM 'starting' AND backend_start > clock_timestamp() - interval '1 millisecond' * `
