package keep

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"howdah/backup/repo"
	"howdah/pki"
	"howdah/spec"
)

// door is a keeper's, of member a in a cluster of a and b, and clients with the
// certificates of three members of which c is another cluster's.
func door(t *testing.T) (*Keeper, map[string]Client) {
	t.Helper()
	dir := t.TempDir()
	ca, err := pki.OpenAuthority(filepath.Join(dir, "ca"), "test")
	if err != nil {
		t.Fatal(err)
	}
	n := spec.Node{Cluster: "t", Member: "a", Paths: spec.Paths{Dir: dir, Run: dir}, Postgres: spec.Postgres{Data: filepath.Join(dir, "data")}}
	n.Backup = spec.Backup{Repo: filepath.Join(dir, "backup"), Members: []spec.Holder{{Member: "a"}, {Member: "b"}}}
	files := map[string]spec.TLS{}
	for _, name := range []string{"a", "b", "c"} {
		if files[name], err = ca.Issue(filepath.Join(dir, name), name, netip.MustParseAddr("127.0.0.1")); err != nil {
			t.Fatal(err)
		}
	}
	n.TLS = files["a"]
	k, err := New(n, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(k.handler())
	s.TLS = k.server.Clone()
	s.StartTLS()
	t.Cleanup(s.Close)
	clients := map[string]Client{}
	for name, f := range files {
		config, err := pki.ClientConfig(f)
		if err != nil {
			t.Fatal(err)
		}
		clients[name] = Client{URL: s.URL, HTTP: &http.Client{Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}}}
	}
	clients["nobody"] = Client{URL: s.URL, HTTP: &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: clients["a"].HTTP.Transport.(*http.Transport).TLSClientConfig.RootCAs}}}}
	return k, clients
}

// A repository is everything that the cluster knows: only its members read it.
func TestWhoMayRead(t *testing.T) {
	k, clients := door(t)
	if err := k.stanza().Create(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	for name, may := range map[string]bool{"a": true, "b": true, "c": false, "nobody": false} {
		s, err := clients[name].State(t.Context())
		if (err == nil) != may || may && (s.Member != "a" || s.System != db.System.String()) {
			t.Errorf("%s: %+v, %v", name, s, err)
		}
		list, err := clients[name].Storage().List(t.Context(), "archive/t")
		if (err == nil) != may || may && len(list) != 2 {
			t.Errorf("%s lists %v, %v", name, list, err)
		}
	}
}

// Whoever asks for a backup hears how it goes, and how it ended.
func TestAskedForABackup(t *testing.T) {
	k, clients := door(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := clients["b"].Take(ctx, repo.Full, "", nil); err == nil || !strings.Contains(err.Error(), "does not lead") {
		t.Errorf("a standby says %v", err)
	}
	k.leads = func() bool { return true }
	if _, err := clients["b"].Take(ctx, "most", "", nil); err == nil {
		t.Error("any type is taken")
	}
	for _, want := range []error{nil, errors.New("the disk is full")} {
		heard := make(chan Run, 100)
		go func() { // what the turns would do
			<-k.wake
			k.mu.Lock()
			k.state.running = &Run{Does: "full backup", Done: 1, Total: 2}
			k.mu.Unlock()
			<-heard
			b := repo.Backup{Label: "20261121-120000F", Type: repo.Full}
			if want != nil {
				b = repo.Backup{}
			}
			k.answer(b, want)
		}()
		b, err := clients["b"].Take(ctx, repo.Full, "", func(r Run) { heard <- r })
		switch {
		case want == nil && (err != nil || b.Label != "20261121-120000F"):
			t.Errorf("%+v, %v", b, err)
		case want != nil && (err == nil || err.Error() != want.Error()):
			t.Errorf("%v, want %v", err, want)
		}
	}
}
