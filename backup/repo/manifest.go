package repo

import (
	"cmp"
	"slices"
	"strings"

	"howdah/secret"
)

// A Manifest is backup.manifest: what a backup consists of.
type Manifest struct {
	Backrest string // version of its writer

	Label        string
	Type         Type
	Prior        string
	Reference    []string // backups that it needs, oldest first, itself last
	ArchiveStart string
	ArchiveStop  string
	LSNStart     string
	LSNStop      string
	CopyStart    int64 // seconds since 1970: it has begun before any file was read
	Start, Stop  int64
	Bundle       bool
	BundleRaw    bool // bundled streams lack their usual heads
	BlockIncr    bool // some files are stored as changed blocks

	DB         DB
	Options    Options
	Targets    []Target
	Cipher     secret.Text // pass phrase of the objects of this full backup and all that follow it
	Databases  []Database
	Annotation map[string]string

	Files []File // by name
	Links []Link
	Paths []Path

	FileDefault, LinkDefault, PathDefault Owner

	rest     []Section
	restOf   []Line // unknown keys of [backup]
	restMeta []Line
}

// Options are those of backup that a manifest records.
type Options struct {
	ArchiveCheck, ArchiveCopy, Compress, Hardlink, Online bool

	Standby, ChecksumPage, Delta    *bool
	BufferSize, Level, LevelNetwork *int64
	ProcessMax                      *int64
	CompressType                    string
	rest                            []Line
}

func (o *Options) fields() []field {
	return []field{
		flag("option-archive-check", &o.ArchiveCheck, true),
		flag("option-archive-copy", &o.ArchiveCopy, true),
		choice("option-backup-standby", &o.Standby),
		count("option-buffer-size", &o.BufferSize),
		choice("option-checksum-page", &o.ChecksumPage),
		flag("option-compress", &o.Compress, true),
		count("option-compress-level", &o.Level),
		count("option-compress-level-network", &o.LevelNetwork),
		text("option-compress-type", &o.CompressType, false),
		choice("option-delta", &o.Delta),
		flag("option-hardlink", &o.Hardlink, true),
		flag("option-online", &o.Online, true),
		count("option-process-max", &o.ProcessMax),
	}
}

// count is a number that may be absent.
func count(key string, p **int64) field {
	return field{
		key, func(v string) error { n, err := readInt(v); *p = &n; return err },
		func() (string, bool) {
			if *p == nil {
				return "", false
			}
			return integer(**p), true
		},
	}
}

// A Target is a directory that was backed up: PGDATA, a tablespace, or
// whatever a link in PGDATA leads to.
type Target struct {
	Name       string // pg_data, pg_tblspc/16400, pg_data/pg_hba.conf
	Type       string // path, link
	Path       string
	File       string // of a link to a file: its name in Path
	Tablespace string // its oid
	SpaceName  string
}

func (t *Target) fields() []field {
	return []field{
		text("file", &t.File, false), text("path", &t.Path, true), text("tablespace-id", &t.Tablespace, false),
		text("tablespace-name", &t.SpaceName, false), text("type", &t.Type, true),
	}
}

// A Database is one of the cluster.
type Database struct {
	Name    string
	OID     int64
	LastOID int64 // datlastsysoid, or template0's oid since that is gone
}

func (d *Database) fields() []field {
	return []field{number("db-id", &d.OID, true), number("db-last-system-id", &d.LastOID, true)}
}

// An Owner says whose something is, and what they may do with it.
type Owner struct {
	User, Group Name
	Mode        string // octal, four digits; none for links
}

// A Name is that of a user or group; one that nobody knows is written as false.
type Name struct {
	Name    string
	Unknown bool
}

func (n Name) String() string {
	if n.Unknown {
		return "false"
	}
	return quote(n.Name)
}

// ownership are the keys that are written only where they differ from the default.
func ownership(o *Owner, d Owner, mode bool) []field {
	name := func(key string, p *Name, d Name) field {
		return field{
			key, func(v string) (err error) {
				if *p = (Name{Unknown: true}); v != "false" {
					p.Unknown = false
					p.Name, err = unquote(v)
				}
				return err
			},
			func() (string, bool) { return p.String(), *p != d },
		}
	}
	fields := []field{name("group", &o.Group, d.Group), name("user", &o.User, d.User)}
	if mode {
		fields = append(fields, field{
			"mode", func(v string) (err error) { o.Mode, err = unquote(v); return err },
			func() (string, bool) { return quote(o.Mode), o.Mode != d.Mode },
		})
	}
	return fields
}

// A File is one of the cluster's.
type File struct {
	Name  string // pg_data/base/1/1259, pg_tblspc/16400/PG_15_202209061/5/16401
	Owner Owner

	Size      int64
	Timestamp int64  // its modification, seconds since 1970
	Checksum  string // SHA-1 of its content; "" if it is empty

	RepoSize     int64  // as stored; equal to Size if nothing is said
	RepoChecksum string // SHA-1 as stored; "" if that is the content itself, or nobody wrote it down
	Reference    string // the backup that stores it; "" is this one
	Bundle       int64  // of how many; 0 is none
	Offset       int64  // in the bundle

	PageOK    *bool  // whether all pages had right checksums; nil: it has no pages
	PageError string // which had not, as JSON

	Block    int64 // not 0: stored as blocks of so many times 8 kB
	BlockSum int64 // bytes of a block's checksum; 0 are 6
	BlockMap int64 // bytes of the map at the end of the object

	stored bool // repo-size was in the file
	rest   []Line
}

// Stored says how many bytes the file takes in the repository.
func (f *File) Stored() int64 {
	if f.RepoSize == 0 && !f.stored {
		return f.Size
	}
	return f.RepoSize
}

// SetStored notes how many bytes the file takes in the repository.
func (f *File) SetStored(n int64) { f.RepoSize, f.stored = n, true }

func (f *File) fields(d Owner) []field {
	return append([]field{
		number("bi", &f.Block, false),
		number("bic", &f.BlockSum, false),
		number("bim", &f.BlockMap, false),
		number("bni", &f.Bundle, false),
		number("bno", &f.Offset, false),
		text("checksum", &f.Checksum, false),
		choice("checksum-page", &f.PageOK),
		{"checksum-page-error", func(v string) error { f.PageError = strings.Clone(v); return nil }, func() (string, bool) { return f.PageError, f.PageError != "" }},
		text("rck", &f.RepoChecksum, false),
		text("reference", &f.Reference, false),
		{
			"repo-size", func(v string) (err error) { f.RepoSize, err = readInt(v); f.stored = true; return err },
			func() (string, bool) { return integer(f.RepoSize), f.stored && f.RepoSize != f.Size },
		},
		number("size", &f.Size, true),
		number("timestamp", &f.Timestamp, true),
	}, ownership(&f.Owner, d, true)...)
}

// A Path is a directory of the cluster.
type Path struct {
	Name  string
	Owner Owner
	rest  []Line
}

// A Link is a symbolic link in the cluster.
type Link struct {
	Name        string
	Destination string
	Owner       Owner
	rest        []Line
}

func (m *Manifest) fields(reference *string) []field {
	return []field{
		text("backup-archive-start", &m.ArchiveStart, false),
		text("backup-archive-stop", &m.ArchiveStop, false),
		flag("backup-block-incr", &m.BlockIncr, false),
		flag("backup-bundle", &m.Bundle, false),
		flag("backup-bundle-raw", &m.BundleRaw, false),
		text("backup-label", &m.Label, true),
		text("backup-lsn-start", &m.LSNStart, false),
		text("backup-lsn-stop", &m.LSNStop, false),
		text("backup-prior", &m.Prior, false),
		text("backup-reference", reference, false),
		number("backup-timestamp-copy-start", &m.CopyStart, true),
		number("backup-timestamp-start", &m.Start, true),
		number("backup-timestamp-stop", &m.Stop, true),
		text("backup-type", (*string)(&m.Type), true),
	}
}

// The sections of a manifest.
const (
	secBackup      = "backup"
	secDB          = "backup:db"
	secOption      = "backup:option"
	secTarget      = "backup:target"
	secCipher      = "cipher"
	secDatabase    = "db"
	secMeta        = "metadata"
	secFile        = "target:file"
	secFileDefault = "target:file:default"
	secLink        = "target:link"
	secLinkDefault = "target:link:default"
	secPath        = "target:path"
	secPathDefault = "target:path:default"
)

// ParseManifest reads backup.manifest.
func ParseManifest(data []byte) (*Manifest, error) {
	m, err := ParseUnfinished(data)
	if err == nil && m.DB.ID == 0 {
		return nil, Errorf(BadFormat, "the manifest does not say of which database it is")
	}
	return m, err
}

// ParseUnfinished reads the copy of a manifest that a backup saves on its way. The real one says
// of which database it is only at the end (manifestBuildComplete, src/info/manifest.c).
func ParseUnfinished(data []byte) (*Manifest, error) {
	f, err := ParseInfo(data)
	if err != nil {
		return nil, err
	}
	m := &Manifest{Backrest: f.Version}
	m.rest = f.others(secBackup, secDB, secOption, secTarget, secCipher, secDatabase, secMeta, secFile, secFileDefault, secLink, secLinkDefault, secPath, secPathDefault)
	reference := ""
	if m.restOf, err = f.readSection(secBackup, m.fields(&reference)); err != nil {
		return nil, err
	}
	if reference != "" {
		m.Reference = strings.Split(reference, ",")
	}
	if _, err = f.readSection(secDB, dbFields(&m.DB, true)); err != nil {
		return nil, err
	}
	if m.Options.rest, err = f.readSection(secOption, m.Options.fields()); err != nil {
		return nil, err
	}
	if _, err = f.readSection(secCipher, []field{text("cipher-pass", (*string)(&m.Cipher), false)}); err != nil {
		return nil, err
	}
	if m.restMeta, err = f.readSection(secMeta, []field{pairs("annotation", &m.Annotation)}); err != nil {
		return nil, err
	}
	for name, d := range map[string]*Owner{secFileDefault: &m.FileDefault, secLinkDefault: &m.LinkDefault, secPathDefault: &m.PathDefault} {
		if _, err = f.readSection(name, ownership(d, Owner{}, true)); err != nil {
			return nil, err
		}
	}
	each := func(section string, read func(l Line) error) {
		for _, l := range f.section(section) {
			if e := read(l); e != nil && err == nil {
				err = Errorf(BadFormat, "%s '%s': %w", section, l.Key, e)
			}
		}
	}
	each(secTarget, func(l Line) (err error) {
		t := Target{Name: l.Key}
		_, err = readFields(l.Value, t.fields())
		m.Targets = append(m.Targets, t)
		return err
	})
	each(secDatabase, func(l Line) (err error) {
		d := Database{Name: l.Key}
		_, err = readFields(l.Value, d.fields())
		m.Databases = append(m.Databases, d)
		return err
	})
	m.Files = make([]File, 0, len(f.section(secFile)))
	each(secFile, func(l Line) (err error) {
		m.Files = append(m.Files, File{Name: l.Key, Owner: m.FileDefault})
		file := &m.Files[len(m.Files)-1]
		file.rest, err = readFields(l.Value, file.fields(m.FileDefault))
		if err == nil && (file.Size < 0 || file.RepoSize < 0 || file.Offset < 0 || !inside(file.Name)) {
			err = Errorf(BadFormat, "a size is negative, or the name leads elsewhere")
		}
		return err
	})
	each(secPath, func(l Line) (err error) {
		p := Path{Name: l.Key, Owner: m.PathDefault}
		if p.rest, err = readFields(l.Value, ownership(&p.Owner, m.PathDefault, true)); err == nil && !inside(p.Name) {
			err = Errorf(BadFormat, "the name leads elsewhere")
		}
		m.Paths = append(m.Paths, p)
		return err
	})
	each(secLink, func(l Line) (err error) {
		k := Link{Name: l.Key, Owner: m.LinkDefault}
		if k.rest, err = readFields(l.Value, k.fields(m.LinkDefault)); err == nil && !inside(k.Name) {
			err = Errorf(BadFormat, "the name leads elsewhere")
		}
		m.Links = append(m.Links, k)
		return err
	})
	if err != nil {
		return nil, err
	}
	switch {
	case !IsLabel(m.Label):
		return nil, Errorf(BadFormat, "backup label '%s' is not valid", m.Label)
	case len(m.Targets) == 0:
		return nil, Errorf(BadFormat, "the manifest does not say where the database was")
	}
	return m, nil
}

func (k *Link) fields(d Owner) []field {
	return append(ownership(&k.Owner, d, false), text("destination", &k.Destination, true))
}

// inside says that a name of the manifest stays below its first directory: a
// restore writes where names lead.
func inside(name string) bool {
	if name != "pg_data" && name != "pg_tblspc" && !strings.HasPrefix(name, "pg_data/") && !strings.HasPrefix(name, "pg_tblspc/") {
		return false
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == "" || part == "." || part == ".." {
			return false
		}
	}
	return true
}

// Bytes is the file as it is stored.
func (m *Manifest) Bytes() []byte {
	var all []Section
	add := func(name string, lines []Line) { all = append(all, Section{name, lines}) }
	reference := strings.Join(m.Reference, ",")
	add(secBackup, lines(m.fields(&reference), m.restOf))
	add(secDB, lines(dbFields(&m.DB, true), nil))
	add(secOption, lines(m.Options.fields(), m.Options.rest))
	add(secCipher, lines([]field{text("cipher-pass", (*string)(&m.Cipher), false)}, nil))
	add(secMeta, lines([]field{pairs("annotation", &m.Annotation)}, m.restMeta))
	var targets, databases, files, links, paths []Line
	for _, t := range m.Targets {
		targets = append(targets, Line{t.Name, object(lines(t.fields(), nil))})
	}
	for _, d := range m.Databases {
		databases = append(databases, Line{d.Name, object(lines(d.fields(), nil))})
	}
	for i := range m.Files {
		f := &m.Files[i]
		files = append(files, Line{f.Name, object(lines(f.fields(m.FileDefault), f.rest))})
	}
	for _, k := range m.Links {
		links = append(links, Line{k.Name, object(lines(k.fields(m.LinkDefault), k.rest))})
	}
	for _, p := range m.Paths {
		paths = append(paths, Line{p.Name, object(lines(ownership(&p.Owner, m.PathDefault, true), p.rest))})
	}
	add(secTarget, targets)
	add(secDatabase, databases)
	add(secFile, files)
	add(secPath, paths)
	add(secFileDefault, lines(ownership(&m.FileDefault, Owner{}, true), nil))
	add(secPathDefault, lines(ownership(&m.PathDefault, Owner{}, true), nil))
	if len(links) > 0 {
		add(secLink, links)
		add(secLinkDefault, lines(ownership(&m.LinkDefault, Owner{}, false), nil))
	}
	return InfoFile{m.Backrest, append(all, m.rest...)}.Bytes()
}

// Sort puts files, links and paths in the order of the manifest, where they
// can be found.
func (m *Manifest) Sort() {
	slices.SortFunc(m.Files, func(a, b File) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(m.Links, func(a, b Link) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(m.Paths, func(a, b Path) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(m.Targets, func(a, b Target) int { return cmp.Compare(a.Name, b.Name) })
}

// Find returns the file with a name, or nil.
func (m *Manifest) Find(name string) *File {
	if i, ok := slices.BinarySearchFunc(m.Files, name, func(f File, name string) int { return cmp.Compare(f.Name, name) }); ok {
		return &m.Files[i]
	}
	return nil
}

// Object is where a file is stored. A bundled file is part of its object.
func (m *Manifest) Object(stanza string, f *File) (name string, offset, length int64) {
	label := cmp.Or(f.Reference, m.Label)
	if f.Bundle > 0 {
		return BackupPath(stanza, label, "bundle/"+integer(f.Bundle)), f.Offset, f.Stored()
	}
	if f.Block > 0 {
		return BackupPath(stanza, label, f.Name+BlockExt), 0, f.Stored()
	}
	return BackupPath(stanza, label, f.Name+Compression(m.Options.CompressType).Ext()), 0, -1
}

// BlockExt is what the object of a file in blocks is called by, unless it is bundled.
const BlockExt = ".pgbi"

// SuperBlock is where a block's super block is stored.
func (m *Manifest) SuperBlock(stanza string, f *File, b Block) (name string, err error) {
	if b.Reference >= len(m.Reference) {
		return "", Errorf(BadFormat, "the block map names backup %d of %d", b.Reference, len(m.Reference))
	}
	label := m.Reference[b.Reference]
	if b.Bundle > 0 {
		return BackupPath(stanza, label, "bundle/"+integer(b.Bundle)), nil
	}
	return BackupPath(stanza, label, f.Name+BlockExt), nil
}

// Coding is how a file's object is stored.
func (m *Manifest) Coding(f *File) Coding {
	return Coding{Compress: Compression(m.Options.CompressType), Pass: m.Cipher, Raw: m.BundleRaw && f.Bundle > 0}
}

// Beta says that its blocks are of the form that was given up before 2.46,
// whose files can not be told from later ones but by this.
func (m *Manifest) Beta() bool {
	return m.BlockIncr && slices.Contains([]string{"2.44", "2.45"}, m.Backrest)
}

// Backup is the manifest's line in backup.info.
func (m *Manifest) Backup() Backup {
	b := Backup{
		Label: m.Label, Format: Format, Backrest: m.Backrest, Annotation: m.Annotation, Type: m.Type, Prior: m.Prior,
		ArchiveStart: m.ArchiveStart, ArchiveStop: m.ArchiveStop, LSNStart: m.LSNStart, LSNStop: m.LSNStop,
		Start: m.Start, Stop: m.Stop, DB: m.DB.ID,
		ArchiveCheck: m.Options.ArchiveCheck, ArchiveCopy: m.Options.ArchiveCopy, Standby: truth(m.Options.Standby),
		ChecksumPage: truth(m.Options.ChecksumPage), Compress: m.Options.Compress, Hardlink: m.Options.Hardlink, Online: m.Options.Online,
	}
	wrong := false
	for i := range m.Files {
		f := &m.Files[i]
		b.Size += f.Size
		b.RepoSize += f.Stored()
		if f.Reference != "" {
			if !slices.Contains(b.Reference, f.Reference) {
				b.Reference = append(b.Reference, f.Reference)
			}
		} else {
			b.Delta += f.Size
			b.RepoDelta += f.Stored()
		}
		wrong = wrong || f.PageOK != nil && !*f.PageOK
	}
	slices.Sort(b.Reference)
	b.Error = &wrong
	return b
}

func truth(b *bool) bool { return b != nil && *b }
