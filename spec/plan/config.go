package plan

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"howdah/cluster"
)

// Below is where PostgreSQL's parameters stand in the dynamic configuration.
const Below = "postgresql.parameters."

// patronis are the keys that Patroni's bootstrap puts there; nobody need declare them.
var patronis = []string{"ttl", "loop_wait", "retry_timeout", "maximum_lag_on_failover", "postgresql.use_pg_rewind", "postgresql.use_slots"}

// Config is what a dynamic configuration has to become to have what is
// declared: the steps, and the configuration after them. begin is what a new
// cluster begins with besides, which one that is there is only compared with.
// contexts are those of pg_settings, by name; parameters are what the members'
// descriptions have, which it overrides.
func Config(want, begin map[string]any, have cluster.Config, contexts, parameters map[string]string, prune bool) (Plan, map[string]any) {
	var p Plan
	next, _ := have.Patched(want)
	old, now, declared := flat(have.Data), flat(next), flat(want)
	if prune {
		patch := map[string]any{}
		for name := range strays(now, declared) {
			if param, ok := strings.CutPrefix(name, Below); ok {
				patch[param] = nil
			}
		}
		if len(patch) > 0 {
			next, _ = cluster.Config{Data: next}.Patched(map[string]any{"postgresql": map[string]any{"parameters": patch}})
			now = flat(next)
		}
	}
	var changed []Setting
	risk := Safe
	for _, name := range slices.Sorted(maps.Keys(union(old, now))) {
		if old[name] == now[name] {
			continue
		}
		changed = append(changed, Setting{name, old[name], now[name]})
		r := Reload
		if param, ok := strings.CutPrefix(name, Below); ok {
			r = Context(contexts[param])
		}
		if r.Over(risk) {
			risk = r
		}
	}
	if len(changed) > 0 {
		why := "every member obeys it at once"
		if risk == Restart {
			why += "; some of it counts after a restart"
		}
		p.Steps = append(p.Steps, Step{
			Object: "configuration", What: "change the dynamic configuration: " + names(changed), Risk: risk, Why: why, Settings: changed,
		})
	}
	begun := flat(begin)
	for _, name := range slices.Sorted(maps.Keys(union(strays(now, declared), begun))) {
		note := Note{Object: "configuration", What: "has " + name + " = " + now[name]}
		if first, ok := begun[name]; ok {
			if now[name] == first || declared[name] != "" {
				continue
			}
			if now[name] == "" {
				note.What = "has no " + name
			}
			note.Why = "a new cluster begins with " + first + "; this one keeps its own"
		}
		if param, ok := strings.CutPrefix(name, Below); ok {
			if v, has := parameters[param]; has && v != now[name] {
				note.Why = "it counts over the inventory's " + v
			}
		}
		p.Drift = append(p.Drift, note)
	}
	return p, next
}

// strays are the keys that nobody declared.
func strays(now, declared map[string]string) map[string]string {
	all := map[string]string{}
	for name, v := range now {
		if _, known := declared[name]; !known && !slices.Contains(patronis, name) {
			all[name] = v
		}
	}
	return all
}

func union(a, b map[string]string) map[string]string {
	all := maps.Clone(a)
	maps.Copy(all, b)
	return all
}

// flat are the values of a tree by their paths.
func flat(tree map[string]any) map[string]string {
	all := map[string]string{}
	var walk func(prefix string, v any)
	walk = func(prefix string, v any) {
		switch v := v.(type) {
		case nil:
		case map[string]any:
			for name, inner := range v {
				walk(prefix+"."+name, inner)
			}
		case []any:
			text, err := json.Marshal(v)
			if err != nil {
				text = fmt.Append(nil, v)
			}
			all[prefix[1:]] = string(text)
		default:
			all[prefix[1:]] = fmt.Sprint(v)
		}
	}
	for name, v := range tree {
		walk("."+name, v)
	}
	return all
}

// Context is what it costs to change a parameter of that context (pg_settings).
func Context(context string) Risk {
	switch context {
	case "postmaster":
		return Restart
	case "internal":
		return Destructive // it never changes while the data live
	}
	return Reload
}
