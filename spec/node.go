// Package spec is the desired world: what one cluster and each of its nodes
// should be, as plain values.
//
// A Node is everything the roles of one node need to know; it is written to
// NODE/node.json by whoever sets the node up and read once by each role.
package spec

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"howdah/cluster"
	"howdah/problem"
)

// A Node is one machine's share of a cluster.
type Node struct {
	Cluster   string         `json:"cluster"`   // scope: "demo"
	Namespace string         `json:"namespace"` // "/service"
	Member    string         `json:"member"`    // "demo-1"
	Host      string         `json:"host"`      // address in the inventory: "10.10.10.11"
	Address   string         `json:"address"`   // address that servers bind and peers dial
	User      string         `json:"user"`      // OS user of every role but the supervisor; "" = the one that runs
	Paths     Paths          `json:"paths"`
	Postgres  Postgres       `json:"postgres"`
	Etcd      Etcd           `json:"etcd"`
	Agent     Agent          `json:"agent"`
	Gateway   Gateway        `json:"gateway"`
	Pool      Pool           `json:"pool"`
	VIP       VIP            `json:"vip,omitzero"`
	Watchdog  Watchdog       `json:"watchdog,omitzero"`
	DNS       DNS            `json:"dns,omitzero"`
	Jobs      Jobs           `json:"jobs"`
	Remotes   []RemoteServer `json:"remotes,omitempty"`
	Backup    Backup         `json:"backup"`
	Observe   Observe        `json:"observe"`
	Logs      Logs           `json:"logs,omitzero"`
	TLS       TLS            `json:"tls"`
	Objects   Objects        `json:"objects"`
}

// Base is the prefix of the cluster's keys, with a slash at both ends.
func (n Node) Base() string { return n.Namespace + "/" + n.Cluster + "/" }

// Alone says that the node has no server: it carries a store, leads clients to
// clusters, answers for names, keeps metrics or tells those of others, and is no
// member of any.
func (n Node) Alone() bool {
	return n.Postgres.Data == "" && (n.Etcd.Member != "" || len(n.Gateway.Fronts) > 0 || len(n.DNS.Listen) > 0 || n.Observe.On() || len(n.Remotes) > 0)
}

// Serves says that the node takes clients: it runs a gateway.
func (n Node) Serves() bool { return len(n.Gateway.Fronts) > 0 || n.Pool.Listen != "" }

// Validate refuses names that something on the way can not carry, and members
// that would share a replication slot.
func (n Node) Validate() error {
	members := []string{n.Member}
	for _, m := range n.Etcd.Members {
		if m.Name != n.Member {
			members = append(members, m.Name)
		}
	}
	return CheckNames(n.Cluster, members)
}

// CheckNames refuses names that can not be those of a cluster and its members.
func CheckNames(name string, members []string) error {
	if why := cluster.CheckName(name); why != "" {
		return &problem.Error{
			Code: "name-unusable", What: fmt.Sprintf("cannot call a cluster %q", name), Why: why,
			Do: "give it another name, like pg-meta, before it is set up: its keys and files are named after it",
		}
	}
	if why := cluster.CheckMembers(members); why != "" {
		return &problem.Error{
			Code: "name-unusable", What: "cannot use the names of the members of cluster " + name, Why: why,
			Do: "give each member a name of its own, like " + name + "-1, before it is set up: its keys and files are named after it",
		}
	}
	return nil
}

// Paths are the node's places, all absolute.
type Paths struct {
	Dir     string `json:"dir"`     // DIR/<cluster>/<member>
	Binary  string `json:"binary"`  // the copy of howdah that every role runs
	Run     string `json:"run"`     // short and in tmpfs: pid files, lock, control sockets
	Page    string `json:"page"`    // the lease page, in Run
	Sockets string `json:"sockets"` // PostgreSQL's unix socket, 0700, in Run
	Log     string `json:"log"`
	Secrets string `json:"secrets"` // JSON object of secret name -> value, 0600
}

// Postgres is the node's server.
type Postgres struct {
	Major      int               `json:"major"`
	Bin        string            `json:"bin"` // directory of initdb, postgres …
	Port       int               `json:"port"`
	Data       string            `json:"data"`
	Parameters map[string]string `json:"parameters"`
	Listen     string            `json:"listen,omitempty"`      // listen_addresses; "": the node's own
	HBA        []AccessRule      `json:"hba"`                   // none: everybody, by TLS and password
	Delay      string            `json:"delay"`                 // how far it replays behind, "1h"; "": not on purpose
	Origin     Origin            `json:"restore_from,omitzero"` // what a cluster that is not there yet begins with; zero: an empty database
	Kin        []string          `json:"kin,omitempty"`         // addresses of the cluster that this one follows, whose certificates are of our authority
}

// Etcd is the store. Member is empty on a node that carries none of it.
type Etcd struct {
	Member   string        `json:"member"`
	Data     string        `json:"data"`
	Members  []EtcdMember  `json:"members"`
	Quota    int64         `json:"quota"` // bytes
	Compact  time.Duration `json:"compact"`
	Election time.Duration `json:"election"` // how long its leader may be silent; 0 is Election

	Heartbeat time.Duration `json:"heartbeat,omitempty"` // how often its leader says that it lives; 0: five times in an election
}

// Election is how long etcd's leader may be silent before another is elected,
// where the leases leave room for no more. Its heartbeats come five times as
// often: that suits networks with a round trip of up to 80 ms.
const Election = 600 * time.Millisecond

// Misses is how long etcd's leader may be silent.
func (e Etcd) Misses() time.Duration { return cmp.Or(e.Election, Election) }

// Beats is how often it says that it lives.
func (e Etcd) Beats() time.Duration { return cmp.Or(e.Heartbeat, e.Misses()/5) }

// Alike says that two members have the same pace.
func (e Etcd) Alike(o Etcd) bool { return e.Misses() == o.Misses() && e.Beats() == o.Beats() }

// ElectionFor is what suits the shortest lease in a store, a tenth of it: who
// asks for slow timers has a slow network, or a busy machine. Leased is kept.
func ElectionFor(lease time.Duration) time.Duration {
	return min(max(lease/10, Election), 5*time.Second).Truncate(5 * time.Millisecond)
}

// Leased is the shortest lease over a store with such elections: one that is
// lost, four that come to nothing, and some time for a renewal.
func Leased(election time.Duration) time.Duration { return 5*election + 2*time.Second }

// Endpoints are the client addresses of every member.
func (e Etcd) Endpoints() []string {
	var urls []string
	for _, m := range e.Members {
		urls = append(urls, m.Client)
	}
	return urls
}

// Self is the member that this node carries, if it carries one.
func (e Etcd) Self() (EtcdMember, bool) {
	for _, m := range e.Members {
		if m.Name == e.Member {
			return m, true
		}
	}
	return EtcdMember{}, false
}

// An EtcdMember is one server of the store.
type EtcdMember struct {
	Name   string `json:"name"`   // the node's member name
	Client string `json:"client"` // https://10.10.10.11:2379
	Peer   string `json:"peer"`
}

// Agent is the high availability of this instance.
type Agent struct {
	Listen string         `json:"listen"` // host:port of the REST API
	REST   REST           `json:"rest"`
	Timers Timers         `json:"timers"`
	Tags   map[string]any `json:"tags"` // Patroni's tags of the member

	Founder string         `json:"founder"` // the member that creates the cluster; "": whoever comes first
	Config  map[string]any `json:"config"`  // what the dynamic configuration is declared to have
	Begin   map[string]any `json:"begin"`   // what that of a new cluster begins with besides; one that is there keeps its own
}

// REST is who may ask the REST API, as Patroni's section restapi has it. The
// zero REST speaks plain HTTP with everybody.
type REST struct {
	TLS          bool     `json:"tls"`  // by the certificate of the node, unless Cert names another
	Cert         string   `json:"cert"` // files; "": plain HTTP
	Key          string   `json:"key"`
	CA           string   `json:"ca"`            // who signs the certificates of clients
	VerifyClient string   `json:"verify_client"` // none, optional, required; "" is none
	User         string   `json:"user"`          // of basic authentication for whatever changes something; "": none is asked for
	Secret       string   `json:"secret"`        // name of the user's password
	Allow        []string `json:"allow"`         // addresses, networks, host names; empty: everybody
	AllowMembers bool     `json:"allow_members"` // members too
}

// Gateway is the access to clusters through this node. A node without fronts
// runs none; one with fronts and no data directory runs nothing else.
type Gateway struct {
	Listen string        `json:"listen"` // host:port of the stats page and the metrics
	Page   Page          `json:"page"`
	Wait   time.Duration `json:"wait"` // how long a client waits for a primary
	Fronts []Front       `json:"fronts"`
}

// A Pool is the way into this node's own server for clients that share its
// connections.
type Pool struct {
	Listen     string            `json:"listen"`               // host:port; "": there is none
	Mode       string            `json:"mode"`                 // pool_mode: transaction, session, statement
	Parameters map[string]string `json:"parameters,omitempty"` // other settings, by PgBouncer's names
	TLS        bool              `json:"tls"`                  // clients in clear are refused
	Ignore     []string          `json:"ignore"`               // startup parameters that are accepted and dropped
	HBA        []AccessRule      `json:"hba"`                  // none: everybody, by password

	Exporter string `json:"exporter"` // host:port of the metrics of all pools of the node; "": none
}

// A VIP is the cluster's virtual address, which follows its leader from one
// node's interface to the next.
type VIP struct {
	Address   string `json:"address"`   // with the length of its prefix: 10.10.10.2/24; "": there is none
	Interface string `json:"interface"` // "auto": the one that has the node's own address
}

// A Watchdog is a device that resets the machine when it is not petted in time, as
// Patroni's section watchdog has it.
type Watchdog struct {
	Mode   string        `json:"mode,omitempty"` // "": there is none
	Device string        `json:"device,omitempty"`
	Margin time.Duration `json:"margin,omitempty"` // between its end and that of a lease that has just begun; 0: half a lease
	// Mock has nothing opened but a socket: a playground never resets its machine.
	Mock bool `json:"mock,omitempty"`
}

// WatchdogDevice is the machine's first watchdog.
const WatchdogDevice = "/dev/watchdog"

// Modes of a watchdog.
const (
	WatchdogAutomatic = "automatic" // used if it is there
	WatchdogRequired  = "required"  // nobody leads without
)

// On says that there is to be one.
func (w Watchdog) On() bool { return w.Mode != "" }

// Required says that nobody leads without.
func (w Watchdog) Required() bool { return w.Mode == WatchdogRequired }

// Timeout is after how long the device fires, in whole seconds as devices count.
func (w Watchdog) Timeout(t Timers) time.Duration {
	if w.Margin == 0 {
		return min(t.Lease/2, t.Watched()).Truncate(time.Second)
	}
	return (t.Lease - w.Margin).Truncate(time.Second)
}

// Validate says what is wrong with it beside such timers.
func (w Watchdog) Validate(t Timers) error {
	if !w.On() {
		return nil
	}
	if d, most := w.Timeout(t), t.Watched().Truncate(time.Second); d < time.Second || d > most {
		return fmt.Errorf("a watchdog that fires after %s does not suit a lease of %s, renewed every %s: it must fire after 1s to %s", d, t.Lease, t.Renew, most)
	}
	return nil
}

// A DNS is who keeps names on a node: a name server that listens, a file of the
// host's own names, or both; else there is none.
type DNS struct {
	Listen  []string `json:"listen"`            // host:port, over UDP and TCP
	Hosts   string   `json:"hosts,omitempty"`   // file that is to have the names, as /etc/hosts has them; "": none
	Forward bool     `json:"forward"`           // other names go to the machine's resolvers; else they are refused
	Records []string `json:"records,omitempty"` // "10.10.10.10 name other.name"
	Zones   []Zone   `json:"zones"`
}

// On says that the node keeps names.
func (d DNS) On() bool { return len(d.Listen) > 0 || d.Hosts != "" }

// A Zone is the names of one cluster.
type Zone struct {
	Cluster   string  `json:"cluster"`
	Namespace string  `json:"namespace"`
	Suffix    string  `json:"suffix"` // behind the cluster's name; others go with it and without
	Target    string  `json:"target"` // address of the cluster's name; "": that of whoever leads, "none": it has no name
	Members   []Named `json:"members"`
}

// A Named is a member by its name.
type Named struct {
	Name    string `json:"name"`
	Address string `json:"address"`
	Offline bool   `json:"offline,omitempty"` // for slow queries
}

// Jobs is what may wait. A node without any of it runs no such role.
type Jobs struct {
	Exporter string `json:"exporter"` // host:port of the server's metrics; "": none
	Backups  string `json:"backups"`  // of its repository's
	Host     string `json:"host"`     // of the machine's
}

// A RemoteServer is one that is not ours, of which the jobs of this node tell the
// metrics. How it is reached is in a file of secrets, by the name of its member.
type RemoteServer struct {
	Listen  string `json:"listen"` // host:port
	Cluster string `json:"cls"`
	Member  string `json:"ins"`
	Address string `json:"ip"` // where the server is
	URLs    string `json:"urls"`
	Ask     Asking `json:"ask"`
}

// A Page is who may use the gateway's statistics page. Whoever changes something
// there needs the password called SecretGateway.
type Page struct {
	User    string `json:"user"`    // whose password it is
	Private bool   `json:"private"` // reading needs it too; metrics never do
}

// A Front is one cluster's services on this node.
type Front struct {
	Cluster   string            `json:"cluster"`
	Namespace string            `json:"namespace"`
	PoolPort  int               `json:"pool_port"` // the members' pooler; 0: there is none, and pooled services go straight to PostgreSQL
	Dest      string            `json:"dest"`      // what a service's "default" means: pgbouncer or postgres
	Services  []cluster.Service `json:"services"`
	Members   []Instance        `json:"members"` // as the inventory has them
}

// An Instance is one member with its variables, over which the services'
// selectors are asked: pg_role, pg_weight, pg_offline_query and any other.
type Instance struct {
	Name string         `json:"name"`
	Vars map[string]any `json:"vars"`
}

// Timers rule how fast the cluster notices and how long it is sure.
type Timers struct {
	Lease  time.Duration `json:"lease" sim:"3s..30s"`       // how long a silent leader keeps the key
	Renew  time.Duration `json:"renew" sim:"500ms..3s"`     // between two renewals
	Margin time.Duration `json:"margin" sim:"300ms..1s"`    // let go this much before the lease may end
	Retry  time.Duration `json:"retry" sim:"500ms..2s"`     // time allowed to one request to the store
	Start  time.Duration `json:"start" sim:"10s..300s"`     // time allowed to crash recovery before handing over
	Grace  time.Duration `json:"grace" sim:"300ms..2s"`     // wait for the positions of live members in an election
	MaxLag int64         `json:"max_lag" sim:"0..16777216"` // bytes behind the last known position that may still lead

	Election time.Duration `json:"election"` // of the store: how long its leader may be silent; 0: not known
}

// Safe are the timers of the default profile.
func Safe() Timers {
	return Timers{
		Lease: 5 * time.Second, Renew: time.Second, Margin: 500 * time.Millisecond,
		Retry: 500 * time.Millisecond, Start: 5 * time.Minute, Grace: 500 * time.Millisecond,
		MaxLag: 1 << 20, Election: Election,
	}
}

// Over refuses timers that a store whose answers take as long as pace does not keep.
func (t Timers) Over(pace time.Duration) error {
	if need := t.Renew + 2*max(t.Retry, paces*pace) + t.Margin; t.Lease < need {
		return fmt.Errorf("lease: %s leaves no time for two requests to a store that takes %s to answer (%s)",
			t.Lease, pace.Round(time.Millisecond), need.Round(time.Millisecond))
	}
	return nil
}

// Watched is the longest timeout of a watchdog: as long as renewals are confirmed in
// time at all, there is always a moment in which its end lies before the lease's.
func (t Timers) Watched() time.Duration { return (t.Lease - t.Margin + t.Renew) / 2 }

// Still is how long an agent's loop may stand still before its guard ends it: even if the
// next renewal was due then, a successor has most of as long again to make it.
func (t Timers) Still() time.Duration { return max(time.Second, (t.Lease-t.Margin-t.Renew)/2) }

// paces is how much longer than the slowest answer of late the next may take.
const paces = 3

// Patience is the time allowed to one request to a store whose answers take as
// long as pace. It never is so long that a lease has no time for another.
func (t Timers) Patience(pace time.Duration) time.Duration {
	return max(t.Retry, min(paces*pace, (t.Lease-t.Renew-t.Margin)/2))
}

// Set are the timers with what the dynamic configuration sets over them.
func (t Timers) Set(c cluster.Config) (Timers, error) {
	set, err := c.SetTimers()
	if len(set) == 0 {
		return t, err // as nearly always
	}
	for _, f := range []struct {
		name string
		d    *time.Duration
	}{
		{cluster.SetLease, &t.Lease},
		{cluster.SetRenew, &t.Renew},
		{cluster.SetRetry, &t.Retry},
		{cluster.SetStart, &t.Start},
		{cluster.SetGrace, &t.Grace},
	} {
		if d, ok := set[f.name]; ok {
			*f.d = d
		}
	}
	if t.Lease%time.Second != 0 && set[cluster.SetLease] != 0 {
		err = errors.Join(err, fmt.Errorf("howdah.lease: %s is not a whole number of seconds, which etcd's leases are", t.Lease))
	}
	return t, err
}

// As are the timers of Patroni's words, which count where a member is Patroni's
// own. Its rule is ttl >= loop_wait + 2*retry_timeout; what is short of that, or
// of our margin, comes off loop_wait.
func (t Timers) As(c cluster.Config) Timers {
	t.Lease, t.Renew, t.Retry = max(c.TTL(), 20*time.Second), max(c.LoopWait(), time.Second), max(c.RetryTimeout(), 3*time.Second)
	if most := (t.Lease - t.Margin - time.Second) / 2; t.Retry > most {
		t.Retry = most
	}
	t.Renew = min(t.Renew, t.Lease-2*t.Retry-t.Margin)
	return t
}

// Validate reports every problem and changes nothing.
func (t Timers) Validate() error {
	var errs []error
	if need := t.Renew + 2*t.Retry + t.Margin; t.Lease < need {
		errs = append(errs, fmt.Errorf("lease: %s is shorter than renew + 2*retry + margin (%s); raise it or lower the others", t.Lease, need))
	}
	if need := Leased(t.Election); t.Election > 0 && t.Lease < need {
		errs = append(errs, fmt.Errorf("lease: %s is shorter than five elections of etcd and 2 s (%s)", t.Lease, need))
	}
	for _, f := range []struct {
		name string
		d    time.Duration
	}{{"renew", t.Renew}, {"margin", t.Margin}, {"retry", t.Retry}, {"start", t.Start}} {
		if f.d <= 0 {
			errs = append(errs, fmt.Errorf("%s: must be more than zero", f.name))
		}
	}
	return errors.Join(errs...)
}

// Certify gives the node the files that others know it by.
func (n *Node) Certify(files TLS) {
	n.TLS = files
	if rest := &n.Agent.REST; rest.TLS && rest.Cert == "" {
		rest.Cert, rest.Key = files.Cert, files.Key
	}
}

// TLS are the files that machines know each other by.
type TLS struct {
	CA   string `json:"ca"`
	Cert string `json:"cert"`
	Key  string `json:"key"`
}

// Names of the secrets and roles every cluster has.
const (
	Superuser       = "postgres"
	Replicator      = "replicator"
	SecretSuper     = "postgres"
	SecretReplicate = "replicator"
	SecretGateway   = "gateway"  // of the user of the gateway's statistics page
	SecretREST      = "rest"     // of the user of the agents' REST API
	SecretConsole   = "console"  // of whoever looks at the console
	SecretOperator  = "operator" // of whoever changes something there
	// Of a repository in a bucket.
	SecretBucketKey  = "bucket_key"
	SecretBucketPass = "bucket_key_secret"
	SecretCipher     = "cipher_pass"
)
