package cluster

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"time"

	"howdah/pg"
)

// A PermanentSlot is one that is to be there whoever leads.
type PermanentSlot struct {
	Name     string
	Logical  bool
	Database string // logical
	Plugin   string // logical
	Of       string // cluster_type: only while the cluster writes (primary), or follows another (standby); "": always
}

// Kind is what pg_replication_slots calls it.
func (p PermanentSlot) Kind() string { return pg.SlotKind(p.Logical) }

// permanentKeys are Patroni's names of the section: the first that says anything counts.
var permanentKeys = []string{"permanent_replication_slots", "permanent_slots", "slots"}

// PermanentSlots are those of the section slots, sorted by name. The error names
// what can not be meant; the rest is returned beside it.
func (c Config) PermanentSlots() ([]PermanentSlot, error) {
	var section map[string]any
	for _, key := range permanentKeys {
		v, there := c.Lookup(key)
		if !there {
			continue
		}
		m, ok := v.(map[string]any)
		if !ok {
			return nil, fmt.Errorf("%s: %v is no object of slots", key, v)
		}
		if len(m) > 0 {
			section = m
			break
		}
	}
	if len(section) == 0 {
		return nil, nil // as nearly always
	}
	var all []PermanentSlot
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(section)) {
		p, err := permanent(name, section[name])
		if err != nil {
			errs = append(errs, fmt.Errorf("slots.%s: %w", name, err))
			continue
		}
		all = append(all, p)
	}
	return all, errors.Join(errs...)
}

func permanent(name string, v any) (PermanentSlot, error) {
	p := PermanentSlot{Name: name}
	if name == "" || len(name) > 63 || !within(name, slotChars) {
		return p, errors.New("this is no name of a slot (a-z, 0-9 and _, at most 63)")
	}
	settings, ok := v.(map[string]any)
	switch {
	case v == nil, v == "", v == false:
		return p, nil // Patroni: an empty value is a physical slot
	case !ok:
		return p, fmt.Errorf("%v is no object of settings", v)
	}
	kind := ""
	for _, key := range slices.Sorted(maps.Keys(settings)) {
		text, isText := settings[key].(string)
		if !isText {
			return p, fmt.Errorf("%s: %v is no text", key, settings[key])
		}
		switch key {
		case "type":
			kind = text
		case "database":
			p.Database = text
		case "plugin":
			p.Plugin = text
		case "cluster_type":
			if text != "primary" && text != "standby" {
				return p, fmt.Errorf("cluster_type: %s is neither primary nor standby", text)
			}
			p.Of = text
		default:
			return p, fmt.Errorf("%s: there is no such setting", key)
		}
	}
	whole := p.Database != "" && p.Plugin != ""
	switch {
	case kind == "logical" && !whole:
		return p, errors.New("a logical slot has a database and a plugin")
	case kind == "logical", kind == "" && whole:
		p.Logical = true
	case kind == "physical", kind == "":
		p.Database, p.Plugin = "", ""
	default:
		return p, fmt.Errorf("type: %s is neither physical nor logical", kind)
	}
	return p, nil
}

// A SlotMatcher is one of ignore_slots; what it does not say may be anything.
type SlotMatcher struct{ Name, Kind, Database, Plugin string }

// Matches says that it is meant.
func (m SlotMatcher) Matches(name, kind, database, plugin string) bool {
	for _, pair := range [][2]string{{m.Name, name}, {m.Kind, kind}, {m.Database, database}, {m.Plugin, plugin}} {
		if pair[0] != "" && pair[0] != pair[1] {
			return false
		}
	}
	return true
}

// IgnoredSlots are the slots that nobody but their owner touches, whatever else the
// configuration says.
func (c Config) IgnoredSlots() ([]SlotMatcher, error) {
	v, there := c.Lookup("ignore_slots")
	if !there {
		return nil, nil
	}
	list, ok := v.([]any)
	if !ok {
		return nil, fmt.Errorf("ignore_slots: %v is no list", v)
	}
	var all []SlotMatcher
	var errs []error
	for i, v := range list {
		settings, ok := v.(map[string]any)
		if !ok {
			errs = append(errs, fmt.Errorf("ignore_slots[%d]: %v is no object of settings", i, v))
			continue
		}
		var m SlotMatcher
		for _, key := range slices.Sorted(maps.Keys(settings)) {
			text, _ := settings[key].(string)
			switch key {
			case "name":
				m.Name = text
			case "type":
				m.Kind = text
			case "database":
				m.Database = text
			case "plugin":
				m.Plugin = text
			default:
				errs = append(errs, fmt.Errorf("ignore_slots[%d].%s: there is no such setting", i, key))
			}
		}
		all = append(all, m)
	}
	return all, errors.Join(errs...)
}

var slotsTime = regexp.MustCompile(`^\s*([0-9]+(?:\.[0-9]+)?)\s*(ms|s|min|h|d|)\s*$`)

// MemberSlotsTTL is how long the slot of a member that is away holds log for it; ok is
// false where nobody said so, and then it does for as long as that is a member.
func (c Config) MemberSlotsTTL() (ttl time.Duration, ok bool) {
	ttl, err := c.memberSlotsTTL()
	return ttl, err == nil
}

var errUnsaid = errors.New("nobody said so")

func (c Config) memberSlotsTTL() (time.Duration, error) {
	v, there := c.Lookup("member_slots_ttl")
	if !there {
		return 0, errUnsaid
	}
	text := fmt.Sprint(v)
	if f, ok := v.(float64); ok {
		text = strconv.FormatFloat(f, 'f', -1, 64)
	}
	m := slotsTime.FindStringSubmatch(text)
	if m == nil {
		return 0, fmt.Errorf("member_slots_ttl: %v is no time, like 30min, 1h or 0", v)
	}
	unit := map[string]time.Duration{"ms": time.Millisecond, "s": time.Second, "": time.Second, "min": time.Minute, "h": time.Hour, "d": 24 * time.Hour}[m[2]]
	n, err := strconv.ParseFloat(m[1], 64)
	if err != nil || n*unit.Hours() > 24*365*100 {
		return 0, fmt.Errorf("member_slots_ttl: %v is too long", v)
	}
	return time.Duration(n * float64(unit)), nil
}

// CheckSlots refuses what could not be kept as it is written.
func (c Config) CheckSlots() error {
	_, err := c.PermanentSlots()
	_, ignored := c.IgnoredSlots()
	_, ttl := c.memberSlotsTTL()
	if errors.Is(ttl, errUnsaid) {
		ttl = nil
	}
	return errors.Join(err, ignored, ttl)
}

// LogicalSlots says that the cluster writes and has permanent logical slots.
func (s *State) LogicalSlots() bool {
	if s.Standby() {
		return false
	}
	all, _ := s.Config.PermanentSlots()
	return slices.ContainsFunc(all, func(p PermanentSlot) bool { return p.Logical && p.Of != "standby" })
}
