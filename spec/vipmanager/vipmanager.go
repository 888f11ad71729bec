// Package vipmanager reads the configuration of vip-manager, and says it in the words of
// an inventory: which address, on which interface, follows the leader of which cluster.
//
// How vip-manager finds the leader (its store, its passwords, its pace) has no counterpart:
// here the address follows the leader's own right. Names and defaults are those of
// vip-manager 5; the spellings of 1 to 4 are understood, because files keep them.
package vipmanager

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"howdah/spec"
)

// A Config is what such a file says.
type Config struct {
	File    string
	Address netip.Prefix
	Link    string // the interface
	Base    string // before the cluster's name in the leader key: /service; "": not known
	Cluster string // "": not known
	Member  string // trigger-value; "": the host's name

	Findings []spec.Finding
}

// before are the names that keys had.
var before = map[string]string{
	"mask": "netmask", "iface": "interface", "key": "trigger-key", "nodename": "trigger-value", "host": "trigger-value",
	"type": "dcs-type", "endpoint": "dcs-endpoints", "endpoints": "dcs-endpoints", "hostingtype": "manager-type",
}

// used are the keys that mean something here, idle those that are about a way to the
// store that is not taken.
var (
	used = []string{"ip", "netmask", "interface", "trigger-key", "trigger-value", "manager-type", "dcs-type"}
	idle = []string{
		"config", "dcs-endpoints", "etcd-user", "etcd-password", "etcd-ca-file", "etcd-cert-file", "etcd-key-file", "consul-token",
		"interval", "retry-num", "retry-after", "verbose", "hosting-type",
	}
)

// most is how large a file may be.
const most = 1 << 20

// A given is one value and its line; 0: that of the environment.
type given struct {
	text string
	line int
}

// Read reads a file. What environ has under a key's name (VIP_TRIGGER_KEY) goes before it.
func Read(file string, text []byte, environ func(string) string) Config {
	c := Config{File: file}
	all, ok := c.read(text)
	if !ok {
		return c
	}
	for _, name := range append(slices.Clone(used), "dcs-endpoints") {
		if v := environ("VIP_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))); v != "" {
			all[name] = given{text: v}
		}
	}
	c.address(all)
	c.place(all)
	return c
}

func (c *Config) say(kind string, line int, do, format string, args ...any) {
	c.Findings = append(c.Findings, spec.Finding{Kind: kind, Line: line, Text: fmt.Sprintf(format, args...), Do: do})
}

// read gives the values by the names of today.
func (c *Config) read(text []byte) (all map[string]given, ok bool) {
	if len(text) > most {
		c.say(spec.Problem, 0, "name the file of vip-manager", "it is larger than %d bytes", most)
		return nil, false
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		c.say(spec.Problem, 0, "correct it", "it is no YAML: %s", strings.TrimPrefix(err.Error(), "yaml: "))
		return nil, false
	}
	all = map[string]given{}
	if len(doc.Content) == 0 {
		return all, true // the environment may say it all
	}
	top := doc.Content[0]
	if top.Kind != yaml.MappingNode {
		c.say(spec.Problem, top.Line, "name the file of vip-manager", "it is no map of keys and values")
		return nil, false
	}
	var idled []string
	for i := 0; i+1 < len(top.Content); i += 2 {
		key, value := top.Content[i], top.Content[i+1]
		name := key.Value
		if now, old := before[name]; old {
			c.say(spec.Warning, key.Line, "", "%s is called %s since version 5, which takes no other name", name, now)
			name = now
		}
		switch {
		case slices.Contains(idle, name):
			idled = append(idled, name)
		case !slices.Contains(used, name):
			c.say(spec.Warning, key.Line, "", "vip-manager knows no key %q", shown(name))
		case value.Kind != yaml.ScalarNode:
			c.say(spec.Problem, value.Line, "give one value", "%s is no single value", name)
		default:
			all[name] = given{strings.TrimSpace(value.Value), key.Line}
		}
	}
	if len(idled) > 0 {
		c.say(spec.Inapplicable, 0, "", "%s: the address follows the leader's own right, which no store has to be asked for", strings.Join(idled, ", "))
	}
	return all, true
}

// shown keeps what a hostile file holds out of a terminal.
func shown(s string) string {
	const long = 60
	if len(s) > long {
		s = s[:long] + "…"
	}
	q := strconv.Quote(s)
	return q[1 : len(q)-1]
}

func (c *Config) address(all map[string]given) {
	ip := all["ip"]
	a, err := netip.ParseAddr(ip.text)
	switch {
	case ip.text == "":
		c.say(spec.Problem, ip.line, "add it: ip: 10.10.10.2", "it names no address (ip)")
		return
	case err != nil || a.Zone() != "" || a.IsLoopback() || a.IsUnspecified() || a.IsMulticast():
		c.say(spec.Problem, ip.line, "write the address that clients connect to", "ip is %q, which is no address that a machine could take", shown(ip.text))
		return
	}
	mask := all["netmask"]
	bits, err := strconv.Atoi(mask.text)
	switch {
	case err == nil && bits > 0 && bits <= a.BitLen():
	case a.Is4():
		bits = classOf(a)
		if mask.text != "" {
			c.say(spec.Warning, mask.line, "write the length of the network, like 24", "netmask is %q, and vip-manager then takes the address's class: /%d", shown(mask.text), bits)
		} else {
			c.say(spec.Warning, ip.line, "write the length of the network, like netmask: 24", "there is no netmask, and vip-manager then takes the address's class: /%d", bits)
		}
	default:
		c.say(spec.Problem, mask.line, "write the length of the network, like 64", "netmask is %q, which is no length of a network of %s", shown(mask.text), a)
		return
	}
	c.Address = netip.PrefixFrom(a, bits)
}

// classOf is how long the network of an IPv4 address was before there were lengths.
func classOf(a netip.Addr) int {
	switch first := a.As4()[0]; {
	case first < 128:
		return 8
	case first < 192:
		return 16
	}
	return 24
}

// place reads where the address is, and whom it follows.
func (c *Config) place(all map[string]given) {
	if m := all["manager-type"]; m.text != "" && m.text != "basic" {
		c.say(spec.Problem, m.line, "keep vip-manager for this one", "manager-type is %q: this version moves addresses on interfaces of machines, and none that a cloud moves", shown(m.text))
	}
	link := all["interface"]
	switch {
	case link.text == "":
		c.say(spec.Warning, link.line, "", "it names no interface: the one with the host's own address is taken")
	case len(link.text) > 15 || strings.ContainsAny(link.text, "/ \t\n'\"#:{}[]"): // IFNAMSIZ
		c.say(spec.Problem, link.line, "write the interface as `ip link` shows it", "interface is %q, which is no name of one", shown(link.text))
	case link.text == "lo":
		c.say(spec.Problem, link.line, "write the interface that clients come to", "interface is lo, where no other machine would find the address")
	default:
		c.Link = link.text
	}
	dcs, key := all["dcs-type"], all["trigger-key"]
	switch dcs.text {
	case "", "etcd", "etcd3", "patroni":
	default:
		c.say(spec.Warning, dcs.line, "", "dcs-type is %q: a cluster of Howdah is in etcd, where it has to come first", shown(dcs.text))
	}
	if dcs.text == "patroni" {
		if !slices.Contains([]string{"", "/leader", "/primary", "/master", "/read-write"}, key.text) {
			c.say(spec.Problem, key.line, "write trigger-key: /leader", "trigger-key is %q: this version has an address only where the leader is", shown(key.text))
		}
		return
	}
	scope, ok := strings.CutSuffix(key.text, "/leader")
	cut := strings.LastIndexByte(scope, '/')
	if !ok || cut < 0 || scope[cut+1:] == "" {
		c.say(spec.Problem, key.line, "write the key that the leader holds, like /service/pg-test/leader", "trigger-key is %q, and no leader's key", shown(key.text))
		return
	}
	c.Base, c.Cluster, c.Member = scope[:cut], scope[cut+1:], all["trigger-value"].text
}

// Inventory is the same in the words of an inventory: variables of the cluster.
func (c Config) Inventory() string {
	var b strings.Builder
	who := "the cluster"
	if c.Cluster != "" {
		who = "cluster " + shown(c.Cluster)
	}
	fmt.Fprintf(&b, "# vars of %s, as %s has them; switch vip-manager off first\n", who, shown(c.File))
	fmt.Fprintf(&b, "pg_vip_enabled: true\npg_vip_address: %s\n", c.Address)
	if c.Link != "" {
		fmt.Fprintf(&b, "pg_vip_interface: %s\n", c.Link)
	}
	return b.String()
}
