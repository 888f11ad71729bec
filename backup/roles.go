package backup

import (
	"context"

	"howdah/backup/repo"
	"howdah/backup/server"
	"howdah/backup/stanza"
)

// Roles finds among servers the primary, and a standby if one answers.
func Roles(ctx context.Context, servers []server.Server, voice stanza.Voice) (primary server.Server, standby *server.Server, err error) {
	found := false
	for _, s := range servers {
		conn, err := s.Connect(ctx)
		if err != nil {
			voice.Warn("unable to check the server at %s: %s", s.Path, err)
			continue
		}
		follows := conn.Standby
		conn.Close()
		switch {
		case follows && standby == nil:
			standby = &s
		case !follows && found:
			return primary, nil, repo.Errorf(repo.DBConnect, "more than one primary cluster found: %s and %s", primary.Path, s.Path)
		case !follows:
			primary, found = s, true
		}
	}
	if !found {
		return primary, nil, repo.Errorf(repo.DBConnect, "unable to find primary cluster - cannot proceed; are all available clusters in recovery?")
	}
	return primary, standby, nil
}
