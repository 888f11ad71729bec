package pooler

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sys/unix"

	"howdah/access/pool"
	"howdah/pg"
)

// A COMMIT whose answer is lost may be in the log or not. To tell, its transaction
// must be known by name beforehand: right before the COMMIT its server is asked for
// that (name), and made to write a record of the transaction with a token of ours into
// the log. Whoever leads afterwards is asked (Judge):
//
//  1. Its log has the token at that place. So it has replayed a record of that
//     transaction, and never given its number to another: without this a number
//     that the lost server had used and never sent may be somebody else's by now.
//  2. pg_xact_status of the number: committed, or not.
//  3. A commit of ours behind both is acknowledged, by standbys too where those are
//     waited for. The log is replicated in order: what was found stays.
//
// Only then is the client told. Everything else is unknown (08007).

// A Doubt is a transaction whose COMMIT was sent and not answered.
type Doubt struct {
	XID   string // pg_current_xact_id; "": it has written nothing so far
	At    pg.LSN // end of the record with the token
	Token string
}

// A Fate is what became of a transaction.
type Fate uint8

// Fates. Lost is for ever: no later leader has it.
const (
	Unknown Fate = iota
	Committed
	Lost
)

// String is what the log says.
func (f Fate) String() string { return [...]string{"unknown", "committed", "lost"}[f] }

// fateWithin is how long a client waits to hear what became of her COMMIT, where
// the door does not say how long she would for a server.
const fateWithin = 10 * time.Second

const (
	tokenBytes = 16
	prefix     = "howdah" // of the message in the log; logical decoding shows it to who asks for messages
)

// nameQuery has a transaction that has written something write a token, and tell
// its number and the place. The token stands there twice: the header of a page of the
// log can tear only one of them.
func nameQuery(token string) string {
	return "SELECT x, CASE WHEN x IS NOT NULL THEN pg_catalog.pg_logical_emit_message(true, '" + prefix +
		"', CAST('" + token + token + "' AS pg_catalog.text)) END FROM (SELECT pg_catalog.pg_current_xact_id_if_assigned() AS x) q"
}

// resolves says that COMMITs of the door's clients are told from then on by what a
// later leader knows: always, or while a change of leader is under way.
func (d *room) resolves() bool {
	return d.Fate != nil && d.Outlive && (d.course.Hold || d.Settings.ResolveCommits)
}

// seals says that a message of which body is the beginning, and n the length, begins
// the COMMIT of a transaction that has seen nothing go wrong, and can be asked for
// its name before. (The question drops the unnamed statement; a COMMIT that was
// prepared without a name is known by its Parse.)
func (c *client) seals(kind byte, body []byte, n int) bool {
	s := c.server
	if s.status != 'T' || s.named != nil || s.job != 0 || !s.asked.empty() || s.skipping || s.copying || s.left > 0 || s.pending() ||
		s.backend.Reads || c.mode == pool.Session || len(body) < n {
		return false
	}
	switch kind {
	case 'Q':
		return classOf(body[:n]) == seals
	case 'P':
		if n > 1 && body[0] == 0 {
			text, _, _ := cstring(body[1:n])
			return classOf(text) == seals
		}
	case 'B':
		if portal, name, ok := namesOfBind(body[:n]); ok && len(portal) == 0 && len(name) > 0 {
			x := c.names[string(name)]
			return x != nil && x.class == seals
		}
	}
	return false
}

// name asks the server for the name of the client's transaction; what she has said
// waits meanwhile.
func (c *client) name(head, rest []byte) {
	c.forward()
	s := c.server
	var random [tokenBytes]byte
	_, _ = rand.Read(random[:])
	s.named = &Doubt{Token: hex.EncodeToString(random[:])}
	s.job = naming
	s.asked.push(request{kind: 'Q', act: skip})
	c.pend = append(append(make([]byte, 0, headSize+len(rest)), head[:headSize]...), rest...)
	c.want(c.events&^unix.EPOLLIN | unix.EPOLLRDHUP)
	s.send([][]byte{appendMessage(nil, 'Q', nameQuery(s.named.Token))})
}

// nameIs takes the row with the name.
func (s *server) nameIs(row []byte) {
	var values [2]string
	if len(row) < 2 {
		return
	}
	row = row[2:]
	for i := range values {
		if len(row) < 4 {
			return
		}
		n := int(int32(uint32(row[0])<<24 | uint32(row[1])<<16 | uint32(row[2])<<8 | uint32(row[3])))
		row = row[4:]
		if n < 0 { // NULL
			return
		}
		if n > len(row) {
			return
		}
		values[i], row = string(row[:n]), row[n:]
	}
	if at, err := pg.ParseLSN(values[1]); err == nil {
		s.named.XID, s.named.At = values[0], at
	}
}

// cutShort says that a notice is that of a commit which was not waited for to the end: somebody has
// cancelled it. The routine is named in no language (src/backend/replication/syncrep.c).
func cutShort(notice []byte) bool {
	for len(notice) > 1 && notice[0] != 0 {
		value, rest, ok := cstring(notice[1:])
		if !ok {
			return false
		}
		if notice[0] == 'R' && string(value) == "SyncRepWaitForLSN" {
			return true
		}
		notice = rest
	}
	return false
}

// doubts is fate after such a notice: the commit that goes on to say that it went well
// did so here, and maybe nowhere else.
func (s *server) doubts(kind byte) act {
	switch {
	case kind == 'Z', kind == 'C' && !s.hushed:
		if s.unsure && !s.said {
			l := s.loop
			at := len(l.backing)
			l.backing = appendNotice(l.backing, 'E', "ERROR", unknownOutcome, "the transaction is committed here, and may be on no standby: the wait for that was cut short")
			l.back = join(l.back, l.backing[at:])
			s.said = true
		}
		if kind == 'Z' {
			return pass
		}
		r := s.asked.first()
		s.unsure, s.hushed = false, r != nil && extended(r.kind)
		return drop
	case s.hushed && kind != 'N' && kind != 'A' && kind != 'S':
		return drop
	}
	return pass
}

// A wonder is a client who waits to hear what became of her COMMIT.
type wonder struct {
	doubt Doubt
	asked queue // what the server that is gone owed
	told  bool  // all of the answer but that the server is ready
	stop  context.CancelFunc
}

// answerable says that what is owed can be answered as the server would have: of a
// COMMIT that went well everything is known.
func (q *queue) answerable() bool {
	for _, r := range q.all[q.head:] {
		if r.kind == 'D' && !r.portal || r.kind == 'F' || r.kind == 'c' {
			return false
		}
	}
	return true
}

// wonders has the client wait for what becomes known of her COMMIT.
func (c *client) wonders(w *wonder) {
	d := c.room
	limit := d.Settings.DownWait
	if limit <= 0 {
		limit = fateWithin
	}
	var ctx context.Context
	ctx, w.stop = context.WithTimeout(context.Background(), limit)
	c.wonder = w
	c.want(c.events&^unix.EPOLLIN | unix.EPOLLRDHUP)
	go func() {
		defer w.stop()
		fate := d.Fate(ctx, w.doubt)
		d.loop.post(func() { c.learns(w, fate) })
	}()
}

// learns tells the client what became of her COMMIT; on the loop.
func (c *client) learns(w *wonder, fate Fate) {
	if c.hup || c.wonder != w {
		return
	}
	c.wonder = nil
	c.room.log.Info("a commit was asked after", "client", c.String(), "xid", w.doubt.XID, "fate", fate.String())
	var b []byte
	switch fate {
	case Committed:
		b = c.consent(&w.asked, w.told)
	case Lost:
		b = c.regret(&w.asked, false, serializationFailure, "the server ended before the transaction was committed")
	default:
		b = c.regret(&w.asked, false, unknownOutcome, "the server ended before it said whether the transaction was committed")
	}
	c.deliver([][]byte{b})
	c.listen(!c.pending())
	c.retry()
}

// consent answers what was owed for a COMMIT that went well.
func (c *client) consent(asked *queue, told bool) (b []byte) {
	done := func() {
		if !told {
			b = appendMessage(b, 'C', "COMMIT")
		}
	}
	for !asked.empty() {
		r := asked.pop()
		if r.act == skip {
			continue
		}
		switch r.kind {
		case 'P':
			b = appendHead(b, '1', 0)
		case 'B':
			b = appendHead(b, '2', 0)
		case 'C':
			b = appendHead(b, '3', 0)
			if r.act == fake && r.stmt != nil {
				r.stmt.let()
			}
		case 'D':
			b = appendHead(b, 'n', 0)
		case 'E':
			done()
		case 'Q', 'S':
			if r.kind == 'Q' {
				done()
			}
			b = append(appendHead(b, 'Z', 1), 'I')
		}
	}
	return b
}

// A Judge asks a primary, as its superuser, what became of a transaction.
type Judge struct {
	Config func() *pgconn.Config // of the next connection

	mu     sync.Mutex // one question at a time
	conn   *pgconn.PgConn
	warned bool // of a wait for standbys that was cut
}

// errUndecided is no answer yet: another try may have one.
var errUndecided = errors.New("it can not be told yet")

// Ask asks once. An error, or Unknown with it, may be another answer later.
func (j *Judge) Ask(ctx context.Context, x Doubt) (Fate, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := ctx.Err(); err != nil { // others came first
		return Unknown, err
	}
	fate, err := j.ask(ctx, x)
	if err != nil && !errors.Is(err, errUndecided) {
		j.close()
	}
	return fate, err
}

func (j *Judge) ask(ctx context.Context, x Doubt) (Fate, error) {
	if j.conn == nil || j.conn.IsClosed() {
		c := j.Config()
		c.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { j.warned = j.warned || n.Code == "01000" }
		var err error
		if j.conn, err = pgconn.ConnectConfig(ctx, c); err != nil {
			return Unknown, err
		}
		if _, err = j.one(ctx, "SELECT pg_catalog.set_config('synchronous_commit', 'on', false) WHERE pg_catalog.current_setting('synchronous_commit') <> 'remote_apply'"); err != nil {
			return Unknown, err
		}
	}
	standby, err := j.one(ctx, "SELECT pg_catalog.pg_is_in_recovery()")
	if err != nil || standby != "f" {
		return Unknown, errors.Join(err, errUndecided)
	}
	fate := Unknown
	status, err := j.one(ctx, "SELECT pg_catalog.pg_xact_status('"+x.XID+"')")
	switch e, refused := errors.AsType[*pgconn.PgError](err); {
	case refused && e.Code == invalidParameter:
		fate = Lost // that number is in the future here: nothing of the transaction ever came
	case err != nil:
		return Unknown, err
	default:
		there, err := j.has(ctx, x)
		if err != nil {
			return Unknown, err
		}
		switch {
		case !there:
			return Unknown, nil
		case status == "committed":
			fate = Committed
		case status == "aborted":
			fate = Lost
		case status == "in progress": // its server lives, and is at it
			return Unknown, errUndecided
		default:
			return Unknown, nil
		}
	}
	j.warned = false
	if _, err := j.one(ctx, "SELECT pg_catalog.pg_logical_emit_message(true, '"+prefix+"', '')"); err != nil {
		return Unknown, err
	}
	if j.warned {
		return Unknown, errUndecided
	}
	return fate, nil
}

// invalidParameter is how pg_xact_status refuses a number that was not given yet.
const invalidParameter = "22023"

// tokenWindow is more than the record with the token takes, and the header of a page.
const tokenWindow = 512

// has says that the log has the token of x where it was written. Of a segment that is
// of several timelines the newest file counts: the others' ends are no part of the
// history. What lies before the flushed end is no remnant of before a crash.
func (j *Judge) has(ctx context.Context, x Doubt) (bool, error) {
	size, err := j.one(ctx, "SELECT pg_catalog.pg_size_bytes(pg_catalog.current_setting('wal_segment_size'))")
	if err != nil {
		return false, err
	}
	var segment uint64
	if _, err := fmt.Sscan(size, &segment); err != nil || segment == 0 || x.At == 0 {
		return false, fmt.Errorf("wal_segment_size %q: %w", size, errUndecided)
	}
	last := uint64(x.At) - 1
	end := last%segment + 1
	from := end - min(end, tokenWindow)
	number := last / segment
	each := uint64(1<<32) / segment
	name := fmt.Sprintf("%08X%08X", number/each, number%each)
	got, err := j.one(ctx, fmt.Sprintf(`SELECT pg_catalog.pg_current_wal_flush_lsn() >= '%s'
 AND pg_catalog.position(pg_catalog.pg_read_binary_file('pg_wal/' || f, %d, %d), pg_catalog.decode('%x', 'hex')) > 0
FROM pg_catalog.pg_ls_waldir() AS w (f, size, modified) WHERE f ~ '^[0-9A-F]{8}%s$' ORDER BY f DESC LIMIT 1`, x.At, from, end-from, x.Token, name))
	return got == "t", err
}

// one is the only value of a query; "": NULL, or no row.
func (j *Judge) one(ctx context.Context, sql string) (string, error) {
	all, err := j.conn.Exec(ctx, sql).ReadAll()
	if err != nil || len(all) == 0 || len(all[0].Rows) == 0 || len(all[0].Rows[0]) == 0 {
		return "", err
	}
	return string(all[0].Rows[0][0]), nil
}

// Close ends the connection.
func (j *Judge) Close() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.close()
}

func (j *Judge) close() {
	if j.conn == nil {
		return
	}
	ctx, stop := context.WithTimeout(context.Background(), time.Second)
	defer stop()
	_ = j.conn.Close(ctx)
	j.conn = nil
}
