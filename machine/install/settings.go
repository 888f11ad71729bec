package install

import (
	"fmt"
	"strconv"
	"strings"

	"howdah/spec"
)

// A Setting is one thing that an inventory says of a machine itself.
type Setting struct {
	What string // begins with a verb
	Test string // for a shell: it ends with 0 if that is so, with 3 if it can not be; what it writes says why
	Do   string // for root's shell
}

// cannot is how a test ends that says why a setting can not be.
const cannot = 3

// Places where a machine keeps what it is told here.
const (
	sysctlFile = "/etc/sysctl.d/60-howdah.conf"
	hostsFile  = "/etc/hosts"
	hostsBegin = "# howdah install: node_etc_hosts"
	hostsEnd   = "# howdah install: end"
	chronyFile = "/etc/chrony/sources.d/howdah.sources"
	timesyncd  = "/etc/systemd/timesyncd.conf.d/60-howdah.conf"
)

// Settings are the settings of a machine, in the order in which they are made.
func Settings(s *spec.Settings) (all []Setting) {
	if s == nil {
		return nil
	}
	add := func(what, test, do string) { all = append(all, Setting{what, test, "set -e\numask 022\n" + do}) }
	if s.Name != "" {
		n := quote(s.Name)
		add("name the machine "+s.Name,
			`now=$(cat /proc/sys/kernel/hostname); echo "it is $now"; [ "$now" = `+n+` ] && [ "$(cat /etc/hostname)" = `+n+" ]",
			"echo "+n+" >/etc/hostname\necho "+n+" >/proc/sys/kernel/hostname\n")
	}
	if s.Zone != "" {
		z := quote("/usr/share/zoneinfo/" + s.Zone)
		add("set the time zone to "+s.Zone,
			"[ -f "+z+" ] || { echo 'there is no such zone in /usr/share/zoneinfo (package tzdata)'; exit 3; }\n"+
				`now=$(readlink -f /etc/localtime); echo "it is ${now#/usr/share/zoneinfo/}"; [ "$now" = "$(readlink -f `+z+`)" ]`,
			"ln -s "+z+" /etc/localtime.howdah\nmv -fT /etc/localtime.howdah /etc/localtime\n[ ! -e /etc/timezone ] || echo "+quote(s.Zone)+" >/etc/timezone\n")
	}
	if len(s.NTP) > 0 {
		all = append(all, ntp(s.NTP))
	}
	for _, k := range s.Kernel {
		path, line := quote("/proc/sys/"+strings.ReplaceAll(k.Name, ".", "/")), k.Name+" = "+k.Value
		add("set "+k.Name+" to "+k.Value,
			"[ -f "+path+" ] || { echo 'this kernel has no such parameter'; exit 3; }\n"+
				`now=$(echo $(cat `+path+`)); echo "it is $now"; [ "$now" = `+quote(k.Value)+` ] || exit 1; grep -qxF `+quote(line)+" "+sysctlFile+` || { echo ", but only until the machine starts again"; exit 1; }`,
			"mkdir -p /etc/sysctl.d\ntouch "+sysctlFile+"\n{ grep -vF "+quote(k.Name+" =")+" "+sysctlFile+" || true; echo "+quote(line)+"; } >"+sysctlFile+".new\nmv "+sysctlFile+".new "+sysctlFile+
				"\necho "+quote(k.Value)+" >"+path+"\n")
	}
	if len(s.Hosts) > 0 {
		block := quote(strings.Join(append(append([]string{hostsBegin}, s.Hosts...), hostsEnd), "\n"))
		cut := "sed '/^" + hostsBegin + "$/,/^" + hostsEnd + "$/d' " + hostsFile
		add(fmt.Sprintf("write %s into %s", lines(len(s.Hosts)), hostsFile),
			"echo 'others are there, or none'; [ \"$(sed -n '/^"+hostsBegin+"$/,/^"+hostsEnd+"$/p' "+hostsFile+")\" = "+block+" ]",
			"touch "+hostsFile+"\n{ "+cut+"; echo "+block+"; } >"+hostsFile+".howdah\nchmod 644 "+hostsFile+".howdah\nmv "+hostsFile+".howdah "+hostsFile+"\n")
	}
	if s.Admin != nil {
		all = append(all, admin(*s.Admin)...)
	}
	return all
}

func lines(n int) string {
	if n == 1 {
		return "1 line"
	}
	return strconv.Itoa(n) + " lines"
}

// ntp tells whichever time service is there whom to ask.
func ntp(servers []string) Setting {
	var asked []string // timesyncd knows hosts, and nothing else about them
	for _, s := range servers {
		asked = append(asked, strings.Fields(s)[1])
	}
	chrony, systemd := quote(strings.Join(servers, "\n")), quote("[Time]\nNTP="+strings.Join(asked, " "))
	which := `f= text=
if [ -d /etc/chrony/sources.d ]; then f=` + chronyFile + ` text=` + chrony + `
elif [ -e /lib/systemd/systemd-timesyncd ]; then f=` + timesyncd + ` text=` + systemd + `
fi
`
	return Setting{
		What: "ask " + strings.Join(asked, ", ") + " for the time",
		Test: which + `[ -n "$f" ] || { echo 'there is neither chrony (with /etc/chrony/sources.d) nor systemd-timesyncd'; exit 3; }
echo "$f does not say so"; [ "$(cat "$f")" = "$text" ]`,
		Do: "set -e\numask 022\n" + which + `mkdir -p "${f%/*}"
echo "$text" >"$f.new"
mv "$f.new" "$f"
case $f in
/etc/chrony/*) chronyc reload sources >/dev/null || echo 'chronyd does not run: it reads them when it starts' >&2 ;;
*) systemctl try-restart systemd-timesyncd ;;
esac
`,
	}
}

func admin(a spec.Admin) (all []Setting) {
	name := quote(a.Name)
	uid, want := "", ""
	if a.UID != 0 {
		n := strconv.Itoa(a.UID)
		uid = "-u " + n + " "
		want = `[ "$now" = ` + n + ` ] || { echo "the user is there with uid $now, and node_admin_uid is ` + n + `"; exit 3; }`
	}
	all = append(all, Setting{
		What: "make the user " + a.Name,
		Test: "now=$(id -u " + name + ") || { echo 'it is not there'; exit 1; }\n" + want,
		Do:   "useradd --create-home --user-group --shell /bin/bash " + uid + name + "\n",
	})
	home := "home=$(getent passwd " + name + " | cut -d: -f6)\n"
	for _, key := range a.Keys {
		all = append(all, Setting{
			What: "let " + a.Name + " log in by the key " + comment(key),
			Test: home + "echo 'it is not among its keys'; [ -n \"$home\" ] && grep -qxF " + quote(key) + " \"$home/.ssh/authorized_keys\"",
			Do: "set -e\n" + home + `d=$home/.ssh f=$home/.ssh/authorized_keys
[ -d "$d" ] || install -d -m 700 -o ` + name + ` -g "$(id -g ` + name + `)" "$d"
[ ! -L "$d" ] && [ ! -L "$f" ] || { echo "$f is a link" >&2; exit 1; }
[ -e "$f" ] || install -m 600 -o ` + name + ` -g "$(id -g ` + name + `)" /dev/null "$f"
[ -z "$(tail -c 1 "$f")" ] || echo >>"$f"
echo ` + quote(key) + ` >>"$f"
`,
		})
	}
	if a.Sudo != "" {
		line := a.Name + " ALL=(ALL) ALL"
		if a.Sudo == "nopass" {
			line = a.Name + " ALL=(ALL) NOPASSWD: ALL"
		}
		file := "/etc/sudoers.d/" + a.Name
		all = append(all, Setting{
			What: "let " + a.Name + " use sudo (" + a.Sudo + ")",
			Test: "[ -d /etc/sudoers.d ] || { echo 'there is no sudo'; exit 3; }\necho '" + file + " does not say so'; [ \"$(cat " + file + ")\" = " + quote(line) + " ]",
			Do: "set -e\numask 226\nt=$(mktemp /etc/.sudoers.XXXXXX)\ntrap 'rm -f \"$t\"' EXIT\necho " + quote(line) + " >\"$t\"\nchmod 440 \"$t\"\n" +
				"! command -v visudo >/dev/null || visudo -qcf \"$t\"\nmv \"$t\" " + file + "\n",
		})
	}
	return all
}

// comment is what a person calls a public key.
func comment(key string) string {
	words := strings.Fields(key)
	if len(words) > 2 {
		return strings.Join(words[2:], " ")
	}
	return words[0] + " …" + words[1][max(0, len(words[1])-8):]
}

// settle has the machine be as the inventory says, where it is not.
func (p *Plan) settle(w Want, f Facts) {
	for i, s := range w.Settings {
		switch found := f.Settings[i]; {
		case found.Code == 0:
		case found.Cannot():
			p.Notes = append(p.Notes, "can not "+s.What+": "+found.Said)
		default:
			p.Steps = append(p.Steps, Step{What: s.What, Why: found.Said, Script: s.Do})
		}
	}
}

// Found is what a test of a setting ended with.
type Found struct {
	Code int
	Said string
}

// Tests is a script that has a machine tell of its settings, and changes none; ReadTests
// understands it.
func Tests(all []Setting) string {
	var b strings.Builder
	for i, s := range all {
		fmt.Fprintf(&b, "said=$( (%s\n) 2>/dev/null ); echo \"setting %d $?\" $said\n", s.Test, i)
	}
	return b.String()
}

// ReadTests makes what was found of what Tests printed, by the place of the setting.
func ReadTests(text string) (map[int]Found, error) {
	all := map[int]Found{}
	for line := range strings.Lines(text) {
		value, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "setting ")
		if !ok {
			continue
		}
		var i, code int
		if n, _ := fmt.Sscan(value, &i, &code); n != 2 {
			return nil, fmt.Errorf("what the machine says of a setting is %q", line)
		}
		all[i] = Found{Code: code, Said: strings.Join(strings.SplitN(value, " ", 3)[2:], " ")}
	}
	return all, nil
}

// Cannot says that the setting can not be made there, and Said why.
func (f Found) Cannot() bool { return f.Code == cannot }
