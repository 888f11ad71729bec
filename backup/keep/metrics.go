package keep

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"howdah/backup"
	"howdah/backup/repo"
	"howdah/backup/stanza"
	"howdah/exposition"
)

// A Build is what the exporter says of this program.
type Build struct{ Version, Revision, Go string }

// Metrics is what pgbackrest_exporter says of the node's own repository, by its
// names (woblerr/pgbackrest_exporter 0.20). Those that were misspelt or renamed
// there are told by both spellings. What would take reading every manifest is
// left out: backup_databases and backup_last_databases.
func (k *Keeper) Metrics(ctx context.Context, b Build) []byte {
	f := facts{
		Now: time.Now(), Stanza: k.node.Cluster, Version: versionNumber(repo.Version), Build: b,
		Held: k.desk.Held(),
	}
	_, f.Restores = stanza.Held(k.desk.Locks, k.desk.Stanza, stanza.LockRestore)
	k.mu.Lock()
	if r := k.state.running; r != nil && strings.HasSuffix(r.Does, " backup") {
		f.Done, f.Total = r.Done, r.Total
	}
	k.mu.Unlock()
	f.View, f.Err = k.sighted(ctx, f.Now)
	for _, o := range k.also {
		view, err := o.sighted(ctx, f.Now)
		view.Repo = o.stanza().Repo
		f.Also = append(f.Also, facts{Now: f.Now, Stanza: f.Stanza, View: view, Err: err})
	}
	return f.metrics()
}

// lookEvery is how often the repository is looked at for whoever collects: it may
// be somewhere where every look has its price.
const lookEvery = 30 * time.Second

// A sight is what was found in the repository.
type sight struct {
	sync.Mutex
	at   time.Time
	view backup.View
	err  error
}

func (k *Keeper) sighted(ctx context.Context, now time.Time) (backup.View, error) {
	s := &k.sight
	s.Lock()
	defer s.Unlock()
	if s.at.IsZero() || s.err != nil || now.Sub(s.at) >= lookEvery {
		s.view, s.err = backup.Look(ctx, k.stanza())
		s.at = now
	}
	return s.view, s.err
}

// facts are what the metrics are made of.
type facts struct {
	Now         time.Time
	Stanza      string
	Version     int // of pgBackRest, whose format this is
	Build       Build
	View        backup.View
	Err         error // the repository could not be read
	Held        bool  // a backup is being made
	Restores    bool
	Done, Total int64   // bytes of that backup
	Also        []facts // of the other repositories
}

// Codes of a status, those of pgBackRest's info.
const (
	statusOK       = 0
	statusNoPath   = 1
	statusNoBackup = 2
	statusNoData   = 3
	statusOther    = 99
)

func (f facts) status() float64 {
	switch {
	case f.Err != nil:
		return statusOther
	case f.View.NoPath:
		return statusNoPath
	case errors.Is(f.View.Missing, fs.ErrNotExist):
		return statusNoData
	case f.View.Missing != nil:
		return statusOther
	case len(f.View.Info.Backups) == 0:
		return statusNoBackup
	}
	return statusOK
}

func (f facts) metrics() []byte {
	var t exposition.Text
	truth := exposition.Truth
	say := func(name, help string, value float64) {
		t.Gauge("pgbackrest_"+name, help, value, "stanza", f.Stanza)
	}
	say("stanza_status", "0: in order, 1: no stanza, 2: no backup, 3: data is missing, 4: repositories differ, 5: databases differ, 99: something else", f.status())
	for _, name := range []string{"stanza_backup_lock_status", "stanza_lock_status"} {
		say(name, "1 while a backup is made", truth(f.Held))
	}
	for _, name := range []string{"stanza_backup_complete_bytes", "stanza_backup_compete_bytes"} {
		say(name, "bytes that the backup which is being made has read", float64(f.Done))
	}
	say("stanza_backup_total_bytes", "bytes that the backup which is being made will read", float64(f.Total))
	say("stanza_restore_lock_status", "1 while the cluster is brought back from a backup", truth(f.Restores))
	last := map[repo.Type]repo.Backup{} // of that or a higher type
	for _, one := range append([]facts{f}, f.Also...) {
		one.repository(&t, last)
	}
	for _, kind := range []repo.Type{repo.Full, repo.Diff, repo.Incr} {
		if b, ok := last[kind]; ok {
			f.last(&t, kind, b)
		}
	}
	for _, one := range append([]facts{f}, f.Also...) {
		for _, a := range one.View.Archives {
			t.Gauge("pgbackrest_wal_archive_status", "1 if there is WAL of the database", truth(a.Min != "" && a.Max != ""),
				"database_id", strconv.Itoa(a.DB.ID), "pg_version", a.DB.Version, "repo_key", one.key(), "stanza", f.Stanza, "wal_max", a.Max, "wal_min", a.Min)
		}
	}
	t.Gauge("pgbackrest_version_info", "version of pgBackRest whose format this is, as a number", float64(f.Version))
	say("exporter_status", "1 if the repository could be read", truth(f.Err == nil))
	t.Gauge("pgbackrest_exporter_build_info", "1; the labels say what this is", 1, "branch", "", "goarch", runtime.GOARCH, "goos", runtime.GOOS,
		"goversion", f.Build.Go, "revision", f.Build.Revision, "tags", "", "version", f.Build.Version)
	return t.Bytes()
}

func (f facts) key() string { return strconv.Itoa(cmp.Or(f.View.Repo, 1)) }

// repository tells of one, and remembers the newest backup of each type.
func (f facts) repository(t *exposition.Text, last map[repo.Type]repo.Backup) {
	t.Gauge("pgbackrest_repo_status", "as pgbackrest_stanza_status, of one repository", f.status(), "cipher", cmp.Or(f.View.Cipher, "none"), "repo_key", f.key(), "stanza", f.Stanza)
	for _, b := range f.View.Info.Backups {
		f.backup(t, b, f.key())
		for _, kind := range counts[b.Type] {
			if at, ok := last[kind]; !ok || b.Stop >= at.Stop {
				last[kind] = b
			}
		}
	}
}

// counts says as what a backup counts: a full one is a differential one too, and
// that an incremental one.
var counts = map[repo.Type][]repo.Type{
	repo.Full: {repo.Full, repo.Diff, repo.Incr}, repo.Diff: {repo.Diff, repo.Incr}, repo.Incr: {repo.Incr},
}

// sizes are the values that a backup has by itself and as the last of its type.
func sizes(b repo.Backup, say func(name, help string, value float64)) {
	say("duration_seconds", "how long the backup took", float64(b.Stop-b.Start))
	say("error_status", "1 if pages had a wrong checksum", exposition.Truth(b.Error != nil && *b.Error))
	say("size_bytes", "bytes of the cluster", float64(b.Size))
	say("delta_bytes", "bytes of the cluster that the backup stored", float64(b.Delta))
	say("repo_size_bytes", "bytes in the repository that the backup needs", float64(b.RepoSize))
	say("repo_delta_bytes", "bytes in the repository that the backup takes by itself", float64(b.RepoDelta))
	say("repo_size_map_bytes", "bytes of all maps of blocks that the backup needs", extra(b, "backup-info-repo-size-map"))
	say("repo_delta_map_bytes", "bytes of the maps of blocks that the backup stored", extra(b, "backup-info-repo-size-map-delta"))
	say("annotations", "annotations of the backup", float64(len(b.Annotation)))
}

func extra(b repo.Backup, key string) float64 {
	n, _ := strconv.ParseFloat(b.Extra(key), 64) // a backup without maps has none
	return n
}

func blocks(b repo.Backup) string {
	if b.Blocks() {
		return "y"
	}
	return "n"
}

func (f facts) backup(t *exposition.Text, b repo.Backup, key string) {
	labels := []string{
		"backup_name", b.Label, "backup_type", string(b.Type), "block_incr", blocks(b), "database_id", strconv.Itoa(b.DB),
		"repo_key", key, "stanza", f.Stanza,
	}
	with := func(more ...string) []string { return append(labels[:len(labels):len(labels)], more...) }
	version := ""
	for _, d := range f.View.Info.History {
		if d.ID == b.DB {
			version = d.Version
		}
	}
	t.Gauge("pgbackrest_backup_info", "1; the labels say what the backup is", 1, with(
		"backrest_ver", b.Backrest, "lsn_start", b.LSNStart, "lsn_stop", b.LSNStop, "pg_version", version, "prior", b.Prior,
		"wal_start", b.ArchiveStart, "wal_stop", b.ArchiveStop)...)
	sizes(b, func(name, help string, value float64) {
		if name == "duration_seconds" {
			when := func(at int64) string { return time.Unix(at, 0).UTC().Format("2006-01-02 15:04:05") }
			t.Gauge("pgbackrest_backup_"+name, help, value, with("start_time", when(b.Start), "stop_time", when(b.Stop))...)
			return
		}
		t.Gauge("pgbackrest_backup_"+name, help, value, labels...)
	})
	for _, ref := range b.Reference {
		t.Gauge("pgbackrest_backup_references", "1 for each backup that this one needs", 1, with("ref_backup", ref)...)
	}
}

// last tells of the newest backup that counts as one of a type.
func (f facts) last(t *exposition.Text, kind repo.Type, b repo.Backup) {
	labels := []string{"backup_type", string(kind), "block_incr", blocks(b), "stanza", f.Stanza}
	t.Gauge("pgbackrest_backup_since_last_completion_seconds", "since the newest backup of a type, or of one that holds more, was complete",
		f.Now.Sub(time.Unix(b.Stop, 0)).Seconds(), labels...)
	sizes(b, func(name, help string, value float64) {
		t.Gauge("pgbackrest_backup_last_"+name, help+", of the newest of a type", value, labels...)
	})
	for _, ref := range b.Reference {
		t.Gauge("pgbackrest_backup_last_references", "1 for each backup that the newest of a type needs", 1, append(labels[:len(labels):len(labels)], "ref_backup", ref)...)
	}
}

// versionNumber is X.Y or X.Y.Z as the exporter has it: 2057000 is 2.57.0.
func versionNumber(version string) int {
	n := 0
	parts := strings.Split(version, ".")
	for i := range 3 {
		p := 0
		if i < len(parts) {
			p, _ = strconv.Atoi(parts[i])
		}
		n = n*1000 + p
	}
	return n
}
