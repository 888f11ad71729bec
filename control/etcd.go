package control

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"howdah/spec"
)

// An EtcdMember is one server of the store, as it answered just now.
type EtcdMember struct {
	Name    string `json:"name"`
	URL     string `json:"url"`
	Up      bool   `json:"up"`
	Leads   bool   `json:"leads"`
	Version string `json:"version,omitempty"`
	Bytes   int64  `json:"bytes,omitempty"` // of its database
	Why     string `json:"why,omitempty"`   // it is not up
}

// Etcd asks every member of the store for its status, all at once, through
// etcd's JSON gateway (POST /v3/maintenance/status).
func (c *Cluster) Etcd(ctx context.Context) []EtcdMember {
	if len(c.Nodes) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	transport := &http.Transport{TLSClientConfig: c.tls, DisableKeepAlives: true}
	client := &http.Client{Transport: transport}
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
		Version string `json:"version"`
		Bytes   string `json:"dbSize"`
		Leader  string `json:"leader"`
	}
	err := post(ctx, client, c.door.url(m.Client)+"/v3/maintenance/status", &answer)
	if err != nil {
		e.Why = err.Error()
		return e
	}
	// "0" and absent both mean that it knows no leader: it serves nobody.
	led := answer.Leader != "" && answer.Leader != "0"
	e.Up, e.Leads, e.Version = led, led && answer.Leader == answer.Header.Member, answer.Version
	e.Bytes, _ = strconv.ParseInt(answer.Bytes, 10, 64)
	if !led {
		e.Why = "it knows no leader"
	}
	return e
}

func post(ctx context.Context, client *http.Client, url string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader([]byte("{}")))
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
		return fmt.Errorf("%s answers %s", url, resp.Status)
	}
	return json.NewDecoder(resp.Body).Decode(into)
}
