package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"howdah/logkey"
	"howdah/problem"
)

// Install puts the data directory made, which lies beside this one, in its place,
// and moves what is there to aside. These are two renames: whoever dies between
// them, or after, does it again and finds what is left to do. Nothing may run.
func (s *Server) Install(_ context.Context, made, aside string) error {
	if err := s.nothingRuns(); err != nil {
		return fmt.Errorf("install %s: %w", made, err)
	}
	from, to := s.beside(made), s.beside(aside)
	if aside == "" || !filepath.IsLocal(made) || !filepath.IsLocal(aside) {
		return fmt.Errorf("install %s: it does not lie beside the data", made)
	}
	there := func(path string) bool {
		_, err := os.Lstat(filepath.Join(path, "global", "pg_control"))
		return err == nil
	}
	_, kept := os.Lstat(to)
	switch {
	case !there(from) && there(s.data) && kept == nil:
		return nil // done before
	case !there(from):
		return &problem.Error{
			Code: "restore-lost", What: "cannot put the restored data in place",
			Why: from + " is not there any more, or not whole", Do: "put it back, or give up the restore: `howdah restore --undo`",
		}
	}
	if err := s.mkdir(filepath.Dir(to), 0o700); err != nil {
		return err
	}
	if _, err := os.Lstat(s.data); err == nil {
		if kept == nil {
			return fmt.Errorf("install %s: %s is there already", made, to)
		}
		if err := s.swap(s.data, to); err != nil {
			return err
		}
		s.log.Info("data directory moved aside", logkey.Path, to)
	}
	if err := s.swap(from, s.data); err != nil {
		return err
	}
	s.log.Info("restored data in place", logkey.Path, s.data)
	return remove(s.marker())
}

// swap renames, for good.
func (s *Server) swap(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		if errors.Is(err, unix.EXDEV) || errors.Is(err, unix.EBUSY) {
			return &problem.Error{
				Code: "datadir-move", What: "cannot put another data directory in place",
				Why: from + " and " + to + " are on different file systems, or one is a file system of its own",
				Do:  "let the data directory lie in the node's own file system", Err: err,
			}
		}
		return err
	}
	return errors.Join(syncDir(filepath.Dir(from)), syncDir(filepath.Dir(to)))
}
