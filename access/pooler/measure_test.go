package pooler

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"howdah/access/pool"
	"howdah/spec"
	"howdah/test/testpg"
)

var (
	measure = flag.Duration("measure", 0, "measure each path to a server for so long (make bench-access)")
	rounds  = flag.Int("rounds", 1, "how often")
	clients = flag.String("clients", "1,16,64", "numbers of clients")
)

// child has the test's binary run as a pooler: its sockets, and where it listens.
const child = "HOWDAH_POOLER_CHILD"

func TestMain(m *testing.M) {
	if args := os.Getenv(child); args != "" {
		fmt.Fprintln(os.Stderr, runChild(args))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func runChild(args string) error {
	sockets, addr, _ := strings.Cut(args, ",")
	roll, err := NewRoll(sockets, 5432, spec.Superuser, time.Second)
	if err != nil {
		return err
	}
	s := pool.Defaults()
	d := &Door{Name: "bench", Settings: s, ResetQuery: "DISCARD ALL", Dial: Local(sockets, 5432), Secret: roll.Secret}
	p, err := New(slog.New(slog.DiscardHandler), d)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	go func() { _ = p.Serve(context.Background(), l, d) }()
	return p.Run(context.Background())
}

// A path is a way to the server, and the processes that it costs.
type path struct {
	name string
	addr string
	pids []int
}

// TestMeasure compares the cost of a query over each path, all in one run on one
// machine: only ratios mean anything.
func TestMeasure(t *testing.T) {
	if *measure == 0 {
		t.Skip("measures only when asked to: make bench-access")
	}
	server := testpg.Start(t, testpg.Primary(), testpg.TCP(), testpg.With(func(n *spec.Node) {
		n.Postgres.Parameters["max_connections"] = "200"
		n.Postgres.Parameters["shared_buffers"] = "256MB"
	}))
	n := server.Node
	paths := []path{{name: "direct", addr: net.JoinHostPort(n.Address, "5432")}}
	paths = append(paths, startChild(t, n))
	if program, err := exec.LookPath("pgbouncer"); err == nil || os.Getenv("PGBOUNCER") != "" {
		if p := os.Getenv("PGBOUNCER"); p != "" {
			program = p
		}
		b := startPgBouncer(t, program, n)
		paths = append(paths, b)
		if program, err := exec.LookPath("haproxy"); err == nil {
			paths = append(paths, startHAProxy(t, program, b))
		}
	}
	pgbench := func(p path, args ...string) string {
		host, port, _ := net.SplitHostPort(p.addr)
		cmd := exec.CommandContext(t.Context(), filepath.Join(n.Postgres.Bin, "pgbench"), append([]string{"-h", host, "-p", port, "-U", "demo"}, append(args, "demo")...)...)
		cmd.Env = append(os.Environ(), "PGPASSWORD="+testpg.Password, "PGSSLMODE=disable")
		out, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Sprintf("fails: %v %s", err, lastLine(string(out)))
		}
		return string(out)
	}
	if out := pgbench(paths[0], "-i", "-q", "-s", "5"); strings.HasPrefix(out, "fails") {
		t.Fatal(out)
	}
	tps, latency := regexp.MustCompile(`tps = ([0-9.]+)`), regexp.MustCompile(`latency average = ([0-9.]+)`)
	done := regexp.MustCompile(`actually processed: ([0-9]+)`)
	var table strings.Builder
	fmt.Fprintf(&table, "| %-18s | %-9s | %7s | %8s | %9s | %16s |\n|---|---|--:|--:|--:|--:|\n", "path", "protocol", "clients", "tps", "avg ms", "proxy µs CPU/txn")
	point := func(p path, what string, c string, args ...string) {
		before := cpu(p.pids)
		out := pgbench(p, append(args, "-n", "-c", c, "-j", strconv.Itoa(min(2, atoi(c))), "-T", strconv.Itoa(int(measure.Seconds())))...)
		spent := cpu(p.pids) - before
		if strings.HasPrefix(out, "fails") {
			fmt.Fprintf(&table, "| %-18s | %-9s | %7s | %s |\n", p.name, what, c, out)
			return
		}
		count := atoi(find(done, out))
		fmt.Fprintf(&table, "| %-18s | %-9s | %7s | %8.0f | %9s | %16.1f |\n", p.name, what, c, atof(find(tps, out)), find(latency, out),
			float64(spent.Microseconds())/float64(max(count, 1)))
	}
	for range *rounds {
		for c := range strings.SplitSeq(*clients, ",") {
			for _, protocol := range []string{"simple", "extended", "prepared"} {
				for _, p := range paths {
					point(p, protocol, c, "-S", "-M", protocol)
				}
			}
		}
		for _, p := range paths {
			point(p, "paced", "8", "-S", "-M", "simple", "-R", "2000")
		}
		for _, p := range paths {
			point(p, "connect", "8", "-S", "-M", "simple", "-C")
		}
	}
	for _, p := range paths[1:] {
		fmt.Fprintf(&table, "\n%s: %s\n", p.name, idleCost(t, p))
	}
	t.Log("\n" + table.String())
}

func find(r *regexp.Regexp, text string) string {
	if m := r.FindStringSubmatch(text); m != nil {
		return m[1]
	}
	return ""
}

func atoi(s string) int { n, _ := strconv.Atoi(s); return n }

func atof(s string) float64 { f, _ := strconv.ParseFloat(s, 64); return f }

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return lines[len(lines)-1]
}

// cpu is what processes have used, by the scheduler's own account.
func cpu(pids []int) (all time.Duration) {
	for _, pid := range pids {
		threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
		for _, file := range threads {
			text, _ := os.ReadFile(file)
			if fields := strings.Fields(string(text)); len(fields) > 0 {
				all += time.Duration(atoi(fields[0]))
			}
		}
	}
	return all
}

// rss is what processes have in memory, in kB.
func rss(pids []int) (all int) {
	for _, pid := range pids {
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		for line := range strings.Lines(string(text)) {
			if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
				all += atoi(strings.Fields(rest)[0])
			}
		}
	}
	return all
}

// idleCost is the memory of clients that do nothing.
func idleCost(t *testing.T, p path) string {
	const many = 900 // PgBouncer's limit of clients here, and of our descriptors
	host, port, _ := net.SplitHostPort(p.addr)
	before := rss(p.pids)
	for range many {
		c, err := demo(t, host, port)
		if err != nil {
			return err.Error()
		}
		defer c.Close(context.Background())
	}
	return fmt.Sprintf("%.2f kB for each of %d idle clients (from %d kB)", float64(rss(p.pids)-before)/many, many, before)
}

func demo(t *testing.T, host, port string) (*pgconn.PgConn, error) {
	c, err := pgconn.ParseConfig("host=" + host + " port=" + port + " user=demo dbname=demo sslmode=disable")
	if err != nil {
		return nil, err
	}
	c.Password = testpg.Password
	return pgconn.ConnectConfig(t.Context(), c)
}

func free(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// start runs a program until the test ends, and waits until it takes clients.
func start(t *testing.T, p path, cmd *exec.Cmd) path {
	t.Helper()
	var out strings.Builder
	cmd.Stderr, cmd.Stdout = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	until(t, p.name+" listens: "+out.String(), func() bool {
		c, err := net.Dial("tcp", p.addr)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	p.pids = append(p.pids, cmd.Process.Pid)
	return p
}

func startChild(t *testing.T, n spec.Node) path {
	p := path{name: "howdah", addr: free(t)}
	cmd := exec.Command("/proc/self/exe")
	// As the node starts a gateway.
	cmd.Env = append(os.Environ(), child+"="+n.Paths.Sockets+","+p.addr, "GOMEMLIMIT=256MiB")
	return start(t, p, cmd)
}

func startPgBouncer(t *testing.T, program string, n spec.Node) path {
	p := path{name: "PgBouncer", addr: free(t)}
	host, port, _ := net.SplitHostPort(p.addr)
	dir, err := os.MkdirTemp("", "howdah-bouncer")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	_ = os.Chmod(dir, 0o755)
	list := filepath.Join(dir, "users")
	ini := fmt.Sprintf(`[databases]
demo = host=%s port=5432 dbname=demo
[pgbouncer]
listen_addr = %s
listen_port = %s
unix_socket_dir =
auth_type = scram-sha-256
auth_file = %s
pool_mode = transaction
default_pool_size = 20
max_client_conn = 2000
log_connections = 0
log_disconnections = 0
`, n.Paths.Sockets, host, port, list)
	// A newer one follows prepared statements.
	if out, _ := exec.Command(program, "-V").CombinedOutput(); !strings.Contains(string(out), "PgBouncer 1.18") {
		ini += "max_prepared_statements = 200\n"
	}
	config := filepath.Join(dir, "pgbouncer.ini")
	if err := os.WriteFile(list, []byte(`"demo" "`+testpg.Password+`"`+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(config, []byte(ini), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "-q", config)
	if u, err := user.Lookup(n.User); err == nil && n.User != "" {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(atoi(u.Uid)), Gid: uint32(atoi(u.Gid))}}
	}
	return start(t, p, cmd)
}

func startHAProxy(t *testing.T, program string, b path) path {
	p := path{name: "HAProxy+PgBouncer", addr: free(t), pids: b.pids}
	config := filepath.Join(t.TempDir(), "haproxy.cfg")
	text := fmt.Sprintf(`defaults
  mode tcp
  timeout connect 3s
  timeout client 1h
  timeout server 1h
  maxconn 3000
global
  nbthread 1
listen pool
  bind %s
  server one %s
`, p.addr, b.addr)
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return start(t, p, exec.Command(program, "-q", "-db", "-f", config))
}
