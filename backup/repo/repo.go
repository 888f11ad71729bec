// Package repo is the format of pgBackRest's repository: how its files are
// named, what its info files and manifests say and how they are summed up, how
// its objects are compressed, encrypted and bundled, and which backups need
// which others.
//
// It is pure: a Storage is an interface that adapters fill (posix, mem), and
// chance (the salt of a cipher) and time come as arguments. What a real
// pgBackRest wrote is kept, also where we do not know what it means: a file
// that is loaded and saved comes out byte for byte.
//
// Sources: pgBackRest's src/info, src/common/crypto, src/common/type/json.c and
// src/command/*, versions 2.45 and 2.59; the format has number 5 in all of them.
package repo

import (
	"context"
	"errors"
	"io"
	"time"
)

// Format is the number of the format, and Version the release of pgBackRest
// whose files ours equal. Every later one reads them too.
const (
	Format  = 5
	Version = "2.45"
)

// Storage keeps objects by name. Names have slashes, none at either end.
type Storage interface {
	// Get reads length bytes of an object from offset on; a negative length
	// means to its end. What does not exist is fs.ErrNotExist.
	Get(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error)
	// Put stores what fill writes, durably, in place of what had the name. If
	// fill fails, or anything else does, the old object stays.
	Put(ctx context.Context, name string, fill func(io.Writer) error) error
	// List returns what is directly in dir, by name; nothing, if dir is not there.
	List(ctx context.Context, dir string) ([]Entry, error)
	// Remove deletes objects; that one is not there is no error.
	Remove(ctx context.Context, names ...string) error
	// RemoveAll deletes dir with everything in it.
	RemoveAll(ctx context.Context, dir string) error
}

// An Entry is one name in a listing.
type Entry struct {
	Name     string // without the directory
	Dir      bool
	Size     int64
	Modified time.Time
}

// A Tree is a Storage that has directories and links of its own, as a file
// system does. They carry no data, but pgBackRest makes them there.
type Tree interface {
	// PutLater is Put for one of many objects: it is durable after Sync.
	PutLater(ctx context.Context, name string, fill func(io.Writer) error) error
	Sync(ctx context.Context) error
	MakeDir(ctx context.Context, dir string) error
	Link(ctx context.Context, name, target string) error // in place of what was there
	Sweep(ctx context.Context, dir string) error         // removes what nobody writes any more and is no object yet
}

// An Arbiter is a Storage that several hosts share: of those who store an
// object at once it lets one.
type Arbiter interface {
	// Swap stores data in place of the object with the tag was ("": where there
	// is none), and returns the new tag. It is ErrSwapped if something else is
	// there, and errors.ErrUnsupported if the store knows no such condition.
	Swap(ctx context.Context, name, was string, data []byte) (tag string, err error)
	// Tagged reads a small object, and its tag, which changes with its content.
	Tagged(ctx context.Context, name string) (data []byte, tag string, err error)
}

// ErrSwapped says that somebody else was there first.
var ErrSwapped = errors.New("the object is another one meanwhile")
