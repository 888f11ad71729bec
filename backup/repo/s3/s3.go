// Package s3 keeps a repository in a bucket of an object store that speaks S3,
// as pgBackRest's type s3 does: the key of an object is the name of the file
// below repo-path, without the slash that path begins with.
//
// There are no directories: what has a prefix is in it. An object appears whole
// or not at all, by one request or, if it is larger than a chunk, by an upload
// in parts; the store proves the SHA-256 of every part before it takes it. The
// bucket must be there: this package makes none.
package s3

import (
	"cmp"
	"context"
	"io/fs"
	"iter"
	"net"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"howdah/backup/repo"
	"howdah/secret"
)

// MinChunk is the least size of a part but the last (S3's limit), and what
// pgBackRest uploads by default.
const MinChunk = 5 << 20

// tries is how often a request is sent before its error counts, with pauses of
// up to a second in between.
const tries = 5

// A Config says where a repository is, in the words of pgBackRest's options.
type Config struct {
	Bucket    string
	Endpoint  string // host or host:port; with http:// in front of it there is no TLS
	Region    string
	Key       secret.Text
	KeySecret secret.Text
	Token     secret.Text // of a session; mostly there is none
	PathStyle bool        // the bucket is named in the path; else in the host's name
	Path      string      // of the repository in the bucket, with a slash at its beginning
	Chunk     int64       // bytes of a part

	Host     string // to connect to in the endpoint's stead
	Port     int    // 0: the endpoint's, or 443
	CAFile   string // certificates that are trusted instead of the system's
	CAPath   string // a directory of such
	NoVerify bool   // believe any certificate

	Hush time.Duration // a connection on which nothing moves for so long is given up; 0: a minute
}

// A Store is a part of a bucket.
type Store struct {
	core   minio.Core
	bucket string
	prefix string // of every key: "" or with a slash at its end
	chunk  int64
	where  string // for messages
}

var _ interface {
	repo.Storage
	repo.Arbiter
} = (*Store)(nil)

// Open makes a store. It asks the server nothing yet.
func Open(c Config) (*Store, error) {
	endpoint, secure, err := c.endpoint()
	if err != nil {
		return nil, err
	}
	if strings.Contains(c.Bucket, ".") && !c.PathStyle && secure && !c.NoVerify {
		return nil, repo.Errorf(repo.OptionInvalidValue, "bucket '%s' has a dot in its name, and no certificate fits the host's name that comes of it: set repo-s3-uri-style=path, or repo-storage-verify-tls=n", c.Bucket)
	}
	transport, err := c.transport()
	if err != nil {
		return nil, err
	}
	lookup := minio.BucketLookupDNS
	if c.PathStyle {
		lookup = minio.BucketLookupPath
	}
	core, err := minio.NewCore(endpoint, &minio.Options{
		Creds:  credentials.NewStaticV4(c.Key.Reveal(), c.KeySecret.Reveal(), c.Token.Reveal()),
		Secure: secure, Transport: transport, Region: c.Region, BucketLookup: lookup, MaxRetries: tries,
	})
	if err != nil {
		return nil, repo.Errorf(repo.OptionInvalidValue, "endpoint '%s' can not be used: %w", c.Endpoint, err)
	}
	core.SetAppInfo("howdah", repo.Version)
	s := &Store{core: *core, bucket: c.Bucket, chunk: max(c.Chunk, MinChunk), where: "bucket " + c.Bucket + " at " + endpoint}
	if p := strings.Trim(path.Clean("/"+c.Path), "/"); p != "" {
		s.prefix = p + "/"
	}
	return s, nil
}

// endpoint is host:port as requests name it, the port left out where it is the
// scheme's own.
func (c Config) endpoint() (hostPort string, secure bool, err error) {
	text := c.Endpoint
	if !strings.Contains(text, "://") {
		text = "https://" + text
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Path != "" && u.Path != "/" || u.Scheme != "https" && u.Scheme != "http" {
		return "", false, repo.Errorf(repo.OptionInvalidValue, "'%s' is no endpoint: it is a host, or a host and a port, with https:// or http:// before it or nothing", c.Endpoint)
	}
	secure = u.Scheme == "https"
	port := u.Port()
	if c.Port != 0 && c.Host == "" {
		port = strconv.Itoa(c.Port)
	}
	if port == "" || secure && port == "443" || !secure && port == "80" {
		return u.Hostname(), secure, nil
	}
	return net.JoinHostPort(u.Hostname(), port), secure, nil
}

// key is the whole name of an object.
func (s *Store) key(name string) (string, error) {
	if !fs.ValidPath(name) || name == "." {
		return "", repo.Errorf(repo.Assert, "'%s' is no name in a repository", name)
	}
	return s.prefix + name, nil
}

// List returns what is directly below a prefix.
func (s *Store) List(ctx context.Context, dir string) ([]repo.Entry, error) {
	under := s.prefix
	if dir != "" {
		key, err := s.key(dir)
		if err != nil {
			return nil, err
		}
		under = key + "/"
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the listing where this returns early
	var all []repo.Entry
	for o := range s.core.Client.ListObjects(ctx, s.bucket, minio.ListObjectsOptions{Prefix: under}) {
		if o.Err != nil {
			return nil, s.failed(ctx, "list", dir, o.Err)
		}
		name, deeper := strings.CutSuffix(strings.TrimPrefix(o.Key, under), "/")
		switch {
		case name == "": // an object that stands for the directory: others make such
		case deeper:
			all = append(all, repo.Entry{Name: name, Dir: true})
		default:
			all = append(all, repo.Entry{Name: name, Size: o.Size, Modified: o.LastModified})
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	slices.SortFunc(all, func(a, b repo.Entry) int { return cmp.Compare(a.Name, b.Name) })
	return all, nil
}

// Remove deletes objects.
func (s *Store) Remove(ctx context.Context, names ...string) error {
	keys := make([]string, len(names))
	for i, name := range names {
		key, err := s.key(name)
		if err != nil {
			return err
		}
		keys[i] = key
	}
	if len(keys) == 1 {
		return s.failed(ctx, "remove", names[0], s.core.RemoveObject(ctx, s.bucket, keys[0], minio.RemoveObjectOptions{}))
	}
	return s.remove(ctx, slices.Values(keys))
}

// RemoveAll deletes everything below a prefix.
func (s *Store) RemoveAll(ctx context.Context, dir string) error {
	key, err := s.key(dir)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var listing error
	err = s.remove(ctx, func(yield func(string) bool) {
		for o := range s.core.Client.ListObjects(ctx, s.bucket, minio.ListObjectsOptions{Prefix: key + "/", Recursive: true}) {
			if o.Err != nil {
				listing = o.Err
				return
			}
			if !yield(o.Key) {
				return
			}
		}
	})
	if listing != nil {
		return s.failed(ctx, "list", dir, listing)
	}
	return err
}

// remove deletes keys, a thousand in each request.
func (s *Store) remove(ctx context.Context, keys iter.Seq[string]) error {
	ctx, cancel := context.WithCancel(ctx)
	work := make(chan minio.ObjectInfo)
	listed := make(chan struct{})
	go func() {
		defer close(listed)
		defer close(work)
		for key := range keys {
			select {
			case work <- minio.ObjectInfo{Key: key}:
			case <-ctx.Done():
				return
			}
		}
	}()
	defer func() {
		cancel()
		<-listed
	}()
	var first error
	for e := range s.core.RemoveObjects(ctx, s.bucket, work, minio.RemoveObjectsOptions{}) {
		if err := s.failed(ctx, "remove", strings.TrimPrefix(e.ObjectName, s.prefix), e.Err); err != nil && first == nil {
			first = err
			cancel()
		}
	}
	return cmp.Or[error](first, ctx.Err())
}
