// Package server is the PostgreSQL that is backed up, seen from the backup: its
// control file, and one connection on which a backup begins and ends.
//
// PostgreSQL ends a backup whose connection is lost, so a backup that dies
// leaves the server as it was.
package server

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"howdah/backup/repo"
	"howdah/pg"
)

// A Server is where PostgreSQL is and how it is reached.
type Server struct {
	Path     string // data directory
	Socket   string // directory of its socket; "": the system's default
	Port     int
	User     string // "": the user that this process runs as
	Database string
}

// ReadControl reads global/pg_control. The server replaces it by one write
// that a reader may see half done: the checksum tells.
func ReadControl(path string) (c repo.Control, err error) {
	for range 5 {
		var raw []byte
		if raw, err = os.ReadFile(filepath.Join(path, "global", "pg_control")); err != nil {
			return repo.Control{}, err
		}
		if c, err = repo.ParseControl(raw); err == nil {
			return c, nil
		}
	}
	return repo.Control{}, err
}

// A Conn is a session with the server.
type Conn struct {
	pg      *pgconn.PgConn
	Control repo.Control
	Version int // server_version_num
	Standby bool
	Segment int64 // bytes of a WAL segment

	ArchiveMode    string
	ArchiveCommand string

	prepared string // as the unnamed statement
	begin    Begin  // of the backup that a standby is good for
}

// Connect opens a session, and proves that the server is the one whose data
// directory is configured.
func (s Server) Connect(ctx context.Context) (*Conn, error) {
	c, err := pgconn.ParseConfig("")
	if err != nil {
		return nil, err
	}
	if s.Socket != "" {
		c.Host = s.Socket
	} else if !strings.HasPrefix(c.Host, "/") {
		c.Host = "/var/run/postgresql"
	}
	c.Port, c.Database = uint16(s.Port), s.Database
	if s.User != "" {
		c.User = s.User
	}
	c.TLSConfig, c.Fallbacks = nil, nil
	c.RuntimeParams = map[string]string{"application_name": "pgBackRest", "search_path": "pg_catalog", "client_encoding": "UTF8", "max_parallel_workers_per_gather": "0", "statement_timeout": "0", "idle_in_transaction_session_timeout": "0"}
	ctx2, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	conn, err := pgconn.ConnectConfig(ctx2, c)
	if err != nil {
		return nil, repo.Errorf(repo.DBConnect, "unable to connect to '%s' on port %d: %w", c.Host, s.Port, err)
	}
	k := &Conn{pg: conn}
	if err := k.look(ctx, s); err != nil {
		k.Close()
		return nil, err
	}
	return k, nil
}

func (k *Conn) look(ctx context.Context, s Server) error {
	row, err := k.row(ctx, `select current_setting('server_version_num'), pg_is_in_recovery()::text, current_setting('data_directory'),
		current_setting('archive_mode'), current_setting('archive_command'),
		(select setting::int8 * case unit when '8kB' then 8192 else 1 end from pg_settings where name = 'wal_segment_size')::text`)
	if err != nil {
		return err
	}
	k.Version, _ = strconv.Atoi(row[0])
	k.Standby, k.ArchiveMode, k.ArchiveCommand = row[1] == "true", row[3], row[4]
	k.Segment, _ = strconv.ParseInt(row[5], 10, 64)
	if same(row[2], s.Path) != nil {
		return repo.Errorf(repo.DBMismatch, "version '%d' and path '%s' queried from cluster do not match the configured path '%s'", k.Version/10000, row[2], s.Path)
	}
	k.Control, err = ReadControl(s.Path)
	if err == nil && strconv.Itoa(k.Version/10000) != k.Control.DB.Version {
		err = repo.Errorf(repo.DBMismatch, "the server has version %d, its data directory %s", k.Version/10000, k.Control.DB.Version)
	}
	return err
}

// same says whether two paths are one directory.
func same(a, b string) error {
	x, err := os.Stat(a)
	if err != nil {
		return err
	}
	y, err := os.Stat(b)
	if err != nil {
		return err
	}
	if !os.SameFile(x, y) {
		return errors.New("another directory")
	}
	return nil
}

// Close ends the session.
func (k *Conn) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_ = k.pg.Close(ctx)
}

// rows runs one statement.
func (k *Conn) rows(ctx context.Context, sql string, args ...string) ([][]string, error) {
	params := make([][]byte, len(args))
	for i, a := range args {
		params[i] = []byte(a)
	}
	r := k.pg.ExecParams(ctx, sql, params, nil, nil, nil).Read()
	if r.Err != nil {
		return nil, repo.Errorf(repo.DBQuery, "unable to execute query '%s': %w", sql, r.Err)
	}
	all := make([][]string, 0, len(r.Rows))
	for _, row := range r.Rows {
		one := make([]string, len(row))
		for i, v := range row {
			one[i] = string(v)
		}
		all = append(all, one)
	}
	return all, nil
}

func (k *Conn) row(ctx context.Context, sql string, args ...string) ([]string, error) {
	all, err := k.rows(ctx, sql, args...)
	if err == nil && len(all) != 1 {
		err = repo.Errorf(repo.DBQuery, "query '%s' returned %d rows", sql, len(all))
	}
	if err != nil {
		return nil, err
	}
	return all[0], nil
}

// often is row for a statement that is asked again and again: the server plans it
// once.
func (k *Conn) often(ctx context.Context, sql string) ([]string, error) {
	if k.prepared != sql {
		if _, err := k.pg.Prepare(ctx, "", sql, nil); err != nil {
			return nil, repo.Errorf(repo.DBQuery, "unable to prepare '%s': %w", sql, err)
		}
		k.prepared = sql
	}
	r := k.pg.ExecPrepared(ctx, "", nil, nil, nil).Read()
	if r.Err != nil || len(r.Rows) != 1 {
		return nil, repo.Errorf(repo.DBQuery, "unable to execute query '%s' (%d rows): %w", sql, len(r.Rows), r.Err)
	}
	row := make([]string, len(r.Rows[0]))
	for i, v := range r.Rows[0] {
		row[i] = string(v)
	}
	return row, nil
}

// advisory is the key that every pgBackRest locks while it makes a backup.
const advisory = "12340078987004321"

// Exclude keeps every other backup of the cluster away while the session lasts.
func (k *Conn) Exclude(ctx context.Context) error {
	row, err := k.row(ctx, "select pg_try_advisory_lock("+advisory+")::text")
	if err == nil && row[0] != "true" {
		err = repo.Errorf(repo.LockAcquire, "unable to acquire pgBackRest advisory lock; is another pgBackRest process already running on this cluster?")
	}
	return err
}

// CanArchive says whether the server archives as a backup needs it.
func (k *Conn) CanArchive(command bool) error {
	switch {
	case k.ArchiveMode == "off":
		return repo.Errorf(repo.ArchiveDisabled, "archive_mode must be enabled")
	case k.ArchiveMode == "always":
		return repo.Errorf(repo.FeatureUnsupported, "archive_mode=always not supported")
	case command && !strings.Contains(k.ArchiveCommand, "pgbackrest"):
		return repo.Errorf(repo.ArchiveCommand, "archive_command '%s' must contain pgbackrest", k.ArchiveCommand)
	}
	return nil
}

// A Position is a place in the log, and the segment that holds it.
type Position struct {
	LSN     pg.LSN
	Segment string
}

// Start begins a backup and returns where it begins, and the segment in which
// the server wrote before: it is complete now.
func (k *Conn) Start(ctx context.Context, label string, fast bool) (begin Position, before string, err error) {
	row, err := k.row(ctx, "select pg_walfile_name(pg_current_wal_insert_lsn())")
	if err != nil {
		return begin, "", err
	}
	before = row[0]
	call := "pg_backup_start($1, $2)"
	if k.Version < 150000 {
		call = "pg_start_backup($1, $2, false)"
	}
	row, err = k.row(ctx, "select lsn::text, pg_walfile_name(lsn) from "+call+" as lsn", label, strconv.FormatBool(fast))
	if err != nil {
		return begin, "", err
	}
	if begin, err = position(row); err != nil {
		return begin, "", err
	}
	if begin.Segment == before {
		if _, err := k.row(ctx, "select pg_switch_wal()::text"); err != nil {
			return begin, "", err
		}
	}
	return begin, before, nil
}

func position(row []string) (Position, error) {
	lsn, err := pg.ParseLSN(row[0])
	return Position{lsn, row[1]}, err
}

// A Begin is where the backup of a primary began, as its standbys need it.
type Begin struct {
	LSN        pg.LSN // replay of the backup begins there
	Checkpoint pg.LSN // the record that says so
	Timeline   pg.Timeline
	DB         repo.DB
	Wait       time.Duration // for a standby that makes no progress
}

// Reach waits until a standby has replayed where a backup began, and has all that
// comes before it in its files.
func (k *Conn) Reach(ctx context.Context, begin Begin) error {
	if !k.Standby || !k.Control.DB.Same(begin.DB) {
		return repo.Errorf(repo.DBMismatch, "it is no standby of the server that is backed up")
	}
	k.begin = begin
	if _, err := k.Follows(ctx); err != nil {
		return err
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	// until asks again and again, as long as there is progress.
	until := func(what, sql string, target pg.LSN, over bool, then func() error) error {
		last, limit := pg.LSN(0), time.Now().Add(begin.Wait)
		for {
			row, err := k.row(ctx, sql)
			if err != nil {
				return err
			}
			at, err := pg.ParseLSN(row[0])
			if err != nil {
				return repo.Errorf(repo.ArchiveTimeout, "it does not say how far its %s is: is it a standby?", what)
			}
			if at > target || at == target && !over {
				return nil
			}
			if at > last {
				last, limit = at, time.Now().Add(begin.Wait)
			}
			if time.Now().After(limit) {
				return repo.Errorf(repo.ArchiveTimeout, "timeout before standby %s reached %s - only reached %s", what, target, at)
			}
			if err := then(); err != nil {
				return err
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
	}
	if err := until("replay", "select coalesce(pg_last_wal_replay_lsn()::text, '')", begin.Checkpoint, true, func() error { return nil }); err != nil {
		return err
	}
	// A restart point writes what was replayed before the newest checkpoint record.
	return until("checkpoint", "select redo_lsn::text from pg_control_checkpoint()", begin.LSN, false, func() error {
		_, err := k.rows(ctx, "checkpoint")
		return err
	})
}

// Follows says how far a standby has replayed; an error if it is none any more, or
// follows another timeline than the one on which the backup began.
func (k *Conn) Follows(ctx context.Context) (pg.LSN, error) {
	row, err := k.row(ctx, `select pg_is_in_recovery()::text, coalesce(pg_last_wal_replay_lsn()::text, '0/0'), min_recovery_end_timeline::text,
		coalesce((select received_tli::text from pg_stat_wal_receiver where status = 'streaming'), '0') from pg_control_recovery()`)
	if err != nil {
		return 0, err
	}
	if row[0] != "true" {
		return 0, repo.Errorf(repo.DBMismatch, "it was promoted")
	}
	for _, text := range row[2:] {
		if t, _ := strconv.ParseUint(text, 10, 32); t > uint64(k.begin.Timeline) {
			return 0, repo.Errorf(repo.DBMismatch, "it follows timeline %d, the server that is backed up is on %d", t, k.begin.Timeline)
		}
	}
	return pg.ParseLSN(row[1])
}

// An End is what the server says when a backup ends.
type End struct {
	Position
	Label string // backup_label
	Map   string // tablespace_map; "" without tablespaces
	Time  int64  // the server's clock
}

// Stop ends the backup. That its WAL is archived is for the caller to see.
func (k *Conn) Stop(ctx context.Context) (End, error) {
	call := "pg_backup_stop(false)"
	if k.Version < 150000 {
		call = "pg_stop_backup(false, false)"
	}
	row, err := k.row(ctx, "select lsn::text, pg_walfile_name(lsn), labelfile, coalesce(spcmapfile, ''), extract(epoch from clock_timestamp())::int8::text from "+call)
	if err != nil {
		return End{}, err
	}
	p, err := position(row)
	at, _ := strconv.ParseInt(row[4], 10, 64)
	return End{p, row[2], row[3], at}, err
}

// Timeline is the one that the server writes.
func (k *Conn) Timeline(ctx context.Context) (pg.Timeline, error) {
	row, err := k.row(ctx, "select pg_walfile_name(pg_current_wal_insert_lsn())")
	if err != nil {
		return 0, err
	}
	t, err := strconv.ParseUint(row[0][:8], 16, 32)
	return pg.Timeline(t), err
}

// Flushed is how far the server's log is on disk, of a standby what it has
// received; zero while that receives nothing.
func (k *Conn) Flushed(ctx context.Context) (of pg.Timeline, lsn pg.LSN, err error) {
	if k.Standby {
		row, err := k.often(ctx, `select pg_is_in_recovery()::text, coalesce(received_tli, 0)::text, coalesce(flushed_lsn::text, '')
			from (select) one left join pg_stat_wal_receiver on true`)
		if err != nil {
			return 0, 0, err
		}
		if row[0] == "true" {
			t, _ := strconv.ParseUint(row[1], 10, 32) // a number of the server's
			if t == 0 || row[2] == "" {
				return 0, 0, nil
			}
			lsn, err := pg.ParseLSN(row[2])
			return pg.Timeline(t), lsn, err
		}
		k.Standby = false // it was promoted
	}
	row, err := k.often(ctx, "select lsn::text, pg_walfile_name(lsn) from (select pg_current_wal_flush_lsn() as lsn offset 0) one")
	if err != nil {
		return 0, 0, err
	}
	t, err := strconv.ParseUint(row[1][:8], 16, 32)
	if err != nil {
		return 0, 0, err
	}
	lsn, err = pg.ParseLSN(row[0])
	return pg.Timeline(t), lsn, err
}

// Behind is how far a standby that streams from this server is behind, in bytes of log.
type Behind struct {
	Name          string
	Flush, Replay int64
}

// Behind says how far each is. Who streams for a base backup, or takes changes out of
// the log, is no standby.
func (k *Conn) Behind(ctx context.Context) ([]Behind, error) {
	rows, err := k.rows(ctx, `select r.application_name, greatest(pg_wal_lsn_diff(pg_current_wal_flush_lsn(), r.flush_lsn), 0)::bigint::text, greatest(pg_wal_lsn_diff(pg_current_wal_flush_lsn(), r.replay_lsn), 0)::bigint::text
		from pg_catalog.pg_stat_replication r left join pg_catalog.pg_replication_slots s on s.active_pid = r.pid
		where r.state = 'streaming' and r.replay_lsn is not null and s.slot_type is distinct from 'logical'`)
	var all []Behind
	for _, row := range rows {
		b := Behind{Name: row[0]}
		b.Flush, _ = strconv.ParseInt(row[1], 10, 64)
		b.Replay, _ = strconv.ParseInt(row[2], 10, 64)
		all = append(all, b)
	}
	return all, err
}

// Switch ends the current segment, and returns its name.
func (k *Conn) Switch(ctx context.Context, point string) (string, error) {
	if _, err := k.row(ctx, "select pg_create_restore_point($1)::text", point); err != nil {
		return "", err
	}
	row, err := k.row(ctx, "select pg_walfile_name(pg_switch_wal())")
	if err != nil {
		return "", err
	}
	return row[0], nil
}

// Flush commits a transaction of its own, ends the segment that has it, and
// returns where the log stood and the segment's name.
func (k *Conn) Flush(ctx context.Context) (lsn, segment string, err error) {
	// What a standby does not confirm is archived all the same: nobody waits for it.
	if _, err := k.rows(ctx, "set synchronous_commit = local"); err != nil {
		return "", "", err
	}
	call := "pg_current_xact_id()"
	if k.Version < 130000 {
		call = "txid_current()"
	}
	if _, err := k.row(ctx, "select "+call+"::text"); err != nil { // an xid is given, so its commit is logged
		return "", "", err
	}
	row, err := k.row(ctx, "select pg_current_wal_insert_lsn()::text")
	if err != nil {
		return "", "", err
	}
	lsn = row[0]
	if row, err = k.row(ctx, "select pg_walfile_name(pg_switch_wal())"); err != nil {
		return "", "", err
	}
	return lsn, row[0], nil
}

// Databases lists those of the cluster.
func (k *Conn) Databases(ctx context.Context) ([]repo.Database, error) {
	// datlastsysoid is gone since 15; pgBackRest puts template0's oid there.
	rows, err := k.rows(ctx, "select datname, oid::text, (select oid::text from pg_database where datname = 'template0') from pg_database order by datname collate \"C\"")
	var all []repo.Database
	for _, r := range rows {
		d := repo.Database{Name: r[0]}
		d.OID, _ = strconv.ParseInt(r[1], 10, 64)
		d.LastOID, _ = strconv.ParseInt(r[2], 10, 64)
		all = append(all, d)
	}
	return all, err
}

// Tablespaces returns the names of tablespaces by oid.
func (k *Conn) Tablespaces(ctx context.Context) (map[string]string, error) {
	rows, err := k.rows(ctx, "select oid::text, spcname from pg_tablespace")
	all := map[string]string{}
	for _, r := range rows {
		all[r[0]] = r[1]
	}
	return all, err
}
