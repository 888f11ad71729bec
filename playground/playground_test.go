package playground

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"howdah/lease"
	"howdah/node"
	"howdah/node/process"
	"howdah/nodefile"
	"howdah/problem"
	"howdah/spec"
)

// The test binary is also every program of the tests: keeper, supervisor,
// roles, and a server that answers on its port.
func TestMain(m *testing.M) {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	if len(os.Args) > 1 {
		var err error
		switch os.Args[1] {
		case "playground":
			err = Keep(context.Background(), os.Args[4], log)
		case "node":
			var n spec.Node
			if n, err = nodefile.Load(os.Args[3]); err == nil {
				err = node.Run(context.Background(), []spec.Node{n}, log)
			}
		case "agent":
			err = fakeAgent(os.Args[3])
		case "etcd", "gateway":
			term := make(chan os.Signal, 1)
			signal.Notify(term, unix.SIGTERM)
			<-term
		case "postgres":
			err = fakePostgres(os.Args[2], os.Args[3])
		case "backend":
			for { // select {} would be a deadlock, which Go ends in a program without cgo
				unix.Pause()
			}
		default:
			if !strings.HasPrefix(os.Args[1], "-") { // a role that has no stand-in must not run the tests again
				err = fmt.Errorf("no stand-in for role %s", os.Args[1])
				break
			}
			os.Exit(m.Run())
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// fakeAgent starts a server unless one runs, calls it a replica, and stops it
// in the end.
func fakeAgent(dir string) error {
	n, err := nodefile.Load(dir)
	if err != nil {
		return err
	}
	if _, err := nodefile.Secrets(n); err != nil {
		return err
	}
	term := make(chan os.Signal, 1)
	signal.Notify(term, unix.SIGTERM)
	page, err := lease.Create(n.Paths.Page)
	if err != nil {
		return err
	}
	if err := page.Set(lease.Page{Role: lease.Replica}); err != nil {
		return err
	}
	if _, ok := node.Postmaster(n); !ok {
		if err := os.MkdirAll(n.Postgres.Data, 0o700); err != nil {
			return err
		}
		// A process of a server is known by its program's name.
		program := filepath.Join(dir, "postgres")
		if b, err := os.ReadFile(n.Paths.Binary); err != nil {
			return err
		} else if err := os.WriteFile(program, b, 0o700); err != nil {
			return err
		}
		cmd := exec.Command(program, "postgres", n.Postgres.Data, net.JoinHostPort(n.Address, strconv.Itoa(n.Postgres.Port)))
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			return err
		}
		go cmd.Wait()
	}
	for turns := true; turns; {
		select {
		case <-term:
			turns = false
		case <-time.After(100 * time.Millisecond):
			page.Beat() // who stands still is ended by the guard
		}
	}
	if id, ok := node.Postmaster(n); ok {
		if err := id.Signal(unix.SIGKILL); err != nil {
			return err
		}
	}
	return nil
}

// fakePostgres answers each line with its own pid and ends with its client.
func fakePostgres(data, addr string) error {
	if err := os.Chdir(data); err != nil {
		return err
	}
	backend := exec.Command("/proc/self/exe", "backend")
	backend.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: unix.SIGKILL}
	if err := backend.Start(); err != nil {
		return err
	}
	l, err := net.Listen("tcp4", addr)
	if err != nil {
		return err
	}
	if err := os.WriteFile("postmaster.pid", fmt.Appendf(nil, "%d\n", os.Getpid()), 0o600); err != nil {
		return err
	}
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			all, _ := io.ReadAll(c) // until the client's half is closed
			fmt.Fprintf(c, "%d %d\n", os.Getpid(), len(all))
		}()
	}
}

var hosts = map[Ground]netip.Addr{Loopback: netip.MustParseAddr("10.177.10.11"), Isolated: netip.MustParseAddr("10.178.10.11")}

// options are those of a playground of its own that is gone after the test.
func options(t *testing.T, g Ground) Options {
	t.Helper()
	if g == Isolated {
		if os.Geteuid() != 0 {
			t.Skip("namespaces need root")
		}
		if err := tryNamespaces(); err != nil {
			t.Skip("namespaces cannot be made here: ", err)
		}
	}
	dir, err := os.MkdirTemp("", "howdah-test-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil { // PostgreSQL's user must get in
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if s, err := Load(dir); err == nil {
			keeper, ok := s.keeper()
			if t.Failed() {
				logs, _ := filepath.Glob(filepath.Join(dir, "demo", "*", "log", "*"))
				for _, f := range append(logs, filepath.Join(dir, "keeper.log")) {
					b, _ := os.ReadFile(f)
					t.Logf("%s:\n%s", f, b)
				}
			}
			if ok {
				keeper.Signal(unix.SIGKILL)
			}
			nodes, _ := s.Nodes()
			for _, n := range nodes {
				mark(n)
				obliterate(context.Background(), n)
			}
			if err := Purge(dir); err != nil {
				t.Error("purge after the test:", err)
			}
		}
		os.RemoveAll(dir)
	})
	return Options{Dir: dir, Ground: g, First: hosts[g], Postgres: spec.Postgres{Bin: "/nonexistent", Major: 17}}
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

func up(t *testing.T, o Options) (State, []spec.Node) {
	t.Helper()
	s, nodes, err := Up(t.Context(), o, discard())
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes {
		await(t, n.Member+" answers", func() bool { _, err := ask(n, "x"); return err == nil })
	}
	return s, nodes
}

// ask sends text through the node's door and returns who answered.
func ask(n spec.Node, text string) (pid string, err error) {
	c, err := net.DialTimeout("tcp4", net.JoinHostPort(Door(n), strconv.Itoa(n.Postgres.Port)), time.Second)
	if err != nil {
		return "", err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	go func() {
		io.WriteString(c, text)
		c.(*net.TCPConn).CloseWrite()
	}()
	line, err := bufio.NewReader(c).ReadString('\n')
	pid, size, _ := strings.Cut(strings.TrimSpace(line), " ")
	if err == nil && size != strconv.Itoa(len(text)) {
		err = fmt.Errorf("%s of %d bytes arrived", size, len(text))
	}
	return pid, err
}

func await(t *testing.T, what string, so func() bool) time.Duration {
	t.Helper()
	began := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := poll(ctx, so); err != nil {
		t.Fatalf("waited in vain until %s", what)
	}
	return time.Since(began)
}

func grounds(t *testing.T, f func(t *testing.T, o Options)) {
	for _, g := range []Ground{Loopback, Isolated} {
		t.Run(string(g), func(t *testing.T) { f(t, options(t, g)) })
	}
}

func TestUpAndDown(t *testing.T) {
	grounds(t, func(t *testing.T, o Options) {
		began := time.Now()
		s, nodes := up(t, o)
		t.Logf("three nodes answer after %s", time.Since(began))
		if s.Ground != o.Ground {
			t.Errorf("ground %s (%s); want %s", s.Ground, s.Reason, o.Ground)
		}
		if len(nodes) != 3 || nodes[2].Member != "demo-3" {
			t.Fatalf("nodes %v; want demo-1 to demo-3", nodes)
		}
		if big, err := ask(nodes[0], strings.Repeat("x", 5<<20)); err != nil {
			t.Errorf("5 MB through the door: %s, %v", big, err)
		}
		keeper, _ := s.keeper()
		pids := map[string]string{}
		for _, n := range nodes {
			pids[n.Member], _ = ask(n, "x")
		}

		_, again := up(t, o) // twice changes nothing
		for _, n := range again {
			if pid, _ := ask(n, "x"); pid != pids[n.Member] {
				t.Errorf("%s is %s after the second up; was %s", n.Member, pid, pids[n.Member])
			}
		}
		if now, _ := s.keeper(); now != keeper {
			t.Errorf("keeper is %v after the second up; was %v", now, keeper)
		}

		if err := Purge(o.Dir); problem.Code(err) != "playground-running" {
			t.Errorf("Purge while it runs = %v; want playground-running", err)
		}
		for range 2 { // twice is fine
			if err := Down(t.Context(), o.Dir, nil); err != nil {
				t.Fatalf("Down = %v", err)
			}
		}
		for _, n := range nodes {
			if left := everything(n); len(left) > 0 {
				t.Errorf("%s left processes %v", n.Member, left)
			}
		}
		if keeper.Alive() {
			t.Error("the keeper lives on")
		}
		if _, err := os.Stat(filepath.Join(s.Run, "net")); err == nil {
			t.Error("namespaces are left")
		}
		_, back := up(t, o)
		if len(back) != 3 {
			t.Errorf("after down and up: %d nodes", len(back))
		}
		if err := Down(t.Context(), o.Dir, nil); err != nil {
			t.Fatal(err)
		}
		if err := Purge(o.Dir); err != nil {
			t.Fatal(err)
		}
		if left, err := os.ReadDir(o.Dir); !os.IsNotExist(err) {
			t.Errorf("purge left %v, %v", left, err)
		}
	})
}

func TestEverythingKilledComesBack(t *testing.T) {
	grounds(t, func(t *testing.T, o Options) {
		s, nodes := up(t, o)
		keeper, _ := s.keeper()
		secrets, _ := os.ReadFile(nodes[0].Paths.Secrets)
		keeper.Signal(unix.SIGKILL)
		for _, n := range nodes {
			if err := obliterate(t.Context(), n); err != nil {
				t.Fatal(err)
			}
		}
		_, nodes = up(t, o)
		if now, _ := os.ReadFile(nodes[0].Paths.Secrets); string(now) != string(secrets) {
			t.Error("the secrets changed")
		}
	})
}

func TestTheNextKeeperAdopts(t *testing.T) {
	grounds(t, func(t *testing.T, o Options) {
		s, nodes := up(t, o)
		keeper, _ := s.keeper()
		before := map[string]process.ID{}
		for _, n := range nodes {
			before[n.Member], _ = supervisor(n)
		}
		keeper.Signal(unix.SIGKILL)
		await(t, "the keeper is gone", func() bool { return !keeper.Alive() })
		_, nodes = up(t, o)
		for _, n := range nodes {
			if id, _ := supervisor(n); id != before[n.Member] {
				t.Errorf("supervisor of %s is %v; want %v adopted", n.Member, id, before[n.Member])
			}
		}
		id := before["demo-2"]
		id.Signal(unix.SIGKILL)
		await(t, "the adopted supervisor is replaced", func() bool { now, ok := supervisor(nodes[1]); return ok && now != id })
	})
}

func TestANewerProgramTakesOver(t *testing.T) {
	o := options(t, Loopback)
	s, nodes := up(t, o)
	keeper, _ := s.keeper()
	old, _ := supervisor(nodes[0])
	agent, _ := node.RoleFile(nodes[0], "agent").Read()
	etcd, _ := node.RoleFile(nodes[0], "etcd").Read()
	pid, _ := ask(nodes[0], "x")

	b, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	o.Binary = filepath.Join(o.Dir, "newer")
	if err := os.WriteFile(o.Binary, append(b, 0), 0o755); err != nil {
		t.Fatal(err)
	}
	_, nodes = up(t, o)
	if now, _ := s.keeper(); now == keeper {
		t.Error("the old keeper runs on")
	}
	if now, _ := supervisor(nodes[0]); now == old {
		t.Error("the old supervisor runs on")
	}
	await(t, "a new agent runs", func() bool {
		now, ok := node.RoleFile(nodes[0], "agent").Read()
		return ok && now != agent
	})
	if now, _ := node.RoleFile(nodes[0], "etcd").Read(); now != etcd {
		t.Errorf("etcd is %v; was %v", now, etcd)
	}
	if now, err := ask(nodes[0], "x"); err != nil || now != pid {
		t.Errorf("the server is %s, %v; was %s", now, err, pid)
	}
	os.Remove(o.Binary)
}

func TestFaults(t *testing.T) {
	grounds(t, func(t *testing.T, o Options) {
		s, nodes := up(t, o)
		n := nodes[0]
		agent, _ := node.RoleFile(n, "agent").Read()
		pid, _ := ask(n, "x")

		if err := KillAgent(n); err != nil {
			t.Fatal(err)
		}
		await(t, "a new agent runs", func() bool {
			id, ok := node.RoleFile(n, "agent").Read()
			return ok && id != agent
		})
		if now, err := ask(n, "x"); err != nil || now != pid {
			t.Errorf("the server is %s, %v after kill-agent; want %s", now, err, pid)
		}

		if err := KillPostgres(n); err != nil {
			t.Fatal(err)
		}
		await(t, "the server is gone", func() bool { _, err := ask(n, "x"); return err != nil })
		if err := KillPostgres(n); problem.Code(err) != "fault-nothing" {
			t.Errorf("KillPostgres of a dead one = %v; want fault-nothing", err)
		}

		n = nodes[1]
		if err := s.KillNode(t.Context(), n); err != nil {
			t.Fatal(err)
		}
		if left := everything(n); len(left) > 0 {
			t.Errorf("kill-node left %v", left)
		}
		if _, err := ask(n, "x"); err == nil {
			t.Error("a killed node answers")
		}
		if err := s.KillNode(t.Context(), n); problem.Code(err) != "fault-nothing" {
			t.Errorf("KillNode of a dead one = %v; want fault-nothing", err)
		}
		if o.Ground == Isolated {
			if err := process.InNet(s.net(nodes[2].Member), func() error { return dialIn(n.Address, n.Postgres.Port) }); err == nil {
				t.Error("a killed node's address answers its neighbour")
			}
		}
		if err := s.StartNode(t.Context(), n); err != nil {
			t.Fatal(err)
		}
		await(t, "the node answers again", func() bool { _, err := ask(n, "x"); return err == nil })
		if o.Ground == Isolated {
			if err := process.InNet(s.net(nodes[2].Member), func() error { return dialIn(n.Address, n.Postgres.Port) }); err != nil {
				t.Error("its neighbour does not reach it:", err)
			}
		}

		if err := s.StopNode(t.Context(), n); err != nil {
			t.Fatal(err)
		}
		if left := everything(n); len(left) > 0 || Running(n) {
			t.Errorf("stop-node left %v", left)
		}
		if !Running(nodes[2]) {
			t.Error("another node stopped too")
		}
	})
}

func dialIn(host string, port int) error {
	c, err := net.DialTimeout("tcp4", net.JoinHostPort(host, strconv.Itoa(port)), 500*time.Millisecond)
	if err == nil {
		c.Close()
	}
	return err
}

// Doors are made anew for a port that is new, not for one that nobody wants any more.
func TestOpens(t *testing.T) {
	less := spec.Node{Paths: spec.Paths{Dir: "/d"}, Jobs: spec.Jobs{Exporter: "10.10.10.11:9630"}}
	more := less
	more.Observe.Listen = []string{"10.10.10.11:9090"}
	for _, tt := range []struct {
		name     string
		was, now spec.Node
		want     bool
	}{
		{"as it was", more, more, false},
		{"one more", less, more, true},
		{"one less", more, less, false},
		{"another node", less, spec.Node{Paths: spec.Paths{Dir: "/e"}, Jobs: spec.Jobs{Exporter: "10.10.10.12:9630"}}, false},
	} {
		if got := opens([]spec.Node{tt.was}, []spec.Node{tt.now}); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestDoorsPassOnEnds(t *testing.T) {
	o := options(t, Isolated)
	s, nodes := up(t, o)
	n := nodes[0]
	if err := KillAgent(n); err != nil {
		t.Fatal(err)
	}
	// A connection whose server is killed ends at once.
	c, err := net.Dial("tcp4", net.JoinHostPort(Door(n), "5432"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, "x")
	ended := make(chan error, 1)
	go func() { _, err := c.Read(make([]byte, 1)); ended <- err }()
	if err := s.KillNode(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if err == nil {
			t.Error("the door answered for a dead server")
		}
	case <-time.After(5 * time.Second):
		t.Error("a connection to a killed server does not end")
	}
	// Nobody listens: the client is told, soon.
	began := time.Now()
	if _, err := ask(n, "x"); err == nil {
		t.Error("a dead node answers")
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("a client of a dead node waited %s", took)
	}
	// It is refused, so that one with other addresses to try goes on.
	refused := func() bool {
		c, err := net.Dial("tcp4", net.JoinHostPort(Door(n), "5432"))
		if err == nil {
			c.Close()
		}
		return err != nil && strings.Contains(err.Error(), syscall.ECONNREFUSED.Error())
	}
	await(t, "nobody listens for a dead node", refused)
	if err := s.StartNode(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	await(t, "its door is open again", func() bool { _, err := ask(n, "x"); return err == nil })
}

func TestATakenPortIsNamed(t *testing.T) {
	grounds(t, func(t *testing.T, o Options) {
		door, err := doorOf(o.First.String())
		if err != nil {
			t.Fatal(err)
		}
		l, err := net.Listen("tcp4", netip.AddrPortFrom(door, 5432).String())
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		_, _, err = Up(t.Context(), o, discard())
		if problem.Code(err) != "port-taken" || !strings.Contains(err.Error(), door.String()) {
			t.Errorf("Up = %v; want port-taken naming %s", err, door)
		}
	})
}

// An Up that is refused leaves a directory as it was, whatever was in it.
func TestARefusedUpLeavesNothing(t *testing.T) {
	grounds(t, func(t *testing.T, o Options) {
		door, err := doorOf(o.First.String())
		if err != nil {
			t.Fatal(err)
		}
		l, err := net.Listen("tcp4", netip.AddrPortFrom(door, 5432).String())
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		base := o.Dir
		for name, found := range map[string][]string{
			"nothing":             {},
			"somebody's files":    {"letters/to-ann", "notes"},
			"an empty bin":        {"bin/"},
			"a log of that name":  {"keeper.log", "x"},
			"a missing directory": nil,
		} {
			o.Dir = filepath.Join(base, strings.ReplaceAll(name, " ", "-"))
			if found != nil {
				if err := os.Mkdir(o.Dir, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			for _, f := range found {
				if err := os.MkdirAll(filepath.Join(o.Dir, filepath.Dir(f)), 0o755); err != nil {
					t.Fatal(err)
				}
				if strings.HasSuffix(f, "/") {
					continue
				}
				if err := os.WriteFile(filepath.Join(o.Dir, f), []byte("mine"), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			before := tree(t, o.Dir)
			if _, _, err := Up(t.Context(), o, discard()); problem.Code(err) != "port-taken" {
				t.Errorf("%s: Up = %v; want port-taken", name, err)
			}
			if now := tree(t, o.Dir); !slices.Equal(now, before) {
				t.Errorf("%s: the directory holds %q; before, %q", name, now, before)
			}
			if _, err := os.Lstat(runDir(o.Dir)); !os.IsNotExist(err) {
				t.Errorf("%s: the run directory is left: %v", name, err)
			}
		}
	})
}

// tree lists what is below dir.
func tree(t *testing.T, dir string) (names []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err == nil {
			names = append(names, path)
		} else if path == dir && os.IsNotExist(err) {
			return nil
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// What Up would mix its own files with is refused: a purge would delete it.
func TestUpBesideSomebodysFiles(t *testing.T) {
	o := options(t, Loopback)
	base := o.Dir
	for _, found := range []string{"bin/tool", "bin/howdah.conf", "demo/letter"} {
		o.Dir = filepath.Join(base, strings.ReplaceAll(found, "/", "-"))
		file := filepath.Join(o.Dir, found)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte("mine"), 0o644); err != nil {
			t.Fatal(err)
		}
		_, _, err := Up(t.Context(), o, discard())
		if problem.Code(err) != "dir-occupied" || !strings.Contains(err.Error(), filepath.Base(found)) {
			t.Errorf("%s: Up = %v; want dir-occupied", found, err)
		}
		if now := tree(t, o.Dir); len(now) != 3 {
			t.Errorf("%s: the directory holds %q", found, now)
		}
	}
}

func TestNamesThatCannotBeUsed(t *testing.T) {
	for _, name := range []string{"bin", "a/b", "..", "-f", "keeper.lock"} {
		o := options(t, Loopback)
		o.Cluster = name
		if _, _, err := Up(t.Context(), o, discard()); problem.Code(err) != "name-unusable" && problem.Code(err) != "inventory-invalid" {
			t.Errorf("Up of cluster %q = %v; want name-unusable", name, err)
		}
		if now := tree(t, o.Dir); len(now) != 1 {
			t.Errorf("cluster %q: the directory holds %q", name, now)
		}
	}
}

func TestADirectoryThatPostgresCannotEnter(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root's playground runs as another user")
	}
	o := options(t, Loopback)
	closed := filepath.Join(o.Dir, "closed")
	if err := os.Mkdir(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	o.Dir = filepath.Join(closed, "below")
	_, err := Build(o)
	if problem.Code(err) != "datadir-path" || !strings.Contains(err.Error(), "cannot enter "+closed+" ") {
		t.Errorf("Build = %v; want datadir-path naming %s", err, closed)
	}
	os.RemoveAll(runDir(o.Dir))
}

func TestTheGroundStays(t *testing.T) {
	o := options(t, Loopback)
	if _, err := Build(o); err != nil {
		t.Fatal(err)
	}
	o.Ground = Auto
	if b, err := Build(o); err != nil || b.State.Ground != Loopback {
		t.Errorf("Build without a wish = %s, %v; want what it was", b.State.Ground, err)
	}
	o.Ground = Isolated
	if _, err := Build(o); problem.Code(err) != "ground-fixed" {
		t.Errorf("Build with another ground = %v; want ground-fixed", err)
	}
}

func TestALongSocketPath(t *testing.T) {
	s := State{Dir: "/d", Run: "/run/" + strings.Repeat("x", 100), Ground: Loopback}
	o := Options{Dir: "/d", Postgres: spec.Postgres{Bin: "/b"}}
	if err := o.complete(); err != nil {
		t.Fatal(err)
	}
	_, err := s.plan(o, "")
	if problem.Code(err) != "socket-path-long" {
		t.Errorf("plan = %v; want socket-path-long", err)
	}
}
