// Package activity tells what the sessions of one server do now: who waits, for
// what, behind whom, and the texts of statements that metrics name by a number.
//
// The server is asked over one connection at a time, with a limit of time that
// both sides keep, and not more often than once a second however many look.
package activity

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"howdah/observe/logbook"
)

const (
	within     = 2 * time.Second // an answer, on the server's side too
	slack      = 500 * time.Millisecond
	fresh      = time.Second // an answer is given again
	most       = 200         // sessions that are told of
	mostTexts  = 64          // statements that are asked about at once
	longestSQL = 8 << 10     // bytes of a statement
)

// Now is what a server's sessions do.
type Now struct {
	At       time.Time `json:"at"`
	Sessions []Session `json:"sessions"` // that do something, or stand in somebody's way
	More     bool      `json:"more,omitempty"`
}

// A Session is one connection of a client.
type Session struct {
	PID         int     `json:"pid"` // 0: prepared transactions
	Database    string  `json:"database"`
	User        string  `json:"user"`
	Application string  `json:"application"`
	Client      string  `json:"client,omitempty"` // its address; "": the socket
	State       string  `json:"state"`
	Wait        string  `json:"wait,omitempty"`      // what for, as type:event
	Statement   string  `json:"statement,omitempty"` // number of the query
	Query       string  `json:"query,omitempty"`     // with its constants, without passwords
	InState     float64 `json:"state_s"`             // seconds in this state
	Transaction float64 `json:"transaction_s"`       // that its transaction is old
	Lock        string  `json:"lock,omitempty"`      // that it waits for
	Locked      float64 `json:"locked_s,omitempty"`  // for so long
	Behind      []int   `json:"behind,omitempty"`    // whose locks these are
}

// A Server is asked.
type Server struct {
	config *pgconn.Config
	turn   chan struct{}

	mu   sync.Mutex
	last Now
}

// ErrBusy says that an earlier question has not come to its end.
var ErrBusy = errors.New("the server has not answered an earlier question yet")

// New returns the server of a URL.
func New(url string) (*Server, error) {
	config, err := pgconn.ParseConfig(url)
	if err != nil {
		return nil, err
	}
	config.ConnectTimeout = within
	if config.RuntimeParams == nil {
		config.RuntimeParams = map[string]string{}
	}
	for name, value := range map[string]string{
		"application_name": "howdah console", "statement_timeout": strconv.FormatInt(within.Milliseconds(), 10), "lock_timeout": "500", "jit": "off",
		"default_transaction_read_only": "on", "search_path": "pg_catalog",
	} {
		config.RuntimeParams[name] = value
	}
	return &Server{config: config, turn: make(chan struct{}, 1)}, nil
}

// ask asks one thing; rows are text. Until a connection has come to its end there is
// no second one.
func (s *Server) ask(ctx context.Context, sql string, args ...string) (rows [][]string, err error) {
	return s.askIn(ctx, s.config.Database, sql, args...)
}

func (s *Server) askIn(ctx context.Context, database, sql string, args ...string) (rows [][]string, err error) {
	ctx, cancel := context.WithTimeout(ctx, within+slack)
	defer cancel()
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, ErrBusy
	}
	config := s.config.Copy()
	config.Database = database
	conn, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		<-s.turn
		return nil, err
	}
	defer func() {
		_ = conn.Close(ctx) // what was asked is known
		go func() {
			<-conn.CleanupDone()
			<-s.turn
		}()
	}()
	values := make([][]byte, len(args))
	for i, a := range args {
		values[i] = []byte(a)
	}
	r := conn.ExecParams(ctx, sql, values, nil, nil, nil).Read()
	for _, row := range r.Rows {
		texts := make([]string, len(row))
		for i, v := range row {
			texts[i] = string(v)
		}
		rows = append(rows, texts)
	}
	return rows, r.Err
}

// Who waits for a lock is asked behind whom, and nobody else: that looks through
// all locks while nobody may take one.
const sessions = `WITH waiting AS MATERIALIZED (
	SELECT pid, pg_blocking_pids(pid) AS behind FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND backend_type = 'client backend'
), holding AS MATERIALIZED (
	SELECT DISTINCT unnest(behind) AS pid FROM waiting
)
SELECT a.pid, coalesce(a.datname, ''), coalesce(a.usename, ''), coalesce(a.application_name, ''), coalesce(host(a.client_addr), ''),
       coalesce(a.state, ''), coalesce(a.wait_event_type || ':' || a.wait_event, ''), coalesce(a.query_id::text, ''), left(a.query, 8192),
       coalesce(extract(epoch FROM clock_timestamp() - a.state_change), 0), coalesce(extract(epoch FROM clock_timestamp() - a.xact_start), 0),
       coalesce((SELECT concat_ws(',', l.locktype, l.mode, d.datname, l.relation::oid)
                   FROM pg_locks l LEFT JOIN pg_database d ON d.oid = l.database WHERE l.pid = a.pid AND NOT l.granted LIMIT 1), ''),
       coalesce((SELECT extract(epoch FROM clock_timestamp() - l.waitstart) FROM pg_locks l WHERE l.pid = a.pid AND NOT l.granted LIMIT 1), 0),
       coalesce(array_to_string(w.behind, ','), '')
  FROM pg_stat_activity a LEFT JOIN waiting w ON w.pid = a.pid LEFT JOIN holding h ON h.pid = a.pid
 WHERE a.backend_type = 'client backend' AND a.pid <> pg_backend_pid() AND a.application_name <> 'howdah console'
   AND (a.state <> 'idle' OR h.pid IS NOT NULL)
 ORDER BY w.pid IS NULL AND h.pid IS NULL, a.xact_start NULLS LAST LIMIT `

// Now says what the sessions do, as of a second ago at most.
func (s *Server) Now(ctx context.Context) (Now, error) {
	if n, ok := s.known(); ok {
		return n, nil
	}
	rows, err := s.ask(ctx, sessions+strconv.Itoa(most+1))
	if err != nil {
		if n, ok := s.known(); ok { // somebody else was told meanwhile
			return n, nil
		}
		return Now{}, err
	}
	n := Now{At: time.Now().UTC(), Sessions: []Session{}}
	named := map[string][]string{} // tables by database, as numbers
	for _, row := range rows {
		if len(row) != 14 {
			return Now{}, fmt.Errorf("a session has %d columns", len(row))
		}
		one := Session{
			Database: row[1], User: row[2], Application: row[3], Client: row[4], State: row[5], Wait: row[6], Statement: row[7],
			Query: logbook.Mask(strings.ToValidUTF8(row[8], "")),
		}
		one.PID, _ = strconv.Atoi(row[0]) // the server's own numbers, here and below
		one.InState, _ = strconv.ParseFloat(row[9], 64)
		one.Transaction, _ = strconv.ParseFloat(row[10], 64)
		one.Locked, _ = strconv.ParseFloat(row[12], 64)
		for text := range strings.SplitSeq(row[13], ",") {
			if pid, err := strconv.Atoi(text); err == nil && !slices.Contains(one.Behind, pid) { // one is named once for each of its helpers
				one.Behind = append(one.Behind, pid)
			}
		}
		if f := strings.Split(row[11], ","); len(f) > 1 {
			one.Lock = f[0] + ", " + f[1]
			if len(f) == 4 {
				one.Lock = f[0] + " " + f[3] + ", " + f[1]
				named[f[2]] = append(named[f[2]], f[3])
			}
		}
		n.Sessions = append(n.Sessions, one)
	}
	s.name(ctx, n.Sessions, named)
	if n.More = len(n.Sessions) > most; n.More {
		n.Sessions = n.Sessions[:most]
	}
	s.mu.Lock()
	s.last = n
	s.mu.Unlock()
	return n, nil
}

// name puts the names of tables in the place of their numbers, of the first databases;
// a number says something too.
func (s *Server) name(ctx context.Context, all []Session, of map[string][]string) {
	databases := slices.Sorted(maps.Keys(of))
	for _, database := range databases[:min(2, len(databases))] {
		rows, err := s.askIn(ctx, database, `SELECT o, o::regclass FROM unnest($1::oid[]) AS o`, "{"+strings.Join(of[database], ",")+"}")
		if err != nil {
			continue
		}
		for i, one := range all {
			for _, row := range rows {
				if one.Database == database {
					all[i].Lock = strings.Replace(all[i].Lock, " "+row[0]+", ", " "+row[1]+", ", 1)
				}
			}
		}
	}
}

func (s *Server) known() (Now, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last, time.Since(s.last.At) < fresh
}

// Statements are the texts of statements by their numbers, with parameters in place of
// constants, as far as pg_stat_statements has them.
func (s *Server) Statements(ctx context.Context, numbers []string) (map[string]string, error) {
	texts := map[string]string{}
	var ids []string
	for _, n := range numbers {
		if _, err := strconv.ParseInt(n, 10, 64); err == nil && len(ids) < mostTexts {
			ids = append(ids, n)
		}
	}
	if len(ids) == 0 {
		return texts, nil
	}
	rows, err := s.ask(ctx, `SELECT quote_ident(n.nspname) FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'pg_stat_statements'`)
	if err != nil || len(rows) == 0 {
		return texts, err
	}
	rows, err = s.ask(ctx, `SELECT queryid, left(min(query), `+strconv.Itoa(longestSQL)+`) FROM `+rows[0][0]+`.pg_stat_statements WHERE queryid = ANY ($1::bigint[]) GROUP BY queryid`,
		"{"+strings.Join(ids, ",")+"}")
	for _, row := range rows {
		texts[row[0]] = logbook.Mask(strings.ToValidUTF8(row[1], ""))
	}
	return texts, err
}
