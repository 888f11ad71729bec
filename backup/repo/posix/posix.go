// Package posix keeps a repository in a directory, as pgBackRest's type posix
// does.
//
// An object is written aside, synced, renamed and its directory synced: after
// a power cut it is there whole or not at all. Of two who store an object at once
// each writes a file of its own, and the later rename counts. Objects have mode
// 0640 and directories 0750.
package posix

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"howdah/backup/repo"
)

const (
	fileMode = 0o640
	pathMode = 0o750
	// suffix of objects that are being written; pgBackRest knows it and passes them over.
	suffix = ".pgbackrest.tmp"
)

// A Store is a directory.
type Store struct {
	Root string
}

var _ interface {
	repo.Storage
	repo.Tree
} = Store{}

// at is where an object is.
func (s Store) at(name string) (string, error) {
	if !filepath.IsLocal(filepath.FromSlash(name)) {
		return "", repo.Errorf(repo.Assert, "'%s' leads out of the repository", name)
	}
	return filepath.Join(s.Root, filepath.FromSlash(name)), nil
}

// Get reads a part of an object.
func (s Store) Get(_ context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	path, err := s.at(name)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if offset > 0 {
		if _, err := f.Seek(offset, io.SeekStart); err != nil {
			f.Close()
			return nil, err
		}
	}
	if length < 0 {
		return f, nil
	}
	return struct {
		io.Reader
		io.Closer
	}{io.LimitReader(f, length), f}, nil
}

// Put stores an object.
func (s Store) Put(ctx context.Context, name string, fill func(io.Writer) error) error {
	return s.put(ctx, name, fill, true)
}

// PutLater stores an object that is durable after Sync: many files are written
// out at once in a fraction of the time.
func (s Store) PutLater(ctx context.Context, name string, fill func(io.Writer) error) error {
	return s.put(ctx, name, fill, false)
}

// Sync makes everything durable that was put.
func (s Store) Sync(context.Context) error {
	f, err := os.Open(s.Root)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Syncfs(int(f.Fd()))
}

func (s Store) put(ctx context.Context, name string, fill func(io.Writer) error, durable bool) (err error) {
	path, err := s.at(name)
	if err != nil {
		return err
	}
	dir := filepath.Dir(path)
	if err := s.makeDir(dir); err != nil {
		return err
	}
	f, err := aside(path)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
			_ = os.Remove(f.Name())
		}
	}()
	w := buffers.Get().(*bufio.Writer)
	defer buffers.Put(w)
	w.Reset(f)
	if err := fill(w); err != nil {
		return err
	}
	if err := errors.Join(w.Flush(), ctx.Err()); err != nil {
		return err
	}
	if durable {
		if err := f.Sync(); err != nil {
			return err
		}
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil || !durable {
		return err
	}
	return syncDir(dir)
}

// aside makes the file that is to become path: one that nobody else writes. Of a
// long name it has the beginning, for a name has 255 bytes.
func aside(path string) (*os.File, error) {
	dir, name := filepath.Split(path)
	for {
		temp := filepath.Join(dir, name[:min(len(name), 200)]+"."+rand.Text()[:8]+suffix)
		f, err := os.OpenFile(temp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, fileMode)
		if !errors.Is(err, fs.ErrExist) {
			return f, err
		}
	}
}

// abandoned is how long nothing was written into a file that nobody writes any more.
const abandoned = 24 * time.Hour

// Sweep removes what was written aside below a directory by whoever ended before
// it was whole, ours and pgBackRest's.
func (s Store) Sweep(ctx context.Context, dir string) error {
	root, err := s.at(dir)
	if err != nil {
		return err
	}
	return filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // gone since
		}
		if err := errors.Join(err, ctx.Err()); err != nil {
			return err
		}
		if !e.Type().IsRegular() || !strings.HasSuffix(path, suffix) {
			return nil
		}
		st, err := e.Info()
		if err == nil && time.Since(st.ModTime()) > abandoned {
			err = os.Remove(path)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
}

var buffers = sync.Pool{New: func() any { return bufio.NewWriterSize(nil, 256<<10) }}

// makeDir makes a directory and those above it, and syncs whichever it changed.
func (s Store) makeDir(dir string) error {
	err := os.Mkdir(dir, pathMode)
	switch {
	case err == nil:
		return syncDir(filepath.Dir(dir))
	case errors.Is(err, fs.ErrExist):
		return nil
	case errors.Is(err, fs.ErrNotExist) && filepath.Dir(dir) != dir:
		if err := s.makeDir(filepath.Dir(dir)); err != nil {
			return err
		}
		return s.makeDir(dir)
	}
	return err
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// List returns what is in a directory. What is being written is not shown.
func (s Store) List(_ context.Context, dir string) ([]repo.Entry, error) {
	path := s.Root
	if dir != "" {
		var err error
		if path, err = s.at(dir); err != nil {
			return nil, err
		}
	}
	names, err := os.ReadDir(path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all []repo.Entry
	for _, n := range names {
		if strings.HasSuffix(n.Name(), suffix) || n.Type()&fs.ModeSymlink != 0 {
			continue
		}
		st, err := n.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // gone since
		}
		if err != nil {
			return nil, err
		}
		e := repo.Entry{Name: n.Name(), Dir: n.IsDir(), Modified: st.ModTime()}
		if !e.Dir {
			e.Size = st.Size()
		}
		all = append(all, e)
	}
	return all, nil
}

// Remove deletes objects.
func (s Store) Remove(_ context.Context, names ...string) error {
	dirs := []string{}
	for _, name := range names {
		path, err := s.at(name)
		if err != nil {
			return err
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if dir := filepath.Dir(path); !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	for _, dir := range dirs {
		if err := syncDir(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// RemoveAll deletes a directory.
func (s Store) RemoveAll(_ context.Context, dir string) error {
	path, err := s.at(dir)
	if err != nil {
		return err
	}
	if err := os.RemoveAll(path); err != nil {
		return err
	}
	if err := syncDir(filepath.Dir(path)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// MakeDir makes a directory that holds nothing.
func (s Store) MakeDir(_ context.Context, dir string) error {
	path, err := s.at(dir)
	if err != nil {
		return err
	}
	return s.makeDir(path)
}

// Link makes a symbolic link.
func (s Store) Link(_ context.Context, name, target string) error {
	path, err := s.at(name)
	if err != nil {
		return err
	}
	if err := s.makeDir(filepath.Dir(path)); err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Symlink(target, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}
