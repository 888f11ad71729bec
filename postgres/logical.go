package postgres

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"howdah/pg"
	"howdah/postgres/conf"
	"howdah/problem"
	"howdah/spec"
)

// slotTime bounds what is done with one logical slot: one is made only once every
// transaction of that moment has ended, and moved by reading the log up to there.
const slotTime = 4 * time.Second

// Logical drops the logical slots that are named and, on a primary, makes those of want
// that there are not. All of want are ours from then on: see Status.Ours.
func (s *Server) Logical(ctx context.Context, want []pg.Slot, drop []string) error {
	ours, err := s.noted(logicalFile)
	if err != nil {
		return fmt.Errorf("logical slots: %w", err)
	}
	st := s.Look(ctx)
	if !st.Answers {
		return fmt.Errorf("logical slots: %w", ErrNotRunning)
	}
	here := map[string]pg.Slot{}
	for _, h := range st.Held {
		here[h.Name] = h
	}
	// The file first: a slot that was made and not noted would never go away.
	next := slices.DeleteFunc(slices.Clone(ours), func(name string) bool { return !here[name].Logical })
	for _, w := range want {
		next = append(next, w.Name)
	}
	if err := s.noteLogical(next); err != nil {
		return err
	}
	conn, err := s.connect(ctx, nil)
	if err != nil {
		return fmt.Errorf("logical slots: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var errs []error
	for _, name := range drop {
		if !here[name].Logical {
			continue
		}
		if _, err := conn.Exec(ctx, "SELECT pg_drop_replication_slot("+pg.QuoteLiteral(name)+")").ReadAll(); err != nil {
			errs = append(errs, fmt.Errorf("slot %s: %w", name, err))
			continue
		}
		delete(here, name)
		s.log.Info("logical slot dropped", "slot", name)
	}
	if st.Primary() && len(want) > 0 {
		// With it a standby reads the file of a slot. Who may replicate can read them all anyway.
		_, err := conn.Exec(ctx, "GRANT EXECUTE ON FUNCTION pg_read_binary_file(text, bigint, bigint, boolean) TO "+pg.QuoteIdent(spec.Replicator)).ReadAll()
		errs = append(errs, err)
	}
	for _, w := range want {
		h, there := here[w.Name]
		switch {
		case !st.Primary():
		case there && !h.Failover && s.programs.Major >= pg.SyncsSlots:
			errs = append(errs, s.failover(ctx, w.Name))
		case !there:
			errs = append(errs, s.makeLogical(ctx, w))
		}
	}
	next = slices.DeleteFunc(next, func(name string) bool {
		_, there := here[name]
		return !there && !slices.ContainsFunc(want, func(w pg.Slot) bool { return w.Name == name })
	})
	return errors.Join(append(errs, s.noteLogical(next))...)
}

func (s *Server) noteLogical(names []string) error {
	slices.Sort(names)
	names = slices.Compact(names)
	if err := s.write(s.beside(logicalFile), strings.Join(append(names, ""), "\n"), 0o600); err != nil {
		return fmt.Errorf("logical slots: %w", err)
	}
	return nil
}

// makeLogical makes one in its database.
func (s *Server) makeLogical(ctx context.Context, w pg.Slot) error {
	more := ""
	if s.programs.Major >= pg.SyncsSlots {
		more = ", false, false, true" // temporary, twophase, failover
	}
	err := s.inDatabase(ctx, w.Database, nil, "SELECT pg_create_logical_replication_slot("+pg.QuoteLiteral(w.Name)+", "+pg.QuoteLiteral(w.Plugin)+more+")")
	if err != nil {
		return &problem.Error{
			Code: "slot-refused", What: "cannot make the logical slot " + w.Name, Why: refusal(err), Err: err,
			Do: "correct it under slots (`howdah edit-config`): its database and plugin have to be there; for wal_level, set postgresql.parameters.wal_level to logical and restart the members (`howdah restart`). It is tried again by itself",
		}
	}
	s.log.Info("logical slot made", "slot", w.Name, "database", w.Database, "plugin", w.Plugin)
	return nil
}

// refusal is what the server said, without codes.
func refusal(err error) string {
	if said, ok := errors.AsType[*pgconn.PgError](err); ok {
		return said.Message
	}
	return err.Error()
}

// failover has the standbys get a slot that is there.
func (s *Server) failover(ctx context.Context, name string) error {
	err := s.inDatabase(ctx, "postgres", map[string]string{"replication": "database"}, "ALTER_REPLICATION_SLOT "+name+" ( FAILOVER true )")
	if err != nil {
		return fmt.Errorf("slot %s: %w", name, err)
	}
	return nil
}

func (s *Server) inDatabase(ctx context.Context, database string, settings map[string]string, sql string) error {
	ctx, cancel := context.WithTimeout(ctx, slotTime)
	defer cancel()
	settings = maps.Clone(settings)
	if settings == nil {
		settings = map[string]string{}
	}
	// The server gives up before we do: what was begun is not left to go on there.
	settings["statement_timeout"] = fmt.Sprint((slotTime - slotTime/8).Milliseconds())
	conn, err := s.connectTo(ctx, database, settings)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	_, err = conn.Exec(ctx, sql).ReadAll()
	return err
}

// ErrStuck is a slot that does not move: the log, or the rows, that it needs are not here.
var ErrStuck = errors.New("the slot does not move")

// Advance moves the slots of a standby to where they are to be, or as far as it has
// replayed. The error names the first logical one that does not move (ErrStuck).
func (s *Server) Advance(ctx context.Context, slots []pg.Slot) (stuck string, err error) {
	for _, to := range slots {
		database := to.Database
		if database == "" {
			database = "postgres"
		}
		err := s.inDatabase(ctx, database, nil, "SELECT pg_replication_slot_advance("+pg.QuoteLiteral(to.Name)+", least("+pg.QuoteLiteral(to.At.String())+"::pg_lsn, pg_last_wal_replay_lsn()))")
		if said, ok := errors.AsType[*pgconn.PgError](err); ok && to.Logical && said.Code != shuttingDown {
			return to.Name, fmt.Errorf("slot %s: %s: %w", to.Name, said.Message, ErrStuck)
		}
		if err != nil {
			return "", fmt.Errorf("slot %s: %w", to.Name, err)
		}
	}
	return "", nil
}

// shuttingDown is admin_shutdown.
const shuttingDown = "57P01"

// Adopt brings logical slots of the primary from to this standby, as files: before 17
// there is no other way. The server takes them up when it starts, so it is stopped; to
// start it again is the caller's. Nothing is stopped for a slot that would be of no use
// here, because the log that it needs is gone already.
func (s *Server) Adopt(ctx context.Context, from pg.Upstream, names []string) error {
	st := s.Look(ctx)
	if !st.Answers || !st.Recovering {
		return fmt.Errorf("copy slots: %w", ErrNotStandby)
	}
	if err := s.allowed(from); err != nil {
		return fmt.Errorf("copy slots of %w", err)
	}
	for _, name := range names {
		if !slotName.MatchString(name) {
			return fmt.Errorf("copy slots: %q is no name for a slot", name)
		}
	}
	files, err := s.fetchSlots(ctx, from, names)
	if err != nil {
		return fmt.Errorf("copy slots of %s: %w", from.Name, err)
	}
	ours, err := s.noted(logicalFile)
	if err != nil {
		return err
	}
	if err := s.noteLogical(append(ours, names...)); err != nil {
		return err
	}
	if err := s.Stop(ctx, Fast); err != nil {
		return fmt.Errorf("copy slots: %w", err)
	}
	for _, name := range names {
		dir := filepath.Join(s.in("pg_replslot"), name)
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
		if err := s.mkdir(dir, 0o700); err != nil {
			return err
		}
		if err := s.write(filepath.Join(dir, "state"), files[name], 0o600); err != nil {
			return err
		}
		if err := syncDir(filepath.Dir(dir)); err != nil {
			return err
		}
	}
	s.log.Info("logical slots brought here", "slots", strings.Join(names, " "), "from", from.Name)
	return nil
}

// fetchSlots reads the files of a primary's slots, if this server has the log that they need.
func (s *Server) fetchSlots(ctx context.Context, from pg.Upstream, names []string) (map[string]string, error) {
	ctx, cancel := context.WithTimeout(ctx, slotTime)
	defer cancel()
	if err := s.writePassfile(); err != nil {
		return nil, err
	}
	conn, err := reach(ctx, conf.Conninfo(s.node, from, s.beside("pgpass")))
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	ctl, err := readControl(s.data)
	if err != nil {
		return nil, err
	}
	segments, err := walNames(s.data)
	if err != nil {
		return nil, err
	}
	files := map[string]string{}
	for _, name := range names {
		res, err := conn.Exec(ctx, "SELECT restart_lsn, encode(pg_read_binary_file('pg_replslot/' || slot_name || '/state', 0, 1000000, false), 'hex') FROM pg_catalog.pg_replication_slots WHERE slot_type = 'logical' AND slot_name = "+pg.QuoteLiteral(name)).ReadAll()
		if err != nil {
			return nil, err
		}
		if len(res) != 1 || len(res[0].Rows) != 1 {
			return nil, fmt.Errorf("slot %s is not there", name)
		}
		row := res[0].Rows[0]
		needs := pg.Timeline(1).Segment(lsn(row[0]), ctl.segment)[8:]
		if !slices.ContainsFunc(segments, func(have string) bool { return strings.HasSuffix(have, needs) }) {
			return nil, fmt.Errorf("slot %s needs the log from %s, which is not here; it comes once its reader is further", name, row[0])
		}
		text, err := hex.DecodeString(string(row[1]))
		if err != nil {
			return nil, err
		}
		files[name] = string(text)
	}
	return files, nil
}
