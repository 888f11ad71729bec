package keep

import (
	"context"
	"errors"
	"io"

	"howdah/backup/repo"
)

// failing is a storage whose connection breaks after so many objects.
type failing struct {
	repo.Storage
	left int
}

var errBroken = errors.New("broken")

func (f *failing) Get(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	if f.left--; f.left < 0 {
		return nil, errBroken
	}
	return f.Storage.Get(ctx, name, offset, length)
}
