package control

import (
	"net/http/httptest"
	"testing"
	"time"

	"howdah/cluster"
	"howdah/pki"
	"howdah/spec"
)

// The end of a certificate is what the member shows, whoever signed it; who shows
// none is not there.
func TestCertificates(t *testing.T) {
	shows := httptest.NewTLSServer(nil)
	defer shows.Close()
	plain := httptest.NewServer(nil)
	defer plain.Close()
	s := cluster.State{Members: []cluster.Member{{Name: "demo-1", APIURL: "http://" + shows.Listener.Addr().String() + "/patroni"}, {Name: "demo-2", APIURL: plain.URL + "/patroni"}, {Name: "demo-3"}}}
	authority, err := pki.OpenAuthority(t.TempDir(), "demo")
	if err != nil {
		t.Fatal(err)
	}
	peers, err := pki.Open(spec.TLS{CA: authority.File}) // which signed neither
	if err != nil {
		t.Fatal(err)
	}
	c := &Cluster{Name: "demo", door: direct, peers: peers}
	got := c.Certificates(t.Context(), s)
	if want := shows.Certificate().NotAfter; len(got) != 1 || !got["demo-1"].Equal(want) {
		t.Errorf("got %v, want demo-1 until %s alone", got, want.Format(time.RFC3339))
	}
}
