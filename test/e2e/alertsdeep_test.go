package e2e

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"howdah/node/process"
	"howdah/playground"
	"howdah/spec"
)

// What TestAlertsOfStorage and TestAlertsOfSuccession are to fire.
var (
	causedByStorage    = []string{"CertExpirySoon", "DiskReserve", "HowdahProblem", "RepositoryUnwell", "SlotLost", "SlotRetained", "WalArchiveGap", "WalArchiveLost"}
	causedBySuccession = []string{"GatewayQueue", "ReplicaNotStreaming", "SyncDegraded", "TimelineDivergence", "VipNotHeld"}
)

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

// Alerts of slots, of what is not archived, of a repository, a certificate and a disk
// fire by their causes, and end with them.
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
	w.soonToEnd(c)
	info := filepath.Join(b.Backup.Repo, "backup", b.Cluster, "backup.info")
	spoil(t, info)
	spoil(t, info+".copy")
	fill(44)
	w.fires("SlotRetained "+leader.Member, "CertExpirySoon "+c.Member)

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
	w.check(os.Remove(archive))
	w.check(os.Rename(archive+".away", archive))
	w.super(leader, "SELECT pg_drop_replication_slot('forgotten')")
	mend(t, info)
	mend(t, info+".copy")
	w.howdah("certs", "renew", "--yes")
	w.fires("WalArchiveLost ") // for a day
	w.resolves("SlotRetained", "SlotLost", "WalArchiveGap", "RepositoryUnwell", "CertExpirySoon", "HowdahProblem")

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
	defer f.Close()
	w.check(unix.Fallocate(int(f.Fd()), 0, 0, int64(st.Bavail*uint64(st.Bsize)-150<<20)))
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
	w.super(leader, "ALTER ROLE replicator NOLOGIN")
	w.howdah("switchover", "--to", b.Member, "--yes")
	w.until(b.Member+" does not lead", func() bool { return w.leader() == b.Member })
	w.howdah("degrade", "--until", "1h", "--yes")
	w.fires("ReplicaNotStreaming "+leader.Member, "ReplicaNotStreaming "+c.Member, "TimelineDivergence "+c.Member, "SyncDegraded ", "VipNotHeld ")
	if s.Ground == playground.Isolated {
		stranger(t, hub, netlink.AddrDel)
	}
	w.super(b, "SET synchronous_commit = local; ALTER ROLE replicator LOGIN")
	w.howdah("undegrade", "--yes")
	w.whole()
	leader = b
	w.resolves("ReplicaNotStreaming", "TimelineDivergence", "SyncDegraded", "VipNotHeld")

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
	w.fires("GatewayQueue " + c.Member)
	leave()
	w.howdah("resume")
	w.whole()
	w.resolves("GatewayQueue")
	w.all(causedBySuccession)
}

// soonToEnd gives a node a certificate that has five days left.
func (w *world) soonToEnd(n spec.Node) {
	w.t.Helper()
	ca, err := tls.LoadX509KeyPair(filepath.Join(w.Dir, "ca", "ca.pem"), filepath.Join(w.Dir, "ca", "ca.key"))
	w.check(err)
	own, err := tls.LoadX509KeyPair(n.TLS.Cert, n.TLS.Key)
	w.check(err)
	template := *own.Leaf
	template.NotAfter = time.Now().Add(5 * 24 * time.Hour)
	raw, err := x509.CreateCertificate(rand.Reader, &template, ca.Leaf, own.Leaf.PublicKey, ca.PrivateKey)
	w.check(err)
	w.check(os.WriteFile(n.TLS.Cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw}), 0o644))
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
