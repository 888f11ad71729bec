package vipmanager

import (
	"strings"
	"testing"

	"howdah/spec"
	"howdah/spec/pigsty"
)

// pigstys is a file as Pigsty's template renders it.
const pigstys = `# config for vip-manager by Pigsty
interval: 1000
trigger-key: "/pg/pg-test/leader"
trigger-value: "pg-test-1"
ip: 10.10.10.3
netmask: 24
interface: eth1
hosting-type: basic
dcs-type: etcd
dcs-endpoints:
  - https://10.10.10.10:2379
etcd-user: "pg-test"
etcd-password: "pg-test"
etcd-ca-file: "/etc/pki/ca.crt"
etcd-cert-file: "/pg/cert/server.crt"
etcd-key-file: "/pg/cert/server.key"
retry-num: 2
retry-after: 250
verbose: false
`

func TestRead(t *testing.T) {
	const version1 = "ip: 192.168.0.9\nmask: 24\niface: eth0\nkey: /service/batman/leader\nnodename: pg1\ntype: etcd\nendpoint: http://127.0.0.1:2379\n"
	const least = "trigger-key: /service/a/leader\ninterface: eth0\n"
	for _, c := range []struct {
		name, text, environ string
		address, link, of   string
		says                string // kind: a part of the text; "": nothing worse than what has no counterpart
	}{
		{name: "Pigsty's", text: pigstys, address: "10.10.10.3/24", link: "eth1", of: "/pg pg-test pg-test-1"},
		{name: "of version 1", text: version1, address: "192.168.0.9/24", link: "eth0", of: "/service batman pg1", says: "warning: iface is called interface"},
		{name: "the environment goes first", text: pigstys, environ: "VIP_IP=10.10.10.4", address: "10.10.10.4/24", link: "eth1", of: "/pg pg-test pg-test-1"},
		{name: "IPv6", text: least + "ip: fd00::2\nnetmask: 64\n", address: "fd00::2/64", link: "eth0", of: "/service a "},
		{name: "no length of IPv6", text: least + "ip: fd00::2\n", address: "invalid Prefix", link: "eth0", of: "/service a ", says: "problem: netmask is"},
		{name: "a class", text: least + "ip: 172.16.0.2\nnetmask: 0\n", address: "172.16.0.2/16", link: "eth0", of: "/service a ", says: "warning: netmask is \"0\""},
		{name: "from the REST interface", text: "dcs-type: patroni\ntrigger-key: /leader\nip: 10.0.0.2\nnetmask: 24\ninterface: eth0\n", address: "10.0.0.2/24", link: "eth0", of: "  "},
		{name: "a replica's", text: "dcs-type: patroni\ntrigger-key: /replica\nip: 10.0.0.2\nnetmask: 24\ninterface: eth0\n", address: "10.0.0.2/24", link: "eth0", of: "  ", says: "problem: trigger-key is"},
		{name: "a cloud's", text: least + "ip: 10.0.0.2\nnetmask: 24\nmanager-type: hetzner\n", address: "10.0.0.2/24", link: "eth0", of: "/service a ", says: "problem: manager-type is \"hetzner\""},
		{name: "consul", text: least + "ip: 10.0.0.2\nnetmask: 24\ndcs-type: consul\n", address: "10.0.0.2/24", link: "eth0", of: "/service a ", says: "warning: dcs-type is \"consul\""},
		{name: "an unknown key", text: least + "ip: 10.0.0.2\nnetmask: 24\nintervall: 1\n", address: "10.0.0.2/24", link: "eth0", of: "/service a ", says: "warning: vip-manager knows no key"},
		{name: "no address", text: least, address: "invalid Prefix", link: "eth0", of: "/service a ", says: "problem: it names no address"},
		{name: "lo", text: "trigger-key: /service/a/leader\ninterface: lo\nip: 10.0.0.2\nnetmask: 24\n", address: "10.0.0.2/24", of: "/service a ", says: "problem: interface is lo"},
		{name: "no leader's key", text: "trigger-key: /service/a/sync\ninterface: eth0\nip: 10.0.0.2\nnetmask: 24\n", address: "10.0.0.2/24", link: "eth0", of: "  ", says: "problem: trigger-key is"},
		{name: "no map", text: "- a\n", address: "invalid Prefix", of: "  ", says: "problem: it is no map"},
		{name: "no YAML", text: "a: [", address: "invalid Prefix", of: "  ", says: "problem: it is no YAML"},
		{name: "a list where there is one", text: least + "ip: [ 10.0.0.2 ]\n", address: "invalid Prefix", link: "eth0", of: "/service a ", says: "problem: ip is no single value"},
	} {
		environ := func(name string) string {
			if value, ok := strings.CutPrefix(c.environ, name+"="); ok {
				return value
			}
			return ""
		}
		got := Read("vip-manager.yml", []byte(c.text), environ)
		if got.Address.String() != c.address || got.Link != c.link || got.Base+" "+got.Cluster+" "+got.Member != c.of {
			t.Errorf("%s: %+v, want %s on %q of %q", c.name, got, c.address, c.link, c.of)
		}
		said := ""
		for _, f := range got.Findings {
			if f.Kind != spec.Inapplicable {
				said += f.Kind + ": " + f.Text + "\n"
			}
		}
		if !strings.Contains(said, c.says) || c.says == "" && said != "" {
			t.Errorf("%s: it says %q, want %q", c.name, said, c.says)
		}
	}
}

// What it writes is an inventory's, and means the same there.
func TestInventory(t *testing.T) {
	c := Read("vip-manager.yml", []byte(pigstys), func(string) string { return "" })
	vars := ""
	for line := range strings.Lines(c.Inventory()) {
		vars += "        " + line
	}
	w := pigsty.Read("pigsty.yml", []byte("all:\n  vars: { admin_ip: 10.10.10.10 }\n  children:\n    pg-test:\n      hosts: { 10.10.10.11: { pg_seq: 1, pg_role: primary } }\n      vars:\n        pg_cluster: pg-test\n"+vars))
	if len(w.Clusters) != 1 || w.Clusters[0].VIP != "10.10.10.3/24" || w.Clusters[0].Members[0].Link != "eth1" {
		t.Errorf("the inventory means %+v, from\n%s", w, c.Inventory())
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(pigstys))
	f.Add([]byte("ip: &a [*a]\n? {}\n: x\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		c := Read("f", text, func(string) string { return "" })
		if lines := strings.Split(c.Inventory(), "\n"); len(lines) > 5 {
			t.Errorf("%q becomes\n%s", text, c.Inventory())
		}
	})
}
