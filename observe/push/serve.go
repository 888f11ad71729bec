package push

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/prometheus/common/expfmt"

	"howdah/exposition"
	"howdah/logkey"
	"howdah/nodefile"
)

// Handler answers Pushgateway's API.
func (k *Keeper) Handler(log *slog.Logger) http.Handler {
	mux := http.NewServeMux()
	for _, path := range []string{"/-/healthy", "/-/ready"} {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "OK") })
	}
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		text, err := k.text()
		if err != nil {
			log.Error("pushed metrics not told", logkey.Error, err)
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", exposition.ContentType)
		_, _ = w.Write(text) // a client that went away is no matter
	})
	// Not a pattern: whatever is behind the job may have an escaped slash.
	mux.HandleFunc("/metrics/", func(w http.ResponseWriter, r *http.Request) {
		if code, err := k.pushed(w, r); err != nil {
			log.Debug("push refused", logkey.Path, r.URL.Path, logkey.Error, err)
			http.Error(w, err.Error(), code)
		}
	})
	return mux
}

// pushed does what a request asks.
func (k *Keeper) pushed(w http.ResponseWriter, r *http.Request) (int, error) {
	if r.Method != http.MethodPut && r.Method != http.MethodPost && r.Method != http.MethodDelete {
		w.Header().Set("Allow", "PUT, POST, DELETE")
		return http.StatusMethodNotAllowed, errors.New("a group is PUT, POSTed or DELETEd; what all of them have is at /metrics")
	}
	labels, err := k.grouping(strings.TrimPrefix(r.URL.EscapedPath(), "/metrics/"))
	if err != nil {
		return http.StatusBadRequest, err
	}
	if r.Method == http.MethodDelete {
		k.remove(labels)
		w.WriteHeader(http.StatusAccepted)
		return 0, nil
	}
	var body io.Reader = http.MaxBytesReader(w, r.Body, maxBody)
	switch r.Header.Get("Content-Encoding") {
	case "", "identity":
	case "gzip":
		z, err := gzip.NewReader(body)
		if err != nil {
			return http.StatusBadRequest, err
		}
		body = http.MaxBytesReader(w, z, maxBody)
	default:
		return http.StatusUnsupportedMediaType, fmt.Errorf("what is pushed is plain or gzip, not %s", r.Header.Get("Content-Encoding"))
	}
	format := expfmt.ResponseFormat(r.Header)
	if format.FormatType() != expfmt.TypeProtoDelim {
		format = expfmt.NewFormat(expfmt.TypeTextPlain) // as Pushgateway: whatever else it says that it is
	}
	families, err := read(body, format)
	if err != nil {
		k.fail(labels)
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return http.StatusRequestEntityTooLarge, fmt.Errorf("one push may have %d MiB", maxBody>>20)
		}
		return http.StatusBadRequest, fmt.Errorf("what was pushed can not be read: %w", err)
	}
	if err := k.take(labels, families, r.Method == http.MethodPost); err != nil {
		return http.StatusBadRequest, err
	}
	w.WriteHeader(http.StatusOK)
	return 0, nil
}

// fail records that a push could not be read.
func (k *Keeper) fail(labels map[string]string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	id := key(labels)
	if g, ok := k.groups[id]; ok || len(k.groups) < maxGroups {
		g.Labels, g.Failed = labels, k.now()
		k.put(id, g)
	}
}

// kept is a group on disk.
type kept struct {
	Labels   map[string]string `json:"labels"`
	Pushed   time.Time         `json:"pushed"`
	Failed   time.Time         `json:"failed"`
	Families []byte            `json:"families"` // as protobuf, one after another
}

// Load reads what was pushed before the process ended. A file that can not be
// read is moved aside.
func (k *Keeper) Load(path string, log *slog.Logger) error {
	err := k.load(path)
	if err == nil {
		return nil
	}
	aside := path + ".damaged"
	log.Error("pushed metrics can not be read and begin anew", logkey.Path, path, "aside", aside, logkey.Error, err)
	return os.Rename(path, aside)
}

// Run keeps what is pushed in a file until ctx ends.
func (k *Keeper) Run(ctx context.Context, path string, log *slog.Logger) error {
	for {
		select {
		case <-k.changed:
		case <-ctx.Done():
			return k.save(path)
		}
		if err := k.save(path); err != nil {
			log.Error("pushed metrics not kept", logkey.Path, path, logkey.Error, err)
		}
		select { // who pushes often is written once a second
		case <-time.After(time.Second):
		case <-ctx.Done():
		}
	}
}

func (k *Keeper) save(path string) error {
	var all []kept
	k.mu.Lock()
	for _, g := range k.groups {
		var b bytes.Buffer
		e := expfmt.NewEncoder(&b, expfmt.NewFormat(expfmt.TypeProtoDelim))
		for _, f := range g.Families {
			if err := e.Encode(f); err != nil {
				k.mu.Unlock()
				return err
			}
		}
		all = append(all, kept{g.Labels, g.Pushed, g.Failed, b.Bytes()})
	}
	k.mu.Unlock()
	text, err := json.Marshal(all)
	if err != nil {
		return err
	}
	return nodefile.WriteFile(path, text, 0o600, -1, -1)
}

func (k *Keeper) load(path string) error {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var all []kept
	if err := json.Unmarshal(text, &all); err != nil {
		return err
	}
	groups := map[string]group{}
	for _, g := range all {
		families, err := read(bytes.NewReader(g.Families), expfmt.NewFormat(expfmt.TypeProtoDelim))
		if err != nil {
			return err
		}
		groups[key(g.Labels)] = group{Labels: g.Labels, Families: families, Pushed: g.Pushed, Failed: g.Failed}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.groups = groups
	return nil
}
