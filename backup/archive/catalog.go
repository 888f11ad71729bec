package archive

import (
	"context"

	"howdah/backup/repo"
	"howdah/backup/stanza"
)

// A catalog remembers for a while what every file of many asks for again, where a
// question is a request to a store. A nil one asks each time.
type catalog struct {
	turn  chan struct{} // full while one asks: the others want the same answer
	infos map[*stanza.Stanza]repo.ArchiveInfo
	dirs  map[directory]map[string][]repo.Segment
}

func newCatalog() *catalog {
	return &catalog{turn: make(chan struct{}, 1), infos: map[*stanza.Stanza]repo.ArchiveInfo{}}
}

// A directory of WAL in a repository.
type directory struct {
	of       *stanza.Stanza
	id, name string
}

func (c *catalog) info(ctx context.Context, s *stanza.Stanza) (repo.ArchiveInfo, error) {
	if c == nil {
		return info(ctx, s)
	}
	c.turn <- struct{}{}
	defer func() { <-c.turn }()
	if i, ok := c.infos[s]; ok {
		return i, nil
	}
	i, err := info(ctx, s)
	if err == nil {
		c.infos[s] = i
	}
	return i, err
}

// find is find. What was not there is looked for again: an archive grows.
func (c *catalog) find(ctx context.Context, s *stanza.Stanza, id, name string, partial bool) ([]repo.Segment, error) {
	if c == nil {
		return find(ctx, s, id, name, partial)
	}
	c.turn <- struct{}{}
	defer func() { <-c.turn }()
	key := name
	if partial {
		key += ".partial"
	}
	dir := directory{s, id, name[:16]}
	if found := c.dirs[dir][key]; len(found) > 0 {
		return found, nil
	}
	list, err := s.List(ctx, repo.ArchivePath(s.Name, id, dir.name))
	if err != nil {
		return nil, err
	}
	all := map[string][]repo.Segment{}
	for _, e := range list {
		if have, ok := repo.ParseSegment(e.Name); ok {
			key := have.Name
			if have.Partial {
				key += ".partial"
			}
			all[key] = append(all[key], have)
		}
	}
	c.dirs = map[directory]map[string][]repo.Segment{dir: all} // one at a time: recovery goes on, not back
	return all[key], nil
}
