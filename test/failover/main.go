// Command failover measures for how long writes stop when something breaks.
//
//	go run ./test/failover -howdah ./howdah [-n 20] [-faults kill-postgres,switchover] [-max-loss 1MB] [-load pgbench] [-idle 60s]
//
// It starts a playground of its own, writes numbered rows into it, breaks the
// primary in every way again and again, and prints a table: the longest time
// between two acknowledged rows around each fault, and which acknowledged rows
// are gone afterwards. Then it lets the cluster be, and measures what that
// costs. It ends with 1 when a bound of the product is broken (report.go).
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"howdah/test/outside"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "failover:", err)
		os.Exit(1)
	}
}

var errBroken = errors.New("a bound is broken")

func run() error {
	howdah := flag.String("howdah", "./howdah", "the program to measure")
	ground := flag.String("ground", "", "loopback or isolated")
	n := flag.Int("n", 20, "how often each fault is tried")
	loss := flag.String("max-loss", "", "as of howdah up: commits wait for nobody, and a lost node may take so much along")
	names := flag.String("faults", "kill-postgres,kill-agent,stop-node,switchover,kill-node,cut-node", "which faults, in this order")
	through := flag.String("through", "primary", "the service that rows are written through, on every node's port of it; empty: straight at the servers")
	load := flag.String("load", "none", "what runs beside the writer: none or pgbench")
	idle := flag.Duration("idle", time.Minute, "measure memory and CPU of the idle cluster for so long at the end; 0: do not")
	out := flag.String("json", "", "write every measurement to this file")
	keep := flag.Bool("keep", false, "when a bound is broken, leave the playground for whoever looks into it")
	verbose := flag.Bool("v", false, "tell of every try")
	flag.Parse()
	faults, err := pick(*names, *loss == "" || *loss == "0")
	if err != nil {
		return err
	}
	if *load != "none" && *load != "pgbench" {
		return fmt.Errorf("-load %s: none or pgbench", *load)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()

	c, err := up(ctx, *howdah, *ground, *loss)
	if err != nil {
		return err
	}
	left := false
	defer func() {
		if left {
			fmt.Fprintf(os.Stderr, "left as it is: %s\n", c.Dir)
			return
		}
		if err := c.end(); err != nil {
			fmt.Fprintln(os.Stderr, "failover:", err)
		}
	}()
	report := Report{Environment: c.environment(ctx, *through, *load), Up: c.up}
	fmt.Println(report.Environment)
	if report.List, err = c.listTime(ctx); err != nil {
		return err
	}
	fmt.Printf("up %s, list %s\n", report.Up.Round(10*time.Millisecond), report.List.Round(time.Millisecond))
	if *n > 0 && len(faults) > 0 {
		report.Faults, err = measure(ctx, c, faults, *n, *through, *load, *verbose)
		fmt.Printf("\n%s", table(report.Faults))
	}
	if err == nil && *idle > 0 {
		if report.Idle, err = c.idle(ctx, *idle); err == nil {
			fmt.Printf("\n%s", report.Idle)
		}
	}
	if *out != "" {
		text, jerr := json.MarshalIndent(report, "", "  ")
		if jerr == nil {
			jerr = os.WriteFile(*out, append(text, '\n'), 0o644)
		}
		err = errors.Join(err, jerr)
	}
	broken := report.broken()
	left = *keep && (err != nil || len(broken) > 0)
	if len(broken) > 0 {
		fmt.Printf("\nbroken:\n- %s\n", strings.Join(broken, "\n- "))
		err = errors.Join(err, errBroken)
	}
	return err
}

// measure tries every fault n times under one writer.
func measure(ctx context.Context, c *cluster, faults []fault, n int, through, load string, verbose bool) ([]Result, error) {
	write := c.Write
	if through != "" {
		write = func(ctx context.Context) (*outside.Writer, error) { return c.WaitThrough(ctx, through) }
	}
	w, err := write(ctx)
	if err != nil {
		return nil, err
	}
	defer w.Stop()
	if load == "pgbench" {
		l, err := startLoad(ctx, c)
		if err != nil {
			return nil, err
		}
		defer l.stop()
	}
	var results []Result
	for _, group := range turnByTurn(faults) {
		begin := len(results)
		for _, f := range group {
			results = append(results, Result{Fault: f.name, bound: f.bound(c.timers()), mayLose: f.mayLose})
		}
		for i := range n {
			for k, f := range group {
				t, err := try(ctx, c, w, f, through)
				if err != nil {
					return results, fmt.Errorf("%s, try %d: %w", f.name, i+1, err)
				}
				results[begin+k].Tries = append(results[begin+k].Tries, t)
				if verbose {
					fmt.Fprintf(os.Stderr, "%-14s %2d/%d  %s\n", f.name, i+1, n, t)
				}
			}
		}
	}
	return results, nil
}
