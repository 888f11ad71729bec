package doctor

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A Mend is something that is wrong with a machine and is safe to mend: nothing that
// runs is disturbed, nothing is deleted, and to do it again changes nothing. Its
// script is for a shell, as root.
type Mend struct {
	Host   string   `json:"host,omitempty"`
	Check  string   `json:"check"`
	What   string   `json:"what"` // begins with a verb: set vm.swappiness
	Lines  []string `json:"lines,omitempty"`
	Script string   `json:"-"`
}

// Files of a machine in which something is mended for good.
const (
	sysctlFile = "/etc/sysctl.d/60-howdah.conf"
	tmpFile    = "/etc/tmpfiles.d/60-howdah.conf"
	hostsFile  = "/etc/hosts"
)

// keep has a file hold a line, in place of those that begin as it does.
const keep = `keep() { # FILE BEGINNING LINE
  touch "$1"
  { grep -vF -e "$2" "$1" || true; printf '%s\n' "$3"; } >"$1.howdah"
  chmod 644 "$1.howdah"
  mv "$1.howdah" "$1"
}
set -e
`

// Mends are what can safely be mended of what Judge finds.
func Mends(f Facts) []Mend {
	var all []Mend
	add := func(check, what, script string, lines ...string) {
		all = append(all, Mend{Host: f.Subject.Host, Check: check, What: what, Lines: lines, Script: keep + script})
	}
	if f.Synced != nil && !*f.Synced {
		add("clock", "have a time service steer the clock",
			"command -v timedatectl >/dev/null || { echo 'there is no timedatectl: install chrony' >&2; exit 1; }\ntimedatectl set-ntp true\n", "timedatectl set-ntp true")
	}
	if !slices.Contains(f.Localhost, "127.0.0.1") {
		add("names", "make localhost known", "printf '127.0.0.1 localhost\\n' >>"+hostsFile+"\n", hostsFile+": 127.0.0.1 localhost")
	}
	if len(f.OwnName) == 0 && name(f.Host) && slices.Contains(f.Addresses, f.Subject.Host) {
		line := f.Subject.Host + " " + f.Host
		add("names", "make the machine's own name known", "printf '%s\\n' '"+line+"' >>"+hostsFile+"\n", hostsFile+": "+line)
	}
	for _, k := range []struct {
		name, to string
		wrong    func(int) bool
	}{
		{"vm.overcommit_memory", "0", func(n int) bool { return n == 1 }},
		{"vm.swappiness", "1", func(n int) bool { return n > 30 && f.SwapKB > 0 }},
		{"net.core.somaxconn", "4096", func(n int) bool { return n < 1024 }},
		{"vm.panic_on_oom", "0", func(n int) bool { return n != 0 }},
	} {
		if n, err := strconv.Atoi(strings.TrimSpace(f.Kernel[k.name])); err == nil && k.wrong(n) {
			line := k.name + " = " + k.to
			add("kernel", "set "+k.name+" to "+k.to+", which is "+strconv.Itoa(n),
				"mkdir -p /etc/sysctl.d\nkeep "+sysctlFile+" '"+k.name+" =' '"+line+"'\necho "+k.to+" >/proc/sys/"+strings.ReplaceAll(k.name, ".", "/")+"\n", sysctlFile+": "+line)
		}
	}
	if strings.Contains(f.Kernel["transparent_hugepage"], "[always]") {
		const path = "/sys/kernel/mm/transparent_hugepage/enabled"
		line := "w " + path + " - - - - madvise"
		add("kernel", "have transparent huge pages made only for who asks for them",
			"mkdir -p /etc/tmpfiles.d\nkeep "+tmpFile+" '"+path+"' '"+line+"'\necho madvise >"+path+"\n", tmpFile+": "+line)
	}
	for _, p := range f.Places {
		if (p.What == "the passwords" || p.What == "the keys") && p.Mode&0o077 != 0 && !strings.ContainsAny(p.Path, "'\n") {
			add("permissions", "keep others from reading "+p.What, "chmod go-rwx '"+p.Path+"'\n", fmt.Sprintf("%s: %04o -> %04o", p.Path, p.Mode, p.Mode&^0o077))
		}
	}
	return all
}

// name says that a machine's name is one (RFC 1123), and nothing for a shell.
func name(s string) bool {
	return s != "" && strings.Trim(strings.ToLower(s), "abcdefghijklmnopqrstuvwxyz0123456789.-") == ""
}
