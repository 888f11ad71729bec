package s3

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"

	"github.com/minio/minio-go/v7"

	"howdah/backup/repo"
)

// Swap stores an object if another one has not been stored meanwhile.
func (s *Store) Swap(ctx context.Context, name, was string, data []byte) (string, error) {
	key, err := s.key(name)
	if err != nil {
		return "", err
	}
	var o minio.PutObjectOptions
	if was == "" {
		o.SetMatchETagExcept("*")
	} else {
		o.SetMatchETag(was)
	}
	done, err := s.core.PutObject(ctx, s.bucket, key, bytes.NewReader(data), int64(len(data)), "", sum(data), o)
	if err == nil {
		return done.ETag, nil
	}
	if e, ok := errors.AsType[minio.ErrorResponse](err); ok {
		switch e.StatusCode {
		case http.StatusPreconditionFailed, http.StatusConflict: // or another one is storing it now
			return "", repo.ErrSwapped
		case http.StatusNotFound:
			if was != "" && e.Code == minio.NoSuchKey {
				return "", repo.ErrSwapped // it is gone
			}
		case http.StatusNotImplemented:
			return "", errors.ErrUnsupported
		}
	}
	return "", s.failed(ctx, "put", name, err)
}

// Tagged reads an object with its tag.
func (s *Store) Tagged(ctx context.Context, name string) ([]byte, string, error) {
	key, err := s.key(name)
	if err != nil {
		return nil, "", err
	}
	body, info, _, err := s.core.GetObject(ctx, s.bucket, key, minio.GetObjectOptions{})
	if err != nil {
		return nil, "", s.failed(ctx, "get", name, err)
	}
	defer body.Close()
	data, err := io.ReadAll(body)
	return data, info.ETag, s.failed(ctx, "get", name, err)
}
