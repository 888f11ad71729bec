package control

import (
	"context"
	"crypto/tls"
	"fmt"
	"slices"
	"strings"
	"sync"

	"howdah/observe/logbook"
	"howdah/observe/logs"
	"howdah/pki"
	"howdah/problem"
	"howdah/spec"
)

// A LogQuery is what somebody wants of logs.
type LogQuery struct {
	logbook.Filter
	Last   int         // so many records, the newest; 0: all
	Follow bool        // and whatever is written from now on
	Files  []string    // these, in place of a cluster's own
	Away   func(error) // hears of a member whose logs can not be read, while the others' are followed
}

// Logs tells the records of the cluster's members, in the order of their times: of
// those that are set up in the house from their files and from what is kept of them,
// for which nothing has to run; of those on other machines where these keep them. It
// returns when there are no more, or with Follow when ctx ends.
func (h House) Logs(ctx context.Context, name string, q LogQuery, tell func(logbook.Record) error) error {
	want := logs.Query{Filter: q.Filter, Last: q.Last, Follow: q.Follow}
	var places []logs.Place
	for _, path := range q.Files {
		places = append(places, logs.Place{File: path})
	}
	if len(places) > 0 {
		return logs.Read(ctx, places, want, nil, tell)
	}
	name, err := h.Name(name)
	if err != nil {
		return err
	}
	nodes, err := h.Nodes(name)
	if err != nil {
		return err
	}
	var known []string
	for _, n := range nodes {
		known = append(known, n.Member)
	}
	var others []spec.Holder
	for _, m := range nodes[0].Logs.Members {
		if !slices.Contains(known, m.Member) {
			known, others = append(known, m.Member), append(others, m)
		}
	}
	for _, m := range q.Members {
		if !slices.Contains(known, m) {
			return &problem.Error{
				Code: "member-unknown", What: "cannot find member " + m + " of cluster " + name,
				Why: "those whose logs can be read from here are " + strings.Join(known, ", "), Do: "name one of these",
			}
		}
	}
	meant := func(m string) bool { return len(q.Members) == 0 || slices.Contains(q.Members, m) }
	for _, n := range nodes {
		if meant(n.Member) {
			if err := logs.Unreadable(n.Paths.Log); err != nil {
				return err
			}
			places = append(places, logs.Place{Source: logbook.Source{Cluster: n.Cluster, Member: n.Member, IP: n.Host}, Dir: n.Paths.Log, Kept: n.Logs.Data})
		}
	}
	others = slices.DeleteFunc(others, func(o spec.Holder) bool { return !meant(o.Member) })
	if len(others) == 0 {
		return logs.Read(ctx, places, want, nil, tell)
	}
	config, err := pki.ClientConfig(nodes[0].TLS)
	if err != nil {
		return err
	}
	return gather(ctx, places, others, config, want, q.Away, tell)
}

// A told is what one of several places says: a record, that what was written until
// now has been told, or why there is no more.
type told struct {
	logbook.Record
	past bool
	err  error
}

// gather tells what the places here and the others have, as one.
func gather(ctx context.Context, here []logs.Place, others []spec.Holder, config *tls.Config, q logs.Query, away func(error), tell func(logbook.Record) error) error {
	ctx, cancel := context.WithCancel(ctx)
	streams := make([]chan told, len(others)+1)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	for i := range streams {
		streams[i] = make(chan told, 64)
		say := func(t told) error {
			select {
			case streams[i] <- t:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		past, record := func() error { return say(told{past: true}) }, func(r logbook.Record) error { return say(told{Record: r}) }
		running.Go(func() {
			defer close(streams[i])
			var err error
			if i == len(others) {
				err = logs.Read(ctx, here, q, past, record)
			} else if err = logs.Ask(ctx, others[i].URL, config, q, past, record); err != nil {
				err = &problem.Error{
					Code: "logs-away", What: "cannot read the logs of " + others[i].Member, Why: err.Error(),
					Do: "see whether its machine is up and keeps logs (`howdah jobs` there); `howdah logs` on that machine needs nothing else", Err: err,
				}
			}
			if err != nil {
				_ = say(told{err: err}) // unless nobody listens any more
			}
		})
	}
	var missing error
	var all []logbook.Record // the newest, of each
	give := func(r logbook.Record) error {
		if q.Last == 0 {
			return tell(r)
		}
		all = append(all, r)
		return nil
	}
	heads := make([]*logbook.Record, len(streams))
	done := make([]bool, len(streams))
	for {
		next := -1
		for i, s := range streams {
			for heads[i] == nil && !done[i] {
				t, ok := <-s
				switch {
				case !ok || t.past:
					done[i] = true
				case t.err != nil:
					done[i], missing = true, t.err
					if away != nil && q.Follow {
						away(t.err)
					}
				default:
					heads[i] = &t.Record
				}
			}
			if heads[i] != nil && (next < 0 || heads[i].Time.Before(heads[next].Time)) {
				next = i
			}
		}
		if next < 0 {
			break
		}
		if err := give(*heads[next]); err != nil {
			return err
		}
		heads[next] = nil
	}
	for _, r := range all[max(0, len(all)-q.Last):] {
		if err := tell(r); err != nil {
			return err
		}
	}
	if !q.Follow {
		return missing
	}
	news := make(chan told)
	for _, s := range streams {
		running.Go(func() {
			for t := range s {
				select {
				case news <- t:
				case <-ctx.Done(): // what is still in the stream is nobody's
				}
			}
		})
	}
	for {
		select {
		case t := <-news:
			if t.err != nil {
				if away != nil {
					away(t.err)
				}
				continue
			}
			if t.past {
				continue
			}
			if err := tell(t.Record); err != nil {
				return fmt.Errorf("tell: %w", err)
			}
		case <-ctx.Done():
			return nil
		}
	}
}
