package cluster

import "time"

// DirApplied is where it is kept what was applied to the cluster: a record a
// time, by when it began.
const DirApplied = "howdah/applied/"

// An Applied is one time that a declaration was applied to a cluster.
type Applied struct {
	Key    string    `json:"-"`
	At     time.Time `json:"at"`               // its first step
	Ended  time.Time `json:"ended,omitzero"`   // zero: it goes on, or was cut off
	By     string    `json:"by"`               // user@host
	What   string    `json:"what"`             // apply pigsty.yml
	Steps  []string  `json:"steps"`            // that were taken, in words: "made role app"
	More   int       `json:"more,omitempty"`   // steps beyond those that are listed
	Failed []string  `json:"failed,omitempty"` // steps that could not be taken, and why
}

// Bounds of what is kept: the store is no archive.
const (
	AppliedKept = 50  // records of a cluster
	appliedList = 100 // steps of a record
	appliedLine = 300 // bytes of a step
)

// Note adds a step.
func (a *Applied) Note(step string, failed bool) {
	if len(step) > appliedLine {
		step = step[:appliedLine] + "…"
	}
	list := &a.Steps
	if failed {
		list = &a.Failed
	}
	if len(*list) >= appliedList {
		a.More++
		return
	}
	*list = append(*list, step)
}

// Encode is the value to put.
func (a Applied) Encode() string { return encode(a) }

// ParseApplied reads a record.
func ParseApplied(key string, value []byte) (Applied, error) {
	a := Applied{Key: key}
	err := decode(value, &a)
	return a, err
}
