// Package pgbackrest is the command line of pgBackRest 2.45, over our own
// backup wing: its options, configuration file, environment, log lines, output
// and exit codes.
//
// What pgBackRest has and we do not is refused by name; what only tunes its
// processes is read and passed over (docs/backup.md lists both).
package pgbackrest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"howdah/backup"
	"howdah/backup/repo"
	"howdah/backup/retain"
	"howdah/secret"
)

// A Process is what the command line gets from the process that it runs in.
type Process struct {
	Out, Err io.Writer
	Environ  []string
	Self     []string // how this program is called as pgbackrest: for restore_command
}

// stopping is the exit code of an archive-push that leaves WAL for later because
// the server shuts down. Above 128 PostgreSQL's archiver ends at once, as it
// does when its command was killed, and does not try again for two seconds.
const stopping = 128 + int(syscall.SIGTERM)

// notFound is the exit code of archive-get when the archive ends.
const notFound = 1

// Run carries out one command line and returns the exit code.
func Run(ctx context.Context, args []string, p Process) int {
	began := time.Now()
	if len(args) == 1 && (args[0] == "--help" || args[0] == "-h") { // what a person tries first
		args = nil
	}
	c, err := parse(args, p.Environ)
	l := newLog(&c, p)
	defer l.close()
	if err == nil {
		for _, w := range c.warn {
			l.voice().Warn("%s", w)
		}
		l.begin(&c, args)
		err = c.bounded(ctx, p, l)
	}
	code := 0
	switch {
	case errors.Is(err, errNotFound):
		err, code = nil, notFound
	case errors.Is(err, errStopping):
		l.voice().Warn("%s", err)
		err, code = nil, stopping
	case errors.Is(err, errFound):
		err, code = nil, int(repo.FileInvalid)
	case err != nil:
		code = int(repo.ClassOf(err))
		if ctx.Err() != nil {
			err, code = repo.Errorf(repo.Terminated, "terminated on signal: %w", err), int(repo.Terminated)
		}
		l.error(code, err)
	}
	l.end(&c, code, err, time.Since(began))
	return code
}

// bounded runs the command, and leaves an archive-push alone that does not end:
// PostgreSQL waits for it, also when it shuts down. It is tried again.
func (c *command) bounded(ctx context.Context, p Process, l *log) error {
	if c.name != "archive-push" || c.async {
		return c.run(ctx, p, l)
	}
	limit := c.time("archive-timeout")
	ended := make(chan error, 1)
	go func() { ended <- c.run(ctx, p, l) }()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case err := <-ended:
		return err
	case <-timer.C:
		return repo.Errorf(repo.ArchiveTimeout, "the file was not pushed within the %dms of archive-timeout: a repository does not answer", limit.Milliseconds())
	}
}

var (
	errNotFound = errors.New("not found")
	errFound    = errors.New("defects were found") // told already
	errStopping = errors.New("not pushed, because the server shuts down: whoever leads next has the segment and archives it, or this server when it is back")
)

func (c *command) run(ctx context.Context, p Process, l *log) error {
	switch c.name {
	case "version":
		fmt.Fprintln(p.Out, "pgBackRest "+repo.Version)
		return nil
	case "help":
		help(p.Out)
		return nil
	case "start", "stop":
		d := backup.Desk{Stanza: c.text("stanza"), Locks: c.text("lock-path"), Voice: l.voice()}
		if c.name == "start" {
			return d.Start()
		}
		return d.Stop(c.yes("force"), func(pid int) error { return syscall.Kill(pid, syscall.SIGTERM) })
	case "info":
		return c.info(ctx, p, l)
	}
	d, err := c.desk(l)
	if err != nil {
		return err
	}
	if err := c.roles(ctx, &d); err != nil {
		return err
	}
	switch c.name {
	case "stanza-create":
		return d.Create(ctx, !c.has("online") || c.yes("online"))
	case "stanza-upgrade":
		return d.Upgrade(ctx, !c.has("online") || c.yes("online"))
	case "stanza-delete":
		return d.Delete(ctx, c.yes("force"))
	case "archive-push":
		if c.async {
			return c.pushWaiting(ctx, d)
		}
		return c.push(ctx, d, p)
	case "archive-get":
		if c.async {
			return c.fetchAhead(ctx, d)
		}
		return c.get(ctx, d, p, l)
	case "check":
		return d.Check(ctx, c.yes("archive-mode-check"), c.time("archive-timeout"))
	case "backup":
		return c.backup(ctx, d)
	case "restore":
		return c.restore(ctx, d, p)
	case "expire":
		keep := map[int]retain.Policy{}
		for _, s := range d.Stanzas {
			keep[s.Repo] = c.policy(s.Repo)
		}
		return d.Expire(ctx, keep, c.text("set"), c.yes("dry-run"))
	case "annotate":
		label, err := c.need("set")
		if err != nil {
			return err
		}
		if !c.has("annotation") {
			return repo.Errorf(repo.OptionRequired, "annotate command requires option: annotation")
		}
		return d.Annotate(ctx, label, c.pairs("annotation"))
	case "rekey":
		pass, err := c.newPass()
		if err != nil {
			return err
		}
		return d.Rekey(ctx, pass)
	case "verify":
		return c.verify(ctx, d, p)
	}
	return repo.Errorf(repo.Assert, "command '%s' has no code", c.name)
}

func help(w io.Writer) {
	fmt.Fprintf(w, "pgBackRest %s - General help (Howdah's own program, for the same repositories)\n\nUsage:\n    pgbackrest [options] [command]\n\nCommands:\n", repo.Version)
	for _, name := range commands {
		fmt.Fprintf(w, "    %s\n", name)
	}
	fmt.Fprintln(w, "\nOptions are those of pgBackRest; one that is not supported here is refused by name.")
}

// desk opens the repositories and finds the server.
func (c *command) desk(l *log) (backup.Desk, error) {
	name, err := c.need("stanza")
	if err != nil {
		return backup.Desk{}, err
	}
	d := backup.Desk{
		Stanza: name, Locks: c.text("lock-path"), Voice: l.voice(),
		Server: c.server(1),
	}
	if d.Server.Path == "" && !slices.Contains([]string{"expire", "annotate", "verify", "info", "rekey"}, c.name) {
		return d, repo.Errorf(repo.OptionRequired, "%s command requires option: pg1-path", c.name)
	}
	keys, err := c.repos()
	if err != nil {
		return d, err
	}
	d.Stanzas, err = c.stanzas(keys, name)
	return d, err
}

func (c *command) stanzas(keys []int, name string) (all []*backup.Stanza, err error) {
	for _, key := range keys {
		s, err := c.stanza(key, name)
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
}

// roles finds who is the primary of several servers, and with backup-standby a
// standby from which is copied.
func (c *command) roles(ctx context.Context, d *backup.Desk) error {
	standby := c.text("backup-standby")
	if !slices.Contains(withServer, c.name) || c.has("online") && !c.yes("online") {
		return nil
	}
	var all []backup.Server
	for _, n := range c.servers() {
		all = append(all, c.server(n))
	}
	if len(all) < 2 {
		if standby != "n" {
			d.Voice.Warn("option backup-standby is enabled but standby is not properly configured - backups will be performed from the primary")
		}
		return nil
	}
	primary, follower, err := backup.Roles(ctx, all, d.Voice)
	if err != nil {
		return err
	}
	switch d.Server = primary; {
	case standby == "n":
	case follower != nil:
		d.Replica = follower
	case standby == "prefer":
		d.Voice.Warn("unable to find a standby to perform the backup, using primary instead")
	default:
		return repo.Errorf(repo.DBConnect, "unable to find standby cluster - cannot proceed")
	}
	return nil
}

// withServer are the commands that want the primary, whichever of the servers it is.
var withServer = []string{"stanza-create", "stanza-upgrade", "check", "backup"}

// servers are the numbers of those that are configured.
func (c *command) servers() []int {
	all := []int{1}
	for name := range c.values {
		if base, n := split(name); base == "pg-path" && !slices.Contains(all, n) {
			all = append(all, n)
		}
	}
	slices.Sort(all)
	return all
}

func (c *command) server(n int) backup.Server {
	at := func(option string) string { return fmt.Sprintf("pg%d-%s", n, option) }
	return backup.Server{
		Path: c.text(at("path")), Socket: c.text(at("socket-path")), Port: c.number(at("port")),
		User: c.text(at("user")), Database: c.text(at("database")),
	}
}

func (c *command) stanza(key int, name string) (*backup.Stanza, error) {
	at := func(option string) string { return fmt.Sprintf("repo%d-%s", key, option) }
	pass := ""
	if c.text(at("cipher-type")) == repo.CipherAES {
		var err error
		if pass, err = c.need(at("cipher-pass")); err != nil {
			return nil, err
		}
	}
	if c.text(at("type")) == "s3" {
		bucket, err := c.bucket(at)
		if err != nil {
			return nil, err
		}
		return backup.S3(key, bucket, name, secret.Text(pass))
	}
	return backup.Posix(key, c.text(at("path")), name, secret.Text(pass)), nil
}

// bucket is where a repository is that is in one.
func (c *command) bucket(at func(string) string) (b backup.Bucket, err error) {
	var needed [5]string
	for i, option := range []string{"s3-bucket", "s3-endpoint", "s3-region", "s3-key", "s3-key-secret"} {
		if needed[i], err = c.need(at(option)); err != nil {
			return b, err
		}
	}
	return backup.Bucket{
		Bucket: needed[0], Endpoint: needed[1], Region: needed[2], Key: secret.Text(needed[3]), KeySecret: secret.Text(needed[4]),
		Token: secret.Text(c.text(at("s3-token"))), PathStyle: c.text(at("s3-uri-style")) == "path", Path: c.text(at("path")),
		Chunk: c.bytes(at("storage-upload-chunk-size")), Host: c.text(at("storage-host")), Port: c.number(at("storage-port")),
		CAFile: c.text(at("storage-ca-file")), CAPath: c.text(at("storage-ca-path")), NoVerify: !c.yes(at("storage-verify-tls")),
		Hush: c.time("io-timeout"),
	}, nil
}

// coding is how new objects are stored, but for their keys.
func (c *command) coding() (repo.Coding, error) {
	t := repo.Compression(c.text("compress-type"))
	if !c.has("compress-type") && c.has("compress") && !c.yes("compress") {
		t = repo.None
	}
	level := int(t.Level())
	if c.has("compress-level") {
		level = c.number("compress-level")
	}
	ranges := map[repo.Compression][2]int{repo.None: {0, 9}, repo.Gzip: {-1, 9}, repo.LZ4: {-5, 12}, repo.Zstd: {-7, 22}}
	if r := ranges[t]; level < r[0] || level > r[1] {
		return repo.Coding{}, repo.Errorf(repo.OptionInvalidValue, "'%d' is out of range for 'compress-level' option when 'compress-type' option = '%s'", level, t)
	}
	return repo.Coding{Compress: t, Level: level}, nil
}

func (c *command) backup(ctx context.Context, d backup.Desk) error {
	if c.has("online") && !c.yes("online") {
		return repo.Errorf(repo.FeatureUnsupported, "option 'no-online' is not supported here: a backup is made of a running server")
	}
	coding, err := c.coding()
	if err != nil {
		return err
	}
	t := repo.Type(cmp.Or(c.text("type"), string(repo.Incr)))
	if t != repo.Full && t != repo.Diff && t != repo.Incr {
		return repo.Errorf(repo.OptionInvalidValue, "'%s' is not allowed for 'type' option", t)
	}
	d.Stanzas = d.Stanzas[:1] // the first, unless --repo says which
	at := func(option string) string { return fmt.Sprintf("repo%d-%s", d.Stanzas[0].Repo, option) }
	b := backup.Take{
		Type: t, Coding: coding, Workers: c.number("process-max"), Delta: c.yes("delta"), Fast: c.yes("start-fast"),
		Annotation: c.pairs("annotation"), Exclude: c.values["exclude"],
		Bundle: c.yes(at("bundle")), BundleSize: c.bytes(at("bundle-size")), BundleLimit: c.bytes(at("bundle-limit")),
		ArchiveCheck: c.yes("archive-check"), ArchiveCommand: c.yes("archive-mode-check"), Wait: c.time("archive-timeout"),
		PreferStandby: c.text("backup-standby") == "prefer", Resume: c.yes("resume"), SaveEvery: c.bytes("manifest-save-threshold"),
	}
	if c.has("checksum-page") {
		pages := c.yes("checksum-page")
		b.Pages = &pages
	}
	var keep *retain.Policy
	if c.yes("expire-auto") {
		p := c.policy(d.Stanzas[0].Repo)
		keep = &p
	}
	if !c.has(at("retention-full")) {
		d.Voice.Warn("option '%s' is not set for '%s=count', the repository may run out of space", at("retention-full"), at("retention-full-type"))
	}
	_, err = d.Backup(ctx, b, keep)
	return err
}

func (c *command) policy(key int) retain.Policy {
	at := func(option string) string { return fmt.Sprintf("repo%d-retention-%s", key, option) }
	p := retain.Policy{
		Full: c.number(at("full")), ByTime: c.text(at("full-type")) == "time", Diff: c.number(at("diff")),
		Archive: c.number(at("archive")), ArchiveOf: repo.Type(c.text(at("archive-type"))), History: -1,
	}
	if c.has(at("history")) {
		p.History = c.number(at("history"))
	}
	return p
}

// newPass is the pass phrase that a file holds; "": none is named.
func (c *command) newPass() (secret.Text, error) {
	name := c.text("new-cipher-pass-file")
	if name == "" {
		return "", nil
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return "", repo.Errorf(repo.FileMissing, "unable to read the new pass phrase: %w", err)
	}
	pass := strings.TrimRight(string(data), "\r\n")
	if pass == "" || strings.ContainsAny(pass, "\r\n") || strings.TrimSpace(pass) != pass {
		return "", repo.Errorf(repo.OptionInvalidValue, "'%s' must hold the new pass phrase on one line, without blanks around it", name)
	}
	return secret.Text(pass), nil
}

// executable is this program as PostgreSQL will call it.
func executable(p Process) []string {
	if len(p.Self) > 0 {
		return p.Self
	}
	self, err := os.Executable()
	if err != nil {
		self = "pgbackrest"
	}
	return []string{self}
}
