package control

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

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
// for which nothing has to run; of those on other machines where these keep them. The
// nodes of no cluster are named like one, by their group or each by itself; in a house
// that has no cluster all are meant that are known. It returns when there are no more,
// or with Follow when ctx ends.
func (h House) Logs(ctx context.Context, name string, q LogQuery, tell func(logbook.Record) error) error {
	want := logs.Query{Filter: q.Filter, Last: q.Last, Follow: q.Follow}
	var places []logs.Place
	for _, path := range q.Files {
		places = append(places, logs.Place{File: path})
	}
	if len(places) > 0 {
		return logs.Read(ctx, places, want, nil, tell)
	}
	of, members, err := h.logged(ctx, name, q.Members)
	if err != nil {
		return err
	}
	want.Members = members
	meant := func(m string) bool { return len(members) == 0 || slices.Contains(members, m) }
	for _, n := range of.here {
		if meant(n.Member) {
			if err := logs.Unreadable(n.Paths.Log); err != nil {
				return err
			}
			places = append(places, logs.Place{Source: logbook.Source{Cluster: n.Cluster, Member: n.Member, IP: n.Host}, Dir: n.Paths.Log, Kept: n.Logs.Data})
		}
	}
	var others []spec.Holder
	for _, o := range of.there {
		if meant(o.Member) {
			others = append(others, spec.Holder{Member: o.Member, URL: o.URL})
		}
	}
	missing := of.unseen
	away := func(err error) {
		if missing = err; q.Follow && q.Away != nil {
			q.Away(err)
		}
	}
	if missing != nil {
		away(missing)
	}
	if len(others) == 0 {
		err = logs.Read(ctx, places, want, nil, tell)
	} else {
		var peers *pki.Peers
		if peers, err = pki.Open(of.trust); err != nil {
			return err
		}
		err = gather(ctx, places, others, peers, want, away, tell)
	}
	if err == nil && !q.Follow {
		err = missing
	}
	return err
}

// A logging is who writes logs that somebody wants.
type logging struct {
	here   []spec.Node   // whose files are in the house
	there  []spec.Logged // who are asked for theirs
	trust  spec.TLS      // by what these know us
	unseen error         // why there may be others
}

func (l logging) members() (all []string) {
	for _, n := range l.here {
		all = append(all, n.Member)
	}
	for _, o := range l.there {
		all = append(all, o.Member)
	}
	return all
}

// groups are the names of clusters, and of groups of nodes without a server.
func (l logging) groups() (all []string) {
	for _, n := range l.here {
		all = append(all, n.Cluster)
	}
	for _, o := range l.there {
		all = append(all, o.Cluster)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// lacks is the first of the members that is none of them, or "".
func (l logging) lacks(members []string) string {
	known := l.members()
	if i := slices.IndexFunc(members, func(m string) bool { return !slices.Contains(known, m) }); i >= 0 {
		return members[i]
	}
	return ""
}

// logged finds who is meant by the name of a cluster or of a group of nodes without a
// server, which may be the first of the members, or by members' names alone.
func (h House) logged(ctx context.Context, name string, members []string) (of logging, _ []string, err error) {
	clusters := h.Clusters()
	if name == "" && len(clusters) == 1 || slices.Contains(clusters, name) {
		cluster := cmp.Or(name, clusters[0])
		if of, err = h.clusterLogged(cluster); err != nil || of.lacks(members) == "" {
			return of, members, err
		}
		if name != "" {
			return of, nil, unknownMember(of.lacks(members), " of cluster "+name, of)
		}
	} else if name == "" && len(members) == 0 && len(clusters) > 1 {
		_, err := h.Name("")
		return of, nil, err
	}
	if of, err = h.allLogged(ctx); err != nil {
		return of, nil, err
	}
	groups := of.groups()
	if name == "" && len(members) > 0 && slices.Contains(groups, members[0]) && of.lacks(members[:1]) != "" {
		name, members = members[0], members[1:]
	}
	if name != "" {
		of.here = slices.DeleteFunc(of.here, func(n spec.Node) bool { return n.Cluster != name })
		of.there = slices.DeleteFunc(slices.Clone(of.there), func(l spec.Logged) bool { return l.Cluster != name })
	}
	nobody := len(of.members()) == 0
	switch lacks := of.lacks(members); {
	case (nobody || lacks != "") && of.unseen != nil:
		return of, nil, of.unseen
	case nobody:
		return of, nil, &problem.Error{
			Code: "cluster-unknown", What: "cannot find logs of " + name, Why: "those that can be read from here are of " + strings.Join(groups, ", "),
			Do: "name one of these, or say with --dir where the cluster is",
		}
	case lacks != "":
		return of, nil, unknownMember(lacks, "", of)
	case len(members) > 0 && (logging{here: of.here}).lacks(members) == "":
		of.unseen = nil // all that was asked for is here
	}
	return of, members, nil
}

func unknownMember(member, where string, of logging) error {
	return &problem.Error{
		Code: "member-unknown", What: "cannot find member " + member + where,
		Why: "those whose logs can be read from here are " + strings.Join(of.members(), ", "), Do: "name one of these",
	}
}

// clusterLogged are the members of a cluster that has nodes in the house.
func (h House) clusterLogged(name string) (of logging, err error) {
	if of.here, err = h.Nodes(name); err != nil {
		return of, err
	}
	of.trust = of.here[0].TLS
	for _, m := range of.here[0].Logs.Members {
		if of.lacks([]string{m.Member}) != "" {
			of.there = append(of.there, spec.Logged{Cluster: name, Member: m.Member, URL: m.URL})
		}
	}
	return of, nil
}

// allLogged are all nodes of the house, and all others that the store of metrics knows
// whom these ask.
func (h House) allLogged(ctx context.Context) (of logging, err error) {
	if of.here, err = h.every(); err != nil {
		return of, err
	}
	if len(of.here) == 0 {
		_, err := h.Name("")
		return of, err
	}
	of.trust = of.here[0].TLS
	of.there, of.unseen = h.observedLogs(ctx, of.here)
	of.there = slices.DeleteFunc(slices.Clone(of.there), func(l spec.Logged) bool {
		return slices.ContainsFunc(of.here, func(n spec.Node) bool { return n.Cluster == l.Cluster && n.Member == l.Member })
	})
	return of, nil
}

// observedWithin is what the store of metrics may take to say whose logs it knows:
// those that are here are not to wait for it.
const observedWithin = 3 * time.Second

// observedLogs are those whose logs the store of metrics knows that these nodes ask, or
// that one of them keeps.
func (h House) observedLogs(ctx context.Context, nodes []spec.Node) (all []spec.Logged, err error) {
	if i := slices.IndexFunc(nodes, func(n spec.Node) bool { return n.Observe.On() }); i >= 0 {
		return nodes[i].Observe.Logs, nil
	}
	store := h.storeOf(nodes, h.door(nodes))
	if store.url == "" {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, observedWithin)
	defer cancel()
	if err = store.fetch(ctx, "/howdah/logs", nil, &all); err != nil {
		return nil, &problem.Error{
			Code: "logs-away", What: "cannot find the logs of other machines", Why: problem.Plain(err).Why,
			Do: "see whether `howdah observe` runs on the machine that keeps metrics; logs of this machine need nothing else", Err: err,
		}
	}
	return all, nil
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
