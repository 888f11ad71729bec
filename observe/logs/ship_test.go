package logs

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
)

// A sink is a log store that says what it is told to, and remembers what it took.
type sink struct {
	mu      sync.Mutex
	answers []int // of the next requests; none: 204
	got     []map[string]any
	headers http.Header
}

func (s *sink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.answers) > 0 {
		code := s.answers[0]
		if s.answers = s.answers[1:]; code >= 300 {
			http.Error(w, "no", code)
			return
		}
	}
	s.headers = r.Header
	zip, err := gzip.NewReader(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	body, err := io.ReadAll(zip)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	take := func(text string) {
		var one map[string]any
		if err := json.Unmarshal([]byte(text), &one); err != nil {
			panic(err)
		}
		s.got = append(s.got, one)
	}
	if strings.HasPrefix(r.URL.Path, "/loki/") {
		var push struct {
			Streams []struct {
				Stream map[string]string
				Values [][2]string
			}
		}
		if err := json.Unmarshal(body, &push); err != nil {
			panic(err)
		}
		for _, one := range push.Streams {
			for _, v := range one.Values {
				take(v[1])
				last := s.got[len(s.got)-1]
				last["at"], last["labels"] = v[0], fmt.Sprint(one.Stream)
			}
		}
	} else {
		for lines := bufio.NewScanner(bytes.NewReader(body)); lines.Scan(); {
			take(lines.Text())
		}
	}
	w.WriteHeader(http.StatusNoContent)
}

func (s *sink) messages() string {
	var all []string
	for _, one := range s.got {
		all = append(all, fmt.Sprint(one["message"]))
	}
	return strings.Join(all, " ")
}

// ship sends until there is no more, or something is wrong.
func ship(t *testing.T, s *shipper) error {
	t.Helper()
	for range 1000 {
		if more, err := s.turn(t.Context()); err != nil || !more {
			return err
		}
	}
	t.Fatal("it does not end")
	return nil
}

// Both kinds of stores get every record by the names that they know, whatever they
// answer in between, and go on where they were.
func TestShip(t *testing.T) {
	for path, want := range map[string]func(*sink) string{
		"/insert/jsonline": func(s *sink) string {
			return fmt.Sprint(s.headers.Get("VL-Stream-Fields"), s.headers.Get("VL-Msg-Field"), s.headers.Get("VL-Time-Field"), s.got[0]["_time"], s.got[0]["ins"], s.got[0]["user"])
		},
		"/loki/api/v1/push": func(s *sink) string { return fmt.Sprint(s.got[0]["at"], s.got[0]["labels"]) },
	} {
		n := nodeIn(t)
		k := keeper(t, n)
		store := &sink{}
		server := httptest.NewServer(store)
		open := func() *shipper {
			s, err := newShipper(n, server.URL+path, &Meter{}, quiet)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(s.unzip.Close)
			return s
		}
		s := open()
		if err := ship(t, s); err != nil || len(store.got) > 0 {
			t.Errorf("of nothing: %v %v", err, store.got)
		}
		say := func(i int) {
			write(t, n, "postgresql.log", line(noon.Add(time.Duration(i)*time.Second), "LOG", "app@shop ", fmt.Sprint("m", i)))
			flush(t, k, noon)
		}
		say(1)
		say(2)
		if err := ship(t, s); err != nil || store.messages() != "m1 m2" {
			t.Errorf("%s got %q, %v", path, store.messages(), err)
		}
		expect := map[string]string{
			"/insert/jsonline":  "job,ins,ipmessage_time2026-11-22T12:00:01.000Zdemo-1app",
			"/loki/api/v1/push": "1795348801000000000map[cls:demo ins:demo-1 ip:10.10.10.11 job:postgres level:info]",
		}[path]
		if got := want(store); strings.ReplaceAll(got, " ", "") != strings.ReplaceAll(expect, " ", "") {
			t.Errorf("%s got %s, want %s", path, got, expect)
		}
		store.answers = []int{503, 429}
		say(3)
		for range 2 {
			if err := ship(t, s); err == nil {
				t.Error("an answer that is none was taken for one")
			}
		}
		s = open() // begun again
		if err := ship(t, s); err != nil || store.messages() != "m1 m2 m3" {
			t.Errorf("%s got %q, %v", path, store.messages(), err)
		}
		// What is refused holds nothing up.
		store.answers = []int{400}
		say(4)
		say(5)
		if err := ship(t, s); err != nil || store.messages() != "m1 m2 m3 m5" {
			t.Errorf("%s got %q, %v", path, store.messages(), err)
		}
		server.Close()
		say(6)
		if err := ship(t, s); err == nil {
			t.Error("a store that is away took logs")
		}
	}
}

// Over segments that come and go all of what is there is sent, in requests of a size
// that stores take, and what was removed before is told.
func TestShipSpool(t *testing.T) {
	n := nodeIn(t)
	n.Logs.Size = 1 << 20
	store := &sink{}
	server := httptest.NewServer(store)
	defer server.Close()
	var said bytes.Buffer
	s, err := newShipper(n, server.URL+"/insert/jsonline", &Meter{}, slog.New(slog.NewTextHandler(&said, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer s.unzip.Close()
	k := keeper(t, n)
	fill := func(from, to int) {
		for i := from; i < to; i++ {
			x := make([]byte, 10<<10)
			for j := range x {
				x[j] = byte('a' + (i*j*j+j*7919/(i+1))%26) // not much alike
			}
			write(t, n, "agent.log", fmt.Sprintf("time=%s msg=m%d a=%s\n", noon.Add(time.Duration(i)*time.Second).Format(time.RFC3339Nano), i, x))
			if i%40 == 39 {
				flush(t, k, noon)
			}
		}
		flush(t, k, noon)
	}
	fill(0, 200)
	kept := len(found(t, Place{Dir: filepath.Join(n.Paths.Dir, "none"), Kept: n.Logs.Data}, Query{}))
	if err := ship(t, s); err != nil || len(store.got) != kept {
		t.Errorf("of %d records %d were sent: %v", kept, len(store.got), err)
	}
	if len(k.store.files) < 2 {
		t.Fatalf("all of it is in %v", k.store.files)
	}
	if said.Len() > 0 {
		t.Errorf("it says %s", said.String())
	}
	for len(k.store.files) < 1 || filepath.Base(k.store.files[0]) <= s.at.Segment {
		fill(200, 280)
	}
	if err := ship(t, s); err != nil || !strings.Contains(said.String(), "removed before they were sent") {
		t.Errorf("of what is not there any more it says %q, %v", said.String(), err)
	}
	if got := store.got[len(store.got)-1]["message"]; got != "m279" {
		t.Errorf("the last is %v", got)
	}
	// Damage costs the rest of its segment.
	path := k.store.files[len(k.store.files)-1]
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	fill(280, 320)
	if err := os.WriteFile(path, append(slices.Clone(b), "HLB1 and nonsense"...), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := ship(t, s); err != nil {
		t.Error(err)
	}
}

// A store that does not answer is asked again, until it does.
func TestShipGoesOn(t *testing.T) {
	n := nodeIn(t)
	write(t, n, "agent.log", "time=2026-11-22T12:00:01Z msg=one\n")
	flush(t, keeper(t, n), noon)
	store := &sink{answers: []int{500}}
	server := httptest.NewServer(store)
	defer server.Close()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- Ship(ctx, n, server.URL+"/insert/jsonline", &Meter{}, quiet) }()
	for wait := time.Now().Add(time.Minute); ; {
		store.mu.Lock()
		got := store.messages()
		store.mu.Unlock()
		if got == "one" {
			break
		}
		if time.Now().After(wait) {
			t.Fatalf("it got %q", got)
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case err := <-ended:
			t.Fatal(err)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
