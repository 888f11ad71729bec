package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	faultAt = 3 * time.Second
	healAt  = 20 * time.Second
	endAt   = 22 * time.Second
)

// written is a writer whose rows were acknowledged at the given milliseconds
// after the fault, by timeline.
func written(class, service string, number int64, acked map[string][]int) *writer {
	w := &writer{class: class, service: service, number: number}
	for tl, times := range acked {
		for _, n := range times {
			got := faultAt + time.Duration(n)*time.Millisecond
			w.acks = append(w.acks, ack{row: number<<40 | int64(n+10_000), sent: got - 5*time.Millisecond, got: got, timeline: tl, node: "/x/n" + tl + "/data"})
		}
	}
	slices.SortFunc(w.acks, func(a, b ack) int { return int(a.got - b.got) })
	return w
}

// steady is every hundred milliseconds.
func steady(from, to int) []int {
	var all []int
	for n := from; n < to; n += 100 {
		all = append(all, n)
	}
	return all
}

func judged(except []int64, writers ...*writer) result {
	e := episode{writers: writers, fault: faultAt, heal: healAt, end: endAt, present: map[int64]bool{}}
	for _, w := range writers {
		for _, a := range w.acks {
			e.present[a.row] = !slices.Contains(except, a.row)
		}
	}
	var r result
	e.judge(&r)
	return r
}

func TestAnOutageIsWhatNoLiveWriterEscapes(t *testing.T) {
	a := written(live, "rw", 1, map[string][]int{"1": steady(-2000, 1), "2": steady(4000, 18_000)})
	b := written(live, "rw", 2, map[string][]int{"1": steady(-2000, 1), "2": steady(3050, 18_000)})
	c := written(faulted, "rw", 3, map[string][]int{"1": steady(-2000, 1)})
	r := judged(nil, a, b, c)
	s := r.Services["rw"]
	if s.OutageMS != 3050 || s.WorstClientMS != 4000 || s.DownMS != 3050 {
		t.Errorf("got %+v, want an outage of 3050 ms and a worst client of 4000", s)
	}
	if r.Overlap != 0 || len(r.Lost) != 0 || len(r.Timelines) != 2 {
		t.Errorf("a plain failover was judged as %+v", r)
	}
}

func TestAnOutageWithoutEndLastsToTheEnd(t *testing.T) {
	r := judged(nil, written(live, "rw", 1, map[string][]int{"1": steady(-2000, 1)}))
	if got, want := r.Services["rw"].OutageMS, ms(endAt-faultAt); got != want {
		t.Errorf("outage of %v ms, want %v", got, want)
	}
}

func TestTwoPrimariesAtOnce(t *testing.T) {
	old := written(inside, "inside", 1, map[string][]int{"1": steady(-2000, 5001)})
	fresh := written(live, "rw", 2, map[string][]int{"1": steady(-2000, 1), "2": steady(4000, 18_000)})
	lost := []int64{old.acks[len(old.acks)-1].row, old.acks[len(old.acks)-2].row}
	r := judged(lost, old, fresh)
	if r.Overlap != 10 || r.OverlapLive != 0 || r.OverlapMS != 1000 || r.InsideMS != 5000 || r.Lost[inside] != 2 || r.Lost[live] != 0 {
		t.Errorf("got overlap %d (%d live) of %v ms, inside for %v ms, lost %v", r.Overlap, r.OverlapLive, r.OverlapMS, r.InsideMS, r.Lost)
	}
}

func TestPage(t *testing.T) {
	run := func(subject, scenario string, outage float64) result {
		return result{
			When: time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC), Subject: subject, Profile: "default", Scenario: scenario, Recovered: true,
			Services: map[string]*service{"rw": {OutageMS: outage}}, Facts: map[string]string{"versions": "v1", "timers": "t", "cores": "2"},
		}
	}
	text := page([]result{run("patroni-stack", "node-loss", 30_000), run("howdah", "node-loss", 6000), run("howdah", "node-loss", 5000)})
	for _, want := range []string{
		"| fault at the primary | through | patroni-stack, default | howdah, default |",
		"| node lost | 5433 | 30000 | 5500 (6000) |",
		"- **howdah, default**: v1; t. 2 runs on 21 November 2026;",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	if strings.Contains(text, "postmaster") {
		t.Errorf("what was not measured is on the page\n%s", text)
	}
}

func TestPrint(t *testing.T) {
	dir := t.TempDir()
	readme, results := filepath.Join(dir, "README.md"), filepath.Join(dir, "r.jsonl")
	write := func(path, text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(results, `{"subject":"howdah","profile":"default","scenario":"switchover","recovered":true,"services":{"rw":{"outage_ms":12}}}`+"\n")
	write(readme, "before\n"+mark+"old\n"+end+"after\n")
	if err := printInto([]string{readme, results}); err != nil {
		t.Fatal(err)
	}
	text, _ := os.ReadFile(readme)
	if got := string(text); !strings.HasPrefix(got, "before\n") || !strings.HasSuffix(got, end+"after\n") || strings.Contains(got, "old\n") || !strings.Contains(got, "switchover, planned | 5433 | 12 ") {
		t.Errorf("printed\n%s", got)
	}
	write(readme, "no marks\n")
	if err := printInto([]string{readme, results}); err == nil {
		t.Error("printed into a file without a place for it")
	}
}
