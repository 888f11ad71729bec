package keep

import (
	"cmp"
	"context"
	"time"

	"howdah/backup/archive"
	"howdah/backup/server"
	"howdah/logkey"
	"howdah/pg"
)

// How often it is looked for what the log has more. What is committed is in the
// repository after one look and one object at the latest.
const (
	lookStreaming = 250 * time.Millisecond // unless the inventory says how often
	lookShared    = time.Second            // into a bucket: every object has its price
	lookStill     = 500 * time.Millisecond // while nothing is written
	lookIdle      = time.Second            // at whether this member streams at all
	lookFailed    = 2 * time.Second        // after an error
	tellAfter     = 30 * time.Second
	tidyEvery     = 5 * time.Second
	sweepEvery    = 5 * time.Minute
)

// askWithin is how long the server may take to say where its log ends.
const askWithin = 5 * time.Second

// Streamed is how far the log is in the repository, whether its segments are
// archived or not.
type Streamed struct {
	Timeline pg.Timeline `json:"timeline"`
	LSN      string      `json:"lsn"`
	Segment  string      `json:"segment"`     // in which that is
	At       time.Time   `json:"at,omitzero"` // what the server had by then is there; zero: nobody streams now
}

// A streamer is the goroutine that brings the end of the log into the repository.
type streamer struct {
	*Keeper
	conn   *server.Conn
	stream *archive.Stream
	tidied time.Time
	stored time.Time // when it was last looked whether something is to be stored
	failed time.Time // since when nothing can be stored; zero: it can
	said   bool      // that it is so
}

// stream runs until ctx ends. It costs the primary's host nothing where members
// have repositories of their own: who holds the second copy takes the log from
// its own pg_wal, where it comes anyway.
func (k *Keeper) stream(ctx context.Context) error {
	s := &streamer{Keeper: k}
	defer s.end()
	swept := time.Time{}
	for {
		pause := lookIdle
		if k.streams() {
			more, err := s.turn(ctx)
			if pause = k.node.Backup.Stream.Look(k.interval()); !more && !k.node.Backup.Shared() {
				pause = max(pause, lookStill)
			}
			if s.tell(err); err != nil {
				pause = lookFailed
			}
		} else {
			s.end()
		}
		if now := time.Now(); now.Sub(swept) > sweepEvery && (!k.node.Backup.Shared() || k.leads()) {
			swept = now
			s.sweep(ctx)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil
		}
	}
}

// streams says whether this member does: into a bucket the leader, whose host is
// lost with its log; else who holds the leader's backups, so that the log is not on
// one host alone. A member without others has its own disk for it.
func (k *Keeper) streams() bool {
	if k.node.Backup.Stream.Off {
		return false
	}
	leads := k.leads()
	if leads || k.node.Backup.Shared() {
		return leads && (k.node.Backup.Shared() || len(k.node.Backup.Holders(k.node.Member)) < 2)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.state.holds
}

// interval is how long what has come waits for more.
func (k *Keeper) interval() time.Duration {
	usual := lookStreaming
	if k.node.Backup.Shared() {
		usual = lookShared
	}
	return cmp.Or(k.node.Backup.Stream.Interval, usual)
}

// tell says that the log is not streamed, when that lasts: at a start the server
// and the repository come a little later than this.
func (s *streamer) tell(err error) {
	now := time.Now()
	switch {
	case err == nil && s.said:
		s.log.Info("log is streamed again")
		fallthrough
	case err == nil:
		s.failed, s.said = time.Time{}, false
	case s.failed.IsZero():
		s.failed = now
	case !s.said && now.Sub(s.failed) > tellAfter:
		s.log.Warn("log not streamed", logkey.Error, err)
		s.said = true
	}
}

// turn stores what is new, if there is any.
func (s *streamer) turn(ctx context.Context) (more bool, err error) {
	if s.conn == nil {
		conn, err := s.desk.Server.Connect(ctx)
		if err != nil {
			return false, err
		}
		s.conn = conn
		s.stream = &archive.Stream{Path: s.node.Postgres.Data, Stanza: s.Keeper.stanza(), DB: conn.Control.DB, Coding: codingWAL, Voice: s.voice}
	}
	ask, cancel := context.WithTimeout(ctx, askWithin)
	now := time.Now()
	timeline, lsn, err := s.conn.Flushed(ask)
	cancel()
	if err != nil {
		s.end() // another server may answer next time
		return false, err
	}
	if timeline == 0 {
		return false, nil // a standby that receives nothing: what it had is stored
	}
	was := s.stream.At()
	if was.Timeline == timeline && !s.node.Backup.Stream.Due(now.Sub(s.stored), s.interval(), int64(lsn-min(lsn, was.LSN))) {
		return true, nil
	}
	s.stored = now
	if err := s.stream.Ship(ctx, archive.Position{Timeline: timeline, LSN: lsn, Size: s.conn.Segment}); err != nil {
		return false, err
	}
	at := s.stream.At()
	s.mu.Lock()
	s.state.streamed = Streamed{Timeline: at.Timeline, LSN: at.LSN.String(), Segment: at.Timeline.Segment(at.LSN, uint64(at.Size)), At: now.UTC()}
	s.mu.Unlock()
	if now.Sub(s.tidied) > tidyEvery {
		s.tidied = now
		if err := s.stream.Tidy(ctx); err != nil {
			s.log.Debug("tails not tidied", logkey.Error, err) // the next time, or a sweep, does
		}
	}
	return at != was, nil
}

// end gives up the session.
func (s *streamer) end() {
	if s.conn != nil {
		s.conn.Close()
		s.conn, s.stream = nil, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state.streamed = Streamed{}
}

// sweep removes what is in the archive, and what no backup leads to.
func (s *streamer) sweep(ctx context.Context) {
	keep := ""
	if s.stream != nil {
		keep = s.stream.Segment()
	}
	if err := archive.SweepTails(ctx, s.Keeper.stanza(), keep); err != nil && ctx.Err() == nil {
		s.log.Debug("tails not swept", logkey.Error, err)
	}
}
