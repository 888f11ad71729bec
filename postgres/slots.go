package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"

	"howdah/pg"
)

var slotName = regexp.MustCompile(`^[a-z0-9_]{1,63}$`)

// Slots makes the physical slots that we manage exactly those of want and spare:
// missing ones are created, and ours that are in neither are dropped once nobody uses
// them. Those of want hold the log from now on; those of spare hold nothing before
// somebody has used them, so that whoever comes finds one. Which are ours is kept in a
// file beside the data, so that a slot somebody else made, and every logical one,
// is left alone. It works on a standby as well, where a slot left from a time
// as primary would hold the log for ever.
func (s *Server) Slots(ctx context.Context, want, spare []string) error {
	both := slices.Concat(want, spare)
	for _, name := range both {
		if !slotName.MatchString(name) {
			return fmt.Errorf("slots: %q is no name for a slot (a-z, 0-9 and _, at most 63)", name)
		}
	}
	ours, err := s.noted(physicalFile)
	if err != nil {
		return fmt.Errorf("slots: %w", err)
	}
	conn, err := s.connect(ctx, nil)
	if err != nil {
		return fmt.Errorf("slots: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	res, err := conn.Exec(ctx, `SELECT slot_name, active, wal_status = 'lost', restart_lsn IS NULL FROM pg_replication_slots WHERE slot_type = 'physical' AND NOT temporary`).ReadAll()
	if err != nil {
		return fmt.Errorf("slots: %w", err)
	}
	type slot struct {
		active bool
		lost   bool // its log was removed (max_slot_wal_keep_size): of no use to anybody
		unused bool // it holds none, and never did
	}
	all := map[string]slot{} // every physical slot there is
	for _, row := range res[0].Rows {
		is := func(i int) bool { return string(row[i]) == "t" }
		all[string(row[0])] = slot{active: is(1), lost: is(2), unused: is(3) && !is(2)}
	}
	next := slices.Clone(both)
	for _, name := range ours {
		if _, exists := all[name]; exists && !slices.Contains(next, name) {
			next = append(next, name)
		}
	}
	// The file first: a slot that was created and not noted would never go away.
	slices.Sort(next)
	if err := s.write(s.beside(physicalFile), strings.Join(append(slices.Compact(next), ""), "\n"), 0o600); err != nil {
		return fmt.Errorf("slots: %w", err)
	}
	var errs []error
	run := func(function, name, more string) {
		_, err := conn.Exec(ctx, "SELECT "+function+"("+pg.QuoteLiteral(name)+more+")").ReadAll()
		errs = append(errs, err)
	}
	drop := func(name string) {
		run("pg_drop_replication_slot", name, "")
		delete(all, name)
	}
	for _, name := range ours {
		is, exists := all[name]
		wanted := slices.Contains(want, name) || slices.Contains(spare, name) && is.unused
		if exists && !is.active && (is.lost || !wanted) {
			drop(name)
		}
	}
	for _, name := range want {
		if is, exists := all[name]; exists && is.unused && !is.active {
			drop(name) // there is no other way to have one hold the log that nobody has used
		}
		if _, exists := all[name]; !exists {
			run("pg_create_physical_replication_slot", name, ", true")
		}
	}
	for _, name := range spare {
		if _, exists := all[name]; !exists {
			run("pg_create_physical_replication_slot", name, ", false")
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("slots: %w", err)
	}
	return nil
}

// Beside the data stands which slots are ours.
const (
	physicalFile = "slots"
	logicalFile  = "slots.logical"
)

func (s *Server) noted(file string) ([]string, error) {
	text, err := os.ReadFile(s.beside(file))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return strings.Fields(string(text)), err
}
