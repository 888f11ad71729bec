// Package keep is what a member does about its repository by itself: it takes
// the backups that are due while it leads, holds a copy of another leader's,
// and answers those who ask what there is, want a backup, or read along.
//
// It runs in the jobs of a node, and nothing waits for it: WAL is archived by
// PostgreSQL's own archiver, through this program, whether this package runs or
// not. Who leads it knows from the lease page alone.
package keep

import (
	"fmt"
	"path/filepath"
	"runtime"
	"strings"

	"howdah/backup"
	"howdah/backup/repo"
	"howdah/backup/retain"
	"howdah/backup/stanza"
	"howdah/spec"
)

// How objects are compressed: WAL as fast as possible, because PostgreSQL waits
// for its archiver when it shuts down; backups smaller.
var (
	codingWAL    = repo.Coding{Compress: repo.Zstd, Level: 1}
	codingBackup = repo.Coding{Compress: repo.Zstd, Level: 3}
)

// Sizes of bundles are pgBackRest's defaults.
const (
	bundleSize  = 20 << 20
	bundleLimit = 2 << 20
)

// DeskOf is the desk of a node's own repository.
func DeskOf(n spec.Node, voice stanza.Voice) backup.Desk {
	return backup.Desk{
		Stanza: n.Cluster, Stanzas: []*backup.Stanza{backup.Posix(1, n.Backup.Repo, n.Cluster, "")},
		Server: backup.Server{
			Path: n.Postgres.Data, Socket: n.Paths.Sockets, Port: n.Postgres.Port, User: spec.Superuser, Database: "postgres",
		},
		Locks: filepath.Join(n.Paths.Run, "backup"), Voice: voice,
	}
}

// policy is what stays.
func policy(n spec.Node) retain.Policy { return retain.Policy{Full: n.Backup.Full, History: -1} }

// workers leave most of the processors to others.
func workers() int { return min(max(runtime.GOMAXPROCS(0)/4, 1), 8) }

// ConfigText is the file by which pgBackRest's commands, ours and the real
// one's, find the node's repository. PostgreSQL's archive_command names it.
func ConfigText(n spec.Node) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("# Written by howdah at every start: edits here are lost.")
	line("[global]")
	line("repo1-path=%s", n.Backup.Repo)
	line("repo1-bundle=y")
	if n.Backup.Full > 0 {
		line("repo1-retention-full=%d", n.Backup.Full)
	}
	line("lock-path=%s", filepath.Join(n.Paths.Run, "backup"))
	line("log-level-file=off")
	line("compress-type=%s", codingBackup.Compress)
	line("compress-level=%d", codingBackup.Level)
	line("start-fast=y")
	line("")
	line("[global:archive-push]")
	line("compress-level=%d", codingWAL.Level)
	line("")
	line("[%s]", n.Cluster)
	line("pg1-path=%s", n.Postgres.Data)
	line("pg1-socket-path=%s", n.Paths.Sockets)
	line("pg1-port=%d", n.Postgres.Port)
	line("pg1-user=%s", spec.Superuser)
	return b.String()
}
