package logs

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/klauspost/compress/zstd"

	"howdah/observe/logbook"
)

// A Query is what somebody wants of logs.
type Query struct {
	logbook.Filter
	Last   int  // so many records, the newest; 0: all
	Follow bool // and whatever is written from now on
}

// A Place is where the logs of one node are: its files, and what is kept of them.
// One without a directory is a file.
type Place struct {
	logbook.Source
	Dir  string // of log files
	Kept string // of segments; "": there are none
	File string // in place of all that

	Lenient bool // a file that may not be read is passed over: whoever keeps the logs has said so
}

// Read tells what the places have, in the order of their times. Nobody has to run
// for that. It returns when there is no more, or with Follow when ctx ends; past is
// called, unless it is nil, when what was written until now has been told.
func Read(ctx context.Context, places []Place, q Query, past func() error, tell func(logbook.Record) error) error {
	r := &reader{places: places, query: q}
	defer r.close()
	for _, p := range places {
		k, err := openKept(p, q)
		if err != nil {
			return err
		}
		r.kept = append(r.kept, k)
	}
	if err := r.open(false); err != nil {
		return err
	}
	err := r.past(ctx, tell)
	if err == nil && past != nil {
		err = past()
	}
	if err != nil || !q.Follow {
		return err
	}
	return r.follow(ctx, tell)
}

// A reader is one query, on its way.
type reader struct {
	places []Place
	query  Query
	kept   []*kept
	files  []*file
}

func (r *reader) close() {
	for _, x := range r.files {
		x.f.Close()
	}
	for _, k := range r.kept {
		k.close()
	}
}

// open opens what is there and was not open yet. What has appeared since is read
// from its beginning.
func (r *reader) open(since bool) error {
	for i, p := range r.places {
		paths := []string{p.File}
		if p.File == "" {
			var err error
			if paths, err = find(p.Dir); err != nil {
				return unreadable(p.Dir, err)
			}
		}
		for _, path := range paths {
			if jobs, job := r.query.Jobs, jobOf(path); p.File == "" && len(jobs) > 0 && job != logbook.Postgres && !slices.Contains(jobs, job) {
				continue // PostgreSQL's has also what its commands say
			}
			x, err := openFile(path, p.Source, r.files)
			switch {
			case errors.Is(err, fs.ErrNotExist) && p.File == "":
				continue // it was renamed a moment ago
			case errors.Is(err, fs.ErrPermission) && p.Lenient:
				continue
			case err != nil:
				return unreadable(path, err)
			case x == nil:
				continue
			}
			r.files = append(r.files, x)
			if since {
				continue
			}
			st, err := x.f.Stat()
			if err != nil {
				return unreadable(path, err)
			}
			if !st.Mode().IsRegular() {
				continue
			}
			from, err := x.begin(st.Size(), r.query)
			if err != nil {
				return unreadable(path, err)
			}
			// What is kept already is not told again. What is far enough back not to
			// matter is not read, wherever it is.
			if x.resume(r.kept[i].read); x.at < from {
				x.start(from)
				x.parser.Middle = true
			}
		}
	}
	return nil
}

// begin is from where a file of that size has to be read, so that nothing is
// missed that is asked for. From the end backwards more and more is looked at.
func (x *file) begin(size int64, q Query) (int64, error) {
	for window := int64(blockSize); window < size; window *= 4 {
		from := size - window
		p := x.parser
		p.Middle = true
		enough, wanted := false, 0
		look := func(r logbook.Record) {
			if !q.Since.IsZero() && r.Time.Before(q.Since.Add(-time.Second)) {
				enough = true // lines of several processes may change places
			}
			if q.Last > 0 && q.Wants(r) {
				wanted++
			}
		}
		buf := make([]byte, blockSize)
		for at := from; at < size && !enough; {
			n, err := x.f.ReadAt(buf[:min(blockSize, size-at)], at)
			if n == 0 && err != nil && err != io.EOF {
				return 0, err
			}
			if n == 0 {
				break
			}
			p.Feed(buf[:n], look)
			at += int64(n)
			if q.Last == 0 && at > from+2*blockSize {
				break // the first records of the window say it all
			}
		}
		if enough || q.Last > 0 && wanted >= q.Last {
			return from, nil
		}
	}
	return 0, nil
}

// past tells what was written until now: of all places the oldest record first.
func (r *reader) past(ctx context.Context, tell func(logbook.Record) error) error {
	last := Tail{Most: r.query.Last}
	give := func(one logbook.Record) error {
		if !r.query.Wants(one) {
			return nil
		}
		if r.query.Last == 0 {
			return tell(one)
		}
		last.Add(one)
		return nil
	}
	for ctx.Err() == nil {
		next, err := oldest(r.files)
		if err != nil {
			return err
		}
		for _, x := range r.files {
			if len(x.ready) == 0 && x.ended && x.idle == 0 {
				x.idle = 1 // once: what is pending is a record now
				if r.query.Follow {
					x.parser.End(x.keep)
				} else {
					x.parser.Finish(x.keep)
				}
				if len(x.ready) > 0 && (next == nil || x.ready[0].Time.Before(next.ready[0].Time)) {
					next = x
				}
			}
		}
		var from *kept
		for _, k := range r.kept {
			at, ok, err := k.next()
			if err != nil {
				return err
			}
			if ok && (next == nil || !next.ready[0].Time.Before(at)) {
				if other, ok, _ := from.next(); !ok || at.Before(other) {
					from = k
				}
			}
		}
		var one logbook.Record
		switch {
		case from != nil:
			one = from.take()
		case next != nil:
			one = next.take()
		default:
			for _, one := range last.Records() {
				if err := tell(one); err != nil {
					return err
				}
			}
			return nil
		}
		if err := give(one); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// lookEvery is how often it is looked whether something was written.
const lookEvery = 200 * time.Millisecond

// follow tells what is written from now on: of each turn in the order of times.
func (r *reader) follow(ctx context.Context, tell func(logbook.Record) error) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		var here []*file
		for _, x := range r.files {
			gone, err := x.look()
			if err != nil {
				return unreadable(x.path, err)
			}
			if gone {
				x.f.Close()
				continue // its number may be another's one day
			}
			here = append(here, x)
		}
		r.files = here
		for {
			next, err := oldest(r.files)
			if err != nil {
				return err
			}
			if next == nil {
				break
			}
			if one := next.take(); r.query.Wants(one) {
				if err := tell(one); err != nil {
					return err
				}
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		if err := r.open(true); err != nil {
			return err
		}
	}
}

// kept is what the segments of a place have for a query, the oldest first.
type kept struct {
	source logbook.Source
	query  Query
	read   []position // how far files are in it
	blocks []reference
	runs   [][]logbook.Record // of blocks that were opened
	unzip  *zstd.Decoder
}

func openKept(p Place, q Query) (*kept, error) {
	k := &kept{source: p.Source, query: q}
	if p.Kept == "" {
		return k, nil
	}
	files, err := segments(p.Kept)
	if err != nil {
		return nil, unreadable(p.Kept, err)
	}
	for _, path := range files {
		all, _, err := scan(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // it was too old
		}
		if err != nil {
			return nil, unreadable(path, err)
		}
		for _, b := range all {
			if k.read = b.Files; b.may(q.Filter) {
				k.blocks = append(k.blocks, b)
			}
		}
	}
	if k.unzip, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(bodyMost)); err != nil {
		return nil, err
	}
	if q.Last > 0 {
		return k, k.newest()
	}
	slices.SortStableFunc(k.blocks, func(a, b reference) int { return int(max(-1, min(1, a.From-b.From))) })
	return k, nil
}

func (k *kept) close() {
	if k.unzip != nil {
		k.unzip.Close()
	}
}

// open returns what of a block somebody wants, in the order of times.
func (k *kept) open(r reference) ([]logbook.Record, error) {
	b, err := r.read()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // it became too old
	}
	var all []logbook.Record
	if err == nil {
		all, err = decode(b, k.source, k.unzip)
	}
	if err != nil {
		return nil, unreadable(r.path, err)
	}
	of := len(all)
	all = slices.DeleteFunc(all, func(one logbook.Record) bool { return !k.query.Wants(one) })
	if len(all) < of/2 { // a few do not keep all of its text
		for i := range all {
			all[i] = alone(all[i])
		}
	}
	slices.SortStableFunc(all, func(a, b logbook.Record) int { return a.Time.Compare(b.Time) })
	return all, nil
}

// newest leaves of the blocks what can be among the newest records of the query: they
// are opened from the end, until those before can have none.
func (k *kept) newest() error {
	slices.SortStableFunc(k.blocks, func(a, b reference) int { return int(max(-1, min(1, b.To-a.To))) })
	var all []logbook.Record
	full := false
	for _, r := range k.blocks {
		if full && time.UnixMicro(r.To).Before(all[0].Time) {
			break
		}
		some, err := k.open(r)
		if err != nil {
			return err
		}
		all = append(some, all...)
		slices.SortStableFunc(all, func(a, b logbook.Record) int { return a.Time.Compare(b.Time) })
		last := Tail{Most: k.query.Last}
		for _, one := range all {
			last.Add(one)
		}
		all, full = slices.Clone(last.Records()), last.full
	}
	k.blocks = nil
	if len(all) > 0 {
		k.runs = append(k.runs, all)
	}
	return nil
}

// next is the time of the next record; a nil one has none.
func (k *kept) next() (at time.Time, ok bool, err error) {
	if k == nil {
		return at, false, nil
	}
	i := k.first()
	for len(k.blocks) > 0 && (i < 0 || !k.runs[i][0].Time.Before(time.UnixMicro(k.blocks[0].From))) {
		some, err := k.open(k.blocks[0])
		if err != nil {
			return at, false, err
		}
		if k.blocks = k.blocks[1:]; len(some) > 0 {
			k.runs = append(k.runs, some)
		}
		i = k.first()
	}
	if i < 0 {
		return at, false, nil
	}
	return k.runs[i][0].Time, true, nil
}

// first is the run with the oldest record; of equal ones that which was written first.
func (k *kept) first() int {
	at := -1
	for i, run := range k.runs {
		if at < 0 || run[0].Time.Before(k.runs[at][0].Time) {
			at = i
		}
	}
	return at
}

// take takes the next record.
func (k *kept) take() logbook.Record {
	i := k.first()
	r := k.runs[i][0]
	if k.runs[i] = k.runs[i][1:]; len(k.runs[i]) == 0 {
		k.runs = slices.Delete(k.runs, i, i+1)
	}
	return r
}

// Streams are the jobs of whose logs a place has something, each with the levels that
// its records may have, as bits. What is in no segment yet has none.
func Streams(p Place) (map[string]uint, error) {
	all := map[string]uint{}
	paths, err := find(p.Dir)
	if err != nil {
		return nil, unreadable(p.Dir, err)
	}
	for _, path := range paths {
		all[jobOf(path)] |= 0
	}
	if p.Kept == "" {
		return all, nil
	}
	files, err := segments(p.Kept)
	if err != nil {
		return nil, unreadable(p.Kept, err)
	}
	for _, path := range files {
		blocks, _, err := scan(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // it was too old
			return nil, unreadable(path, err)
		}
		for _, b := range blocks {
			for _, job := range b.Jobs {
				all[job] |= b.Levels
			}
		}
	}
	return all, nil
}

// Unreadable says that the logs in dir are not for whoever runs this.
func Unreadable(dir string) error {
	if _, err := os.ReadDir(dir); errors.Is(err, fs.ErrPermission) {
		return unreadable(dir, err)
	}
	return nil
}
