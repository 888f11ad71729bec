package control

import (
	"net"
	"net/url"
)

// A door is the address by which this machine reaches a host: itself, but for
// nodes that live in networks of their own behind an address of ours.
type door func(host string) string

func direct(host string) string { return host }

// url returns raw with its host behind the door.
func (d door) url(raw string) string {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" {
		return raw
	}
	if port := u.Port(); port != "" {
		u.Host = net.JoinHostPort(d(u.Hostname()), port)
	} else {
		u.Host = d(u.Hostname())
	}
	return u.String()
}
