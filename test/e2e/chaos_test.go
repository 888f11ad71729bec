package e2e

import (
	"context"
	"flag"
	"testing"
	"time"

	"howdah/test/chaos"
)

var (
	chaosFor  = flag.Duration("chaos", 0, "how long the cluster is broken at random (2m, or 20 s in short mode)")
	chaosSeed = flag.Uint64("seed", 1, "of what TestChaos draws")
	chaosMode = flag.String("mode", "off", "synchronous_mode of the cluster that TestChaos breaks: off, on, quorum")
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
	w.up()
	w.undo()
	w.whole()
	keeps := *chaosMode != "off"
	if keeps {
		w.howdah("edit-config", "--yes", "--set", "synchronous_mode="+*chaosMode, "--set", "synchronous_mode_strict=true")
		w.until("no commit waits for anybody", func() bool { return w.sql("show synchronous_standby_names") != "" })
	}
	ctx, cancel := context.WithTimeout(t.Context(), long+3*forTest)
	defer cancel()
	report, err := chaos.Run(ctx, w.Cluster, chaos.Options{Seed: *chaosSeed, For: long, Keeps: keeps, Within: service, Log: t.Logf})
	t.Logf("\n%s", report)
	if err != nil {
		t.Error(err)
	}
}
