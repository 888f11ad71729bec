// Package repotest is the contract that every repo.Storage keeps.
package repotest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"testing"

	"howdah/backup/repo"
)

// Test proves a store; open returns an empty one.
func Test(t *testing.T, open func(t *testing.T) repo.Storage) {
	put := func(t *testing.T, s repo.Storage, name, text string) {
		t.Helper()
		if err := s.Put(t.Context(), name, func(w io.Writer) error { _, err := io.WriteString(w, text); return err }); err != nil {
			t.Fatalf("Put(%s) = %v", name, err)
		}
	}
	get := func(t *testing.T, s repo.Storage, name string, offset, length int64) (string, error) {
		t.Helper()
		r, err := s.Get(t.Context(), name, offset, length)
		if err != nil {
			return "", err
		}
		defer r.Close()
		b, err := io.ReadAll(r)
		return string(b), err
	}
	names := func(t *testing.T, s repo.Storage, dir string) []string {
		t.Helper()
		list, err := s.List(t.Context(), dir)
		if err != nil {
			t.Fatalf("List(%s) = %v", dir, err)
		}
		all := []string{}
		for _, e := range list {
			name := e.Name
			if e.Dir {
				name += "/"
			}
			all = append(all, name)
		}
		return all
	}

	t.Run("a missing object is fs.ErrNotExist", func(t *testing.T) {
		if _, err := get(t, open(t), "no/where", 0, -1); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("got %v, want fs.ErrNotExist", err)
		}
	})
	t.Run("what was put is got, whole and in parts", func(t *testing.T) {
		s := open(t)
		put(t, s, "a/b/c.zst", "0123456789")
		put(t, s, "a/empty", "")
		for _, tt := range []struct {
			name           string
			offset, length int64
			want           string
		}{{"a/b/c.zst", 0, -1, "0123456789"}, {"a/b/c.zst", 3, 4, "3456"}, {"a/b/c.zst", 8, -1, "89"}, {"a/b/c.zst", 8, 10, "89"}, {"a/empty", 0, -1, ""}} {
			if got, err := get(t, s, tt.name, tt.offset, tt.length); got != tt.want || err != nil {
				t.Errorf("Get(%s, %d, %d) = %q, %v, want %q", tt.name, tt.offset, tt.length, got, err, tt.want)
			}
		}
	})
	t.Run("a put that fails leaves what was there", func(t *testing.T) {
		s := open(t)
		put(t, s, "d/x", "old")
		broken := errors.New("broken")
		for _, name := range []string{"d/x", "d/y"} {
			err := s.Put(t.Context(), name, func(w io.Writer) error {
				_, _ = io.WriteString(w, "new and half")
				return broken
			})
			if !errors.Is(err, broken) {
				t.Errorf("Put(%s) = %v, want what broke", name, err)
			}
		}
		if got, err := get(t, s, "d/x", 0, -1); got != "old" || err != nil {
			t.Errorf("after a put that failed there is %q, %v", got, err)
		}
		if got := names(t, s, "d"); !slices.Equal(got, []string{"x"}) {
			t.Errorf("after a put that failed there are %v", got)
		}
	})
	t.Run("a put whose context ended stores nothing", func(t *testing.T) {
		s := open(t)
		ctx, cancel := context.WithCancel(t.Context())
		err := s.Put(ctx, "z", func(w io.Writer) error {
			cancel()
			_, err := io.WriteString(w, "half")
			return err
		})
		if err == nil || len(names(t, s, "")) != 0 {
			t.Errorf("Put = %v, and there is %v", err, names(t, s, ""))
		}
	})
	t.Run("an object is replaced as a whole", func(t *testing.T) {
		s := open(t)
		put(t, s, "x", "a long text")
		put(t, s, "x", "short")
		if got, _ := get(t, s, "x", 0, -1); got != "short" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("a listing shows one level, by name, with sizes", func(t *testing.T) {
		s := open(t)
		for _, name := range []string{"r/b", "r/a/1", "r/a/2", "r/a.b", "rr/x", "r/A"} {
			put(t, s, name, "12345")
		}
		if got, want := names(t, s, "r"), []string{"A", "a/", "a.b", "b"}; !slices.Equal(got, want) {
			t.Errorf("List(r) = %v, want %v", got, want)
		}
		if got, want := names(t, s, ""), []string{"r/", "rr/"}; !slices.Equal(got, want) {
			t.Errorf("List() = %v, want %v", got, want)
		}
		list, _ := s.List(t.Context(), "r/a")
		if len(list) != 2 || list[0].Size != 5 || list[0].Modified.IsZero() {
			t.Errorf("List(r/a) = %+v", list)
		}
		if got := names(t, s, "nowhere"); len(got) != 0 {
			t.Errorf("List(nowhere) = %v", got)
		}
	})
	t.Run("what is removed is gone, and nothing else", func(t *testing.T) {
		s := open(t)
		for _, name := range []string{"r/a/1", "r/a/2", "r/ab", "q"} {
			put(t, s, name, "x")
		}
		if err := s.Remove(t.Context(), "q", "never/there"); err != nil {
			t.Errorf("Remove = %v", err)
		}
		for range 2 {
			if err := s.RemoveAll(t.Context(), "r/a"); err != nil {
				t.Errorf("RemoveAll = %v", err)
			}
		}
		if got := names(t, s, "r"); !slices.Equal(got, []string{"ab"}) {
			t.Errorf("left are %v", got)
		}
	})
	t.Run("odd names are names", func(t *testing.T) {
		s := open(t)
		for _, name := range []string{"o/a=b", "o/[x]", `o/q"uote`, `o/back\slash`, "o/sp ace", "o/ümlaut", "o/per%20cent", "o/plus+"} {
			put(t, s, name, name)
			if got, err := get(t, s, name, 0, -1); got != name || err != nil {
				t.Errorf("Get(%s) = %q, %v", name, got, err)
			}
		}
		if got := names(t, s, "o"); len(got) != 8 {
			t.Errorf("there are %v", got)
		}
	})
	t.Run("many at once", func(t *testing.T) {
		s := open(t)
		var wait sync.WaitGroup
		for i := range 16 {
			wait.Go(func() { put(t, s, "m/"+strings.Repeat("x", i+1), strings.Repeat("y", 100_000+i)) })
		}
		wait.Wait()
		for i := range 16 {
			if got, err := get(t, s, "m/"+strings.Repeat("x", i+1), 0, -1); len(got) != 100_000+i || err != nil {
				t.Errorf("object %d has %d bytes, %v", i, len(got), err)
			}
		}
	})
	t.Run("of two who put an object at once one is there, whole", func(t *testing.T) {
		s := open(t)
		const size = 1 << 20 // more than a store holds back in memory
		texts := []string{strings.Repeat("a", size), strings.Repeat("b", size/2)}
		half, done := make(chan struct{}), make(chan error, 1)
		go func() {
			<-half
			done <- s.Put(t.Context(), "p/x", func(w io.Writer) error { _, err := io.WriteString(w, texts[1]); return err })
		}()
		err := s.Put(t.Context(), "p/x", func(w io.Writer) error {
			if _, err := io.WriteString(w, texts[0][:size/2]); err != nil {
				return err
			}
			close(half)
			if err := <-done; err != nil { // the other one is through meanwhile
				return fmt.Errorf("the other: %w", err)
			}
			_, err := io.WriteString(w, texts[0][size/2:])
			return err
		})
		if err != nil {
			t.Fatalf("Put = %v", err)
		}
		if got, err := get(t, s, "p/x", 0, -1); err != nil || !slices.Contains(texts, got) {
			t.Errorf("there are %d bytes, %d of them a: neither one (%v)", len(got), strings.Count(got, "a"), err)
		}
		if got := names(t, s, "p"); !slices.Equal(got, []string{"x"}) {
			t.Errorf("there are %v", got)
		}
	})
	t.Run("of many who store an object at once one does, and each change has another tag", func(t *testing.T) {
		s, ok := open(t).(repo.Arbiter)
		if !ok {
			t.Skip("this store does not arbitrate")
		}
		const many = 8
		tags, errs := make([]string, many), make([]error, many)
		attempt := func(was string) (winner int) {
			var wait sync.WaitGroup
			for i := range many {
				wait.Go(func() { tags[i], errs[i] = s.Swap(t.Context(), "lock/x", was, fmt.Appendf(nil, "%s %d", was, i)) })
			}
			wait.Wait()
			winner = -1
			for i, err := range errs {
				switch {
				case err == nil && winner < 0:
					winner = i
				case !errors.Is(err, repo.ErrSwapped):
					t.Errorf("attempt %d over %q: %v", i, was, err)
				}
			}
			if winner < 0 {
				t.Fatal("nobody won")
			}
			return winner
		}
		was := ""
		for range 3 {
			n := attempt(was)
			data, tag, err := s.Tagged(t.Context(), "lock/x")
			if err != nil || string(data) != fmt.Sprintf("%s %d", was, n) || tag != tags[n] || tag == was {
				t.Errorf("there is %q with tag %s, %v; %d stored it with %s", data, tag, err, n, tags[n])
			}
			was = tag
		}
		if _, _, err := s.Tagged(t.Context(), "lock/y"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Tagged of nothing: %v", err)
		}
		if _, err := s.Swap(t.Context(), "lock/y", was, nil); !errors.Is(err, repo.ErrSwapped) {
			t.Errorf("Swap over what is gone: %v", err)
		}
	})
}
