package spec

import "time"

// Logs is what a node keeps of its log files, and who may read it. The zero Logs
// keeps nothing.
type Logs struct {
	Data    string        `json:"data"`    // directory of its segments; "": none are kept
	Keep    time.Duration `json:"keep"`    // how long records stay
	Size    int64         `json:"size"`    // bytes that they may take
	Listen  string        `json:"listen"`  // host:port where other machines read them; "": nowhere
	Members []Holder      `json:"members"` // of the cluster: where each one's are read
	Ship    []string      `json:"ship"`    // URLs of log stores that are sent what is kept
}
