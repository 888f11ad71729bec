package exposition

import (
	"math"
	"testing"
)

// Series of a family stand together whenever they were told, and no value of a
// label leaves its quotes.
func TestText(t *testing.T) {
	var x Text
	x.Gauge("a", "first \\ and\nsecond", 1.5)
	x.Counter("b_total", "counts", 1<<60, "l", "q\"b\\s\nn", "m", "\xff")
	x.Gauge("a", "told already", math.Inf(1), "l", "")
	x.Untyped("c", "of whatever kind", math.NaN())
	want := `# HELP a first \\ and\nsecond
# TYPE a gauge
a 1.5
a{l=""} +Inf
# HELP b_total counts
# TYPE b_total counter
b_total{l="q\"b\\s\nn",m="` + "\uFFFD" + `"} 1.152921504606847e+18
# HELP c of whatever kind
# TYPE c untyped
c NaN
`
	if got := string(x.Bytes()); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
