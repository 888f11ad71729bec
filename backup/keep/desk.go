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
	"howdah/nodefile"
	"howdah/secret"
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

// Open opens a node's repository, the first of several: on its disk, or in a bucket,
// by the keys among its cluster's secrets.
func Open(n spec.Node) (*stanza.Stanza, error) {
	if !n.Backup.Shared() {
		return OpenWith(n, nil)
	}
	secrets, err := nodefile.Secrets(n)
	if err != nil {
		return nil, err
	}
	return OpenWith(n, secrets)
}

// OpenWith is Open with secrets that need not be in their place yet.
func OpenWith(n spec.Node, secrets map[string]secret.Text) (*stanza.Stanza, error) {
	b := n.Backup
	if !b.Shared() {
		return backup.Posix(b.Key(), b.Repo, n.Cluster, ""), nil
	}
	at := b.Bucket
	return backup.S3(b.Key(), backup.Bucket{
		Bucket: at.Name, Endpoint: at.Endpoint, Region: at.Region, Key: secrets[spec.SecretOf(spec.SecretBucketKey, b.Number)], KeySecret: secrets[spec.SecretOf(spec.SecretBucketPass, b.Number)],
		PathStyle: at.PathStyle, Path: b.Repo, Host: at.Host, Port: at.Port, CAFile: at.CAFile, CAPath: at.CAPath, NoVerify: at.NoVerify,
	}, n.Cluster, pass(b, secrets))
}

// pass is the phrase by which the repository is encrypted; "": it is not.
func pass(b spec.Backup, secrets map[string]secret.Text) secret.Text {
	if b.Cipher == "" {
		return ""
	}
	return secrets[spec.SecretOf(spec.SecretCipher, b.Number)]
}

// DeskOf is the desk of a node's own repository.
func DeskOf(n spec.Node, voice stanza.Voice) (backup.Desk, error) {
	at, err := Open(n)
	return backup.Desk{
		Stanza: n.Cluster, Stanzas: []*backup.Stanza{at},
		Server: backup.Server{
			Path: n.Postgres.Data, Socket: n.Paths.Sockets, Port: n.Postgres.Port, User: spec.Superuser, Database: "postgres",
		},
		Locks: filepath.Join(n.Paths.Run, "backup"), Voice: voice,
	}, err
}

// policy is what stays.
func policy(n spec.Node) retain.Policy {
	return retain.Policy{Full: n.Backup.Full, ByTime: n.Backup.ByTime, History: -1}
}

// pushers are how many files are pushed at once: where that is far, a request is
// mostly waited for.
const pushers = 4

// workers leave most of the processors to others.
func workers() int { return min(max(runtime.GOMAXPROCS(0)/4, 1), 8) }

// ConfigText is the file by which pgBackRest's commands, ours and the real
// one's, find the node's repositories. PostgreSQL's archive_command names it. With
// what opens a bucket it is for its owner alone.
func ConfigText(n spec.Node, secrets map[string]secret.Text) string {
	b := n.Backup
	var text strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&text, format+"\n", args...) }
	line("# Written by howdah at every start: edits here are lost.")
	line("[global]")
	for _, one := range b.Each() {
		repositoryText(one, secrets, func(format string, args ...any) { line("repo%d-"+format, append([]any{one.Key()}, args...)...) })
	}
	line("lock-path=%s", filepath.Join(n.Paths.Run, "backup"))
	line("log-level-file=off")
	line("compress-type=%s", codingBackup.Compress)
	line("compress-level=%d", codingBackup.Level)
	line("start-fast=y")
	line("")
	line("[global:archive-push]")
	if b.Spool != "" {
		line("archive-async=y")
		line("spool-path=%s", b.Spool)
		line("process-max=%d", pushers)
	}
	line("compress-level=%d", codingWAL.Level)
	if b.Queue > 0 {
		line("archive-push-queue-max=%d", b.Queue)
	}
	line("")
	line("[%s]", n.Cluster)
	line("pg1-path=%s", n.Postgres.Data)
	line("pg1-socket-path=%s", n.Paths.Sockets)
	line("pg1-port=%d", n.Postgres.Port)
	line("pg1-user=%s", spec.Superuser)
	return text.String()
}

// repositoryText is what that file says of one repository.
func repositoryText(b spec.Backup, secrets map[string]secret.Text, line func(format string, args ...any)) {
	line("path=%s", b.Repo)
	if at := b.Bucket; b.Shared() {
		line("type=s3")
		line("s3-bucket=%s", at.Name)
		line("s3-endpoint=%s", at.Endpoint)
		line("s3-region=%s", at.Region)
		line("s3-key=%s", secrets[spec.SecretOf(spec.SecretBucketKey, b.Number)].Reveal())
		line("s3-key-secret=%s", secrets[spec.SecretOf(spec.SecretBucketPass, b.Number)].Reveal())
		if at.PathStyle {
			line("s3-uri-style=path")
		}
		for _, o := range [][2]string{{"host", at.Host}, {"ca-file", at.CAFile}, {"ca-path", at.CAPath}} {
			if o[1] != "" {
				line("storage-%s=%s", o[0], o[1])
			}
		}
		if at.Port != 0 {
			line("storage-port=%d", at.Port)
		}
		if at.NoVerify {
			line("storage-verify-tls=n")
		}
	}
	if b.Cipher != "" {
		line("cipher-type=%s", b.Cipher)
		line("cipher-pass=%s", pass(b, secrets).Reveal())
	}
	line("bundle=y")
	if b.BundleSize > 0 {
		line("bundle-size=%d", b.BundleSize)
	}
	if b.BundleLimit > 0 {
		line("bundle-limit=%d", b.BundleLimit)
	}
	if b.Full > 0 {
		line("retention-full=%d", b.Full)
		if b.ByTime {
			line("retention-full-type=time")
		}
	}
}
