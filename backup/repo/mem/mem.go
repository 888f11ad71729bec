// Package mem keeps a repository in memory, for tests. Like an object store it
// has no directories: what has a prefix is in it.
package mem

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"howdah/backup/repo"
)

// A Store is a set of objects.
type Store struct {
	mu      sync.Mutex
	objects map[string]object
}

type object struct {
	data []byte
	at   time.Time
}

var _ interface {
	repo.Storage
	repo.Arbiter
} = (*Store)(nil)

// Get reads a part of an object.
func (s *Store) Get(_ context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o, ok := s.objects[name]
	if !ok {
		return nil, &fs.PathError{Op: "get", Path: name, Err: fs.ErrNotExist}
	}
	data := o.data[min(offset, int64(len(o.data))):]
	if length >= 0 {
		data = data[:min(length, int64(len(data)))]
	}
	return io.NopCloser(bytes.NewReader(data)), nil
}

// Put stores an object.
func (s *Store) Put(ctx context.Context, name string, fill func(io.Writer) error) error {
	var b bytes.Buffer
	if err := fill(&b); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.objects == nil {
		s.objects = map[string]object{}
	}
	s.objects[name] = object{b.Bytes(), time.Now()}
	return nil
}

// List returns what is directly below a prefix.
func (s *Store) List(_ context.Context, dir string) ([]repo.Entry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if dir != "" {
		dir += "/"
	}
	found := map[string]repo.Entry{}
	for name, o := range s.objects {
		rest, ok := strings.CutPrefix(name, dir)
		if !ok {
			continue
		}
		first, _, deeper := strings.Cut(rest, "/")
		e := repo.Entry{Name: first, Dir: deeper}
		if !deeper {
			e.Size, e.Modified = int64(len(o.data)), o.at
		}
		found[first] = e
	}
	return slices.SortedFunc(maps.Values(found), func(a, b repo.Entry) int { return cmp.Compare(a.Name, b.Name) }), nil
}

// Remove deletes objects.
func (s *Store) Remove(_ context.Context, names ...string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range names {
		delete(s.objects, name)
	}
	return nil
}

// RemoveAll deletes everything below a prefix.
func (s *Store) RemoveAll(_ context.Context, dir string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.objects, func(name string, _ object) bool { return strings.HasPrefix(name, dir+"/") })
	return nil
}

// Swap stores an object if another one has not been stored meanwhile.
func (s *Store) Swap(ctx context.Context, name, was string, data []byte) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if have, ok := s.objects[name]; ok != (was != "") || ok && tag(have.data) != was {
		return "", repo.ErrSwapped
	}
	if s.objects == nil {
		s.objects = map[string]object{}
	}
	s.objects[name] = object{bytes.Clone(data), time.Now()}
	return tag(data), nil
}

// Tagged reads an object with its tag.
func (s *Store) Tagged(_ context.Context, name string) ([]byte, string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o, ok := s.objects[name]
	if !ok {
		return nil, "", &fs.PathError{Op: "get", Path: name, Err: fs.ErrNotExist}
	}
	return bytes.Clone(o.data), tag(o.data), nil
}

// tag is what object stores mostly have for one: a sum of the content.
func tag(data []byte) string { return fmt.Sprintf("%x", sha256.Sum256(data)) }
