package cluster

import (
	"strings"
	"testing"
)

func TestCheckName(t *testing.T) {
	for name, want := range map[string]string{
		"demo-1":                "",
		"pg-meta":               "",
		"node1.example.com":     "",
		"A_b":                   "",
		"7":                     "",
		strings.Repeat("a", 63): "",
		strings.Repeat("a", 64): "64 bytes",
		"":                      "empty",
		".":                     `begins with '.'`,
		"..":                    `begins with '.'`,
		"-f":                    `begins with '-'`,
		"a/b":                   `holds '/'`,
		"a b":                   `holds ' '`,
		"a\n":                   `holds '\n'`,
		"a\x00":                 `holds '\x00'`,
		"a'b":                   `holds '\''`,
		"bär":                   `holds 'ä'`,
		"\xff":                  `holds '�'`,
		"a:b":                   `holds ':'`,
	} {
		if got := CheckName(name); (got == "") != (want == "") || !strings.Contains(got, want) {
			t.Errorf("CheckName(%q) = %q, want %q", name, got, want)
		}
	}
}

func TestCheckMembers(t *testing.T) {
	for _, tt := range []struct{ members, want string }{
		{"demo-1 demo-2 demo-3", ""},
		{"demo-1 demo-1", "two members are called demo-1"},
		{"demo-1 demo_1", "demo-1 and demo_1 would share the replication slot demo_1"},
		{"a.1 A-1", "A-1 and a.1 would share"},
		{"demo-1 demo/2", `"demo/2" can not be a member's name`},
	} {
		if got := CheckMembers(strings.Fields(tt.members)); (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) {
			t.Errorf("CheckMembers(%s) = %q, want %q", tt.members, got, tt.want)
		}
	}
}
