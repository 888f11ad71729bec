package pigsty

import (
	"reflect"
	"strings"
	"testing"

	"howdah/spec"
)

// What an inventory says of its machines is read, what makes no sense is told, and what
// nobody wrote is nothing: it stays as it is there.
func TestSettingsOfMachines(t *testing.T) {
	const one = "all:\n  children:\n    pg-a:\n      vars: { pg_cluster: pg-a }\n      hosts: { 10.10.10.11: { pg_seq: 1, pg_role: primary } }\n  vars:\n    admin_ip: 10.10.10.10\n"
	for _, c := range []struct {
		name, vars string
		want       *spec.Settings
		told       string
	}{
		{"nothing", "    node_tune: oltp\n", nil, ""},
		{"nothing, in words", "    nodename: ''\n    node_timezone: ''\n    node_sysctl_params: {}\n    node_etc_hosts: []\n", nil, ""},
		{"all", "    nodename: one\n    node_timezone: Europe/Berlin\n    node_ntp_servers: [ 'pool  pool.ntp.org iburst' ]\n    node_sysctl_params: { vm.swappiness: 1, net.ipv4.tcp_rmem: '4096 131072  6291456' }\n    node_etc_hosts: [ '${admin_ip} i.pigsty' ]\n    node_admin_username: dba\n    node_admin_uid: 88\n    node_admin_sudo: nopass\n    node_admin_pk_list: [ 'ssh-ed25519 AAAA ann@desk' ]\n", &spec.Settings{
			Name: "one", Zone: "Europe/Berlin", NTP: []string{"pool pool.ntp.org iburst"}, Hosts: []string{"10.10.10.10 i.pigsty"},
			Kernel: []spec.Kernel{{Name: "net.ipv4.tcp_rmem", Value: "4096 131072 6291456"}, {Name: "vm.swappiness", Value: "1"}},
			Admin:  &spec.Admin{Name: "dba", UID: 88, Sudo: "nopass", Keys: []string{"ssh-ed25519 AAAA ann@desk"}},
		}, ""},
		{"what is switched off", "    nodename: one\n    nodename_overwrite: false\n    node_ntp_enabled: false\n    node_ntp_servers: [ pool x ]\n    node_write_etc_hosts: false\n    node_etc_hosts: [ 10.10.10.10 a ]\n    node_admin_enabled: false\n    node_admin_username: dba\n", nil, ""},
		{"a shell in a name", "    nodename: \"a'; reboot '\"\n", nil, "nodename is"},
		{"a zone elsewhere", "    node_timezone: ../../etc/shadow\n", nil, "node_timezone is"},
		{"a parameter elsewhere", "    node_sysctl_params: { ../../etc/shadow: 1 }\n", nil, "node_sysctl_params is"},
		{"a line that is none", "    node_etc_hosts: [ nobody at home ]\n", nil, "node_etc_hosts is"},
		{"a key of several lines", "    node_admin_username: dba\n    node_admin_pk_list: [ \"ssh-rsa AAAA a\\nroot\" ]\n", &spec.Settings{Admin: &spec.Admin{Name: "dba"}}, "node_admin_pk_list is"},
		{"rights that are not given here", "    node_admin_username: dba\n    node_admin_sudo: limit\n", &spec.Settings{Admin: &spec.Admin{Name: "dba"}}, "node_admin_sudo is"},
	} {
		w := Read("pigsty.yml", []byte(one+c.vars))
		if got := w.Hosts[0].Settings; !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
		told := ""
		for _, f := range w.Findings {
			told += f.Text + "\n"
		}
		if c.told != "" && !strings.Contains(told, c.told) {
			t.Errorf("%s: it does not say %q: %s", c.name, c.told, told)
		}
	}
}
