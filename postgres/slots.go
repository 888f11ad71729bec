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

// Slots makes the physical slots that we manage exactly those of want: missing
// ones are created, with the log reserved at once, and ours that are wanted no
// more are dropped once nobody uses them. Which are ours is kept in a file
// beside the data, so that a slot somebody else made, and every logical one,
// is left alone. It works on a standby as well, where a slot left from a time
// as primary would hold the log for ever.
func (s *Server) Slots(ctx context.Context, want []string) error {
	for _, name := range want {
		if !slotName.MatchString(name) {
			return fmt.Errorf("slots: %q is no name for a slot (a-z, 0-9 and _, at most 63)", name)
		}
	}
	ours, err := s.ownSlots()
	if err != nil {
		return fmt.Errorf("slots: %w", err)
	}
	conn, err := s.connect(ctx, nil)
	if err != nil {
		return fmt.Errorf("slots: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	res, err := conn.Exec(ctx, `SELECT slot_name, active, wal_status = 'lost' FROM pg_replication_slots WHERE slot_type = 'physical' AND NOT temporary`).ReadAll()
	if err != nil {
		return fmt.Errorf("slots: %w", err)
	}
	active := map[string]bool{} // every physical slot there is
	lost := map[string]bool{}   // its log was removed (max_slot_wal_keep_size): of no use to anybody
	for _, row := range res[0].Rows {
		active[string(row[0])] = string(row[1]) == "t"
		lost[string(row[0])] = string(row[2]) == "t"
	}
	next := slices.Clone(want)
	for _, name := range ours {
		if _, exists := active[name]; exists && !slices.Contains(next, name) {
			next = append(next, name)
		}
	}
	// The file first: a slot that was created and not noted would never go away.
	slices.Sort(next)
	if err := s.write(s.beside("slots"), strings.Join(append(slices.Compact(next), ""), "\n"), 0o600); err != nil {
		return fmt.Errorf("slots: %w", err)
	}
	var errs []error
	run := func(function, name, more string) {
		_, err := conn.Exec(ctx, "SELECT "+function+"("+pg.QuoteLiteral(name)+more+")").ReadAll()
		errs = append(errs, err)
	}
	for _, name := range ours {
		used, exists := active[name]
		if exists && !used && (lost[name] || !slices.Contains(want, name)) {
			run("pg_drop_replication_slot", name, "")
			delete(active, name)
		}
	}
	for _, name := range want {
		if _, exists := active[name]; !exists {
			run("pg_create_physical_replication_slot", name, ", true")
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("slots: %w", err)
	}
	return nil
}

func (s *Server) ownSlots() ([]string, error) {
	text, err := os.ReadFile(s.beside("slots"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return strings.Fields(string(text)), err
}
