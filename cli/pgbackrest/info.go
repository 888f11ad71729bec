package pgbackrest

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"

	"howdah/backup"
	"howdah/backup/repo"
)

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// Codes of a stanza's status, and what they say.
const (
	statusOK        = 0
	statusNoPath    = 1
	statusNoBackup  = 2
	statusNoData    = 3
	statusMixed     = 4
	statusMismatch  = 5
	statusNoSuchSet = 6
	statusOther     = 99
)

var statuses = map[int]string{
	statusOK: "ok", statusNoPath: "missing stanza path", statusNoBackup: "no valid backups", statusNoData: "missing stanza data",
	statusMixed: "different across repos", statusMismatch: "database mismatch across repos", statusNoSuchSet: "requested backup not found",
	statusOther: "other",
}

// An object prints as JSON with ascending keys.
type object map[string]any

// stanzaView is one stanza in all repositories.
type stanzaView struct {
	name  string
	views []backup.View
	held  bool
	set   string
	links *repo.Manifest // of the set that is asked for
}

func (c *command) info(ctx context.Context, p Process, l *log) error {
	name := c.text("stanza")
	keys, err := c.repos()
	if err != nil {
		return err
	}
	names := []string{name}
	if name == "" {
		stanzas, err := c.stanzas(keys, "")
		if err != nil {
			return err
		}
		if names, err = backup.Names(ctx, stanzas...); err != nil {
			return err
		}
	}
	set := c.text("set")
	if set != "" && name == "" {
		return repo.Errorf(repo.OptionInvalid, "option 'set' not valid without option 'stanza'")
	}
	var all []stanzaView
	for _, name := range names {
		stanzas, err := c.stanzas(keys, name)
		if err != nil {
			return err
		}
		v := stanzaView{name: name, set: set, held: backup.Desk{Stanza: name, Locks: c.text("lock-path")}.Held()}
		for _, s := range stanzas {
			one, err := backup.Look(ctx, s)
			switch {
			case err != nil && len(stanzas) == 1:
				return err
			case err != nil: // the others are shown all the same
				one.Missing = err
			}
			v.views = append(v.views, one)
			if _, ok := one.Info.Find(set); ok && v.links == nil {
				if v.links, err = s.Manifest(ctx, set, one.Info); err != nil {
					return err
				}
			}
		}
		all = append(all, v)
	}
	switch output := c.first("output", "text"); output {
	case "json":
		list := []any{}
		for _, v := range all {
			list = append(list, v.json())
		}
		enc := json.NewEncoder(noNewline{p.Out})
		enc.SetEscapeHTML(false)
		return enc.Encode(list)
	case "text":
		if len(all) == 0 {
			fmt.Fprintln(p.Out, "No stanzas exist in the repository.")
		}
		for i, v := range all {
			if i > 0 {
				fmt.Fprintln(p.Out)
			}
			v.text(p.Out)
		}
		return nil
	default:
		return repo.Errorf(repo.OptionInvalidValue, "'%s' is not allowed for 'output' option", output)
	}
}

// noNewline leaves out the one that ends an encoder's value.
type noNewline struct{ w io.Writer }

func (n noNewline) Write(p []byte) (int, error) {
	_, err := io.WriteString(n.w, strings.TrimSuffix(string(p), "\n"))
	return len(p), err
}

// status of one repository.
func (v stanzaView) status(one backup.View) (int, string) {
	switch {
	case one.NoPath:
		return statusNoPath, statuses[statusNoPath]
	case one.Missing != nil && errors.Is(one.Missing, fs.ErrNotExist):
		return statusNoData, statuses[statusNoData]
	case one.Missing != nil:
		return statusOther, "[" + fmt.Sprintf("%T", repo.ClassOf(one.Missing)) + "] " + one.Missing.Error()
	case len(one.Info.Backups) == 0:
		return statusNoBackup, statuses[statusNoBackup]
	case v.set != "":
		if _, ok := one.Info.Find(v.set); !ok {
			return statusNoSuchSet, statuses[statusNoSuchSet]
		}
	}
	return statusOK, statuses[statusOK]
}

// overall is the status of the stanza, and the cipher of its repositories.
func (v stanzaView) overall() (code int, message, cipher string) {
	code, message = v.status(v.views[0])
	cipher = v.views[0].Cipher
	for _, one := range v.views[1:] {
		if c, _ := v.status(one); c != code {
			code, message = statusMixed, statuses[statusMixed]
		}
		if one.Cipher != cipher {
			cipher = "mixed"
		}
	}
	for _, one := range v.views[1:] {
		if first := v.views[0].Info.DB; one.Missing == nil && v.views[0].Missing == nil && !one.Info.DB.Same(first) {
			code, message = statusMismatch, statuses[statusMismatch]
		}
	}
	return code, message, cipher
}

// each visits the backups of all repositories, oldest first.
func (v stanzaView) each(do func(one backup.View, b repo.Backup)) {
	type entry struct {
		one backup.View
		b   repo.Backup
	}
	var all []entry
	for _, one := range v.views {
		for _, b := range one.Info.Backups {
			if v.set == "" || v.set == b.Label {
				all = append(all, entry{one, b})
			}
		}
	}
	slices.SortStableFunc(all, func(a, b entry) int { return repo.Later(a.b.Label, b.b.Label) })
	for _, e := range all {
		do(e.one, e.b)
	}
}

func (v stanzaView) json() object {
	code, message, cipher := v.overall()
	archives, backups, dbs, repos := []any{}, []any{}, []any{}, []any{}
	for _, one := range v.views {
		c, m := v.status(one)
		repos = append(repos, object{"cipher": one.Cipher, "key": one.Repo, "status": object{"code": c, "message": m}})
		for _, d := range one.Info.History {
			dbs = append(dbs, object{"id": d.ID, "repo-key": one.Repo, "system-id": uint64(d.System), "version": d.Version})
		}
		for _, a := range one.Archives {
			archives = append(archives, object{
				"database": object{"id": a.DB.ID, "repo-key": one.Repo}, "id": a.DB.ArchiveID(), "max": orNull(a.Max), "min": orNull(a.Min),
			})
		}
	}
	v.each(func(one backup.View, b repo.Backup) { backups = append(backups, v.backup(one, b)) })
	return object{
		"archive": archives, "backup": backups, "cipher": cipher, "db": dbs, "name": v.name, "repo": repos,
		"status": object{"code": code, "lock": object{"backup": object{"held": v.held}}, "message": message},
	}
}

func orNull(text string) any {
	if text == "" {
		return nil
	}
	return text
}

func (v stanzaView) backup(one backup.View, b repo.Backup) object {
	stored := object{"delta": b.RepoDelta, "size": b.RepoSize}
	if b.Blocks() {
		stored = object{
			"delta": b.RepoDelta, "delta-map": json.RawMessage(b.Extra("backup-info-repo-size-map-delta")),
			"size-map": json.RawMessage(b.Extra("backup-info-repo-size-map")),
		}
	}
	o := object{
		"archive":   object{"start": orNull(b.ArchiveStart), "stop": orNull(b.ArchiveStop)},
		"backrest":  object{"format": b.Format, "version": b.Backrest},
		"database":  object{"id": b.DB, "repo-key": one.Repo},
		"info":      object{"delta": b.Delta, "repository": stored, "size": b.Size},
		"label":     b.Label,
		"prior":     orNull(b.Prior),
		"reference": nil,
		"timestamp": object{"start": b.Start, "stop": b.Stop},
		"type":      b.Type,
	}
	if len(b.Annotation) > 0 {
		o["annotation"] = b.Annotation
	}
	if b.Error != nil {
		o["error"] = *b.Error
	}
	if b.LSNStart != "" || b.LSNStop != "" {
		o["lsn"] = object{"start": orNull(b.LSNStart), "stop": orNull(b.LSNStop)}
	}
	if len(b.Reference) > 0 {
		o["reference"] = b.Reference
	}
	if m := v.links; m != nil && m.Label == b.Label {
		o["database-ref"], o["link"], o["tablespace"] = databases(m), nil, nil
		var links, spaces []any
		for _, t := range m.Targets {
			switch {
			case t.Tablespace != "":
				spaces = append(spaces, object{"destination": t.Path, "name": t.SpaceName, "oid": json.RawMessage(t.Tablespace)})
			case t.Type == "link":
				links = append(links, object{"destination": destination(t), "name": linkName(t)})
			}
		}
		if links != nil {
			o["link"] = links
		}
		if spaces != nil {
			o["tablespace"] = spaces
		}
		wrong := []string{}
		for i := range m.Files {
			if f := &m.Files[i]; f.PageOK != nil && !*f.PageOK {
				wrong = append(wrong, f.Name)
			}
		}
		if len(wrong) > 0 {
			o["error-list"] = wrong
		}
	}
	return o
}

// linkName is what pgBackRest calls a link: one to a file by that file.
func linkName(t repo.Target) string {
	return cmp.Or(t.File, strings.TrimPrefix(t.Name, "pg_data/"))
}

func destination(t repo.Target) string {
	if t.File != "" {
		return t.Path + "/" + t.File
	}
	return t.Path
}

// databases are those of the cluster that are no templates.
func databases(m *repo.Manifest) []any {
	all := []any{}
	for _, d := range m.Databases {
		if d.Name != "template0" && d.Name != "template1" {
			all = append(all, object{"name": d.Name, "oid": d.OID})
		}
	}
	return all
}

func (v stanzaView) text(w io.Writer) {
	code, message, cipher := v.overall()
	fmt.Fprintf(w, "stanza: %s\n", v.name)
	lock := ""
	if v.held {
		lock = "backup/expire running"
	}
	switch {
	case code == statusOK && v.held:
		fmt.Fprintf(w, "    status: ok (%s)\n", lock)
	case code == statusOK:
		fmt.Fprintln(w, "    status: ok")
	case code == statusMixed:
		fmt.Fprintln(w, "    status: mixed")
		for _, one := range v.views {
			if c, m := v.status(one); c == statusOK {
				fmt.Fprintf(w, "        repo%d: ok\n", one.Repo)
			} else {
				fmt.Fprintf(w, "        repo%d: error (%s)\n", one.Repo, m)
			}
		}
	case v.held:
		fmt.Fprintf(w, "    status: error (%s, %s)\n", message, lock)
	default:
		fmt.Fprintf(w, "    status: error (%s)\n", message)
	}
	if code == statusNoPath {
		return
	}
	if fmt.Fprintf(w, "    cipher: %s\n", cipher); cipher == "mixed" {
		for _, one := range v.views {
			fmt.Fprintf(w, "        repo%d: %s\n", one.Repo, one.Cipher)
		}
	}
	for _, d := range v.databases() {
		v.database(w, d)
	}
}

// databases are the systems that the stanza has been of, the current one first.
func (v stanzaView) databases() []repo.DB {
	var all []repo.DB
	for _, one := range v.views {
		for _, d := range slices.Backward(one.Info.History) {
			if !slices.ContainsFunc(all, d.Same) {
				all = append(all, d)
			}
		}
	}
	return all
}

func (v stanzaView) database(w io.Writer, d repo.DB) {
	current := slices.ContainsFunc(v.views, func(one backup.View) bool { return one.Info.DB.Same(d) })
	minimum, maximum, some := "", "", false
	for _, one := range v.views {
		for _, a := range one.Archives {
			if !a.DB.Same(d) || a.Min == "" {
				continue
			}
			if minimum == "" || a.Min < minimum {
				minimum = a.Min
			}
			maximum = max(maximum, a.Max)
		}
	}
	v.each(func(one backup.View, b repo.Backup) { some = some || v.of(one, b).Same(d) })
	if !current && minimum == "" && !some {
		return
	}
	fmt.Fprintf(w, "\n    db (%s)\n", map[bool]string{true: "current", false: "prior"}[current])
	if minimum != "" {
		fmt.Fprintf(w, "        wal archive min/max (%s): %s/%s\n", d.Version, minimum, maximum)
	} else {
		fmt.Fprintf(w, "        wal archive min/max (%s): none present\n", d.Version)
	}
	v.each(func(one backup.View, b repo.Backup) {
		if v.of(one, b).Same(d) {
			v.print(w, one, b)
		}
	})
}

// of is the system that a backup is of.
func (v stanzaView) of(one backup.View, b repo.Backup) repo.DB {
	for _, d := range one.Info.History {
		if d.ID == b.DB {
			return d
		}
	}
	return repo.DB{}
}

func (v stanzaView) print(w io.Writer, one backup.View, b repo.Backup) {
	when := func(at int64) string { return time.Unix(at, 0).Format("2006-01-02 15:04:05") }
	wal := "n/a"
	if b.ArchiveStart != "" {
		wal = b.ArchiveStart + " / " + b.ArchiveStop
	}
	fmt.Fprintf(w, "\n        %s backup: %s\n", b.Type, b.Label)
	fmt.Fprintf(w, "            timestamp start/stop: %s / %s\n", when(b.Start), when(b.Stop))
	fmt.Fprintf(w, "            wal start/stop: %s\n", wal)
	if v.set != "" && b.LSNStart != "" {
		fmt.Fprintf(w, "            lsn start/stop: %s / %s\n", b.LSNStart, b.LSNStop)
	}
	fmt.Fprintf(w, "            database size: %s, database backup size: %s\n", repo.Size(b.Size), repo.Size(b.Delta))
	if b.Blocks() {
		fmt.Fprintf(w, "            repo%d: backup size: %s\n", one.Repo, repo.Size(b.RepoDelta))
	} else {
		fmt.Fprintf(w, "            repo%d: backup set size: %s, backup size: %s\n", one.Repo, repo.Size(b.RepoSize), repo.Size(b.RepoDelta))
	}
	if len(b.Reference) > 0 {
		fmt.Fprintf(w, "            backup reference list: %s\n", strings.Join(b.Reference, ", "))
	}
	if v.links != nil && v.links.Label == b.Label {
		v.details(w, v.links)
	}
	if v.set != "" && len(b.Annotation) > 0 {
		fmt.Fprintln(w, "            annotation(s)")
		for _, key := range sorted(b.Annotation) {
			fmt.Fprintf(w, "                %s: %s\n", key, b.Annotation[key])
		}
	}
	if b.Error != nil && *b.Error {
		if v.links == nil {
			fmt.Fprintln(w, "            error(s) detected during backup")
			return
		}
		var wrong []string
		for i := range v.links.Files {
			if f := &v.links.Files[i]; f.PageOK != nil && !*f.PageOK {
				wrong = append(wrong, f.Name)
			}
		}
		fmt.Fprintf(w, "            page checksum error: %s\n", strings.Join(wrong, ", "))
	}
}

func (v stanzaView) details(w io.Writer, m *repo.Manifest) {
	var list, links, spaces []string
	for _, d := range m.Databases {
		if d.Name != "template0" && d.Name != "template1" {
			list = append(list, fmt.Sprintf("%s (%d)", d.Name, d.OID))
		}
	}
	for _, t := range m.Targets {
		switch {
		case t.Tablespace != "":
			spaces = append(spaces, fmt.Sprintf("                %s (%s) => %s", t.SpaceName, t.Tablespace, t.Path))
		case t.Type == "link":
			links = append(links, fmt.Sprintf("                %s => %s", linkName(t), destination(t)))
		}
	}
	if len(list) == 0 {
		list = []string{"none"}
	}
	fmt.Fprintf(w, "            database list: %s\n", strings.Join(list, ", "))
	if len(links) > 0 {
		fmt.Fprintf(w, "            symlinks:\n%s\n", strings.Join(links, "\n"))
	}
	if len(spaces) > 0 {
		fmt.Fprintf(w, "            tablespaces:\n%s\n", strings.Join(spaces, "\n"))
	}
}
