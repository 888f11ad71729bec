package pooler

import (
	"bytes"
	"log/slog"
	"testing"

	"howdah/access/pool"
)

func TestWhatLasts(t *testing.T) {
	for text, want := range map[string]string{
		"LISTEN x": "LISTEN", " listen x": "LISTEN", "listening": "", "PREPARE p AS SELECT 1": "PREPARE", "prepare transaction 'x'": "",
		"CREATE TEMP TABLE t ()": "a temporary object", "create temporary view v AS": "a temporary object", "create local temporary table": "a temporary object",
		"CREATE TABLE temp ()": "", "DECLARE c CURSOR WITH HOLD FOR SELECT 1": "a cursor WITH HOLD", "declare c cursor for": "",
		"SELECT pg_advisory_lock(1)": "an advisory lock of a session", "select pg_try_advisory_lock_shared(1)": "an advisory lock of a session",
		"SELECT pg_advisory_xact_lock(1)": "", "SELECT 1": "", "": "", "UPDATE listen": "",
	} {
		if got := lastingOf([]byte(text + "\x00")); got != want {
			t.Errorf("%q is %q, want %q", text, got, want)
		}
	}
}

// The log names who asks in transaction mode for what lasts, once for each thing.
func TestWhatLastsIsNamed(t *testing.T) {
	for mode, want := range map[pool.Mode]int{pool.Transaction: 2, pool.Session: 0} {
		b := newBench(t, mode)
		var log bytes.Buffer
		b.d.log, b.d.Outlive = slog.New(slog.NewTextHandler(&log, nil)), true
		ready := []byte{'Z', 0, 0, 0, 5, 'I'}
		for _, text := range []string{"LISTEN a", "LISTEN b", "SELECT 1", "CREATE TEMP TABLE t ()"} {
			b.feed(false, appendMessage(nil, 'Q', text))
			b.feed(true, append(appendMessage(nil, 'C', "LISTEN"), ready...))
		}
		if n := bytes.Count(log.Bytes(), []byte("level=WARN")); n != want {
			t.Errorf("%s: %d warnings, want %d: %s", mode, n, want, &log)
		}
		if want > 0 && !bytes.Contains(log.Bytes(), []byte("client=d/u what=LISTEN")) {
			t.Errorf("%s", &log)
		}
	}
}
