package postgres

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"howdah/logkey"
	"howdah/pg"
	"howdah/problem"
	"howdah/spec"
)

// Init makes a new database system with its roles and databases and leaves it
// stopped, to be started as a primary. It works in an absent or empty data
// directory, or over an initdb or base backup of ours that did not finish. progress
// hears of a restore, where the inventory has the cluster begin with a backup.
func (s *Server) Init(ctx context.Context, progress func(done, total int64)) error {
	if s.node.Postgres.Origin.Config != "" {
		return s.originate(ctx, progress)
	}
	ctx, cancel := context.WithTimeout(ctx, initdbWithin)
	defer cancel()
	began := time.Now()
	sql, err := s.bootstrap(false) // before anything is touched: a secret may be missing
	if err != nil {
		return fmt.Errorf("initdb: %w", err)
	}
	if err := s.clear("init"); err != nil {
		return fmt.Errorf("initdb: %w", err)
	}
	args := []string{
		"-D", s.data, "--username=" + spec.Superuser, "--encoding=UTF8", "--data-checksums",
		"--auth-local=trust", "--auth-host=scram-sha-256", "--no-instructions",
		// The same order of text on every machine, whatever its C library says.
		"--locale=C.UTF-8",
	}
	if s.programs.Major >= 17 {
		args = append(args, "--locale-provider=builtin", "--builtin-locale=C.UTF-8")
	}
	if s.unsafe() {
		args = append(args, "--no-sync")
	}
	if text, err := s.account.run(ctx, tool{path: s.programs.Path("initdb"), args: args}); err != nil {
		return s.toolError("initdb", text, err)
	}
	if err := s.single(ctx, sql); err != nil {
		return fmt.Errorf("create roles and databases: %w", err)
	}
	if err := s.finish(); err != nil {
		return fmt.Errorf("initdb: %w", err)
	}
	s.log.Info("database system made", logkey.Path, s.data, logkey.Took, time.Since(began))
	return nil
}

// initdbWithin is how long an initdb may take.
const initdbWithin = 5 * time.Minute

// clear prepares the data directory for an operation that fills it, and marks
// it. It empties only what an initdb or base backup of ours left half done.
func (s *Server) clear(operation string) error {
	if err := s.Check(); err != nil {
		return err
	}
	state, err := s.dataState()
	if err != nil {
		return err
	}
	if err := s.nothingRuns(); err != nil {
		return err
	}
	switch state {
	case pg.DataPresent:
		return &problem.Error{
			Code: "datadir-present", What: "cannot fill the data directory " + s.data,
			Why: "it holds a database system already", Do: "move it aside first; nothing was touched",
		}
	case pg.DataPartial:
		if s.unfinished() == "rewind" { // it was a database until then: only moved, never deleted
			if _, err := s.moveAside(); err != nil {
				return err
			}
		}
	}
	if err := s.begin(operation); err != nil {
		return err
	}
	entries, err := os.ReadDir(s.data)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := os.RemoveAll(filepath.Join(s.data, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// bootstrap is the SQL that makes the cluster's own roles, a statement a line.
// What else it holds is spec/apply's. The server hashes the passwords itself, as SCRAM.
// Of data that were somebody's the roles may be there already.
func (s *Server) bootstrap(somebodys bool) ([]string, error) {
	secrets, err := s.secrets()
	if err != nil {
		return nil, err
	}
	password := func(name string) (string, error) {
		p, ok := secrets[name]
		if !ok || p == "" || strings.ContainsAny(p.Reveal(), "\r\n\x00") {
			return "", &problem.Error{
				Code: "secret-missing", What: "cannot create the roles of cluster " + s.node.Cluster,
				Why: fmt.Sprintf("the secret %q is missing from %s, or is not one line", name, s.node.Paths.Secrets),
				Do:  "add it there",
			}
		}
		return pg.QuoteLiteral(p.Reveal()), nil
	}
	super, err := password(spec.SecretSuper)
	if err != nil {
		return nil, err
	}
	replicate, err := password(spec.SecretReplicate)
	if err != nil {
		return nil, err
	}
	if somebodys {
		return []string{
			"ALTER ROLE " + pg.QuoteIdent(spec.Superuser) + " SUPERUSER LOGIN PASSWORD " + super,
			"DO $$BEGIN IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = " + pg.QuoteLiteral(spec.Replicator) + ") THEN CREATE ROLE " + pg.QuoteIdent(spec.Replicator) + "; END IF; END$$",
			"ALTER ROLE " + pg.QuoteIdent(spec.Replicator) + " LOGIN REPLICATION PASSWORD " + replicate,
		}, nil
	}
	return []string{
		"ALTER ROLE " + pg.QuoteIdent(spec.Superuser) + " PASSWORD " + super,
		"CREATE ROLE " + pg.QuoteIdent(spec.Replicator) + " LOGIN REPLICATION PASSWORD " + replicate,
	}, nil
}

// single runs statements in a single-user server, which listens nowhere, and
// returns when it has shut down. Without statements it is a crash recovery.
func (s *Server) single(ctx context.Context, sql []string) error {
	for _, line := range sql {
		if strings.Contains(line, "\n") {
			return fmt.Errorf("a name contains a line break")
		}
	}
	args := []string{"--single", "-D", s.data}
	for _, setting := range []string{
		"exit_on_error=on", "log_statement=none", "log_min_error_statement=panic", // passwords pass here
		"password_encryption=scram-sha-256", "synchronous_standby_names=", "restart_after_crash=off",
		// What another server may still want, or a rewind needs, is not recycled.
		"wal_keep_size=2000000", "max_slot_wal_keep_size=-1",
		"archive_mode=on", "archive_command=false", "archive_library=", "log_destination=stderr", "logging_collector=off",
	} {
		if s.programs.Major < 15 && strings.HasPrefix(setting, "archive_library") {
			continue
		}
		args = append(args, "-c", setting)
	}
	text, err := s.account.run(ctx, tool{
		path: s.programs.Path("postgres"), args: append(args, "template1"), stdin: strings.Join(append(slices.Clone(sql), ""), "\n"),
	})
	return s.toolError("postgres --single", text, err)
}

// unsafe says that the owner of this data gave up its safety with fsync=off:
// making it need not wait for the disk either.
func (s *Server) unsafe() bool { return s.node.Postgres.Parameters["fsync"] == "off" }

// toolError recognises a full disk in what a program said.
func (s *Server) toolError(what, text string, err error) error {
	if err != nil && strings.Contains(text, "No space left on device") {
		return s.full(what, err)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}
