// Package logs keeps what the log files of a node say, and finds it again: records
// of all of them in compressed segments with an index, for as long and as many bytes
// as is asked; behind them what the files have had since.
//
// What was kept and how far the files were read is written in one piece, so that
// whoever is ended anywhere goes on there: no record is lost as long as its file is
// there, and none is kept twice. It reads the files that the node has anyway, and
// nothing waits for it. Passwords are masked before anything is kept.
package logs

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"slices"
	"time"

	"howdah/logkey"
	"howdah/observe/logbook"
	"howdah/spec"
)

const (
	turnEvery = time.Second      // between two looks at the files
	waitFor   = 30 * time.Second // that a record stays out of the segments, at most; until then it is in its file
	waitShip  = 5 * time.Second  // … where it is sent from there
)

// settled is after how many turns the last record of a file that was renamed is known.
const settled = 3

// A Keeper keeps the logs of one node.
type Keeper struct {
	node  spec.Node
	log   *slog.Logger
	meter *Meter
	store *store
	files []*file
	block *builder
	since time.Time // when the first record came that is in no segment yet
	moved int       // turns for which files come and go: an old one may be replaced soon
	said  map[string]bool
}

// Keep keeps the logs of the node n until ctx ends; m counts them.
func Keep(ctx context.Context, n spec.Node, m *Meter, log *slog.Logger) (err error) {
	defer func() {
		if err != nil {
			m.note(keptSink, func(f *flow) { f.errors++ })
		}
	}()
	k, err := newKeeper(n, m, log)
	if err != nil {
		return err
	}
	defer k.close()
	tick := time.NewTicker(turnEvery)
	defer tick.Stop()
	for last := time.Now(); ; {
		began := time.Now()
		if err := k.turn(ctx, began); err != nil {
			return err
		}
		m.worked(keptSink, time.Since(began), began.Sub(last))
		last = began
		select {
		case <-tick.C:
		case <-ctx.Done():
			return k.flush(time.Now())
		}
	}
}

func newKeeper(n spec.Node, m *Meter, log *slog.Logger) (*Keeper, error) {
	s, err := open(n.Logs)
	if err != nil {
		return nil, err
	}
	b, err := newBuilder()
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	return &Keeper{node: n, log: log, meter: m, store: s, block: b, said: map[string]bool{}}, nil
}

func (k *Keeper) close() {
	for _, x := range k.files {
		x.f.Close()
	}
	_ = k.store.close() // what it has was written
}

// turn takes what the files have had since the last one, the oldest first.
func (k *Keeper) turn(ctx context.Context, now time.Time) error {
	if err := k.open(); err != nil {
		return err
	}
	var here []*file
	for _, x := range k.files {
		gone, err := x.look()
		if err != nil {
			return unreadable(x.path, err)
		}
		if gone {
			x.f.Close()
			k.moved = settled
			continue
		}
		here = append(here, x)
	}
	k.files = here
	read := map[string]flow{} // by job
	defer func() {
		for job, n := range read {
			k.meter.note(component{job, kindSource, "file"}, func(f *flow) { f.events, f.bytes = f.events+n.events, f.bytes+n.bytes })
		}
	}()
	for ctx.Err() == nil {
		next, err := oldest(k.files)
		if err != nil {
			return err
		}
		if next == nil {
			break
		}
		before := next.taken
		r := next.take()
		n := read[r.Job]
		n.events, n.bytes = n.events+1, n.bytes+max(0, next.taken-before)
		read[r.Job] = n
		if r.Time.IsZero() { // a file that begins with what nobody dated
			r.Time = now
		}
		if k.block.empty() {
			k.since = now
		}
		if k.block.add(r); k.block.full() {
			if err := k.flush(now); err != nil {
				return err
			}
		}
	}
	wait := waitFor
	if len(k.node.Logs.Ship) > 0 {
		wait = waitShip
	}
	if k.moved > 0 || now.Sub(k.since) >= wait {
		k.moved = max(0, k.moved-1)
		return k.flush(now)
	}
	return nil
}

// oldest is the file whose next record is, nil if none has one.
func oldest(files []*file) (next *file, err error) {
	for _, x := range files {
		if err := x.fill(); err != nil {
			return nil, err
		}
		if len(x.ready) > 0 && (next == nil || x.ready[0].Time.Before(next.ready[0].Time)) {
			next = x
		}
	}
	return next, nil
}

// open opens the files that are not open yet, each where it was left.
func (k *Keeper) open() error {
	paths, err := find(k.node.Paths.Log)
	if err != nil {
		return unreadable(k.node.Paths.Log, err)
	}
	for _, path := range paths {
		x, err := openFile(path, logbook.Source{}, k.files)
		switch {
		case errors.Is(err, fs.ErrNotExist): // it was renamed a moment ago
			continue
		case err != nil:
			if !k.said[path] {
				k.said[path] = true
				k.meter.note(component{jobOf(path), kindSource, "file"}, func(f *flow) { f.errors++ })
				k.log.Warn("a log is not kept", logkey.Path, path, logkey.Error, err)
			}
			continue
		}
		if x != nil {
			x.resume(k.store.read) // else it is read from its beginning
			k.files, k.moved = append(k.files, x), settled
		}
	}
	return nil
}

// flush writes what is in no segment yet.
func (k *Keeper) flush(now time.Time) error {
	if k.block.empty() {
		return nil
	}
	var read []position
	for _, x := range k.files {
		if p, err := x.position(); err == nil { // of one that can not be read any more there is nothing to go on with
			read = append(read, p)
		}
	}
	// Those that are not open for now may be there again.
	for _, p := range k.store.read {
		if !slices.ContainsFunc(k.files, func(x *file) bool { return x.device == p.Device && x.inode == p.Inode }) && len(read) < 256 {
			read = append(read, p)
		}
	}
	records := int64(k.block.head.Records)
	b, err := k.block.block(read)
	if err != nil {
		return err
	}
	if err := k.store.append(b, read, now); err != nil {
		return err
	}
	k.meter.note(keptSink, func(f *flow) {
		f.events, f.bytes, f.checkpoints = f.events+records, f.bytes+int64(len(b)), f.checkpoints+1
	})
	return nil
}
