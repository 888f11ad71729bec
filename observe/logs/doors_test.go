package logs

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"howdah/observe/logbook"
	"howdah/test/linted"
)

// On one port logs are told by TLS alone, and in clear what is counted of them, by
// Vector's names; who says nothing holds nobody up.
func TestOnePort(t *testing.T) {
	n := nodeIn(t)
	n.Logs.Ship = []string{"http://store/insert/jsonline"}
	store := &sink{}
	away := httptest.NewServer(store)
	defer away.Close()
	m := &Meter{}
	k, err := newKeeper(n, m, quiet)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.close)
	write(t, n, "postgresql.log", line(noon, "ERROR", "app@shop ", "one")+line(noon.Add(time.Second), "LOG", "", "two"))
	write(t, n, "agent.log", "time=2026-11-22T12:00:03Z level=INFO msg=three\n")
	flush(t, k, noon)
	s, err := newShipper(n, away.URL+"/insert/jsonline", m, quiet)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.unzip.Close)
	s.counted(true)

	certified := httptest.NewUnstartedServer(nil) // for its certificate
	certified.StartTLS()
	defer certified.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	ended := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	go func() {
		ended <- Serve(ctx, address, &tls.Config{Certificates: certified.TLS.Certificates}, Handler(placeOf(n), quiet), m, quiet)
	}()
	get := func(url string) (int, string) {
		r, err := certified.Client().Get(url)
		if err != nil {
			return 0, err.Error()
		}
		defer r.Body.Close()
		text, _ := io.ReadAll(r.Body)
		return r.StatusCode, string(text)
	}
	until := time.Now().Add(time.Minute)
	code, text := get("http://" + address + "/metrics")
	for ; code != 200 && time.Now().Before(until); code, text = get("http://" + address + "/metrics") {
		select {
		case err := <-ended:
			ended <- nil
			t.Fatalf("it ended: %v", err)
		case <-time.After(10 * time.Millisecond):
		}
	}
	silent, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	for _, want := range []string{
		`vector_component_received_events_total{component_id="postgres",component_kind="source",component_type="file"} 2`,
		`vector_component_received_events_total{component_id="agent",component_kind="source",component_type="file"} 1`,
		`vector_component_sent_events_total{component_id="kept",component_kind="sink",component_type="file"} 3`,
		`vector_checkpoints_total{component_id="kept",component_kind="sink",component_type="file"} `,
		`vector_component_errors_total{component_id="` + strings.TrimPrefix(away.URL, "http://") + `",component_kind="sink",component_type="http"} 1`,
		`vector_buffer_events{component_id="` + strings.TrimPrefix(away.URL, "http://") + `",component_kind="sink",component_type="http"} 3`,
		"vector_uptime_seconds ", "vector_utilization{", "vector_buffer_byte_size{", "vector_component_received_bytes_total{", "vector_component_sent_bytes_total{",
	} {
		if !strings.Contains(text, "\n"+want) {
			t.Errorf("%s is not told:\n%s", want, text)
		}
	}
	linted.Metrics(t, []byte(text))
	if err := ship(t, s); err != nil {
		t.Fatal(err)
	}
	s.counted(false)
	if _, text := get("http://" + address + "/metrics"); !strings.Contains(text, "\nvector_buffer_events{component_id=\""+strings.TrimPrefix(away.URL, "http://")+"\",component_kind=\"sink\",component_type=\"http\"} 0\n") {
		t.Errorf("all of it was sent, and\n%s", text)
	}
	for url, want := range map[string]int{
		"http://" + address + path: 404, "http://" + address + streamsPath: 404, "https://" + address + "/metrics": 404, "https://" + address + streamsPath: 200,
	} {
		if code, text := get(url); code != want {
			t.Errorf("%s: %d %s", url, code, text)
		}
	}
	all, err := AskStreams(t.Context(), "https://"+address, certified.Client().Transport.(*http.Transport).TLSClientConfig)
	if want := fmt.Sprint(map[string]uint{"agent": 1 << logbook.Info, "postgres": 1<<logbook.Info | 1<<logbook.Err}); err != nil || fmt.Sprint(all) != want {
		t.Errorf("streams are %v, %v; want %s", all, err, want)
	}
}

// What is asked in Loki's language of another machine is decided there.
func TestAskSelected(t *testing.T) {
	n := nodeIn(t)
	for i := range 20 {
		write(t, n, "postgresql.log", line(noon.Add(time.Duration(i)*time.Second), "LOG", "", fmt.Sprint("m", i)))
	}
	k := keeper(t, n)
	flush(t, k, noon)
	server := httptest.NewServer(Handler(placeOf(n), quiet))
	defer server.Close()
	s, err := logbook.ParseSelector(`{job="postgres"} |~ "m[0-4]\""`)
	if err != nil {
		t.Fatal(err)
	}
	var all []logbook.Record
	err = Ask(t.Context(), server.URL, nil, Query{Filter: logbook.Filter{Selector: s}, Last: 2}, nil, func(r logbook.Record) error { all = append(all, r); return nil })
	if err != nil || messages(all) != "m3 m4" {
		t.Errorf("got %q, %v", messages(all), err)
	}
}

// A tail has the newest, and of long ones fewer.
func TestTail(t *testing.T) {
	last := Tail{Most: 3}
	for i := range 10 {
		last.Add(logbook.Record{Message: fmt.Sprint(i)})
	}
	if got := messages(last.Records()); got != "7 8 9" || !last.full {
		t.Errorf("got %q", got)
	}
	long := strings.Repeat("x", tailBytes/2)
	for i := range 3 {
		last.Add(logbook.Record{Message: fmt.Sprint(i), Fields: []logbook.Field{{Name: "q", Value: long}}})
	}
	if got := messages(last.Records()); got != "2" || !last.full {
		t.Errorf("of long ones got %q", got)
	}
}
