package e2e

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

// A browser is a headless Chromium with one page, which it is told what to do with
// through the pipe of its DevTools protocol: no port, and no driver beside it.
type browser struct {
	t       *testing.T
	to      *os.File
	session string
	gone    chan struct{} // closed when it says no more

	mu      sync.Mutex
	last    int
	waiting map[int]chan reply
	errors  []string // that the page has told its console
}

type reply struct {
	ID     int             `json:"id"`
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
	Result json.RawMessage `json:"result"`
	Error  *struct {
		Message string `json:"message"`
	} `json:"error"`
}

// browse starts a browser that ends with the test.
func browse(t *testing.T) *browser {
	t.Helper()
	var program string
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			program = path
			break
		}
	}
	if program == "" {
		t.Skip("there is no Chromium (scripts/test-setup --nightly installs it)")
	}
	dir, err := os.MkdirTemp("", "howdah-browser-")
	if err != nil {
		t.Fatal(err)
	}
	pipe := func() (r, w *os.File) {
		if r, w, err = os.Pipe(); err != nil {
			t.Fatal(err)
		}
		return r, w
	}
	hears, to := pipe()
	from, says := pipe()
	cmd := exec.Command(program, "--headless=new", "--remote-debugging-pipe", "--user-data-dir="+dir, "--no-first-run", "--no-sandbox", // it shows our own page to root
		"--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
		"--window-size=1280,900", "about:blank")
	cmd.ExtraFiles = []*os.File{hears, says} // 3 and 4, where it looks for them
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	hears.Close()
	says.Close()
	b := &browser{t: t, to: to, gone: make(chan struct{}), waiting: map[int]chan reply{}}
	go b.listen(from)
	t.Cleanup(func() {
		if said := b.said(); t.Failed() && len(said) > 0 {
			t.Logf("the page told its console, first\n%s", said[0])
		}
		_ = b.try("Browser.close", nil, nil) // else it ends with its pipe
		to.Close()
		timer := time.AfterFunc(10*time.Second, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait() // however it ended
		timer.Stop()
		from.Close()
		<-b.gone
		os.RemoveAll(dir)
	})
	var target struct{ TargetID string }
	b.do("Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	var attached struct{ SessionID string }
	b.do("Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &attached)
	b.session = attached.SessionID
	for _, what := range []string{"Page.enable", "Runtime.enable", "Log.enable"} {
		b.do(what, nil, nil)
	}
	return b
}

// listen passes on what the browser says.
func (b *browser) listen(from *os.File) {
	defer close(b.gone)
	for r := bufio.NewReader(from); ; {
		text, err := r.ReadBytes(0)
		if err != nil {
			return
		}
		var m reply
		if json.Unmarshal(text[:len(text)-1], &m) != nil {
			continue
		}
		b.mu.Lock()
		switch {
		case b.waiting[m.ID] != nil:
			b.waiting[m.ID] <- m
			delete(b.waiting, m.ID)
		case m.Method == "Runtime.exceptionThrown",
			m.Method == "Runtime.consoleAPICalled" && strings.Contains(string(m.Params), `"type":"error"`),
			m.Method == "Log.entryAdded" && strings.Contains(string(m.Params), `"level":"error"`):
			b.errors = append(b.errors, m.Method+" "+string(m.Params))
		}
		b.mu.Unlock()
	}
}

func (b *browser) try(method string, params map[string]any, into any) error {
	b.mu.Lock()
	b.last++
	id, c := b.last, make(chan reply, 1)
	b.waiting[id] = c
	b.mu.Unlock()
	text, err := json.Marshal(map[string]any{"id": id, "method": method, "params": params, "sessionId": b.session})
	if b.session == "" {
		text, err = json.Marshal(map[string]any{"id": id, "method": method, "params": params})
	}
	if err != nil {
		return err
	}
	if _, err := b.to.Write(append(text, 0)); err != nil {
		return err
	}
	timer := time.NewTimer(time.Minute)
	defer timer.Stop()
	select {
	case m := <-c:
		if m.Error != nil {
			return fmt.Errorf("%s: %s", method, m.Error.Message)
		}
		if into != nil {
			return json.Unmarshal(m.Result, into)
		}
		return nil
	case <-b.gone:
		return fmt.Errorf("%s: the browser has ended", method)
	case <-timer.C:
		return fmt.Errorf("%s: no answer within a minute", method)
	}
}

func (b *browser) do(method string, params map[string]any, into any) {
	b.t.Helper()
	if err := b.try(method, params, into); err != nil {
		b.t.Fatal(err)
	}
}

// eval evaluates a script on the page; what it gives, as text. A page that is being
// left has none.
func (b *browser) eval(script string) (string, error) {
	var r struct {
		Result           struct{ Value any }
		ExceptionDetails *struct {
			Text      string
			Exception struct{ Description string }
		}
	}
	err := b.try("Runtime.evaluate", map[string]any{"expression": script, "awaitPromise": true, "returnByValue": true, "userGesture": true}, &r)
	if err == nil && r.ExceptionDetails != nil {
		err = fmt.Errorf("%s: %s %s", script, r.ExceptionDetails.Text, r.ExceptionDetails.Exception.Description)
	}
	if r.Result.Value == nil {
		return "", err
	}
	return fmt.Sprint(r.Result.Value), err
}

func (b *browser) open(url string) {
	b.t.Helper()
	b.do("Page.navigate", map[string]any{"url": url}, nil)
}

// until waits until a script gives what is wanted.
func (b *browser) until(ctx context.Context, what, script string, want func(string) bool) string {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		got, err := b.eval(script)
		if err == nil && want(got) {
			return got
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			b.t.Fatalf("%s: the page has %q, %v", what, got, err)
		}
	}
}

// said are the errors that the page has told its console until now.
func (b *browser) said() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.errors
}

// picture writes the page as it looks on a screen of that width, all of it.
func (b *browser) picture(file string, width int, dark bool) {
	b.t.Helper()
	scheme := map[bool]string{false: "light", true: "dark"}[dark]
	b.do("Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{{"name": "prefers-color-scheme", "value": scheme}}}, nil)
	b.do("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}, nil)
	// Two frames and a look later everything stands where it stays.
	if _, err := b.eval("new Promise((done) => requestAnimationFrame(() => setTimeout(done, 1500)))"); err != nil {
		b.t.Fatal(err)
	}
	var shot struct{ Data string }
	b.do("Page.captureScreenshot", map[string]any{"format": "png", "captureBeyondViewport": true}, &shot)
	png, err := base64.StdEncoding.DecodeString(shot.Data)
	if err == nil {
		err = os.WriteFile(file, png, 0o644)
	}
	if err != nil {
		b.t.Fatal(err)
	}
}
