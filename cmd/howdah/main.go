// Command howdah is the whole product: the command line, and the daemons that
// it starts.
//
// This package only composes: arguments go to cli, roles to the packages that
// run them; signals end the context, and only here the process ends.
package main

import (
	"context"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"howdah/cli"
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
		Version:  versionText(),
		Called:   os.Args[0],
		Roles:    cli.Roles{Node: superviseNode, Agent: runAgent, Etcd: serveEtcd, Keep: keepPlayground},
		Exec:     syscall.Exec,
	})
}

// haste is the grace after a second signal. The supervisor needs most of it to
// stop its roles in a hurry.
const haste = 10 * time.Second

func terminal(f *os.File) bool {
	st, err := f.Stat()
	return err == nil && st.Mode()&os.ModeCharDevice != 0 && isTerminal(f.Fd())
}

// versionText is the release, or the commit that was built.
func versionText() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	text := "development"
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision" && len(s.Value) >= 12:
			text += " " + s.Value[:12]
		case s.Key == "vcs.modified" && s.Value == "true":
			text += " (modified)"
		}
	}
	return text
}
