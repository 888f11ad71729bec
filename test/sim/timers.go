package sim

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"strconv"
	"strings"
	"time"

	"howdah/spec"
)

// patient is how many renewals, drawn as a quiet time, make a cluster one that
// sees hours between two faults. Nothing happens in them but renewals, so it
// renews as a cluster does that is left alone for hours: as slowly as its lease
// lets it, up to Patroni's loop_wait.
const patient = 100

// unhurried is half as long between two renewals as the lease would allow: the
// rest is for a store that is slow.
func unhurried(t spec.Timers) time.Duration {
	return max(t.Renew, min((t.Lease-2*t.Retry-t.Margin)/2, 10*time.Second))
}

// drawn fills a struct of settings from the ranges in its tags: sim:"1s..5s".
func drawn[T any](rng *rand.Rand, settings T) T {
	v := reflect.ValueOf(&settings).Elem()
	for i := range v.NumField() {
		tag, ok := v.Type().Field(i).Tag.Lookup("sim")
		if !ok {
			continue
		}
		lo, hi, ok := strings.Cut(tag, "..")
		f := v.Field(i)
		a, err1 := number(lo, f.Type())
		b, err2 := number(hi, f.Type())
		if !ok || err1 != nil || err2 != nil || b < a {
			panic(fmt.Sprintf("%s: range %q cannot be read", v.Type().Field(i).Name, tag))
		}
		f.SetInt(a + rng.Int64N(b-a+1))
		if f.Type() == reflect.TypeFor[time.Duration]() {
			f.SetInt(f.Int() / int64(time.Millisecond) * int64(time.Millisecond))
		}
	}
	return settings
}

func number(text string, t reflect.Type) (int64, error) {
	if t == reflect.TypeFor[time.Duration]() {
		d, err := time.ParseDuration(text)
		return int64(d), err
	}
	return strconv.ParseInt(text, 10, 64)
}
