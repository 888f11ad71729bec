package pigsty

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"howdah/spec"
)

// How fast etcd is: as the inventory says, or as the fastest lease lets it be; and a
// lease that nobody chose is as long as an election that somebody did.
func TestPaceOfEtcd(t *testing.T) {
	const ms = time.Millisecond
	for _, tt := range []struct {
		name, all, etcd, host, pg string
		election, heartbeat       time.Duration
		lease                     time.Duration
		problem                   string
	}{
		{name: "nobody says", election: 600 * ms, lease: 5 * time.Second},
		{name: "a slow lease", pg: "pg_rto: norm", election: 3000 * ms, lease: 30 * time.Second},
		{name: "both", etcd: "etcd_election_timeout: 1000, etcd_heartbeat_interval: 100", election: 1000 * ms, heartbeat: 100 * ms, lease: 7 * time.Second},
		{name: "of all", all: "etcd_election_timeout: '2000'", election: 2000 * ms, lease: 12 * time.Second},
		{name: "its group over all", all: "etcd_election_timeout: 3000", etcd: "etcd_election_timeout: 500", election: 500 * ms, lease: 5 * time.Second},
		{name: "heartbeats alone", etcd: "etcd_heartbeat_interval: 50", election: 600 * ms, heartbeat: 50 * ms, lease: 5 * time.Second},
		{name: "slow heartbeats alone", etcd: "etcd_heartbeat_interval: 300", election: 1500 * ms, heartbeat: 300 * ms, lease: 10 * time.Second},
		{name: "just room", etcd: "etcd_election_timeout: 3600", pg: "pg_rto: fast", election: 3600 * ms, lease: 20 * time.Second},
		{name: "no room", etcd: "etcd_election_timeout: 3700", pg: "pg_rto: fast", problem: "the lease of cluster pg-a is 20s by its pg_rto, which must hold five of them and 2 s (20.5s)"},
		{name: "too few heartbeats", etcd: "etcd_election_timeout: 499, etcd_heartbeat_interval: 100", problem: "etcd_election_timeout is 499ms and etcd_heartbeat_interval 100ms: an election of etcd holds five heartbeats at least"},
		{name: "too slow for etcd", etcd: "etcd_heartbeat_interval: 10001", problem: "takes 50s at most"},
		{name: "no number", etcd: "etcd_election_timeout: 1s", problem: "etcd_election_timeout must be a whole number from 10 to 50000"},
		{name: "not alike", host: "etcd_election_timeout: 1000", problem: "a store has one pace"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			host := "etcd_seq: 2"
			if tt.host != "" {
				host += ", " + tt.host
			}
			w := Read("x.yml", []byte(fmt.Sprintf(`all:
  vars: { %s }
  children:
    etcd: { hosts: { 10.0.0.1: { etcd_seq: 1 }, 10.0.0.2: { %s }, 10.0.0.3: { etcd_seq: 3 } }, vars: { %s } }
    pg-a:
      hosts: { 10.0.0.1: { pg_seq: 1, pg_role: primary }, 10.0.0.4: { pg_seq: 2, pg_role: replica } }
      vars: { pg_cluster: pg-a, %s }
`, strings.Join([]string{"admin_ip: 10.0.0.1", tt.all}, ", "), host, tt.etcd, tt.pg)))
			if tt.problem != "" {
				if err := w.Err(); err == nil || !strings.Contains(err.Error(), tt.problem) {
					t.Fatalf("it says %v, want %q", err, tt.problem)
				}
				return
			}
			if err := w.Err(); err != nil {
				t.Fatal(err)
			}
			c := w.Clusters[0]
			if w.Beat.Election != tt.election || w.Beat.Heartbeat != tt.heartbeat || c.Timers.Lease != tt.lease {
				t.Errorf("election %s, heartbeat %s, lease %s; want %s, %s, %s", w.Beat.Election, w.Beat.Heartbeat, c.Timers.Lease, tt.election, tt.heartbeat, tt.lease)
			}
			if c.Timers.Election != tt.election || c.Timers.Validate() != nil {
				t.Errorf("timers %+v: %v", c.Timers, c.Timers.Validate())
			}
			if e := (spec.Etcd{Election: tt.election, Heartbeat: tt.heartbeat}); beats*e.Beats() > e.Misses() {
				t.Errorf("heartbeats every %s in an election of %s", e.Beats(), e.Misses())
			}
		})
	}
}
