package control

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"howdah/problem"
	"howdah/spec"
)

// A snapshot is taken from the first member that gives it whole.
func TestEtcdSnapshot(t *testing.T) {
	t.Parallel()
	content := bytes.Repeat([]byte("keys"), 1000)
	sum := sha256.Sum256(content)
	whole := append(content, sum[:]...)
	member := func(lines ...string) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, strings.Join(lines, "\n"))
		}))
		t.Cleanup(s.Close)
		return s.URL
	}
	blob := func(b []byte) string {
		return fmt.Sprintf(`{"result":{"remaining_bytes":"1","blob":%q}}`, base64.StdEncoding.EncodeToString(b))
	}
	flipped := bytes.Clone(whole)
	flipped[7]++
	bad := map[string]string{
		"short":   member(blob(whole[:500])),
		"flipped": member(blob(flipped)),
		"broken":  member(blob(whole[:500]), `{"error":{"message":"etcdserver: leader changed"}}`),
		"nothing": member(),
		"text":    member("hello"),
		"gone":    "http://127.0.0.1:1",
	}
	for name, url := range bad {
		c := &Cluster{door: direct, Nodes: []spec.Node{{Etcd: spec.Etcd{Members: []spec.EtcdMember{{Name: "one", Client: url}}}}}}
		if _, _, err := c.EtcdSnapshot(t.Context(), file(t)); problem.Code(err) != "etcd-snapshot" {
			t.Errorf("%s: %v, want etcd-snapshot", name, err)
		}
		c.Nodes[0].Etcd.Members = append(c.Nodes[0].Etcd.Members, spec.EtcdMember{Name: "two", Client: member(blob(whole[:33]), blob(whole[33:40]), blob(whole[40:]))})
		to := file(t)
		from, n, err := c.EtcdSnapshot(t.Context(), to)
		if err != nil || from != "two" || n != int64(len(whole)) {
			t.Errorf("%s: EtcdSnapshot = %s, %d, %v; want two, %d", name, from, n, err, len(whole))
		}
		if got, _ := os.ReadFile(to.Name()); !bytes.Equal(got[:min(len(got), len(whole))], whole) {
			t.Errorf("%s: the file is not what the member gave", name)
		}
	}
}

func file(t *testing.T) *os.File {
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}
