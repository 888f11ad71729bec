package control

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"howdah/cluster"
	"howdah/nodefile"
	"howdah/problem"
	"howdah/secret"
	"howdah/spec"
)

// A Target is where to connect to, and how to get in.
type Target struct {
	Member   string // the node that is dialed; a service leads on from there
	Host     string
	Port     int
	User     string
	Database string
	Passfile string // pgpass with the password of User
	TLS      bool   // the server takes nothing else
}

// onlyTLS is the sslmode of whoever talks to servers that take nothing but TLS.
// libpq's own (prefer) tries again in clear after a wrong password, and then
// tells of the second refusal, which is not the one to know of.
const onlyTLS = "require"

// Env are the variables by which libpq finds the target. The password stays in
// its file.
func (t Target) Env() []string {
	env := []string{"PGHOST=" + t.Host, "PGPORT=" + strconv.Itoa(t.Port), "PGUSER=" + t.User, "PGDATABASE=" + t.Database}
	if t.Passfile != "" {
		env = append(env, "PGPASSFILE="+t.Passfile)
	}
	if t.TLS {
		env = append(env, "PGSSLMODE="+onlyTLS)
	}
	return env
}

// PsqlAt is the server of one member, whatever it serves.
func (c *Cluster) PsqlAt(ctx context.Context, member string) (Target, error) {
	s, err := c.State(ctx)
	if err != nil {
		return Target{}, err
	}
	m, shows := cluster.PictureOf(s).Member(member)
	switch {
	case !slices.Contains(s.Names(), member):
		return Target{}, c.unknownMember(member, s)
	case !shows || m.Host == "":
		return Target{}, &problem.Error{
			Code: "member-away", What: "cannot connect to " + member, Why: "it does not show itself, so it is not known where it is",
			Do: "start it first; `howdah status " + c.Name + "` says who is up",
		}
	}
	return c.target(m), nil
}

func (c *Cluster) target(m cluster.PictureMember) Target {
	return c.in(Target{Member: m.Name, Host: c.door(m.Host), Port: m.Port})
}

// An Access is how a person's programs get into the cluster: the first user and
// database of its inventory, wherever the primary is.
type Access struct {
	User     string
	Database string
	Passfile string // PGPASSFILE
	Services string // PGSERVICEFILE: the cluster's name, and with -replica
	Password secret.Text
	url      string
}

// URL is a connection string that finds the primary by itself. With reveal it
// holds the password.
func (a Access) URL(reveal bool) string {
	u, err := url.Parse(a.url)
	if err != nil || !reveal {
		return a.url
	}
	u.User = url.UserPassword(a.User, a.Password.Reveal())
	return u.String()
}

// At is a connection string for one target, with the password.
func (a Access) At(t Target) string {
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword(a.User, a.Password.Reveal()),
		Host: net.JoinHostPort(t.Host, strconv.Itoa(t.Port)), Path: "/" + a.Database,
	}
	if t.TLS {
		u.RawQuery = "sslmode=" + onlyTLS
	}
	return u.String()
}

// onlyTLS says that the servers take nothing but TLS: those of nodes with a certificate.
func (c *Cluster) onlyTLS() bool { return len(c.Nodes) > 0 && c.Nodes[0].TLS.Cert != "" }

// Program finds one of PostgreSQL's own programs beside the server's.
func (c *Cluster) Program(name string) (string, error) {
	for _, n := range c.Nodes {
		path := filepath.Join(n.Postgres.Bin, name)
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s: %w", name, os.ErrNotExist)
}

// Access writes pgpass and service file beside the nodes, for their owner alone.
func (c *Cluster) Access() (Access, error) {
	if len(c.Nodes) == 0 {
		return Access{}, &problem.Error{
			Code: "access-elsewhere", What: "cannot write the password file of cluster " + c.Name,
			Why: "none of its nodes is on this machine", Do: "run this on a node",
		}
	}
	n := c.Nodes[0]
	secrets, err := nodefile.Secrets(n)
	if err != nil {
		return Access{}, err
	}
	a := Access{
		User: spec.Superuser, Database: "postgres", Password: secrets[spec.SecretSuper],
		Passfile: filepath.Join(c.Dir, "pgpass"), Services: filepath.Join(c.Dir, "pg_service.conf"),
	}
	if role, ok := entrant(n.Objects, secrets); ok {
		a.User, a.Password = role.Name, secrets[role.Secret]
		for i, d := range n.Objects.Databases {
			if d.State != spec.Absent && (d.Owner == role.Name || i == 0) {
				a.Database = d.Name
			}
			if d.Owner == role.Name {
				break
			}
		}
	}
	var servers []Target
	var pass strings.Builder
	for _, n := range c.carriers() {
		var places [][2]string
		if n.Cluster == c.Name {
			host := c.door(n.Address)
			servers = append(servers, Target{Member: n.Member, Host: host, Port: n.Postgres.Port})
			places = append(places, [2]string{host, strconv.Itoa(n.Postgres.Port)})
		}
		for _, s := range c.front(n).Services {
			places = append(places, [2]string{c.door(c.listens(n, s)), strconv.Itoa(s.Port)})
		}
		for _, place := range places {
			for _, who := range [][2]string{{a.User, a.Password.Reveal()}, {spec.Superuser, secrets[spec.SecretSuper].Reveal()}} {
				if who[1] != "" {
					fmt.Fprintf(&pass, "%s:%s:*:%s:%s\n", passfield(place[0]), place[1], passfield(who[0]), passfield(who[1]))
				}
			}
		}
	}
	if a.url = c.Through(a, Primary, false); a.url == "" {
		a.url = c.direct(a, servers)
	}
	var services strings.Builder
	for _, s := range []struct{ name, service, attrs string }{{c.Name, Primary, "read-write"}, {c.Name + "-replica", Replica, "prefer-standby"}} {
		to, attrs := c.ways(s.service), ""
		if len(to) == 0 { // no gateway here has it: libpq itself looks for the server
			to, attrs = servers, "target_session_attrs="+s.attrs+"\n"
		}
		if c.onlyTLS() {
			attrs += "sslmode=" + onlyTLS + "\n"
		}
		var hosts, ports []string
		for _, t := range to {
			hosts, ports = append(hosts, t.Host), append(ports, strconv.Itoa(t.Port))
		}
		fmt.Fprintf(&services, "[%s]\nhost=%s\nport=%s\nuser=%s\ndbname=%s\npassfile=%s\nconnect_timeout=3\n%s\n",
			s.name, strings.Join(hosts, ","), strings.Join(ports, ","), a.User, a.Database, a.Passfile, attrs)
	}
	for path, text := range map[string]string{a.Passfile: pass.String(), a.Services: services.String()} {
		if old, err := os.ReadFile(path); err == nil && string(old) == text {
			continue
		}
		if err := nodefile.WriteFile(path, []byte(text), 0o600, -1, -1); err != nil {
			return Access{}, &problem.Error{
				Code: "access-write", What: "cannot write " + cmp.Or(filepath.Base(path), path) + " of cluster " + c.Name,
				Do: "run as the owner of " + c.Dir, Err: err,
			}
		}
	}
	return a, nil
}

// direct is a connection string by which libpq itself looks for the primary
// among the servers.
func (c *Cluster) direct(a Access, servers []Target) string {
	var hosts []string
	for _, t := range servers {
		hosts = append(hosts, net.JoinHostPort(t.Host, strconv.Itoa(t.Port)))
	}
	u := url.URL{
		Scheme: "postgres", User: url.User(a.User), Host: strings.Join(hosts, ","), Path: "/" + a.Database,
		RawQuery: "target_session_attrs=read-write",
	}
	if c.onlyTLS() {
		u.RawQuery += "&sslmode=" + onlyTLS
	}
	return u.String()
}

// entrant is the role that a person comes in by: the first of the inventory's
// users whose password is known, else the cluster's administrator.
func entrant(o spec.Objects, secrets map[string]secret.Text) (spec.Role, bool) {
	known := func(r spec.Role) bool {
		p := secrets[r.Secret].Reveal()
		return !r.Absent && r.Secret != "" && (r.Login == nil || *r.Login) && p != "" && !strings.HasPrefix(p, "SCRAM-SHA-256$")
	}
	for _, r := range o.Roles {
		if !r.System && known(r) {
			return r, true
		}
	}
	for _, r := range o.Roles {
		if r.Name == o.Admin && known(r) {
			return r, true
		}
	}
	return spec.Role{}, false
}

// passfield escapes one field of a password file (libpq, passwordFromFile).
func passfield(s string) string {
	return strings.NewReplacer(`\`, `\\`, `:`, `\:`).Replace(s)
}
