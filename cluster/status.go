package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"howdah/pg"
)

// A Status is the leader's position and that of the slots it knows.
type Status struct {
	Optime      pg.LSN
	Slots       map[string]pg.LSN
	RetainSlots []string // member slots kept for absent members, sorted
	// Xmins are the catalog_xmin of the leader's slots, where permanent logical ones are
	// kept: from it a standby knows from when on its copy of one lacks nothing. Ours; a
	// Patroni passes over it.
	Xmins map[string]uint32
	Epoch int64 // under which the leader says this; only where it keeps permanent slots. Ours, too
}

type statusJSON struct {
	Optime      pg.LSN            `json:"optime,omitempty"`
	Slots       map[string]pg.LSN `json:"slots,omitempty"`
	RetainSlots []string          `json:"retain_slots,omitempty"`
	Xmins       map[string]uint32 `json:"catalog_xmins,omitempty"`
	Epoch       int64             `json:"epoch,omitempty"`
}

// Encode is the value to put.
func (s Status) Encode() string { return encode(statusJSON(s)) }

// Equal says that both publish the same value.
func (s Status) Equal(o Status) bool {
	return s.Optime == o.Optime && maps.Equal(s.Slots, o.Slots) && slices.Equal(s.RetainSlots, o.RetainSlots) && maps.Equal(s.Xmins, o.Xmins) && s.Epoch == o.Epoch
}

// ParseStatus reads a status: the object, a bare number (as the legacy key
// holds it), and objects whose parts are JSON within strings.
func ParseStatus(value []byte) (Status, error) {
	var s Status
	if n, err := strconv.ParseUint(strings.TrimSpace(string(value)), 10, 64); err == nil {
		s.Optime = pg.LSN(n)
		return s, nil
	}
	var raw struct {
		Optime      json.RawMessage `json:"optime"`
		Slots       json.RawMessage `json:"slots"`
		RetainSlots json.RawMessage `json:"retain_slots"`
		Xmins       json.RawMessage `json:"catalog_xmins"`
		Epoch       json.RawMessage `json:"epoch"`
	}
	if err := decode(value, &raw); err != nil {
		return s, err
	}
	err := errors.Join(
		unwrap("optime", raw.Optime, &s.Optime),
		unwrap("slots", raw.Slots, &s.Slots),
		unwrap("retain_slots", raw.RetainSlots, &s.RetainSlots),
		unwrap("catalog_xmins", raw.Xmins, &s.Xmins),
		unwrap("epoch", raw.Epoch, &s.Epoch),
	)
	slices.Sort(s.RetainSlots)
	return s, err
}

// unwrap reads raw into v, or what the string in raw holds.
func unwrap(field string, raw json.RawMessage, v any) error {
	if len(raw) == 0 {
		return nil
	}
	if text := ""; raw[0] == '"' && json.Unmarshal(raw, &text) == nil {
		raw = []byte(text)
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return fmt.Errorf("%s: %w", field, err)
	}
	return nil
}

// A Sync says who may have acknowledged commits: who may be promoted.
// No Leader means that synchronous mode is not active.
type Sync struct {
	Mod     int64
	Leader  string
	Quorum  int      // votes a candidate needs besides its own
	Standby []string // sorted
}

type syncJSON struct {
	Leader  *string `json:"leader"`
	Quorum  int     `json:"quorum"`
	Standby *string `json:"sync_standby"`
}

// Active says that synchronous mode is on.
func (s Sync) Active() bool { return s.Leader != "" }

// Has says that name is a synchronous standby; case does not matter.
func (s Sync) Has(name string) bool {
	return slices.ContainsFunc(s.Standby, func(n string) bool { return strings.EqualFold(n, name) })
}

// Encode is the value to put.
func (s Sync) Encode() string {
	j := syncJSON{Quorum: s.Quorum}
	if s.Leader != "" {
		j.Leader = &s.Leader
	}
	if len(s.Standby) > 0 {
		names := strings.Join(slices.Sorted(slices.Values(s.Standby)), ",")
		j.Standby = &names
	}
	return encode(j)
}

// ParseSync reads the synchronous state.
func ParseSync(value []byte) (Sync, error) {
	var s Sync
	if len(value) == 0 {
		return s, nil
	}
	var j struct {
		Leader  string          `json:"leader"`
		Quorum  json.RawMessage `json:"quorum"`
		Standby string          `json:"sync_standby"`
	}
	if err := decode(value, &j); err != nil {
		return s, err
	}
	if j.Leader == "" {
		return s, nil
	}
	var quorum uint16
	if err := unwrap("quorum", j.Quorum, &quorum); err != nil {
		return s, err
	}
	s.Leader, s.Quorum = j.Leader, int(quorum)
	for name := range strings.SplitSeq(j.Standby, ",") {
		if name = strings.TrimSpace(name); name != "" {
			s.Standby = append(s.Standby, name)
		}
	}
	slices.Sort(s.Standby)
	return s, nil
}

// A Failover is what a person asked for: a switchover away from Leader, or,
// without Leader, a failover. The zero Failover asks for nothing.
type Failover struct {
	Mod         int64
	Leader      string
	Member      string    // the candidate
	ScheduledAt time.Time // zero: now
}

type failoverJSON struct {
	Leader      string `json:"leader,omitempty"`
	Member      string `json:"member,omitempty"`
	ScheduledAt string `json:"scheduled_at,omitempty"`
}

// Asked says that something is asked for.
func (f Failover) Asked() bool { return f.Leader != "" || f.Member != "" }

// Switchover says that the change is away from a named leader.
func (f Failover) Switchover() bool { return f.Leader != "" }

// Encode is the value to put; that of the zero Failover clears the key.
func (f Failover) Encode() string {
	return encode(failoverJSON{f.Leader, f.Member, FormatTime(f.ScheduledAt)})
}

// ParseFailover reads a request, also in its legacy form "leader:candidate".
func ParseFailover(value []byte) (Failover, error) {
	var f Failover
	text := strings.TrimSpace(string(value))
	if text == "" {
		return f, nil
	}
	if !json.Valid([]byte(text)) && !strings.ContainsAny(text, `{}[]"`) {
		leader, member, _ := strings.Cut(text, ":")
		member, _, _ = strings.Cut(member, ":")
		return Failover{Leader: strings.TrimSpace(leader), Member: strings.TrimSpace(member)}, nil
	}
	var j failoverJSON
	if err := decode(value, &j); err != nil {
		return f, err
	}
	at, err := ParseTime(j.ScheduledAt)
	if err != nil {
		// Without its time a scheduled change would happen at once.
		return f, fmt.Errorf("scheduled_at: %w", err)
	}
	return Failover{Leader: j.Leader, Member: j.Member, ScheduledAt: at}, nil
}

// FormatTime writes an instant as Python's isoformat does: six digits of a
// second or none, and an offset even for UTC. The zero time is "".
func FormatTime(t time.Time) string {
	switch {
	case t.IsZero():
		return ""
	case t.Nanosecond() < int(time.Microsecond):
		return t.Format("2006-01-02T15:04:05-07:00")
	}
	return t.Format("2006-01-02T15:04:05.000000-07:00")
}

// Stamp writes an instant of the server's as Patroni shows it, in UTC.
func Stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05.000000+00:00") }

// ParseTime reads an instant in the forms that Patroni and its clients write;
// a time zone is needed. "" is the zero time.
func ParseTime(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	form := strings.Replace(text, " ", "T", 1)
	for _, clock := range []string{"15:04:05", "15:04"} {
		for _, zone := range []string{"Z07:00", "Z0700", "Z07"} {
			// In UTC, lest the answer depend on the machine's own zone.
			if t, err := time.ParseInLocation("2006-01-02T"+clock+zone, form, time.UTC); err == nil {
				return t, nil
			}
		}
	}
	return time.Time{}, fmt.Errorf("%q is not an ISO 8601 time with a time zone", text)
}

// A HistoryRow tells of one change of timeline.
type HistoryRow struct {
	Timeline pg.Timeline // that was left
	LSN      pg.LSN      // where
	Reason   string
	At       string // ISO time; "" in rows older than Patroni's memory
	Leader   string // who led from then on
}

// MarshalJSON writes the row as an array of three to five columns.
func (r HistoryRow) MarshalJSON() ([]byte, error) {
	row := []any{r.Timeline, r.LSN, r.Reason}
	if r.At != "" || r.Leader != "" {
		row = append(row, r.At)
	}
	if r.Leader != "" {
		row = append(row, r.Leader)
	}
	return []byte(encode(row)), nil
}

// UnmarshalJSON reads an array of two columns or more.
func (r *HistoryRow) UnmarshalJSON(b []byte) error {
	var row []json.RawMessage
	if err := json.Unmarshal(b, &row); err != nil {
		return err
	}
	if len(row) < 2 {
		return fmt.Errorf("history row %s has no timeline and position", shorten(b))
	}
	for i, v := range []any{&r.Timeline, &r.LSN, &r.Reason, &r.At, &r.Leader} {
		if i < len(row) {
			if err := json.Unmarshal(row[i], v); err != nil {
				return fmt.Errorf("history row %s: %w", shorten(b), err)
			}
		}
	}
	return nil
}

// A History is every change of timeline, oldest first. nil: no key.
type History []HistoryRow

// Timeline is the cluster's timeline: one more than the last that was left, 1
// if none was, 0 if unknown.
func (h History) Timeline() pg.Timeline {
	switch {
	case h == nil:
		return 0
	case len(h) == 0:
		return 1
	}
	return h[len(h)-1].Timeline + 1
}

// Encode is the value to put.
func (h History) Encode() string {
	if h == nil {
		return "[]"
	}
	return encode([]HistoryRow(h))
}

// ParseHistory reads the history.
func ParseHistory(value []byte) (History, error) {
	h := History{}
	if err := json.Unmarshal(value, &h); err != nil {
		return nil, err
	}
	if h == nil {
		return nil, errors.New("null, an array is expected")
	}
	return h, nil
}

// Failsafe maps every member to its API: who must agree that a primary without
// the store may live on.
type Failsafe map[string]string

// Encode is the value to put.
func (f Failsafe) Encode() string {
	if f == nil {
		return "{}"
	}
	return encode(map[string]string(f))
}

// ParseFailsafe reads the list.
func ParseFailsafe(value []byte) (Failsafe, error) {
	var f Failsafe
	err := decode(value, &f)
	return f, err
}

// Initialize says how far the one bootstrap of the cluster is.
type Initialize struct {
	Mod     int64
	Present bool        // someone began
	System  pg.SystemID // and finished, if not 0
}

// Running says that a bootstrap has begun and did not end.
func (i Initialize) Running() bool { return i.Present && i.System == 0 }

// ParseInitialize reads the key: empty while a bootstrap runs, then the system
// identifier. Anything else is an error, but not absence.
func ParseInitialize(value []byte) (Initialize, error) {
	i := Initialize{Present: true}
	if len(value) == 0 {
		return i, nil
	}
	var err error
	i.System, err = pg.ParseSystemID(string(value))
	return i, err
}
