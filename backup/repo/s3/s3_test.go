package s3

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"

	"howdah/backup/repo"
	"howdah/backup/repo/repotest"
	"howdah/problem"
	"howdah/test/tests3"
)

func init() { minio.DefaultRetryUnit = time.Millisecond } // pauses prove nothing here

// at is a repository in a bucket of a server.
func at(s *tests3.Server, bucket, path string) Config {
	return Config{
		Bucket: bucket, Endpoint: s.Endpoint, Region: tests3.Region, Key: tests3.Key, KeySecret: tests3.Secret,
		PathStyle: true, Path: path, CAFile: s.CAFile,
	}
}

func opened(t *testing.T, c Config) *Store {
	t.Helper()
	s, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestContract(t *testing.T) {
	server := tests3.Start(t, "howdah")
	n := 0
	for _, style := range []string{"path", "host"} {
		t.Run(style, func(t *testing.T) {
			repotest.Test(t, func(t *testing.T) repo.Storage {
				n++
				c := at(server, "howdah", fmt.Sprintf("/repo/%d", n))
				if style == "host" {
					c.PathStyle, c.Endpoint, c.Host, c.Port = false, tests3.Domain, "localhost", server.Port
				}
				return opened(t, c)
			})
		})
	}
}

// noise is what does not compress and does not repeat.
func noise(n int) []byte {
	data := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{7}).Read(data)
	return data
}

func put(ctx context.Context, s *Store, name string, data []byte) error {
	return s.Put(ctx, name, func(w io.Writer) error {
		for piece := range slices.Chunk(data, 100_000) { // nobody writes in parts
			if _, err := w.Write(piece); err != nil {
				return err
			}
		}
		return nil
	})
}

func get(t *testing.T, s *Store, name string) ([]byte, error) {
	t.Helper()
	r, err := s.Get(t.Context(), name, 0, -1)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

// What is larger than a part, or just as large, comes back as it was; what is
// given up half way leaves nothing, not even parts.
func TestParts(t *testing.T) {
	server := tests3.Start(t, "howdah")
	s := opened(t, at(server, "howdah", "/"))
	for _, size := range []int{MinChunk - 1, MinChunk, MinChunk + 1, 2*MinChunk + 12345} {
		data := noise(size)
		if err := put(t.Context(), s, "large", data); err != nil {
			t.Fatalf("put of %d bytes: %v", size, err)
		}
		if got, err := get(t, s, "large"); err != nil || !bytes.Equal(got, data) {
			t.Errorf("of %d bytes come back %d, %v", size, len(got), err)
		}
	}
	was, err := get(t, s, "large")
	if err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken")
	for name, end := range map[string]func(cancel func()) error{
		"it fails":        func(func()) error { return broken },
		"its context end": func(cancel func()) error { cancel(); return nil },
	} {
		ctx, cancel := context.WithCancel(t.Context())
		err := s.Put(ctx, "large", func(w io.Writer) error {
			if _, err := w.Write(noise(2*MinChunk + 1)); err != nil {
				return err
			}
			return end(cancel)
		})
		cancel()
		if err == nil {
			t.Errorf("%s, and the put succeeds", name)
		}
		if now, err := get(t, s, "large"); err != nil || sha256.Sum256(now) != sha256.Sum256(was) {
			t.Errorf("%s, and there is another object, %v", name, err)
		}
		for u := range s.core.ListIncompleteUploads(t.Context(), "howdah", "", true) {
			t.Errorf("%s, and parts are left: %+v", name, u)
		}
	}
}

// A download that breaks off goes on, and as often as it must; but not for ever.
func TestBrokenDownload(t *testing.T) {
	server := tests3.Start(t, "howdah")
	s := opened(t, at(server, "howdah", "/repo"))
	data := noise(1 << 20)
	if err := put(t.Context(), s, "object", data); err != nil {
		t.Fatal(err)
	}
	server.CutNext(3, 200_000)
	if got, err := get(t, s, "object"); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	server.CutNext(1000, 500) // not even the headers
	_, err := get(t, s, "object")
	if problem.Code(err) != "s3-unreachable" {
		t.Errorf("a store that always breaks off: %v", err)
	}
	server.CutNext(0, 0)
}

// What a person is told.
func TestTold(t *testing.T) {
	server := tests3.Start(t, "howdah")
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	deserted := nobody.Addr().String()
	nobody.Close()
	dumb, err := net.Listen("tcp", "127.0.0.1:0") // takes connections, and that is all
	if err != nil {
		t.Fatal(err)
	}
	defer dumb.Close()
	mute := dumb.Addr().String()
	for _, tt := range []struct {
		what  string
		with  func(*Config)
		code  string
		class repo.Class
	}{
		{"no bucket", func(c *Config) { c.Bucket = "nowhere" }, "s3-bucket", repo.Protocol},
		{"no such key", func(c *Config) { c.Key = "stranger" }, "s3-key", repo.Protocol},
		{"another secret", func(c *Config) { c.KeySecret = "guessed" }, "s3-key", repo.Protocol},
		{"nobody there", func(c *Config) { c.Endpoint = deserted }, "s3-unreachable", repo.HostConnect},
		{"nobody answers", func(c *Config) { c.Endpoint, c.Hush = mute, 20*time.Millisecond }, "s3-unreachable", repo.HostConnect},
		{"no such host", func(c *Config) { c.Endpoint = "no.such.host.invalid" }, "s3-unreachable", repo.HostConnect},
		{"a stranger's certificate", func(c *Config) { c.CAFile = "" }, "s3-certificate", repo.Crypto},
		{"a certificate of another name", func(c *Config) { c.Host, c.Port = "127.0.0.1", server.Port }, "s3-certificate", repo.Crypto},
	} {
		c := at(server, "howdah", "/repo")
		tt.with(&c)
		s := opened(t, c)
		_, err := s.Get(t.Context(), "archive/t/archive.info", 0, -1)
		_, err2 := s.List(t.Context(), "")
		for _, err := range []error{err, err2, put(t.Context(), s, "x", []byte("x"))} {
			if problem.Code(err) != tt.code || repo.ClassOf(err) != tt.class || errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s: %v, class %d, want %s and %d", tt.what, err, repo.ClassOf(err), tt.code, tt.class)
			}
			if text := fmt.Sprintf("%+v %s", err, problem.Text(err)); strings.Contains(text, c.KeySecret.Reveal()) {
				t.Errorf("%s: it tells the secret: %s", tt.what, text)
			}
		}
	}
	c := at(server, "howdah", "/repo")
	c.CAFile, c.NoVerify = "", true
	if _, err := opened(t, c).List(t.Context(), ""); err != nil {
		t.Errorf("a certificate that nobody verifies: %v", err)
	}
	c.NoVerify, c.CAPath = false, filepath.Dir(server.CAFile)
	if _, err := opened(t, c).List(t.Context(), ""); err != nil {
		t.Errorf("a directory of authorities: %v", err)
	}
}

// What stores say, and what becomes of it; what is temporary is asked again, so often.
func TestAnswers(t *testing.T) {
	for _, tt := range []struct {
		status int
		code   string
		want   string // "": it is not there
		asked  int
	}{
		{http.StatusForbidden, "RequestTimeTooSkewed", "s3-clock", 1},
		{http.StatusForbidden, "AccessDenied", "s3-denied", 1},
		{http.StatusForbidden, "SignatureDoesNotMatch", "s3-key", 1},
		{http.StatusNotFound, "NoSuchBucket", "s3-bucket", 1},
		{http.StatusNotFound, "NoSuchKey", "", 1},
		{http.StatusBadRequest, "InvalidRegion", "s3-region", 1},
		{http.StatusBadRequest, "EntityTooLarge", "s3-refused", 1},
		{http.StatusServiceUnavailable, "SlowDown", "s3-refused", tries},
	} {
		asked := 0
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			asked++
			w.Header().Set("Content-Type", "application/xml")
			w.WriteHeader(tt.status)
			fmt.Fprintf(w, `<?xml version="1.0" encoding="UTF-8"?><Error><Code>%s</Code><Message>as the store says it</Message></Error>`, tt.code)
		}))
		s := opened(t, Config{Endpoint: server.URL, Bucket: "bucket", Region: "r", Key: "k", KeySecret: "hunter2", PathStyle: true})
		_, err := s.Get(t.Context(), "x", 0, -1)
		server.Close()
		if problem.Code(err) != tt.want || errors.Is(err, fs.ErrNotExist) != (tt.want == "") || asked != tt.asked {
			t.Errorf("%d %s: %v, asked %d times; want %q, %d", tt.status, tt.code, err, asked, tt.want, tt.asked)
		}
		if tt.code == "RequestTimeTooSkewed" && repo.ClassOf(err) != repo.Clock {
			t.Errorf("%s is of class %d", tt.code, repo.ClassOf(err))
		}
	}
}

func TestOptions(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		c    Config
		want repo.Class // 0: taken
		at   string
	}{
		{Config{Endpoint: "s3.example.com", Bucket: "b"}, 0, "s3.example.com"},
		{Config{Endpoint: "s3.example.com:443", Bucket: "b"}, 0, "s3.example.com"},
		{Config{Endpoint: "https://s3.example.com:9000/", Bucket: "b"}, 0, "s3.example.com:9000"},
		{Config{Endpoint: "http://10.10.10.10:9000", Bucket: "b", PathStyle: true}, 0, "10.10.10.10:9000"},
		{Config{Endpoint: "s3.example.com", Port: 9000, Bucket: "b"}, 0, "s3.example.com:9000"},
		{Config{Endpoint: "s3.example.com", Host: "10.10.10.10", Port: 9000, Bucket: "b"}, 0, "s3.example.com"}, // only connected to
		{Config{Endpoint: "", Bucket: "b"}, repo.OptionInvalidValue, ""},
		{Config{Endpoint: "ftp://s3.example.com", Bucket: "b"}, repo.OptionInvalidValue, ""},
		{Config{Endpoint: "s3.example.com/bucket", Bucket: "b"}, repo.OptionInvalidValue, ""},
		{Config{Endpoint: "s3.example.com", Bucket: "a.b"}, repo.OptionInvalidValue, ""},
		{Config{Endpoint: "s3.example.com", Bucket: "a.b", PathStyle: true}, 0, "s3.example.com"},
		{Config{Endpoint: "s3.example.com", Bucket: "b", CAFile: "/no/where"}, repo.Crypto, ""},
		{Config{Endpoint: "s3.example.com", Bucket: "b", CAFile: empty}, repo.Crypto, ""},
	} {
		tt.c.Region, tt.c.Key, tt.c.KeySecret = "r", "k", "hunter2"
		s, err := Open(tt.c)
		switch {
		case tt.want == 0 && err != nil, tt.want != 0 && (err == nil || repo.ClassOf(err) != tt.want):
			t.Errorf("%+v: %v, want class %d", tt.c, err, tt.want)
		case err == nil && s.core.EndpointURL().Host != tt.at:
			t.Errorf("%+v: at %s, want %s", tt.c, s.core.EndpointURL().Host, tt.at)
		}
		if text := fmt.Sprintf("%v %+v %#v %v", tt.c, tt.c, tt.c, err); strings.Contains(text, "hunter2") {
			t.Errorf("it prints the secret: %s", text)
		}
	}
	s := opened(t, Config{Endpoint: "s3.example.com", Bucket: "b", Region: "r", Path: "/var/lib/pgbackrest/"})
	if key, err := s.key("archive/t/archive.info"); key != "var/lib/pgbackrest/archive/t/archive.info" || err != nil {
		t.Errorf("key %q, %v", key, err)
	}
	for _, name := range []string{"", ".", "..", "/x", "a/../b", "a//b", "x/"} {
		if key, err := s.key(name); repo.ClassOf(err) != repo.Assert {
			t.Errorf("name %q is key %q, %v", name, key, err)
		}
	}
}
