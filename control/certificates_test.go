package control

import (
	"crypto/tls"
	"net/http/httptest"
	"testing"
	"time"

	"howdah/cluster"
)

// The end of a certificate is what the member shows, whoever signed it; who shows
// none is not there.
func TestCertificates(t *testing.T) {
	shows := httptest.NewTLSServer(nil)
	defer shows.Close()
	plain := httptest.NewServer(nil)
	defer plain.Close()
	s := cluster.State{Members: []cluster.Member{{Name: "demo-1", APIURL: "http://" + shows.Listener.Addr().String() + "/patroni"}, {Name: "demo-2", APIURL: plain.URL + "/patroni"}, {Name: "demo-3"}}}
	c := &Cluster{Name: "demo", door: direct, tls: &tls.Config{MinVersion: tls.VersionTLS12}}
	got := c.Certificates(t.Context(), s)
	if want := shows.Certificate().NotAfter; len(got) != 1 || !got["demo-1"].Equal(want) {
		t.Errorf("got %v, want demo-1 until %s alone", got, want.Format(time.RFC3339))
	}
}
