package spec

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Backup is a member's repository of backups and WAL, in pgBackRest's format.
type Backup struct {
	Repo    string   `json:"repo"`              // its directory, on the member's disk or in Bucket; "": the member keeps none
	Config  string   `json:"config"`            // file for pgBackRest's commands on it
	Spool   string   `json:"spool"`             // directory of what is pushed ahead of the archiver
	Listen  string   `json:"listen"`            // host:port where other members read it and backups are asked for
	First   bool     `json:"first"`             // a cluster without a backup makes one by itself
	Copies  int      `json:"copies"`            // members that hold each backup, the one that made it among them; of a bucket 1
	Times   []string `json:"times"`             // when more are made; BackupTime reads a line
	Drill   string   `json:"drill,omitempty"`   // when a restore is rehearsed, five fields of cron(5); "": when a person asks
	Members []Holder `json:"members"`           // every member with a repository, by pg_seq
	Rate    int64    `json:"rate,omitempty"`    // bytes of the cluster that a backup reads in a second at most; 0: as many as come
	Standby bool     `json:"standby,omitempty"` // backups copy from the disk of a standby, where one will do
	Lag     int64    `json:"lag,omitempty"`     // bytes of log that a standby may be behind before a backup waits for it; 0: LagDefault, NoLimit: it waits for none
	// Replicas are the ways in which a new member gets its data, the first first, as
	// Patroni's create_replica_methods names them; none: basebackup.
	Replicas []string `json:"replicas,omitempty"`
	Number   int      `json:"number,omitempty"` // of the repository, if it is one of several: 0 stands for the first
	Repository
	More []Further `json:"more,omitempty"` // other repositories, which have all that the first one has
}

// A Further is another repository of a cluster that has several.
type Further struct {
	Path string `json:"path"` // its directory, on the member's disk or in Bucket
	Repository
}

// Each are the repositories, each as if there were no other.
func (b Backup) Each() []Backup {
	all := []Backup{b}
	for i, m := range b.More {
		one := b
		one.Repo, one.Repository, one.Number = m.Path, m.Repository, i+2
		all = append(all, one)
	}
	for i := range all {
		all[i].More = nil
		if all[i].Shared() {
			all[i].Copies = 1
		}
	}
	return all
}

// Repositories is the node once for each repository of its cluster, each as if
// there were no other.
func (n Node) Repositories() []Node {
	var all []Node
	for _, b := range n.Backup.Each() {
		one := n
		one.Backup = b
		all = append(all, one)
	}
	return all
}

// Secret says that something opens one of the repositories.
func (b Backup) Secret() bool {
	return slices.ContainsFunc(b.Each(), func(one Backup) bool { return one.Shared() })
}

// Key is the repository's number, as pgBackRest counts.
func (b Backup) Key() int { return max(b.Number, 1) }

// SecretOf is the name of a secret of a repository by its number.
func SecretOf(name string, number int) string {
	if number < 2 {
		return name
	}
	return name + "_" + strconv.Itoa(number)
}

// A Repository is what is said of the place where backups and WAL are kept, and
// of what stays there.
type Repository struct {
	Name        string `json:"name,omitempty"`         // that the inventory gives it
	Bucket      Bucket `json:"bucket,omitzero"`        // one for all members; zero: each has its own, on its disk
	Cipher      string `json:"cipher,omitempty"`       // of the objects, by the secret SecretCipher; "": none
	Full        int    `json:"full"`                   // full backups that are kept, with what depends on them; 0: all
	ByTime      bool   `json:"by_time,omitempty"`      // Full is days
	BundleSize  int64  `json:"bundle_size,omitempty"`  // bytes of a bundle of small files; 0: as usual
	BundleLimit int64  `json:"bundle_limit,omitempty"` // bytes up to which a file is small; 0: as usual
	Stream      Stream `json:"stream,omitzero"`        // how the end of the log comes there
	Queue       int64  `json:"queue,omitempty"`        // bytes of WAL that may wait to be archived, before it is given up; 0: as much as is free beside it; NoLimit: all
}

// NoLimit has WAL wait until the volume is full.
const NoLimit = -1

// A Stream says how what is committed comes into the repository before its segment
// is archived.
type Stream struct {
	Off      bool          `json:"off,omitempty"`      // it does not
	Size     int64         `json:"size,omitempty"`     // bytes that do not wait for the interval; 0: all do
	Interval time.Duration `json:"interval,omitempty"` // that it waits; 0: as usual
}

// Due says that what has come is to be stored, so long after the last time.
func (s Stream) Due(waited, interval time.Duration, bytes int64) bool {
	return waited >= interval || s.Size > 0 && bytes >= s.Size
}

// Look is how often it is looked for what has come, if that is stored each interval.
func (s Stream) Look(interval time.Duration) time.Duration {
	if s.Size == 0 {
		return interval
	}
	return min(max(interval/8, 20*time.Millisecond), interval)
}

// Shared says that all members have the same repository, which none of them
// takes along when its host is lost.
func (r Repository) Shared() bool { return r.Bucket.Name != "" }

// A Bucket is where objects are kept by a server that speaks S3. What opens it
// are the secrets SecretBucketKey and SecretBucketPass.
type Bucket struct {
	Name      string `json:"name"`
	Endpoint  string `json:"endpoint"` // host or host:port; with http:// before it there is no TLS
	Region    string `json:"region"`
	PathStyle bool   `json:"path_style,omitempty"` // requests name the bucket in their path, not in the host's name
	Host      string `json:"host,omitempty"`       // to connect to in the endpoint's stead
	Port      int    `json:"port,omitempty"`       // 0: the endpoint's
	CAFile    string `json:"ca_file,omitempty"`    // who signs its certificate; "": whom the machine trusts
	CAPath    string `json:"ca_path,omitempty"`
	NoVerify  bool   `json:"no_verify,omitempty"` // any certificate will do
}

// String names the bucket to a person.
func (b Bucket) String() string { return "bucket " + b.Name + " at " + cmp.Or(b.Host, b.Endpoint) }

// Here says that the bucket's server is on this machine's loopback.
func (b Bucket) Here() bool {
	host := cmp.Or(b.Host, b.Endpoint)
	if _, rest, ok := strings.Cut(host, "://"); ok {
		host = rest
	}
	host = strings.TrimSuffix(host, "/")
	if i := strings.LastIndexByte(host, ':'); i >= 0 && !strings.HasSuffix(host, "]") {
		host = host[:i]
	}
	if host == "localhost" {
		return true
	}
	a, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && a.IsLoopback()
}

// A Holder is a member as others reach its repository.
type Holder struct {
	Member string `json:"member"`
	URL    string `json:"url"` // https://10.10.10.11:8432
}

// Holders are the members that hold the backups of leader: itself, and those
// that come after it in the circle.
func (b Backup) Holders(leader string) []string {
	i := slices.IndexFunc(b.Members, func(h Holder) bool { return h.Member == leader })
	if i < 0 {
		return nil
	}
	var names []string
	for n := range min(max(b.Copies, 1), len(b.Members)) {
		names = append(names, b.Members[(i+n)%len(b.Members)].Member)
	}
	return names
}

// A BackupTime is when a kind of backup is made: a line of a crontab.
type BackupTime struct {
	Type string // full, diff, incr; "" of a drill
	// What the line allows, a bit for each.
	minutes, hours, days, months, weekdays uint64
	anyDay, anyWeekday                     bool // an asterisk stands there
}

// ParseBackupTime reads five fields of cron(5) and a type: "0 1 * * 0 full".
func ParseBackupTime(line string) (t BackupTime, err error) {
	f := strings.Fields(line)
	if len(f) != 6 {
		return t, fmt.Errorf("%q: five fields of cron and full, diff or incr are expected", line)
	}
	if !slices.Contains(backupTypes, f[5]) {
		return t, fmt.Errorf("%q: %s is none of %s", line, f[5], strings.Join(backupTypes, ", "))
	}
	t, err = parseTimes(line, f[:5])
	t.Type = f[5]
	return t, err
}

// ParseDrillTime reads five fields of cron(5): "0 4 * * 6".
func ParseDrillTime(line string) (t BackupTime, err error) {
	f := strings.Fields(line)
	if len(f) != 5 {
		return t, fmt.Errorf("%q: five fields of cron are expected", line)
	}
	return parseTimes(line, f)
}

func parseTimes(line string, f []string) (t BackupTime, err error) {
	for i, field := range []struct {
		into     *uint64
		from, to int
	}{{&t.minutes, 0, 59}, {&t.hours, 0, 23}, {&t.days, 1, 31}, {&t.months, 1, 12}, {&t.weekdays, 0, 7}} {
		if *field.into, err = cronField(f[i], field.from, field.to); err != nil {
			return t, fmt.Errorf("%q: %w", line, err)
		}
	}
	if t.weekdays&(1<<7) != 0 { // Sunday is 0 and 7
		t.weekdays |= 1
	}
	t.anyDay, t.anyWeekday = strings.HasPrefix(f[2], "*"), strings.HasPrefix(f[4], "*")
	return t, nil
}

var backupTypes = []string{"full", "diff", "incr"}

// cronField reads 1,2-4,*/5.
func cronField(text string, from, to int) (bits uint64, err error) {
	number := func(s string) (int, error) {
		n, err := strconv.Atoi(s)
		if err != nil || n < from || n > to {
			return 0, fmt.Errorf("%s is no number from %d to %d", strconv.Quote(s), from, to)
		}
		return n, nil
	}
	for part := range strings.SplitSeq(text, ",") {
		span, stepText, stepped := strings.Cut(part, "/")
		step := 1
		if stepped {
			if step, err = strconv.Atoi(stepText); err != nil || step < 1 {
				return 0, fmt.Errorf("%s is no step", strconv.Quote(stepText))
			}
		}
		low, high := from, to
		if span != "*" {
			a, b, isRange := strings.Cut(span, "-")
			if low, err = number(a); err != nil {
				return 0, err
			}
			switch {
			case isRange:
				if high, err = number(b); err != nil {
					return 0, err
				}
			case !stepped:
				high = low
			}
		}
		if low > high {
			return 0, fmt.Errorf("%s is no range", strconv.Quote(span))
		}
		for n := low; n <= high; n += step {
			bits |= 1 << n
		}
	}
	return bits, nil
}

// Next is the first time of the line after a moment, in that moment's zone;
// zero if there is none in five years.
func (t BackupTime) Next(after time.Time) time.Time {
	at := after.Truncate(time.Minute).Add(time.Minute)
	day := time.Date(at.Year(), at.Month(), at.Day(), 0, 0, 0, 0, at.Location())
	for range 5 * 366 {
		if t.onDay(day) {
			for hour := range 24 {
				for minute := range 60 {
					if t.hours&(1<<hour) == 0 || t.minutes&(1<<minute) == 0 {
						continue
					}
					when := time.Date(day.Year(), day.Month(), day.Day(), hour, minute, 0, 0, day.Location())
					if when.After(after) {
						return when
					}
				}
			}
		}
		day = time.Date(day.Year(), day.Month(), day.Day()+1, 0, 0, 0, 0, day.Location())
	}
	return time.Time{}
}

// onDay is cron's rule: where both kinds of days are restricted, either will do.
func (t BackupTime) onDay(d time.Time) bool {
	if t.months&(1<<d.Month()) == 0 {
		return false
	}
	day, weekday := t.days&(1<<d.Day()) != 0, t.weekdays&(1<<d.Weekday()) != 0
	if t.anyDay || t.anyWeekday {
		return day && weekday
	}
	return day || weekday
}

// CronBackup finds in a crontab's line the backup that Pigsty's scripts or
// pgBackRest would make there; ok is false for any other command. With a user's
// name before the command or without.
func CronBackup(line string) (text string, ok bool) {
	f := strings.Fields(line)
	if len(f) < 6 || strings.HasPrefix(line, "#") {
		return "", false
	}
	command, kind := f[5:], "incr"
	script := slices.ContainsFunc(command[:min(2, len(command))], func(w string) bool {
		return w == "pg-backup" || strings.HasSuffix(w, "/pg-backup")
	})
	tool := slices.ContainsFunc(command, func(w string) bool { return strings.Contains(w, "pgbackrest") }) && slices.Contains(command, "backup")
	short := len(command) == 1 && slices.Contains(backupTypes, command[0])
	if !script && !tool && !short {
		return "", false
	}
	for _, w := range command {
		if w = strings.TrimPrefix(w, "--type="); slices.Contains(backupTypes, w) {
			kind = w
		}
	}
	text = strings.Join(append(slices.Clone(f[:5]), kind), " ")
	_, err := ParseBackupTime(text)
	return text, err == nil
}

// Backups is what a cluster does about them.
type Backups struct {
	On      bool     `json:"on"`
	First   bool     `json:"first"`
	Copies  int      `json:"copies"`
	Times   []string `json:"times"`
	Drill   string   `json:"drill,omitempty"`
	Rate    int64    `json:"rate,omitempty"`    // bytes of the cluster that a backup reads in a second at most; 0: as many as come
	Standby bool     `json:"standby,omitempty"` // they copy from the disk of a standby, where one will do
	Lag     int64    `json:"lag,omitempty"`     // bytes of log that a standby may be behind before one waits for it; 0: LagDefault, NoLimit: it waits for none
	// Replicas are the ways in which a new member gets its data; none: basebackup.
	Replicas []string `json:"replicas,omitempty"`
	Path     string   `json:"path,omitempty"` // in the bucket
	Repository
	More []Further `json:"more,omitempty"` // other repositories
}

// An Origin is what a cluster that is not there yet is made of: backups and WAL of
// another one, in repositories that a file of pgBackRest's leads to. They are read,
// and nothing else.
type Origin struct {
	Config string `json:"config"` // the file, on the machine of the member that begins
	Stanza string `json:"stanza"`
	To     string `json:"to,omitempty"`  // the moment; "": the end of the log
	Set    string `json:"set,omitempty"` // label of the backup; "": the newest from which the moment can be reached
}

// Repositories are all of them.
func (b Backups) Repositories() []Repository {
	all := []Repository{b.Repository}
	for _, m := range b.More {
		all = append(all, m.Repository)
	}
	return all
}

// LagDefault is how far a standby may be behind before a backup waits for it.
const LagDefault = 256 << 20

// MostLag is how far a standby may be behind; 0: backups wait for none.
func (b Backup) MostLag() int64 {
	if b.Lag == NoLimit {
		return 0
	}
	return cmp.Or(b.Lag, LagDefault)
}

// Ways in which a new member gets its data, by Patroni's names.
const (
	CopyBase       = "basebackup"
	CopyRepository = "pgbackrest"
)

// BackupTimes are the default: a full one on Sundays, on other days what has
// changed since, at an hour when most sleep.
func BackupTimes() []string { return []string{"0 1 * * 0 full", "0 1 * * 1-6 incr"} }

// DrillTime is the default: a restore is rehearsed on Saturdays, the longest that
// a chain of backups becomes.
const DrillTime = "0 4 * * 6"
