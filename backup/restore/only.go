package restore

import (
	"os"
	"slices"
	"strconv"
	"strings"

	"howdah/backup/repo"
)

// firstUser is the first oid of what users make (FirstNormalObjectId): databases
// below it are the system's.
const firstUser = 16384

// without finds the databases whose files are restored as nothing but their size:
// holes, with which recovery goes on as with any. Such a database can not be
// connected to, and can be dropped.
//
// With Include these are all others but the system's; Exclude names some, of
// the system's too (restore.c, restoreSelectiveExpression). Names are looked for among
// those of the manifest, and then among the oids that files are of.
func (r Restore) without(m *repo.Manifest) (map[string]bool, error) {
	if len(r.Include) == 0 && len(r.Exclude) == 0 {
		return nil, nil
	}
	all, system := map[string]bool{}, map[string]bool{}
	for _, d := range m.Databases {
		if d.OID < firstUser || slices.Contains([]string{"template0", "template1", "postgres"}, d.Name) {
			id := strconv.FormatInt(d.OID, 10)
			all[id], system[id] = true, true
		}
	}
	for i := range m.Files {
		id, rest, ok := databaseOf(m.Files[i].Name)
		if !ok || rest != "PG_VERSION" {
			continue
		}
		// One that was made after the backup began is in no list of the manifest.
		if n, err := strconv.ParseInt(id, 10, 64); err == nil && n < firstUser {
			system[id] = true
		}
		all[id] = true
	}
	if len(all) == 0 {
		return nil, repo.Errorf(repo.BadFormat, "no databases found for selective restore; is this a valid cluster?")
	}
	find := func(name, to string) (string, error) {
		if all[name] {
			return name, nil
		}
		for _, d := range m.Databases {
			if id := strconv.FormatInt(d.OID, 10); d.Name == name && all[id] {
				return id, nil
			}
		}
		return "", repo.Errorf(repo.DBMissing, "database to %s '%s' does not exist", to, name)
	}
	without := map[string]bool{}
	for _, name := range r.Exclude {
		id, err := find(name, "exclude")
		if err != nil {
			return nil, err
		}
		without[id] = true
	}
	if len(r.Include) == 0 {
		return without, nil
	}
	var with []string
	for _, name := range r.Include {
		id, err := find(name, "include")
		switch {
		case err != nil:
			return nil, err
		case system[id] && !without[id]:
			return nil, repo.Errorf(repo.DBInvalid, "system databases (template0, postgres, etc.) are included by default")
		case without[id]:
			return nil, repo.Errorf(repo.DBInvalid, "database to include '%s' is in the exclude list", name)
		}
		with = append(with, id)
	}
	for id := range all {
		if !system[id] && !slices.Contains(with, id) {
			without[id] = true
		}
	}
	return without, nil
}

// databaseOf is the oid of the database that a file belongs to, and the file's name
// below its directory.
func databaseOf(name string) (id, rest string, ok bool) {
	if rest, ok = strings.CutPrefix(name, "pg_data/base/"); !ok {
		// pg_tblspc/16400/PG_15_202209061/16384/16385
		f := strings.SplitN(name, "/", 4)
		if ok = len(f) == 4 && f[0] == "pg_tblspc" && strings.HasPrefix(f[2], "PG_"); !ok {
			return "", "", false
		}
		rest = f[3]
	}
	id, rest, ok = strings.Cut(rest, "/")
	return id, rest, ok && id != "" && strings.Trim(id, "0123456789") == ""
}

// hollow says that a file is to be a hole of its size. What says that a directory is a
// database's stays, without which it can not be dropped.
func (j *job) hollow(f *repo.File) bool {
	if len(j.empty) == 0 {
		return false
	}
	id, rest, ok := databaseOf(f.Name)
	return ok && rest != "PG_VERSION" && j.empty[id]
}

// hole makes one.
func hole(disk string, size int64) error {
	out, err := os.OpenFile(disk, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if err := out.Truncate(size); err != nil {
		_ = out.Close()
		return err
	}
	return out.Close()
}
