package install

import (
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
)

// Probe is a script that looks at a machine and changes nothing; Read understands
// what it prints: lines of a name and a value.
func Probe(w Want) string {
	var b strings.Builder
	b.WriteString(`echo "arch $(uname -m)"
(. /etc/os-release 2>/dev/null && echo "system $PRETTY_NAME")
ip -o addr show 2>/dev/null | awk '{ sub("/.*", "", $4); print "address " $4 }' || true
for a in $(hostname -I 2>/dev/null); do echo "address $a"; done
[ ! -d /run/systemd/system ] || echo "systemd yes"
command -v apt-get >/dev/null && echo "apt yes"
for b in /usr/lib/postgresql/*/bin /usr/pgsql-*/bin /usr/local/pgsql/bin; do
	[ ! -x "$b/postgres" ] || echo "postgres $("$b/postgres" --version)"
done
`)
	for _, u := range w.Users {
		fmt.Fprintf(&b, "u=%s; getent passwd \"$u\" >/dev/null && echo \"user $u\"\n", quote(u))
	}
	for _, f := range w.Files {
		fmt.Fprintf(&b, "f=%s; [ ! -f \"$f\" ] || echo \"file $(stat -c %%a \"$f\") $(sha256sum <\"$f\" | cut -c1-64) $f\"\n", quote(f.Path))
	}
	b.WriteString(Tests(w.Settings))
	fmt.Fprintf(&b, `pid=
if [ -d /run/systemd/system ]; then
	systemctl is-enabled --quiet %[1]s 2>/dev/null && echo "enabled yes"
	pid=$(systemctl show -p MainPID --value %[1]s 2>/dev/null)
	systemctl is-active --quiet %[1]s 2>/dev/null && echo "active yes"
fi
[ "${pid:-0}" != 0 ] || read -r pid _ <%[2]s
if [ "${pid:-0}" != 0 ] && kill -0 "$pid" && [ "$(cat /proc/"$pid"/comm)" = howdah ]; then
	echo "active yes"
	echo "running $(sha256sum </proc/"$pid"/exe | cut -c1-64)"
fi 2>/dev/null
true
`, Unit, quote(w.PID()))
	return b.String()
}

// Alive is a script that says whether the supervisor runs, and then what it said last.
func Alive(w Want) string {
	return fmt.Sprintf(`if [ -f %[1]s ] && [ -d /run/systemd/system ]; then
	if systemctl is-active --quiet %[2]s; then echo up; else echo down; fi
	journalctl -u %[2]s -n 12 -o cat --no-pager 2>/dev/null
else
	pid=
	read -r pid _ 2>/dev/null <%[3]s
	if kill -0 "${pid:-0}" 2>/dev/null && [ -n "$pid" ]; then echo up; else echo down; fi
	tail -n 12 %[4]s 2>/dev/null
fi
true
`, UnitFile, Unit, quote(w.PID()), Log)
}

// Read makes facts of what the probe printed.
func Read(text string) (Facts, error) {
	f := Facts{Files: map[string]Has{}}
	var err error
	if f.Settings, err = ReadTests(text); err != nil {
		return f, err
	}
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		name, value, _ := strings.Cut(line, " ")
		switch name {
		case "arch":
			f.Arch = value
		case "system":
			f.System = value
		case "address":
			if !slices.Contains(f.Addresses, value) {
				f.Addresses = append(f.Addresses, value)
			}
		case "systemd":
			f.Systemd = true
		case "apt":
			f.Apt = true
		case "user":
			f.Users = append(f.Users, value)
		case "enabled":
			f.Enabled = true
		case "active":
			f.Active = true
		case "running":
			f.Running = value
		case "postgres":
			if major := majorOf(value); major != 0 && !slices.Contains(f.Postgres, major) {
				f.Postgres = append(f.Postgres, major)
			}
		case "file":
			words := strings.SplitN(value, " ", 3)
			if len(words) != 3 || len(words[1]) != 64 {
				return f, fmt.Errorf("what the machine says of a file is %q", line)
			}
			mode, err := strconv.ParseUint(words[0], 8, 16)
			if err != nil {
				return f, fmt.Errorf("what the machine says of a file is %q: %w", line, err)
			}
			f.Files[words[2]] = Has{Sum: words[1], Mode: fs.FileMode(mode)}
		}
	}
	if f.Arch == "" {
		return f, fmt.Errorf("the machine does not say what it is: %q", text)
	}
	slices.Sort(f.Postgres)
	return f, nil
}

// majorOf reads "postgres (PostgreSQL) 15.18 (Debian …)".
func majorOf(version string) int {
	_, rest, _ := strings.Cut(version, "(PostgreSQL) ")
	end := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' })
	if end < 0 {
		end = len(rest)
	}
	major, err := strconv.Atoi(rest[:end])
	if err != nil {
		return 0
	}
	return major
}

// quote makes s one word of a shell.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
