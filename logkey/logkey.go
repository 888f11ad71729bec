// Package logkey names the attributes of log lines, so that one thing has one name.
package logkey

// Attribute keys.
const (
	Cluster = "cluster"
	Member  = "member"
	Role    = "role"
	Trail   = "trail"
	Action  = "action"
	Error   = "error"
	Took    = "took"
	PID     = "pid"
	Path    = "path"
	Addr    = "addr"
	Epoch   = "epoch"
	LSN     = "lsn"
	Line    = "line"
	Signal  = "signal"
	Version = "version"

	Database   = "database"
	Collector  = "collector"
	Repository = "repository"
)
