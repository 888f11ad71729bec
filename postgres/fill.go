package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"howdah/logkey"
)

// A stop of a primary that archives ends its segment of the log (ShutdownXLOG in xlog.c):
// the rest of it is written as zeroes, flushed, sent to every standby and flushed there
// before anybody can take over, and the last record needs another segment, which is made
// first: up to 16 MiB, several times, while clients are held. Written ahead of time it is
// not left to be written then, and the checkpoint that follows makes the next segment
// ready (PreallocXlogFiles).

const (
	fillLeaves = 8                     // this part of the segment is left for what is written until the stop
	fillPiece  = 64 << 10              // of one message
	fillStep   = 1 << 20               // written at once
	fillPause  = 10 * time.Millisecond // between two steps: commits meanwhile wait for little
	fillAhead  = time.Second / 2       // from here to the stop
)

// room is how much of the segment is left, its size, and whether a stop fills it. A message
// is decoded for slots of its own database alone, which is nobody's as a rule.
const room = `SELECT size - (pg_current_wal_insert_lsn() - '0/0')::bigint % size, size, (pg_current_wal_insert_lsn() - '0/0')::bigint,
  current_setting('archive_mode') <> 'off' AND NOT EXISTS (SELECT FROM pg_replication_slots WHERE database = current_database())
FROM (SELECT setting::bigint AS size FROM pg_settings WHERE name = 'wal_segment_size') s`

// Fill brings the log of a primary near the end of its segment, if a stop would fill it.
func (s *Server) Fill(ctx context.Context) {
	began := time.Now()
	switch written, err := s.fillSegment(ctx); {
	case err != nil:
		s.log.Warn("the log is not near the end of a segment, the stop takes longer", logkey.Error, err)
	case written > 0:
		s.log.Info("log filled ahead of a stop", "bytes", written, logkey.Took, time.Since(began))
	}
}

func (s *Server) fillSegment(ctx context.Context) (written int64, err error) {
	conn, err := s.connect(ctx, nil)
	if err != nil {
		return 0, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var began time.Time
	var first int64
	for {
		res, err := conn.Exec(ctx, room).ReadAll()
		if err != nil {
			return written, err
		}
		if len(res) != 1 || len(res[0].Rows) != 1 {
			return written, errors.New("no answer")
		}
		var of [3]int64 // left of the segment, its size, where the log ends
		for i := range of {
			if of[i], err = strconv.ParseInt(string(res[0].Rows[0][i]), 10, 64); err != nil {
				return written, err
			}
		}
		left, size, end := of[0], of[1], of[2]
		if string(res[0].Rows[0][3]) != "t" {
			return written, nil
		}
		if began.IsZero() {
			began, first = time.Now(), end
		}
		// What others write until the stop is not to begin another segment.
		theirs := max(0, end-first-written) * int64(fillAhead) / int64(max(time.Since(began), fillAhead/5))
		spare := size/fillLeaves + theirs
		if left-fillPiece <= spare || written >= size {
			return written, nil
		}
		n := max(1, min(fillStep, left-spare)/fillPiece)
		if _, err := conn.Exec(ctx, fmt.Sprintf(
			"SELECT count(pg_logical_emit_message(false, 'howdah', repeat(' ', %d))) FROM generate_series(1, %d)", fillPiece, n)).ReadAll(); err != nil {
			return written, err
		}
		written += n * fillPiece
		select {
		case <-time.After(fillPause):
		case <-ctx.Done():
			return written, ctx.Err()
		}
	}
}
