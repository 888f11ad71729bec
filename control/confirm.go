package control

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"howdah/cluster"
	"howdah/dcs"
	"howdah/pg"
	"howdah/spec"
)

// A Confirmation is what a restore has left that may go when it is confirmed.
type Confirmation struct {
	To     string   `json:"to"`     // the moment that the cluster was brought back to
	Remove []string `json:"remove"` // directories on this machine
	record *Restored
	ends   bool // the leader's is among them: nothing can be undone afterwards
}

// PlanConfirm names what is removed of this machine when the last restore is
// confirmed: what the leader had, and what the others had moved aside to follow it.
func (c *Cluster) PlanConfirm(ctx context.Context) (*Confirmation, error) {
	s, err := c.State(ctx)
	if err != nil {
		return nil, err
	}
	r := s.Restore
	if r == nil || r.Phase != cluster.RestoreDone {
		return nil, c.refuseRestore("restore-none", "no restore waits to be confirmed", "see `howdah history "+c.Name+"`")
	}
	p := &Confirmation{To: r.To, record: r, Remove: []string{}}
	for _, n := range c.Nodes {
		if n.Postgres.Data == "" {
			continue
		}
		if n.Member == r.Member && r.Aside != "" {
			p.Remove, p.ends = append(p.Remove, filepath.Join(n.Paths.Dir, r.Aside)), true
		}
		p.Remove = append(p.Remove, movedFor(*r, n)...)
	}
	switch {
	case len(p.Remove) > 0:
		return p, nil
	case r.Aside != "":
		return nil, c.refuseRestore("restore-refused", "what is kept lies on "+r.Member, "run this there")
	}
	return nil, c.refuseRestore("restore-none", "no restore waits to be confirmed", "see `howdah history "+c.Name+"`")
}

// keptStamp begins or ends the names of what a member moved aside, by its clock.
const keptStamp = "20060102T150405.000Z"

// movedFor are the directories in which a member keeps what it had before it
// followed a restore: of before its timeline, and moved aside since it was begun.
// What was moved aside for another reason is not the restore's to remove.
func movedFor(r Restored, n spec.Node) []string {
	kept := filepath.Join(n.Paths.Dir, "kept")
	list, err := os.ReadDir(kept)
	if err != nil {
		return nil
	}
	var all []string
	for _, e := range list {
		dir := filepath.Join(kept, e.Name())
		var tl pg.Timeline
		stamp, whole := strings.CutPrefix(e.Name(), "data-")
		if whole {
			if tl, err = timelineOf(dir); err != nil {
				continue
			}
		} else { // STAMP-TIMELINE-LSN: a part of the log
			parts := strings.Split(e.Name(), "-")
			if len(parts) < 3 {
				continue
			}
			id, err := strconv.ParseUint(parts[1], 10, 32)
			if err != nil {
				continue
			}
			stamp, tl = parts[0], pg.Timeline(id)
		}
		at, err := time.Parse(keptStamp, stamp)
		if e.IsDir() && err == nil && !at.Before(r.At.Truncate(time.Millisecond)) && tl < r.Timeline {
			all = append(all, dir)
		}
	}
	slices.Sort(all)
	return all
}

// Confirm removes it. The directories go first: a record that still names one is
// confirmed again.
func (c *Cluster) Confirm(ctx context.Context, p *Confirmation) error {
	for _, dir := range p.Remove {
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	if !p.ends {
		return nil
	}
	next := *p.record
	next.Aside = ""
	_, ok, err := c.commit(ctx, []dcs.Op{dcs.Put(cluster.KeyRestore, next.Encode(), 0)}, unless(cluster.KeyRestore, p.record.Mod))
	if err == nil && !ok {
		err = c.refuseRestore("restore-refused", "its record was changed meanwhile", "give the command again")
	}
	return err
}
