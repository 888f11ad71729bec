package peer_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"howdah/backup/repo"
	"howdah/backup/repo/mem"
	"howdah/backup/repo/peer"
	"howdah/backup/repo/posix"
	"howdah/backup/repo/repotest"
)

// through is a storage that is written to directly and read through a peer.
type through struct {
	repo.Storage
	read peer.Store
}

func (s through) Get(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	return s.read.Get(ctx, name, offset, length)
}

func (s through) List(ctx context.Context, dir string) ([]repo.Entry, error) {
	return s.read.List(ctx, dir)
}

func served(t *testing.T, s repo.Storage) peer.Store {
	t.Helper()
	h := httptest.NewServer(http.StripPrefix("/repo", peer.Handler(s)))
	t.Cleanup(h.Close)
	return peer.Store{URL: h.URL + "/repo/", Client: h.Client()}
}

func TestContract(t *testing.T) {
	for name, open := range map[string]func(*testing.T) repo.Storage{
		"mem":   func(*testing.T) repo.Storage { return &mem.Store{} },
		"posix": func(t *testing.T) repo.Storage { return posix.Store{Root: t.TempDir()} },
	} {
		t.Run(name, func(t *testing.T) {
			repotest.Test(t, func(t *testing.T) repo.Storage {
				s := open(t)
				return through{s, served(t, s)}
			})
		})
	}
}

// An object that breaks off on the way must not look like all of it.
func TestBrokenOff(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "object"), 0o755); err != nil { // opens, and can not be read
		t.Fatal(err)
	}
	r, err := served(t, posix.Store{Root: dir}).Get(t.Context(), "object", 0, -1)
	if err != nil {
		return
	}
	defer r.Close()
	if data, err := io.ReadAll(r); err == nil {
		t.Errorf("%d bytes, and no error", len(data))
	}
}

func TestIsNotWritten(t *testing.T) {
	s := served(t, &mem.Store{})
	for what, err := range map[string]error{
		"Put": s.Put(t.Context(), "x", func(io.Writer) error { return nil }), "Remove": s.Remove(t.Context(), "x"), "RemoveAll": s.RemoveAll(t.Context(), "x"),
	} {
		if err == nil {
			t.Errorf("%s is taken", what)
		}
	}
}
