package process

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// What is written to stays, and so does what is not of the program.
func TestConstant(t *testing.T) {
	all, err := constant(strings.NewReader(`00400000-01338000 r-xp 00000000 08:01 12 /opt/how dah
01338000-02360000 r--p 00f38000 08:01 12 /opt/how dah
02360000-023e3000 rw-p 01f60000 08:01 12 /opt/how dah
7f0000000000-7f0000021000 rw-p 00000000 00:00 0
7f1000000000-7f1000021000 r-xp 00000000 08:01 13 /lib/libc.so.6
7ffd0000-7ffd2000 r-xp 00000000 00:00 0 [vdso]
`), "/opt/how dah")
	if got, want := fmt.Sprintf("%x %v", all, err), "[{400000 1338000} {1338000 2360000}] <nil>"; got != want {
		t.Errorf("constant = %s, want %s", got, want)
	}
}

// A program that has settled goes on.
func TestSettle(t *testing.T) {
	mapped := func() (kB int) {
		text, err := os.ReadFile("/proc/self/status")
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(text), "RssFile:")
		if _, err := fmt.Sscan(rest, &kB); err != nil {
			t.Fatal(err)
		}
		return kB
	}
	before := mapped()
	if err := Settle(); err != nil {
		t.Fatal(err)
	}
	if after := mapped(); after >= before {
		t.Errorf("%d kB of files are mapped, and %d after Settle", before, after)
	}
}
