package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"
)

// writers are given as 'NAME SERVICE NAMESPACE HOST:PORT CLASS', again and again.
type writers []*writer

func (*writers) String() string { return "" }

func (l *writers) Set(s string) error {
	f := strings.Fields(s)
	if len(f) != 5 || f[4] != live && f[4] != faulted && f[4] != inside {
		return fmt.Errorf("want NAME SERVICE NAMESPACE HOST:PORT CLASS, got %q", s)
	}
	*l = append(*l, &writer{name: f[0], service: f[1], namespace: f[2], addr: f[3], class: f[4], number: int64(len(*l) + 1)})
	return nil
}

// A run is everything around one fault.
type run struct {
	access
	writers   writers
	namespace string   // that rows are read back from
	servers   []string // all of them, to be asked for the rows one after another

	fault, heal           string // commands
	warm, observe, stable time.Duration
	limit, after          time.Duration

	start time.Time
}

func outage(args []string) error {
	fs := flag.NewFlagSet("outage", flag.ExitOnError)
	r := run{}
	fs.Var(&r.writers, "w", "a writer: 'NAME SERVICE NAMESPACE HOST:PORT CLASS' (repeat)")
	fs.StringVar(&r.user, "user", "bench", "role of the writers, owner of the database")
	fs.StringVar(&r.password, "password", "bench", "its password")
	fs.StringVar(&r.database, "db", "bench", "its database")
	fs.BoolVar(&r.tls, "tls", false, "speak TLS, where a subject refuses anything else")
	fs.DurationVar(&r.timeout, "timeout", time.Second, "a client's limit for a connection, and for a statement")
	fs.StringVar(&r.namespace, "verify-ns", "", "network namespace that rows are read back from")
	servers := fs.String("verify", "", "HOST:PORT of every server, comma separated, to read the rows back from")
	fs.StringVar(&r.fault, "fault", "", "command that breaks something")
	fs.StringVar(&r.heal, "heal", "", "command that mends it, and ends when the cluster is whole")
	fs.DurationVar(&r.warm, "warm", 3*time.Second, "time without a failure before the fault")
	fs.DurationVar(&r.observe, "observe", 15*time.Second, "least time watched after it")
	fs.DurationVar(&r.stable, "stable", 4*time.Second, "time without a failure that counts as recovered")
	fs.DurationVar(&r.limit, "max", 2*time.Minute, "most time watched after it")
	fs.DurationVar(&r.after, "after-heal", 2*time.Second, "time watched after the mending")
	subject := fs.String("subject", "", "what is measured: its name, its timers and the fault, as 'SUBJECT PROFILE SCENARIO'")
	facts := fs.String("facts", "", "key=value lines to keep with the result")
	out := fs.String("out", "", "file for the result")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if len(r.writers) == 0 || r.fault == "" || r.heal == "" || *servers == "" || *out == "" {
		return errors.New("outage: -w, -fault, -heal, -verify and -out are required")
	}
	r.servers = strings.Split(*servers, ",")
	res, err := r.measure(context.Background())
	if err != nil {
		return err
	}
	if f := strings.Fields(*subject); len(f) == 3 {
		res.Subject, res.Profile, res.Scenario = f[0], f[1], f[2]
	}
	for line := range strings.Lines(*facts) {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			res.Facts[k] = v
		}
	}
	b, err := json.MarshalIndent(res, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(*out, append(b, '\n'), 0o644)
}

// measure writes, breaks, watches, mends, reads back and judges.
func (r *run) measure(ctx context.Context) (*result, error) {
	if err := r.prepare(ctx); err != nil {
		return nil, fmt.Errorf("prepare: %w", err)
	}
	writing, stop := context.WithCancel(ctx)
	defer stop()
	r.start = time.Now()
	var all sync.WaitGroup
	for _, w := range r.writers {
		all.Go(func() { w.run(writing, r.access, r.start) })
	}
	if !r.healthy(ctx, r.writers, 0, r.warm, time.Minute) {
		return nil, errors.New("not every writer was well before the fault")
	}
	var e episode
	var err error
	res := &result{When: r.start.UTC(), Facts: map[string]string{}}
	e.fault = time.Since(r.start)
	res.FaultOK = command("fault", r.fault)
	res.FaultMS = ms(time.Since(r.start) - e.fault)
	if err := pause(ctx, r.observe-(time.Since(r.start)-e.fault)); err != nil {
		return nil, err
	}
	res.Recovered = r.healthy(ctx, of(r.writers, live), e.fault, r.stable, r.limit)
	e.heal = time.Since(r.start)
	res.Healed = command("heal", r.heal)
	res.HealMS = ms(time.Since(r.start) - e.heal)
	if err := pause(ctx, r.after); err != nil {
		return nil, err
	}
	stop()
	all.Wait()
	e.end = time.Since(r.start)
	e.writers = r.writers
	if e.present, res.ReadFrom, err = r.readBack(ctx); err != nil {
		return nil, fmt.Errorf("read back: %w", err)
	}
	e.judge(res)
	return res, nil
}

func command(what, line string) bool {
	out, err := exec.Command("bash", "-c", line).CombinedOutput()
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s command: %v: %s\n", what, err, out)
	}
	return err == nil
}

func of(all []*writer, class string) []*writer {
	var some []*writer
	for _, w := range all {
		if w.class == class {
			some = append(some, w)
		}
	}
	return some
}

// healthy waits until all were well for so long, and not longer than limit after from.
func (r *run) healthy(ctx context.Context, all []*writer, from, long, limit time.Duration) bool {
	since := time.Duration(-1)
	for {
		now := time.Since(r.start)
		well := true
		for _, w := range all {
			well = well && w.well(now)
		}
		switch {
		case !well:
			since = -1
		case since < 0:
			since = now
		case now-since >= long:
			return true
		}
		if now-from > limit || pause(ctx, 20*time.Millisecond) != nil {
			return false
		}
	}
}

// somewhere does something at the first of the given addresses where it can be
// done, for as long as half a minute.
func (r *run) somewhere(ctx context.Context, addrs map[string]string, sql string) (rows [][][]byte, from string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		for addr, namespace := range addrs {
			conn, cerr := r.connect(ctx, namespace, addr)
			if cerr != nil {
				err = cerr
				continue
			}
			results, qerr := conn.Exec(ctx, sql).ReadAll()
			sever(conn)
			if qerr == nil && len(results) > 0 {
				return results[len(results)-1].Rows, addr, nil
			}
			err = qerr
		}
		if pause(ctx, 300*time.Millisecond) != nil {
			return nil, "", fmt.Errorf("nowhere: %w", err)
		}
	}
}

func (r *run) prepare(ctx context.Context) error {
	addrs := map[string]string{}
	for _, w := range of(r.writers, live) {
		addrs[w.addr] = w.namespace
	}
	_, _, err := r.somewhere(ctx, addrs, "drop table if exists peers_probe; create table peers_probe (id bigint primary key, at timestamptz default clock_timestamp())")
	return err
}

// readBack is every row that the cluster still has, by whoever leads it.
func (r *run) readBack(ctx context.Context) (map[int64]bool, string, error) {
	addrs := map[string]string{}
	for _, addr := range r.servers {
		addrs[addr] = r.namespace
	}
	// A standby divides by zero, and another is asked.
	rows, from, err := r.somewhere(ctx, addrs, "select 1 / (not pg_is_in_recovery())::int; select id from peers_probe")
	present := make(map[int64]bool, len(rows))
	for _, row := range rows {
		id, err := strconv.ParseInt(string(row[0]), 10, 64)
		if err != nil {
			return nil, "", err
		}
		present[id] = true
	}
	return present, from, err
}
