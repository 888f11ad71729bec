package take

import (
	"context"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"

	"howdah/backup/repo"
)

// A full backup goes on with one that was interrupted, by pgBackRest's rules: the newest
// directory of a backup has a copy of the manifest and none itself, written by the same
// version, of the same type and compression. Later versions resume no others either, and
// none in bundles; we do resume those, which pgBackRest removes.
//
// What is there is believed by its content alone: what the repository has must give the
// checksum that the copy says, and so must the file of the cluster now. So neither clocks
// nor timelines matter, nor on which host it was begun, or from whose disk.

// Maker is the annotation that names the member of a cluster which makes a backup.
const Maker = "howdah"

// resumed is what an interrupted backup has left.
type resumed struct {
	has     map[string]bool // files whose objects are right
	bundles int64           // the last number of a bundle that was given
}

// interrupted is the manifest of the backup that m goes on with; nil: there is none.
func (b Backup) interrupted(ctx context.Context, m *repo.Manifest, last string, info repo.BackupInfo) (*repo.Manifest, error) {
	s := b.Stanza
	labels, err := s.Labels(ctx)
	if err != nil || len(labels) == 0 {
		return nil, err
	}
	label := slices.MaxFunc(labels, repo.Later)
	if _, listed := info.Find(label); listed || label != last {
		return nil, nil
	}
	whole, begun, err := s.Copies(ctx, repo.BackupPath(s.Name, label), repo.ManifestName)
	if err != nil || whole || !begun {
		return nil, err
	}
	not := func(why string) (*repo.Manifest, error) {
		b.Voice.Info("backup '%s' cannot be resumed: %s", label, why)
		return nil, nil
	}
	if !b.Resume {
		return not("resume is disabled")
	}
	if m.Type != repo.Full {
		return not("only full backups are")
	}
	left, err := s.ManifestCopy(ctx, label, info)
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, err
	case err != nil:
		return not("unable to read its manifest: " + err.Error())
	case left.Label != label:
		return not("its manifest is that of '" + left.Label + "'")
	case left.Backrest != m.Backrest:
		return not("new " + repo.Version + " version, it is of " + left.Backrest)
	case left.Type != m.Type || left.Prior != m.Prior:
		return not("it is of another type")
	case left.Annotation[Maker] != m.Annotation[Maker]:
		return not("'" + left.Annotation[Maker] + "' has begun it, and nobody here knows whether it writes there still")
	case left.DB.ID != 0 && (left.DB.ID != m.DB.ID || !left.DB.Same(m.DB)): // 0: the real one has not said it yet; the contents decide
		return not("it is of another database")
	case left.Options.CompressType != m.Options.CompressType:
		return not("new compression '" + m.Options.CompressType + "' does not match resumable compression '" + left.Options.CompressType + "'")
	case left.Bundle != m.Bundle || left.BundleRaw || left.BlockIncr || (left.Cipher == "") != (m.Cipher == ""):
		return not("its files are stored in another way")
	}
	return left, nil
}

// resume takes over what is right of an interrupted backup, and removes the rest.
func (b Backup) resume(ctx context.Context, m, left *repo.Manifest) (resumed, error) {
	if left == nil {
		return resumed{}, nil
	}
	s, coding := b.Stanza, repo.Coding{Compress: repo.Compression(m.Options.CompressType), Pass: m.Cipher}
	r := resumed{has: map[string]bool{}}
	var mu sync.Mutex
	var wait sync.WaitGroup
	work := make(chan *repo.File)
	for range max(b.Workers, 1) {
		wait.Go(func() {
			for f := range work {
				was := left.Find(f.Name)
				object, offset, length := left.Object(s.Name, was)
				sealed, err := s.Fetch(ctx, object, offset, length, coding, io.Discard)
				good := err == nil && sealed.Size == was.Size && sealed.Checksum == was.Checksum && (was.RepoChecksum == "" || sealed.RepoSum == was.RepoChecksum)
				if !good {
					b.Voice.Detail("%s of the resumed backup is not as it was stored, and is stored again", f.Name)
					continue
				}
				mu.Lock()
				f.Checksum, f.RepoChecksum, f.Bundle, f.Offset, f.PageOK, f.PageError = was.Checksum, was.RepoChecksum, was.Bundle, was.Offset, was.PageOK, was.PageError
				f.SetStored(was.Stored())
				r.has[f.Name] = true
				mu.Unlock()
			}
		})
	}
	for i := range m.Files {
		f := &m.Files[i]
		was := left.Find(f.Name)
		if was == nil || was.Checksum == "" || was.Size == 0 || was.Size != f.Size || was.Reference != "" || slices.Contains(always, f.Name) || ctx.Err() != nil {
			continue
		}
		work <- f
	}
	close(work)
	wait.Wait()
	if ctx.Err() != nil {
		return r, context.Cause(ctx)
	}
	used := map[string]bool{repo.BackupPath(s.Name, m.Label, repo.ManifestName+repo.Copy): true}
	for i := range m.Files {
		if f := &m.Files[i]; r.has[f.Name] {
			object, _, _ := m.Object(s.Name, f)
			used[object] = true
			r.bundles = max(r.bundles, f.Bundle)
		}
	}
	b.Voice.Info("%d files of the resumed backup are as they were stored", len(r.has))
	return r, b.clear(ctx, &r, repo.BackupPath(s.Name, m.Label), used)
}

// clear removes objects below dir that nothing uses.
func (b Backup) clear(ctx context.Context, r *resumed, dir string, used map[string]bool) error {
	list, err := b.Stanza.List(ctx, dir)
	if err != nil {
		return err
	}
	var stale []string
	for _, e := range list {
		name := path.Join(dir, e.Name)
		if n, err := strconv.ParseInt(e.Name, 10, 64); err == nil && strings.HasSuffix(dir, "/bundle") {
			r.bundles = max(r.bundles, n)
		}
		switch {
		case e.Dir:
			if err := b.clear(ctx, r, name, used); err != nil {
				return err
			}
		case !used[name]:
			stale = append(stale, name)
		}
	}
	if len(stale) == 0 {
		return nil
	}
	return b.Stanza.Remove(ctx, stale...)
}
