// Package kept bounds what a node puts aside: data directories that a fresh copy
// replaced, and log that no later primary has.
//
// Both are there for a person who wants to look. Neither may fill the disk that the
// server needs, so they go again, the oldest first. What a restore put aside is not
// of this kind: it waits for `howdah restore CLUSTER --confirm`.
package kept

import (
	"context"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"howdah/logkey"
)

// Dir is where things are put aside, in the node's directory.
const Dir = "kept"

const stamp = "20060102T150405.000Z"

// Data names a data directory that was moved aside.
func Data(at time.Time) string { return "data-" + at.UTC().Format(stamp) }

// Log names a directory of log, of the timeline and from the position that rest says.
func Log(at time.Time, rest string) string { return at.UTC().Format(stamp) + "-" + rest }

const (
	dataFor = 7 * 24 * time.Hour  // the newest data directory stays so long, if there is room
	logFor  = 30 * 24 * time.Hour // log stays so long, within its share
	fresh   = time.Minute         // what is younger may still be being made
	pace    = 30 * time.Second
)

// An Entry is one thing put aside.
type Entry struct {
	Name  string
	At    time.Time
	Data  bool
	Bytes int64 // of log; nobody counts a data directory
}

// A Disk is the file system that they lie on.
type Disk struct{ Size, Free int64 }

// scarce says that the server may need the room. It is so long before the disk guard's
// first mark (ha/disk.go), so that nobody is told of what goes by itself.
func (d Disk) scarce() bool { return d.Free < max(d.Size/10, min(d.Size/4, 1<<30)) }

// share is what log put aside may take.
func (d Disk) share() int64 { return min(d.Size/20, 4<<30) }

// Spare returns what may go, the oldest first: every data directory but the newest, and
// that one, too, after a week or when room is scarce; log after thirty days, or
// beyond its share of the disk, though never the newest.
func Spare(all []Entry, d Disk, now time.Time) []Entry {
	all = slices.SortedFunc(slices.Values(all), func(a, b Entry) int { return b.At.Compare(a.At) })
	var gone []Entry
	var data, logs int
	var bytes int64
	for _, e := range all {
		age := now.Sub(e.At)
		var goes bool
		if e.Data {
			data++
			goes = data > 1 || age > dataFor || d.scarce()
		} else {
			logs++
			bytes += e.Bytes
			goes = logs > 1 && (age > logFor || bytes > d.share())
		}
		if goes && age > fresh {
			gone = append(gone, e)
		}
	}
	slices.Reverse(gone)
	return gone
}

// Tidy removes what may go from the node directory dir, again and again.
func Tidy(ctx context.Context, dir string, log *slog.Logger) error {
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for {
		if err := tidy(ctx, filepath.Join(dir, Dir), log); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func tidy(ctx context.Context, dir string, log *slog.Logger) error {
	all, err := list(dir)
	if err != nil || len(all) == 0 {
		return err
	}
	for ctx.Err() == nil {
		var s unix.Statfs_t
		if err := unix.Statfs(dir, &s); err != nil {
			return err
		}
		d := Disk{Size: int64(s.Blocks) * s.Bsize, Free: int64(s.Bavail) * s.Bsize}
		gone := Spare(all, d, time.Now())
		if len(gone) == 0 {
			return nil
		}
		// One at a time: with it gone there may be room enough.
		e := gone[0]
		if err := os.RemoveAll(filepath.Join(dir, e.Name)); err != nil {
			return err
		}
		log.Info("what was put aside is removed", logkey.Path, filepath.Join(dir, e.Name), "since", e.At, "free_before", d.Free)
		all = slices.DeleteFunc(all, func(o Entry) bool { return o.Name == e.Name })
	}
	return nil
}

// list reads what lies in dir and was named here.
func list(dir string) ([]Entry, error) {
	names, err := os.ReadDir(dir)
	if os.IsNotExist(err) {
		return nil, nil
	}
	var all []Entry
	for _, n := range names {
		if e, ok := parse(n.Name()); ok && n.IsDir() {
			if !e.Data {
				e.Bytes = size(filepath.Join(dir, e.Name))
			}
			all = append(all, e)
		}
	}
	return all, err
}

func parse(name string) (Entry, bool) {
	rest, data := strings.CutPrefix(name, "data-")
	if !data {
		rest = rest[:min(len(stamp), len(rest))]
	}
	at, err := time.Parse(stamp, rest)
	return Entry{Name: name, At: at, Data: data}, err == nil
}

func size(dir string) (bytes int64) {
	_ = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		if i, err := e.Info(); err == nil {
			bytes += i.Size()
		}
		return nil
	})
	return bytes
}
