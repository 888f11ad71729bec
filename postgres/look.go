package postgres

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"howdah/pg"
	"howdah/postgres/conf"
	"howdah/problem"
)

// queryTime bounds every question of Look: a server that cannot answer in this
// time is one that does not answer.
const queryTime = time.Second

// Look says what can be seen now. It costs a few milliseconds when the server
// is well, and never hangs when it is not: what did not answer is zero.
func (s *Server) Look(ctx context.Context) pg.Status {
	s.look.Lock()
	defer s.look.Unlock()
	st := pg.Status{Process: pg.ProcessNone, Copied: s.copied(), Shut: Shut(s.node), Refused: int64(s.refusal()), Major: s.programs.Major}
	st.Ours, _ = s.noted(logicalFile)
	var err error
	st.Data, err = s.dataState()
	st.Problem = problem.Plain(err)
	if c, err := readControl(s.data); err == nil && st.Data == pg.DataPresent {
		st.Control = c.Control
		st.Timeline, st.Flushed = c.Timeline, c.Checkpoint
		if c.MinEnd > st.Flushed {
			st.Timeline, st.Flushed = c.MinEndTL, c.MinEnd
		}
		_, st.Free, st.Size = s.tightest()
		st.Problem = problem.Plain(s.crowded(int64(c.segment)))
	}
	p, running := Postmaster(s.data)
	if !running || doomed(p.PID) {
		if died := s.diedAt.Load(); died != nil {
			st.Gone = time.Since(*died)
		}
		s.hangUp()
		st.Standby = s.signalled()
		if last := s.look.ending; last.goes() {
			// Its pid file is the last thing but one that a postmaster puts away (miscinit.c):
			// it still ends, and is nobody's remains.
			st.PID, st.Started, st.Process = last.PID, last.Started, pg.ProcessStopping
			if c, err := readControl(s.data); err == nil {
				st.Control = c.Control
			}
			return st
		}
		all, err := holders(s.data)
		if err != nil || slices.ContainsFunc(all, func(h holder) bool { return !doomed(h.PID) }) {
			st.Process = pg.ProcessRemains
			if f, ok := readPIDFile(s.data); ok && f.pid < 0 {
				st.Process = pg.ProcessStopping // a crash recovery in single-user mode: it ends by itself
			}
		}
		if st.Data == pg.DataPresent && st.Problem.Code == "" {
			st.Problem = problem.Plain(s.Check())
		}
		return st
	}
	st.Standby = s.signalled()
	s.watch(p)
	st.PID, st.Started = p.PID, p.Started
	if stat, ok := readStat(p.PID); ok && stat.stopped() {
		st.Process = pg.ProcessFrozen
		return st
	}
	switch f, _ := readPIDFile(s.data); f.status {
	case "ready":
		st.Process = pg.ProcessRunning
	case "stopping":
		st.Process, s.look.ending = pg.ProcessStopping, p
		if c, err := readControl(s.data); err == nil { // what was read before may be of a life before this one
			st.Control = c.Control
		}
	default:
		st.Process = pg.ProcessStarting
		return st // not even the superuser is let in
	}
	if s.look.of.PID != p.PID || s.look.of.Ticks != p.Ticks {
		s.hangUp()
		s.look.of, s.look.received, s.look.loaded, s.look.commitsAt = p, 0, "", time.Time{}
	}
	answered := st
	if s.ask(ctx, &answered) {
		return answered
	}
	return st
}

// signalled says that standby.signal is there. It is looked for after the
// process: Start puts it before there is one, and a promotion takes it away, so
// that a server seen with it was a standby when it was seen, and one that begins
// as a standby is never taken for a primary.
func (s *Server) signalled() bool {
	_, err := os.Lstat(s.in("standby.signal"))
	return err == nil
}

func (s *Server) hangUp() {
	if s.look.conn != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		_ = s.look.conn.Close(ctx)
		cancel()
		s.look.conn = nil
	}
}

// facts is everything in one round trip. Functions of a primary fail on a
// standby and the other way round, so each is asked only where it is right;
// should a promotion fall between, the whole question fails and is asked again.
//
// Log that is not flushed is no news: nobody asks for what an open transaction has
// written. Whole pages are flushed by the WAL writer several times a second
// (XLogBackgroundFlush), and for less somebody may wait; the header of a page that was
// just begun (64 bytes at most) is nobody's.
//
// The views over sessions would wait for a lock on the roles, which they name; what they
// are made of does not, so that a server that lets nobody in for it still answers us.
const facts = `
SELECT pg_is_in_recovery(), current_setting('server_version_num'), pg_conf_load_time(),
  CASE WHEN pg_is_in_recovery() THEN greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) ELSE pg_current_wal_flush_lsn() END,
  CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() END,
  CASE WHEN pg_is_in_recovery() THEN (extract(epoch FROM pg_last_xact_replay_timestamp()) * 1000000)::bigint END,
  CASE WHEN NOT pg_is_in_recovery() THEN ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::int END,
  current_setting('primary_conninfo'), current_setting('primary_slot_name'),
  CASE WHEN pg_is_in_recovery() THEN pg_is_wal_replay_paused() END, current_setting('synchronous_standby_names'),
  CASE WHEN NOT pg_is_in_recovery() AND pg_current_wal_insert_lsn() - pg_current_wal_flush_lsn() > 64 THEN
    pg_current_wal_insert_lsn() - pg_current_wal_flush_lsn() > 16384
    OR EXISTS (SELECT FROM pg_stat_get_activity(NULL) WHERE lower(wait_event) IN ('walsync', 'walwrite')) END;
SELECT status, received_tli, (extract(epoch FROM clock_timestamp() - last_msg_receipt_time) * 1000000)::bigint FROM pg_stat_wal_receiver WHERE pid IS NOT NULL;
SELECT a.application_name, s.state, flush_lsn, replay_lsn, sync_state, pg_get_userbyid(usesysid), host(client_addr), sync_priority FROM pg_stat_get_activity(NULL) a JOIN pg_stat_get_wal_senders() s USING (pid) ORDER BY 1, pid;
SELECT slot_name, restart_lsn IS NULL AND NOT active AND wal_status IS DISTINCT FROM 'lost', slot_type, database, plugin,
  CASE slot_type WHEN 'logical' THEN confirmed_flush_lsn ELSE restart_lsn END, catalog_xmin, active,
  wal_status = 'lost' OR j->>'conflicting' = 'true' OR j->>'invalidation_reason' IS NOT NULL, j->>'failover', j->>'synced'
FROM pg_replication_slots s, to_jsonb(s) j WHERE NOT temporary ORDER BY 1` // through j: columns that only later versions have

// commits are those that wait for standbys, of clients, and the settings of roles and
// databases by which some do not. It waits for no lock on the roles either.
const commits = `
SELECT count(*), coalesce((extract(epoch FROM max(clock_timestamp() - state_change)) * 1000)::bigint, 0)
FROM pg_stat_get_activity(NULL) WHERE wait_event = 'SyncRep' AND application_name <> 'howdah agent';
SELECT coalesce(d.datname, ''), CASE setrole WHEN 0 THEN '' ELSE pg_get_userbyid(setrole) END, split_part(c, '=', 2),
  EXISTS (SELECT FROM pg_stat_get_activity(NULL) a WHERE a.backend_type = 'client backend' AND (setdatabase = 0 OR a.datid = setdatabase) AND (setrole = 0 OR a.usesysid = setrole))
FROM pg_db_role_setting CROSS JOIN unnest(setconfig) c LEFT JOIN pg_database d ON d.oid = setdatabase
WHERE c LIKE 'synchronous_commit=%' ORDER BY 1, 2`

// laxServer is the whole server's setting, as its files have it: our own sessions
// do not go by it.
const laxServer = `SELECT setting FROM pg_file_settings WHERE name = 'synchronous_commit' AND applied ORDER BY seqno DESC LIMIT 1`

// lax says that a value of synchronous_commit waits for no standby's flush.
func lax(value string) bool {
	switch strings.ToLower(value) {
	case "off", "false", "no", "0", "local", "remote_write":
		return true
	}
	return false
}

// commitsEvery is the least time between two looks at the commits that wait.
const commitsEvery = time.Second

// waiting is how commits fare that wait for standbys.
func (s *Server) waiting(ctx context.Context) pg.Commits {
	if time.Since(s.look.commitsAt) < commitsEvery {
		return s.look.commits
	}
	all, err := s.look.conn.Exec(ctx, commits).ReadAll()
	if err != nil || len(all) != 2 || len(all[0].Rows) != 1 {
		return s.look.commits
	}
	c := pg.Commits{Waiting: number(string(all[0].Rows[0][0])), Longest: time.Duration(number(string(all[0].Rows[0][1]))) * time.Millisecond}
	if lax(s.look.lax) {
		c.Lax = append(c.Lax, pg.Lax{Value: s.look.lax, InUse: true})
	}
	for _, r := range all[1].Rows {
		if l := (pg.Lax{Database: string(r[0]), Role: string(r[1]), Value: string(r[2]), InUse: string(r[3]) == "t"}); lax(l.Value) {
			c.Lax = append(c.Lax, l)
		}
	}
	s.look.commits, s.look.commitsAt = c, time.Now()
	return c
}

// pending are the settings that wait for a restart. The file's last word counts;
// a setting that has left the file goes back to its default.
const pending = `
SELECT s.name, current_setting(s.name), coalesce((SELECT f.setting FROM pg_file_settings f WHERE f.name = s.name ORDER BY f.seqno DESC LIMIT 1), s.boot_val)
FROM pg_settings s WHERE s.pending_restart ORDER BY 1`

// ask fills in what only the server knows, and says whether it answered.
func (s *Server) ask(ctx context.Context, st *pg.Status) bool {
	ctx, cancel := context.WithTimeout(ctx, queryTime)
	defer cancel()
	for range 2 { // the standing connection may have died since, or a promotion fell between
		var err error
		if s.look.conn == nil || s.look.conn.IsClosed() {
			if st.Process == pg.ProcessStopping {
				return false // it lets nobody in any more, and would begin a process to say so
			}
			s.look.conn, err = s.connect(ctx, map[string]string{
				"statement_timeout": strconv.FormatInt(queryTime.Milliseconds(), 10),
			})
			if err != nil {
				s.look.conn = nil
				return false
			}
		}
		var all []*pgconn.Result
		if all, err = s.look.conn.Exec(ctx, facts).ReadAll(); err == nil && len(all) == 4 {
			s.fill(ctx, st, all)
			return true
		}
		if ctx.Err() != nil {
			s.hangUp()
			return false
		}
	}
	return false
}

func (s *Server) fill(ctx context.Context, st *pg.Status, all []*pgconn.Result) {
	if len(all[0].Rows) != 1 {
		return
	}
	row := all[0].Rows[0]
	st.ReplayPaused, st.SyncNames, st.Unflushed = string(row[9]) == "t", string(row[10]), string(row[11]) == "t"
	st.Answers = true
	st.Recovering = string(row[0]) == "t"
	st.Version, _ = strconv.Atoi(string(row[1]))
	st.Flushed, st.Replayed = lsn(row[3]), lsn(row[4])
	if us, err := strconv.ParseInt(string(row[5]), 10, 64); err == nil {
		st.Replaying = time.UnixMicro(us)
	}
	st.Timeline = 0
	if st.Recovering {
		if host, port := conf.HostPort(string(row[7])); host != "" {
			st.Upstream = net.JoinHostPort(host, port) // as pg.Upstream.Addr
		}
		st.Slot = string(row[8])
		for _, r := range all[1].Rows {
			st.Streaming, st.Silence = string(r[0]) == "streaming", max(0, time.Duration(number(string(r[2])))*time.Microsecond)
			if tl := timeline(r[1]); tl > s.look.received {
				s.look.received = tl
			}
		}
		st.Timeline = max(s.look.received, s.timelineAt(st.Flushed), st.Control.Timeline, st.Control.MinEndTL)
		st.History = s.history(st.Timeline)
	} else {
		st.Timeline = timeline(row[6])
		st.History = s.history(st.Timeline)
	}
	for _, r := range all[2].Rows {
		priority, _ := strconv.Atoi(string(r[7]))
		st.Replicas = append(st.Replicas, pg.Replica{
			Name: string(r[0]), State: string(r[1]), Flushed: lsn(r[2]), Replayed: lsn(r[3]), SyncState: string(r[4]),
			User: string(r[5]), Client: string(r[6]), SyncPriority: priority,
		})
	}
	for _, r := range all[3].Rows {
		xmin, _ := strconv.ParseUint(string(r[6]), 10, 32)
		slot := pg.Slot{
			Name: string(r[0]), Logical: string(r[2]) == "logical", Database: string(r[3]), Plugin: string(r[4]),
			At: lsn(r[5]), Xmin: uint32(xmin), Active: string(r[7]) == "t", Lost: string(r[8]) == "t",
			Failover: string(r[9]) == "true", Synced: string(r[10]) == "true",
		}
		st.Held = append(st.Held, slot)
		if slot.Logical {
			continue
		}
		st.Slots = append(st.Slots, slot.Name)
		if string(r[1]) == "t" {
			st.Spare = append(st.Spare, slot.Name)
		}
	}
	// pg_settings is a walk through everything: only after a reload.
	if loaded := string(row[2]); loaded != s.look.loaded {
		res, err := s.look.conn.Exec(ctx, pending).ReadAll()
		if err == nil && len(res) == 1 {
			s.look.loaded, s.look.pending = loaded, nil
			for _, r := range res[0].Rows {
				s.look.pending = append(s.look.pending, pg.Pending{Name: string(r[0]), Old: string(r[1]), New: string(r[2])})
			}
			if st.Recovering {
				s.larger(ctx)
			}
			s.look.lax = ""
			if res, err := s.look.conn.Exec(ctx, laxServer).ReadAll(); err == nil && len(res) == 1 && len(res[0].Rows) == 1 {
				s.look.lax = string(res[0].Rows[0][0])
			}
		}
	}
	if !st.Recovering && st.SyncNames != "" {
		st.Commits = s.waiting(ctx)
	}
	if !st.Recovering {
		st.Logins = s.known(s.look.of, func(long time.Duration) bool {
			all, err := s.look.conn.Exec(ctx, others+strconv.FormatInt(long.Milliseconds(), 10)+")").ReadAll()
			return err == nil && len(all) == 1 && len(all[0].Rows) == 1 && string(all[0].Rows[0][0]) == "t"
		})
	}
	st.Pending = s.look.pending
	if p, ok := minor(st.Version, s.look.programs.look(s.programs.Bin)); ok {
		st.Pending = withPending(st.Pending, p)
	}
	st.Restart = len(st.Pending) > 0
}

// larger adds the settings that this standby must have as large as its primary
// had them, though its node asks for less.
func (s *Server) larger(ctx context.Context) {
	s.own.Lock()
	raised := maps.Clone(s.own.raised)
	s.own.Unlock()
	for _, name := range slices.Sorted(maps.Keys(raised)) {
		if slices.ContainsFunc(s.look.pending, func(p pg.Pending) bool { return p.Name == name }) {
			continue
		}
		res, err := s.look.conn.Exec(ctx, "SELECT setting, boot_val FROM pg_settings WHERE name = "+pg.QuoteLiteral(name)).ReadAll()
		if err != nil || len(res) != 1 || len(res[0].Rows) != 1 {
			continue
		}
		now, want := string(res[0].Rows[0][0]), cmp.Or(raised[name], string(res[0].Rows[0][1]))
		if a, b := number(now), number(want); a > b {
			s.look.pending = append(s.look.pending, pg.Pending{Name: name, Old: now, New: want})
		}
	}
}

func number(text string) int {
	n, _ := strconv.Atoi(text)
	return n
}

// history is the ancestry of the server's timeline, from its history file, which is
// written once and never changed: by a promotion, or by a standby before it takes log
// of that timeline.
func (s *Server) history(tl pg.Timeline) pg.History {
	if s.look.history.of == tl {
		return s.look.history.lines
	}
	text, err := os.ReadFile(filepath.Join(s.data, "pg_wal", tl.HistoryFile()))
	if err != nil && !(errors.Is(err, fs.ErrNotExist) && tl == 1) {
		return nil // not known: asked again at the next look
	}
	lines, err := pg.ParseHistory(string(text))
	if err != nil {
		return nil
	}
	s.look.history.of, s.look.history.lines = tl, lines
	return lines
}

// timelineAt returns the newest timeline that has a log segment with the last
// byte before l. A standby whose receiver is gone, or whose agent is new, says
// nowhere else which timeline the log that it received is on; segments written
// ahead carry later names and do not deceive.
func (s *Server) timelineAt(l pg.LSN) pg.Timeline {
	c, err := readControl(s.data)
	if err != nil || l == 0 {
		return 0
	}
	names, err := walNames(s.data)
	if err != nil {
		return 0
	}
	suffix := pg.Timeline(1).Segment(l-1, c.segment)[8:]
	for _, name := range slices.Backward(names) {
		if len(name) == 24 && strings.HasSuffix(name, suffix) {
			tl, _ := strconv.ParseUint(name[:8], 16, 32)
			return pg.Timeline(tl)
		}
	}
	return 0
}

func lsn(text []byte) pg.LSN {
	l, _ := pg.ParseLSN(string(text))
	return l
}

func timeline(text []byte) pg.Timeline {
	n, _ := strconv.ParseUint(string(text), 10, 32)
	return pg.Timeline(n)
}
