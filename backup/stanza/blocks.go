package stanza

import (
	"bytes"
	"context"
	"errors"
	"io"

	"howdah/backup/repo"
)

// FetchFile hands the content of a file of a backup to into, from wherever it
// is stored: an object of its own, a bundle, or blocks of several backups. It
// is proven against the manifest before FetchFile returns without an error.
func (s *Stanza) FetchFile(ctx context.Context, m *repo.Manifest, f *repo.File, into io.Writer) error {
	if f.Block > 0 {
		return s.fetchBlocks(ctx, m, f, into)
	}
	name, offset, length := m.Object(s.Name, f)
	sealed, err := s.Fetch(ctx, name, offset, length, m.Coding(f), into)
	switch {
	case err != nil:
		return err
	case sealed.Checksum != f.Checksum:
		return repo.Errorf(repo.Checksum, "actual checksum '%s' does not match expected checksum '%s' in %s", sealed.Checksum, f.Checksum, name)
	case sealed.Size != f.Size || sealed.Stored != f.Stored():
		return ErrSize
	case f.RepoChecksum != "" && sealed.RepoSum != f.RepoChecksum:
		return repo.Errorf(repo.Checksum, "what is stored in %s has checksum '%s', not '%s'", name, sealed.RepoSum, f.RepoChecksum)
	}
	return nil
}

// ErrSize says that a file has the content that it should, and another size
// than the manifest says.
var ErrSize = errors.New("the size is another one than the manifest says")

// fetchBlocks puts a file together from its blocks, in their order. A super
// block is kept until the next one: those that follow each other in the file
// are mostly of one.
func (s *Stanza) fetchBlocks(ctx context.Context, m *repo.Manifest, f *repo.File, into io.Writer) error {
	if m.Beta() {
		return repo.Errorf(repo.FeatureUnsupported, "backup '%s' is stored in blocks by a pre-release of pgBackRest (%s --beta), in a form that was given up; restore it with that", m.Label, m.Backrest)
	}
	size, sum := f.Block*repo.PageSize, int(f.BlockSum)
	if sum == 0 {
		sum = 6
	}
	if f.BlockMap <= 0 || f.BlockMap > f.Stored() || sum > 16 {
		return repo.Errorf(repo.BadFormat, "the place of the block map of %s can not be", f.Name)
	}
	raw := repo.Coding{Compress: repo.Compression(m.Options.CompressType), Pass: m.Cipher, Raw: true}
	name, offset, _ := m.Object(s.Name, f)
	var b bytes.Buffer
	if _, err := s.Fetch(ctx, name, offset+f.Stored()-f.BlockMap, f.BlockMap, repo.Coding{Pass: m.Cipher, Raw: true}, &b); err != nil {
		return err
	}
	blocks, err := repo.ParseBlockMap(b.Bytes(), size, sum, int((f.Size+size-1)/size))
	if err != nil {
		return err
	}
	h := repo.NewSum()
	out := io.MultiWriter(into, h)
	var super bytes.Buffer
	var held repo.Block
	have := false
	for _, k := range blocks {
		if !have || k.Reference != held.Reference || k.Bundle != held.Bundle || k.Offset != held.Offset {
			from, err := m.SuperBlock(s.Name, f, k)
			if err != nil {
				return err
			}
			super.Reset()
			sealed, err := s.Fetch(ctx, from, k.Offset, k.Stored, raw, &super)
			if err != nil {
				return err
			}
			if sealed.Size != k.Plain {
				return repo.Errorf(repo.BadFormat, "a super block in %s has %d bytes, not %d", from, sealed.Size, k.Plain)
			}
			held, have = k, true
		}
		at := k.Index * size
		if at >= int64(super.Len()) {
			return repo.Errorf(repo.BadFormat, "the block map of %s names a block beyond its super block", f.Name)
		}
		block := super.Bytes()[at:min(at+size, int64(super.Len()))]
		if !bytes.Equal(repo.BlockChecksum(block, sum), k.Checksum) {
			return repo.Errorf(repo.Checksum, "a block of %s does not have the checksum that its map says", f.Name)
		}
		if _, err := out.Write(block); err != nil {
			return err
		}
	}
	if got := h.String(); got != f.Checksum {
		return repo.Errorf(repo.Checksum, "actual checksum '%s' does not match expected checksum '%s' of the blocks of %s", got, f.Checksum, f.Name)
	}
	if h.Size() != f.Size {
		return ErrSize
	}
	return nil
}
