package gateway

import (
	"testing"
	"time"

	"howdah/cluster"
)

// Before a planned change of leader nothing new begins at the leader, and the gateway
// says so; a client that comes then waits, until there is another leader, or until it is
// called off, or for as long as such a change may take.
func TestClientsAreHeldForAChangeOfLeader(t *testing.T) {
	for name, ends := range map[string]func(*world, string){
		"another leads": func(w *world, other string) {
			w.picture.Epoch, w.picture.Drain = 8, nil
			w.lead(other, time.Hour) // by the same name, so that the page is its right
		},
		"called off": func(w *world, _ string) { w.picture.Drain = nil; w.see() },
		"too long":   func(w *world, _ string) { w.g.fronts[0].tire(*w.picture.Drain) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, nil)
			w.g.wait = 20 * time.Second
			server, successor := newFake(t), newFake(t)
			w.lead(server.addr, time.Hour)
			before := w.dial("default")
			before.Write(startup("before"))
			server.next(t, startup("before"))

			w.picture.Drain = &cluster.PictureDrain{From: "a", To: "b", Generation: 9}
			w.see()
			eventually(t, "it is ready", func() bool { is, _ := w.g.fronts[0].standing.Get(); return is.ready == 9 })
			if is, _ := w.g.fronts[0].standing.Get(); is.held != 0 {
				t.Errorf("it holds, and was only told to whom: %+v", is)
			}
			w.picture.Drain = &cluster.PictureDrain{From: "a", To: "b", Generation: 10, Hold: true}
			w.see()
			if is, _ := w.g.fronts[0].standing.Get(); is.held != 10 || is.open != 0 {
				t.Errorf("it says %+v", is)
			}
			held := w.dial("default")
			held.Write(startup("held"))
			eventually(t, "a client waits", func() bool { return w.g.fronts[0].ports[2].waiting.Load() == 1 })
			if n := server.count.Load(); n != 1 {
				t.Errorf("%d connections to the leader", n)
			}
			to := server
			if name == "another leads" {
				to = successor
			}
			ends(w, successor.addr)
			to.next(t, startup("held"))
			if is, _ := w.g.fronts[0].standing.Get(); is.held != 0 || is.ready != 0 {
				t.Errorf("afterwards it says %+v", is)
			}
		})
	}
}
