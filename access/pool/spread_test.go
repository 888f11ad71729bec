package pool

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestWhatMovesBetweenLoops(t *testing.T) {
	part := func(name string, work float64) Part { return Part{Pair: Key{Database: name}, Work: work} }
	loop := func(parts ...Part) (b Burden) {
		for _, p := range parts {
			b.Busy += p.Work
		}
		b.Parts = parts
		return b
	}
	for _, tt := range []struct {
		name  string
		loops []Burden
		want  string
	}{
		{"little to do", []Burden{loop(part("a", .3), part("b", .3)), loop()}, ""},
		{"a full loop gives half away", []Burden{loop(part("a", .5), part("b", .35)), loop()}, "b 0>1"},
		{"to one that is in use, rather than another", []Burden{loop(part("a", .5), part("b", .35)), loop(), loop(part("c", .1))}, "b 0>2"},
		{"unless that has much to do", []Burden{loop(part("a", .5), part("b", .35)), loop(part("c", .5)), loop()}, "b 0>2"},
		{"who fills a loop alone is left alone", []Burden{loop(part("a", .8), part("b", .05), part("c", .05)), loop()}, "b 0>1 c 0>1"},
		{"and stays", []Burden{loop(part("a", .95)), loop(part("b", .05))}, ""},
		{"what does nothing stays", []Burden{loop(part("a", .45), part("b", 0), part("c", .4)), loop()}, "c 0>1"},
		{"between much and little", []Burden{loop(part("a", .3)), loop(part("b", .2))}, ""},
		{"little: back to the first", []Burden{loop(part("a", .1)), loop(part("b", .1), part("c", 0)), loop(part("d", .1))}, "b 1>0 c 1>0 d 2>0"},
		{"all are full", []Burden{loop(part("a", .9)), loop(part("b", .9))}, ""},
		{"there is no other", []Burden{loop(part("a", .5), part("b", .5))}, ""},
	} {
		got := ""
		for _, m := range DefaultSpread().Moves(tt.loops) {
			got += fmt.Sprintf(" %s %d>%d", m.Pair.Database, m.From, m.To)
		}
		if want := tt.want; got != want && got != " "+want {
			t.Errorf("%s:%s; want %s", tt.name, got, want)
		}
	}
}

// While what there is to do stays as it is, moves end; none makes the busiest loop busier.
func TestMovesEnd(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		loops := make([]Burden, rapid.IntRange(1, 4).Draw(t, "loops"))
		for i := range rapid.IntRange(0, 12).Draw(t, "parts") {
			on := rapid.IntRange(0, len(loops)-1).Draw(t, "on")
			p := Part{Pair: Key{Database: fmt.Sprint(i)}, Work: rapid.Float64Range(0, 0.6).Draw(t, "work")}
			loops[on].Parts = append(loops[on].Parts, p)
			loops[on].Busy += p.Work
		}
		s := DefaultSpread()
		busiest := func() float64 {
			return slices.MaxFunc(loops, func(x, y Burden) int {
				if x.Busy < y.Busy {
					return -1
				}
				return 1
			}).Busy
		}
		for round := 0; ; round++ {
			moves := s.Moves(loops)
			if len(moves) == 0 {
				break
			}
			if round > 30 {
				t.Fatalf("they do not end: %+v", loops)
			}
			before := busiest()
			for _, m := range moves {
				from, to := &loops[m.From], &loops[m.To]
				i := slices.IndexFunc(from.Parts, func(p Part) bool { return p.Pair == m.Pair })
				p := from.Parts[i]
				from.Parts, from.Busy = slices.Delete(slices.Clone(from.Parts), i, i+1), from.Busy-p.Work
				to.Parts, to.Busy = append(slices.Clone(to.Parts), p), to.Busy+p.Work
			}
			if after := busiest(); after > max(before, s.Slack)+1e-9 {
				t.Fatalf("the busiest had %.3f to do, and has %.3f", before, after)
			}
		}
		sum, used := 0.0, 0
		for i, l := range loops {
			sum += l.Busy
			if i > 0 && len(l.Parts) > 0 {
				used++
			}
		}
		if sum < s.Slack && used > 0 {
			t.Fatalf("%d loops more are in use for %.3f", used, sum)
		}
	})
}
