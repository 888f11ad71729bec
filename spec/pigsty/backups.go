package pigsty

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"howdah/secret"
	"howdah/spec"
)

// backups are kept on every member, unless pgbackrest_enabled is off; the lines
// of pg_crontab that make one say when.
func (r *reader) backups(s *server, secrets map[string]secret.Text) spec.Backups {
	b := spec.Backups{On: s.bool("pgbackrest_enabled"), First: s.bool("pgbackrest_init_backup"), Copies: 2}
	b.Full = 2
	if list := s.get("pg_crontab"); list != nil {
		for _, v := range list.list {
			if line, ok := spec.CronBackup(v.String()); ok {
				b.Times = append(b.Times, line)
			} else {
				r.find(spec.Later, v.line, "pg_crontab: "+quote(v.String())+" makes no backup, and nothing else is run in this version", "put it into the crontab of the machine")
			}
		}
	}
	if b.On && len(b.Times) == 0 {
		b.Times = spec.BackupTimes()
		s.derive("pg_crontab", strings.Join(b.Times, "; "), "default: our own")
	}
	if b.On {
		r.repositories(s, &b, secrets)
		b.Stream = r.stream(s)
		b.Drill = r.drill(s)
		b.Rate = size(s.text("pgbackrest_rate"))
		b.Standby = s.bool("pgbackrest_standby")
		b.Replicas = r.replicas(s, b)
		limit := func(text string) int64 {
			switch text {
			case "auto":
				return 0
			case "off", "false":
				return spec.NoLimit
			}
			return size(text)
		}
		b.Queue, b.Lag = limit(s.text("pgbackrest_queue_max")), limit(s.text("pgbackrest_lag_max"))
		for i := range b.More {
			b.More[i].Stream, b.More[i].Queue = b.Stream, b.Queue
		}
	}
	return b
}

// drill is when a restore is rehearsed; "": not by itself.
func (r *reader) drill(s *server) string {
	text := s.text("pgbackrest_drill")
	switch text {
	case "off", "false", "":
		return ""
	}
	if t, err := spec.ParseDrillTime(text); err != nil || t.Next(time.Unix(0, 0).UTC()).IsZero() {
		r.find(spec.Problem, s.line("pgbackrest_drill"), "pgbackrest_drill is "+quote(text), "write five fields of cron, like '"+spec.DrillTime+"' for Saturdays at four, or off")
	}
	return text
}

// replicas is how a new member gets its data. Where all reach the repository a backup
// is the second way, if no base backup can be had, as Pigsty has it.
func (r *reader) replicas(s *server, b spec.Backups) []string {
	v := s.get("pg_create_replica_methods")
	var ways []string
	switch {
	case v == nil || v.kind != listKind && v.String() == "auto":
		if slices.ContainsFunc(b.Repositories(), spec.Repository.Shared) {
			return []string{spec.CopyBase, spec.CopyRepository}
		}
		return nil
	case v.kind == listKind:
		for _, e := range v.list {
			ways = append(ways, e.String())
		}
	default:
		ways = []string{v.String()}
	}
	for i, w := range ways {
		if w != spec.CopyBase && w != spec.CopyRepository || slices.Contains(ways[:i], w) {
			r.find(spec.Problem, s.line("pg_create_replica_methods"), "pg_create_replica_methods has "+quote(w), "name "+spec.CopyRepository+" and "+spec.CopyBase+", each once, in the order in which they are to be tried")
			return nil
		}
	}
	return ways
}

// stream is how the end of the log comes into the repository.
func (r *reader) stream(s *server) spec.Stream {
	text := s.text("pgbackrest_stream_interval")
	every, ok := interval(text)
	if !ok || every != 0 && (every < 50*time.Millisecond || every > time.Minute) {
		r.find(spec.Problem, s.line("pgbackrest_stream_interval"), "pgbackrest_stream_interval is "+quote(text), "write a time from 50ms to 1min, or 0 for what is usual: 250ms, and 1s into a bucket")
	}
	return spec.Stream{Off: !s.bool("pgbackrest_stream"), Size: size(s.text("pgbackrest_stream_size")), Interval: every}
}

// interval reads 300ms, 1s, 1min.
func interval(text string) (time.Duration, bool) {
	digits := strings.TrimRight(text, " abcdefghijklmnopqrstuvwxyz")
	n, err := strconv.ParseInt(digits, 10, 32)
	unit, ok := map[string]time.Duration{
		"us": time.Microsecond, "ms": time.Millisecond, "": time.Second, "s": time.Second, "sec": time.Second, "secs": time.Second, "second": time.Second,
		"seconds": time.Second, "min": time.Minute, "minute": time.Minute, "minutes": time.Minute, "mins": time.Minute,
	}[strings.TrimSpace(text[len(digits):])]
	return time.Duration(n) * unit, err == nil && ok
}

// What a repository of pgbackrest_repo may have. Pigsty hands each key to
// pgBackRest as it is: repo1-KEY with dashes.
var (
	repositoryKeys = map[string]shape{
		"type": "text", "path": "path", "s3_bucket": "text", "s3_endpoint": "text", "s3_region": "text", "s3_key": "secret", "s3_key_secret": "secret",
		"s3_uri_style": "style", "storage_host": "text", "storage_port": "port", "storage_ca_file": "path", "storage_ca_path": "path",
		"storage_verify_tls": "bool", "cipher_type": "cipher", "cipher_pass": "secret", "retention_full_type": "counted", "retention_full": "int",
		"bundle": "bool", "bundle_size": "size", "bundle_limit": "size", "block": "bool",
		// Read, and not kept to.
		"retention_diff": "int", "retention_archive": "int", "retention_archive_type": "text", "retention_history": "int",
		"s3_token": "secret", "s3_key_type": "text", "s3_role": "text", "s3_kms_key_id": "text", "s3_sse_customer_key": "secret",
		"storage_tag": "text", "storage_upload_chunk_size": "size", "hardlink": "bool", "symlink": "bool",
	}
	repositoryTypes = []string{"", "posix", "s3"}
	// defaultPath is pgBackRest's.
	defaultPath = "/var/lib/pgbackrest"
)

// repositories are those that pgbackrest_method names: one, or, which is more than
// Pigsty has, a list.
func (r *reader) repositories(s *server, b *spec.Backups, secrets map[string]secret.Text) {
	method := s.get("pgbackrest_method")
	if method == nil || method.kind != listKind {
		r.repository(s, method.String(), b, 1, secrets)
		return
	}
	bad := func(text, do string) { r.find(spec.Problem, s.line("pgbackrest_method"), text, do) }
	if len(method.list) == 0 {
		bad("pgbackrest_method names no repository", "name one, or say pgbackrest_enabled: false")
	}
	var names []string
	own := ""
	for _, v := range method.list {
		name, i := v.String(), len(names)
		if slices.Contains(names, name) {
			bad("pgbackrest_method names "+quote(name)+" twice", "name it once")
			continue
		}
		names = append(names, name)
		one := spec.Backups{}
		one.Full = 2
		r.repository(s, name, &one, i+1, secrets)
		if !one.Shared() {
			if own != "" {
				bad("pgbackrest_method names "+quote(own)+" and "+quote(name)+", which are both on each member's disk", "keep one of them; another copy on another member is made by itself")
			}
			own = name
		}
		one.Name = name
		for j, before := range b.Repositories()[:i] {
			if one.Shared() && before.Bucket.Name == one.Bucket.Name && before.Bucket.Endpoint == one.Bucket.Endpoint && (j == 0 && b.Path == one.Path || j > 0 && b.More[j-1].Path == one.Path) {
				bad("repositories "+quote(before.Name)+" and "+quote(name)+" are one place in one bucket", "give them different paths or buckets")
			}
		}
		if i == 0 {
			b.Path, b.Repository = one.Path, one.Repository
			continue
		}
		b.More = append(b.More, spec.Further{Path: one.Path, Repository: one.Repository})
	}
}

// repository is one of pgbackrest_repo: a bucket for all members, or, with type
// posix, each member's own directory.
func (r *reader) repository(s *server, method string, b *spec.Backups, key int, secrets map[string]secret.Text) {
	all := s.get("pgbackrest_repo")
	at := all.field(method)
	if at.null() || at.kind != mapKind {
		var have []string
		for _, f := range all.fields {
			have = append(have, f.name)
		}
		switch text := "pgbackrest_repo of cluster " + s.cluster + " has no " + quote(method) + " (it has " + strings.Join(have, ", ") + ")"; {
		case s.given("pgbackrest_method"):
			r.find(spec.Problem, s.line("pgbackrest_method"), text, "pgbackrest_method names one of its keys; a pgbackrest_repo stands in place of the default, with nothing of it")
		default:
			r.find(spec.Warning, s.line("pgbackrest_repo"), text+", so every member keeps a repository on its own disk", "name one of them with pgbackrest_method")
		}
		return
	}
	line := s.line("pgbackrest_repo")
	if line == 0 {
		line = s.line("pgbackrest_method")
	}
	what := "repository " + quote(method) + " of cluster " + s.cluster
	bad := func(why, do string) { r.find(spec.Problem, line, what+" "+why, do) }
	text := func(key string) string { return at.field(key).String() }
	number := func(key string) int {
		n, _ := whole(at.field(key))
		return int(n)
	}
	if !at.field("retention_full").null() {
		b.Full, b.ByTime = number("retention_full"), text("retention_full_type") == "time"
	}
	b.BundleSize, b.BundleLimit = size(text("bundle_size")), size(text("bundle_limit"))
	if s.given("pgbackrest_repo") {
		for _, key := range []string{"retention_diff", "retention_archive", "retention_history", "s3_token", "s3_key_type", "s3_role", "s3_kms_key_id", "s3_sse_customer_key", "storage_tag", "storage_upload_chunk_size"} {
			if !at.field(key).null() {
				r.find(spec.Later, at.field(key).line, what+": "+key+" has no effect in this version", "")
			}
		}
		if is, _ := truth(at.field("block")); is {
			r.find(spec.Later, at.field("block").line, what+": files are stored whole, not in blocks", "")
		}
		if is, ok := truth(at.field("bundle")); ok && !is {
			r.find(spec.Warning, at.field("bundle").line, what+": small files are bundled all the same", "")
		}
	}
	encrypted := text("cipher_type") == "aes-256-cbc"
	switch kind := text("type"); kind {
	case "", "posix":
		if encrypted {
			bad("is encrypted, and this version encrypts only what is in a bucket", "take cipher_type out, or give the cluster a bucket (type: s3)")
		}
		if s.given("pgbackrest_repo") && text("path") != "" && text("path") != "/pg/backup" {
			r.find(spec.Later, line, what+" is in each member's directory, not in "+text("path"), "")
		}
		return
	case "s3":
	default:
		bad("has type "+quote(kind)+", and this version has posix and s3", "use a bucket that speaks S3, or the members' own disks (pgbackrest_method: local)")
		return
	}
	for _, key := range []string{"s3_bucket", "s3_endpoint", "s3_region", "s3_key", "s3_key_secret"} {
		if text(key) == "" {
			bad("has no "+key, "write it; secrets also as env:NAME, file:PATH or command:PROGRAM")
		}
	}
	b.Path = text("path")
	if b.Path == "" {
		b.Path = defaultPath
	}
	verify, given := truth(at.field("storage_verify_tls"))
	b.Bucket = spec.Bucket{
		Name: text("s3_bucket"), Endpoint: text("s3_endpoint"), Region: text("s3_region"), PathStyle: text("s3_uri_style") == "path",
		Host: text("storage_host"), Port: number("storage_port"), CAFile: text("storage_ca_file"), CAPath: text("storage_ca_path"),
		NoVerify: given && !verify,
	}
	secrets[spec.SecretOf(spec.SecretBucketKey, key)], secrets[spec.SecretOf(spec.SecretBucketPass, key)] = secret.Text(text("s3_key")), secret.Text(text("s3_key_secret"))
	if encrypted {
		if text("cipher_pass") == "" {
			bad("is to be encrypted, and has no cipher_pass", "write it, and keep it where it is not lost with the inventory: without it no backup is worth anything")
		}
		b.Cipher, secrets[spec.SecretOf(spec.SecretCipher, key)] = "aes-256-cbc", secret.Text(text("cipher_pass"))
	}
}

// size is what a text like 20MiB stands for, in bytes; K, KB and KiB are the same
// to pgBackRest.
func size(text string) int64 {
	digits := strings.TrimRight(text, " kKmMgGtTiIbB")
	n, _ := strconv.ParseInt(digits, 10, 64) // its shape was seen before
	unit := strings.ToLower(strings.TrimSpace(text[len(digits):]))
	if i := slices.Index([]string{"k", "m", "g", "t"}, unit[:min(1, len(unit))]); i >= 0 {
		n <<= 10 * (i + 1)
	}
	return n
}
