package gateway

import (
	"hash/fnv"
	"math/rand/v2"
	"net/netip"
	"slices"

	"howdah/access/route"
)

// balance chooses among the servers of a port. It is used under the port's lock.
type balance struct {
	current map[string]int // of the smooth weighted round-robin
}

// pick chooses one of usable, which is not empty, for a client. load tells how
// many sessions a member has.
func (b *balance) pick(how string, usable []route.Backend, client netip.Addr, load func(member string) int64) route.Backend {
	total := 0
	for _, u := range usable {
		total += u.Weight
	}
	switch how {
	case "first":
		return usable[0]
	case "source":
		h := fnv.New32a()
		h.Write(client.AsSlice())
		at := int(h.Sum32() % uint32(total))
		for _, u := range usable {
			if at -= u.Weight; at < 0 {
				return u
			}
		}
	case "random": // of two, the less loaded: HAProxy's default for random
		one, two := weighted(usable, total), weighted(usable, total)
		if lighter(two, one, load) {
			return two
		}
		return one
	case "leastconn":
		least := slices.MinFunc(usable, func(x, y route.Backend) int {
			switch {
			case lighter(x, y, load):
				return -1
			case lighter(y, x, load):
				return 1
			}
			return 0
		})
		// Those that are equally loaded take turns.
		usable = slices.DeleteFunc(slices.Clone(usable), func(u route.Backend) bool { return lighter(least, u, load) })
		total = 0
		for _, u := range usable {
			total += u.Weight
		}
	}
	return b.turn(usable, total)
}

// turn is nginx's smooth weighted round-robin: everyone gains its weight, the
// richest is chosen and pays the total.
func (b *balance) turn(usable []route.Backend, total int) route.Backend {
	if b.current == nil {
		b.current = map[string]int{}
	}
	best := 0
	for i, u := range usable {
		b.current[u.Member] += u.Weight
		if b.current[u.Member] > b.current[usable[best].Member] {
			best = i
		}
	}
	b.current[usable[best].Member] -= total
	return usable[best]
}

// lighter says that x has fewer sessions than y for its weight.
func lighter(x, y route.Backend, load func(string) int64) bool {
	return load(x.Member)*int64(y.Weight) < load(y.Member)*int64(x.Weight)
}

func weighted(usable []route.Backend, total int) route.Backend {
	at := rand.IntN(total)
	for _, u := range usable {
		if at -= u.Weight; at < 0 {
			return u
		}
	}
	return usable[0]
}
