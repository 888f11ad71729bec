package sim

import (
	"reflect"
	"strings"

	"howdah/dcs"
	"howdah/ha"
)

// A fail point is the instant right after something that an agent has written: to
// the store, to its machine's disk, or to its server. fatal is told every one of
// them, and says whether the agent is killed there, before it does anything else.
type fatal func(n *node, point string) bool

// killed is what ends a turn in which the agent was.
type killed struct{}

// wrote is told of a fail point.
func (w *World) wrote(n *node, point string) {
	if w.fatal == nil || n.loop == nil || !w.fatal(n, point) {
		return
	}
	w.say("%s: killed right after %s", n.name, point)
	if n.turning {
		panic(killed{})
	}
	n.crashAgent()
}

// takes is a turn of n that may be cut short; it says whether it was.
func (n *node) takes() (dead bool) {
	if n.w.fatal == nil {
		n.last = n.loop.Turn()
		return false
	}
	n.turning = true
	defer func() {
		n.turning = false
		if r := recover(); r != nil {
			if _, ours := r.(killed); !ours {
				panic(r)
			}
			dead = true
		}
	}()
	n.last = n.loop.Turn()
	return false
}

// typeOf is the name of an action's type.
func typeOf(a ha.Action) string { return reflect.TypeOf(a).Name() }

// asks names a request to the store: the action and, of notes, every key.
func asks(n *node, a ha.Action, r dcs.Request) string {
	if a.Lane() != ha.Note {
		return typeOf(a)
	}
	var all []string
	for _, op := range r.Ops {
		verb := "Put "
		if op.Delete {
			verb = "Drop "
		}
		key := strings.TrimRight(op.Key, "0123456789") // pages are numbered
		all = append(all, verb+strings.TrimSuffix(key, "/"+n.name))
	}
	return strings.Join(all, ", ")
}
