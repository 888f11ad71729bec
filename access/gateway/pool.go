package gateway

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"strings"

	"howdah/access/hba"
	"howdah/access/pool"
	"howdah/access/pooler"
	"howdah/spec"
)

// ownPool is the pool of this node's own server, on a port of its own.
type ownPool struct {
	pooler *pooler.Pooler
	door   *pooler.Door
	roll   *pooler.Roll
}

// Settings of the pool that no inventory changes.
const (
	maxPrepared = 200 // max_prepared_statements of PgBouncer since 1.24
	resetQuery  = "DISCARD ALL"
)

// openPool opens the pool of n. It reaches the server by its socket, whose
// directory only PostgreSQL's own user may enter, as whoever has proven to be that
// user: the server's own rules of who may come from where are not asked again.
func openPool(n spec.Node, config *tls.Config, log *slog.Logger) (*ownPool, error) {
	log = log.With("pool", n.Pool.Listen)
	roll, err := pooler.NewRoll(n.Paths.Sockets, n.Postgres.Port, spec.Superuser, n.Gateway.Wait)
	if err != nil {
		return nil, err
	}
	settings := pool.Defaults()
	if mode, ok := pool.ParseMode(n.Pool.Mode); ok && mode != pool.Inherit {
		settings.PoolMode = mode
	}
	d := &pooler.Door{
		Name: "pool", Settings: settings, Prepared: maxPrepared, ResetQuery: resetQuery, Ignore: n.Pool.Ignore,
		Dial: pooler.Local(n.Paths.Sockets, n.Postgres.Port), Secret: roll.Secret,
		Rules: rules(n.Pool.HBA, log), TLS: config, OnlyTLS: n.Pool.TLS, Log: log,
	}
	p, err := pooler.New(log, d)
	if err != nil {
		return nil, err
	}
	return &ownPool{p, d, roll}, nil
}

func (p *ownPool) close() { p.roll.Close() }

// rules reads who may come in by the inventory; nil: everybody, by password.
func rules(all []spec.AccessRule, log *slog.Logger) hba.Rules {
	if len(all) == 0 {
		return nil
	}
	var text strings.Builder
	for _, r := range all {
		for _, line := range r.Lines {
			text.WriteString(line + "\n")
		}
	}
	rules, problems := hba.Parse(text.String(), func(string) (string, error) {
		return "", errors.New("files of names are not read")
	})
	for _, p := range problems {
		log.Warn("rule of the pool skipped", "rule", p.String())
	}
	if rules == nil {
		rules = hba.Rules{} // they are all wrong: nobody comes in
	}
	return rules
}
