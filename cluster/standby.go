package cluster

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// keyStandby is the section of the dynamic configuration that has a cluster follow
// another one. Its keys are Patroni's.
const keyStandby = "standby_cluster"

// StandbyCluster says that the cluster is to follow another one. Whether it does, its
// State says.
func (c Config) StandbyCluster() bool {
	for _, key := range []string{"host", "port", "restore_command"} {
		if v, ok := c.Lookup(keyStandby, key); ok && v != "" && v != float64(0) {
			return true
		}
	}
	return false
}

// An Upstream is whom a standby cluster follows.
type Upstream struct {
	Host  string // several, with commas between: whichever of them takes writes
	Port  int
	Slot  string // primary_slot_name: a slot that is there already; "": none
	Delay string // recovery_min_apply_delay of the standby leader; "": as its node says
}

// Upstream reads the section. The error names what is missing, what can not be
// meant, and what is Patroni's and not supported; the rest is returned beside it.
func (c Config) Upstream() (Upstream, error) {
	v, _ := c.Lookup(keyStandby)
	section, ok := v.(map[string]any)
	if !ok {
		return Upstream{}, fmt.Errorf("%s: %v is no object of settings", keyStandby, v)
	}
	u := Upstream{Port: 5432}
	var errs []error
	bad := func(key, format string, args ...any) {
		errs = append(errs, fmt.Errorf(keyStandby+"."+key+": "+format, args...))
	}
	for _, key := range slices.Sorted(maps.Keys(section)) {
		v := section[key]
		text := strings.TrimSpace(fmt.Sprint(v))
		if v == nil || text == "" {
			continue
		}
		switch key {
		case "host":
			if !hostList.MatchString(text) {
				bad(key, "%v is no address or name", v)
				continue
			}
			u.Host = strings.ReplaceAll(text, " ", "")
		case "port":
			n, ok := intOf(v)
			if !ok || n < 1 || n > 65535 {
				bad(key, "%v is no port", v)
				continue
			}
			u.Port = int(n)
		case "primary_slot_name":
			if len(text) > 63 || !within(text, slotChars) {
				bad(key, "%v is no name of a slot (a-z, 0-9 and _, at most 63)", v)
				continue
			}
			u.Slot = text
		case "recovery_min_apply_delay":
			if !delayText.MatchString(text) {
				bad(key, "%v is no time, like 1h or 500ms", v)
				continue
			}
			u.Delay = text
		case "create_replica_methods":
			if methods, _ := v.([]any); len(methods) != 1 || methods[0] != "basebackup" {
				bad(key, "a copy is always a base backup; leave it out")
			}
		case "restore_command", "archive_cleanup_command":
			bad(key, "the log is taken from the other cluster by streaming alone; leave it out")
		default:
			bad(key, "there is no such setting")
		}
	}
	if u.Host == "" {
		bad("host", "the address of the other cluster's primary is needed")
	}
	return u, errors.Join(errs...)
}

var (
	hostList  = regexp.MustCompile(`^[0-9A-Za-z_.:-]+( *, *[0-9A-Za-z_.:-]+)*$`)
	delayText = regexp.MustCompile(`^[0-9]+(\.[0-9]+)?( *(us|ms|s|min|h|d))?$`)
)

// CheckStandby refuses a standby cluster that could not be followed as it is written.
func (c Config) CheckStandby() error {
	if v, there := c.Lookup(keyStandby); !there || v == nil {
		return nil
	}
	if section, ok := c.Data[keyStandby].(map[string]any); ok && len(section) == 0 {
		return nil
	}
	_, err := c.Upstream()
	return err
}

// Standby says that the cluster follows another one, and that nobody in it writes.
//
// The term says so, with which whoever leads took the key; it stays so from term to
// term until a leader turns it (ha/upstream.go). The configuration only says what is
// wanted, and may be lost or unreadable at any moment. It decides where there is no
// term that can be read, or where the leader is Patroni's own, who puts none.
func (s *State) Standby() bool {
	if t := s.Term; t != nil && !s.Unknown(KeyTerm) && (s.Leader == nil || s.Leader.Mod == t.Mod) {
		return t.Standby
	}
	return s.Config.StandbyCluster()
}

// SynchronousMode is off, on or quorum; a standby cluster has none.
func (s *State) SynchronousMode() string {
	if s.Standby() {
		return SyncOff
	}
	return s.Config.SynchronousMode()
}
