package postgres

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"howdah/pg"
	"howdah/pgwire"
	"howdah/spec"
)

// A sieve stands between pg_rewind and its source, and leaves out of the source's list of
// files the log that recovery of what is rewound will not read: segments before the
// checkpoint that it begins at, and those that the source keeps ready for later. Up to 18
// pg_rewind copies every segment that it is told of, which is as much as wal_keep_size and
// min_wal_size say, while commits may wait for this standby.
//
// Segments before that checkpoint which both have stay: pg_rewind would delete them, as not
// the source's, so they are given a second name and come back. All else passes as it came.
type sieve struct {
	source   *pgconn.HijackedConn
	listener net.Listener
	wal      string // pg_wal of what is rewound
	aside    string // where segments that stay have their second name
	segment  uint64
	begin    chan pg.LSN // where recovery will begin; 0 if that can not be known
	stop     context.CancelFunc
	ended    chan struct{}
	omitted  int // segments that were left out, once it has ended
}

// sievePort names the socket of the sieve, in the directory of the server's own, which
// nobody but its user can enter. No server listens on it.
const sievePort = 1

// sift puts a sieve in front of a source, whose connection it takes over.
func (s *Server) sift(source *pgconn.PgConn, segment uint64) (*sieve, error) {
	if err := s.mkdir(s.node.Paths.Sockets, 0o700); err != nil {
		return nil, err
	}
	v := &sieve{
		wal: s.in("pg_wal"), aside: s.beside("rewind.log"), segment: segment,
		begin: make(chan pg.LSN, 1), ended: make(chan struct{}),
	}
	if err := os.RemoveAll(v.aside); err != nil {
		return nil, err
	}
	if err := s.mkdir(v.aside, 0o700); err != nil {
		return nil, err
	}
	path := filepath.Join(s.node.Paths.Sockets, ".s.PGSQL."+strconv.Itoa(sievePort))
	if err := remove(path); err != nil {
		return nil, err
	}
	var err error
	if v.listener, err = net.Listen("unix", path); err != nil {
		return nil, err
	}
	if s.account.other {
		err = os.Chown(path, s.account.uid, s.account.gid)
	}
	if err == nil {
		v.source, err = source.Hijack()
	}
	if err != nil {
		v.listener.Close()
		return nil, err
	}
	var ctx context.Context
	ctx, v.stop = context.WithCancel(context.Background())
	go v.run(ctx)
	return v, nil
}

// address is how a program of libpq finds the sieve.
func (v *sieve) address() pg.DSN {
	return pg.DSN{
		{"user", spec.Superuser},
		{"host", filepath.Dir(v.listener.Addr().String())},
		{"port", strconv.Itoa(sievePort)},
		{"dbname", "postgres"},
	}
}

// end cuts both sides off, and returns when nothing passes any more.
func (v *sieve) end() {
	v.stop()
	v.listener.Close()
	v.source.Conn.Close()
	<-v.ended
}

// close ends the sieve, and forgets what is aside.
func (v *sieve) close() {
	v.end()
	_ = os.RemoveAll(v.aside)
}

// bringBack gives the segments that were to stay their place again, after the end.
func (v *sieve) bringBack() error {
	names, err := os.ReadDir(v.aside)
	if err != nil || len(names) == 0 {
		return err
	}
	for _, e := range names {
		err := os.Link(filepath.Join(v.aside, e.Name()), filepath.Join(v.wal, e.Name()))
		if err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	return syncDir(v.wal)
}

// run serves one client. What ends it, ends the client's connection, and pg_rewind says so.
func (v *sieve) run(ctx context.Context) {
	defer close(v.ended)
	client, err := v.listener.Accept()
	if err != nil {
		return
	}
	defer client.Close()
	defer context.AfterFunc(ctx, func() { client.Close() })()
	c := bufio.NewReadWriter(bufio.NewReader(client), bufio.NewWriterSize(client, 1<<17))
	u := bufio.NewReadWriter(bufio.NewReaderSize(v.source.Conn, 1<<17), bufio.NewWriter(v.source.Conn))
	err = v.welcome(c)
	for err == nil {
		err = v.turn(c, u)
	}
}

// welcome answers a client's startup message with what the source said to us.
func (v *sieve) welcome(c *bufio.ReadWriter) error {
	head, err := c.Peek(4)
	if err != nil {
		return err
	}
	n := binary.BigEndian.Uint32(head)
	if n < 8 || n > pgwire.StartupMax {
		return pgwire.ErrFirst
	}
	if _, err := c.Discard(int(n)); err != nil {
		return err
	}
	b := pgwire.AppendAuth(nil, pgwire.AuthOK)
	for name, value := range v.source.ParameterStatuses {
		b = pgwire.AppendStatus(b, name, value)
	}
	if _, err := c.Write(pgwire.AppendReady(b, 'I')); err != nil {
		return err
	}
	return c.Flush()
}

// turn carries one request over, and what the source answers back. libpq's blocking calls,
// of which pg_rewind makes no others, wait for each answer (src/bin/pg_rewind/libpq_source.c).
func (v *sieve) turn(c, u *bufio.ReadWriter) error {
	pass := func(string) bool { return true }
	for asked := false; !asked; {
		kind, size, err := header(c)
		if err != nil {
			return err
		}
		switch kind {
		case pgwire.Terminate:
			return io.EOF
		case pgwire.Query:
			text, err := c.Peek(min(5+size, 64))
			if err != nil {
				return err
			}
			if strings.HasPrefix(string(text[5:]), "WITH RECURSIVE files") {
				if pass, err = v.list(u); err != nil {
					return err
				}
			}
			asked = true
		case 'S': // Sync
			asked = true
		}
		if _, err := io.CopyN(u, c, int64(5+size)); err != nil {
			return err
		}
	}
	if err := u.Flush(); err != nil {
		return err
	}
	for {
		kind, size, err := header(u)
		if err != nil {
			return err
		}
		if kind == pgwire.DataRow {
			row, err := u.Peek(min(5+size, 1024))
			if err != nil {
				return err
			}
			if !pass(firstColumn(row)) {
				if _, err := u.Discard(5 + size); err != nil {
					return err
				}
				continue
			}
		}
		if _, err := io.CopyN(c, u, int64(5+size)); err != nil {
			return err
		}
		if kind == pgwire.ReadyForQuery {
			return c.Flush()
		}
	}
}

// header looks at the head of the next message; size is its body's.
func header(r *bufio.ReadWriter) (kind byte, size int, err error) {
	b, err := r.Peek(5)
	if err != nil {
		return 0, 0, err
	}
	n := binary.BigEndian.Uint32(b[1:])
	if n < 4 || n > math.MaxInt32 {
		return 0, 0, pgwire.ErrMessage
	}
	return b[0], int(n) - 4, nil
}

// firstColumn is the text of a DataRow's first column, as far as row holds it; "" if it is NULL.
func firstColumn(row []byte) string {
	if len(row) < 11 || binary.BigEndian.Uint16(row[5:]) == 0 {
		return ""
	}
	n := int32(binary.BigEndian.Uint32(row[7:]))
	return string(row[11 : 11+min(max(int(n), 0), len(row)-11)])
}

// list is called before the source is asked for its files: it returns which of them pg_rewind is to
// hear of.
func (v *sieve) list(u *bufio.ReadWriter) (func(path string) bool, error) {
	all := func(string) bool { return true }
	var from pg.LSN
	select {
	case from = <-v.begin:
	case <-time.After(5 * time.Second): // it has been printed before, or it is worded anew
	}
	if from == 0 {
		return all, nil
	}
	end, err := v.position(u)
	if err != nil {
		return nil, err
	}
	first, last := uint64(from)/v.segment, uint64(end)/v.segment
	own, err := os.ReadDir(v.wal)
	if err != nil {
		return nil, err
	}
	here := map[string]bool{}
	for _, e := range own {
		here[e.Name()] = true
	}
	return func(path string) bool {
		name, found := strings.CutPrefix(path, "pg_wal/")
		if !found {
			return true
		}
		name, status := strings.CutPrefix(name, "archive_status/")
		segment, _, _ := strings.Cut(name, ".")
		if !isSegment(segment) || !status && segment != name {
			return true
		}
		_, at, err := pg.ParseSegment(segment, v.segment)
		if err != nil {
			return true
		}
		n := uint64(at) / v.segment
		if first <= n && n <= last {
			return true
		}
		stays := n < first && here[segment]
		if status {
			return stays
		}
		if stays {
			// Where that is another file system it goes, as all of it does with a fresh copy.
			_ = os.Link(filepath.Join(v.wal, segment), filepath.Join(v.aside, segment))
		}
		v.omitted++
		return false
	}, nil
}

// position asks the source how far its log goes. One that follows another has no end that is known:
// all that it holds may be log.
func (v *sieve) position(u *bufio.ReadWriter) (pg.LSN, error) {
	const ask = "SELECT CASE WHEN NOT pg_is_in_recovery() THEN pg_current_wal_insert_lsn() END"
	if _, err := u.Write(pgwire.AppendMessage(nil, pgwire.Query, ask, "\x00")); err != nil {
		return 0, err
	}
	if err := u.Flush(); err != nil {
		return 0, err
	}
	end := pg.LSN(math.MaxUint64)
	for {
		kind, size, err := header(u)
		if err != nil {
			return 0, err
		}
		if kind == pgwire.DataRow {
			row, err := u.Peek(min(5+size, 1024))
			if err != nil {
				return 0, err
			}
			if l, err := pg.ParseLSN(firstColumn(row)); err == nil {
				end = l
			}
		}
		if _, err := u.Discard(5 + size); err != nil {
			return 0, err
		}
		if kind == pgwire.ReadyForQuery {
			return end, nil
		}
	}
}

// hear takes a line that pg_rewind printed. Where the two parted is no place to begin:
// recovery replays from the redo of the last checkpoint before it.
func (v *sieve) hear(line string) {
	_, rest, found := strings.Cut(line, "rewinding from last common checkpoint at ")
	if !found {
		return
	}
	var at string
	var tl pg.Timeline
	var from pg.LSN
	if _, err := fmt.Sscanf(rest, "%s on timeline %d", &at, &tl); err == nil {
		if l, err := pg.ParseLSN(at); err == nil {
			from, _ = redoOf(v.wal, v.segment, tl, l)
		}
	}
	select {
	case v.begin <- from:
	default:
	}
}

// redoOf reads where recovery from the checkpoint whose record is at l begins; 0 with an error.
func redoOf(wal string, segment uint64, tl pg.Timeline, l pg.LSN) (pg.LSN, error) {
	names, err := walNames(filepath.Dir(wal))
	if err != nil {
		return 0, err
	}
	w := &walReader{dir: wal, names: names, segment: segment, timeline: tl}
	defer w.close()
	if _, _, err := w.record(l, 0); err != nil {
		return 0, err
	}
	// Its data are one block: type 1 | length 1 or 4 | redo 8 … (XLogRecordDataHeader, CheckPoint).
	const short, long = 255, 254
	b := w.body[walRecord:]
	info := w.body[16] & 0xF0
	switch {
	case w.body[17] != 0 || info != 0x00 && info != 0x10: // XLOG_CHECKPOINT_SHUTDOWN, XLOG_CHECKPOINT_ONLINE
	case len(b) >= 2+8 && b[0] == short:
		return pg.LSN(binary.LittleEndian.Uint64(b[2:])), nil
	case len(b) >= 5+8 && b[0] == long:
		return pg.LSN(binary.LittleEndian.Uint64(b[5:])), nil
	}
	return 0, fmt.Errorf("no checkpoint at %s", l)
}
