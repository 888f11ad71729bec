package cluster

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestPermanentSlots(t *testing.T) {
	for _, tt := range []struct{ name, config, want, wrong string }{
		{"none", `{}`, "[]", ""},
		{"an empty value is physical", `{"slots":{"b":null,"a":{}}}`, "[{a false   } {b false   }]", ""},
		{"logical", `{"slots":{"s":{"type":"logical","database":"app","plugin":"pgoutput","cluster_type":"primary"}}}`, "[{s true app pgoutput primary}]", ""},
		{"database and plugin say it", `{"slots":{"s":{"database":"app","plugin":"pgoutput"}}}`, "[{s true app pgoutput }]", ""},
		{"the older names count first", `{"slots":{"a":{}},"permanent_slots":{"b":{}},"permanent_replication_slots":{}}`, "[{b false   }]", ""},
		{"half a logical one", `{"slots":{"s":{"type":"logical","database":"app"},"p":{"type":"physical"}}}`, "[{p false   }]", "slots.s: a logical slot has"},
		{"no name", `{"slots":{"A-b":{}}}`, "[]", "slots.A-b: this is no name"},
		{"no kind", `{"slots":{"s":{"type":"other"}}}`, "[]", "type: other"},
		{"no such setting", `{"slots":{"s":{"typ":"logical"}}}`, "[]", "typ: there is no such setting"},
		{"no object", `{"slots":["s"]}`, "[]", "slots: [s] is no object"},
		{"a cluster of another type", `{"slots":{"s":{"cluster_type":"both"}}}`, "[]", "neither primary nor standby"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := ParseConfig([]byte(tt.config))
			if err != nil {
				t.Fatal(err)
			}
			all, err := c.PermanentSlots()
			if got := fmt.Sprint(all); got != tt.want {
				t.Errorf("PermanentSlots(%s) = %s, want %s", tt.config, got, tt.want)
			}
			if (err == nil) != (tt.wrong == "") || err != nil && !strings.Contains(err.Error(), tt.wrong) {
				t.Errorf("PermanentSlots(%s): %v, want %q", tt.config, err, tt.wrong)
			}
			if check := c.CheckSlots(); (check == nil) != (err == nil) {
				t.Errorf("CheckSlots: %v beside %v", check, err)
			}
		})
	}
}

func TestIgnoredSlots(t *testing.T) {
	c, err := ParseConfig([]byte(`{"ignore_slots":[{"type":"logical","plugin":"wal2json"},{"name":"mine"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	all, err := c.IgnoredSlots()
	if err != nil || len(all) != 2 {
		t.Fatalf("IgnoredSlots = %v, %v", all, err)
	}
	for _, tt := range []struct {
		slot [4]string
		want bool
	}{
		{[4]string{"x", "logical", "app", "wal2json"}, true},
		{[4]string{"x", "logical", "app", "pgoutput"}, false},
		{[4]string{"mine", "physical", "", ""}, true},
	} {
		got := false
		for _, m := range all {
			got = got || m.Matches(tt.slot[0], tt.slot[1], tt.slot[2], tt.slot[3])
		}
		if got != tt.want {
			t.Errorf("%v is ignored: %v, want %v", tt.slot, got, tt.want)
		}
	}
	for _, wrong := range []string{`{"ignore_slots":{}}`, `{"ignore_slots":["x"]}`, `{"ignore_slots":[{"nam":"x"}]}`} {
		c, _ := ParseConfig([]byte(wrong))
		if err := c.CheckSlots(); err == nil {
			t.Errorf("%s is taken", wrong)
		}
	}
}

func TestMemberSlotsTTL(t *testing.T) {
	for _, tt := range []struct {
		value string
		want  time.Duration
		ok    bool
	}{
		{`null`, 0, false},
		{`0`, 0, true},
		{`1800`, 30 * time.Minute, true},
		{`"30min"`, 30 * time.Minute, true},
		{`"1.5 h"`, 90 * time.Minute, true},
		{`"2d"`, 48 * time.Hour, true},
		{`"1 year"`, 0, false},
		{`-1`, 0, false},
		{`true`, 0, false},
		{`1e300`, 0, false},
	} {
		c, err := ParseConfig([]byte(`{"member_slots_ttl":` + tt.value + `}`))
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := c.MemberSlotsTTL(); got != tt.want || ok != tt.ok {
			t.Errorf("MemberSlotsTTL of %s = %s, %v; want %s, %v", tt.value, got, ok, tt.want, tt.ok)
		}
		if err := c.CheckSlots(); (err == nil) != (tt.ok || tt.value == "null") {
			t.Errorf("CheckSlots of %s: %v", tt.value, err)
		}
	}
}
