package control

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"howdah/problem"
	"howdah/spec"
)

// An EtcdMember is one server of the store, as it answered just now.
type EtcdMember struct {
	Name    string   `json:"name"`
	URL     string   `json:"url"`
	Up      bool     `json:"up"`
	Leads   bool     `json:"leads"`
	Version string   `json:"version,omitempty"`
	Bytes   int64    `json:"bytes,omitempty"`  // of its database
	InUse   int64    `json:"in_use,omitempty"` // of them; what is left is filled again
	Quota   int64    `json:"quota,omitempty"`  // bytes at which it refuses to write
	Term    int64    `json:"term,omitempty"`   // of Raft
	Index   int64    `json:"index,omitempty"`  // of the last entry that it knows to be kept
	Why     string   `json:"why,omitempty"`    // it is not up
	Ill     []string `json:"ill,omitempty"`    // what it complains of itself: NOSPACE, CORRUPT
}

// Etcd asks every member of the store for its status, all at once, through
// etcd's JSON gateway (POST /v3/maintenance/status).
func (c *Cluster) Etcd(ctx context.Context) []EtcdMember {
	if len(c.Nodes) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	client := &http.Client{Transport: c.transport()}
	known := c.Nodes[0].Etcd.Members
	members := make([]EtcdMember, len(known))
	var wg sync.WaitGroup
	for i, m := range known {
		wg.Go(func() { members[i] = c.etcdMember(ctx, client, m) })
	}
	wg.Wait()
	return members
}

func (c *Cluster) etcdMember(ctx context.Context, client *http.Client, m spec.EtcdMember) EtcdMember {
	e := EtcdMember{Name: m.Name, URL: m.Client}
	var answer struct {
		Header struct {
			Member string `json:"member_id"`
		} `json:"header"`
		Version string   `json:"version"`
		Bytes   int64    `json:"dbSize,string"`
		InUse   int64    `json:"dbSizeInUse,string"`
		Quota   int64    `json:"dbSizeQuota,string"`
		Leader  string   `json:"leader"`
		Term    int64    `json:"raftTerm,string"`
		Index   int64    `json:"raftIndex,string"`
		Errors  []string `json:"errors"`
	}
	err := post(ctx, client, c.door.url(m.Client)+"/v3/maintenance/status", []byte("{}"), &answer)
	if err != nil {
		e.Why = err.Error()
		return e
	}
	// "0" and absent both mean that it knows no leader: it serves nobody.
	led := answer.Leader != "" && answer.Leader != "0"
	e.Up, e.Leads, e.Version = led, led && answer.Leader == answer.Header.Member, answer.Version
	e.Bytes, e.InUse, e.Quota, e.Term, e.Index = answer.Bytes, answer.InUse, answer.Quota, answer.Term, answer.Index
	e.Ill = answer.Errors
	if !led {
		e.Why = "it knows no leader"
	}
	return e
}

// EtcdSnapshot writes a snapshot of the whole store, of every cluster in it, to
// to: what "etcdctl snapshot save" writes and "etcdutl snapshot restore" reads.
// It asks one member after another until one gives it whole, and tells which. A
// snapshot ends with the SHA-256 of what stands before (etcd's
// server/etcdserver/api/v3rpc/maintenance.go, Snapshot), which is checked.
func (c *Cluster) EtcdSnapshot(ctx context.Context, to io.WriteSeeker) (from string, bytes int64, err error) {
	client := &http.Client{Transport: c.transport()}
	var failed []error
	for _, m := range c.Nodes[0].Etcd.Members {
		if _, err := to.Seek(0, io.SeekStart); err != nil {
			return "", 0, err
		}
		n, err := snapshot(ctx, client, c.door.url(m.Client)+"/v3/maintenance/snapshot", to)
		if err == nil {
			return m.Name, n, nil
		}
		failed = append(failed, fmt.Errorf("%s: %w", m.Name, err))
	}
	return "", 0, &problem.Error{
		Code: "etcd-snapshot", What: "there is no snapshot of the store", Why: "no member of etcd gave one that is whole",
		Do: "see `howdah etcd status`", Err: errors.Join(failed...),
	}
}

// silent is how long a member may say nothing in the middle of a snapshot.
const silent = 10 * time.Second

func snapshot(ctx context.Context, client *http.Client, url string, to io.Writer) (int64, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	hush := time.AfterFunc(silent, func() { cancel(fmt.Errorf("it has said nothing for %s", silent)) })
	defer hush.Stop()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader("{}"))
	if err != nil {
		return 0, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, cmp.Or(context.Cause(ctx), err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("it answers %s", resp.Status)
	}
	var tail []byte // the last bytes, which are not part of what they are the sum of
	sum, done := sha256.New(), int64(0)
	for d := json.NewDecoder(resp.Body); ; {
		var part struct {
			Result struct {
				Blob []byte `json:"blob"`
			} `json:"result"`
			Error *struct {
				Message string `json:"message"`
			} `json:"error"`
		}
		switch err := d.Decode(&part); {
		case errors.Is(err, io.EOF):
			if done <= sha256.Size || !bytes.Equal(sum.Sum(nil), tail) {
				return 0, errors.New("it gave a snapshot that is not whole")
			}
			return done, nil
		case err != nil:
			return 0, cmp.Or(context.Cause(ctx), err)
		case part.Error != nil:
			return 0, errors.New(part.Error.Message)
		}
		hush.Reset(silent)
		if _, err := to.Write(part.Result.Blob); err != nil {
			return 0, err
		}
		done += int64(len(part.Result.Blob))
		tail = append(tail, part.Result.Blob...)
		if n := len(tail) - sha256.Size; n > 0 {
			sum.Write(tail[:n])
			tail = append(tail[:0], tail[n:]...)
		}
	}
}

// post asks a member of etcd through its HTTP gateway. A refusal is in the member's own
// words, if it has any.
func post(ctx context.Context, client *http.Client, url string, body []byte, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		var refused struct {
			Message string `json:"message"`
		}
		_ = json.NewDecoder(io.LimitReader(resp.Body, 1<<16)).Decode(&refused) // it may say nothing
		return errors.New(cmp.Or(refused.Message, url+" answers "+resp.Status))
	}
	return json.NewDecoder(resp.Body).Decode(into)
}
