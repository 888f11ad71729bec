package pooler

import (
	"testing"

	"howdah/access/pool"
)

// BenchmarkTransaction is what a query and its answer cost on the loop, with the sockets' share.
func BenchmarkTransaction(b *testing.B) {
	x := newBench(b, pool.Transaction)
	ask := appendMessage(nil, 'Q', "SELECT 1")
	answer := append(appendMessage(nil, 'C', "SELECT 1"), 'Z', 0, 0, 0, 5, 'I')
	for b.Loop() {
		x.feed(false, ask)
		x.feed(true, answer)
		x.said[0], x.said[1] = x.said[0][:0], x.said[1][:0]
	}
}
