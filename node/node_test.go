package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"howdah/ha/agent"
	"howdah/lease"
	"howdah/node/process"
	"howdah/nodefile"
	"howdah/postgres"
	"howdah/problem"
	"howdah/spec"
)

// The test binary is also every program of the tests: supervisor, roles, and a
// server with children, by its arguments.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "node":
			supervise(os.Args[3:]...)
		case "agent":
			role("agent", os.Args[3])
		case "etcd":
			role("etcd", os.Args[4])
		case "server":
			fakeServer(os.Args[2], 4)
		case "backend":
			idle()
		case "tracer":
			trace(os.Args[2])
		case "child":
			exec.Command(os.Args[0], "backend").Start()
			os.Exit(0) // an orphan is left behind
		}
		if !strings.HasPrefix(os.Args[1], "-") { // a role that has no stand-in must not run the tests again
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

func supervise(dirs ...string) {
	var nodes []spec.Node
	var errs []error
	for _, dir := range dirs {
		n, err := nodefile.Load(dir)
		nodes, errs = append(nodes, n), append(errs, err)
	}
	err := errors.Join(errs...)
	if err == nil {
		err = Run(context.Background(), nodes, slog.New(slog.NewTextHandler(os.Stderr, nil)))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, problem.Code(err), err)
		os.Exit(1)
	}
	os.Exit(0)
}

// role does what the file behave-NAME says, and notes its stop in events.
func role(name, dir string) {
	behaviour, _ := os.ReadFile(filepath.Join(dir, "behave-"+name))
	term, leave := make(chan os.Signal, 1), make(chan os.Signal, 1)
	signal.Notify(term, unix.SIGTERM)
	if name == "agent" {
		signal.Notify(leave, Leave)
	}
	switch string(behaviour) {
	case "die":
		note(dir, name+" died")
		os.Exit(1)
	case "orphan":
		exec.Command(os.Args[0], "child").Run()
	case "stubborn":
		ready(dir)
		select {}
	}
	ready(dir)
	how := " stopped"
	select {
	case <-term:
	case <-leave:
		how = " left"
	}
	note(dir, name+how)
	os.Exit(0)
}

// ready says that this process heeds SIGTERM in its way.
func ready(dir string) {
	if err := os.WriteFile(filepath.Join(dir, "ready-"+strconv.Itoa(os.Getpid())), nil, 0o600); err != nil {
		panic(err)
	}
}

func isReady(n spec.Node, f process.File) bool {
	id, ok := f.Read()
	_, err := os.Stat(filepath.Join(n.Paths.Dir, "ready-"+id.String()))
	return ok && err == nil
}

func note(dir, what string) {
	f, err := os.OpenFile(filepath.Join(dir, "events"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		panic(err)
	}
	fmt.Fprintln(f, what)
	f.Close()
}

// fakeServer is a process tree that looks like PostgreSQL's from outside: all
// work in the data directory, each in a session of its own, and all are busy.
func fakeServer(data string, children int) {
	if err := os.Chdir(data); err != nil {
		panic(err)
	}
	for range children {
		c := exec.Command(os.Args[0], "backend")
		c.SysProcAttr = &unix.SysProcAttr{Setsid: true}
		if err := c.Start(); err != nil {
			panic(err)
		}
		go c.Wait()
	}
	if err := os.WriteFile("postmaster.pid", fmt.Appendf(nil, "%d\n%s\n", os.Getpid(), data), 0o600); err != nil {
		panic(err)
	}
	idle()
}

// idle never ends. In a program without cgo that waits for nothing, select {}
// would be a deadlock, which Go ends.
func idle() {
	for {
		unix.Pause()
	}
}

func testNode(t *testing.T) spec.Node {
	t.Helper()
	dir := t.TempDir()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	n := spec.Node{
		Cluster: "demo", Member: "demo-1", Namespace: "/service",
		Paths: spec.Paths{
			Dir: dir, Binary: exe, Run: filepath.Join(dir, "run"),
			Page: filepath.Join(dir, "run", "page"), Log: filepath.Join(dir, "log"),
		},
		Postgres: spec.Postgres{Data: filepath.Join(dir, "data")},
		Etcd:     spec.Etcd{Member: "demo-1"},
	}
	for _, d := range []string{n.Paths.Run, n.Paths.Log, n.Postgres.Data} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := nodefile.Write(n, -1, -1); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		var roots []process.ID
		for _, f := range []process.File{SupervisorFile(n), RoleFile(n, "agent"), RoleFile(n, "etcd")} {
			if id, ok := f.Read(); ok {
				roots = append(roots, id)
			}
		}
		for _, p := range process.Family(roots...) {
			p.Signal(unix.SIGKILL)
		}
		killServer(n.Postgres.Data)
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(n.Paths.Log, "node.log"))
			t.Logf("supervisor's log:\n%s", log)
		}
	})
	return n
}

// supervisor starts one and waits until its roles run.
func supervisor(t *testing.T, n spec.Node) process.ID {
	t.Helper()
	id := start(t, n)
	waitFor(t, "the roles run", func() bool {
		return isReady(n, RoleFile(n, "agent")) && isReady(n, RoleFile(n, "etcd"))
	})
	return id
}

// start starts the supervisor of n, and of others on the same machine.
func start(t *testing.T, n spec.Node, others ...spec.Node) process.ID {
	t.Helper()
	log, err := os.OpenFile(filepath.Join(n.Paths.Log, "node.log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(n.Paths.Binary, SupervisorArgs(n.Paths.Dir)...)
	for _, o := range others {
		cmd.Args = append(cmd.Args, o.Paths.Dir)
	}
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	id, _ := process.Of(cmd.Process.Pid)
	done := make(chan struct{})
	go func() { cmd.Wait(); close(done) }()
	t.Cleanup(func() { cmd.Process.Kill(); <-done })
	return id
}

// waitFor asks until it is so, for at most ten seconds, and tells how long it took.
func waitFor(t *testing.T, what string, so func() bool) time.Duration {
	t.Helper()
	began := time.Now()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for range tick.C {
		if so() {
			break
		}
		if time.Since(began) > 10*time.Second {
			t.Fatalf("waited 10 s in vain until %s", what)
		}
	}
	return time.Since(began)
}

func events(n spec.Node) string {
	b, _ := os.ReadFile(filepath.Join(n.Paths.Dir, "events"))
	return strings.ReplaceAll(strings.TrimSpace(string(b)), "\n", ", ")
}

func kill(t *testing.T, id process.ID, sig unix.Signal) {
	t.Helper()
	if err := id.Signal(sig); err != nil {
		t.Fatal(err)
	}
}

func TestARoleThatDiesIsBackWithin200ms(t *testing.T) {
	n := testNode(t)
	supervisor(t, n)
	var times []time.Duration
	for range 3 {
		for _, role := range []string{"agent", "etcd"} {
			old, _ := RoleFile(n, role).Read()
			kill(t, old, unix.SIGKILL)
			times = append(times, waitFor(t, role+" is back", func() bool {
				id, ok := RoleFile(n, role).Read()
				return ok && id != old
			}))
		}
	}
	slices.Sort(times) // the median: other tests may have the machine for a moment
	if took := times[len(times)/2]; took > 200*time.Millisecond {
		t.Errorf("a role was back after %s (of %v); want 200ms", took, times)
	}
}

func TestARoleThatKeepsDyingIsTriedForEver(t *testing.T) {
	n := testNode(t)
	behave := filepath.Join(n.Paths.Dir, "behave-agent")
	if err := os.WriteFile(behave, []byte("die"), 0o600); err != nil {
		t.Fatal(err)
	}
	start(t, n)
	waitFor(t, "it died four times", func() bool { return strings.Count(events(n), "agent died") >= 4 })
	os.Remove(behave)
	waitFor(t, "it lives", func() bool { _, ok := RoleFile(n, "agent").Read(); return ok })
}

func TestTheNextSupervisorAdopts(t *testing.T) {
	n := testNode(t)
	first := supervisor(t, n)
	agent, _ := RoleFile(n, "agent").Read()
	etcd, _ := RoleFile(n, "etcd").Read()
	kill(t, first, unix.SIGKILL)
	waitFor(t, "the supervisor is gone", func() bool { return !first.Alive() })
	// A lost pid file must not double a role.
	os.Remove(string(RoleFile(n, "etcd")))

	second := supervisor(t, n)
	if id, _ := RoleFile(n, "agent").Read(); id != agent {
		t.Errorf("agent is %v; want %v adopted", id, agent)
	}
	if id, _ := RoleFile(n, "etcd").Read(); id != etcd {
		t.Errorf("etcd is %v; want %v adopted", id, etcd)
	}
	kill(t, agent, unix.SIGKILL)
	waitFor(t, "the adopted agent is replaced", func() bool {
		id, _ := RoleFile(n, "agent").Read()
		return id != agent && isReady(n, RoleFile(n, "agent"))
	})
	kill(t, second, unix.SIGTERM)
	waitFor(t, "all is stopped", func() bool { return !second.Alive() && !etcd.Alive() })
	if got, want := events(n), "agent stopped, etcd stopped"; got != want {
		t.Errorf("events: %s; want %s", got, want)
	}
}

// The supervisor waits longer for a role than the role for its own parts.
func TestTheAgentEndsBeforeItIsKilled(t *testing.T) {
	for _, r := range Roles(testNode(t)) {
		if r.Name == "agent" && r.Grace <= agent.Grace {
			t.Errorf("the agent gets %s, and gives its parts %s", r.Grace, agent.Grace)
		}
	}
}

func TestThereIsOneSupervisor(t *testing.T) {
	n := testNode(t)
	first := supervisor(t, n)
	second := start(t, n)
	waitFor(t, "the second gives up", func() bool { return !second.Alive() })
	log, _ := os.ReadFile(filepath.Join(n.Paths.Log, "node.log"))
	if want := "node-running cannot start"; !strings.Contains(string(log), want) || !strings.Contains(string(log), "as process "+first.String()) {
		t.Errorf("log lacks %q and the first one's pid:\n%s", want, log)
	}
	if !first.Alive() {
		t.Error("the first supervisor is gone")
	}
}

func TestASecondSignalShortensTheGrace(t *testing.T) {
	n := testNode(t)
	if err := os.WriteFile(filepath.Join(n.Paths.Dir, "behave-agent"), []byte("stubborn"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := supervisor(t, n)
	server := startServer(t, n)
	kill(t, s, unix.SIGTERM)
	kill(t, s, unix.SIGTERM) // may merge with the first
	waitFor(t, "all is gone", func() bool { s.Signal(unix.SIGTERM); return !s.Alive() })
	if got, want := events(n), "etcd stopped"; got != want {
		t.Errorf("events: %s; want %s", got, want)
	}
	if server.Alive() {
		t.Error("the server of a killed agent runs on unguarded")
	}
}

func TestOrphansAreBuried(t *testing.T) {
	n := testNode(t)
	if err := os.WriteFile(filepath.Join(n.Paths.Dir, "behave-agent"), []byte("orphan"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := supervisor(t, n)
	var orphan process.ID
	waitFor(t, "the orphan is the supervisor's", func() bool {
		for _, p := range process.All() {
			if p.Parent == s.PID && strings.Join(p.Args(), " ") == n.Paths.Binary+" backend" {
				orphan = p.ID
			}
		}
		return orphan.PID != 0
	})
	kill(t, orphan, unix.SIGKILL)
	waitFor(t, "it is buried", func() bool { p, ok := process.Look(orphan.PID); return !ok || p.ID != orphan })
	if _, ok := RoleFile(n, "agent").Read(); !ok {
		t.Error("the agent did not survive its grandchild")
	}
}

func startServer(t *testing.T, n spec.Node) process.ID {
	t.Helper()
	// A process of a server is known by its program's name.
	program := filepath.Join(n.Paths.Dir, "postgres")
	if b, err := os.ReadFile(n.Paths.Binary); err != nil {
		t.Fatal(err)
	} else if err := os.WriteFile(program, b, 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "server", n.Postgres.Data)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { cmd.Wait(); close(done) }()
	t.Cleanup(func() {
		killServer(n.Postgres.Data)
		<-done
	})
	waitFor(t, "the server runs", func() bool { _, ok := Postmaster(n); return ok })
	id, _ := process.Of(cmd.Process.Pid)
	return id
}

// guarded starts a guard over a fake server whose page is open until deadline.
func guarded(t *testing.T, right time.Duration) (spec.Node, *lease.Writer, lease.Page, func()) {
	t.Helper()
	n := testNode(t)
	w, err := lease.Create(n.Paths.Page)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	startServer(t, n)
	p := lease.Page{Role: lease.Primary, Epoch: 5, Deadline: lease.Now() + right}
	if err := w.Set(p); err != nil {
		t.Fatal(err)
	}
	return n, w, p, startGuard(t, n)
}

func startGuard(t *testing.T, n spec.Node) (stop func()) {
	g := &Guard{
		Page: n.Paths.Page, Data: n.Postgres.Data, Note: filepath.Join(n.Paths.Run, "guard.json"),
		Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { g.Run(ctx); close(done) }()
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	return stop
}

func TestTheGuardFreezesAtTheDeadline(t *testing.T) {
	n, w, p, _ := guarded(t, 100*time.Millisecond)
	frozen := func() bool { return postgres.Frozen(n.Postgres.Data) }
	var worst time.Duration
	slow := 0
	for round := range 20 {
		waitFor(t, "the server is frozen", frozen)
		late := lease.Now() - p.Deadline
		worst = max(worst, late)
		if late > 250*time.Millisecond { // half of the margin
			slow++
		}
		if late < 0 || late > 500*time.Millisecond || slow > 2 {
			t.Errorf("round %d: frozen %s after the deadline, %d of them after more than half of the margin", round, late, slow)
		}
		waitFor(t, "the server runs again", func() bool { // a busy machine may look only when it is frozen once more
			p.Deadline = lease.Now() + 300*time.Millisecond
			if err := w.Set(p); err != nil {
				t.Fatal(err)
			}
			return !frozen()
		})
	}
	t.Logf("20 of 20; the last process was stopped at most %s after the deadline", worst)
}

func TestWhatTheGuardLeavesAlone(t *testing.T) {
	n, w, p, _ := guarded(t, 50*time.Millisecond)
	frozen := func() bool { return postgres.Frozen(n.Postgres.Data) }
	waitFor(t, "the server is frozen", frozen)
	// Another epoch does not thaw it, and the agent may kill it.
	p.Epoch++
	p.Deadline = lease.Now() + time.Hour
	if err := w.Set(p); err != nil {
		t.Fatal(err)
	}
	wait(t, 100*time.Millisecond)
	if !frozen() {
		t.Error("thawed by a page of another epoch")
	}
	if err := killServer(n.Postgres.Data); err != nil {
		t.Fatal(err)
	}
	// What starts afterwards as a replica is never frozen.
	if err := w.Set(lease.Page{Role: lease.Replica}); err != nil {
		t.Fatal(err)
	}
	startServer(t, n)
	wait(t, 2*glance)
	if frozen() {
		t.Error("a replica was frozen")
	}
}

func TestTheNextGuardThawsWhatTheLastOneFroze(t *testing.T) {
	n, w, p, stop := guarded(t, 50*time.Millisecond)
	frozen := func() bool { return postgres.Frozen(n.Postgres.Data) }
	waitFor(t, "the server is frozen", frozen)
	waitFor(t, "the note is there", func() bool { _, err := os.Stat(filepath.Join(n.Paths.Run, "guard.json")); return err == nil })
	stop()
	startGuard(t, n)
	p.Deadline = lease.Now() + time.Hour
	if err := w.Set(p); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the server runs again", func() bool { return !frozen() })
	// A page that goes away under a server that may write counts as over.
	if err := os.Remove(n.Paths.Page); err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	waitFor(t, "the server is frozen again", frozen)
}

// wait lets time pass in which something must not happen.
func wait(t *testing.T, d time.Duration) {
	t.Helper()
	select {
	case <-time.After(d):
	case <-t.Context().Done():
	}
}
