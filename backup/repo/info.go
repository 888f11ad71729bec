package repo

import (
	"cmp"
	"slices"
	"strconv"

	"howdah/pg"
	"howdah/secret"
)

// A DB is the database system that a stanza is about, at one time of its life:
// an upgrade or a new initdb gives it the next ID.
type DB struct {
	ID      int
	System  pg.SystemID
	Version string // major: "15", "9.6"
	Catalog int    // backup.info and manifests only
	Control int    // likewise
}

// ArchiveID is the directory of its WAL: 15-1.
func (d DB) ArchiveID() string { return d.Version + "-" + strconv.Itoa(d.ID) }

// Same says that both are one system in one version.
func (d DB) Same(other DB) bool { return d.System == other.System && d.Version == other.Version }

// ArchiveInfo is archive.info.
type ArchiveInfo struct {
	Backrest string      // version of its writer
	Cipher   secret.Text // pass phrase of the WAL, if the repository is encrypted
	DB       DB
	History  []DB // by ID, the current one too
	rest     []Section
}

// BackupInfo is backup.info: the list of backups.
type BackupInfo struct {
	Backrest string
	Cipher   secret.Text // pass phrase of the manifests
	DB       DB
	History  []DB
	Backups  []Backup // oldest first
	rest     []Section
}

// A Backup is one line of backup.info.
type Backup struct {
	Label string

	Format       int
	Backrest     string
	Annotation   map[string]string
	ArchiveStart string // first WAL segment it needs; "" if it was made offline
	ArchiveStop  string
	Error        *bool // a page had a wrong checksum
	LSNStart     string
	LSNStop      string
	Prior        string
	Reference    []string // backups that it needs, without itself
	Start, Stop  int64    // seconds since 1970
	Type         Type
	DB           int // history ID

	Size, Delta         int64 // bytes of the cluster, and of the files that this backup stored
	RepoSize, RepoDelta int64 // the same as stored

	ArchiveCheck, ArchiveCopy, Standby, ChecksumPage, Compress, Hardlink, Online bool

	rest []Line
}

func (b *Backup) fields() []field {
	return []field{
		number("backrest-format", &b.Format, true),
		text("backrest-version", &b.Backrest, true),
		pairs("backup-annotation", &b.Annotation),
		textOrNull("backup-archive-start", &b.ArchiveStart),
		textOrNull("backup-archive-stop", &b.ArchiveStop),
		choice("backup-error", &b.Error),
		number("backup-info-repo-size", &b.RepoSize, true),
		number("backup-info-repo-size-delta", &b.RepoDelta, true),
		number("backup-info-size", &b.Size, true),
		number("backup-info-size-delta", &b.Delta, true),
		text("backup-lsn-start", &b.LSNStart, false),
		text("backup-lsn-stop", &b.LSNStop, false),
		text("backup-prior", &b.Prior, false),
		texts("backup-reference", &b.Reference),
		number("backup-timestamp-start", &b.Start, true),
		number("backup-timestamp-stop", &b.Stop, true),
		text("backup-type", (*string)(&b.Type), true),
		number("db-id", &b.DB, true),
		flag("option-archive-check", &b.ArchiveCheck, true),
		flag("option-archive-copy", &b.ArchiveCopy, true),
		flag("option-backup-standby", &b.Standby, true),
		flag("option-checksum-page", &b.ChecksumPage, true),
		flag("option-compress", &b.Compress, true),
		flag("option-hardlink", &b.Hardlink, true),
		flag("option-online", &b.Online, true),
	}
}

// Blocks says that the backup has files of which it stored blocks.
func (b Backup) Blocks() bool {
	return slices.ContainsFunc(b.rest, func(l Line) bool { return l.Key == "backup-info-repo-size-map" })
}

// Extra is the value of a key that only newer versions write, as JSON.
func (b Backup) Extra(key string) string {
	for _, l := range b.rest {
		if l.Key == key {
			return l.Value
		}
	}
	return ""
}

// Find returns the backup with a label.
func (i BackupInfo) Find(label string) (Backup, bool) {
	for _, b := range i.Backups {
		if b.Label == label {
			return b, true
		}
	}
	return Backup{}, false
}

// Add puts a backup into the list, in place of one with its label.
func (i *BackupInfo) Add(b Backup) {
	i.Drop(b.Label)
	i.Backups = append(i.Backups, b)
	slices.SortFunc(i.Backups, func(a, b Backup) int { return cmp.Compare(a.Label, b.Label) })
}

// Drop takes backups from the list.
func (i *BackupInfo) Drop(labels ...string) {
	i.Backups = slices.DeleteFunc(i.Backups, func(b Backup) bool { return slices.Contains(labels, b.Label) })
}

// ArchiveID is the archive of the database with that id; "" if there is none.
func (i BackupInfo) ArchiveID(db int) string {
	for _, d := range i.History {
		if d.ID == db {
			return d.ArchiveID()
		}
	}
	return ""
}

// FirstSegment is the first segment of that archive that any backup needs, "" if
// none needs one. Names are compared; the timeline comes first in them.
func (i BackupInfo) FirstSegment(archive string) string {
	first := ""
	for _, b := range i.Backups {
		if i.ArchiveID(b.DB) == archive && b.ArchiveStart != "" && (first == "" || b.ArchiveStart < first) {
			first = b.ArchiveStart
		}
	}
	return first
}

// Dependents returns the labels of the backups that need label, oldest first.
func (i BackupInfo) Dependents(label string) []string {
	var all []string
	for _, b := range i.Backups {
		if b.Label != label && (b.Prior == label || slices.Contains(b.Reference, label) || slices.Contains(all, b.Prior)) {
			all = append(all, b.Label)
		}
	}
	return all
}

// dbFields are the keys of a [db] section.
func dbFields(d *DB, catalog bool) []field {
	fields := []field{number("db-id", &d.ID, true), unsigned("db-system-id", &d.System), text("db-version", &d.Version, true)}
	if catalog {
		fields = append(fields, number("db-catalog-version", &d.Catalog, true), number("db-control-version", &d.Control, true))
	}
	return fields
}

// historyFields are those of a line of [db:history]. In archive.info the
// system identifier is called db-id there.
func historyFields(d *DB, catalog bool) []field {
	if !catalog {
		return []field{unsigned("db-id", &d.System), text("db-version", &d.Version, true)}
	}
	return []field{
		number("db-catalog-version", &d.Catalog, true), number("db-control-version", &d.Control, true),
		unsigned("db-system-id", &d.System), text("db-version", &d.Version, true),
	}
}

// readSection reads a section into fields.
func (f InfoFile) readSection(name string, fields []field) ([]Line, error) {
	rest, err := readFields(object(slices.Clone(f.section(name))), fields)
	if err != nil {
		return nil, Errorf(BadFormat, "section '%s': %w", name, err)
	}
	return rest, nil
}

// dbs reads the sections that both info files have.
func (f InfoFile) dbs(catalog bool) (current DB, history []DB, cipher secret.Text, err error) {
	if _, err = f.readSection("db", dbFields(&current, catalog)); err != nil {
		return current, nil, "", err
	}
	if _, err = f.readSection("cipher", []field{text("cipher-pass", (*string)(&cipher), false)}); err != nil {
		return current, nil, "", err
	}
	for _, l := range f.section("db:history") {
		id, err := strconv.Atoi(l.Key)
		if err != nil {
			return current, nil, "", Errorf(BadFormat, "history id '%s' is no number", l.Key)
		}
		d := DB{ID: id}
		if _, err := readFields(l.Value, historyFields(&d, catalog)); err != nil {
			return current, nil, "", Errorf(BadFormat, "history id %d: %w", id, err)
		}
		history = append(history, d)
	}
	slices.SortFunc(history, func(a, b DB) int { return cmp.Compare(a.ID, b.ID) })
	if current.Version == "" || current.ID == 0 || !slices.ContainsFunc(history, func(d DB) bool { return d.ID == current.ID }) {
		return current, nil, "", Errorf(BadFormat, "the current database is missing, or is not in the history")
	}
	return current, history, cipher, nil
}

// sections writes what dbs read.
func sections(current DB, history []DB, cipher secret.Text, catalog bool) []Section {
	var all []Section
	if cipher != "" {
		all = append(all, Section{"cipher", []Line{{"cipher-pass", quote(cipher.Reveal())}}})
	}
	past := Section{Name: "db:history"}
	for _, d := range history {
		past.Lines = append(past.Lines, Line{strconv.Itoa(d.ID), object(lines(historyFields(&d, catalog), nil))})
	}
	return append(all, Section{"db", lines(dbFields(&current, catalog), nil)}, past)
}

// ParseArchiveInfo reads archive.info.
func ParseArchiveInfo(data []byte) (i ArchiveInfo, err error) {
	f, err := ParseInfo(data)
	if err != nil {
		return ArchiveInfo{}, err
	}
	i.Backrest, i.rest = f.Version, f.others("db", "db:history", "cipher")
	if i.DB, i.History, i.Cipher, err = f.dbs(false); err != nil {
		return ArchiveInfo{}, err
	}
	return i, nil
}

// Bytes is the file as it is stored.
func (i ArchiveInfo) Bytes() []byte {
	return InfoFile{i.Backrest, append(sections(i.DB, i.History, i.Cipher, false), i.rest...)}.Bytes()
}

// ParseBackupInfo reads backup.info.
func ParseBackupInfo(data []byte) (i BackupInfo, err error) {
	f, err := ParseInfo(data)
	if err != nil {
		return BackupInfo{}, err
	}
	i.Backrest, i.rest = f.Version, f.others("db", "db:history", "cipher", "backup:current")
	if i.DB, i.History, i.Cipher, err = f.dbs(true); err != nil {
		return BackupInfo{}, err
	}
	for _, l := range f.section("backup:current") {
		b := Backup{Label: l.Key}
		if b.rest, err = readFields(l.Value, b.fields()); err != nil {
			return BackupInfo{}, Errorf(BadFormat, "backup '%s': %w", l.Key, err)
		}
		i.Backups = append(i.Backups, b)
	}
	return i, nil
}

// Bytes is the file as it is stored.
func (i BackupInfo) Bytes() []byte {
	list := Section{Name: "backup:current"}
	for _, b := range i.Backups {
		list.Lines = append(list.Lines, Line{b.Label, object(lines(b.fields(), b.rest))})
	}
	return InfoFile{i.Backrest, append(append(sections(i.DB, i.History, i.Cipher, true), i.rest...), list)}.Bytes()
}

// SameHistory says that both files list the same systems under the same ids,
// without which nobody knows which WAL belongs to which backup.
func SameHistory(a ArchiveInfo, b BackupInfo) bool {
	return a.DB.ID == b.DB.ID && slices.EqualFunc(a.History, b.History, func(x, y DB) bool { return x.ID == y.ID && x.Same(y) })
}
