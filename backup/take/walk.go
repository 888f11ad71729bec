package take

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"howdah/backup/repo"
	"howdah/backup/stanza"
)

// What of a data directory is not part of a backup, as PostgreSQL's manual
// says ("Backing Up the Data Directory") and pgBackRest does it.
var (
	contents = []string{ // only the directory is kept
		"pg_dynshmem", "pg_notify", "pg_replslot", "pg_serial", "pg_snapshots", "pg_stat_tmp", "pg_subtrans",
	}
	online = []string{"pg_wal", "pg_wal/archive_status"} // files in them, while the server runs
	roots  = []string{
		"backup_label", "backup_label.old", "backup_manifest", "backup_manifest.tmp", "postmaster.pid", "postmaster.opts",
		"recovery.signal", "standby.signal", "postgresql.auto.conf.tmp", "tablespace_map", "tablespace_map.old", repo.ManifestName,
	}
	temporary = regexp.MustCompile(`^t[0-9]+_[0-9]+(_(fsm|vm))?(\.[0-9]+)?$`)
	relation  = regexp.MustCompile(`^([0-9]+)(?:_(fsm|vm|init))?(?:\.([0-9]+))?$`)
	internal  = regexp.MustCompile(`^pg_internal\.init(\.[0-9]+)?$`)
)

// walker lists a cluster into a manifest.
type walker struct {
	m       *repo.Manifest
	root    string
	online  bool
	exclude []string
	spaces  map[string]string // names of tablespaces by oid
	system  string            // PG_15_202209061
	voice   stanza.Voice
	users   map[uint32]repo.Name
	groups  map[uint32]repo.Name
	sources map[string]string // name in the manifest -> path on disk, of files
}

// walk lists everything that a backup of the data directory at root consists of.
func (w *walker) walk() error {
	w.users, w.groups, w.sources = map[uint32]repo.Name{}, map[uint32]repo.Name{}, map[string]string{}
	st, err := os.Stat(w.root)
	if err != nil {
		return err
	}
	owner := w.owner(st)
	mode := st.Mode().Perm()
	w.m.PathDefault = owner
	w.m.FileDefault = repo.Owner{User: owner.User, Group: owner.Group, Mode: octal(mode & 0o640)}
	w.m.LinkDefault = repo.Owner{User: owner.User, Group: owner.Group}
	w.m.Targets = append(w.m.Targets, repo.Target{Name: "pg_data", Type: "path", Path: w.root})
	w.m.Paths = append(w.m.Paths, repo.Path{Name: "pg_data", Owner: owner})
	if err := w.dir(w.root, "pg_data"); err != nil {
		return err
	}
	if err := w.links(); err != nil {
		return err
	}
	w.m.Sort()
	return nil
}

func octal(mode fs.FileMode) string { return fmt.Sprintf("%04o", mode) }

func (w *walker) owner(st fs.FileInfo) repo.Owner {
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		return repo.Owner{User: repo.Name{Unknown: true}, Group: repo.Name{Unknown: true}, Mode: octal(st.Mode().Perm())}
	}
	name, ok := w.users[sys.Uid]
	if !ok {
		name = repo.Name{Unknown: true}
		if u, err := user.LookupId(strconv.Itoa(int(sys.Uid))); err == nil {
			name = repo.Name{Name: u.Username}
		}
		w.users[sys.Uid] = name
	}
	group, ok := w.groups[sys.Gid]
	if !ok {
		group = repo.Name{Unknown: true}
		if g, err := user.LookupGroupId(strconv.Itoa(int(sys.Gid))); err == nil {
			group = repo.Name{Name: g.Name}
		}
		w.groups[sys.Gid] = group
	}
	return repo.Owner{User: name, Group: group, Mode: octal(st.Mode().Perm())}
}

// dir lists what is in the directory at disk, whose name in the manifest is name.
func (w *walker) dir(disk, name string) error {
	list, err := os.ReadDir(disk)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // dropped since
	}
	if err != nil {
		return err
	}
	unlogged := map[string]bool{}
	if w.relations(name) {
		for _, e := range list {
			if m := relation.FindStringSubmatch(e.Name()); m != nil && m[2] == "init" {
				unlogged[m[1]] = true
			}
		}
	}
	for _, e := range list {
		if w.skipped(name, e.Name(), unlogged) {
			continue
		}
		if strings.ContainsAny(e.Name(), "\n\r") {
			return repo.Errorf(repo.FileInvalid, "'%s' has a line feed in its name, which a manifest can not hold", filepath.Join(disk, e.Name()))
		}
		if err := w.entry(filepath.Join(disk, e.Name()), path.Join(name, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// relations says whether files in a directory of the manifest are relations.
func (w *walker) relations(name string) bool {
	if name == "pg_data/global" {
		return true
	}
	if rest, ok := strings.CutPrefix(name, "pg_data/base/"); ok {
		return !strings.Contains(rest, "/")
	}
	parts := strings.Split(name, "/")
	return parts[0] == "pg_tblspc" && len(parts) == 4
}

func (w *walker) skipped(dir, name string, unlogged map[string]bool) bool {
	within, inData := strings.CutPrefix(dir, "pg_data")
	within = strings.TrimPrefix(within, "/")
	switch {
	case strings.HasPrefix(name, "pgsql_tmp"):
		return true
	case inData && slices.Contains(contents, within):
		return true
	case inData && within == "" && slices.Contains(roots, name):
		return true
	case w.relations(dir):
		if internal.MatchString(name) || temporary.MatchString(name) {
			return true
		}
		if m := relation.FindStringSubmatch(name); m != nil && unlogged[m[1]] && m[2] != "init" {
			return true
		}
	}
	for _, x := range w.exclude {
		if at := path.Join(within, name); inData && (x == at || x == within+"/" || strings.HasPrefix(at, strings.TrimSuffix(x, "/")+"/")) {
			w.voice.Info("exclude '%s/%s' from backup using '%s' exclusion", w.root, at, x)
			return true
		}
	}
	return false
}

func (w *walker) entry(disk, name string) error {
	st, err := os.Lstat(disk)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	switch {
	case st.Mode().IsRegular():
		if w.online && slices.Contains(online, strings.TrimPrefix(path.Dir(name), "pg_data/")) && strings.HasPrefix(name, "pg_data/") {
			return nil
		}
		w.m.Files = append(w.m.Files, repo.File{Name: name, Owner: w.owner(st), Size: st.Size(), Timestamp: st.ModTime().Unix()})
		w.sources[name] = disk
		return nil
	case st.IsDir():
		if path.Dir(name) == "pg_data/pg_tblspc" {
			return repo.Errorf(repo.LinkExpected, "'%s' is not a symlink - pg_tblspc should contain only symlinks", disk)
		}
		w.m.Paths = append(w.m.Paths, repo.Path{Name: name, Owner: w.owner(st)})
		return w.dir(disk, name)
	case st.Mode()&fs.ModeSymlink != 0:
		return w.link(disk, name, st)
	}
	w.voice.Warn("exclude special file '%s' from backup", disk)
	return nil
}

func (w *walker) link(disk, name string, st fs.FileInfo) error {
	destination, err := os.Readlink(disk)
	if err != nil {
		return err
	}
	owner := w.owner(st)
	owner.Mode = ""
	w.m.Links = append(w.m.Links, repo.Link{Name: name, Destination: destination, Owner: owner})
	real := destination
	if !filepath.IsAbs(real) {
		real = filepath.Join(filepath.Dir(disk), destination)
	}
	at, err := os.Lstat(real)
	if err != nil {
		return repo.Errorf(repo.FileOpen, "unable to get info for missing path/file '%s': %w", real, err)
	}
	if at.Mode()&fs.ModeSymlink != 0 {
		return repo.Errorf(repo.LinkDestination, "link '%s' cannot reference another link '%s'", disk, real)
	}
	if path.Dir(name) == "pg_data/pg_tblspc" {
		return w.tablespace(path.Base(name), real, destination)
	}
	t := repo.Target{Name: name, Type: "link", Path: destination}
	if !at.IsDir() {
		t.Path, t.File = path.Dir(destination), path.Base(destination)
		w.m.Targets = append(w.m.Targets, t)
		w.m.Files = append(w.m.Files, repo.File{Name: name, Owner: w.owner(at), Size: at.Size(), Timestamp: at.ModTime().Unix()})
		w.sources[name] = real
		return nil
	}
	w.m.Targets = append(w.m.Targets, t)
	w.m.Paths = append(w.m.Paths, repo.Path{Name: name, Owner: w.owner(at)})
	return w.dir(real, name)
}

// tablespace lists the part of a tablespace that belongs to this version.
func (w *walker) tablespace(oid, disk, destination string) error {
	if len(w.spaces) > 0 && w.spaces[oid] == "" {
		w.voice.Warn("tablespace %s is not in the catalog (dropped?)", oid)
	}
	w.m.Targets = append(w.m.Targets, repo.Target{Name: "pg_tblspc/" + oid, Type: "link", Path: destination, Tablespace: oid, SpaceName: w.spaces[oid]})
	if !slices.ContainsFunc(w.m.Paths, func(p repo.Path) bool { return p.Name == "pg_tblspc" }) {
		w.m.Paths = append(w.m.Paths, repo.Path{Name: "pg_tblspc", Owner: w.m.PathDefault})
	}
	for _, p := range []struct{ disk, name string }{{disk, "pg_tblspc/" + oid}, {filepath.Join(disk, w.system), "pg_tblspc/" + oid + "/" + w.system}} {
		st, err := os.Stat(p.disk)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		w.m.Paths = append(w.m.Paths, repo.Path{Name: p.name, Owner: w.owner(st)})
	}
	return w.dir(filepath.Join(disk, w.system), "pg_tblspc/"+oid+"/"+w.system)
}

// links proves that no link leads into the data directory, and no two to
// places that are one in the other: a restore would write them twice.
func (w *walker) links() error {
	for i, t := range w.m.Targets {
		for j, other := range w.m.Targets {
			if i == j || t.Type != "link" {
				continue
			}
			a, b := absolute(w.root, t), absolute(w.root, other)
			switch {
			case other.Type == "path" && (a == b || strings.HasPrefix(a, b+"/")):
				return repo.Errorf(repo.LinkDestination, "link '%s' destination '%s' is in PGDATA", t.Name, t.Path)
			case other.Type == "link" && t.File == "" && other.File == "" && (a == b || strings.HasPrefix(b, a+"/")):
				return repo.Errorf(repo.LinkDestination, "link '%s' (%s) destination is a subdirectory of or the same directory as link '%s' (%s)", other.Name, b, t.Name, a)
			}
		}
	}
	return nil
}

// absolute is where a target is; a relative link counts from where it stands.
func absolute(root string, t repo.Target) string {
	if filepath.IsAbs(t.Path) {
		return filepath.Clean(t.Path)
	}
	return filepath.Join(root, filepath.Dir(strings.TrimPrefix(strings.TrimPrefix(t.Name, "pg_data"), "/")), t.Path)
}
