package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"howdah/logkey"
	"howdah/pg"
	"howdah/postgres/kept"
	"howdah/problem"
)

// Keep copies the log of timeline tl from position from on into a directory of
// the node, before a rewind or a clone throws it away: what the server wrote
// after it had lost its right, or never sent, can still be looked into. It
// returns the directory, or "" when there is nothing from there on.
func (s *Server) Keep(ctx context.Context, from pg.LSN, tl pg.Timeline) (string, error) {
	ctl, err := s.stopped("keep the log")
	if err != nil {
		return "", err
	}
	end, err := s.End(ctx)
	if err != nil {
		return "", err
	}
	if end <= from {
		return "", nil
	}
	names, err := walNames(s.data)
	if err != nil {
		return "", err
	}
	first, last := tl.Segment(from, ctl.segment), tl.Segment(end-1, ctl.segment)
	var wanted []string
	for _, name := range names {
		// Names sort as positions do; segments after the end are only prepared.
		if isSegment(name) && name >= first && name <= last || name == tl.HistoryFile() {
			wanted = append(wanted, name)
		}
	}
	if len(wanted) == 0 {
		return "", nil
	}
	dir := s.kept(kept.Log(time.Now(), fmt.Sprintf("%s-%s", tl, strings.ReplaceAll(from.String(), "/", "-"))))
	for _, d := range []string{s.beside(kept.Dir), dir} {
		if err := s.mkdir(d, 0o700); err != nil {
			return "", fmt.Errorf("keep the log: %w", err)
		}
	}
	for _, name := range wanted {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		if err := s.copyFile(filepath.Join(s.in("pg_wal"), name), filepath.Join(dir, name)); err != nil {
			return "", s.diskFull("keep the log", err)
		}
	}
	for _, d := range []string{dir, s.beside(kept.Dir)} {
		if err := syncDir(d); err != nil {
			return "", err
		}
	}
	s.log.Info("log kept", logkey.Path, dir, logkey.LSN, from, "bytes", int64(end-from))
	return dir, nil
}

func (s *Server) copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	if s.account.other {
		if err := out.Chown(s.account.uid, s.account.gid); err != nil {
			return err
		}
	}
	if _, err := io.Copy(out, in); err != nil {
		return err
	}
	if err := out.Sync(); err != nil {
		return err
	}
	return out.Close()
}

// MoveAside renames the data directory into the node's kept directory, so that
// a fresh copy deletes nothing, and returns where it is now; "" when there was
// none.
func (s *Server) MoveAside(context.Context) (string, error) {
	if _, err := os.Lstat(s.data); os.IsNotExist(err) {
		return "", nil
	}
	to, err := s.moveAside()
	if err != nil {
		return "", fmt.Errorf("move the data directory aside: %w", err)
	}
	s.log.Info("data directory moved aside", logkey.Path, to)
	return to, nil
}

// moveAside takes a mark of unfinished work away with the directory.
func (s *Server) moveAside() (string, error) {
	if err := s.nothingRuns(); err != nil {
		return "", err
	}
	if err := s.mkdir(s.beside(kept.Dir), 0o700); err != nil {
		return "", err
	}
	to := s.kept(kept.Data(time.Now()))
	if err := os.Rename(s.data, to); err != nil {
		if errors.Is(err, unix.EXDEV) || errors.Is(err, unix.EBUSY) {
			return "", &problem.Error{
				Code: "datadir-move", What: "cannot move the data directory aside",
				Why: s.data + " is a file system of its own, or on another one than " + s.beside(kept.Dir),
				Do:  "move its contents away by hand, or delete them", Err: err,
			}
		}
		return "", err
	}
	for _, d := range []string{filepath.Dir(s.data), s.beside(kept.Dir)} {
		if err := syncDir(d); err != nil {
			return "", err
		}
	}
	return to, remove(s.marker())
}

// kept is the name of something put aside.
func (s *Server) kept(name string) string { return filepath.Join(s.beside(kept.Dir), name) }
