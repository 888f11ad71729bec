package postgres

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"howdah/problem"
)

// kept is a new name under the node's directory of what was put aside.
func (s *Server) kept(name string) string {
	return filepath.Join(s.beside("kept"), name)
}

func stamp() string { return time.Now().UTC().Format("20060102T150405.000Z") }

// moveAside renames the data directory into kept and takes a mark away with it.
func (s *Server) moveAside() (string, error) {
	if err := s.nothingRuns(); err != nil {
		return "", fmt.Errorf("move aside: %w", err)
	}
	if err := s.mkdir(s.beside("kept"), 0o700); err != nil {
		return "", err
	}
	to := s.kept("data-" + stamp())
	if err := os.Rename(s.data, to); err != nil {
		if errors.Is(err, unix.EXDEV) || errors.Is(err, unix.EBUSY) {
			return "", &problem.Error{
				Code: "datadir-move", What: "cannot move the data directory aside",
				Why: s.data + " is a file system of its own, or on another one than " + s.beside("kept"),
				Do:  "move its contents away by hand, or delete them", Err: err,
			}
		}
		return "", err
	}
	if err := syncDir(filepath.Dir(s.data)); err != nil {
		return "", err
	}
	if err := syncDir(s.beside("kept")); err != nil {
		return "", err
	}
	return to, remove(s.marker())
}
