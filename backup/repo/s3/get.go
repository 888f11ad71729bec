package s3

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/minio/minio-go/v7"
)

// Get reads a part of an object.
func (s *Store) Get(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	key, err := s.key(name)
	if err != nil {
		return nil, err
	}
	d := &download{s: s, ctx: ctx, name: name, key: key, at: offset, end: -1}
	if length >= 0 {
		d.end = offset + length
	}
	if err := d.open(); err != nil {
		return nil, err
	}
	return d, nil
}

// A download goes on where it broke off, as long as the object is the same.
type download struct {
	s         *Store
	ctx       context.Context
	name, key string
	at, end   int64 // bytes of the object; an end below zero is its end
	etag      string
	body      io.ReadCloser
	broken    int // attempts since the last byte came
}

// open asks for what is left.
func (d *download) open() error {
	var o minio.GetObjectOptions
	ranged := d.at > 0 || d.end >= 0
	if ranged {
		last := int64(0) // to the object's end
		if d.end >= 0 {
			last = max(d.end, d.at+1) - 1
		}
		if err := o.SetRange(d.at, last); err != nil {
			return err
		}
	}
	if d.etag != "" {
		if err := o.SetMatchETag(d.etag); err != nil {
			return err
		}
	}
	body, info, _, err := d.s.core.GetObject(d.ctx, d.s.bucket, d.key, o)
	if e, ok := errors.AsType[minio.ErrorResponse](err); ok && ranged && e.StatusCode == http.StatusRequestedRangeNotSatisfiable {
		d.body = http.NoBody // it ends before
		return nil
	}
	if err != nil {
		return d.s.failed(d.ctx, "get", d.name, err)
	}
	d.body, d.etag = body, info.ETag
	return nil
}

// Read reads on, over as many connections as it takes.
func (d *download) Read(p []byte) (int, error) {
	if d.end >= 0 {
		if d.at >= d.end {
			return 0, io.EOF
		}
		p = p[:min(int64(len(p)), d.end-d.at)]
	}
	for {
		n, err := d.body.Read(p)
		d.at += int64(n)
		switch {
		case n > 0:
			d.broken = 0
			if !errors.Is(err, io.EOF) {
				err = nil // it comes again, if it was one
			}
			return n, err
		case err == nil || errors.Is(err, io.EOF):
			return n, err
		case d.ctx.Err() != nil:
			return 0, d.ctx.Err()
		}
		if d.broken++; d.broken >= tries {
			return 0, d.s.failed(d.ctx, "get", d.name, err)
		}
		_ = d.body.Close()
		d.body = http.NoBody // should open fail
		if err := d.pause(); err != nil {
			return 0, err
		}
		if err := d.open(); err != nil {
			return 0, err
		}
	}
}

// pause lies between a connection that broke and the next: longer each time,
// and not the same for all who were cut off together.
func (d *download) pause() error {
	longest := min(200*time.Millisecond<<(d.broken-1), time.Second)
	select {
	case <-time.After(longest/2 + rand.N(longest/2)):
		return nil
	case <-d.ctx.Done():
		return d.ctx.Err()
	}
}

// Close gives the connection back, or up.
func (d *download) Close() error { return d.body.Close() }
