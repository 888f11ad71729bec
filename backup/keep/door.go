package keep

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"howdah/backup/repo"
	"howdah/backup/repo/peer"
	"howdah/spec"
)

// Paths of the door. Whoever knocks shows the certificate of a member.
const (
	pathState  = "/backup/state"
	pathBackup = "/backup/take"
	pathFlush  = "/backup/flush"
	pathDrill  = "/backup/drill"
	pathRepo   = "/backup/repo/"
)

// often is how often progress is told.
const often = 500 * time.Millisecond

// serve answers until ctx ends.
func (k *Keeper) serve(ctx context.Context) error {
	l, err := net.Listen("tcp", k.node.Backup.Listen)
	if err != nil {
		return err
	}
	s := &http.Server{
		Handler: k.handler(), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute,
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		<-ctx.Done()
		_ = s.Close()
	}()
	err = s.Serve(tls.NewListener(l, k.server))
	if ctx.Err() != nil {
		<-ended
		return nil
	}
	return err
}

func (k *Keeper) handler() http.Handler {
	m := http.NewServeMux()
	m.HandleFunc("GET "+pathState, func(w http.ResponseWriter, r *http.Request) { write(w, k.State(r.Context())) })
	m.HandleFunc("POST "+pathFlush, func(w http.ResponseWriter, r *http.Request) {
		f, err := k.flush(r.Context())
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		write(w, f)
	})
	m.HandleFunc("POST "+pathBackup, k.takeFor)
	m.HandleFunc("POST "+pathDrill, func(w http.ResponseWriter, _ *http.Request) {
		if err := k.beginDrill(); err != nil {
			http.Error(w, err.Error(), http.StatusConflict)
			return
		}
		write(w, struct{}{})
	})
	m.HandleFunc("POST "+pathReady, k.lend)
	m.HandleFunc("POST "+pathCopy, k.copyFor)
	m.HandleFunc("POST "+pathFollows, k.follows)
	m.Handle("GET "+pathRepo, http.StripPrefix(strings.TrimSuffix(pathRepo, "/"), peer.Handler(k.disk().stanza().Storage)))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Other clusters of the inventory have the same authority.
		if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 || !slices.ContainsFunc(k.node.Backup.Members, func(h spec.Holder) bool {
			return h.Member == r.TLS.PeerCertificates[0].Subject.CommonName
		}) {
			http.Error(w, "this is for members of cluster "+k.node.Cluster, http.StatusForbidden)
			return
		}
		m.ServeHTTP(w, r)
	})
}

// disk is the keeper of the repository on the member's own disk, which others may
// read; without one the first.
func (k *Keeper) disk() *Keeper {
	for _, one := range k.all {
		if !one.node.Backup.Shared() {
			return one
		}
	}
	return k
}

// named is the keeper of the repository of that name or number; nil: there is none.
func (k *Keeper) named(name string) *Keeper {
	for i, one := range k.all {
		if name == one.node.Backup.Name || name == strconv.Itoa(i+1) || name == "" {
			return one
		}
	}
	return nil
}

func write(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // who went away asks again
}

// takeFor makes a backup for whoever asks, and tells how it goes. It is made
// also when nobody listens any more.
func (k *Keeper) takeFor(w http.ResponseWriter, r *http.Request) {
	kind := repo.Type(r.FormValue("type"))
	if !slices.Contains([]repo.Type{repo.Full, repo.Diff, repo.Incr}, kind) {
		http.Error(w, "type is full, diff or incr", http.StatusBadRequest)
		return
	}
	if !k.leads() {
		http.Error(w, errNotLeader.Error(), http.StatusConflict)
		return
	}
	if k = k.named(r.FormValue("repository")); k == nil {
		http.Error(w, "there is no repository "+r.FormValue("repository"), http.StatusNotFound)
		return
	}
	q := &question{kind: kind, ended: make(chan struct{})}
	k.mu.Lock()
	if k.asked != nil {
		k.mu.Unlock()
		http.Error(w, "a backup was asked for already, and is not done", http.StatusConflict)
		return
	}
	k.asked = q
	k.mu.Unlock()
	k.nudge()
	w.Header().Set("Content-Type", "application/x-ndjson")
	out, flush := json.NewEncoder(w), http.NewResponseController(w)
	tick := time.NewTicker(often)
	defer tick.Stop()
	for {
		select {
		case <-q.ended:
			report := Report{}
			if q.err != nil {
				report.Error = q.err.Error()
			}
			if q.done.Label != "" {
				b := backupOf(q.done)
				report.Backup = &b
			}
			_ = out.Encode(report)
			return
		case <-tick.C:
			report := Report{Run: &Run{Does: string(kind) + " backup", Why: "it waits for its turn"}}
			k.mu.Lock()
			if k.state.running != nil {
				run := *k.state.running
				report.Run = &run
			}
			k.mu.Unlock()
			if err := errors.Join(out.Encode(report), flush.Flush()); err != nil {
				return
			}
		case <-r.Context().Done():
			return
		}
	}
}

// A Client knocks at the door of one member.
type Client struct {
	URL  string
	HTTP *http.Client
}

// Storage is the member's repository, to be read.
func (c Client) Storage() repo.Storage { return peer.Store{URL: c.URL + pathRepo, Client: c.HTTP} }

// State is what the member says of its repository.
func (c Client) State(ctx context.Context) (State, error) {
	var s State
	body, err := c.do(ctx, http.MethodGet, pathState)
	if err != nil {
		return s, err
	}
	defer body.Close()
	if err := json.NewDecoder(io.LimitReader(body, 16<<20)).Decode(&s); err != nil {
		return s, err
	}
	_, err = io.Copy(io.Discard, body) // then the connection is used again
	return s, err
}

// Flush has the leader archive whatever is committed.
func (c Client) Flush(ctx context.Context) (Flushed, error) {
	var f Flushed
	body, err := c.do(ctx, http.MethodPost, pathFlush)
	if err != nil {
		return f, err
	}
	defer body.Close()
	err = json.NewDecoder(body).Decode(&f)
	return f, err
}

// Drill has the member begin a drill; it is heard of in its State.
func (c Client) Drill(ctx context.Context) error {
	body, err := c.do(ctx, http.MethodPost, pathDrill)
	if err != nil {
		return err
	}
	return body.Close()
}

// Take asks the leader for a backup into a repository, "" being the first, and tells
// how it goes.
func (c Client) Take(ctx context.Context, kind repo.Type, repository string, tell func(Run)) (Backup, error) {
	body, err := c.do(ctx, http.MethodPost, pathBackup+"?"+url.Values{"type": {string(kind)}, "repository": {repository}}.Encode())
	if err != nil {
		return Backup{}, err
	}
	defer body.Close()
	lines := bufio.NewScanner(body)
	for lines.Scan() {
		var r Report
		if err := json.NewDecoder(bytes.NewReader(lines.Bytes())).Decode(&r); err != nil {
			return Backup{}, err
		}
		switch {
		case r.Backup != nil && r.Error != "":
			return *r.Backup, errors.New(r.Error)
		case r.Backup != nil:
			return *r.Backup, nil
		case r.Error != "":
			return Backup{}, errors.New(r.Error)
		case r.Run != nil:
			tell(*r.Run)
		}
	}
	if err := lines.Err(); err != nil {
		return Backup{}, err
	}
	return Backup{}, io.ErrUnexpectedEOF
}

func (c Client) do(ctx context.Context, method, path string) (io.ReadCloser, error) {
	return c.send(ctx, method, path, nil)
}

func (c Client) send(ctx context.Context, method, path string, body io.Reader) (io.ReadCloser, error) {
	r, err := http.NewRequestWithContext(ctx, method, c.URL+path, body)
	if err != nil {
		return nil, err
	}
	resp, err := c.HTTP.Do(r)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusOK {
		return resp.Body, nil
	}
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	return nil, errors.Join(fmt.Errorf("%s", cmp.Or(strings.TrimSpace(string(text)), resp.Status)), resp.Body.Close())
}
