package control

import (
	"context"
	"fmt"
	"net/url"
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
	peers, err := pki.Open(nodes[0].TLS)
	if err != nil {
		return err
	}
	var missing error
	err = gather(ctx, places, others, peers, want, func(err error) {
		if missing = err; q.Follow && q.Away != nil {
			q.Away(err)
		}
	}, tell)
	if err == nil && !q.Follow {
		err = missing
	}
	return err
}

// ObservedLogs are the logs of every node that one observes, as they are read from there.
type ObservedLogs struct {
	nodes []spec.Logged
	peers *pki.Peers
}

// WatchLogs returns the logs that the node n observes.
func WatchLogs(n spec.Node) (ObservedLogs, error) {
	peers, err := pki.Open(n.TLS)
	return ObservedLogs{n.Observe.Logs, peers}, err
}

// Sources are the nodes whose logs are read.
func (o ObservedLogs) Sources() (all []logbook.Source) {
	for _, l := range o.nodes {
		all = append(all, logbook.Source{Cluster: l.Cluster, Member: l.Member, IP: l.Host})
	}
	return all
}

// Read tells the records that q wants of the nodes that may have some, in the order of
// their times. Away hears of every node whose logs could not be read.
func (o ObservedLogs) Read(ctx context.Context, q LogQuery, tell func(logbook.Record) error) error {
	var of []spec.Holder
	for i, s := range o.Sources() {
		if q.Selector == nil || q.Selector.May(s) {
			of = append(of, spec.Holder{Member: s.Member, URL: o.nodes[i].URL})
		}
	}
	return gather(ctx, nil, of, o.peers, logs.Query{Filter: q.Filter, Last: q.Last, Follow: q.Follow}, q.Away, tell)
}

// Streams are the jobs of each of the sources, with the levels that their records may
// have, as bits. Of a node that can not be asked there are none, and away hears of it.
func (o ObservedLogs) Streams(ctx context.Context, away func(error)) map[logbook.Source]uint {
	var mu sync.Mutex
	all := map[logbook.Source]uint{}
	var asked sync.WaitGroup
	for i, s := range o.Sources() {
		asked.Go(func() {
			jobs, err := logs.AskStreams(ctx, o.nodes[i].URL, o.peers.To(hostOf(o.nodes[i].URL)))
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				away(logsAway(s.Member, err))
			}
			for job, levels := range jobs {
				of := s
				of.Job = job
				all[of] = levels
			}
		})
	}
	asked.Wait()
	return all
}

// hostOf is the host of a URL, whose certificate is to be shown there.
func hostOf(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return ""
	}
	return u.Hostname()
}

func logsAway(member string, err error) error {
	return &problem.Error{
		Code: "logs-away", What: "cannot read the logs of " + member, Why: err.Error(),
		Do: "see whether its machine is up and keeps logs (`howdah jobs` there); `howdah logs` on that machine needs nothing else", Err: err,
	}
}

// A told is what one of several places says: a record, that what was written until
// now has been told, or why there is no more.
type told struct {
	logbook.Record
	past bool
	err  error
}

// gather tells what the places here and the others have, as one.
func gather(ctx context.Context, here []logs.Place, others []spec.Holder, peers *pki.Peers, q logs.Query, away func(error), tell func(logbook.Record) error) error {
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
			} else if err = logs.Ask(ctx, others[i].URL, peers.To(hostOf(others[i].URL)), q, past, record); err != nil {
				err = logsAway(others[i].Member, err)
			}
			if err != nil {
				_ = say(told{err: err}) // unless nobody listens any more
			}
		})
	}
	last := logs.Tail{Most: q.Last}
	give := func(r logbook.Record) error {
		if q.Last == 0 {
			return tell(r)
		}
		last.Add(r)
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
					done[i] = true
					away(t.err)
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
	for _, r := range last.Records() {
		if err := tell(r); err != nil {
			return err
		}
	}
	if !q.Follow {
		return nil
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
				away(t.err)
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
