package api

import (
	"crypto/tls"
	"io"
	"net/http"
	"net/netip"
	"testing"

	"howdah/pki"
	"howdah/spec"
)

// The interface over TLS: what verify_client asks of whom, and a new certificate after a reload.
func TestTLS(t *testing.T) {
	authority, err := pki.OpenAuthority(t.TempDir(), "demo")
	if err != nil {
		t.Fatal(err)
	}
	issue := func() spec.TLS {
		files, err := authority.Issue(t.TempDir(), "demo-1", netip.MustParseAddr("127.0.0.1"))
		if err != nil {
			t.Fatal(err)
		}
		return files
	}
	files := issue()
	known, err := pki.ClientConfig(files)
	if err != nil {
		t.Fatal(err)
	}
	stranger := &tls.Config{RootCAs: known.RootCAs}
	ask := func(w *world, config *tls.Config, method, path string) (int, string) {
		h := &http.Client{Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}}
		r, err := http.NewRequestWithContext(t.Context(), method, "https://"+w.addr+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := h.Do(r)
		if err != nil {
			return 0, ""
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, resp.TLS.PeerCertificates[0].SerialNumber.String() + " " + string(b)
	}
	for _, tt := range []struct {
		verify             string
		get, post          int // without a certificate; 0: no handshake
		getKnown, postKnow int // with one
	}{
		{"", 200, 202, 200, 202},
		{"none", 200, 202, 200, 202},
		{"optional", 200, 403, 200, 202},
		{"required", 0, 0, 200, 202},
	} {
		w := newWorld(t, func(o *Options) {
			o.Node.Agent.REST = spec.REST{Cert: files.Cert, Key: files.Key, CA: files.CA, VerifyClient: tt.verify}
			o.Peers, err = pki.Open(files)
		})
		for _, q := range []struct {
			config       *tls.Config
			method, path string
			want         int
		}{
			{stranger, "GET", "/primary", tt.get},
			{stranger, "POST", "/sigterm", tt.post},
			{known, "GET", "/primary", tt.getKnown},
			{known, "POST", "/sigterm", tt.postKnow},
			{known, "GET", "/howdah/grant", 200},
		} {
			if got, said := ask(w, q.config, q.method, q.path); got != q.want {
				t.Errorf("verify_client %q: %s %s: %d %s, want %d", tt.verify, q.method, q.path, got, said, q.want)
			}
		}
		if got := w.say("GET /primary HTTP/1.0\r\n\r\n"); got != "" {
			t.Errorf("in clear: %q", got)
		}
		if tt.verify == "none" {
			if got, said := ask(w, stranger, "GET", "/howdah/grant"); got != 403 {
				t.Errorf("a grant to a stranger: %d %s", got, said)
			}
		}
	}
	w := newWorld(t, func(o *Options) { o.Node.Agent.REST = spec.REST{Cert: files.Cert, Key: files.Key} })
	_, before := ask(w, stranger, "GET", "/liveness")
	next := issue()
	w.Node.Agent.REST.Cert, w.Node.Agent.REST.Key = next.Cert, next.Key
	if status, _ := ask(w, stranger, "POST", "/reload"); status != 202 {
		t.Errorf("reload: %d", status)
	}
	if _, after := ask(w, stranger, "GET", "/liveness"); after == before || after == "" {
		t.Errorf("the certificate is the old one after a reload: %s", after)
	}
}
