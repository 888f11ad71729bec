package s3

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"sync"
	"time"

	"github.com/minio/minio-go/v7"
)

// Put stores an object.
func (s *Store) Put(ctx context.Context, name string, fill func(io.Writer) error) error {
	key, err := s.key(name)
	if err != nil {
		return err
	}
	u := &upload{s: s, ctx: ctx, name: name, key: key, part: parts.Get().(*bytes.Buffer)}
	u.part.Reset()
	defer parts.Put(u.part)
	if err = fill(u); err == nil {
		err = u.finish()
	}
	if err != nil {
		u.abandon()
	}
	return err
}

// parts are kept: an object is gathered in one of them, whatever its size.
var parts = sync.Pool{New: func() any { return &bytes.Buffer{} }}

// An upload is an object of which nobody knows yet how long it will be. It
// holds one part at a time.
type upload struct {
	s         *Store
	ctx       context.Context
	name, key string
	part      *bytes.Buffer
	id        string // of the upload in parts; "": one request may do
	stored    []minio.CompletePart
}

// Write gathers a part, and sends it when there is more.
func (u *upload) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		room := int(u.s.chunk) - u.part.Len()
		if room == 0 {
			if err := u.send(); err != nil {
				return n, err
			}
			continue
		}
		some := p[:min(room, len(p))]
		u.part.Write(some)
		n, p = n+len(some), p[len(some):]
	}
	return n, nil
}

// send stores the gathered part.
func (u *upload) send() (err error) {
	if u.id == "" {
		if u.id, err = u.s.core.NewMultipartUpload(u.ctx, u.s.bucket, u.key, minio.PutObjectOptions{}); err != nil {
			return u.s.failed(u.ctx, "put", u.name, err)
		}
	}
	number, data := len(u.stored)+1, u.part.Bytes()
	done, err := u.s.core.PutObjectPart(u.ctx, u.s.bucket, u.key, u.id, number,
		bytes.NewReader(data), int64(len(data)), minio.PutObjectPartOptions{Sha256Hex: sum(data)})
	if err != nil {
		return u.s.failed(u.ctx, "put", u.name, err)
	}
	u.stored = append(u.stored, minio.CompletePart{PartNumber: number, ETag: done.ETag})
	u.part.Reset()
	return nil
}

// finish makes the object appear.
func (u *upload) finish() error {
	if err := u.ctx.Err(); err != nil {
		return err
	}
	if u.id == "" {
		data := u.part.Bytes()
		_, err := u.s.core.PutObject(u.ctx, u.s.bucket, u.key, bytes.NewReader(data), int64(len(data)), "", sum(data), minio.PutObjectOptions{})
		return u.s.failed(u.ctx, "put", u.name, err)
	}
	if err := u.send(); err != nil {
		return err
	}
	_, err := u.s.core.CompleteMultipartUpload(u.ctx, u.s.bucket, u.key, u.id, u.stored, minio.PutObjectOptions{})
	return u.s.failed(u.ctx, "put", u.name, err)
}

// abandon frees the parts of an object that will not be. Where that fails they
// stay unseen until the bucket's rules remove them.
func (u *upload) abandon() {
	if u.id == "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(u.ctx), 10*time.Second) // also of a command that was ended
	defer cancel()
	_ = u.s.core.AbortMultipartUpload(ctx, u.s.bucket, u.key, u.id)
}

// sum is what a request is signed with, and the store compares.
func sum(data []byte) string {
	h := sha256.Sum256(data)
	return hex.EncodeToString(h[:])
}
