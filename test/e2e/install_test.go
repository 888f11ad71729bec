package e2e

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/vishvananda/netlink"
	"golang.org/x/crypto/ssh"

	"howdah/node/process"
	"howdah/postgres"
	"howdah/test/outside"
)

// bare makes a root file system of its own over the one of this machine, with none of
// what an installation brings, and an SSH server in it. It ends with its input, and all
// that runs in it ends with it.
const bare = `set -e
mount --make-rprivate /
mount -t tmpfs -o mode=755 machine "$DIR"
mkdir "$DIR/upper" "$DIR/work" "$DIR/root"
mount -t overlay -o "lowerdir=/,upperdir=$DIR/upper,workdir=$DIR/work" machine "$DIR/root"
cd "$DIR/root"
mount -t proc proc proc
mount --rbind /sys sys
mount --rbind /dev dev
mount -t tmpfs -o mode=755 run run
mount -t tmpfs -o mode=1777 tmp tmp
rm -rf var/lib/howdah etc/howdah usr/bin/howdah root/.ssh root/.bashrc root/.profile root/.bash_profile etc/systemd/system/howdah.service
mkdir -p run/sshd run/keys var/tmp .$SSHD
mount --rbind "$SSHD" ".$SSHD"
grep -q ^sshd: etc/passwd || echo 'sshd:x:64999:65534::/run/sshd:/usr/sbin/nologin' >>etc/passwd
mkdir -p etc/sudoers.d
echo "$HOST" >run/keys/host
chmod 600 run/keys/host
echo "$MINE" >run/keys/mine
cat >run/keys/config <<-END
	ListenAddress 0.0.0.0
	HostKey /run/keys/host
	AuthorizedKeysFile /run/keys/mine
	StrictModes no
	UsePAM no
	PasswordAuthentication no
	PermitRootLogin prohibit-password
	PidFile none
END
if [ -n "$SYSTEMD" ]; then
	# As much of systemd as an installation sees, of one unit.
	mkdir -p run/systemd/system
	rm -f usr/bin/systemctl usr/bin/journalctl
	cat >usr/bin/systemctl <<-'END'
		#!/bin/sh
		pid=$(cat /run/unit.pid 2>/dev/null)
		runs() { [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null; }
		case $1 in
		daemon-reload) cp /etc/systemd/system/howdah.service /run/unit ;;
		enable) touch /run/enabled ;;
		is-enabled) [ -e /run/enabled ] ;;
		is-active) runs ;;
		show) if runs; then echo "$pid"; else echo 0; fi ;;
		start)
			setsid $(sed -n 's/^ExecStart=//p' /run/unit) </dev/null >/run/unit.log 2>&1 &
			echo $! >/run/unit.pid
			;;
		restart)
			kill -$(sed -n 's/^RestartKillSignal=SIG//p' /run/unit) "$pid"
			while runs; do sleep 0.1; done
			exec "$0" start
			;;
		try-restart) [ "$2" = systemd-timesyncd ] ;;
		disable)
			rm -f /run/enabled
			[ "$2" != --now ] || ! runs || { kill "$pid"; while runs; do sleep 0.1; done; }
			;;
		*) exit 1 ;;
		esac
	END
	printf '#!/bin/sh\ncat /run/unit.log\n' >usr/bin/journalctl
	chmod 755 usr/bin/systemctl usr/bin/journalctl
else
	# PostgreSQL is not there before it is installed, and not before somebody
	# has said that no cluster is to be made with it.
	mkdir run/empty
	mount --bind run/empty usr/lib/postgresql
	rm -f usr/bin/apt-get etc/postgresql-common/createcluster.d/*
	cat >usr/bin/apt-get <<-'END'
		#!/bin/sh
		case "$*" in
		*" update") ;;
		*" install "*" postgresql-$MAJOR") grep -q 'create_main_cluster = false' /etc/postgresql-common/createcluster.d/howdah.conf && umount /usr/lib/postgresql ;;
		*) exit 1 ;;
		esac
	END
	sed -i "s/\$MAJOR/$MAJOR/" usr/bin/apt-get
	chmod 755 usr/bin/apt-get
fi
chroot . "$SSHD/bin/sshd" -D -e -r -f /run/keys/config &
cat
`

const bareMachines = `---
all:
  vars: { pg_conf: tiny.yml, pg_libs: '', ansible_user: root }
  children:
    etcd: { hosts: { 10.78.0.11: { etcd_seq: 1 }, 10.78.0.12: { etcd_seq: 2 }, 10.78.0.13: { etcd_seq: 3 } } }
    pg-bare:
      hosts:
        10.78.0.11: { pg_seq: 1, pg_role: primary }
        10.78.0.12: { pg_seq: 2, pg_role: replica }
        10.78.0.13: { pg_seq: 3, pg_role: replica }
        10.78.0.14: { pg_seq: 4, pg_role: replica, nodename: fourth, node_timezone: Asia/Tokyo, node_ntp_servers: [ server 10.78.0.1 iburst ],
          node_sysctl_params: { net.ipv4.tcp_keepalive_time: 1234, vm.no_such_thing: 1 }, node_etc_hosts: [ '10.78.0.1 desk', "10.78.0.2 it's" ],
          node_admin_username: ann, node_admin_uid: 4321, node_admin_pk_list: [ 'ssh-ed25519 AAAA ann@desk' ], node_admin_sudo: nopass }
      vars:
        pg_cluster: pg-bare
        pg_version: %[1]d
        pg_users: [ { name: app, password: 'file:secrets/app', roles: [ dbrole_admin ] } ]
        pg_databases: [ { name: app, owner: app } ]
        pg_parameters: { shared_buffers: 64MB, maintenance_work_mem: 32MB, max_connections: 100, min_wal_size: 80MB, max_wal_size: 160MB }
    pg-also: # beside the other one
      hosts: { 10.78.0.12: { pg_seq: 1, pg_role: primary } }
      vars:
        pg_cluster: pg-also
        pg_version: %[1]d
        pg_port: 5532
        pg_default_services: []
        pg_parameters: { shared_buffers: 64MB, maintenance_work_mem: 32MB, max_connections: 50, min_wal_size: 80MB, max_wal_size: 160MB }
`

// settled sees that a machine is what its inventory says of it, and that no other is.
func (w *world) settled(m *machine, file string, on func(*machine, string) string) {
	t := w.t
	t.Helper()
	out := on(m, `cat /etc/hostname /proc/sys/kernel/hostname /proc/sys/net/ipv4/tcp_keepalive_time; readlink -f /etc/localtime; cat /etc/sysctl.d/60-howdah.conf; sed -n '/node_etc_hosts/,$p' /etc/hosts
id -u ann; stat -c '%a %U' ~ann/.ssh/authorized_keys; cat ~ann/.ssh/authorized_keys; cat /etc/sudoers.d/ann; cat /etc/systemd/timesyncd.conf.d/* /etc/chrony/sources.d/* 2>/dev/null || true`)
	for _, part := range []string{"fourth\nfourth\n1234\n", "Asia/Tokyo\n", "net.ipv4.tcp_keepalive_time = 1234\n", "10.78.0.1 desk\n10.78.0.2 it's\n", "4321\n600 ann\nssh-ed25519 AAAA ann@desk\nann ALL=(ALL) NOPASSWD: ALL\n", "10.78.0.1"} {
		if !strings.Contains(out, part) {
			t.Errorf("%q is not in\n%s", part, out)
		}
	}
	a, err := w.Run(w.ctx, "install", file, "--dry-run", "--json")
	w.check(err)
	var plan struct {
		Hosts []struct {
			Host         string
			Steps, Notes []any
		}
	}
	w.check(json.Unmarshal([]byte(a.Out), &plan))
	for _, h := range plan.Hosts {
		if len(h.Steps) > 0 {
			t.Errorf("%s lacks %v after it was installed", h.Host, h.Steps)
		}
		if notes := fmt.Sprint(h.Notes); (h.Host == m.host) != strings.Contains(notes, "vm.no_such_thing to 1: this kernel has no such parameter") {
			t.Errorf("%s: what can not be is %s", h.Host, notes)
		}
	}
	// What somebody changed by hand is what the next installation is about, and nothing else.
	on(m, "echo other >/proc/sys/kernel/hostname; sed -i 's/desk/bench/' /etc/hosts")
	a, err = w.Run(w.ctx, "doctor", file, "--fix", "--dry-run")
	w.check(err)
	if !strings.Contains(a.Out+a.Err, "name the machine fourth") {
		t.Errorf("doctor --fix does not see it:\n%s%s", a.Out, a.Err)
	}
	a, err = w.Run(w.ctx, "install", file, "--yes")
	w.check(err)
	if a.Code != 0 || strings.Count(a.Out, "    ") != 2 || !strings.Contains(a.Out, "name the machine fourth (it is other)") || !strings.Contains(a.Out, "write 2 lines into /etc/hosts") {
		t.Errorf("after two changes by hand:\n%s%s", a.Out, a.Err)
	}
	w.settledAgain(m, on)
}

func (w *world) settledAgain(m *machine, on func(*machine, string) string) {
	w.t.Helper()
	if out := on(m, "cat /proc/sys/kernel/hostname; grep -c 'desk$' /etc/hosts; grep -c bench /etc/hosts || true"); out != "fourth\n1\n0\n" {
		w.t.Errorf("mended, the machine says %s", out)
	}
}

// newKey makes a key of SSH: as a file holds it, and its public half as a line.
func (w *world) newKey() (private []byte, public string) {
	w.t.Helper()
	_, secret, err := ed25519.GenerateKey(rand.Reader)
	w.check(err)
	block, err := ssh.MarshalPrivateKey(secret, "")
	w.check(err)
	signer, err := ssh.NewSignerFromKey(secret)
	w.check(err)
	return pem.EncodeToMemory(block), string(ssh.MarshalAuthorizedKey(signer.PublicKey()))
}

// boot starts the machine, and returns when its SSH server answers. It has something
// like systemd, or lacks PostgreSQL.
func (m *machine) boot(sshd, mine string, systemd bool, major int) {
	m.w.t.Helper()
	host, _ := m.w.newKey()
	log, err := os.Create(filepath.Join(filepath.Dir(m.dir), m.member+".log"))
	m.w.check(err)
	m.w.t.Cleanup(func() {
		if m.w.t.Failed() {
			text, _ := os.ReadFile(log.Name())
			m.w.t.Logf("%s: %s", m.member, text[max(0, len(text)-2000):])
		}
		log.Close()
	})
	// Its first process is ours to end, in a namespace where all others end with it.
	cmd := exec.Command("unshare", "--mount", "--uts", "--pid", "--ipc", "--fork", "--kill-child", "sh", "-c", bare)
	cmd.Env = append(os.Environ(), "DIR="+m.dir, "SSHD="+sshd, "MINE="+mine, "HOST="+string(host), "MAJOR="+strconv.Itoa(major))
	if systemd {
		cmd.Env = append(cmd.Env, "SYSTEMD=yes")
	}
	cmd.Stdout, cmd.Stderr = log, log
	in, err := cmd.StdinPipe() // open as long as this process lives

	m.w.check(err)
	m.w.check(process.InNet(m.net, cmd.Start))
	m.w.t.Cleanup(func() {
		in.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	m.w.until("no SSH server on "+m.host, func() bool {
		conn, err := net.DialTimeout("tcp", m.host+":22", time.Second)
		if err != nil {
			return false
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(time.Second))
		hello := make([]byte, 4)
		_, err = io.ReadFull(conn, hello)
		return err == nil && string(hello) == "SSH-"
	})
}

// Machines with nothing on them but an SSH server become two clusters by one command;
// given again, it changes nothing. Another version of the program, and another authority
// follow the first while clients come and go, and one of the machines leaves.
func TestInstall(t *testing.T) {
	switch {
	case os.Getenv("NIGHTLY") == "":
		t.Skip("four programs through SSH and a cluster take longer than there is time by day: NIGHTLY=1")
	case os.Geteuid() != 0:
		t.Skip("only root makes machines")
	}
	sshd := filepath.Join(os.Getenv("HOWDAH_PEERS"), "sshd")
	if _, err := os.Stat(filepath.Join(sshd, "bin", "sshd")); os.Getenv("HOWDAH_PEERS") == "" || err != nil {
		t.Skip("no SSH server: scripts/getpeers sshd fetches one, and HOWDAH_PEERS says where to")
	}
	major := 0
	for _, p := range postgres.FindAll() {
		if strings.HasPrefix(p.Bin, "/usr/") { // the machines are not told of others
			major = p.Major
		}
	}
	if major == 0 {
		t.Skip("the distribution's PostgreSQL is not installed")
	}
	w := own(t)
	var cancel context.CancelFunc
	w.ctx, cancel = context.WithTimeout(t.Context(), 6*forTest) // it installs four machines, where others start a cluster, and upgrades them twice
	t.Cleanup(cancel)
	br := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "bare"}}
	w.check(netlink.LinkAdd(br))
	t.Cleanup(func() { _ = netlink.LinkDel(br) }) // the namespace of the tests ends with them
	w.check(netlink.LinkSetUp(br))
	w.check(netlink.AddrAdd(br, &netlink.Addr{IPNet: &net.IPNet{IP: net.IPv4(10, 78, 0, 1), Mask: net.CIDRMask(24, 32)}}))

	home := filepath.Join(w.Dir, "home")
	w.check(os.MkdirAll(filepath.Join(home, ".ssh"), 0o700))
	private, public := w.newKey()
	w.check(os.WriteFile(filepath.Join(home, ".ssh", "id_ed25519"), private, 0o600))
	file := filepath.Join(w.Dir, "site", "pigsty.yml")
	w.check(os.MkdirAll(filepath.Join(w.Dir, "site", "secrets"), 0o755))
	w.check(os.WriteFile(file, []byte(fmt.Sprintf(bareMachines, major)), 0o600))
	w.check(os.WriteFile(filepath.Join(w.Dir, "site", "secrets", "app"), []byte("secret of app\n"), 0o600))

	var all []*machine
	for i := 1; i <= 4; i++ {
		m := &machine{w: w, member: fmt.Sprintf("pg-bare-%d", i), host: fmt.Sprintf("10.78.0.1%d", i), dir: filepath.Join(w.Dir, fmt.Sprintf("machine%d", i))}
		w.check(os.Mkdir(m.dir, 0o755))
		m.connected(i, br)
		m.boot(sshd, public, i != 3, major)
		all = append(all, m)
	}

	w.Env = append(os.Environ(), "HOME="+home, "SSH_AUTH_SOCK=", "USER=ann")
	run := func(want int, args ...string) outside.Answer {
		t.Helper()
		a, err := w.Run(w.ctx, args...)
		w.check(err)
		if a.Code != want {
			t.Fatalf("howdah %s: exit %d, want %d\n%s%s", strings.Join(args, " "), a.Code, want, a.Out, a.Err)
		}
		return a
	}
	install := func(want int, args ...string) outside.Answer {
		t.Helper()
		return run(want, append([]string{"install", file, "--wait", "3m"}, args...)...)
	}

	// Nobody who is not known is trusted; nothing is begun.
	a := install(1)
	for _, part := range []string{"[ssh-host-unknown]", "SHA256:", all[0].host, all[2].host, "nothing was changed"} {
		if !strings.Contains(a.Err, part) {
			t.Errorf("%q does not say %s", a.Err, part)
		}
	}
	a = install(1, "--accept-new") // the third has no systemd, so nothing is begun anywhere
	if !strings.Contains(a.Err, "[init-missing]") || strings.Contains(a.Out, "step") && strings.Contains(a.Out, " s  "+all[0].host+": copy") {
		t.Errorf("a machine without systemd:\n%s%s", a.Out, a.Err)
	}
	a = install(0, "--dry-run", "--init", "none")
	if n := strings.Count(a.Out, "copy the program to /usr/bin/howdah (it is not there)"); n != 4 {
		t.Errorf("the preview says %d times that the program is copied:\n%s", n, a.Out)
	}
	if _, err := os.Stat(filepath.Join(w.Dir, "ca")); err == nil {
		t.Error("a preview made an authority")
	}

	// What doctor sees before: no keys, a PostgreSQL, free ports.
	var before struct {
		Findings []struct{ Host, Check, Grade, Evidence string }
	}
	answer, err := w.Run(w.ctx, "doctor", file, "--json")
	w.check(err)
	w.check(json.Unmarshal([]byte(answer.Out), &before))
	good := map[string]int{}
	for _, f := range before.Findings {
		if f.Grade == "ok" {
			good[f.Check]++
		}
	}
	for check, n := range map[string]int{"login": 4, "address": 4, "ports": 5, "postgres": 3, "clocks": 1} {
		if good[check] != n {
			t.Errorf("%s is well %d times, want %d:\n%s%s", check, good[check], n, answer.Out, answer.Err)
		}
	}

	// Three by their units, and one that is started this once and has no PostgreSQL yet.
	for _, step := range []struct {
		args []string
		says []string
	}{
		{[]string{"--host", all[0].host, "--host", all[1].host, "--host", all[3].host}, []string{"cluster pg-bare is healthy", "cluster pg-also is healthy", "pg-bare: made role", "have howdah.service started with the machine"}},
		{[]string{"--host", all[2].host, "--init", "none"}, []string{"cluster pg-bare is healthy", "install PostgreSQL " + strconv.Itoa(major), "start the supervisor, this once"}},
	} {
		began := time.Now()
		a = install(0, step.args...)
		t.Logf("installed in %s\n%s", time.Since(began).Round(100*time.Millisecond), a.Out)
		for _, part := range step.says {
			if !strings.Contains(a.Out, part) {
				t.Errorf("it does not say %q:\n%s", part, a.Out)
			}
		}
	}

	// Given again it changes nothing, and says so.
	began := time.Now()
	a = install(0)
	t.Logf("and again in %s", time.Since(began).Round(100*time.Millisecond))
	if !strings.Contains(a.Out, "nothing was changed") || strings.Count(a.Out, "nothing to do") != 4 {
		t.Errorf("the second time:\n%s%s", a.Out, a.Err)
	}

	// It is a cluster, with the user and the password of the inventory.
	on := func(m *machine, command string) string {
		t.Helper()
		cmd := exec.CommandContext(w.ctx, "ssh", "-F", "none", "-o", "UserKnownHostsFile="+filepath.Join(home, ".ssh", "known_hosts"), "-o", "BatchMode=yes",
			"-i", filepath.Join(home, ".ssh", "id_ed25519"), "root@"+m.host, command)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("%s on %s: %v\n%s", command, m.host, err, out)
		}
		return string(out)
	}
	if _, err := exec.LookPath("ssh"); err == nil {
		if out := on(all[2], "howdah psql pg-bare -- -AtX -d \"user=app password='secret of app' dbname=app\" -c \"SELECT 'at ' || current_database()\""); !strings.Contains(out, "at app") {
			t.Errorf("psql says %s", out)
		}
		if out := on(all[0], "stat -c '%a %U' /etc/howdah/pigsty.yml /var/lib/howdah/ca/ca.key /var/lib/howdah/pg-bare/secrets.json /etc/howdah/secrets/app"); out != "600 root\n600 root\n600 postgres\n600 root\n" {
			t.Errorf("whose files are they?\n%s", out)
		}
	}

	if _, err := exec.LookPath("ssh"); err == nil {
		w.settled(all[3], file, on)
		w.upgrades(all, file, on)
	}
	w.rotates(all, func(want int, args ...string) outside.Answer {
		t.Helper()
		return run(want, append(args, file, "--yes")...)
	}, on)

	// A changed inventory is brought, and what it means is left to plan and apply.
	text, err := os.ReadFile(file)
	w.check(err)
	w.check(os.WriteFile(file, []byte(strings.Replace(string(text), "max_wal_size: 160MB", "max_wal_size: 160MB, work_mem: 7MB", 1)), 0o600))
	a = install(0, "--host", all[1].host)
	if !strings.Contains(a.Out, "copy the inventory") || !strings.Contains(a.Err, "howdah apply") || strings.Contains(a.Out, all[0].host) {
		t.Errorf("a changed inventory:\n%s%s", a.Out, a.Err)
	}

	// A machine leaves, whose server is all that it has: its supervisor ends, now and
	// with the machine, and what the server had is kept.
	fourth := strings.Index(string(text), "        10.78.0.14:")
	site := string(text[:fourth]) + string(text[fourth+strings.Index(string(text[fourth:]), "      vars:"):])
	on(all[3], "cat >/etc/howdah/pigsty.yml <<'END'\n"+site+"END\n")
	if out := on(all[3], "howdah apply /etc/howdah/pigsty.yml --prune --yes"); !strings.Contains(out, "removed member pg-bare-4") {
		t.Errorf("a machine that leaves:\n%s", out)
	}
	if out := on(all[3], "systemctl is-enabled || echo no; systemctl is-active || echo no; ls -d /var/lib/howdah/pg-bare/removed/pg-bare-4-*/data/PG_VERSION; ls /var/lib/howdah/pg-bare"); !strings.HasPrefix(out, "no\nno\n/var/lib/howdah/pg-bare/removed/pg-bare-4-") || strings.Contains(out, "\npg-bare-4\n") {
		t.Errorf("what it left: %s", out)
	}
	if out := on(all[0], "howdah list pg-bare"); strings.Contains(out, "pg-bare-4") || strings.Count(out, "streaming") != 2 {
		t.Errorf("a cluster that a machine left:\n%s", out)
	}
	w.check(os.WriteFile(file, []byte(site), 0o600))
	install(0)

	// Another authority is not put over the one that is there.
	w.check(os.RemoveAll(filepath.Join(w.Dir, "ca")))
	if a = install(1); !strings.Contains(a.Err, "[keys-other]") {
		t.Errorf("another authority: %s", a.Err)
	}
}

// rotates has another authority follow the first on all machines, step by step, while
// clients come and go and nothing is started again but members of the store.
func (w *world) rotates(all []*machine, run func(want int, args ...string) outside.Answer, on func(*machine, string) string) {
	t := w.t
	t.Helper()
	ca := filepath.Join(w.Dir, "ca", "ca.pem")
	trusted := x509.NewCertPool()
	trust := func() {
		text, err := os.ReadFile(ca)
		w.check(err)
		trusted = x509.NewCertPool()
		trusted.AppendCertsFromPEM(text)
	}
	connect := func(ctx context.Context, host string) error {
		config, err := pgconn.ParseConfig("host=" + host + " port=5433 user=app password='secret of app' dbname=app connect_timeout=10 sslmode=require")
		if err != nil {
			return err
		}
		config.Fallbacks = nil
		config.TLSConfig = &tls.Config{InsecureSkipVerify: true, VerifyConnection: func(s tls.ConnectionState) error { // verify-ca: another member may answer
			_, err := s.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: trusted})
			return err
		}}
		c, err := pgconn.ConnectConfig(ctx, config)
		if err != nil {
			return err
		}
		defer c.Close(context.WithoutCancel(ctx))
		_, err = c.Exec(ctx, "SELECT 1").ReadAll()
		return err
	}
	running := func() string { // the servers and all roles but the store, by pid
		var b strings.Builder
		for _, m := range all {
			b.WriteString(on(m, "cd /run/howdah; for f in */*.pid; do case $f in */etcd.pid) ;; *) echo $f $(cut -d' ' -f1 $f) ;; esac; done; head -n 1 /var/lib/howdah/pg-*/pg-*/data/postmaster.pid"))
		}
		return b.String()
	}
	before := running()
	if n := strings.Count(before, "agent.pid"); n != 5 {
		t.Fatalf("%d agents run:\n%s", n, before)
	}
	for _, step := range []struct {
		says        string
		authorities int
	}{{"the first still signs", 2}, {"The second authority signs", 2}, {"One authority is trusted", 1}} {
		trust() // what the last step left is what clients have
		ctx, stop := context.WithCancel(w.ctx)
		ended := make(chan error, len(all))
		for _, m := range all {
			go func() {
				n := 0
				for ; ctx.Err() == nil; n++ {
					if err := connect(w.ctx, m.host); err != nil {
						ended <- fmt.Errorf("connection %d through %s: %w", n, m.host, err)
						return
					}
				}
				t.Logf("%d connections through %s", n, m.host)
				ended <- nil
			}()
		}
		began := time.Now()
		a := run(0, "certs", "rotate")
		t.Logf("%s: %s", time.Since(began).Round(100*time.Millisecond), a.Out)
		if !strings.Contains(a.Out, step.says) {
			t.Errorf("it does not say %q:\n%s%s", step.says, a.Out, a.Err)
		}
		stop()
		for range all {
			if err := <-ended; err != nil {
				t.Errorf("%s: %v", step.says, err)
			}
		}
		for _, m := range all {
			if out := on(m, "howdah certs --json"); strings.Count(out, `/ca/ca.pem"`) != step.authorities {
				t.Errorf("%s trusts\n%s", m.host, out)
			}
		}
	}
	trust()
	for _, m := range all {
		if err := connect(w.ctx, m.host); err != nil {
			t.Errorf("with the second authority alone: %v", err)
		}
	}
	if after := running(); after != before {
		t.Errorf("running was\n%s\nand is\n%s", before, after)
	}
	if out := on(all[0], "howdah etcd status; howdah list pg-bare"); strings.Contains(out, "down") || strings.Count(out, "streaming") != 3 {
		t.Errorf("in the end:\n%s", out)
	}
}
