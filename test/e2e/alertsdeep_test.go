package e2e

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"howdah/node/process"
	"howdah/observe/alert"
	"howdah/playground"
	"howdah/spec"
	"howdah/test/outside"
)

// What TestAlertsOfStorage and TestAlertsOfSuccession are to fire.
var (
	causedByStorage = []string{
		"CertExpiry", "CertExpirySoon", "DiskReserve", "EtcdNetworkPeerRTSlow", "HowdahProblem", "LongTransaction", "NodeFsFilesFull", "NodeFsSpaceFull",
		"NodeTcpErrHigh", "NodeTcpRetransHigh", "RepositoryUnwell", "SlotLost", "SlotRetained", "WalArchiveGap", "WalArchiveLost",
	}
	causedBySuccession = []string{
		"ClusterPaused", "GatewayQueue", "PendingRestart", "PostgresPartition", "ReplicaNotStreaming", "SyncDegraded", "TimelineDivergence", "VipNotHeld",
	}
)

// shortened are alerts whose cause lasts for an hour and more. Here it is by the same
// rule in the operator's own directory, in which that is a minute.
var shortened = []string{"CertExpiry", "ClusterPaused", "LongTransaction", "PendingRestart"}

// shorten gives who keeps the metrics those rules, and begins it anew.
func (w *world) shorten() {
	w.t.Helper()
	text := "groups:\n  - name: shortened\n    rules:\n"
	for _, f := range alert.Shipped() {
		for _, block := range strings.Split(string(f.Text), "\n\n") {
			name := named.FindStringSubmatch(block)
			if name == nil || !slices.Contains(shortened, name[1]) {
				continue
			}
			block = block[strings.Index(block, "      - alert:"):]
			block = long.ReplaceAllString(block, "for: 1m")
			block = strings.Replace(block, "> 3600", "> 60", 1)
			text += strings.Replace(block, "labels: {", "labels: { shortened: 'yes',", 1) + "\n"
		}
	}
	if n := strings.Count(text, "shortened: 'yes'"); n != len(shortened) {
		w.t.Fatalf("%d of %d rules are shortened:\n%s", n, len(shortened), text)
	}
	at := slices.IndexFunc(w.Nodes, func(n spec.Node) bool { return n.Observe.On() })
	w.check(os.MkdirAll(w.Nodes[at].Observe.Rules, 0o755))
	w.check(os.WriteFile(filepath.Join(w.Nodes[at].Observe.Rules, "shortened.yml"), []byte(text), 0o644))
	w.kill(w.role(w.Nodes[at], "observe"), unix.SIGTERM)
	w.until("the rules are not used", func() bool {
		a, err := w.Run(w.ctx, "metrics", `count(ALERTS{shortened="yes"}) or vector(0)`)
		return err == nil && a.Code == 0
	})
}

var long = regexp.MustCompile(`for: \d+(h|m)`)

// alerting is a cluster whose alerts are about to fire.
func alerting(t *testing.T) (w *world, leader, b, c spec.Node) {
	byNight(t)
	root(t)
	w = own(t)
	var cancel context.CancelFunc
	w.ctx, cancel = context.WithTimeout(t.Context(), 40*time.Minute)
	t.Cleanup(cancel)
	file := w.inventory("cluster: demo\nhosts: [10.10.10.11, 10.10.10.12, 10.10.10.13]\ntemplate: tiny\nlibs: ''\nqueue_max: 48MB\nvip: 10.10.10.2/24\n" +
		"users: [{ name: demo, password: demo }]\ndatabases: [{ name: demo, owner: demo }]\nparameters: { max_slot_wal_keep_size: 64MB, wal_keep_size: 0, min_wal_size: 80MB, max_wal_size: 160MB }\n")
	w.check(w.Up(w.ctx, file, "--observe"))
	leader = w.Node(w.whole())
	var others []spec.Node
	for _, n := range w.Nodes {
		if n.Member != leader.Member {
			others = append(others, n)
		}
	}
	w.until("the store of metrics answers", func() bool { a, err := w.Run(w.ctx, "alerts"); return err == nil && a.Code != 1 })
	w.shorten()
	return w, leader, others[0], others[1]
}

// all sees to it that every one of these was fired.
func (w *world) all(names []string) {
	w.t.Helper()
	for _, name := range names {
		if !w.fired[name] {
			w.t.Errorf("%s is said to be fired by its cause here, and was not", name)
		}
	}
}

// Alerts of slots, of what is not archived, of a repository, certificates, a network, a
// transaction and disks fire by their causes, and end with them.
func TestAlertsOfStorage(t *testing.T) {
	w, leader, b, c := alerting(t)
	w.until("there is a first backup", func() bool { return len(w.backups().Backups) > 0 })

	// Nobody reads from a slot: first it holds back more than half of what it may.
	w.super(leader, "SELECT pg_create_logical_replication_slot('forgotten', 'pgoutput')")
	fill := func(mb int) {
		t.Helper()
		for range mb {
			w.super(leader, "SELECT pg_logical_emit_message(false, 'fill', repeat('x', 1000000))")
		}
	}
	w.soonToEnd(c, 5)
	w.soonToEnd(b, 20)
	busy, rest := context.WithCancel(w.ctx)
	defer rest()
	member := w.network(c)
	broken(busy, t, member, c.Host)
	unanswered(busy, t, member)
	w.hesitates(busy, c)
	old := w.sessions(leader, 1, 1)[0]
	disk := filepath.Join(w.Dir, "disk")
	w.full(disk)
	info := filepath.Join(b.Backup.Repo, "backup", b.Cluster, "backup.info")
	spoil(t, info)
	spoil(t, info+".copy")
	fill(44)
	w.fires("SlotRetained "+leader.Member, "CertExpirySoon "+c.Member, "CertExpiry "+b.Member, "NodeTcpErrHigh "+c.Member, "NodeTcpRetransHigh "+c.Member,
		"LongTransaction "+leader.Member, "NodeFsSpaceFull "+leader.Member, "NodeFsFilesFull "+leader.Member)
	w.run("find", disk, "-name", "*.fill", "-delete")
	w.check(old.Close(w.ctx))

	// Then it has lost what it held back. What is not archived is given up.
	archive := filepath.Join(leader.Backup.Repo, "archive")
	w.check(os.Rename(archive, archive+".away"))
	w.check(os.WriteFile(archive, nil, 0o644))
	w.until("nothing is lost", func() bool {
		fill(30)
		w.super(leader, "SELECT pg_switch_wal()")
		w.super(leader, "CHECKPOINT")
		a, err := w.Run(w.ctx, "status")
		w.check(err)
		return strings.Contains(a.Out+a.Err, "archive-hole") && w.asOwner(leader, "postgres", "SELECT wal_status IN ('unreserved', 'lost') FROM pg_replication_slots WHERE slot_name = 'forgotten'") == "t"
	})
	w.fires("SlotLost "+leader.Member, "HowdahProblem "+leader.Member, "WalArchiveGap "+leader.Member, "RepositoryUnwell "+b.Member)
	w.until("etcd's members answer one another at once", func() bool {
		return slices.ContainsFunc(w.alerts(), func(a string) bool { return strings.HasPrefix(a, "EtcdNetworkPeerRTSlow ") })
	})
	w.fired["EtcdNetworkPeerRTSlow"] = true
	rest()
	w.check(os.Remove(archive))
	w.check(os.Rename(archive+".away", archive))
	w.super(leader, "SELECT pg_drop_replication_slot('forgotten')")
	mend(t, info)
	mend(t, info+".copy")
	w.howdah("certs", "renew", "--yes")
	w.fires("WalArchiveLost ") // for a day
	w.resolves("SlotRetained", "SlotLost", "WalArchiveGap", "RepositoryUnwell", "CertExpirySoon", "CertExpiry", "HowdahProblem", "NodeTcpErrHigh", "NodeTcpRetransHigh",
		"LongTransaction", "NodeFsSpaceFull", "NodeFsFilesFull", "EtcdNetworkPeerRTSlow")

	// A member's disk is nearly full.
	w.howdah("down", "--yes")
	wal := filepath.Join(leader.Postgres.Data, "pg_wal")
	w.check(os.Rename(wal, wal+".aside"))
	w.check(os.Mkdir(wal, 0o700))
	w.mount(wal, "size=1g,mode=0700,uid="+w.id("-u")+",gid="+w.id("-g"))
	w.run("cp", "-a", wal+".aside/.", wal)
	w.check(os.RemoveAll(wal + ".aside"))
	w.up()
	w.whole()
	ballast := filepath.Join(wal, "ballast")
	var st unix.Statfs_t
	w.check(unix.Statfs(wal, &st))
	f, err := os.Create(ballast)
	w.check(err)
	w.check(unix.Fallocate(int(f.Fd()), 0, 0, int64(st.Bavail*uint64(st.Bsize)-150<<20)))
	w.check(f.Close())
	w.fires("DiskReserve " + leader.Member)
	w.check(os.Remove(ballast))
	w.resolves("DiskReserve")
	w.howdah("down", "--yes") // before the mount goes
	w.all(causedByStorage)
}

// Alerts of members that do not follow, of the virtual address and of clients that wait
// fire by their causes, and end with them.
func TestAlertsOfSuccession(t *testing.T) {
	w, leader, b, c := alerting(t)

	// The replicas may not connect to the next leader, and a stranger has the address.
	s, err := playground.Load(w.Dir)
	w.check(err)
	hub := filepath.Join(s.Run, "net", "hub")
	if s.Ground == playground.Isolated {
		stranger(t, hub, netlink.AddrAdd)
	}
	w.howdah("edit-config", "--set", "postgresql.parameters.max_files_per_process=900", "--yes")
	w.until("no restart is pending", func() bool {
		return w.asOwner(b, "postgres", "SELECT pending_restart FROM pg_settings WHERE name = 'max_files_per_process'") == "t"
	})
	w.super(leader, "ALTER ROLE replicator NOLOGIN")
	w.howdah("switchover", "--to", b.Member, "--yes")
	w.until(b.Member+" does not lead", func() bool { return w.leader() == b.Member })
	w.howdah("degrade", "--until", "1h", "--yes")
	// Left alone, they would try to get a copy, which they may not either.
	w.until(leader.Member+" is no standby", func() bool {
		out, err := w.owner(leader, "postgres", "SELECT pg_is_in_recovery()").Output()
		return err == nil && strings.TrimSpace(string(out)) == "t"
	})
	w.howdah("pause")
	w.fires("ReplicaNotStreaming "+leader.Member, "ReplicaNotStreaming "+c.Member, "TimelineDivergence "+c.Member, "SyncDegraded ", "VipNotHeld ", "ClusterPaused ", "PendingRestart "+b.Member)
	if s.Ground == playground.Isolated {
		stranger(t, hub, netlink.AddrDel)
	}
	w.super(b, "SET synchronous_commit = local; ALTER ROLE replicator LOGIN")
	w.howdah("resume")
	w.howdah("undegrade", "--yes")
	w.whole()
	for _, n := range w.Nodes {
		w.howdah("restart", "demo", n.Member, "--yes")
		w.whole()
	}
	leader = w.Node(w.leader())
	w.resolves("ReplicaNotStreaming", "TimelineDivergence", "SyncDegraded", "VipNotHeld", "ClusterPaused", "PendingRestart")

	// Its server is ended while nobody may lead or start one: clients wait at the gateways.
	w.howdah("pause")
	text, err := os.ReadFile(filepath.Join(leader.Postgres.Data, "postmaster.pid"))
	w.check(err)
	pid := 0
	_, err = fmt.Sscan(string(text), &pid)
	w.check(err)
	w.check(unix.Kill(pid, unix.SIGINT))
	crowd, leave := context.WithCancel(w.ctx)
	defer leave()
	for range 3 {
		go func() {
			config := w.through(c, 5433)
			for crowd.Err() == nil {
				if conn, err := pgconn.ConnectConfig(crowd, config); err == nil {
					_ = conn.Close(crowd)
				}
			}
		}()
	}
	w.fires("GatewayQueue "+c.Member, "PostgresPartition ")
	leave()
	w.howdah("resume")
	w.whole()
	w.resolves("GatewayQueue", "PostgresPartition")
	w.all(causedBySuccession)
}

// soonToEnd gives a node a certificate that has so many days left.
func (w *world) soonToEnd(n spec.Node, days int) {
	w.t.Helper()
	ca, err := tls.LoadX509KeyPair(filepath.Join(w.Dir, "ca", "ca.pem"), filepath.Join(w.Dir, "ca", "ca.key"))
	w.check(err)
	own, err := tls.LoadX509KeyPair(n.TLS.Cert, n.TLS.Key)
	w.check(err)
	template := *own.Leaf
	template.NotAfter = time.Now().AddDate(0, 0, days)
	raw, err := x509.CreateCertificate(rand.Reader, &template, ca.Leaf, own.Leaf.PublicKey, ca.PrivateKey)
	w.check(err)
	w.check(os.WriteFile(n.TLS.Cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw}), 0o644))
}

// network is where a node's own network is; a playground that has but one skips.
func (w *world) network(n spec.Node) string {
	w.t.Helper()
	s, err := playground.Load(w.Dir)
	w.check(err)
	if s.Ground != playground.Isolated {
		w.t.Skip("nodes have no network of their own here")
	}
	return filepath.Join(s.Run, "net", n.Member)
}

// broken sends a machine TCP segments whose checksum is wrong.
func broken(ctx context.Context, t *testing.T, network, host string) {
	t.Helper()
	var fd int
	if err := process.InNet(network, func() (err error) {
		fd, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	to := &unix.SockaddrInet4{Addr: netip.MustParseAddr(host).As4()}
	segment := []byte{0, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 5 << 4, 2, 0, 100, 0xde, 0xad, 0, 0}
	go func() {
		defer unix.Close(fd)
		for outside.Pause(ctx, 100*time.Millisecond) == nil {
			_ = unix.Sendto(fd, segment, 0, to)
		}
	}()
}

// unanswered has a machine knock at one that has an address and says nothing.
func unanswered(ctx context.Context, t *testing.T, network string) {
	t.Helper()
	const nobody = "10.10.10.99"
	if err := process.InNet(network, func() error {
		routes, err := netlink.RouteGet(net.ParseIP(nobody))
		if err != nil {
			return err
		}
		return netlink.NeighAdd(&netlink.Neigh{
			LinkIndex: routes[0].LinkIndex, State: netlink.NUD_PERMANENT, IP: net.ParseIP(nobody), HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 99},
		})
	}); err != nil {
		t.Fatal(err)
	}
	for range 100 {
		go func() {
			_ = process.InNet(network, func() error {
				for ctx.Err() == nil {
					d := net.Dialer{Timeout: 10 * time.Second}
					if conn, err := d.DialContext(ctx, "tcp4", nobody+":5432"); err == nil {
						conn.Close()
					}
				}
				return nil
			})
		}()
	}
}

// hesitates has etcd of a node answer late, by less than an election takes.
func (w *world) hesitates(ctx context.Context, n spec.Node) {
	id := w.role(n, "etcd")
	go func() {
		for ctx.Err() == nil {
			_ = unix.Kill(id.PID, unix.SIGSTOP)
			_ = outside.Pause(ctx, 450*time.Millisecond)
			_ = unix.Kill(id.PID, unix.SIGCONT)
			_ = outside.Pause(ctx, 350*time.Millisecond)
		}
	}()
}

// full mounts a file system of its own that has neither room nor inodes left.
func (w *world) full(dir string) {
	w.t.Helper()
	image := dir + ".img"
	f, err := os.Create(image)
	w.check(err)
	w.check(f.Truncate(64 << 20))
	w.check(f.Close())
	w.run("mkfs.ext4", "-q", "-N", "64", image)
	w.check(os.Mkdir(dir, 0o755))
	w.run("mount", "-o", "loop", image, dir)
	w.t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	w.until("its size is not known", func() bool { // a disk is empty first
		a, err := w.Run(w.ctx, "metrics", `count(node_filesystem_avail_bytes{mountpoint="`+dir+`"}) == `+fmt.Sprint(len(w.Nodes)))
		w.check(err)
		return !strings.Contains(a.Out, "nothing has such a series")
	})
	var st unix.Statfs_t
	w.check(unix.Statfs(dir, &st))
	ballast, err := os.Create(filepath.Join(dir, "ballast.fill"))
	w.check(err)
	w.check(unix.Fallocate(int(ballast.Fd()), 0, 0, int64(st.Bavail*uint64(st.Bsize))*98/100))
	w.check(ballast.Close())
	for i := range int(st.Ffree) {
		if os.WriteFile(filepath.Join(dir, fmt.Sprint(i, ".fill")), nil, 0o644) != nil {
			break
		}
	}
}

// spoil makes a file unreadable for whoever knows its format; mend brings it back.
func spoil(t *testing.T, file string) {
	t.Helper()
	if err := os.Rename(file, file+".aside"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("spoiled"), 0o644); err != nil {
		t.Fatal(err)
	}
}

func mend(t *testing.T, file string) {
	t.Helper()
	if err := os.Rename(file+".aside", file); err != nil {
		t.Fatal(err)
	}
}

// stranger is somebody in the nodes' network who has their virtual address, or gives it up.
func stranger(t *testing.T, hub string, do func(netlink.Link, *netlink.Addr) error) {
	t.Helper()
	if err := process.InNet(hub, func() error {
		addrs, err := netlink.AddrList(nil, netlink.FAMILY_V4)
		if err != nil {
			return err
		}
		for _, a := range addrs {
			if strings.HasPrefix(a.IP.String(), "10.10.10.") {
				link, err := netlink.LinkByIndex(a.LinkIndex)
				if err != nil {
					return err
				}
				return do(link, &netlink.Addr{IPNet: &net.IPNet{IP: net.IPv4(10, 10, 10, 2), Mask: net.CIDRMask(32, 32)}})
			}
		}
		return fmt.Errorf("nobody has an address in %s", hub)
	}); err != nil {
		t.Fatal(err)
	}
}
