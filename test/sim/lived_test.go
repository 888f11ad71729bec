package sim

import (
	"cmp"
	"math"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
)

// lived is what lives came to.
type lived struct {
	*said
	total  Stats
	met    map[string]*[states]int // faults, by how they found the cluster
	broken []broken
}

// broken is a life in which a law was.
type broken struct {
	life
	what *Failure
}

func (v vocabulary) live() *lived { return &lived{said: v.listen(), met: map[string]*[states]int{}} }

func (l *lived) meet(fault string, s state) {
	if l.met[fault] == nil {
		l.met[fault] = new([states]int)
	}
	l.met[fault][s]++
}

func (l *lived) add(o *lived) {
	l.total.add(o.total)
	l.broken = append(l.broken, o.broken...)
	for what, n := range o.count {
		l.count[what] += n
	}
	for fault, all := range o.met {
		for s, n := range all {
			if l.met[fault] == nil {
				l.met[fault] = new([states]int)
			}
			l.met[fault][s] += n
		}
	}
}

// all lives so many lives, each in one goroutine, and as many at a time as there
// are processors. Nothing is kept of a life but what it came to.
func (v vocabulary) all(count int, options func(i int) Options) *lived {
	var each []*lived
	var next atomic.Int64
	var wait sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		l := v.live()
		each = append(each, l)
		wait.Go(func() {
			for i := int(next.Add(1)) - 1; i < count; i = int(next.Add(1)) - 1 {
				o := options(i)
				o.Heard, o.Met = l.hear, l.meet
				w := New(o)
				w.Live()
				l.total.add(w.Stats)
				if w.Failed != nil {
					l.broken = append(l.broken, broken{life{o.Seed, o.Dense}, w.Failed})
				}
			}
		})
	}
	wait.Wait()
	sum := v.live()
	for _, l := range each {
		sum.add(l)
	}
	slices.SortFunc(sum.broken, func(a, b broken) int { return cmp.Compare(a.seed, b.seed) })
	return sum
}

// rarest is the fault that was met with least.
func (l *lived) rarest() (fault string, times int) {
	times = math.MaxInt
	for _, f := range faults {
		n := 0
		if met := l.met[f.name]; met != nil {
			for _, m := range met {
				n += m
			}
		}
		if n < times {
			fault, times = f.name, n
		}
	}
	return fault, times
}
