// Package stanza is one cluster's part of a repository: its info files and
// manifests, each kept twice, and its objects through compression and cipher.
//
// The keys are nested: the repository's pass phrase opens the info files, the
// phrase in archive.info opens the WAL, the one in backup.info the manifests,
// and the one in a manifest the objects of that full backup and of all that
// build on it.
package stanza

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"howdah/backup/repo"
	"howdah/secret"
)

// A Stanza is a name in a repository.
type Stanza struct {
	repo.Storage
	Name string
	Repo int         // the repository's number in the configuration
	Pass secret.Text // of the repository; "": not encrypted

	Place string // of the repository: what tells it from every other, whatever its number
}

// Mark is a short name for the repository's place.
func (s *Stanza) Mark() string {
	if s.Place == "" {
		return s.String()
	}
	sum := sha256.Sum256([]byte(s.Place))
	return hex.EncodeToString(sum[:6])
}

// String names the repository as messages do.
func (s *Stanza) String() string { return fmt.Sprintf("repo%d", s.Repo) }

// Cipher is the name of the repository's cipher.
func (s *Stanza) Cipher() string {
	if s.Pass == "" {
		return repo.CipherNone
	}
	return repo.CipherAES
}

// NewPass makes a pass phrase for what stands below; "" if nothing is encrypted.
func (s *Stanza) NewPass() secret.Text {
	if s.Pass == "" {
		return ""
	}
	b := make([]byte, 48)
	_, _ = rand.Read(b) // it does not fail: crypto/rand
	return secret.Text(base64.StdEncoding.EncodeToString(b))
}

// Store puts what fill writes, compressed and encrypted.
func (s *Stanza) Store(ctx context.Context, name string, c repo.Coding, fill func(io.Writer) error) (repo.Sealed, error) {
	var sealed repo.Sealed
	err := s.Put(ctx, name, func(w io.Writer) (err error) {
		sealed, err = Seal(w, c, fill)
		return err
	})
	return sealed, err
}

// Seal writes one stream with a salt of its own.
func Seal(w io.Writer, c repo.Coding, fill func(io.Writer) error) (repo.Sealed, error) {
	var salt [repo.SaltSize]byte
	_, _ = rand.Read(salt[:])
	z, err := repo.Seal(w, c, salt)
	if err != nil {
		return repo.Sealed{}, err
	}
	if err := fill(z); err != nil {
		return repo.Sealed{}, err
	}
	if err := z.Close(); err != nil {
		return repo.Sealed{}, err
	}
	return z.Sealed(), nil
}

// Fetch hands the content of an object, or of a part of it, to into, and
// returns the sums of both sides.
func (s *Stanza) Fetch(ctx context.Context, name string, offset, length int64, c repo.Coding, into io.Writer) (repo.Sealed, error) {
	r, err := s.Get(ctx, name, offset, length)
	if err != nil {
		return repo.Sealed{}, err
	}
	defer r.Close()
	o, err := repo.Open(r, c)
	if err != nil {
		return repo.Sealed{}, fmt.Errorf("%s: %w", name, err)
	}
	defer o.Close()
	if _, err := io.Copy(into, o); err != nil {
		return repo.Sealed{}, fmt.Errorf("%s: %w", name, err)
	}
	// Whatever follows the compressed stream counts for the sum of what is stored.
	if err := o.Drain(); err != nil {
		return repo.Sealed{}, err
	}
	return o.Sealed(), nil
}

// load reads a small file of which there are two.
func load[T any](ctx context.Context, s *Stanza, name string, pass secret.Text, parse func([]byte) (T, error)) (T, error) {
	one, err := loadOne(ctx, s, name, pass, parse)
	if err == nil || repo.ClassOf(err) == repo.HostConnect { // a store that does not answer has no copy either
		return one, err
	}
	two, err2 := loadOne(ctx, s, name+repo.Copy, pass, parse)
	if err2 == nil {
		return two, nil
	}
	if errors.Is(err, fs.ErrNotExist) && !errors.Is(err2, fs.ErrNotExist) {
		err = err2
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = repo.Errorf(repo.FileMissing, "unable to load info file '%s' or '%s%s': %w", name, name, repo.Copy, fs.ErrNotExist)
	}
	var zero T
	return zero, err
}

func loadOne[T any](ctx context.Context, s *Stanza, name string, pass secret.Text, parse func([]byte) (T, error)) (T, error) {
	var zero T
	var b bytes.Buffer
	if _, err := s.Fetch(ctx, name, 0, -1, repo.Coding{Pass: pass}, &b); err != nil {
		return zero, err
	}
	t, err := parse(b.Bytes())
	if err != nil {
		return zero, fmt.Errorf("unable to load info file '%s': %w", name, err)
	}
	return t, nil
}

// save writes a file and its copy.
func (s *Stanza) save(ctx context.Context, pass secret.Text, data []byte, names ...string) error {
	for _, name := range names {
		if _, err := s.Store(ctx, name, repo.Coding{Pass: pass}, func(w io.Writer) error { _, err := w.Write(data); return err }); err != nil {
			return fmt.Errorf("save %s: %w", name, err)
		}
	}
	return nil
}

// ArchiveInfo reads archive.info.
func (s *Stanza) ArchiveInfo(ctx context.Context) (repo.ArchiveInfo, error) {
	return load(ctx, s, repo.ArchivePath(s.Name, repo.ArchiveInfoName), s.Pass, repo.ParseArchiveInfo)
}

// SaveArchiveInfo writes archive.info and its copy.
func (s *Stanza) SaveArchiveInfo(ctx context.Context, i repo.ArchiveInfo) error {
	i.Backrest = repo.Version
	name := repo.ArchivePath(s.Name, repo.ArchiveInfoName)
	return s.save(ctx, s.Pass, i.Bytes(), name, name+repo.Copy)
}

// BackupInfo reads backup.info.
func (s *Stanza) BackupInfo(ctx context.Context) (repo.BackupInfo, error) {
	return load(ctx, s, repo.BackupPath(s.Name, repo.BackupInfoName), s.Pass, repo.ParseBackupInfo)
}

// SaveBackupInfo writes backup.info and its copy.
func (s *Stanza) SaveBackupInfo(ctx context.Context, i repo.BackupInfo) error {
	i.Backrest = repo.Version
	name := repo.BackupPath(s.Name, repo.BackupInfoName)
	return s.save(ctx, s.Pass, i.Bytes(), name, name+repo.Copy)
}

// Copies says which of a file and its copy exist.
func (s *Stanza) Copies(ctx context.Context, dir, name string) (main, second bool, err error) {
	list, err := s.List(ctx, dir)
	has := func(name string) bool {
		return slices.ContainsFunc(list, func(e repo.Entry) bool { return e.Name == name })
	}
	return has(name), has(name + repo.Copy), err
}

// Manifest reads that of a finished backup; info holds its key.
func (s *Stanza) Manifest(ctx context.Context, label string, info repo.BackupInfo) (*repo.Manifest, error) {
	return load(ctx, s, repo.BackupPath(s.Name, label, repo.ManifestName), info.Cipher, repo.ParseManifest)
}

// SaveManifestCopy writes what an unfinished backup is resumed by, as far as it is.
func (s *Stanza) SaveManifestCopy(ctx context.Context, label string, data []byte, info repo.BackupInfo) error {
	return s.save(ctx, info.Cipher, data, repo.BackupPath(s.Name, label, repo.ManifestName+repo.Copy))
}

// ManifestCopy reads that of an unfinished backup.
func (s *Stanza) ManifestCopy(ctx context.Context, label string, info repo.BackupInfo) (*repo.Manifest, error) {
	return loadOne(ctx, s, repo.BackupPath(s.Name, label, repo.ManifestName+repo.Copy), info.Cipher, repo.ParseUnfinished)
}

// FinishManifest makes a backup complete: the copy first, for a manifest is
// what tells a backup from debris; then its history and, where there are
// links, the one to the latest.
func (s *Stanza) FinishManifest(ctx context.Context, m *repo.Manifest, info repo.BackupInfo) error {
	data := m.Bytes()
	name := repo.BackupPath(s.Name, m.Label, repo.ManifestName)
	if err := s.save(ctx, info.Cipher, data, name+repo.Copy, name); err != nil {
		return err
	}
	_, err := s.Store(ctx, repo.HistoryPath(s.Name, m.Label), repo.Coding{Compress: repo.Gzip, Level: 9, Pass: info.Cipher}, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
	if err != nil {
		return err
	}
	return s.Latest(ctx, m.Label)
}

// Latest points the link of that name to a backup.
func (s *Stanza) Latest(ctx context.Context, label string) error {
	if t, ok := s.Storage.(repo.Tree); ok {
		return t.Link(ctx, repo.BackupPath(s.Name, "latest"), label)
	}
	return nil
}

// Labels are the directories of backups, listed in backup.info or not, oldest first.
func (s *Stanza) Labels(ctx context.Context) ([]string, error) {
	list, err := s.List(ctx, repo.BackupPath(s.Name))
	var all []string
	for _, e := range list {
		if e.Dir && repo.IsLabel(e.Name) {
			all = append(all, e.Name)
		}
	}
	return all, err
}

// LastLabel is the newest label that was ever given, "" if none was.
func (s *Stanza) LastLabel(ctx context.Context) (string, error) {
	labels, err := s.Labels(ctx)
	if err != nil {
		return "", err
	}
	years, err := s.List(ctx, repo.BackupPath(s.Name, "backup.history"))
	if err != nil {
		return "", err
	}
	for _, y := range years {
		past, err := s.List(ctx, repo.BackupPath(s.Name, "backup.history", y.Name))
		if err != nil {
			return "", err
		}
		for _, e := range past {
			if label, ok := strings.CutSuffix(e.Name, ".manifest.gz"); ok && repo.IsLabel(label) {
				labels = append(labels, label)
			}
		}
	}
	if len(labels) == 0 {
		return "", nil
	}
	return slices.MaxFunc(labels, repo.Later), nil
}
