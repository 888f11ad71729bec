package cluster

import (
	"errors"
	"strings"
	"time"

	"howdah/pg"
)

// A Restore brings the whole cluster back to a moment. What is to be is made
// beside the leader's data while the cluster goes on; then the leader is asked to
// turn to it. There is one at a time, and its record stays: from the turn on
// nobody leads whose log is of a timeline before it.
type Restore struct {
	Mod      int64       `json:"-"`
	ID       string      `json:"id"`
	Member   string      `json:"member"` // who leads, and on whose host it is made
	To       string      `json:"to"`     // the moment, in words
	Backup   string      `json:"backup,omitempty"`
	Timeline pg.Timeline `json:"timeline"` // that begins with it
	Phase    string      `json:"phase"`
	Made     string      `json:"made"`            // the data that are to be, in the member's directory
	Aside    string      `json:"aside,omitempty"` // where those are put that are there now; "": nothing is kept (any more)
	By       string      `json:"by"`
	At       time.Time   `json:"at"`
}

// Phases of a restore.
const (
	RestoreMaking = "making" // nobody but whoever asked for it has noticed
	RestoreAsked  = "asked"  // the leader is to end its server and to turn
	RestoreTurned = "turned" // it has said so: what was before leads no more
	RestoreDone   = "done"   // its server writes, on the new timeline
)

// Turned says that what was before leads no more.
func (r *Restore) Turned() bool {
	return r != nil && (r.Phase == RestoreTurned || r.Phase == RestoreDone)
}

// Encode is the value to put.
func (r Restore) Encode() string { return encode(r) }

// ParseRestore reads a restore. Its directories lie in the member's own: who
// wrote another has made a mistake that would cost data.
func ParseRestore(value []byte) (Restore, error) {
	var r Restore
	err := decode(value, &r)
	switch {
	case err != nil:
	case r.ID == "" || r.Member == "" || r.Timeline == 0 || r.Phase == "" || r.Made == "":
		err = errors.New("id, member, timeline, phase and made are needed")
	case outside(r.Made) || r.Aside != "" && outside(r.Aside):
		err = errors.New("made and aside are directories of the member's own")
	}
	return r, err
}

func outside(dir string) bool {
	return strings.HasPrefix(dir, "/") || strings.Contains(dir, "..") || strings.Contains(dir, "//")
}

// Floor is the timeline before which nobody leads any more; 0: there is none.
func (s *State) Floor() pg.Timeline {
	if s.Restore.Turned() {
		return s.Restore.Timeline
	}
	return 0
}
