package pigsty

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"howdah/spec"
)

const lab = `{ lab: { type: s3, path: /pgbackrest, s3_bucket: pgsql, s3_endpoint: s3.lab, s3_region: r, s3_key: KEY1, s3_key_secret: SECRET2, s3_uri_style: path,
            storage_port: 9000, storage_ca_file: /etc/ca.crt, cipher_type: aes-256-cbc, cipher_pass: 'PASS3.${pg_cluster}', retention_full_type: time, retention_full: 14, bundle: y, bundle_size: 128MiB } }`

// How the end of the log is streamed is said by three keys, or not at all.
func TestStream(t *testing.T) {
	for _, tt := range []struct {
		lines []string
		want  spec.Stream
		bad   string
	}{
		{nil, spec.Stream{}, ""},
		{[]string{"pgbackrest_stream: false"}, spec.Stream{Off: true}, ""},
		{[]string{"pgbackrest_stream_interval: 300ms", "pgbackrest_stream_size: 256kB"}, spec.Stream{Size: 256 << 10, Interval: 300 * time.Millisecond}, ""},
		{[]string{"pgbackrest_stream_interval: 1 min"}, spec.Stream{Interval: time.Minute}, ""},
		{[]string{"pgbackrest_stream_interval: 2min"}, spec.Stream{}, "50ms to 1min"},
		{[]string{"pgbackrest_stream_interval: 10ms"}, spec.Stream{}, "50ms to 1min"},
		{[]string{"pgbackrest_stream_interval: 1d"}, spec.Stream{}, "50ms to 1min"},
		{[]string{"pgbackrest_stream_size: large"}, spec.Stream{}, "a size"},
	} {
		w := Read("x.yml", []byte(with(tt.lines...)))
		err := w.Err()
		if tt.bad != "" {
			if err == nil || !strings.Contains(fmt.Sprint(w.Findings), tt.bad) {
				t.Errorf("%v: %v, want a problem with %q; found %v", tt.lines, err, tt.bad, w.Findings)
			}
			continue
		}
		if err != nil || w.Clusters[0].Backup.Stream != tt.want {
			t.Errorf("%v: %+v, want %+v; %v", tt.lines, w.Clusters[0].Backup.Stream, tt.want, err)
		}
	}
}

// When a restore is rehearsed is said by one key; on Saturdays, if nobody says it.
func TestDrillTimes(t *testing.T) {
	for line, want := range map[string]string{
		"":                                 spec.DrillTime,
		"pgbackrest_drill: off":            "",
		"pgbackrest_drill: false":          "",
		"pgbackrest_drill: '30 3 1 * *'":   "30 3 1 * *",
		"pgbackrest_drill: weekly":         "!five fields of cron",
		"pgbackrest_drill: '0 25 * * *'":   "!five fields of cron",
		"pgbackrest_drill: '0 4 31 2 *'":   "!five fields of cron",
		"pgbackrest_drill: '0 4 * * full'": "!five fields of cron",
		"pgbackrest_enabled: false":        "",
	} {
		w := Read("x.yml", []byte(with(line)))
		err := w.Err()
		if bad, is := strings.CutPrefix(want, "!"); is {
			if err == nil || !strings.Contains(fmt.Sprint(w.Findings), bad) {
				t.Errorf("%s: %v, want a problem with %q; found %v", line, err, bad, w.Findings)
			}
			continue
		}
		if err != nil || w.Clusters[0].Backup.Drill != want {
			t.Errorf("%s: %q, want %q; %v", line, w.Clusters[0].Backup.Drill, want, err)
		}
	}
}

// How a new member gets its data is a list in the order in which the ways are tried.
func TestReplicaMethods(t *testing.T) {
	for lines, want := range map[string]string{
		"": "[]",
		"pg_create_replica_methods: [pgbackrest, basebackup]":              "[pgbackrest basebackup]",
		"pg_create_replica_methods: pgbackrest":                            "[pgbackrest]",
		"pg_create_replica_methods: [basebackup, wal_e]":                   "!wal_e",
		"pg_create_replica_methods: [basebackup, basebackup]":              "!each once",
		"pgbackrest_method: lab\npgbackrest_repo: " + lab:                  "[basebackup pgbackrest]",
		"pgbackrest_enabled: false\npg_create_replica_methods: pgbackrest": "[]",
	} {
		w := Read("x.yml", []byte(with(strings.Split(lines, "\n")...)))
		err := w.Err()
		if bad, is := strings.CutPrefix(want, "!"); is {
			if err == nil || !strings.Contains(fmt.Sprint(w.Findings), bad) {
				t.Errorf("%s: %v, want a problem with %q; found %v", lines, err, bad, w.Findings)
			}
			continue
		}
		if got := fmt.Sprint(w.Clusters[0].Backup.Replicas); err != nil || got != want {
			t.Errorf("%s: %s, want %s; %v", lines, got, want, err)
		}
	}
}

// What a backup may read in a second is a size, and all that comes if nobody says it.
func TestRate(t *testing.T) {
	for line, want := range map[string]int64{"": 0, "pgbackrest_rate: 50MB": 50 << 20, "pgbackrest_rate: 0": 0} {
		w := Read("x.yml", []byte(with(line)))
		if err := w.Err(); err != nil || w.Clusters[0].Backup.Rate != want {
			t.Errorf("%s: %d, want %d; %v", line, w.Clusters[0].Backup.Rate, want, err)
		}
	}
	w := Read("x.yml", []byte(with("pgbackrest_rate: fast")))
	if w.Err() == nil {
		t.Errorf("fast is a rate; found %v", w.Findings)
	}
}

// How far a standby may be behind before a backup waits is said by one key, in both
// forms; so is whether backups are copied from one.
func TestLag(t *testing.T) {
	for line, want := range map[string]int64{"": 256 << 20, "pgbackrest_lag_max: auto": 256 << 20, "pgbackrest_lag_max: off": 0, "pgbackrest_lag_max: 1GB": 1 << 30, "pgbackrest_lag_max: far": -1} {
		w := Read("x.yml", []byte(with(line)))
		if err := w.Err(); err != nil || want < 0 {
			if err == nil || want >= 0 {
				t.Errorf("%s: %v", line, err)
			}
			continue
		}
		if got := (spec.Backup{Lag: w.Clusters[0].Backup.Lag}).MostLag(); got != want {
			t.Errorf("%s: %d, want %d", line, got, want)
		}
	}
	w := Read("x.yml", []byte("cluster: one\nhosts: [10.10.10.11]\nbackup_standby: true\nbackup_lag_max: 512MB\n"))
	if err := w.Err(); err != nil || !w.Clusters[0].Backup.Standby || w.Clusters[0].Backup.Lag != 512<<20 {
		t.Errorf("in the short form: %+v, %v", w.Clusters, err)
	}
}

// What a cluster begins with is a file of pgBackRest's, and a stanza.
func TestOrigin(t *testing.T) {
	for line, want := range map[string]spec.Origin{
		"": {},
		"pg_restore_from: { config: /etc/pgbackrest/pgbackrest.conf, stanza: main }":                         {Config: "/etc/pgbackrest/pgbackrest.conf", Stanza: "main"},
		"pg_restore_from: { config: /c, stanza: main, to: '2026-11-21 14:30:00+00', set: 20261121-010101F }": {Config: "/c", Stanza: "main", To: "2026-11-21 14:30:00+00", Set: "20261121-010101F"},

		"pg_restore_from: { stanza: main }":            {Config: "bad"},
		"pg_restore_from: { config: c, stanza: main }": {Config: "bad"},
		"pg_restore_from: main":                        {Config: "bad"},
	} {
		w := Read("x.yml", []byte(with(line)))
		if err := w.Err(); err != nil || want.Config == "bad" {
			if err == nil || want.Config != "bad" {
				t.Errorf("%s: %v", line, err)
			}
			continue
		}
		if got := w.Clusters[0].Origin; got != want {
			t.Errorf("%s: %+v, want %+v", line, got, want)
		}
	}
	w := Read("x.yml", []byte("cluster: one\nhosts: [10.10.10.11]\nrestore_from: { config: /c, stanza: s }\n"))
	if err := w.Err(); err != nil || w.Clusters[0].Origin != (spec.Origin{Config: "/c", Stanza: "s"}) {
		t.Errorf("in the short form: %+v, %v", w.Clusters, err)
	}
}

// How much WAL may wait is said by one key: as much as is free beside it, if nobody
// says it.
func TestQueue(t *testing.T) {
	for line, want := range map[string]int64{
		"": 0, "pgbackrest_queue_max: auto": 0, "pgbackrest_queue_max: off": spec.NoLimit, "pgbackrest_queue_max: 10GB": 10 << 30, "pgbackrest_queue_max: 512MiB": 512 << 20,
		"pgbackrest_queue_max: 10": -2, "pgbackrest_queue_max: 0": -2, "pgbackrest_queue_max: much": -2,
	} {
		w := Read("x.yml", []byte(with(line)))
		err := w.Err()
		if want == -2 {
			if err == nil || !strings.Contains(fmt.Sprint(w.Findings), "a size with its unit") {
				t.Errorf("%s: %v; found %v", line, err, w.Findings)
			}
			continue
		}
		if err != nil || w.Clusters[0].Backup.Queue != want {
			t.Errorf("%s: %d, want %d; %v", line, w.Clusters[0].Backup.Queue, want, err)
		}
	}
}

// What pgbackrest_method chooses is where everything goes; what opens it is among
// the secrets, and shown nowhere.
func TestRepository(t *testing.T) {
	w := Read("x.yml", []byte(with("pgbackrest_method: lab", "pgbackrest_repo: "+lab)))
	if err := w.Err(); err != nil {
		t.Fatal(err)
	}
	c := w.Clusters[0]
	want := spec.Backups{
		On: true, First: true, Copies: 2, Path: "/pgbackrest", Times: spec.BackupTimes(), Drill: spec.DrillTime,
		Replicas: []string{spec.CopyBase, spec.CopyRepository},
	}
	want.Repository = spec.Repository{
		Bucket: spec.Bucket{Name: "pgsql", Endpoint: "s3.lab", Region: "r", PathStyle: true, Port: 9000, CAFile: "/etc/ca.crt"},
		Cipher: "aes-256-cbc", Full: 14, ByTime: true, BundleSize: 128 << 20,
	}
	if got := fmt.Sprintf("%+v", c.Backup); got != fmt.Sprintf("%+v", want) {
		t.Errorf("got  %s\nwant %+v", got, want)
	}
	for name, want := range map[string]string{spec.SecretBucketKey: "KEY1", spec.SecretBucketPass: "SECRET2", spec.SecretCipher: "PASS3.pg-test"} {
		if got := c.Secrets[name].Reveal(); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	shown, err := json.Marshal(w)
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"KEY1", "SECRET2", "PASS3"} {
		if strings.Contains(string(shown), secret) {
			t.Errorf("%s is shown in %s", secret, shown)
		}
	}
}

// Several repositories: each with its own keys, in the order in which they are named.
func TestRepositories(t *testing.T) {
	two := strings.NewReplacer("{ lab:", "{ here: { retention_full: 3 }, lab:", "} }", `}, far: { type: s3, path: /far, s3_bucket: cold, s3_endpoint: s3.far, s3_region: r, s3_key: KEY9, s3_key_secret: SECRET9 } }`).Replace(lab)
	w := Read("x.yml", []byte(with("pgbackrest_method: [here, lab, far]", "pgbackrest_queue_max: 8GB", "pgbackrest_repo: "+two)))
	if err := w.Err(); err != nil {
		t.Fatal(err)
	}
	b := w.Clusters[0].Backup
	var got []string
	for _, r := range b.Repositories() {
		got = append(got, fmt.Sprintf("%s %q %d %t %d", r.Name, r.Bucket.Name, r.Full, r.ByTime, r.Queue>>30))
	}
	if want := `[here "" 3 false 8 lab "pgsql" 14 true 8 far "cold" 2 false 8]`; fmt.Sprint(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if b.Shared() || b.Path != "" || b.More[0].Path != "/pgbackrest" || b.More[1].Path != "/far" {
		t.Errorf("they lie in %q, %+v", b.Path, b.More)
	}
	for name, want := range map[string]string{"bucket_key_2": "KEY1", "bucket_key_secret_2": "SECRET2", "cipher_pass_2": "PASS3.pg-test", "bucket_key_3": "KEY9", "bucket_key": ""} {
		if got := w.Clusters[0].Secrets[name].Reveal(); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if one := Read("x.yml", []byte(with("pgbackrest_method: [minio]"))).Clusters[0].Backup; !one.Shared() || len(one.More) != 0 {
		t.Errorf("one in a list: %+v", one)
	}
	for text, want := range map[string]string{
		"[]": "names no repository", "[local, local]": "twice", "[local, tape]": `has no "tape"`, "[local, here]": "both on each member's disk", "[lab, same]": "one place in one bucket",
	} {
		same := strings.TrimSuffix(strings.Replace(lab, "{ lab:", "{ local: {}, here: {}, lab:", 1), " }") + strings.Replace(strings.TrimPrefix(lab, "{"), "lab:", ", same:", 1)
		if err := Read("x.yml", []byte(with("pgbackrest_method: "+text, "pgbackrest_repo: "+same))).Err(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}

// Pigsty's own definitions are there without being written.
func TestRepositoryByDefault(t *testing.T) {
	for method, want := range map[string]string{
		"local": "false 2 false",
		"minio": "true 14 true",
	} {
		w := Read("x.yml", []byte(with("pgbackrest_method: "+method)))
		if err := w.Err(); err != nil {
			t.Fatal(err)
		}
		b := w.Clusters[0].Backup
		if got := fmt.Sprint(b.Shared(), b.Full, b.ByTime); got != want {
			t.Errorf("%s: %s, want %s", method, got, want)
		}
	}
}

func TestRepositoriesThatAreNone(t *testing.T) {
	edit := func(old, new string) string {
		if !strings.Contains(lab, old) {
			t.Fatalf("%q is not in it", old)
		}
		return with("pgbackrest_method: lab", "pgbackrest_repo: "+strings.Replace(lab, old, new, 1))
	}
	for _, tt := range []struct{ name, text, kind, want string }{
		{"a method of nothing", with("pgbackrest_method: minoi"), spec.Problem, `has no "minoi" (it has local, minio)`},
		{"an override that lost local", with("pgbackrest_repo: " + lab), spec.Warning, "on its own disk"},
		{"an override that lost the method", with("pgbackrest_method: minio", "pgbackrest_repo: "+lab), spec.Problem, `has no "minio" (it has lab)`},
		{"another store", edit("type: s3", "type: azure"), spec.Problem, `type "azure"`},
		{"no key", edit("s3_key: KEY1, ", ""), spec.Problem, "has no s3_key"},
		{"no phrase", edit("cipher_pass: 'PASS3.${pg_cluster}', ", ""), spec.Problem, "no cipher_pass"},
		{"an encrypted disk", with("pgbackrest_repo: { local: { cipher_type: aes-256-cbc, cipher_pass: x } }"), spec.Problem, "encrypts only what is in a bucket"},
		{"a key with a typo", edit("s3_uri_style", "s3_uristyle"), spec.Warning, "did you mean s3_uri_style?"},
		{"a cipher", edit("aes-256-cbc", "aes-256-gcm"), spec.Problem, "did you mean aes-256-cbc?"},
		{"a size", edit("128MiB", "much"), spec.Problem, "must be a size"},
		{"blocks", edit("bundle: y", "block: y"), spec.Later, "not in blocks"},
		{"what is not kept to", edit("bundle: y", "retention_diff: 3"), spec.Later, "retention_diff has no effect"},
		{"another place", with("pgbackrest_repo: { local: { path: /nfs } }"), spec.Later, "not in /nfs"},
	} {
		w := Read("x.yml", []byte(tt.text))
		var all []string
		found := false
		for _, f := range w.Findings {
			text := f.Text + "; " + f.Do
			all = append(all, f.Kind+"| "+text)
			found = found || f.Kind == tt.kind && strings.Contains(text, tt.want)
			if strings.Contains(text, "SECRET2") || strings.Contains(text, "PASS3") {
				t.Errorf("%s: a secret is shown: %s", tt.name, text)
			}
		}
		if !found {
			t.Errorf("%s: nobody says %q, but\n%s", tt.name, tt.want, strings.Join(all, "\n"))
		}
	}
}

func TestSize(t *testing.T) {
	for text, want := range map[string]int64{"": 0, "7": 7, "7B": 7, "1k": 1 << 10, "20MiB": 20 << 20, "20 MB": 20 << 20, "1g": 1 << 30, "2TiB": 2 << 40} {
		if got := size(text); got != want {
			t.Errorf("%q is %d, want %d", text, got, want)
		}
	}
}
