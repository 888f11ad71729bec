package stanza

import (
	"context"
	"slices"

	"howdah/backup/repo"
)

// Reconcile makes the list in backup.info equal to what is there: a backup
// without a manifest is no backup, with all that build on it; one that has a
// manifest and is not listed, because its maker died in between, is listed.
func (s *Stanza) Reconcile(ctx context.Context, info *repo.BackupInfo, voice Voice) error {
	labels, err := s.Labels(ctx)
	if err != nil {
		return err
	}
	whole := map[string]bool{}
	for _, label := range labels {
		if whole[label], _, err = s.Copies(ctx, repo.BackupPath(s.Name, label), repo.ManifestName); err != nil {
			return err
		}
	}
	for _, b := range slices.Clone(info.Backups) {
		if _, ok := info.Find(b.Label); ok && !whole[b.Label] {
			voice.Warn("backup '%s' missing manifest removed from backup.info", b.Label)
			info.Drop(append(info.Dependents(b.Label), b.Label)...)
		}
	}
	for _, label := range labels {
		if _, ok := info.Find(label); ok || !whole[label] {
			continue
		}
		m, err := s.Manifest(ctx, label, *info)
		if err != nil {
			voice.Warn("unable to open manifest of backup '%s': %s", label, err)
			continue
		}
		known := slices.ContainsFunc(info.History, func(d repo.DB) bool { return d.ID == m.DB.ID && d.Same(m.DB) })
		_, hasPrior := info.Find(m.Prior)
		if m.Label != label || !known || m.Type != repo.Full && !hasPrior {
			voice.Warn("invalid backup '%s' cannot be added to current backups", label)
			continue
		}
		voice.Warn("backup '%s' found in repository added to backup.info", label)
		info.Add(m.Backup())
	}
	return nil
}

// RemoveUnfinished deletes what backups left that did not come to their end, but of the
// one that is gone on with.
func (s *Stanza) RemoveUnfinished(ctx context.Context, info repo.BackupInfo, resumed string, voice Voice) error {
	labels, err := s.Labels(ctx)
	if err != nil {
		return err
	}
	for _, label := range labels {
		if _, listed := info.Find(label); listed || label == resumed {
			continue
		}
		whole, _, err := s.Copies(ctx, repo.BackupPath(s.Name, label), repo.ManifestName)
		if err != nil {
			return err
		}
		if !whole {
			voice.Warn("aborted backup %s exists and will be removed", label)
			if err := s.RemoveAll(ctx, repo.BackupPath(s.Name, label)); err != nil {
				return err
			}
		}
	}
	return nil
}
