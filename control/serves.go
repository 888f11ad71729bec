package control

import (
	"context"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"howdah/cluster"
	"howdah/nodefile"
	"howdah/pg"
	"howdah/playground"
	"howdah/spec"
)

// serves asks every server that is meant to run whether it is what the store
// says of it: the leader a primary, the others standbys, as in a standby cluster is the leader.
func (c *Cluster) serves(ctx context.Context, s cluster.State) bool {
	for _, n := range c.Nodes {
		if playground.Stopped(n) {
			continue
		}
		recovering, err := c.recovering(ctx, n)
		if err != nil || recovering == (n.Member == s.LeaderName() && !s.Standby()) {
			return false
		}
	}
	return true
}

// recovering asks a node's server, as a client would reach it.
func (c *Cluster) recovering(ctx context.Context, n spec.Node) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	secrets, err := nodefile.Secrets(n)
	if err != nil {
		return false, err
	}
	conf, err := pgconn.ParseConfig(pg.DSN{
		{"host", c.door(n.Address)},
		{"port", strconv.Itoa(n.Postgres.Port)},
		{"user", spec.Replicator}, // whom every member lets in, whatever its inventory says
		{"dbname", "postgres"},
		{"application_name", "howdah up"},
		{"sslmode", "prefer"},
	}.String())
	if err != nil {
		return false, err
	}
	conf.Password = secrets[spec.SecretReplicate].Reveal()
	conn, err := pgconn.ConnectConfig(ctx, conf)
	if err != nil {
		return false, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	got, err := conn.Exec(ctx, "SELECT pg_is_in_recovery()").ReadAll()
	if err != nil || len(got) != 1 || len(got[0].Rows) != 1 {
		return false, err
	}
	return string(got[0].Rows[0][0]) == "t", nil
}
