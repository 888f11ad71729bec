package sim

import "time"

// Live is the whole life of one cluster: it is founded, then lives through
// quiet and bad times, and is whole again after each.
func (w *World) Live() {
	for _, n := range w.nodes {
		w.after(w.draw(0, 3*time.Second), n.powerOn)
	}
	w.awaitWhole("founding", 2*time.Minute)
	for range 12 {
		if w.Failed != nil || w.laws.hole {
			return
		}
		w.client.start()
		w.run(w.now + w.draw(500*time.Millisecond, 5*time.Second))
		if w.chance(0.4) {
			w.planned()
		} else {
			w.chaos()
		}
		w.client.stop()
		w.awaitWhole("healed", w.patience())
	}
}

// patience is how long a healed cluster may take to be whole.
func (w *World) patience() time.Duration {
	return 90*time.Second + 4*w.Timers.Lease + 8*w.Timers.Grace
}

// planned is one thing that may lose nothing, on a cluster that is well.
func (w *World) planned() {
	var mild []fault
	for _, f := range faults {
		if !f.loses {
			mild = append(mild, f)
		}
	}
	f := mild[w.rng.IntN(len(mild))]
	r := w.rates
	w.rates.lose, w.rates.slow, w.rates.fail = 0, 0, 0
	n := w.nodes[w.rng.IntN(len(w.nodes))]
	if l := w.leader(); l != nil && w.chance(0.6) {
		n = l
	}
	w.say("planned: %s %s", f.name, n.name)
	w.Stats.Faults++
	f.do(w, n)
	w.run(w.now + w.draw(5*time.Second, 20*time.Second))
	w.rates = r
	w.heal()
}

// chaos is a burst of faults.
func (w *World) chaos() {
	total := 0
	for _, f := range faults {
		total += f.weight
	}
	w.laws.excused = true
	end := w.now + w.draw(time.Second, 40*time.Second)
	for w.Failed == nil && w.now < end {
		k := w.rng.IntN(total)
		for _, f := range faults {
			if k -= f.weight; k < 0 {
				n := w.nodes[w.rng.IntN(len(w.nodes))]
				if l := w.leader(); l != nil && w.chance(0.5) {
					n = l
				}
				w.say("fault: %s %s", f.name, n.name)
				w.Stats.Faults++
				f.do(w, n)
				break
			}
		}
		w.run(w.now + w.draw(0, 10*time.Second))
	}
	w.heal()
}

// awaitWhole is the law of liveness: what is healed is whole again in time.
func (w *World) awaitWhole(what string, limit time.Duration) {
	// What the faults have cost a leader of its lease is seen after two renewals.
	w.run(w.now + 2*w.Timers.Renew + 2*w.Timers.Retry)
	ok := w.until(limit, func() bool { ok, _ := w.settled(); return ok || w.laws.hole })
	if w.Failed != nil || w.laws.hole {
		return
	}
	if !ok {
		_, why := w.settled()
		for _, n := range w.nodes {
			w.say("%s: %s; last %s", n.name, n.server, n.last)
		}
		w.fail("liveness", "%s, and not whole after %s: %s", what, limit, why)
		return
	}
	w.say("whole: %s leads", w.leader().name)
	w.settle()
}
