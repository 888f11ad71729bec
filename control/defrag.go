package control

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"howdah/problem"
	"howdah/spec"
)

// EtcdDefrag gives back the room that the store's past takes: what was overwritten is
// dropped (compaction), then every member's file is written anew, the leader's last, one
// at a time, for a member answers nobody meanwhile. Where there is room then, the alarm
// of a full store is taken back. The members are those before it and those after it.
func (c *Cluster) EtcdDefrag(ctx context.Context, each func(EtcdMember)) (before, after []EtcdMember, err error) {
	client := &http.Client{Transport: c.transport()}
	before = c.Etcd(ctx)
	for _, m := range before {
		if !m.Up {
			return before, nil, &problem.Error{
				Code: "etcd-defrag", What: "the store's files are left as they are", Why: m.Name + " is not up: " + m.Why,
				Do: "bring it back first: with a member away, one more that answers nobody for a moment may be a majority",
			}
		}
	}
	order := slices.Clone(before)
	slices.SortStableFunc(order, func(a, b EtcdMember) int {
		leads := func(m EtcdMember) int {
			if m.Leads {
				return 1
			}
			return 0
		}
		return cmp.Compare(leads(a), leads(b))
	})
	ask := func(m EtcdMember, path string, question, answer any) error {
		body, err := json.Marshal(question)
		if err != nil {
			return err
		}
		return post(ctx, client, c.door.url(m.URL)+path, body, answer)
	}
	failed := func(what string, m EtcdMember, err error) error {
		return &problem.Error{
			Code: "etcd-defrag", What: "the store could not be " + what, Why: m.Name + ": " + err.Error(),
			Do: "see `howdah etcd status`, and do it again: what was done stays done", Err: err,
		}
	}
	if len(order) == 0 {
		return nil, nil, errors.New("no member of etcd is known")
	}
	asked := order[0]
	var now struct {
		Header struct {
			Revision int64 `json:"revision,string"`
		} `json:"header"`
	}
	if err := ask(asked, "/v3/maintenance/status", struct{}{}, &now); err != nil {
		return before, nil, failed("asked for its revision", asked, err)
	}
	type compaction struct {
		Revision int64 `json:"revision,string"`
		Physical bool  `json:"physical"`
	}
	var ignored json.RawMessage
	if err := ask(asked, "/v3/kv/compaction", compaction{now.Header.Revision, true}, &ignored); err != nil && !bytes.Contains([]byte(err.Error()), []byte("compacted")) {
		return before, nil, failed("compacted", asked, err)
	}
	for _, m := range order {
		if err := ask(m, "/v3/maintenance/defragment", struct{}{}, &ignored); err != nil {
			return before, nil, failed("defragmented", m, err)
		}
		one, err := c.answers(ctx, client, m.Name)
		if err != nil {
			return before, nil, failed("defragmented", m, err)
		}
		if each != nil {
			each(one)
		}
	}
	after = c.Etcd(ctx)
	for _, m := range after {
		if m.Quota > 0 && float64(m.Bytes) > full*float64(m.Quota) {
			return before, after, &problem.Error{
				Code: "etcd-full", What: "the store is still full", Why: fmt.Sprintf("what is in it now takes %d of %d bytes on %s", m.Bytes, m.Quota, m.Name),
				Do: "somebody else than Howdah writes there: delete their keys (`etcdctl get --prefix --keys-only ''` lists all), and do this again",
			}
		}
	}
	type alarm struct {
		Action string `json:"action,omitempty"`
		Member string `json:"memberID,omitempty"`
		Alarm  string `json:"alarm"`
	}
	var raised struct {
		Alarms []alarm `json:"alarms"`
	}
	err = ask(asked, "/v3/maintenance/alarm", alarm{Action: "GET", Alarm: "NOSPACE"}, &raised)
	for _, one := range raised.Alarms { // each is a member's, and taken back by its name
		one.Action = "DEACTIVATE"
		if err == nil && one.Alarm == "NOSPACE" {
			err = ask(asked, "/v3/maintenance/alarm", one, &ignored)
		}
	}
	if err != nil {
		return before, after, failed("told that there is room", asked, err)
	}
	return before, c.Etcd(ctx), nil
}

// answers waits until a member that answered nobody is back.
func (c *Cluster) answers(ctx context.Context, client *http.Client, name string) (m EtcdMember, err error) {
	i := slices.IndexFunc(c.Nodes[0].Etcd.Members, func(m spec.EtcdMember) bool { return m.Name == name })
	for range 100 {
		if m = c.etcdMember(ctx, client, c.Nodes[0].Etcd.Members[i]); m.Up {
			return m, nil
		}
		select {
		case <-ctx.Done():
			return m, ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
	return m, errors.New(m.Why)
}
