package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"net"
	"os"
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
	w.ctx, cancel = context.WithTimeout(t.Context(), 30*time.Minute)
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
		script(`document.getElementById('c-text').textContent = ''`) // what the last one would have done
		script(fmt.Sprintf(`document.querySelector(%q).click()`, press))
		b.until(w.ctx, "what it would do", `document.getElementById('c-yes').disabled ? '' : document.getElementById('c-text').textContent`, func(got string) bool { return got != "" && strings.HasPrefix(got, seen) })
		if typed != "" {
			script(fmt.Sprintf(`document.getElementById('c-typed').value = %q`, typed))
		}
		script(`document.getElementById('c-yes').click()`)
		b.until(w.ctx, "that it is ordered", `document.getElementById('confirm').open ? 'open: ' + document.getElementById('confirm').innerText : 'false'`, is("false"))
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
	turn := func(page string) {
		t.Helper()
		script(fmt.Sprintf(`location.hash = '#demo/%s'`, page))
		b.until(w.ctx, "page "+page, fmt.Sprintf(`String(document.getElementById('p-%s').hidden)`, page), is("false"))
	}
	w.consoleLoad(b, leader, turn)
	w.consoleBackups(b, turn)
	w.consoleHealth(b, turn)
	for _, page := range []string{"overview", "load", "backups", "incidents", "health"} {
		turn(page)
		if page == "load" {
			script(`document.getElementById('range').value = 900; document.getElementById('range').dispatchEvent(new Event('change'))`)
		}
		b.do("Emulation.setDeviceMetricsOverride", map[string]any{"width": 360, "height": 780, "deviceScaleFactor": 1, "mobile": true}, nil)
		if got, err := b.eval(`document.documentElement.scrollWidth`); got != "360" {
			t.Errorf("on a phone %s is %s wide: %v", page, got, err)
		}
		if *pictures != "" {
			for name, of := range map[string]struct {
				width int
				dark  bool
			}{page: {1280, false}, page + "-dark": {1280, true}, page + "-phone": {360, false}} {
				b.picture(filepath.Join(*pictures, name+".png"), of.width, of.dark)
			}
		}
		b.do("Emulation.clearDeviceMetricsOverride", nil, nil)
	}
	turn("backups")
	w.consoleEndPeek(b, order)
	w.consoleKeys(b)
	turn("overview")

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
	w.consoleSilences(b, order)
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
	if got, err := b.eval(`String(document.querySelectorAll('#alerts button, #silences button').length)`); got != "0" {
		t.Errorf("a viewer may silence: %s %v", got, err)
	}
	turn("load")
	asleep := w.sessions(w.Node(other), 1, 0)[0]
	go func() { _, _ = asleep.Exec(w.ctx, "SELECT 'hush', pg_sleep(60)").ReadAll() }() // ends with its connection
	b.until(w.ctx, "a statement without what was said in it", `document.getElementById('sessions').textContent`, func(got string) bool {
		if strings.Contains(got, "hush") {
			t.Errorf("a viewer reads %s", got)
		}
		return strings.Contains(got, "Timeout:PgSleep")
	})
	turn("backups")
	if got, err := b.eval(`String(document.getElementById('preview').hidden) + document.getElementById('peek').hidden`); got != "truetrue" {
		t.Errorf("a viewer may look at moments: %s %v", got, err)
	}
	if said := b.said(); len(said) > 0 {
		t.Errorf("the page told its console\n%s", strings.Join(said, "\n"))
	}
}

// consoleLoad tries the page of load: who waits for whom, who sleeps, and which
// statements took time are what the server says of itself.
func (w *world) consoleLoad(b *browser, leader string, turn func(string)) {
	w.t.Helper()
	w.sql("CREATE TABLE orders (id int PRIMARY KEY, state text); INSERT INTO orders VALUES (7, 'new'), (8, 'new')")
	all := w.sessions(w.Node(leader), 6, 0)
	run := func(i int, sql string) {
		w.t.Helper()
		_, err := all[i].Exec(w.ctx, sql).ReadAll()
		w.check(err)
	}
	for i := range 10 {
		run(0, fmt.Sprintf("SELECT count(*) FROM orders WHERE id > %d", i))
	}
	run(0, "BEGIN")
	run(0, "UPDATE orders SET state = 'paid' WHERE id = 7")
	ended := make(chan error, len(all))
	later := func(i int, sql string) {
		go func() { _, err := all[i].Exec(w.ctx, sql).ReadAll(); ended <- err }()
	}
	later(1, "UPDATE orders SET state = 'sent' WHERE id = 7")
	for i := 2; i < 6; i++ {
		later(i, "SELECT pg_sleep(400)")
	}
	turn("load")
	has := func(all ...string) func(string) bool {
		return func(got string) bool {
			return !slices.ContainsFunc(all, func(want string) bool { return !strings.Contains(got, want) })
		}
	}
	text := func(id string) string { return fmt.Sprintf(`document.getElementById('%s').innerText`, id) }
	b.until(w.ctx, "who waits for whom", `document.getElementById('locks').textContent`, has(fmt.Sprintf("%d demo@demo", all[0].PID()), "idle in transaction", fmt.Sprintf("%d demo@demo", all[1].PID()), "for transactionid, ShareLock", "SET state = 'sent'"))
	b.until(w.ctx, "who sleeps", text("sessions"), func(got string) bool {
		for i := 2; i < 6; i++ {
			if !strings.Contains(got, fmt.Sprint(all[i].PID())) {
				return false
			}
		}
		return strings.Count(got, "Timeout:PgSleep") == 4
	})
	b.until(w.ctx, "what they wait for", text("charts"), has("Lock 1", "Timeout 4"))
	cores := strings.TrimSpace(w.howdah("metrics", `node:ins:cpu_count{ins="`+leader+`"}`))
	b.until(w.ctx, "cores as in "+cores, `document.querySelector('#charts .halo')?.textContent`, func(got string) bool {
		n, _, ok := strings.Cut(got, " ")
		return ok && strings.Contains(cores, n)
	})
	b.until(w.ctx, "the statement that is called again and again", text("top"), func(got string) bool {
		run(0, "SELECT count(*) FROM orders WHERE id > 3")
		return strings.Contains(got, "SELECT count(*) FROM orders WHERE id > $1")
	})
	if _, err := b.eval(`[...document.querySelectorAll('#top button')].find((e) => e.textContent.includes('count(*) FROM orders')).click()`); err != nil {
		w.t.Fatal(err)
	}
	b.until(w.ctx, "the whole statement", `document.getElementById('drill').innerText`, has("SELECT count(*) FROM orders WHERE id > $1", "Calls a second"))
	if n := w.sql("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"); n != "4" {
		w.t.Errorf("%s sleep by now: the page was compared with something else", n)
	}
	run(0, "COMMIT")
	w.check(<-ended)
	b.until(w.ctx, "that nobody waits", `document.getElementById('locks').textContent`, has("nobody on "+leader+" waits for a lock"))
	for _, c := range all {
		_ = c.Close(context.WithoutCancel(w.ctx)) // those that sleep end with it
	}
}

// consoleBackups tries the page of backups: what is there, what would be used for a
// moment, and a look at it.
func (w *world) consoleBackups(b *browser, turn func(string)) {
	w.t.Helper()
	w.howdah("backup", "--type", "incr")
	w.sql("INSERT INTO orders VALUES (9, 'new')")
	turn("backups")
	for _, one := range w.backups().Backups {
		b.until(w.ctx, "backup "+one.Label, `document.getElementById('backups').innerText`, func(got string) bool {
			return slices.ContainsFunc(strings.Split(got, "\n"), func(line string) bool {
				return strings.HasPrefix(line, one.Type+" "+one.Label) && strings.HasSuffix(strings.TrimSpace(line), strings.Join(one.Members, ", "))
			})
		})
	}
	to := time.Now().UTC().Truncate(time.Second)
	w.pause(1100 * time.Millisecond)
	w.sql("INSERT INTO orders VALUES (10, 'new')")
	if _, err := b.eval(fmt.Sprintf(`(() => { const i = document.getElementById('instant'); const t = %d; i.value = new Date(t - new Date(t).getTimezoneOffset() * 60000).toISOString().slice(0, 19); i.dispatchEvent(new Event('change')); document.getElementById('preview').click(); })()`, to.UnixMilli())); err != nil {
		w.t.Fatal(err)
	}
	var dry struct {
		Plan struct {
			Backup string
			Before struct{ XID string }
		}
	}
	w.check(json.Unmarshal([]byte(w.howdah("restore", "--to", to.Format("2006-01-02 15:04:05+00"), "--peek", "--dry-run", "--json")), &dry))
	b.until(w.ctx, "what would be used", `document.getElementById('peek').disabled ? document.getElementById('plan').innerText + '!' : document.getElementById('plan').innerText`, func(got string) bool {
		return strings.Contains(got, dry.Plan.Backup) && strings.Contains(got, "transaction "+dry.Plan.Before.XID) && !strings.HasSuffix(got, "!")
	})
	if _, err := b.eval(`document.getElementById('peek').click()`); err != nil {
		w.t.Fatal(err)
	}
	b.until(w.ctx, "what it would do", `document.getElementById('c-yes').disabled ? '' : document.getElementById('c-text').textContent`, func(got string) bool { return strings.Contains(got, dry.Plan.Backup) })
	if _, err := b.eval(`document.getElementById('c-yes').click()`); err != nil {
		w.t.Fatal(err)
	}
	acts := b.until(w.ctx, "the moment", `document.getElementById('acts').textContent`, func(got string) bool { return strings.Contains(got, "psql -h ") })
	_, command, _ := strings.Cut(acts, "psql -h ")
	f := strings.Fields(command)
	if len(f) < 3 {
		w.t.Fatalf("the page says %s", acts)
	}
	seen := w.Nodes[0]
	seen.Paths.Sockets = f[0]
	if got := w.asOwner(seen, "demo", "SELECT string_agg(id::text, ',' ORDER BY id) FROM orders"); got != "7,8,9" {
		w.t.Errorf("at that moment there was %s", got)
	}
	b.until(w.ctx, "the look that is open", `document.getElementById('peeks').innerText`, func(got string) bool { return strings.Contains(got, "psql -h "+f[0]) })
}

// consoleSilences has nobody told of an alert that fires, and people told of it again.
func (w *world) consoleSilences(b *browser, order func(press, seen, typed string)) {
	w.t.Helper()
	order(`[aria-label="Silence: PostgresRestart"]`, `tell nobody of alertname="PostgresRestart" cls="demo" for 2h`, "")
	b.until(w.ctx, "the silence", `document.getElementById('silences').innerText`, func(got string) bool {
		return strings.Contains(got, "PostgresRestart cls=demo") && strings.Contains(got, "operator@")
	})
	if out := w.howdah("alerts", "silences"); !strings.Contains(out, `alertname="PostgresRestart" cls="demo"`) || !strings.Contains(out, "operator@") {
		w.t.Errorf("silences are\n%s", out)
	}
	order(`[aria-label="Tell again: PostgresRestart cls=demo"]`, "tell people again of ", "")
	b.until(w.ctx, "no silence", `'(' + document.getElementById('silences').innerText + ')'`, func(got string) bool { return got == "()" })
	if out := w.howdah("alerts", "silences"); !strings.Contains(out, "nothing is silenced") {
		w.t.Errorf("silences are\n%s", out)
	}
}

// consoleEndPeek ends the look from the page: its server is gone, and so are its data.
func (w *world) consoleEndPeek(b *browser, order func(press, seen, typed string)) {
	w.t.Helper()
	shows := b.until(w.ctx, "the look that is open", `document.getElementById('peeks').innerText`, func(got string) bool { return strings.Contains(got, "psql -h ") })
	_, command, _ := strings.Cut(shows, "psql -h ")
	order("#peeks button", "end the look at demo as of ", "")
	b.until(w.ctx, "that it is over", `document.getElementById('acts').textContent`, func(got string) bool { return strings.Contains(got, "it is over") })
	b.until(w.ctx, "no look", `'(' + document.getElementById('peeks').innerText + ')'`, func(got string) bool { return got == "()" })
	if _, err := os.Stat(strings.Fields(command)[0]); !errors.Is(err, fs.ErrNotExist) {
		w.t.Errorf("what it took is still there: %v", err)
	}
}

// consoleHealth tries the page of health: it has what `howdah doctor` finds.
func (w *world) consoleHealth(b *browser, turn func(string)) {
	w.t.Helper()
	turn("health")
	a, err := w.Run(w.ctx, "doctor", "--json")
	w.check(err)
	var found struct {
		Findings []struct{ Check, Grade string }
	}
	if err := json.Unmarshal([]byte(a.Out), &found); err != nil {
		w.t.Fatalf("%v: %s", err, a.Out)
	}
	if len(found.Findings) < 10 {
		w.t.Fatalf("doctor finds %s", a.Out)
	}
	b.until(w.ctx, "the programs that run", `document.getElementById('well-findings').textContent`, func(got string) bool { return strings.Contains(got, "there is PostgreSQL ") })
	for _, one := range found.Findings {
		b.until(w.ctx, "check "+one.Check, `document.getElementById('findings').textContent + document.getElementById('well-findings').textContent`, func(got string) bool { return strings.Contains(got, one.Check) })
	}
}

// consoleKeys turns pages, opens and leaves what is opened, with nothing but keys.
func (w *world) consoleKeys(b *browser) {
	w.t.Helper()
	press := func(key string, code int) {
		w.t.Helper()
		for _, kind := range []string{"keyDown", "keyUp"} {
			more := map[string]any{"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code}
			if len(key) == 1 && kind == "keyDown" {
				more["text"] = key
			} else if key == "Enter" && kind == "keyDown" {
				more["text"] = "\r"
			}
			b.do("Input.dispatchKeyEvent", more, nil)
		}
	}
	for i, page := range []string{"overview", "load", "backups", "incidents", "health", "overview"} {
		key := i%5 + 1
		press(fmt.Sprint(key), '0'+key)
		b.until(w.ctx, "page "+page+" by its key", fmt.Sprintf(`String(document.getElementById('p-%s').hidden)`, page), func(got string) bool { return got == "false" })
	}
	// From the beginning of the page every button and link is reached, and seen to be.
	if _, err := b.eval(`document.activeElement.blur(); document.querySelector('.skip').focus()`); err != nil {
		w.t.Fatal(err)
	}
	var reached []string
	for range 60 {
		press("Tab", 9)
		got, err := b.eval(`(() => { const e = document.activeElement; const o = getComputedStyle(e).outlineStyle; return (e.getAttribute('aria-label') || e.textContent).trim().slice(0, 40) + (o === 'none' ? ' (unseen)' : ''); })()`)
		w.check(err)
		reached = append(reached, got)
		if strings.HasPrefix(got, "Restart:") {
			break
		}
	}
	all := strings.Join(reached, "; ")
	if strings.Contains(all, "(unseen)") || !strings.Contains(all, "Load") || !strings.Contains(all, "Log out") || !strings.Contains(all, "Restart: ") {
		w.t.Errorf("the keys reach %s", all)
	}
	press("Enter", 13)
	b.until(w.ctx, "the question", `String(document.getElementById('confirm').open)`, func(got string) bool { return got == "true" })
	press("Escape", 27)
	b.until(w.ctx, "that it is left", `String(document.getElementById('confirm').open)`, func(got string) bool { return got == "false" })
}
