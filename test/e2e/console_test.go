package e2e

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"howdah/nodefile"
	"howdah/playground"
	"howdah/spec"
)

var pictures = flag.String("pictures", "", "directory that gets pictures of the console")

// The console in a browser shows what `howdah list` does, and does what somebody orders
// there who may: hands leadership over while rows are written, restarts, pauses, copies
// a member anew. A viewer finds no buttons. The page tells its console no error.
func TestConsole(t *testing.T) {
	byNight(t)
	b := browse(t)
	w := own(t)
	var cancel context.CancelFunc
	w.ctx, cancel = context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	w.check(w.Up(w.ctx, "--observe"))
	leader := w.whole()
	at := slices.IndexFunc(w.Nodes, func(n spec.Node) bool { return n.Observe.Console != "" })
	n := w.Nodes[at]
	secrets, err := nodefile.Secrets(spec.Node{Paths: spec.Paths{Secrets: n.Observe.Secrets}})
	w.check(err)
	_, port, err := net.SplitHostPort(n.Observe.Console)
	w.check(err)
	is := func(want string) func(string) bool { return func(got string) bool { return got == want } }
	has := func(want string) func(string) bool {
		return func(got string) bool { return strings.Contains(got, want) }
	}
	script := func(text string) {
		t.Helper()
		if _, err := b.eval(text); err != nil {
			t.Fatal(err)
		}
	}
	enter := func(secret string) {
		t.Helper()
		b.until(w.ctx, "the form", `document.getElementById('password') ? 'there' : ''`, is("there"))
		script(fmt.Sprintf(`document.getElementById('password').value = %q; document.querySelector('form').requestSubmit()`, secrets[secret].Reveal()))
		b.until(w.ctx, "the page", `document.getElementById('health')?.textContent`, is("healthy"))
	}
	// order presses a button, reads what that would do, and confirms it.
	order := func(press, seen, typed string) {
		t.Helper()
		b.until(w.ctx, press, fmt.Sprintf(`document.querySelector(%q) ? 'there' : ''`, press), is("there"))
		script(fmt.Sprintf(`document.querySelector(%q).click()`, press))
		b.until(w.ctx, "what it would do", `document.getElementById('c-yes').disabled ? '' : document.getElementById('c-text').textContent`, is(seen))
		if typed != "" {
			script(fmt.Sprintf(`document.getElementById('c-typed').value = %q`, typed))
		}
		script(`document.getElementById('c-yes').click()`)
		b.until(w.ctx, "that it is ordered", `String(document.getElementById('confirm').open)`, is("false"))
	}
	acts := `document.getElementById('acts').textContent`

	b.open("http://" + net.JoinHostPort(playground.Door(n), port))
	enter(spec.SecretOperator)
	var list []struct {
		Member, Host, Role, State string
		TL                        int
	}
	w.check(json.Unmarshal([]byte(w.howdah("list", "--json")), &list))
	for _, m := range list {
		b.until(w.ctx, "what the page shows of "+m.Member, `document.getElementById('members').innerText`, func(got string) bool {
			return slices.ContainsFunc(strings.Split(got, "\n"), func(line string) bool {
				f := strings.Fields(line)
				return len(f) > 4 && f[0] == m.Member && f[1] == m.Host && strings.HasPrefix(strings.TrimSpace(line[strings.Index(line, m.Host)+len(m.Host):]), m.Role) && slices.Contains(f, fmt.Sprint(m.TL))
			})
		})
	}
	if *pictures != "" {
		writer := w.write()
		w.pause(90 * time.Second) // for curves
		for name, of := range map[string]struct {
			width int
			dark  bool
		}{"console": {1280, false}, "console-dark": {1280, true}, "console-phone": {390, false}} {
			b.picture(filepath.Join(*pictures, name+".png"), of.width, of.dark)
		}
		b.do("Emulation.clearDeviceMetricsOverride", nil, nil)
		writer.Stop()
	}

	writer := w.write()
	var other string
	for _, m := range w.Nodes {
		if m.Member != leader {
			other = m.Member
		}
	}
	order(fmt.Sprintf(`[aria-label="Lead: %s"]`, other), "switch over cluster demo from "+leader+" to "+other, "")
	b.until(w.ctx, "the new leader", `document.getElementById('topology').getAttribute('aria-label')`, func(got string) bool { return strings.HasPrefix(got, other+" leads") })
	b.until(w.ctx, "what came of it", acts, has(other+" leads on timeline 2 after"))
	if now := w.whole(); now != other {
		t.Errorf("%s leads, %s was to", now, other)
	}
	w.kept(writer)
	order(fmt.Sprintf(`[aria-label="Restart: %s"]`, leader), "restart PostgreSQL of "+leader, "")
	b.until(w.ctx, "that it restarted", acts, has(leader+" restarted in"))
	order("#pause", "pause cluster demo", "")
	b.until(w.ctx, "the pause", `document.getElementById('health').textContent`, is("paused"))
	b.until(w.ctx, "what came of it", acts, has("cluster demo is paused"))
	order("#pause", "resume cluster demo", "")
	b.until(w.ctx, "what came of it", acts, has("cluster demo is resumed"))
	b.until(w.ctx, "that all is well", `document.getElementById('health').textContent`, is("healthy"))
	order(fmt.Sprintf(`[aria-label="Copy anew: %s"]`, leader), "give up the data of "+leader+" and copy them anew from the leader", leader)
	b.until(w.ctx, "the copy", acts, has(leader+" streams again"))
	w.whole()
	if log := w.howdah("logs", "--job", "observe", "--grep", "console: order", "--last", "50"); strings.Count(log, "by=\"operator@") < 10 || !strings.Contains(log, "switch over cluster demo") {
		t.Errorf("the log of what was ordered is\n%s", log)
	}

	script(`document.querySelector('form[action="/logout"]').requestSubmit()`)
	enter(spec.SecretConsole)
	b.until(w.ctx, "the members", `document.getElementById('members').innerText`, has(other))
	if got, err := b.eval(`String(document.querySelectorAll('#members button').length) + document.getElementById('pause').hidden`); got != "0true" {
		t.Errorf("a viewer has buttons: %s %v", got, err)
	}
	if said := b.said(); len(said) > 0 {
		t.Errorf("the page told its console\n%s", strings.Join(said, "\n"))
	}
}
