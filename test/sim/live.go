package sim

import (
	"slices"
	"time"
)

// Live is the whole life of one cluster: it is founded, then lives through
// quiet and bad times, and is whole again after each. How long the quiet times
// are is drawn for each cluster: some know nothing but trouble, others see
// hours of renewals between two faults.
func (w *World) Live() {
	for _, n := range w.nodes {
		w.after(w.draw(0, 3*time.Second), n.powerOn)
	}
	if w.chance(0.1) {
		w.strange(w.nodes[w.rng.IntN(len(w.nodes))])
	}
	w.openGateways()
	w.awaitWhole("founding", 2*time.Minute)
	if w.promises && w.Failed == nil {
		w.synchronous()
		w.awaitWhole("synchronous", 2*time.Minute)
	}
	for round := range 12 {
		if w.Failed != nil || w.laws.hole {
			return
		}
		if round > 0 || w.chance(0.5) { // some have their first change of leader at once
			w.quiet(w.draw(0, 2*w.rates.between))
		}
		switch {
		case w.aways && w.chance(0.5):
			w.silence()
		case w.chance(0.4):
			w.planned()
		case w.chance(0.7):
			w.chaos(w.draw(time.Second, 40*time.Second), 10*time.Second)
		default: // one thing after another, each of which may pass by itself
			w.chaos(w.draw(0, 4*w.rates.between), 2*w.rates.between)
		}
		w.client.stop()
		w.awaitWhole("healed", w.patience())
		if w.shadowed && round == 3 && w.Failed == nil {
			w.swap()
			w.awaitWhole("swapped", w.patience())
		}
		if w.follows && round == 8 && w.Failed == nil {
			w.lift()
			w.awaitWhole("promoted", w.patience())
		}
	}
}

// quiet is so long a time in which nothing new happens: often without clients,
// else with few rows. It ends with a moment of load.
func (w *World) quiet(long time.Duration) {
	full := w.rates.commit
	if w.client.stop(); w.chance(0.25) {
		w.rates.commit = 20 * full
		w.client.start()
	}
	w.run(w.now + long)
	w.rates.commit = full
	w.client.stop()
	w.client.start()
	w.run(w.now + w.draw(500*time.Millisecond, 5*time.Second))
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
	w.meet(f, n)
	w.run(w.now + w.draw(5*time.Second, 20*time.Second))
	w.rates = r
	w.heal()
}

// chaos is so long a time of faults, at most so far apart.
func (w *World) chaos(long, apart time.Duration) {
	w.mended = false
	kinds, total := faults, 0
	if w.quorum {
		kinds = slices.Concat(faults, waitFaults)
	}
	if w.hanging {
		kinds = slices.Concat(kinds, hungFaults)
	}
	if w.priority {
		kinds = slices.Concat(kinds, modeFaults)
	}
	for _, f := range kinds {
		total += f.weight
	}
	w.laws.excused = true
	end := w.now + long
	for w.Failed == nil && w.now < end {
		k := w.rng.IntN(total)
		for _, f := range kinds {
			if k -= f.weight; k < 0 {
				n := w.nodes[w.rng.IntN(len(w.nodes))]
				if l := w.leader(); l != nil && w.chance(0.5) {
					n = l
				}
				w.say("fault: %s %s", f.name, n.name)
				w.meet(f, n)
				break
			}
		}
		gap := w.draw(0, apart)
		w.run(w.now + min(gap, 10*time.Second))
		if gap > 10*time.Second {
			w.quiet(gap - 10*time.Second)
		}
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
