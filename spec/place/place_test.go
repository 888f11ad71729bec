package place

import (
	"fmt"
	"strings"
	"testing"

	"howdah/postgres/conf"
	"howdah/spec"
	"howdah/spec/pigsty"
)

const inventory = `all:
  children:
    etcd: { hosts: { 10.10.10.10: { etcd_seq: 1 } } }
    proxy: { hosts: { 10.10.10.20: { haproxy_auth_enabled: no } } }
    pg-a:
      vars: { pg_cluster: pg-a, pg_version: 16, pg_conf: tiny.yml, patroni_ssl_enabled: yes, haproxy_admin_username: boss, pg_parameters: { work_mem: 9MB, min_wal_size: 96MB } }
      hosts: { 10.10.10.11: { pg_seq: 1, pg_role: primary }, 10.10.10.12: { pg_seq: 2, pg_role: delayed, pg_delay: 1h } }
    pg-b:
      vars: { pg_cluster: pg-b, pg_parameters: { archive_command: mine }, pg_service_provider: proxy, pg_services: [ { name: low, port: 80, selector: '[]', check: /primary } ] }
      hosts: { 10.10.10.13: { pg_seq: 1, pg_role: primary } }
`

func TestNodes(t *testing.T) {
	w := pigsty.Read("x", []byte(inventory))
	if err := w.Err(); err != nil {
		t.Fatal(err)
	}
	nodes := Nodes(w, Site{
		Dir: "/d", Run: "/r", Binary: "/d/bin/how%dah", Machine: conf.Machine{CPU: 1, MemoryMB: 1024},
		Programs:  map[int]spec.Postgres{16: {Bin: "/16", Major: 16}, 18: {Bin: "/17", Major: 17}},
		Addresses: map[string]string{"10.10.10.11": "127.10.10.11"},
		Instead:   map[string]string{"min_wal_size": "80MB", "max_wal_size": "1GB"}, Bind: true, LowPorts: true,
	})
	byName := map[string]spec.Node{}
	for _, n := range nodes {
		byName[n.Member] = n
	}
	a1, a2, b, store, proxy := byName["pg-a-1"], byName["pg-a-2"], byName["pg-b-1"], byName["etcd-1"], byName["proxy-1"]
	for _, tt := range []struct{ what, got, want string }{
		{"nodes", fmt.Sprint(len(nodes)), "5"},
		{"address", a1.Address + " " + a1.Agent.Listen, "127.10.10.11 127.10.10.11:8008"},
		{"paths", a1.Postgres.Data + " " + a1.Paths.Sockets, "/d/pg-a/pg-a-1/data /r/pg-a-1/sql"},
		{"programs", fmt.Sprint(a1.Postgres.Major, a1.Postgres.Bin, b.Postgres.Major), "16/1617"},
		{"parameters", a1.Postgres.Parameters["work_mem"] + " " + a1.Postgres.Parameters["min_wal_size"] + " " + a1.Postgres.Parameters["max_wal_size"], "9MB 96MB 1GB"},
		{"keys", a1.Base(), "/pg/pg-a/"},
		{"delay", a2.Postgres.Delay + fmt.Sprint(a2.Agent.Tags), "1hmap[nofailover:true]"},
		{"store", store.Etcd.Member + " " + a1.Etcd.Member + " " + fmt.Sprint(a1.Etcd.Members, store.Alone(), a1.Alone()), "etcd-1  [{etcd-1 https://10.10.10.10:2379 https://10.10.10.10:2380}] true false"},
		{"who may ask", fmt.Sprintf("%+v", a2.Agent.REST), "{TLS:true Cert: Key: CA: VerifyClient: User:postgres Secret:rest Allow:[] AllowMembers:false}"},
		{"who sees the page", fmt.Sprint(a1.Gateway.Page, proxy.Gateway.Page), "{boss true} {admin false}"},
		{"fronts", fmt.Sprint(len(a1.Gateway.Fronts), len(b.Gateway.Fronts), len(proxy.Gateway.Fronts), proxy.Alone()), "1 0 1 true"},
		{"whose pools", fmt.Sprint(a1.Gateway.Fronts[0].PoolPort, proxy.Gateway.Fronts[0].PoolPort), "0 6432"},
		{"archive", a1.Postgres.Parameters["archive_mode"] + " " + a1.Postgres.Parameters["archive_command"], `on test '/d/pg-a/pg-a-1/spool/archive/pg-a/out'/%f.ok -nt "%p" || '/d/bin/how%%dah' pgbackrest --config='/d/pg-a/pg-a-1/pgbackrest.conf' --stanza='pg-a' --push-queue-room --no-push-while-stopping archive-push "%p"`},
		{"repository", fmt.Sprint(a2.Backup.Repo, " ", a2.Backup.Listen, a2.Backup.Members, a2.Backup.Holders("pg-a-2")), "/d/pg-a/pg-a-2/backup 10.10.10.12:8432[{pg-a-1 https://127.10.10.11:8432} {pg-a-2 https://10.10.10.12:8432}] [pg-a-2 pg-a-1]"},
		{"somebody else archives", b.Postgres.Parameters["archive_command"] + b.Postgres.Parameters["archive_mode"] + b.Backup.Repo, "mine"},
		{"listeners", fmt.Sprintln(a1.Gateway.Fronts[0].Services[0].IP, a1.Gateway.Fronts[0].Services[0].Port, proxy.Gateway.Fronts[0].Services[4].Port), "127.10.10.11 5433 10080\n"},
	} {
		if tt.got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.what, tt.got, tt.want)
		}
	}
}

// The virtual address is the inventory's on machines and on isolated ground, where
// servers and gateways listen on it too, and nowhere on the loopback.
func TestVirtualAddress(t *testing.T) {
	const inventory = `all:
  children:
    pg-a:
      vars: { pg_cluster: pg-a, pg_vip_enabled: yes, pg_vip_address: 10.10.10.2/24, pg_vip_interface: eth1 }
      hosts: { 10.10.10.11: { pg_seq: 1, pg_role: primary }, 10.10.10.12: { pg_seq: 2, pg_role: replica, pg_vip_interface: ens5 } }
    pg-b:
      vars: { pg_cluster: pg-b, pg_vip_address: 10.10.10.3/24 }
      hosts: { 10.10.10.13: { pg_seq: 1, pg_role: primary } }
`
	w := pigsty.Read("x", []byte(inventory))
	if err := w.Err(); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		site Site
		want string // of each node: address, interface, where server, service and pool listen
	}{
		{"machines", Site{}, "10.10.10.2/24 eth1 * * *:6432, 10.10.10.2/24 ens5 * * *:6432,    * *:6432, "},
		{"isolated", Site{Bind: true}, "10.10.10.2/24 auto * * *:6432, 10.10.10.2/24 auto * * *:6432,    10.10.10.13 10.10.10.13:6432, "},
		{"loopback", Site{Bind: true, Loopback: true}, "   10.10.10.11 10.10.10.11:6432,    10.10.10.12 10.10.10.12:6432,    10.10.10.13 10.10.10.13:6432, "},
	} {
		got := ""
		for _, n := range Nodes(w, tt.site) {
			got += strings.Join([]string{n.VIP.Address, n.VIP.Interface, n.Postgres.Listen, n.Gateway.Fronts[0].Services[0].IP, n.Pool.Listen}, " ") + ", "
		}
		if got != tt.want {
			t.Errorf("%s:\ngot  %s\nwant %s", tt.name, got, tt.want)
		}
	}
}

// Who is to have names in a file of hosts has them in one of its nodes, with a name
// server or without; a playground has none.
func TestHostsFile(t *testing.T) {
	w := pigsty.Read("x", []byte(`all:
  vars: { dns_hosts_file: /etc/hosts, dns_enabled: yes }
  children:
    infra: { hosts: { 10.10.10.11: { infra_seq: 1 } } }
    pg-a: { vars: { pg_cluster: pg-a }, hosts: { 10.10.10.11: { pg_seq: 1, pg_role: primary }, 10.10.10.12: { pg_seq: 2, pg_role: replica } } }
    pg-b: { vars: { pg_cluster: pg-b, pg_port: 5532 }, hosts: { 10.10.10.12: { pg_seq: 1, pg_role: primary } } }
    pg-c: { vars: { pg_cluster: pg-c, dns_hosts_file: /srv/hosts }, hosts: { 10.10.10.13: { pg_seq: 1, pg_role: primary } } }
`))
	if err := w.Err(); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		site Site
		want string // of each node: member, file, number of sockets and zones
	}{
		{Site{}, "pg-a-1 /etc/hosts 2 3, pg-a-2 /etc/hosts 0 3, pg-b-1  0 0, pg-c-1 /srv/hosts 0 3, "},
		{Site{Bind: true}, "pg-a-1  1 3, pg-a-2  0 0, pg-b-1  0 0, pg-c-1  0 0, "},
	} {
		got := ""
		for _, n := range Nodes(w, tt.site) {
			got += fmt.Sprintf("%s %s %d %d, ", n.Member, n.DNS.Hosts, len(n.DNS.Listen), len(n.DNS.Zones))
		}
		if got != tt.want {
			t.Errorf("got  %s\nwant %s", got, tt.want)
		}
	}
}

// A bucket is all members', on machines; in a playground only one on the loopback.
func TestBucket(t *testing.T) {
	w := pigsty.Read("x", []byte(`all:
  children:
    pg-a:
      vars: { pg_cluster: pg-a, pgbackrest_method: minio }
      hosts: { 10.10.10.11: { pg_seq: 1, pg_role: primary }, 10.10.10.12: { pg_seq: 2, pg_role: replica } }
`))
	if err := w.Err(); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, want string
		site       Site
	}{
		{"machines", "/pgbackrest bucket pgsql at sss.pigsty aes-256-cbc 1 14 true", Site{Dir: "/d"}},
		{"left alone", "/d/pg-a/pg-a-2/backup bucket  at   2 14 true", Site{Dir: "/d", Apart: map[string]bool{"pg-a": true}}},
	} {
		b := Nodes(w, tt.site)[1].Backup
		if got := fmt.Sprint(b.Repo, " ", b.Bucket, " ", b.Cipher, " ", b.Copies, " ", b.Full, " ", b.ByTime); got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.name, got, tt.want)
		}
	}
}

func TestCertify(t *testing.T) {
	files := spec.TLS{CA: "ca", Cert: "cert", Key: "key"}
	for _, tt := range []struct{ rest, want spec.REST }{
		{spec.REST{}, spec.REST{}},
		{spec.REST{TLS: true}, spec.REST{TLS: true, Cert: "cert", Key: "key"}},
		{spec.REST{TLS: true, Cert: "own", Key: "its"}, spec.REST{TLS: true, Cert: "own", Key: "its"}},
	} {
		n := spec.Node{Agent: spec.Agent{REST: tt.rest}}
		n.Certify(files)
		if got := fmt.Sprint(n.Agent.REST); got != fmt.Sprint(tt.want) || n.TLS != files {
			t.Errorf("%+v becomes %s and %+v", tt.rest, got, n.TLS)
		}
	}
}

func TestRulesOnLoopback(t *testing.T) {
	got := onLoopback([]spec.AccessRule{
		{Title: "intra", Lines: []string{"host all a 10.0.0.0/8 md5", "host all a 192.168.0.0/16 md5"}},
		{Title: "deny", Lines: []string{"host all b 10.1.0.0/16 reject"}},
		{Title: "world", Lines: []string{"host all c 0.0.0.0/0 reject", "host all c ::/0 reject", "local all c peer", "host all c samenet md5"}},
	})
	want := "[{intra  [host all a 127.0.0.0/8 md5]} {world  [host all c 0.0.0.0/0 reject host all c ::/0 reject local all c peer host all c samenet md5]}]"
	if fmt.Sprint(got) != want {
		t.Errorf("got %v, want %s", got, want)
	}
}

// A standby cluster begins by following the other one where that is here.
func TestStandbyCluster(t *testing.T) {
	text := strings.Replace(inventory, "10.10.10.13: { pg_seq: 1, pg_role: primary }", "10.10.10.13: { pg_seq: 1, pg_role: primary, pg_upstream: 10.10.10.11, pg_delay: 1h }", 1)
	text = strings.Replace(text, "pg_cluster: pg-b,", "pg_cluster: pg-b, pg_version: 16,", 1)
	w := pigsty.Read("x", []byte(text))
	if err := w.Err(); err != nil {
		t.Fatal(err)
	}
	nodes := Nodes(w, Site{
		Dir: "/d", Run: "/r", Binary: "/d/bin/howdah", Machine: conf.Machine{CPU: 1, MemoryMB: 1024},
		Programs:  map[int]spec.Postgres{16: {Bin: "/16", Major: 16}},
		Addresses: map[string]string{"10.10.10.11": "127.10.10.11", "10.10.10.13": "127.10.10.13"},
	})
	for _, n := range nodes {
		got := fmt.Sprint(n.Agent.Begin["standby_cluster"], n.Postgres.Kin, n.Postgres.Delay)
		want := "<nil> []"
		switch n.Member {
		case "pg-b-1":
			want = "map[host:127.10.10.11 port:5432 recovery_min_apply_delay:1h] [127.10.10.11 10.10.10.12]"
		case "pg-a-2":
			want += "1h"
		}
		if got != want {
			t.Errorf("%s: %s, want %s", n.Member, got, want)
		}
	}
}
