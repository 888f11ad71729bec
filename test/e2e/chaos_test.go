package e2e

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"howdah/spec"
	"howdah/test/chaos"
	"howdah/test/volume"
)

var (
	chaosFor  = flag.Duration("chaos", 0, "how long the cluster is broken at random (2m, or 20 s in short mode)")
	chaosSeed = flag.Uint64("seed", 1, "of what TestChaos draws")
	chaosMode = flag.String("mode", "quorum", "synchronous_mode of the cluster that TestChaos breaks: off, on, quorum")
	chaosDisk = flag.Bool("disks", false, "TestChaos gives every node a file system of its own, in memory (2 GB each), and fills, hangs and slows it; needs root")
	chaosAway = flag.Bool("away", false, "TestChaos takes all of etcd away, up to a minute at a time, with other faults meanwhile")
	proof     = flag.String("proof", "", "directory that TestChaos writes its report into, as MODE-SEED.md")
)

// service is what it may take, on a busy machine, until clients write again
// once nothing is broken.
const service = 60 * time.Second

func TestChaos(t *testing.T) {
	long := *chaosFor
	if long == 0 {
		long = 2 * time.Minute
		if testing.Short() {
			long = 20 * time.Second
		}
	}
	var unmount func()
	t.Cleanup(func() { // once the cluster is no more
		if unmount != nil {
			unmount()
		}
	})
	w := own(t)
	keeps := *chaosMode != "off"
	if keeps {
		w.up()
	} else {
		w.check(w.Up(w.ctx, "--max-loss", "1MB"))
	}
	w.undo()
	w.whole()
	if *chaosDisk {
		unmount = w.disks(allOf)
	}
	if *chaosMode == "on" {
		w.howdah("edit-config", "--yes", "--set", "synchronous_mode=on")
		w.until("somebody else counts", func() bool { return strings.Contains(w.howdah("list"), "Sync Standby") })
	}
	ctx, cancel := context.WithTimeout(t.Context(), long+3*forTest)
	defer cancel()
	report, err := chaos.Run(ctx, w.Cluster, chaos.Options{Seed: *chaosSeed, For: long, Keeps: keeps, Disks: *chaosDisk, Away: *chaosAway, Within: service, Log: t.Logf})
	t.Logf("\n%s", report)
	if err != nil {
		t.Error(err)
	}
	if *proof != "" {
		w.proven(report, long, err)
	}
}

// allOf is all of a node, for disks.
func allOf(n spec.Node) string { return n.Paths.Dir }

// disks moves what each node has in a directory onto a file system of its own, which the
// caller unmounts.
func (w *world) disks(of func(spec.Node) string) (unmount func()) {
	w.t.Helper()
	root(w.t)
	w.howdah("down", "--yes")
	var undo []func() error
	for _, n := range w.Nodes {
		dir := of(n)
		w.check(os.Rename(dir, dir+".aside"))
		w.check(os.Mkdir(dir, 0o755))
		u, err := volume.Mount(dir, 2<<30)
		w.check(err)
		undo = append(undo, u)
		w.run("cp", "-a", dir+".aside/.", dir)
		w.check(os.RemoveAll(dir + ".aside"))
	}
	w.up()
	w.whole()
	return func() {
		for i, u := range undo {
			_ = u()
			_ = os.RemoveAll(of(w.Nodes[i]))
		}
		_ = os.RemoveAll(w.Dir)
	}
}

// proven writes what was seen, with how to see it again.
func (w *world) proven(report chaos.Report, long time.Duration, failed error) {
	w.t.Helper()
	verdict := "Nothing that may not be was seen."
	if failed != nil {
		verdict = "**Failed**: " + failed.Error()
	}
	more := ""
	if *chaosDisk {
		more = " -disks"
	}
	if *chaosAway {
		more += " -away"
	}
	version, err := w.Run(context.Background(), "version")
	w.check(err)
	load, _ := os.ReadFile("/proc/loadavg")
	text := fmt.Sprintf("# synchronous_mode %s, seed %d\n\n`make chaos ARGS=\"-chaos %s -mode %s -seed %d%s\"` on %s, %d processors, load %s at its end; %s\n\n%s\n\n%s\n",
		*chaosMode, report.Seed, long, *chaosMode, report.Seed, more, time.Now().UTC().Format(time.DateOnly), runtime.NumCPU(),
		strings.Join(strings.Fields(string(load))[:3], " "), strings.TrimSpace(version.Out), report, verdict)
	w.check(os.WriteFile(filepath.Join(*proof, fmt.Sprintf("%s-%d.md", *chaosMode, report.Seed)), []byte(text+report.Timeline()), 0o644))
}
