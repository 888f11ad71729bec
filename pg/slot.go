package pg

import (
	"encoding/json"
	"strings"
)

// SyncsSlots is the major from which on a server brings logical slots to its standbys by
// itself (sync_replication_slots, and failover of a slot).
const SyncsSlots = 17

// A Slot is one row of pg_replication_slots.
type Slot struct {
	Name     string `json:"name"`
	Logical  bool   `json:"logical,omitempty"`
	Database string `json:"database,omitempty"` // logical
	Plugin   string `json:"plugin,omitempty"`   // logical
	At       LSN    `json:"at,omitempty"`       // logical: confirmed_flush_lsn; physical: restart_lsn
	Xmin     uint32 `json:"-"`                  // catalog_xmin; 0: it holds no row back
	Active   bool   `json:"-"`
	Lost     bool   `json:"-"` // of no use to anybody any more: its log or its rows are gone
	Failover bool   `json:"-"` // from 17 on: the server brings it to its standbys by itself
	Synced   bool   `json:"-"` // from 17 on: brought here so
}

// Kind is what pg_replication_slots calls it.
func (s Slot) Kind() string { return SlotKind(s.Logical) }

// SlotKind is the slot_type of a slot.
func SlotKind(logical bool) string {
	if logical {
		return "logical"
	}
	return "physical"
}

// A SlotList is slots as one text, which is equal for equal ones: what they are, and
// where they are to be.
type SlotList string

// ListSlots makes one.
func ListSlots(all []Slot) SlotList {
	if len(all) == 0 {
		return ""
	}
	text, _ := json.Marshal(all) // of strings and numbers
	return SlotList(text)
}

// Slots are those of the list.
func (l SlotList) Slots() (all []Slot, err error) {
	if l != "" {
		err = json.Unmarshal([]byte(l), &all)
	}
	return all, err
}

// Names prints their names, with commas.
func (l SlotList) Names() string {
	all, _ := l.Slots()
	var names []string
	for _, s := range all {
		names = append(names, s.Name)
	}
	return strings.Join(names, ",")
}
