package cluster

import "time"

// WordPath is where an agent is asked for its word that it will not take over.
const WordPath = "/howdah/word"

// StandingPath is where an agent says by what it leads, whether or not there is a store.
const StandingPath = "/howdah/standing"

// A Standing is by what a member leads, or whom it has given its word not to take over.
type Standing struct {
	Member string        `json:"member"`
	Right  time.Duration `json:"right,omitempty"` // nanoseconds from now on for which it leads for certain
	By     []string      `json:"by,omitempty"`    // by whose word, since the store confirms nothing
	Leader string        `json:"leader,omitempty"`
	Given  time.Duration `json:"given,omitempty"` // nanoseconds from now on for which it keeps its word to Leader
}

// A Word is what a leader asks of another member when the store confirms nothing any
// more and, in the answer, what that one said.
type Word struct {
	Name   string        `json:"name"` // who asks
	Epoch  int64         `json:"epoch"`
	For    time.Duration `json:"for"` // nanoseconds
	Member string        `json:"member,omitempty"`
	Given  bool          `json:"given,omitempty"`
	Why    string        `json:"why,omitempty"` // it is not
}
