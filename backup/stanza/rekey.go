package stanza

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"

	"howdah/backup/repo"
	"howdah/secret"
)

// A change of the repository's pass phrase rewrites the envelopes: info files and
// manifests, with the records that stand beside them. What these hold the keys of, WAL
// and the files of backups, is not touched. It has two halves, and whatever ends one of
// them, all is open to the phrase that the configurations have:
//
//	            main file      its copy
//	before      old            old
//	prepared    old            new       either phrase opens everything
//	settled     new            new
//
// pgBackRest does the same with both: it reads the main file, and on any error the copy
// (contract of the format, 3.2). The phrase of the manifests, in backup.info, is changed
// too; that of the WAL, in archive.info, opens what is stored and can not be, and those
// of the backups change with every full one.

// Rekeyed ends the name of a record under the new phrase, of which there is no copy.
const Rekeyed = ".rekey"

// A twin is a small file that there is twice.
type twin struct {
	main, copy string
	pass       func(b repo.BackupInfo) secret.Text
	parse      func(data []byte) error
	gone       bool // the copy goes when main is as it is to be
}

// open reads one of the two, decrypted and otherwise as it is.
func (s *Stanza) openTwin(ctx context.Context, t twin, name string, b repo.BackupInfo) ([]byte, error) {
	var data bytes.Buffer
	if _, err := s.Fetch(ctx, name, 0, -1, repo.Coding{Pass: t.pass(b)}, &data); err != nil {
		return nil, err
	}
	if err := t.parse(data.Bytes()); err != nil {
		return nil, err
	}
	return data.Bytes(), nil
}

// twins are all of them, in the order in which they are settled.
func (s *Stanza) twins(ctx context.Context) (all []twin, err error) {
	archive, backup := repo.ArchivePath(s.Name, repo.ArchiveInfoName), repo.BackupPath(s.Name, repo.BackupInfoName)
	own := func(repo.BackupInfo) secret.Text { return s.Pass }
	inner := func(b repo.BackupInfo) secret.Text { return b.Cipher }
	all = []twin{
		{archive, archive + repo.Copy, own, func(d []byte) error { _, err := repo.ParseArchiveInfo(d); return err }, false},
		{backup, backup + repo.Copy, own, func(d []byte) error { _, err := repo.ParseBackupInfo(d); return err }, false},
	}
	manifest := func(d []byte) error { _, err := repo.ParseManifest(d); return err }
	labels, err := s.Labels(ctx)
	if err != nil {
		return nil, err
	}
	for _, label := range labels {
		name := repo.BackupPath(s.Name, label, repo.ManifestName)
		if main, _, err := s.Copies(ctx, repo.BackupPath(s.Name, label), repo.ManifestName); err != nil {
			return nil, err
		} else if main { // else it is none yet
			all = append(all, twin{name, name + repo.Copy, inner, manifest, false})
		}
	}
	records := func(dir, suffix string, pass func(repo.BackupInfo) secret.Text, parse func([]byte) error) error {
		dirs, err := s.List(ctx, dir)
		if err != nil {
			return err
		}
		for _, d := range dirs {
			list, err := s.List(ctx, dir+"/"+d.Name)
			if err != nil {
				return err
			}
			for _, e := range list {
				if name := dir + "/" + d.Name + "/" + e.Name; strings.HasSuffix(name, suffix) {
					all = append(all, twin{name, name + Rekeyed, pass, parse, true})
				}
			}
		}
		return nil
	}
	if err := records(repo.BackupPath(s.Name, "backup.history"), ".manifest.gz", inner, func(d []byte) error {
		var plain bytes.Buffer
		o, err := repo.Open(bytes.NewReader(d), repo.Coding{Compress: repo.Gzip})
		if err != nil {
			return err
		}
		defer o.Close()
		if _, err := io.Copy(&plain, o); err != nil {
			return err
		}
		return manifest(plain.Bytes())
	}); err != nil {
		return nil, err
	}
	err = records(repo.HolePath(s.Name), ".json", own, func(d []byte) error { _, err := repo.ParseHole(d); return err })
	return all, err
}

// PrepareRekey writes all copies so that pass opens them, while the main files stay as
// they are: from its end on both phrases open the repository.
func (s *Stanza) PrepareRekey(ctx context.Context, pass secret.Text) error {
	switch {
	case s.Pass == "":
		return repo.Errorf(repo.OptionInvalid, "%s is not encrypted, and has no pass phrase to be changed", s)
	case pass == "" || pass == s.Pass:
		return repo.Errorf(repo.OptionInvalidValue, "the new pass phrase of %s is empty, or the one that it has", s)
	}
	// Of what is settled by halves a copy may be all that can be read.
	b, err := loadOne(ctx, s, repo.BackupPath(s.Name, repo.BackupInfoName), s.Pass, repo.ParseBackupInfo)
	if err != nil {
		return s.unsettled(err)
	}
	all, err := s.twins(ctx)
	if err != nil {
		return err
	}
	for _, t := range all {
		if _, err := s.openTwin(ctx, t, t.main, b); err != nil {
			return s.unsettled(fmt.Errorf("%s: %w", t.main, err))
		}
	}
	then := b
	then.Cipher = s.NewPass()
	next := &Stanza{Storage: s.Storage, Name: s.Name, Repo: s.Repo, Pass: pass}
	put := func(name string, key secret.Text, data []byte) error { return next.save(ctx, key, data, name) }
	for _, t := range all[2:] { // what the info files lead to comes before them
		data, err := s.openTwin(ctx, t, t.main, b)
		if err != nil {
			return err
		}
		key := then.Cipher
		if t.pass(b) == s.Pass {
			key = pass
		}
		if err := put(t.copy, key, data); err != nil {
			return err
		}
	}
	archive, err := s.openTwin(ctx, all[0], all[0].main, b)
	if err != nil {
		return err
	}
	if err := put(all[0].copy, pass, archive); err != nil {
		return err
	}
	return put(all[1].copy, pass, then.Bytes())
}

func (s *Stanza) unsettled(err error) error {
	return repo.Errorf(repo.FileInvalid, "not everything in %s is open to the pass phrase of the configuration: end the last change of it first, with rekey without a new one: %w", s, err)
}

// SettleRekey writes what the phrase of the configuration does not open, from what it
// does: the main files, after PrepareRekey with the new phrase; or the copies, with the
// old one, which undoes that. What neither of a pair can give is refused before anything
// is written.
func (s *Stanza) SettleRekey(ctx context.Context) (written int, err error) {
	if s.Pass == "" {
		return 0, repo.Errorf(repo.OptionInvalid, "%s is not encrypted, and has no pass phrase to be changed", s)
	}
	b, err := s.BackupInfo(ctx)
	if err != nil {
		return 0, err
	}
	all, err := s.twins(ctx)
	if err != nil {
		return 0, err
	}
	type write struct {
		name string
		Key  secret.Text
		data []byte
	}
	var writes []write
	var leave []string
	for _, t := range all {
		main, bad := s.openTwin(ctx, t, t.main, b)
		other, lacks := s.openTwin(ctx, t, t.copy, b)
		switch {
		case bad == nil && t.gone:
			leave = append(leave, t.copy)
		case bad == nil && lacks == nil:
		case bad == nil:
			writes = append(writes, write{t.copy, t.pass(b), main})
		case lacks == nil:
			writes = append(writes, write{t.main, t.pass(b), other})
			if t.gone {
				leave = append(leave, t.copy)
			}
		default:
			return 0, repo.Errorf(repo.FileInvalid, "the pass phrase of the configuration opens neither '%s' nor '%s': something was written with the other one since; give that, and prepare the change again: %w", t.main, t.copy, bad)
		}
	}
	for _, w := range writes {
		if err := s.save(ctx, w.Key, w.data, w.name); err != nil {
			return written, err
		}
		written++
	}
	return written, s.Remove(ctx, leave...)
}
