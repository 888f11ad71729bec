package e2e

import (
	"context"
	"flag"
	"strings"
	"testing"
	"time"

	"howdah/test/chaos"
)

var (
	chaosFor  = flag.Duration("chaos", 0, "how long the cluster is broken at random (2m, or 20 s in short mode)")
	chaosSeed = flag.Uint64("seed", 1, "of what TestChaos draws")
	chaosMode = flag.String("mode", "quorum", "synchronous_mode of the cluster that TestChaos breaks: off, on, quorum")
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
	w := own(t)
	keeps := *chaosMode != "off"
	if keeps {
		w.up()
	} else {
		w.check(w.Up(w.ctx, "--max-loss", "1MB"))
	}
	w.undo()
	w.whole()
	if *chaosMode == "on" {
		w.howdah("edit-config", "--yes", "--set", "synchronous_mode=on")
		w.until("somebody else counts", func() bool { return strings.Contains(w.howdah("list"), "Sync Standby") })
	}
	ctx, cancel := context.WithTimeout(t.Context(), long+3*forTest)
	defer cancel()
	report, err := chaos.Run(ctx, w.Cluster, chaos.Options{Seed: *chaosSeed, For: long, Keeps: keeps, Within: service, Log: t.Logf})
	t.Logf("\n%s", report)
	if err != nil {
		t.Error(err)
	}
}
