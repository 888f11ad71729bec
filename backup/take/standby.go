package take

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"time"

	"howdah/backup/repo"
	"howdah/backup/server"
	"howdah/pg"
)

// A Standby is a server that follows the one that is backed up: what replication
// brings there is copied from its disk. The list of files, pg_control, settings, and
// the beginning and the end of the backup are the primary's.
type Standby interface {
	fmt.Stringer
	// Ready waits until its files have all that the primary's had when the backup began.
	Ready(ctx context.Context, begin server.Begin) error
	// Copy writes the files of b to w, each a stream of its own. read hears of every
	// byte that was read there, and may take its time.
	Copy(ctx context.Context, b Batch, w io.Writer, read func(n int) error) ([]Copied, error)
	// Follows says how far it has replayed; an error if it has not followed the
	// primary's timeline ever since it was ready: then its files are not to be used.
	Follows(ctx context.Context) (pg.LSN, error)
}

// Replicated says whether a file of the manifest is the same on a standby, but for
// what comes back from the log. It is pgBackRest's choice, since PostgreSQL 10.
func Replicated(name string) bool {
	return replicated.MatchString(name) && name != "pg_data/global/pg_control"
}

var replicated = regexp.MustCompile(`^(pg_data/(base|global|pg_xact|pg_multixact)|pg_tblspc)/`)

// standbyError is what went wrong there, not in the repository.
type standbyError struct{ error }

func (e *standbyError) Unwrap() error { return e.error }

// Local is a standby whose data directory is on this machine.
type Local struct {
	Conn *server.Conn
	Path string
}

func (l Local) String() string { return "standby at " + l.Path }

// Ready waits for replay, and has the standby write what it has.
func (l Local) Ready(ctx context.Context, begin server.Begin) error { return l.Conn.Reach(ctx, begin) }

// Copy reads the files from the standby's disk.
func (l Local) Copy(ctx context.Context, b Batch, w io.Writer, read func(n int) error) ([]Copied, error) {
	for _, f := range b.Files {
		if !Replicated(f.Name) {
			return nil, repo.Errorf(repo.Assert, "%s is not a standby's to give", f.Name)
		}
	}
	return disk{root: l.Path}.copy(ctx, b, w, read)
}

// Follows asks the standby.
func (l Local) Follows(ctx context.Context) (pg.LSN, error) { return l.Conn.Follows(ctx) }

// ready has the standby wait until it is good for the backup; false if the primary
// is to be taken instead.
func (b Backup) ready(ctx context.Context, begin server.Begin) (bool, error) {
	b.Voice.Info("wait for replay on the standby to reach %s", begin.LSN)
	began := time.Now()
	err := b.Standby.Ready(ctx, begin)
	if err == nil {
		b.Voice.Info("replay on the standby reached %s (%dms)", begin.LSN, time.Since(began).Milliseconds())
		return true, nil
	}
	return false, b.instead(ctx, err)
}

// instead is nil where the primary may be taken in the standby's place.
func (b Backup) instead(ctx context.Context, why error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if !b.PreferStandby {
		return fmt.Errorf("%s: %w", b.Standby, why)
	}
	b.Voice.Warn("%s is not used, the backup is made from the primary: %s", b.Standby, why)
	return nil
}

// followed proves that what was copied from the standby is of the primary's history.
func (b Backup) followed(ctx context.Context, conn *server.Conn) error {
	replayed, err := b.Standby.Follows(ctx)
	if err != nil {
		return &standbyError{err}
	}
	_, flushed, err := conn.Flushed(ctx)
	if err == nil && replayed > flushed {
		err = &standbyError{repo.Errorf(repo.DBMismatch, "it has replayed to %s, and the primary has written to %s: it follows another server", replayed, flushed)}
	}
	return err
}

// ofStandby says whether err is the standby's fault.
func ofStandby(err error) bool {
	var s *standbyError
	return errors.As(err, &s)
}
