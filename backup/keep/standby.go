package keep

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"sync"
	"time"

	"howdah/backup/repo"
	"howdah/backup/server"
	"howdah/backup/stanza"
	"howdah/backup/take"
	"howdah/pg"
	"howdah/secret"
)

// A backup is the leader's: it begins and ends it, lists the files, and stores what
// comes. What comes is read, compressed and encrypted by the jobs of a standby, from
// that member's disk, over the door between members.

// Paths of the door for that.
const (
	pathReady   = "/backup/standby/ready"
	pathCopy    = "/backup/standby/copy"
	pathFollows = "/backup/standby/follows"
)

const (
	readyWithin = time.Minute // a standby may take until it is good for a backup
	askedMost   = 64 << 20    // bytes of one request: names of files
)

// A lending is a standby's part in a backup, on its side.
type lending struct {
	id   string
	from take.Local
	mu   sync.Mutex // of the session in it
}

// lend waits until this member's server is good for the leader's backup, says so, and
// is there for it until the leader goes away.
func (k *Keeper) lend(w http.ResponseWriter, r *http.Request) {
	var begin server.Begin
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, askedMost)).Decode(&begin); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	conn, err := k.desk.Server.Connect(r.Context())
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	defer conn.Close()
	out := http.NewResponseController(w)
	if err := out.Flush(); err != nil { // it may take its time from here
		return
	}
	l := &lending{id: rand.Text(), from: take.Local{Conn: conn, Path: k.node.Postgres.Data}}
	said := lent{Session: l.id}
	if err := conn.Reach(r.Context(), begin); err != nil {
		said = lent{Error: err.Error()}
	} else {
		k.mu.Lock()
		k.lends = l // a leader that is gone needs its own no more
		k.mu.Unlock()
	}
	if err := errors.Join(json.NewEncoder(w).Encode(said), out.Flush()); err != nil || said.Error != "" {
		return
	}
	<-r.Context().Done()
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.lends == l {
		k.lends = nil
	}
}

// lent is what the standby answers when it is good for a backup, or will not be.
type lent struct {
	Session string `json:"session,omitempty"`
	Error   string `json:"error,omitempty"`
}

// session is the lending that a request is about.
func (k *Keeper) session(w http.ResponseWriter, r *http.Request) *lending {
	k.mu.Lock()
	defer k.mu.Unlock()
	if l := k.lends; l != nil && l.id == r.FormValue("session") {
		return l
	}
	http.Error(w, "this member has no part in that backup any more", http.StatusConflict)
	return nil
}

// follows says how far the server has replayed.
func (k *Keeper) follows(w http.ResponseWriter, r *http.Request) {
	l := k.session(w, r)
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	lsn, err := l.from.Follows(r.Context())
	if err != nil {
		http.Error(w, err.Error(), http.StatusConflict)
		return
	}
	write(w, lsn)
}

// A wanted is take.Batch on its way: a pass phrase is not masked there.
type wanted struct {
	Files    []take.Wanted    `json:"files"`
	Compress repo.Compression `json:"compress"`
	Level    int              `json:"level"`
	Pass     string           `json:"pass,omitempty"`
	Bundle   bool             `json:"bundle"`
	Pages    bool             `json:"pages"`
}

// Kinds of frames in which files come: a byte, and a number of four bytes that says how
// many follow; of frameRead it is the number itself.
const (
	frameData  = 'd' // of the object
	frameRead  = 'n' // so many bytes were read of the cluster
	frameFound = 'f' // what became of the files, as JSON: the end
	frameError = 'e' // why there is no end
)

// copyFor copies files for the leader's backup.
func (k *Keeper) copyFor(w http.ResponseWriter, r *http.Request) {
	l := k.session(w, r)
	if l == nil {
		return
	}
	var b wanted
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, askedMost)).Decode(&b); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	for _, f := range b.Files {
		if !filepath.IsLocal(f.Name) || filepath.Clean(f.Name) != f.Name || !take.Replicated(f.Name) {
			http.Error(w, f.Name+" is not a standby's to give", http.StatusBadRequest)
			return
		}
	}
	out := &frames{w: bufio.NewWriterSize(w, 64<<10), flush: http.NewResponseController(w).Flush}
	batch := take.Batch{Files: b.Files, Coding: repo.Coding{Compress: b.Compress, Level: b.Level, Pass: secret.Text(b.Pass)}, Bundle: b.Bundle, Pages: b.Pages}
	found, err := l.from.Copy(r.Context(), batch, out, func(n int) error { return out.frame(frameRead, n, nil) })
	kind, text := byte(frameFound), []byte(nil)
	if err == nil {
		text, err = json.Marshal(found)
	}
	if err != nil {
		kind, text = frameError, []byte(err.Error())
	}
	_ = out.frame(kind, len(text), text) // who went away needs no answer
	_ = out.send()
}

// frames writes them.
type frames struct {
	w      *bufio.Writer
	flush  func() error
	unsent int
}

func (f *frames) frame(kind byte, n int, content []byte) error {
	var head [5]byte
	head[0] = kind
	binary.BigEndian.PutUint32(head[1:], uint32(n))
	if _, err := f.w.Write(head[:]); err != nil {
		return err
	}
	if _, err := f.w.Write(content); err != nil {
		return err
	}
	// Whoever stores it sets the pace, so that it must hear of what was read.
	if f.unsent += n; kind == frameRead && f.unsent >= 1<<20 {
		return f.send()
	}
	return nil
}

func (f *frames) send() error {
	f.unsent = 0
	return errors.Join(f.w.Flush(), f.flush())
}

func (f *frames) Write(b []byte) (int, error) {
	if err := f.frame(frameData, len(b), b); err != nil {
		return 0, err
	}
	return len(b), nil
}

// A lender is a standby's part in a backup, on the leader's side.
type lender struct {
	member string
	client Client
	voice  stanza.Voice

	session string
	end     func()
}

func (l *lender) String() string { return "standby " + l.member }

// Follower is its name among those who stream.
func (l *lender) Follower() string { return l.member }

// Close lets the standby go.
func (l *lender) Close() {
	if l.end != nil {
		l.end()
	}
}

// Ready waits until the standby is good for the backup.
func (l *lender) Ready(ctx context.Context, begin server.Begin) error {
	text, err := json.Marshal(begin)
	if err != nil {
		return err
	}
	ctx, l.end = context.WithCancel(ctx) // ended by Close
	limit := time.AfterFunc(readyWithin, l.end)
	defer limit.Stop()
	body, err := l.client.post(ctx, pathReady, text)
	if err == nil {
		var said lent
		if err = json.NewDecoder(body).Decode(&said); err == nil && said.Error != "" {
			err = errors.New(said.Error)
		}
		l.session = said.Session
	}
	if err != nil && ctx.Err() != nil {
		err = repo.Errorf(repo.ArchiveTimeout, "it was not ready within %s", readyWithin)
	}
	return err
}

// Copy has files sent.
func (l *lender) Copy(ctx context.Context, b take.Batch, w io.Writer, read func(n int) error) ([]take.Copied, error) {
	text, err := json.Marshal(wanted{b.Files, b.Coding.Compress, b.Coding.Level, b.Coding.Pass.Reveal(), b.Bundle, b.Pages})
	if err != nil {
		return nil, err
	}
	body, err := l.client.post(ctx, pathCopy+"?"+url.Values{"session": {l.session}}.Encode(), text)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	in := bufio.NewReaderSize(body, 64<<10)
	for {
		var head [5]byte
		if _, err := io.ReadFull(in, head[:]); err != nil {
			return nil, fmt.Errorf("its files broke off: %w", err)
		}
		n := int64(binary.BigEndian.Uint32(head[1:]))
		switch head[0] {
		case frameRead:
			if err := read(int(n)); err != nil {
				return nil, err
			}
		case frameData:
			if _, err := io.CopyN(w, in, n); err != nil {
				return nil, err
			}
		case frameFound:
			var found []take.Copied
			if err := json.NewDecoder(io.LimitReader(in, n)).Decode(&found); err != nil {
				return nil, err
			}
			if len(found) != len(b.Files) {
				return nil, fmt.Errorf("it was asked for %d files and speaks of %d", len(b.Files), len(found))
			}
			return found, nil
		default:
			text, _ := io.ReadAll(io.LimitReader(in, min(n, 4<<10)))
			return nil, errors.New(string(text))
		}
	}
}

// Follows asks the standby.
func (l *lender) Follows(ctx context.Context) (lsn pg.LSN, err error) {
	body, err := l.client.post(ctx, pathFollows+"?"+url.Values{"session": {l.session}}.Encode(), nil)
	if err != nil {
		return 0, err
	}
	defer body.Close()
	err = json.NewDecoder(body).Decode(&lsn)
	return lsn, err
}

// lender is the standby from which the next backup copies: nil if none answers.
func (k *Keeper) lender(ctx context.Context) *lender {
	if !k.node.Backup.Standby || k.peers == nil {
		return nil
	}
	for _, s := range k.states(ctx, k.others()...) {
		if s.Leads {
			continue
		}
		for _, h := range k.others() {
			if h.Member == s.Member {
				return &lender{member: h.Member, client: Client{URL: h.URL, HTTP: k.peers}, voice: k.voice}
			}
		}
	}
	k.log.Info("no standby answers: the backup is made from the leader's disk")
	return nil
}

func (c Client) post(ctx context.Context, path string, body []byte) (io.ReadCloser, error) {
	return c.send(ctx, http.MethodPost, path, bytes.NewReader(body))
}
