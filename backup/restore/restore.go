// Package restore brings a cluster back from a repository.
//
// Nothing is trusted before its checksum was proven, and global/pg_control
// comes last: until then PostgreSQL does not start on what is half there. A
// restore that was interrupted is begun again with delta, which keeps what is
// right already.
package restore

import (
	"cmp"
	"context"
	"crypto/sha1" //nolint:gosec // the format's checksum
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"howdah/backup/archive"
	"howdah/backup/repo"
	"howdah/backup/stanza"
)

// A Restore is what is asked for.
type Restore struct {
	Path  string // data directory
	Voice stanza.Voice

	Set       string // label; "": the newest that will do
	Type      string
	Target    string
	Exclusive bool
	Action    string
	Timeline  string
	NoArchive bool              // archive_mode = off
	Options   map[string]string // further recovery settings
	Command   string            // restore_command

	Delta   bool // keep what is right already
	Force   bool // overwrite without looking at the content
	Workers int

	Progress func(done, total int64) // bytes; called by one worker at a time; may be nil

	// Databases, by name or oid. With Include all others but the system's are restored
	// as holes of their size; Exclude names some that are.
	Include, Exclude []string

	LinkAll   bool
	Links     map[string]string // link below PGDATA -> where it leads now
	Spaces    map[string]string // tablespace, by oid or name -> where it is now
	SpacesAll string            // where all the others are: a directory for each
}

// From restores from the first repository that has a backup for it, and
// returns the backup's label.
func (r Restore) From(ctx context.Context, stanzas ...*stanza.Stanza) (string, error) {
	if _, err := os.Stat(filepath.Join(r.Path, "postmaster.pid")); err == nil {
		return "", repo.Errorf(repo.PostmasterRunning, "unable to restore while PostgreSQL is running; presence of 'postmaster.pid' in '%s' indicates PostgreSQL is running; remove 'postmaster.pid' only if PostgreSQL is not running", r.Path)
	}
	s, m, err := r.choose(ctx, stanzas)
	if err != nil {
		return "", err
	}
	if m.Beta() {
		return "", repo.Errorf(repo.FeatureUnsupported, "backup '%s' is stored in blocks by a pre-release of pgBackRest (%s --beta), in a form that was given up; restore it with that", m.Label, m.Backrest)
	}
	what := m.Label
	if r.Type == Time || r.Type == LSN {
		what += ", recovery will start at " + time.Unix(m.Stop, 0).Format("2006-01-02 15:04:05")
	}
	r.Voice.Info("%s: restore backup set %s", s, what)
	r.reachable(ctx, s, m)
	j := &job{Restore: r, s: s, m: m, known: map[string]bool{}}
	if j.empty, err = r.without(m); err != nil {
		return "", err
	}
	if err := j.map_(); err != nil {
		return "", err
	}
	if err := j.prepare(); err != nil {
		return "", err
	}
	if err := j.copy(ctx); err != nil {
		return "", err
	}
	if err := j.tail(ctx); err != nil {
		return "", err
	}
	if err := r.recovery(time.Now()); err != nil {
		return "", err
	}
	if err := j.finish(); err != nil {
		return "", err
	}
	size := int64(0)
	for i := range m.Files {
		size += m.Files[i].Size
	}
	r.Voice.Info("restore size = %s, file total = %d", repo.Size(size), len(m.Files))
	return m.Label, nil
}

// reachable says beforehand what PostgreSQL would find out hours later: that
// WAL is missing without which the backup is never consistent.
func (r Restore) reachable(ctx context.Context, s *stanza.Stanza, m *repo.Manifest) {
	if m.ArchiveStart == "" || r.Type == None {
		return
	}
	for _, name := range []string{m.ArchiveStart, m.ArchiveStop} {
		if _, err := archive.Find(ctx, s, m.DB.ArchiveID(), name); errors.Is(err, fs.ErrNotExist) {
			r.Voice.Warn("WAL segment %s, which backup %s needs, is not in the %s archive", name, m.Label, s)
		}
	}
}

// A job is one restore under way.
type job struct {
	Restore
	s     *stanza.Stanza
	m     *repo.Manifest
	roots map[string]string // pg_data, pg_tblspc/16400 -> directory
	links map[string]string // link in the manifest -> where it leads
	known map[string]bool   // names of the manifest
	empty map[string]bool   // databases, by oid, that are restored as holes
}

// map_ decides where targets go.
func (j *job) map_() error {
	j.roots, j.links = map[string]string{"pg_data": j.Path}, map[string]string{}
	usedSpaces, usedLinks := map[string]bool{}, map[string]bool{}
	for i := range j.m.Targets {
		t := &j.m.Targets[i]
		switch {
		case t.Type == "path":
			continue
		case t.Tablespace != "":
			to := t.Path
			if j.SpacesAll != "" {
				to = filepath.Join(j.SpacesAll, cmp.Or(t.SpaceName, t.Tablespace))
			}
			for _, key := range []string{t.SpaceName, t.Tablespace} {
				if p, ok := j.Spaces[key]; ok && key != "" {
					to, usedSpaces[key] = p, true
				}
			}
			if to != t.Path {
				j.Voice.Info("map tablespace '%s' to '%s'", t.Name, to)
			}
			j.roots[t.Name], j.links["pg_data/"+t.Name] = to, to
		default:
			name := strings.TrimPrefix(t.Name, "pg_data/")
			to := filepath.Join(t.Path, t.File)
			mapped, ok := j.Links[name]
			if ok {
				usedLinks[name] = true
				to = mapped
				j.Voice.Info("map link '%s' to '%s'", name, to)
			}
			if ok || j.LinkAll {
				j.links[t.Name] = to
				continue
			}
			kind := "directory"
			if t.File != "" {
				kind = "file"
			}
			j.Voice.Warn("contents of %s link '%s' will be restored in place at '%s'", kind, to, filepath.Join(j.Path, name))
		}
	}
	for key := range j.Spaces {
		if !usedSpaces[key] {
			return repo.Errorf(repo.TablespaceMap, "unable to remap invalid tablespace '%s'", key)
		}
	}
	for key := range j.Links {
		if !usedLinks[key] {
			return repo.Errorf(repo.LinkMap, "unable to remap invalid link '%s'", key)
		}
	}
	return nil
}

// at is where a name of the manifest is on disk.
func (j *job) at(name string) string {
	if rest, ok := strings.CutPrefix(name, "pg_data"); ok {
		return filepath.Join(j.Path, rest)
	}
	parts := strings.SplitN(name, "/", 3)
	if len(parts) < 2 {
		return filepath.Join(j.Path, name) // pg_tblspc itself
	}
	root := j.roots[parts[0]+"/"+parts[1]]
	if len(parts) == 3 {
		return filepath.Join(root, parts[2])
	}
	return root
}

// prepare makes directories and links, and removes what is not of the backup.
func (j *job) prepare() error {
	for _, p := range j.m.Paths {
		j.known[p.Name] = true
	}
	for i := range j.m.Files {
		j.known[j.m.Files[i].Name] = true
	}
	for _, l := range j.m.Links {
		j.known[l.Name] = true
	}
	clean := j.Delta || j.Force
	if clean && !j.isCluster() {
		j.Voice.Warn("--delta or --force specified but unable to find 'PG_VERSION' or '%s' in '%s' to confirm that this is a valid $PGDATA directory; --delta and --force have been disabled and if any files exist in the destination directories the restore will be aborted", manifestInData, j.Path)
		clean, j.Delta, j.Force = false, false, false
	}
	if clean {
		j.Voice.Info("remove invalid files/links/paths from '%s'", j.Path)
	}
	for _, name := range slices.Sorted(func(yield func(string) bool) {
		for n := range j.roots {
			if !yield(n) {
				return
			}
		}
	}) {
		root := j.roots[name]
		if err := os.MkdirAll(root, 0o700); err != nil {
			return err
		}
		if err := j.tidy(root, name, clean); err != nil {
			return err
		}
	}
	if !clean {
		if err := j.vacant(); err != nil {
			return err
		}
	}
	// pg_control goes before anything is changed: half a cluster must not start.
	if err := os.Remove(filepath.Join(j.Path, controlFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := j.write(filepath.Join(j.Path, manifestInData), string(j.m.Bytes())); err != nil {
		return err
	}
	for _, p := range j.m.Paths { // parents first: the list is sorted
		if p.Name == "pg_tblspc" {
			continue
		}
		disk := j.at(p.Name)
		if to, ok := j.links[p.Name]; ok {
			if err := j.link(disk, to); err != nil {
				return err
			}
			if err := os.MkdirAll(to, 0o700); err != nil {
				return err
			}
		} else if err := os.Mkdir(disk, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		if err := j.give(disk, p.Owner); err != nil {
			return err
		}
	}
	for name, to := range j.links {
		if _, isDir := slices.BinarySearchFunc(j.m.Paths, name, func(p repo.Path, n string) int { return cmp.Compare(p.Name, n) }); isDir {
			continue
		}
		if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
			return err
		}
		if err := j.link(j.at(name), to); err != nil {
			return err
		}
	}
	return nil
}

// vacant refuses links to what is there already: it is not the backup's to
// overwrite.
func (j *job) vacant() error {
	for name, to := range j.links {
		if _, space := j.roots[strings.TrimPrefix(name, "pg_data/")]; space {
			continue // looked at
		}
		switch list, err := os.ReadDir(to); {
		case err == nil && len(list) > 0:
			return repo.Errorf(repo.PathNotEmpty, "unable to restore to path '%s' because it contains files; try using --delta if this is what you intended", to)
		case errors.Is(err, syscall.ENOTDIR):
			return repo.Errorf(repo.FileExists, "unable to restore file '%s' because it already exists; try using --delta if this is what you intended", to)
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			return err
		}
	}
	return nil
}

// isCluster says whether the directory has been one, or was to become one.
func (j *job) isCluster() bool {
	for _, name := range []string{"PG_VERSION", manifestInData} {
		if _, err := os.Stat(filepath.Join(j.Path, name)); err == nil {
			return true
		}
	}
	return false
}

// tidy removes what the backup does not have, or refuses a directory that is
// not empty.
func (j *job) tidy(disk, name string, clean bool) error {
	list, err := os.ReadDir(disk)
	if err != nil {
		return err
	}
	for _, e := range list {
		path, of := filepath.Join(disk, e.Name()), name+"/"+e.Name()
		if strings.HasPrefix(name, "pg_tblspc/") && strings.Count(name, "/") == 1 && !j.known[of] {
			continue // another version's part of the tablespace
		}
		if !clean {
			return repo.Errorf(repo.PathNotEmpty, "unable to restore to path '%s' because it contains files; try using --delta if this is what you intended", disk)
		}
		if name == "pg_data" && (e.Name() == manifestInData || j.Type == Preserve && slices.Contains([]string{recoverySignal, standbySignal, autoConf}, e.Name())) {
			continue
		}
		isLink := e.Type()&fs.ModeSymlink != 0
		_, wantLink := j.links[of]
		wantDir := slices.ContainsFunc(j.m.Paths, func(p repo.Path) bool { return p.Name == of })
		switch {
		case !j.known[of] || isLink && !wantLink || !isLink && wantLink || e.IsDir() && !wantDir:
			if err := os.RemoveAll(path); err != nil {
				return err
			}
		case isLink && wantDir:
			if _, space := j.roots[strings.TrimPrefix(of, "pg_data/")]; space {
				continue
			}
			if to := j.links[of]; to != "" {
				if err := j.tidy(to, of, clean); err != nil && !errors.Is(err, fs.ErrNotExist) {
					return err
				}
			}
		case e.IsDir():
			if err := j.tidy(path, of, clean); err != nil {
				return err
			}
		}
	}
	return nil
}

// link makes a symbolic link, unless it leads there already.
func (j *job) link(disk, to string) error {
	if have, err := os.Readlink(disk); err == nil {
		if have == to {
			return nil
		}
		if err := os.Remove(disk); err != nil {
			return err
		}
	}
	if err := os.Symlink(to, disk); err != nil {
		return err
	}
	return j.own(disk)
}

// copy writes all files with so many workers, the largest first.
func (j *job) copy(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var files []*repo.File
	for i := range j.m.Files {
		f := &j.m.Files[i]
		if f.Name == tablespaceMap || f.Name == autoConfInData && j.Type == Preserve && exists(j.at(f.Name)) {
			continue // links stand for the first; the second is to stay
		}
		files = append(files, f)
	}
	slices.SortStableFunc(files, func(a, b *repo.File) int { return cmp.Compare(b.Size, a.Size) })
	var done, total int64
	for _, f := range files {
		total += f.Size
	}
	var mu sync.Mutex
	tell := func(n int64) {
		if j.Progress == nil {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		done += n
		j.Progress(done, total)
	}
	work := make(chan *repo.File)
	var wait sync.WaitGroup
	for range max(j.Workers, 1) {
		wait.Go(func() {
			for f := range work {
				if err := j.file(ctx, f); err != nil {
					cancel(fmt.Errorf("restore file %s: %w", j.at(f.Name), err))
				}
				tell(f.Size)
			}
		})
	}
	for _, f := range files {
		if ctx.Err() != nil {
			break
		}
		work <- f
	}
	close(work)
	wait.Wait()
	return context.Cause(ctx)
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// file restores one file, or finds that it is right already.
func (j *job) file(ctx context.Context, f *repo.File) error {
	if ctx.Err() != nil {
		return nil // another file failed, and says so
	}
	disk := j.at(f.Name)
	if f.Name == controlName {
		disk += ".pgbackrest.tmp"
	}
	if j.hollow(f) {
		if err := hole(disk, f.Size); err != nil {
			return err
		}
	} else if !j.Delta || !j.right(disk, f) {
		if err := j.fetch(ctx, disk, f); err != nil {
			return err
		}
	}
	if err := j.give(disk, f.Owner); err != nil {
		return err
	}
	at := time.Unix(f.Timestamp, 0)
	return os.Chtimes(disk, at, at)
}

// right says whether a file has the content that it shall have.
func (j *job) right(disk string, f *repo.File) bool {
	in, err := os.Open(disk)
	if err != nil {
		return false
	}
	defer in.Close()
	st, err := in.Stat()
	if err != nil || st.Size() != f.Size {
		return false
	}
	if j.Force && st.ModTime().Unix() == f.Timestamp && f.Timestamp < j.m.CopyStart {
		return true
	}
	h := sha1.New()
	if _, err := io.Copy(h, in); err != nil {
		return false
	}
	return f.Size == 0 || hex.EncodeToString(h.Sum(nil)) == f.Checksum
}

func (j *job) fetch(ctx context.Context, disk string, f *repo.File) error {
	out, err := os.OpenFile(disk, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if f.Size == 0 {
		return out.Close()
	}
	return errors.Join(j.s.FetchFile(ctx, j.m, f, out), out.Close())
}

// give sets mode and, for root, the owner.
func (j *job) give(path string, o repo.Owner) error {
	mode, err := strconv.ParseUint(o.Mode, 8, 32)
	if err != nil || mode > 0o7777 {
		return repo.Errorf(repo.BadFormat, "mode '%s' is not octal", o.Mode)
	}
	if err := os.Chmod(path, fs.FileMode(mode&0o777)); err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return nil
	}
	uid, gid, err := ownerOf(j.Path)
	if err != nil {
		return err
	}
	if u, err := user.Lookup(o.User.Name); err == nil && !o.User.Unknown {
		uid, _ = strconv.Atoi(u.Uid)
	}
	if g, err := user.LookupGroup(o.Group.Name); err == nil && !o.Group.Unknown {
		gid, _ = strconv.Atoi(g.Gid)
	}
	return os.Chown(path, uid, gid)
}

func ownerOf(path string) (uid, gid int, err error) {
	st, err := os.Stat(path)
	if err != nil {
		return 0, 0, err
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		return os.Getuid(), os.Getgid(), nil
	}
	return int(sys.Uid), int(sys.Gid), nil
}

// finish makes everything durable, and then the cluster one that starts.
func (j *job) finish() error {
	places := map[string]bool{j.Path: true}
	for _, root := range j.roots {
		places[root] = true
	}
	for _, to := range j.links {
		places[to] = true
	}
	for place := range places {
		if err := syncFS(place); err != nil {
			return err
		}
	}
	control := filepath.Join(j.Path, controlFile)
	j.Voice.Info("restore global/pg_control (performed last to ensure aborted restores cannot be started)")
	if err := os.Rename(control+".pgbackrest.tmp", control); err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(j.Path, manifestInData)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return syncFS(j.Path)
}

// syncFS writes out the file system that holds path.
func syncFS(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Syncfs(int(f.Fd()))
}
