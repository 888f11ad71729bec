package e2e

import (
	"bytes"
	"compress/gzip"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"howdah/node"
	"howdah/node/process"
	"howdah/nodefile"
	"howdah/postgres"
	"howdah/spec"
	"howdah/test/outside"
)

const threeMachines = `---
all:
  vars: { node_tune: tiny, pg_conf: tiny.yml, pg_libs: '', vector_log_endpoint: [ 'http://10.77.0.1:9428/insert/jsonline' ], node_firewall_intranet: [ 10.77.0.8/29 ] }
  children:
    infra:
      hosts:
        10.77.0.13: { infra_seq: 1 }
        10.77.0.14: { infra_seq: 2, vmetrics_enabled: false, pg_exporters: { 20001: { pg_cluster: theirs, pg_seq: 7, pg_host: 10.77.0.12 } } }
    etcd: { hosts: { 10.77.0.11: { etcd_seq: 1 }, 10.77.0.12: { etcd_seq: 2 }, 10.77.0.13: { etcd_seq: 3 } } }
    pg-real:
      hosts:
        10.77.0.11: { pg_seq: 1, pg_role: primary }
        10.77.0.12: { pg_seq: 2, pg_role: replica }
        10.77.0.13: { pg_seq: 3, pg_role: replica }
      vars:
        pg_cluster: pg-real
        pg_version: %d
        pg_users: [ { name: app, password: secret, roles: [ dbrole_admin ] } ]
        pg_databases: [ { name: app, owner: app } ]
        pg_parameters: { shared_buffers: 64MB, maintenance_work_mem: 32MB, max_connections: 100, min_wal_size: 80MB, max_wal_size: 512MB }
`

// A machine is a network namespace with an address, and a state directory.
type machine struct {
	w            *world
	member, host string
	dir, net     string
	program      *exec.Cmd
}

// run runs a command of the machine; nothing is judged.
func (m *machine) run(args ...string) (out string, code int) {
	m.w.t.Helper()
	cmd := exec.CommandContext(m.w.ctx, m.w.Program, append([]string{"--dir", m.dir}, args...)...)
	err := process.InNet(m.net, func() error {
		text, err := cmd.CombinedOutput()
		out = string(text)
		return err
	})
	if cmd.ProcessState == nil {
		m.w.t.Fatal(err)
	}
	return out, cmd.ProcessState.ExitCode()
}

func (m *machine) start(file string) {
	m.w.t.Helper()
	log, err := os.Create(filepath.Join(m.dir, "node.log"))
	m.w.check(err)
	defer log.Close()
	m.program = exec.Command(m.w.Program, "node", file, "--host", m.host, "--dir", m.dir)
	m.program.Stdout, m.program.Stderr = log, log
	m.w.check(process.InNet(m.net, m.program.Start))
}

func (m *machine) stop() {
	if m.program == nil {
		return
	}
	_ = m.program.Process.Signal(unix.SIGTERM) // it may have ended already
	_ = m.program.Wait()
	m.program = nil
}

// connected makes the machine's network, with a link to the tests' bridge.
func (m *machine) connected(i int, br netlink.Link) {
	m.w.t.Helper()
	var ns *os.File
	m.w.check(process.OnThread(func() (err error) {
		if err = unix.Unshare(unix.CLONE_NEWNET); err == nil {
			ns, err = os.Open(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()))
		}
		return err
	}))
	m.w.t.Cleanup(func() { ns.Close() })
	m.net = fmt.Sprintf("/proc/self/fd/%d", ns.Fd())
	port := &netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: fmt.Sprintf("machine%d", i), MasterIndex: br.Attrs().Index},
		PeerName:  "eth0", PeerNamespace: netlink.NsFd(int(ns.Fd())),
	}
	m.w.check(netlink.LinkAdd(port))
	m.w.check(netlink.LinkSetUp(port))
	m.w.check(process.InNet(m.net, func() error {
		for _, name := range []string{"lo", "eth0"} {
			link, err := netlink.LinkByName(name)
			if err != nil {
				return err
			}
			if name == "eth0" {
				addr := &netlink.Addr{IPNet: &net.IPNet{IP: net.ParseIP(m.host), Mask: net.CIDRMask(24, 32)}}
				if err := netlink.AddrAdd(link, addr); err != nil {
					return err
				}
			}
			if err := netlink.LinkSetUp(link); err != nil {
				return err
			}
		}
		return nil
	}))
}

// Three machines, each with its own address and directory, become a cluster
// from one inventory, without anything of a playground.
func TestMachines(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root makes networks")
	}
	w := own(t)
	br := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "machines"}}
	w.check(netlink.LinkAdd(br))
	t.Cleanup(func() { _ = netlink.LinkDel(br) }) // the namespace of the tests ends with them
	w.check(netlink.LinkSetUp(br))
	w.check(netlink.AddrAdd(br, &netlink.Addr{IPNet: &net.IPNet{IP: net.IPv4(10, 77, 0, 1), Mask: net.CIDRMask(24, 32)}})) // ours: a stranger's

	top, installed := w.Dir, postgres.FindAll()
	file := filepath.Join(top, "pigsty.yml")
	w.check(os.WriteFile(file, []byte(fmt.Sprintf(threeMachines, installed[len(installed)-1].Major)), 0o600))
	// The roles run as another user, who has to reach the program.
	program, err := os.ReadFile(howdah)
	w.check(err)
	w.Program = filepath.Join(top, "howdah")
	w.check(os.WriteFile(w.Program, program, 0o755))

	var all []*machine
	for i := 1; i <= 3; i++ {
		m := &machine{
			w: w, member: fmt.Sprintf("pg-real-%d", i), host: fmt.Sprintf("10.77.0.1%d", i),
			dir: filepath.Join(top, fmt.Sprintf("m%d", i)),
		}
		w.check(os.Mkdir(m.dir, 0o755))
		m.connected(i, br)
		all = append(all, m)
		t.Cleanup(func() { os.RemoveAll(filepath.Join("/run/howdah", m.member)) })
	}
	t.Cleanup(func() {
		if t.Failed() {
			for _, m := range all {
				text, _ := exec.Command("sh", "-c", "tail -n 12 "+m.dir+"/node.log "+m.dir+"/pg-real/*/log/*.log").CombinedOutput()
				t.Logf("%s", text)
			}
		}
		for _, m := range all { // the last primary needs a store to let go in
			if m.program != nil {
				_ = m.program.Process.Signal(node.Drain)
			}
		}
		for _, m := range all {
			m.stop()
		}
	})

	// Without what all machines share nothing is begun.
	refused := func(m *machine, code, why string, args ...string) {
		t.Helper()
		out, exit := m.run(args...)
		if exit != 1 {
			t.Errorf("howdah %s: exit %d, want 1", strings.Join(args, " "), exit)
		}
		w.said(out, code, why)
		if made, _ := filepath.Glob(filepath.Join(m.dir, "*", "*", "node.json")); len(made) > 0 {
			t.Errorf("a refusal made %s", made)
		}
	}
	refused(all[0], "keys-missing", "ca.pem", "node", file, "--host", all[0].host)
	refused(all[0], "host-unknown", all[1].host, "node", file, "--host", "10.77.0.99")
	if out, code := all[0].run("keys", file); code != 0 {
		t.Fatal(out)
	}
	w.check(os.CopyFS(filepath.Join(all[1].dir, "ca"), os.DirFS(filepath.Join(all[0].dir, "ca"))))
	refused(all[1], "keys-missing", "secrets.json", "node", file, "--host", all[1].host)
	for _, m := range all[1:] {
		w.check(os.RemoveAll(m.dir))
		w.check(os.CopyFS(m.dir, os.DirFS(all[0].dir)))
		w.check(os.Chmod(m.dir, 0o755))
	}

	plain := &machine{w: w, member: "infra-2", host: "10.77.0.14", dir: filepath.Join(top, "m4")} // without PostgreSQL
	plain.connected(4, br)
	w.check(os.CopyFS(plain.dir, os.DirFS(all[0].dir)))
	w.check(os.Chmod(plain.dir, 0o755))
	t.Cleanup(plain.stop)
	sent := w.sink("10.77.0.1:9428")
	for _, m := range all {
		m.start(file)
	}
	healthy := func(m *machine, want string) {
		t.Helper()
		var out string
		if err := outside.Until(w.ctx, func() bool {
			var code int
			out, code = m.run("list")
			return code == 0 && strings.Count(out, "streaming") == 2 && strings.Count(out, "Leader") == 1 && strings.Contains(out, want)
		}); err != nil {
			t.Fatalf("the machines are no cluster: %v\n%s", err, out)
		}
	}
	healthy(all[1], "10.77.0.13")
	plain.start(file)
	all[2].observes(all[0])
	plain.tells(all[0])
	for _, m := range all { // what every machine keeps of its logs is read from the first
		w.until("logs of "+m.member+" can not be read", func() bool {
			kept, _ := filepath.Glob(filepath.Join(m.dir, "pg-real", m.member, "logs", "*.hlog"))
			out, code := all[0].run("logs", "pg-real", m.member, "--job", "agent", "--last", "5")
			return code == 0 && strings.Contains(out, m.member+" agent ") && len(kept) > 0
		})
	}
	w.until("logs are not sent on by all", func() bool {
		text := sent()
		return !slices.ContainsFunc(all, func(m *machine) bool { return !strings.Contains(text, `"ins":"`+m.member+`"`) })
	})
	if out, code := all[1].run("logs", "--since", "1h"); code != 0 || strings.Count(out, "database system is ready to accept") < 3 {
		t.Errorf("logs: exit %d\n%s", code, out)
	}

	// The objects come where the leader is, and only there.
	leads := 0
	for _, m := range all {
		would, _ := m.run("provision", "--dry-run")
		out, code := m.run("provision")
		switch {
		case code == 0 && strings.Contains(out, "app"):
			leads++
			if !strings.Contains(would, `CREATE ROLE "app"`) || !strings.Contains(would, `CREATE DATABASE "app"`) {
				t.Errorf("what it would do:\n%s", would)
			}
		case !strings.Contains(out, "[leader-elsewhere]"):
			t.Errorf("provision on %s: exit %d\n%s", m.member, code, out)
		}
	}
	if leads != 1 {
		t.Errorf("%d machines made the objects, want 1", leads)
	}
	out, code := all[2].run("psql", "pg-real", "--", "-AtX", "-d", "user=app password=secret dbname=app", "-c", "SELECT 'at ' || current_database()")
	if code != 0 || !strings.Contains(out, "at app") {
		t.Errorf("psql: exit %d\n%s", code, out)
	}

	// A changed inventory is planned and applied on each; then nothing is left to do.
	text, err := os.ReadFile(file)
	w.check(err)
	w.check(os.WriteFile(file, []byte(strings.NewReplacer("pg_users: [", "pg_users: [ { name: late, password: x },", "max_wal_size: 512MB", "max_wal_size: 512MB, work_mem: 7MB").
		Replace(string(text))), 0o600))
	plan := func(want int) {
		t.Helper()
		for _, m := range all {
			if out, code := m.run("plan", file); code != want {
				t.Errorf("plan on %s: exit %d, want %d\n%s", m.member, code, want, out)
			}
		}
	}
	plan(2)
	for _, m := range all {
		if out, code := m.run("apply", file, "--yes"); code != 0 || !strings.Contains(out, "set work_mem of member "+m.member) {
			t.Errorf("apply on %s: exit %d\n%s", m.member, code, out)
		}
	}
	plan(0)
	if out, _ := all[0].run("applied"); !strings.Contains(out, "made role late") {
		t.Errorf("applied:\n%s", out)
	}
	healthy(all[1], "10.77.0.13")

	// A machine that stops and comes back is a member as before.
	all[0].stop()
	if out, code := all[1].run("logs", "--last", "1000"); code != 1 || !strings.Contains(out, "[logs-away]") || !strings.Contains(out, all[2].member+" agent ") {
		t.Errorf("logs without %s: exit %d\n%s", all[0].member, code, out)
	}
	all[0].start(file)
	healthy(all[2], "10.77.0.11")
}

// sink is a log store at an address, and gives what it was sent.
func (w *world) sink(address string) (sent func() string) {
	w.t.Helper()
	var mu sync.Mutex
	var got bytes.Buffer
	l, err := net.Listen("tcp", address)
	w.check(err)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if zip, err := gzip.NewReader(r.Body); err == nil {
			mu.Lock()
			defer mu.Unlock()
			_, _ = io.Copy(&got, zip) // who was ended in between sends it again
		}
	}))
	server.Listener.Close()
	server.Listener = l
	server.Start()
	w.t.Cleanup(server.Close)
	return func() string { mu.Lock(); defer mu.Unlock(); return got.String() }
}

// tells sees to it that a machine without PostgreSQL tells of itself, of its logs, and
// of a server that is not its own, of which nobody can read there how it is reached.
func (m *machine) tells(other *machine) {
	w := m.w
	w.t.Helper()
	for _, query := range []string{
		`node_load1{ins="infra-2"}`, `up{job="node",ins="infra-2",instance="10.77.0.14:9598"} == 1`,
		`pg_up{job="pgrds",cls="theirs",ins="theirs-7",ip="10.77.0.12"}`, // 0: it lets nobody in from there
	} {
		w.until(query+" is not told", func() bool {
			out, code := other.run("metrics", query)
			return code == 0 && !strings.Contains(out, "nothing has such a series")
		})
	}
	for _, read := range []struct {
		on   *machine
		args string
		want string
	}{
		{m, "infra-2", "infra-2 jobs "},
		{m, "pg-real --last 200", other.member + " agent "},
		{m, "--last 2000", other.member + " agent "},
		{other, "infra", "infra-2 jobs "},
		{other, "infra-2 --level info", "infra-2 jobs "},
	} {
		var out string
		var code int
		if outside.Until(w.ctx, func() bool {
			out, code = read.on.run(append([]string{"logs"}, strings.Fields(read.args)...)...)
			return code == 0 && strings.Contains(out, read.want)
		}) != nil {
			w.t.Fatalf("logs %s on %s: exit %d\n%s", read.args, read.on.member, code, out)
		}
	}
	var silence struct{ ID, CreatedBy string }
	out, code := m.run("alerts", "silence", "NodeLoadHigh", "cls=theirs", "--comment", "from elsewhere", "--json")
	if err := json.Unmarshal([]byte(out), &silence); code != 0 || err != nil || silence.ID == "" || silence.CreatedBy == "" {
		w.t.Fatalf("a silence from %s: exit %d %v\n%s", m.member, code, err, out)
	}
	if out, code := other.run("alerts", "silences"); code != 0 || !strings.Contains(out, silence.ID) || !strings.Contains(out, "from elsewhere") {
		w.t.Errorf("silences on %s: exit %d\n%s", other.member, code, out)
	}
	if out, code := other.run("alerts", "unsilence", silence.ID); code != 0 || !strings.Contains(out, "is told again") {
		w.t.Errorf("a silence ended on %s: exit %d\n%s", other.member, code, out)
	}
	dir := filepath.Join(m.dir, "infra", m.member)
	text, err := os.ReadFile(filepath.Join(dir, "node.json"))
	w.check(err)
	info, err := os.Stat(filepath.Join(dir, "exporters.json"))
	w.check(err)
	if strings.Contains(string(text), "DBUser.Monitor") || info.Mode().Perm() != 0o600 {
		w.t.Errorf("the password is in node.json, or %s is %s", info.Name(), info.Mode())
	}
}

// observes sees to it that the machine keeps the metrics of all of them, tells them
// to another machine and not to a stranger, and has a page that nobody else reads.
func (m *machine) observes(other *machine) {
	w := m.w
	w.t.Helper()
	w.until("metrics are not kept on "+m.member, func() bool {
		out, code := other.run("metrics", "count(up == 1)")
		return code == 0 && !strings.Contains(out, "nothing has such a series")
	})
	if out, code := m.run("alerts"); code != 0 && code != 3 {
		w.t.Errorf("alerts on %s: exit %d\n%s", m.member, code, out)
	}
	ask := func(client *http.Client, r *http.Request) *http.Response {
		w.t.Helper()
		resp, err := client.Do(r.WithContext(w.ctx))
		w.check(err)
		resp.Body.Close()
		return resp
	}
	r, err := http.NewRequest(http.MethodGet, "http://"+net.JoinHostPort(m.host, "9090")+"/api/v1/query?query=up", nil)
	w.check(err)
	if got := ask(http.DefaultClient, r); got.StatusCode != http.StatusForbidden {
		w.t.Errorf("a stranger who asks for metrics gets %s", got.Status)
	}

	ca, err := os.ReadFile(filepath.Join(m.dir, "ca", "ca.pem"))
	w.check(err)
	trusted := x509.NewCertPool()
	trusted.AppendCertsFromPEM(ca)
	person := &http.Client{
		Transport:     &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trusted}, DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	secrets, err := nodefile.Secrets(spec.Node{Paths: spec.Paths{Secrets: filepath.Join(m.dir, "pg-real", m.member, "console.json")}})
	w.check(err)
	form := url.Values{"password": {secrets[spec.SecretConsole].Reveal()}}
	r, err = http.NewRequest(http.MethodPost, "https://"+net.JoinHostPort(m.host, "8080")+"/login", strings.NewReader(form.Encode()))
	w.check(err)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	got := ask(person, r)
	if len(got.Cookies()) != 1 || !got.Cookies()[0].Secure {
		w.t.Errorf("the page lets in with %s and %v", got.Status, got.Cookies())
	}
	if text, err := os.ReadFile(filepath.Join(m.dir, "node.log")); err != nil || strings.Contains(string(text), form.Get("password")) || !strings.Contains(string(text), "console.json") {
		w.t.Errorf("the log does not say where the password is, or says what it is (%v):\n%s", err, text)
	}
}
