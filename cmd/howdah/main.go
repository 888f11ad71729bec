// Command howdah is the whole product: the command line, and the daemons that
// it starts.
//
// This package only composes: arguments go to cli, roles to the packages that
// run them; signals end the context, and only here the process ends.
package main

import (
	"cmp"
	"context"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"howdah/cli"
	"howdah/node/process"
)

// version is set when a release is built (-ldflags "-X main.version=…").
var version string

func main() { os.Exit(run()) }

func run() int {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		<-signals
		cancel()
		// What hangs in its end is given a little longer after a second signal.
		<-signals
		time.Sleep(haste)
		os.Exit(1)
	}()
	return cli.Run(ctx, os.Args[1:], cli.Process{
		In: os.Stdin, Out: os.Stdout, Err: os.Stderr,
		Terminal: terminal(os.Stdin) && terminal(os.Stdout),
		Env:      os.Getenv,
		Root:     os.Geteuid() == 0,
		Version:  built(),
		Called:   os.Args[0],
		Roles: cli.Roles{
			Node: superviseNode, Machine: runMachine, Agent: settled(runAgent), Gateway: settled(runGateway), Etcd: settled(serveEtcd),
			Keep: settled(keepPlayground), Jobs: settled(runJobs), Observe: settled(runObserve), VIP: settled(runVIP), DNS: settled(runDNS), PgExporter: runPgExporter, Replica: makeReplica, Found: makeFirst,
		},
		Exec: syscall.Exec,
	})
}

// settled is the daemon run, which lets go of what only its start needed when that
// is over. The supervisor does so when it begins, and is locked in memory then.
func settled(run func(context.Context, string) error) func(context.Context, string) error {
	return func(ctx context.Context, dir string) error {
		timer := time.AfterFunc(settle, func() { _ = process.Settle() }) // without it all is as before
		defer timer.Stop()
		return run(ctx, dir)
	}
}

// settle is when a start is over: nothing is lost if it is not.
const settle = 20 * time.Second

// haste is the grace after a second signal. The supervisor needs most of it to
// stop its roles in a hurry.
const haste = 10 * time.Second

func terminal(f *os.File) bool {
	st, err := f.Stat()
	return err == nil && st.Mode()&os.ModeCharDevice != 0 && isTerminal(f.Fd())
}

// built says what this program was built from, as far as the build recorded it.
func built() cli.Version {
	v := cli.Version{Version: version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		v.Version = cmp.Or(version, "unknown")
		return v
	}
	if module := info.Main.Version; module != "(devel)" {
		v.Version = cmp.Or(version, module)
	}
	v.Version = cmp.Or(v.Version, "development")
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Commit = s.Value
		case "vcs.time":
			v.At = s.Value
		case "vcs.modified":
			v.Modified = s.Value == "true"
		}
	}
	for _, m := range info.Deps {
		if m.Path == "go.etcd.io/etcd/server/v3" {
			v.Etcd = strings.TrimPrefix(m.Version, "v")
		}
	}
	return v
}
