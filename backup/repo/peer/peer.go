// Package peer reads the repository of another member: a Storage over HTTPS
// that can not be written to, and the handler that serves one.
//
// Who may read is settled by TLS: both sides show a certificate of the cluster's
// authority.
package peer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"howdah/backup/repo"
)

// Paths under the root of the handler.
const (
	listPath   = "list"
	objectPath = "object"
)

// A Store is a repository elsewhere.
type Store struct {
	URL    string // of the handler, with a slash at its end
	Client *http.Client
}

var _ repo.Storage = Store{}

// Get reads a part of an object.
func (s Store) Get(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	body, want, err := s.ask(ctx, objectPath, url.Values{
		"name": {name}, "offset": {strconv.FormatInt(offset, 10)}, "length": {strconv.FormatInt(length, 10)},
	})
	if err != nil {
		return nil, err
	}
	return &whole{ReadCloser: body, left: want}, nil
}

// whole is a body that does not end before its length was read.
type whole struct {
	io.ReadCloser
	left int64
}

func (w *whole) Read(p []byte) (int, error) {
	n, err := w.ReadCloser.Read(p)
	w.left -= int64(n)
	if errors.Is(err, io.EOF) && w.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// List returns what is directly in dir.
func (s Store) List(ctx context.Context, dir string) ([]repo.Entry, error) {
	body, _, err := s.ask(ctx, listPath, url.Values{"dir": {dir}})
	if err != nil {
		return nil, err
	}
	defer body.Close()
	var all []repo.Entry
	if err := json.NewDecoder(body).Decode(&all); err != nil {
		return nil, fmt.Errorf("%s: %w", s.URL, err)
	}
	_, err = io.Copy(io.Discard, body) // then the connection is used again
	return all, err
}

// errReadOnly says that another member's repository is that member's.
var errReadOnly = errors.New("the repository of another member is only read")

// Put is refused.
func (Store) Put(context.Context, string, func(io.Writer) error) error { return errReadOnly }

// Remove is refused.
func (Store) Remove(context.Context, ...string) error { return errReadOnly }

// RemoveAll is refused.
func (Store) RemoveAll(context.Context, string) error { return errReadOnly }

// ask returns the body of an answer and its length.
func (s Store) ask(ctx context.Context, path string, q url.Values) (io.ReadCloser, int64, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+path+"?"+q.Encode(), nil)
	if err != nil {
		return nil, 0, err
	}
	resp, err := s.Client.Do(r)
	if err != nil {
		return nil, 0, err
	}
	switch resp.StatusCode {
	case http.StatusOK:
		return resp.Body, resp.ContentLength, nil
	case http.StatusNotFound:
		err = &fs.PathError{Op: "get", Path: q.Get("name"), Err: fs.ErrNotExist}
	default:
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
		err = fmt.Errorf("%s%s: %s: %s", s.URL, path, resp.Status, strings.TrimSpace(string(text)))
	}
	return nil, 0, errors.Join(err, resp.Body.Close())
}

// Handler serves a storage to Stores.
func Handler(s repo.Storage) http.Handler {
	m := http.NewServeMux()
	m.HandleFunc("GET /"+listPath, func(w http.ResponseWriter, r *http.Request) {
		all, err := s.List(r.Context(), r.FormValue("dir"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(all) // who does not listen any more asks again
	})
	m.HandleFunc("GET /"+objectPath, func(w http.ResponseWriter, r *http.Request) {
		offset, err1 := strconv.ParseInt(r.FormValue("offset"), 10, 64)
		length, err2 := strconv.ParseInt(r.FormValue("length"), 10, 64)
		if err := errors.Join(err1, err2); err != nil || offset < 0 {
			http.Error(w, "offset and length are numbers", http.StatusBadRequest)
			return
		}
		object, err := s.Get(r.Context(), r.FormValue("name"), offset, length)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			http.Error(w, err.Error(), http.StatusNotFound)
			return
		case err != nil:
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		defer object.Close()
		w.Header().Set("Content-Type", "application/octet-stream")
		if f, ok := object.(interface{ Stat() (fs.FileInfo, error) }); ok { // then its end is known from its beginning
			if st, err := f.Stat(); err == nil {
				w.Header().Set("Content-Length", strconv.FormatInt(max(st.Size()-offset, 0), 10))
			}
		}
		if _, err := io.Copy(w, object); err != nil {
			panic(http.ErrAbortHandler) // what came so far must not look like all of it
		}
	})
	return m
}
