package main

import (
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// A result is what one fault cost. Times are milliseconds; where they are
// instants they count from the fault.
type result struct {
	When      time.Time           `json:"when"`
	Subject   string              `json:"subject"`
	Profile   string              `json:"profile"`
	Scenario  string              `json:"scenario"`
	FaultOK   bool                `json:"fault_ok"`
	FaultMS   float64             `json:"fault_ms"`  // the command that broke something
	Recovered bool                `json:"recovered"` // without being mended
	Healed    bool                `json:"healed"`
	HealMS    float64             `json:"heal_ms"` // until the cluster was whole
	Services  map[string]*service `json:"services"`
	Acked     int                 `json:"acked"`
	Lost      map[string]int      `json:"lost"` // of them, gone afterwards, by class of writer
	Kept      int                 `json:"kept"` // failed for their client, and there all the same

	// Two primaries at once: rows of an older timeline that were sent after
	// the first of a newer one had been acknowledged.
	OverlapMS   float64 `json:"overlap_ms"`
	Overlap     int     `json:"overlap"`
	OverlapLive int     `json:"overlap_live"` // of them, by live writers

	InsideMS  float64    `json:"inside_ms"` // how long the old primary took rows from its own network
	Timelines []timeline `json:"timelines"`
	ReadFrom  string     `json:"read_from"`

	Foreign float64           `json:"foreign"` // cores that others on this machine used meanwhile
	Facts   map[string]string `json:"facts"`
}

// A service is what the live writers of one port felt, between the fault and its mending.
type service struct {
	OutageMS      float64        `json:"outage_ms"`       // longest time in which none of them was acknowledged
	DownMS        float64        `json:"down_ms"`         // all such times of at least a quarter of a second
	WorstClientMS float64        `json:"worst_client_ms"` // the same for one of them
	FailedTx      int            `json:"failed_tx"`       // statements that failed on an open connection
	FailedConnect int            `json:"failed_connect"`
	Errors        map[string]int `json:"errors"`
}

// A timeline is one reign as its clients saw it.
type timeline struct {
	Number  string  `json:"number"`
	Node    string  `json:"node"`
	Acks    int     `json:"acks"`
	FirstMS float64 `json:"first_ms"`
	LastMS  float64 `json:"last_ms"`
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// An episode is what the writers kept of one fault.
type episode struct {
	writers          []*writer
	fault, heal, end time.Duration
	present          map[int64]bool // what is in the table afterwards
}

func (e episode) judge(r *result) {
	r.Services, r.Lost = map[string]*service{}, map[string]int{}
	for _, w := range e.writers {
		if w.class == live && r.Services[w.service] == nil {
			r.Services[w.service] = e.service(w.service)
		}
		r.Acked += len(w.acks)
		for _, a := range w.acks {
			if !e.present[a.row] {
				r.Lost[w.class]++
			}
		}
		for _, f := range w.fails {
			if f.row != 0 && e.present[f.row] {
				r.Kept++
			}
		}
	}
	e.reigns(r)
}

// service judges one port by its live writers.
func (e episode) service(name string) *service {
	s := &service{Errors: map[string]int{}}
	var together []ack
	for _, w := range of(e.writers, live) {
		if w.service != name {
			continue
		}
		together = append(together, w.acks...)
		s.WorstClientMS = max(s.WorstClientMS, ms(slices.Max(e.gaps(w.acks))))
		for _, f := range w.fails {
			switch {
			case f.at < e.fault || f.at > e.heal:
			case f.row != 0:
				s.FailedTx++
				s.Errors["statement: "+f.what]++
			default:
				s.FailedConnect++
				s.Errors["connection: "+f.what]++
			}
		}
	}
	slices.SortFunc(together, func(a, b ack) int { return int(a.got - b.got) })
	for _, gap := range e.gaps(together) {
		s.OutageMS = max(s.OutageMS, ms(gap))
		if gap >= 250*time.Millisecond {
			s.DownMS += ms(gap)
		}
	}
	return s
}

// gaps are the times between two acknowledgements that end after the fault and
// begin before its mending. Who was never acknowledged again was not until the end.
func (e episode) gaps(acks []ack) []time.Duration {
	gaps := []time.Duration{0}
	last := time.Duration(0)
	for _, a := range acks {
		if a.got > e.fault && last <= e.heal {
			gaps = append(gaps, a.got-last)
		}
		last = a.got
	}
	if last <= e.heal {
		gaps = append(gaps, e.end-last)
	}
	return gaps
}

// reigns finds out who led when, and whether two did at once.
func (e episode) reigns(r *result) {
	type reign struct{ timeline, node string }
	seen := map[reign]*timeline{}
	first := map[string]time.Duration{} // acknowledgement of each timeline
	before := ""                        // the timeline at the fault
	for _, w := range e.writers {
		for _, a := range w.acks {
			at := ms(a.got - e.fault)
			k := reign{a.timeline, filepath.Base(filepath.Dir(a.node))}
			t := seen[k]
			if t == nil {
				t = &timeline{Number: k.timeline, Node: k.node, FirstMS: at, LastMS: at}
				seen[k] = t
			}
			t.Acks++
			t.FirstMS, t.LastMS = min(t.FirstMS, at), max(t.LastMS, at)
			if f, ok := first[a.timeline]; !ok || a.got < f {
				first[a.timeline] = a.got
			}
			if a.got < e.fault {
				before = max(before, a.timeline)
			}
		}
	}
	for _, t := range seen {
		r.Timelines = append(r.Timelines, *t)
	}
	slices.SortFunc(r.Timelines, func(a, b timeline) int { return strings.Compare(a.Number+a.Node, b.Number+b.Node) })
	for _, w := range e.writers {
		for _, a := range w.acks {
			if newer, ok := after(first, a.timeline); ok && a.sent > newer {
				r.Overlap++
				if w.class == live {
					r.OverlapLive++
				}
				r.OverlapMS = max(r.OverlapMS, ms(a.got-newer))
			}
			if w.class == inside && a.timeline == before && a.got > e.fault {
				r.InsideMS = max(r.InsideMS, ms(a.got-e.fault))
			}
		}
	}
}

// after is when the first timeline newer than the given one was acknowledged.
func after(first map[string]time.Duration, than string) (at time.Duration, ok bool) {
	for number, t := range first {
		if number > than && (!ok || t < at) {
			at, ok = t, true
		}
	}
	return at, ok
}
