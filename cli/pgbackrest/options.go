package pgbackrest

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"howdah/backup/repo"
)

// kind is what an option's value must look like.
type kind int

const (
	word     kind = iota // any text
	path                 // an absolute path
	yes                  // y or n
	whole                // a number
	size                 // bytes, with a unit or without
	duration             // seconds, or with a unit
	list                 // may be given more than once
	table                // key=value, may be given more than once
)

// An option is one that pgBackRest has.
type option struct {
	name string // repo-path and pg-path stand for repo1-path, repo2-path …
	kind kind
	def  string
	// of says which commands take it; "" are all.
	of string
	// only are the values that we support; any other is refused by name. For
	// an option that we do not have at all it is the value that it may still
	// be given: what it is without being given.
	only string
	or   string // what it may be besides what its kind says
	// idle options tune something that is not there: pgBackRest's processes
	// and their protocol. They are read, and say nothing to us.
	idle   bool
	secret bool // never on the command line
}

const (
	backupRestore = "backup restore"
	writing       = "archive-push backup"
)

// options are those of 2.45 and what later versions added.
var options = []option{
	{name: "stanza"},
	{name: "config", kind: path},
	{name: "config-path", kind: path},
	{name: "config-include-path", kind: path},
	{name: "process-max", kind: whole, def: "1"},
	{name: "compress-type", def: "gz", of: writing, only: "none gz lz4 zst"},
	{name: "compress", kind: yes, of: writing},
	{name: "compress-level", kind: whole, of: writing},
	{name: "delta", kind: yes, def: "n", of: backupRestore},
	{name: "dry-run", kind: yes, def: "n", of: "expire"},
	{name: "lock-path", kind: path, def: "/tmp/pgbackrest"},
	{name: "spool-path", kind: path, def: "/var/spool/pgbackrest"},
	{name: "repo", kind: whole},
	{name: "online", kind: yes, def: "y", of: "stanza-create stanza-upgrade backup"},
	{name: "force", kind: yes, def: "n", of: "restore stanza-delete stop stanza-create backup"},

	{name: "log-level-console", def: "warn"},
	{name: "log-level-file", def: "info"},
	{name: "log-level-stderr", def: "warn"},
	{name: "log-path", kind: path, def: "/var/log/pgbackrest"},
	{name: "log-timestamp", kind: yes, def: "y"},

	{name: "archive-async", kind: yes, def: "n", of: "archive-push archive-get"},
	{name: "archive-push-queue-max", kind: size, of: "archive-push"},
	{name: "archive-get-queue-max", kind: size, def: "128MiB", of: "archive-get"},
	{name: "archive-timeout", kind: duration, def: "60", of: "backup check archive-push archive-get"},
	{name: "push-queue-room", kind: yes, def: "n", of: "archive-push"},     // ours: y has no more WAL wait than is free beside it (archive-async)
	{name: "push-while-stopping", kind: yes, def: "y", of: "archive-push"}, // ours: n leaves WAL for later while the server shuts down
	{name: "archive-header-check", kind: yes, def: "y", of: "archive-push"},
	{name: "archive-mode-check", kind: yes, def: "y", of: "backup check"},
	{name: "archive-check", kind: yes, def: "y", of: "backup"},
	{name: "archive-copy", kind: yes, def: "n", of: "backup", only: "n"},
	{name: "backup-standby", kind: yes, def: "n", of: "backup check", or: "prefer"},
	{name: "checksum-page", kind: yes, of: "backup"},
	{name: "page-header-check", kind: yes, def: "y", of: "backup", only: "y"},
	{name: "exclude", kind: list, of: "backup"},
	{name: "expire-auto", kind: yes, def: "y", of: "backup"},
	{name: "start-fast", kind: yes, def: "n", of: "backup"},
	{name: "stop-auto", kind: yes, def: "n", of: "backup", only: "n"},
	{name: "annotation", kind: table, of: "backup annotate"},
	{name: "resume", kind: yes, def: "y", of: "backup"},
	{name: "manifest-save-threshold", kind: size, def: "1GiB", of: "backup"},
	{name: "type", of: backupRestore},

	{name: "set", of: "restore expire info annotate verify"},
	{name: "target", of: "restore"},
	{name: "target-action", def: "pause", of: "restore"},
	{name: "target-exclusive", kind: yes, def: "n", of: "restore"},
	{name: "target-timeline", of: "restore"},
	{name: "archive-mode", def: "preserve", of: "restore", only: "preserve off"},
	{name: "recovery-option", kind: table, of: "restore"},
	{name: "link-all", kind: yes, def: "n", of: "restore"},
	{name: "link-map", kind: table, of: "restore"},
	{name: "tablespace-map", kind: table, of: "restore"},
	{name: "tablespace-map-all", of: "restore"},
	{name: "db-include", kind: list, of: "restore"},
	{name: "db-exclude", kind: list, of: "restore"},

	{name: "output", of: "info verify"},
	{name: "verbose", kind: yes, def: "n", of: "verify"},
	{name: "compat-exit", kind: yes, def: "n", of: "verify"}, // ours: exit 0 whatever was found, as pgBackRest does

	{name: "pg-path", kind: path},
	{name: "pg-port", kind: whole, def: "5432"},
	{name: "pg-socket-path", kind: path},
	{name: "pg-user"},
	{name: "pg-database", def: "postgres"},
	{name: "pg-host", only: " "},
	{name: "pg-version-force", only: " "},

	{name: "repo-type", def: "posix", only: "posix cifs s3"},
	{name: "repo-path", kind: path, def: "/var/lib/pgbackrest"},
	{name: "repo-cipher-type", def: "none", only: "none aes-256-cbc"},
	{name: "repo-cipher-pass", secret: true},
	{name: "new-cipher-pass-file", kind: path, of: "rekey"}, // ours, as the command is
	{name: "repo-bundle", kind: yes, def: "n", of: "backup"},
	{name: "repo-bundle-size", kind: size, def: "20MiB", of: "backup"},
	{name: "repo-bundle-limit", kind: size, def: "2MiB", of: "backup"},
	{name: "repo-block", kind: yes, def: "n", of: "backup", only: "n"},
	{name: "repo-hardlink", kind: yes, def: "n", of: "backup", only: "n"},
	{name: "repo-retention-full", kind: whole},
	{name: "repo-retention-full-type", def: "count", only: "count time"},
	{name: "repo-retention-diff", kind: whole},
	{name: "repo-retention-archive", kind: whole},
	{name: "repo-retention-archive-type", def: "full", only: "full diff incr"},
	{name: "repo-retention-history", kind: whole},
	{name: "repo-host", only: " "},
	{name: "repo-s3-bucket"},
	{name: "repo-s3-endpoint"},
	{name: "repo-s3-region"},
	{name: "repo-s3-key", secret: true},
	{name: "repo-s3-key-secret", secret: true},
	{name: "repo-s3-token", secret: true},
	{name: "repo-s3-key-type", def: "shared", only: "shared"},
	{name: "repo-s3-uri-style", def: "host", only: "host path"},
	{name: "repo-storage-host"},
	{name: "repo-storage-port", kind: whole},
	{name: "repo-storage-ca-file", kind: path},
	{name: "repo-storage-ca-path", kind: path},
	{name: "repo-storage-verify-tls", kind: yes, def: "y"},
	{name: "repo-storage-upload-chunk-size", kind: size},
	{name: "repo-symlink", kind: yes, def: "y", only: "y"},
	{name: "repo-target-time", only: " "},

	// What pgBackRest's own processes are tuned by.
	{name: "buffer-size", kind: size, idle: true},
	{name: "compress-level-network", kind: whole, idle: true},
	{name: "io-timeout", kind: duration, def: "60"}, // of a connection to a store
	{name: "db-timeout", kind: duration, idle: true},
	{name: "protocol-timeout", kind: duration, idle: true},
	{name: "neutral-umask", kind: yes, idle: true},
	{name: "job-retry", kind: whole, idle: true},
	{name: "job-retry-interval", kind: duration, idle: true},
	{name: "cmd", idle: true},
	{name: "cmd-ssh", idle: true},
	{name: "log-subprocess", kind: yes, idle: true},
	{name: "archive-missing-retry", kind: yes, idle: true},
	{name: "archive-push-batch-size", kind: size, idle: true},
	{name: "sck-block", kind: yes, idle: true},
	{name: "sck-keep-alive", kind: yes, idle: true},
	{name: "tcp-keep-alive-count", kind: whole, idle: true},
	{name: "tcp-keep-alive-idle", kind: duration, idle: true},
	{name: "tcp-keep-alive-interval", kind: duration, idle: true},
	{name: "exec-id", idle: true},
	{name: "priority", kind: whole, idle: true},
	{name: "allow-root", kind: yes, idle: true},
	{name: "beta", kind: yes, idle: true},
}

// families are options of which we have none: other stores, and pgBackRest's
// own way to other hosts.
var families = []struct{ prefix, instead string }{
	{"repo-s3-", "a bucket is opened with a key and its secret, and its objects are encrypted by repo-cipher-type; how it is reached is said by repo-storage-host, -port, -ca-file and -verify-tls"},
	{"repo-gcs-", "repositories are in a directory or in S3 (repo-type=posix, s3)"},
	{"repo-azure-", "repositories are in a directory or in S3 (repo-type=posix, s3)"},
	{"repo-sftp-", "repositories are in a directory or in S3 (repo-type=posix, s3)"},
	{"repo-storage-", "objects are stored without tags"},
	{"repo-block-", "block incremental backups are not written"},
	{"repo-host-", "pgBackRest's own protocol between hosts is not spoken; mount the repository where it is needed"},
	{"pg-host-", "pgBackRest's own protocol between hosts is not spoken; run this on the host of PostgreSQL"},
	{"tls-server-", "pgBackRest's own server is not there"},
}

// find returns the option with a name, without its number.
func find(name string) (option, bool) {
	i := slices.IndexFunc(options, func(o option) bool { return o.name == name })
	if i < 0 {
		return option{}, false
	}
	return options[i], true
}

// split takes the number out of repo2-path; options without one have 0, and
// repo-path is repo1-path.
func split(name string) (base string, number int) {
	for _, group := range []string{"repo", "pg"} {
		rest, ok := strings.CutPrefix(name, group)
		if !ok {
			continue
		}
		digits, tail, ok := strings.Cut(rest, "-")
		if !ok {
			continue
		}
		if digits == "" {
			return name, 1
		}
		if n, err := strconv.Atoi(digits); err == nil && n >= 1 && n <= 256 {
			return group + "-" + tail, n
		}
	}
	return name, 0
}

// check says whether value is one that o takes, and that we support.
func (o option) check(name, value string) error {
	invalid := func() error {
		return repo.Errorf(repo.OptionInvalidValue, "'%s' is not allowed for '%s' option", value, name)
	}
	switch o.kind {
	case path:
		if !strings.HasPrefix(value, "/") {
			return repo.Errorf(repo.OptionInvalidValue, "'%s' must begin with / for '%s' option", value, name)
		}
	case yes:
		if value != "y" && value != "n" && (value != o.or || value == "") {
			return invalid()
		}
	case whole:
		if _, err := strconv.Atoi(value); err != nil {
			return invalid()
		}
	case size:
		if _, ok := parseSize(value); !ok {
			return invalid()
		}
	case duration:
		if _, ok := parseDuration(value); !ok {
			return invalid()
		}
	case table:
		if !strings.Contains(value, "=") {
			return repo.Errorf(repo.OptionInvalidValue, "key/value '%s' not valid for '%s' option", value, name)
		}
	}
	if o.only != "" && !slices.Contains(strings.Fields(o.only), value) {
		return repo.Errorf(repo.FeatureUnsupported, "option '%s' has value '%s', which is not supported here%s", name, value, o.supported())
	}
	return nil
}

func (o option) supported() string {
	if o.only == " " {
		return ": leave it out"
	}
	return ": it may be " + strings.Join(strings.Fields(o.only), ", ")
}

// parseSize reads 20MiB, 4GB, 5m or 4096.
func parseSize(text string) (int64, bool) {
	text = strings.ToLower(text)
	digits := strings.TrimRight(text, "abcdefghijklmnopqrstuvwxyz")
	n, err := strconv.ParseInt(digits, 10, 64)
	shift, ok := map[string]uint{
		"": 0, "b": 0, "k": 10, "kb": 10, "kib": 10, "m": 20, "mb": 20, "mib": 20, "g": 30, "gb": 30, "gib": 30,
		"t": 40, "tb": 40, "tib": 40, "p": 50, "pb": 50, "pib": 50,
	}[text[len(digits):]]
	return n << shift, err == nil && ok && n >= 0 && n<<shift>>shift == n
}

// parseDuration reads seconds, as up to 2.45, or a number with a unit.
func parseDuration(text string) (time.Duration, bool) {
	digits := strings.TrimRight(text, "abcdefghijklmnopqrstuvwxyz")
	n, err := strconv.ParseFloat(digits, 64)
	unit, ok := map[string]time.Duration{
		"": time.Second, "ms": time.Millisecond, "s": time.Second, "m": time.Minute, "h": time.Hour,
		"d": 24 * time.Hour, "w": 7 * 24 * time.Hour,
	}[text[len(digits):]]
	d := time.Duration(n * float64(unit))
	return d, err == nil && ok && d >= 0
}
