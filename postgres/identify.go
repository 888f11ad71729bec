package postgres

import (
	"context"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5/pgconn"

	"howdah/pg"
	"howdah/postgres/conf"
)

// Identify asks a server of another cluster, primary or standby, who it is, and up to where
// it has flushed the log of timeline tl (IDENTIFY_SYSTEM and TIMELINE_HISTORY of the streaming
// replication protocol).
func (s *Server) Identify(ctx context.Context, up pg.Upstream, tl pg.Timeline) (e pg.Elsewhere, err error) {
	if err := s.writePassfile(); err != nil {
		return e, err
	}
	conn, err := reach(ctx, append(conf.Conninfo(s.node, up, s.beside("pgpass")), [2]string{"replication", "true"}))
	if err != nil {
		return e, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	row, err := oneRow(ctx, conn, "IDENTIFY_SYSTEM", 3)
	if err != nil {
		return e, err
	}
	system, err1 := strconv.ParseUint(string(row[0]), 10, 64)
	now, err2 := strconv.ParseUint(string(row[1]), 10, 32)
	end, err3 := pg.ParseLSN(string(row[2]))
	for _, err := range []error{err1, err2, err3} {
		if err != nil {
			return e, err
		}
	}
	e = pg.Elsewhere{System: pg.SystemID(system), Timeline: pg.Timeline(now)}
	switch {
	case e.Timeline == tl:
		e.Common = end
	case e.Timeline > tl:
		row, err := oneRow(ctx, conn, fmt.Sprintf("TIMELINE_HISTORY %d", now), 2)
		if err != nil {
			return e, err
		}
		history, err := pg.ParseHistory(string(row[1]))
		if err != nil {
			return e, err
		}
		for _, h := range history {
			if h.Timeline == tl {
				e.Common = min(h.At, end)
			}
		}
	}
	return e, nil
}

func oneRow(ctx context.Context, conn *pgconn.PgConn, command string, columns int) ([][]byte, error) {
	res, err := conn.Exec(ctx, command).ReadAll()
	if err != nil {
		return nil, err
	}
	if len(res) != 1 || len(res[0].Rows) != 1 || len(res[0].Rows[0]) < columns {
		return nil, fmt.Errorf("%s is answered by something else", command)
	}
	return res[0].Rows[0], nil
}
