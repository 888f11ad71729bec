package machine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"howdah/lease"
	"howdah/logkey"
	"howdah/node"
	"howdah/node/process"
	"howdah/nodefile"
	"howdah/pki"
	"howdah/problem"
	"howdah/spec"
)

// AuthorityDir is where the authority of dir is.
func AuthorityDir(dir string) string { return filepath.Join(dir, authority) }

// Nodes are those that dir has, also those without a server.
func Nodes(dir string) ([]spec.Node, error) {
	files, _ := filepath.Glob(filepath.Join(dir, "*", "*", nodefile.Name)) // only a malformed pattern is an error
	var all []spec.Node
	for _, file := range files {
		n, err := nodefile.Load(filepath.Dir(file))
		if err != nil {
			return nil, err
		}
		if n.TLS.Cert != "" {
			all = append(all, n)
		}
	}
	return all, nil
}

// Renew brings the certificates of a node up to what the authority in dir is now, with
// anew in any case, and says whether there was anything to do. The roles see it at
// their next handshake, and PostgreSQL is told; nothing is restarted.
func Renew(dir string, n spec.Node, anew bool) (bool, error) {
	if _, err := pki.StageOf(AuthorityDir(dir)); errors.Is(err, fs.ErrNotExist) { // to make one would shut the node out
		return false, &problem.Error{
			Code: "keys-missing", What: "cannot renew the certificate of " + n.Member, Why: "there is no authority in " + AuthorityDir(dir),
			Do: "copy ca.pem and ca.key from the machine where `howdah keys` or `howdah install` made them, to the same place",
		}
	}
	a, err := pki.OpenAuthority(AuthorityDir(dir), "howdah")
	if err != nil {
		return false, err
	}
	cert, trust, err := a.Renew(n.TLS, anew)
	if err != nil {
		return false, fmt.Errorf("certificate of %s: %w", n.Member, err)
	}
	if id, runs := node.Postmaster(n); runs && n.Postgres.Data != "" && (cert || trust) {
		if err := id.Signal(unix.SIGHUP); err != nil && !errors.Is(err, process.ErrGone) {
			return true, fmt.Errorf("reload of %s: %w", n.Member, err)
		}
	}
	return cert || trust, nil
}

// renewEvery is how often the certificates of nodes are looked at: they are renewed
// a month before they end.
const renewEvery = 6 * time.Hour

// KeepCertified renews the certificates of nodes in time until ctx ends.
func KeepCertified(ctx context.Context, dir string, nodes []spec.Node, log *slog.Logger) error {
	tick := time.NewTicker(renewEvery)
	defer tick.Stop()
	for {
		for _, n := range nodes {
			changed, err := Renew(dir, n, false)
			switch {
			case err != nil:
				log.Error("certificate not renewed", logkey.Member, n.Member, logkey.Error, err)
			case changed:
				log.Info("certificate renewed", logkey.Member, n.Member)
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// Deaf says that the node's member of the store began before the authorities that it
// is to trust were these: etcd reads them once. id is its process.
func Deaf(n spec.Node) (id process.ID, deaf bool) {
	if n.Etcd.Member == "" {
		return id, false
	}
	id, runs := node.RoleFile(n, "etcd").Read()
	st, err := os.Stat(n.TLS.CA)
	if !runs || err != nil {
		return id, false
	}
	const tick = 10 * time.Millisecond // proc(5): starttime is in ticks, of which every Linux has 100 a second
	age := lease.Now() - time.Duration(id.Start)*tick
	return id, time.Since(st.ModTime()) < age
}
