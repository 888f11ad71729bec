package cluster

import "time"

// WordPath is where an agent is asked for its word that it will not take over.
const WordPath = "/howdah/word"

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
