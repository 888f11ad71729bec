package e2e

import (
	"testing"
	"time"

	"howdah/test/volume"
)

// The leader's disk hangs, with etcd's member and the logs on it, and lets no process
// end: another member leads, and nothing that was acknowledged is lost. When the disk
// is well again the machine comes back by itself.
func TestHungDisk(t *testing.T) {
	byNight(t)
	var unmount func()
	t.Cleanup(func() { // once the cluster is no more
		if unmount != nil {
			unmount()
		}
	})
	w := own(t)
	w.up()
	w.whole()
	unmount = w.disks(allOf)
	w.voters(2)
	writer := w.write()
	for range 2 {
		n := w.Node(w.whole())
		w.voters(2)
		w.flowing(writer)
		hung := time.Now()
		w.check(volume.Hang(n.Paths.Dir))
		t.Cleanup(func() { _ = volume.Resume(n.Paths.Dir) })
		w.until("another member leads", func() bool { l := w.leader(); return l != "" && l != n.Member })
		elected := time.Since(hung)
		w.flowing(writer)
		outage := writer.Longest(hung, time.Now())
		t.Logf("disk of %s hung: another led after %s, %s without writes", n.Member, elected.Round(time.Millisecond), outage.Round(time.Millisecond))
		if outage > 50*time.Second { // 30 s of patience, the death of what can not end, an election
			t.Errorf("%s without writes", outage)
		}
		w.check(volume.Resume(n.Paths.Dir))
		w.whole()
	}
	w.voters(2)
	w.kept(writer)
}
