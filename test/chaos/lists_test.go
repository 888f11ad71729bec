package chaos

import (
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// drawn is a history of one list as three clients saw it: of appends some answers are lost, of
// which some were done; wrong makes what one of them saw another list.
func drawn(draw *rand.Rand, operations int, lost float64, wrong bool) (history []porcupine.Operation) {
	list := ""
	var free [clients]int64 // when each client is
	for n := range operations {
		id := draw.IntN(clients)
		call := free[id]
		at := call + 1 + draw.Int64N(20) // when it is done
		for _, other := range history {
			if saw := other.Output.(sight); !saw.unknown {
				at = max(at, other.Call+1)
			}
		}
		op := porcupine.Operation{ClientId: id, Input: wish{list: 1}, Call: call, Return: at + draw.Int64N(20)}
		if draw.IntN(2) == 0 {
			op.Input = wish{list: 1, number: int64(n + 1)}
			if draw.Float64() < lost {
				op.Output, op.Return = sight{unknown: true}, 1<<62
				if draw.IntN(2) == 0 {
					list = strings.TrimPrefix(list+","+strconv.Itoa(n+1), ",")
				}
				history = append(history, op)
				free[id] = at + 20
				continue
			}
			list = strings.TrimPrefix(list+","+strconv.Itoa(n+1), ",")
		}
		op.Output = sight{list: list}
		if wrong && n == operations/2 {
			op.Output = sight{list: list + ",9999"}
		}
		history = append(history, op)
		for i := range free { // whoever comes later may overlap by little
			free[i] = max(free[i], at-draw.Int64N(5))
		}
		free[id] = op.Return + 1
	}
	return history
}

// A history of which less is left to guess is judged as the whole one.
func TestBoundedSaysTheSame(t *testing.T) {
	draw := rand.New(rand.NewPCG(1, 2))
	said := map[bool]int{}
	for range 2000 {
		history := drawn(draw, 4+draw.IntN(8), 0.4, draw.IntN(3) == 0)
		want := porcupine.CheckOperations(model, history)
		if got := porcupine.CheckOperations(model, bounded(history)); got != want {
			t.Fatalf("bounded %v, whole %v: %+v", got, want, history)
		}
		said[want]++
	}
	if said[true] < 200 || said[false] < 200 {
		t.Errorf("said %v", said)
	}
}

// Hundreds of answers that were lost leave nothing to guess.
func TestManyLostAnswersAreDecided(t *testing.T) {
	draw := rand.New(rand.NewPCG(3, 4))
	history := drawn(draw, 600, 0.5, false)
	began := time.Now()
	if r := porcupine.CheckOperationsTimeout(model, bounded(history), 20*time.Second); r == porcupine.Unknown {
		t.Errorf("not decided within %s", time.Since(began))
	}
}
