package control

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"howdah/observe/logbook"
	"howdah/problem"
	"howdah/spec"
)

// A LogQuery is what somebody wants of log files.
type LogQuery struct {
	logbook.Filter
	Last   int      // so many records, the newest; 0: all
	Follow bool     // and whatever is written from now on
	Files  []string // these, in place of a cluster's own
}

// Logs tells the records of the cluster's nodes that are set up in the house, in
// the order of their times. Nothing of the cluster has to run. It returns when
// there are no more, or with Follow when ctx ends.
func (h House) Logs(ctx context.Context, name string, q LogQuery, tell func(logbook.Record) error) error {
	l := &logs{query: q, known: map[identity]bool{}}
	if len(q.Files) == 0 {
		name, err := h.Name(name)
		if err != nil {
			return err
		}
		if l.nodes, err = h.Nodes(name); err != nil {
			return err
		}
		for _, m := range q.Members {
			if !slices.ContainsFunc(l.nodes, func(n spec.Node) bool { return n.Member == m }) {
				var names []string
				for _, n := range l.nodes {
					names = append(names, n.Member)
				}
				return &problem.Error{
					Code: "member-unknown", What: "cannot find member " + m + " of cluster " + name,
					Why: "those whose logs are on this machine are " + strings.Join(names, ", "), Do: "name one of these",
				}
			}
		}
	}
	defer l.close()
	if err := l.open(false); err != nil {
		return err
	}
	if err := l.past(ctx, tell); err != nil || !q.Follow {
		return err
	}
	return l.follow(ctx, tell)
}

// logs are the files of one query.
type logs struct {
	query LogQuery
	nodes []spec.Node
	files []*logFile
	known map[identity]bool
}

// identity is a file, whatever its name becomes.
type identity struct{ device, inode uint64 }

// A logFile is one that is read, from where it was left.
type logFile struct {
	path   string
	id     identity
	f      *os.File
	at     int64 // how far it was read
	parser logbook.Parser
	ready  []logbook.Record // read, and not told yet
	buf    []byte
	ended  bool
	idle   int // turns in which nothing came
}

// logBlock is how much of a file is read at a time.
const logBlock = 256 << 10

// open opens what is there and was not open yet. What has appeared since is read
// from its beginning.
func (l *logs) open(since bool) error {
	add := func(path string, s logbook.Source) error {
		if st, err := os.Stat(path); err == nil && l.known[identityOf(st)] {
			return nil
		}
		f, err := os.Open(path)
		switch {
		case errors.Is(err, fs.ErrNotExist) && len(l.query.Files) == 0:
			return nil // it was renamed a moment ago
		case err != nil:
			return &problem.Error{
				Code: "logs-unreadable", What: "cannot read the log " + path, Why: err.Error(),
				Do: "see whether it is there; run as root or as the user of PostgreSQL", Err: err,
			}
		}
		st, err := f.Stat()
		if err != nil || !st.Mode().IsRegular() && len(l.query.Files) == 0 {
			f.Close()
			return err
		}
		x := &logFile{path: path, f: f, parser: logbook.Parser{Source: s, Zone: time.Local}}
		x.id = identityOf(st)
		l.known[x.id] = true
		l.files = append(l.files, x)
		if since {
			return nil
		}
		x.at, err = x.begin(st.Size(), l.query)
		x.parser.Middle = x.at > 0
		return err
	}
	for _, path := range l.query.Files {
		if err := add(path, logbook.Source{Job: jobOf(path)}); err != nil {
			return err
		}
	}
	for _, n := range l.nodes {
		if len(l.query.Members) > 0 && !slices.Contains(l.query.Members, n.Member) {
			continue
		}
		for _, pattern := range []string{"*.log.1", "*.log", "*.csv", "*.json"} {
			files, _ := filepath.Glob(filepath.Join(n.Paths.Log, pattern)) // only a malformed pattern is an error
			for _, path := range files {
				s := logbook.Source{Cluster: n.Cluster, Member: n.Member, IP: n.Host, Job: jobOf(path)}
				if jobs := l.query.Jobs; len(jobs) > 0 && s.Job != logbook.Postgres && !slices.Contains(jobs, s.Job) {
					continue // PostgreSQL's has also what its commands say
				}
				if err := add(path, s); err != nil {
					return err
				}
			}
		}
		if _, err := os.ReadDir(n.Paths.Log); errors.Is(err, fs.ErrPermission) {
			return &problem.Error{
				Code: "logs-unreadable", What: "cannot read the logs of " + n.Member, Why: err.Error(),
				Do: "run as root or as the user of PostgreSQL", Err: err,
			}
		}
	}
	return nil
}

func identityOf(st fs.FileInfo) identity {
	s, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		return identity{}
	}
	return identity{uint64(s.Dev), s.Ino}
}

// jobOf is who writes a file: agent.log.1 is the agent's.
func jobOf(path string) string {
	name, _, _ := strings.Cut(filepath.Base(path), ".")
	if strings.HasPrefix(name, "postgres") {
		return logbook.Postgres
	}
	return name
}

// begin is from where a file of that size has to be read, so that nothing is
// missed that is asked for. From the end backwards more and more is looked at.
func (x *logFile) begin(size int64, q LogQuery) (int64, error) {
	for window := int64(logBlock); window < size; window *= 4 {
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
		buf := make([]byte, logBlock)
		for at := from; at < size && !enough; {
			n, err := x.f.ReadAt(buf[:min(logBlock, size-at)], at)
			if n == 0 && err != nil && err != io.EOF {
				return 0, err
			}
			if n == 0 {
				break
			}
			p.Feed(buf[:n], look)
			at += int64(n)
			if q.Last == 0 && at > from+2*logBlock {
				break // the first records of the window say it all
			}
		}
		if enough || q.Last > 0 && wanted >= q.Last {
			return from, nil
		}
	}
	return 0, nil
}

// read reads the next block; what it completes is ready. n is 0 at the end.
func (x *logFile) read() (n int, err error) {
	if x.buf == nil {
		x.buf = make([]byte, logBlock)
	}
	n, err = x.f.ReadAt(x.buf, x.at)
	x.at += int64(n)
	x.parser.Feed(x.buf[:n], x.keep)
	if err != nil && err != io.EOF {
		return n, &problem.Error{
			Code: "logs-unreadable", What: "cannot read the log " + x.path, Why: err.Error(), Do: "see whether its disk is well", Err: err,
		}
	}
	return n, nil
}

// fill reads until a record is ready, or the file is at its end.
func (x *logFile) fill() error {
	for len(x.ready) == 0 && !x.ended {
		n, err := x.read()
		if err != nil {
			return err
		}
		x.ended = n == 0
	}
	return nil
}

func (x *logFile) keep(r logbook.Record) { x.ready = append(x.ready, r) }

// past tells what was written until now: of all files the oldest record first.
func (l *logs) past(ctx context.Context, tell func(logbook.Record) error) error {
	var last []logbook.Record // the newest so many
	give := func(r logbook.Record) error {
		if !l.query.Wants(r) {
			return nil
		}
		if l.query.Last == 0 {
			return tell(r)
		}
		if last = append(last, r); len(last) > 2*l.query.Last {
			last = append(last[:0], last[len(last)-l.query.Last:]...)
		}
		return nil
	}
	for ctx.Err() == nil {
		var next *logFile
		for _, x := range l.files {
			if err := x.fill(); err != nil {
				return err
			}
			if len(x.ready) == 0 && x.ended && x.idle == 0 {
				x.idle = 1 // once: what is pending is a record now
				if l.query.Follow {
					x.parser.End(x.keep)
				} else {
					x.parser.Finish(x.keep)
				}
			}
			if len(x.ready) > 0 && (next == nil || x.ready[0].Time.Before(next.ready[0].Time)) {
				next = x
			}
		}
		if next == nil {
			break
		}
		r := next.ready[0]
		next.ready = next.ready[1:]
		if err := give(r); err != nil {
			return err
		}
	}
	for _, r := range last[max(0, len(last)-l.query.Last):] {
		if err := tell(r); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// logEvery is how often it is looked whether something was written.
const logEvery = 200 * time.Millisecond

// follow tells what is written from now on: of each turn in the order of times.
func (l *logs) follow(ctx context.Context, tell func(logbook.Record) error) error {
	tick := time.NewTicker(logEvery)
	defer tick.Stop()
	for {
		var news []logbook.Record
		for _, x := range slices.Clone(l.files) {
			gone, err := x.turn()
			if err != nil {
				return err
			}
			news = append(news, x.ready...)
			if x.ready = nil; gone {
				x.f.Close()
				delete(l.known, x.id) // its number may be another's one day
				l.files = slices.DeleteFunc(l.files, func(y *logFile) bool { return x == y })
			}
		}
		slices.SortStableFunc(news, func(a, b logbook.Record) int { return a.Time.Compare(b.Time) })
		for _, r := range news {
			if !l.query.Wants(r) {
				continue
			}
			if err := tell(r); err != nil {
				return err
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		if err := l.open(true); err != nil {
			return err
		}
	}
}

// turn reads what has come. A file that became shorter was begun anew. One that is
// known by no name any more has gone, once it is read.
func (x *logFile) turn() (gone bool, err error) {
	st, err := x.f.Stat()
	if err != nil {
		return false, err
	}
	if st.Size() < x.at {
		x.parser.Finish(x.keep)
		x.at = 0
	}
	before := x.at
	for x.at < st.Size() {
		if n, err := x.read(); err != nil || n == 0 {
			return false, err
		}
	}
	if x.at != before {
		x.idle = 0
		return false, nil
	}
	if x.idle++; x.idle == 1 {
		x.parser.End(x.keep) // nothing more belongs to it
	}
	if named, ok := st.Sys().(*syscall.Stat_t); ok && named.Nlink == 0 {
		x.parser.Finish(x.keep)
		return true, nil
	}
	return false, nil
}

func (l *logs) close() {
	for _, x := range l.files {
		x.f.Close()
	}
}
