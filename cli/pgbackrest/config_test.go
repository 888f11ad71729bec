package pgbackrest

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"howdah/backup/repo"
)

// conf writes a configuration file and returns its option.
func conf(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "pgbackrest.conf")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return "--config=" + path
}

const file = `
# a comment
[global]
repo1-path = /global
process-max=2
compress-type=zst
tcp-keep-alive-idle=10
no-such-option=1

[global:backup]
process-max=3
[main]
pg1-path=/main
repo1-retention-full=7
[main:backup]
process-max=4
repo2-path=/second
delta=y
[other]
pg1-path=/other
`

// Nearest wins: command line, environment, the stanza's command, the stanza,
// the command, global, the default.
func TestSources(t *testing.T) {
	at := conf(t, file)
	for _, tt := range []struct {
		args, env []string
		name      string
		want      string
	}{
		{[]string{"backup", "--stanza=main"}, nil, "process-max", "4"},
		{[]string{"backup", "--stanza=other"}, nil, "process-max", "3"},
		{[]string{"info", "--stanza=main"}, nil, "process-max", "2"},
		{[]string{"--stanza=main", "backup"}, []string{"PGBACKREST_PROCESS_MAX=5"}, "process-max", "5"},
		{[]string{"--process-max=6", "--stanza", "main", "backup"}, []string{"PGBACKREST_PROCESS_MAX=5"}, "process-max", "6"},
		{[]string{"--reset-process-max", "--stanza=main", "backup"}, []string{"PGBACKREST_PROCESS_MAX=5"}, "process-max", "1"},
		{[]string{"backup"}, []string{"PGBACKREST_STANZA=main"}, "pg1-path", "/main"},
		{[]string{"backup", "--stanza=main", "--no-delta"}, nil, "delta", "n"},
		{[]string{"backup", "--stanza=main"}, nil, "delta", "y"},
		{[]string{"backup", "--stanza=main", "--repo-path=/elsewhere"}, nil, "repo1-path", "/elsewhere"},
		{[]string{"backup", "--stanza=main"}, nil, "pg1-port", "5432"},
		{[]string{"expire", "--stanza=main"}, []string{"PGBACKREST_REPO1_RETENTION_FULL=9"}, "repo1-retention-full", "9"},
	} {
		c, err := parse(append([]string{at}, tt.args...), tt.env)
		if err != nil {
			t.Errorf("%v: %v", tt.args, err)
			continue
		}
		if got := c.text(tt.name); got != tt.want {
			t.Errorf("%v %v: %s = %s, want %s", tt.args, tt.env, tt.name, got, tt.want)
		}
		if len(c.warn) != 1 || !strings.Contains(c.warn[0], "no-such-option") {
			t.Errorf("%v: warnings %q", tt.args, c.warn)
		}
	}
	c, err := parse([]string{at, "--stanza=main", "backup"}, nil)
	if keys, err2 := c.repos(); err != nil || err2 != nil || fmt.Sprint(keys) != "[1 2]" {
		t.Errorf("repositories %v, %v, %v", keys, err, err2)
	}
}

func TestRefusals(t *testing.T) {
	for _, tt := range []struct {
		file string
		args string
		want repo.Class
		says string
	}{
		{"", "backup --no-such", repo.OptionInvalid, "no-such"},
		{"", "no-such", repo.CommandInvalid, "no-such"},
		{"", "repo-ls", repo.CommandInvalid, "not supported"},
		{"", "backup --type=x=y --process-max=many", repo.OptionInvalidValue, "many"},
		{"", "backup --repo1-path=relative", repo.OptionInvalidValue, "must begin with /"},
		{"", "backup --repo1-cipher-pass=x", repo.OptionInvalid, "not allowed on the command-line"},
		{"", "backup --target=x", repo.OptionInvalid, "not valid for command"},
		{"", "backup --process-max=1 --process-max=2", repo.OptionInvalid, "multiple times"},
		{"", "backup --stanza", repo.OptionInvalid, "requires an argument"},
		{"", "-x", repo.OptionInvalid, "-x"},
		{"[global]\nrepo1-type=gcs\n", "info", repo.FeatureUnsupported, "repo1-type"},
		{"[global]\nrepo1-gcs-bucket=b\n", "info", repo.FeatureUnsupported, "repo1-gcs-bucket"},
		{"[global]\nrepo1-s3-role=r\n", "info", repo.FeatureUnsupported, "repo1-s3-role"},
		{"[global]\nrepo1-s3-key-type=auto\n", "info", repo.FeatureUnsupported, "repo1-s3-key-type"},
		{"[global]\nrepo1-storage-tag=a=b\n", "info", repo.FeatureUnsupported, "repo1-storage-tag"},
		{"", "info --repo1-s3-key-secret=x", repo.OptionInvalid, "not allowed on the command-line"},
		{"[global]\nrepo1-block=y\n", "backup", repo.FeatureUnsupported, "repo1-block"},
		{"[global]\nrepo1-host=h\n", "info", repo.FeatureUnsupported, "repo1-host"},
		{"[global]\nbackup-standby=perhaps\n", "backup", repo.OptionInvalidValue, "backup-standby"},
		{"[global]\nstart-fast=prefer\n", "backup", repo.OptionInvalidValue, "start-fast"},
		{"[global]\npg2-host=h\n", "backup", repo.FeatureUnsupported, "pg2-host"},
		{"[global]\ncompress-type=bz2\n", "backup", repo.FeatureUnsupported, "compress-type"},
		{"[global]\nprocess-max\n", "info", repo.Config, "missing '='"},
		{"process-max=1\n", "info", repo.Config, "outside of section"},
		{"[global]\nprocess-max=\n", "info", repo.OptionInvalidValue, "must have a value"},
		{"[global]\nprocess-max=1\nprocess-max=2\n", "info", repo.OptionInvalid, "multiple times"},
	} {
		args := append([]string{conf(t, tt.file)}, strings.Fields(tt.args)...)
		_, err := parse(args, nil)
		if repo.ClassOf(err) != tt.want || err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%q %s: %v, want class %d and %q", tt.file, tt.args, err, tt.want, tt.says)
		}
	}
	// What another command takes is passed over in a file.
	if _, err := parse([]string{conf(t, "[global]\nrepo1-block=y\nbackup-standby=y\n"), "info"}, nil); err != nil {
		t.Errorf("options of backup stop info: %v", err)
	}
}

func TestIncludes(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "conf.d"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"pgbackrest.conf": "[global]\nprocess-max=2\n", "conf.d/a.conf": "[global]\nrepo1-path=/a\n", "conf.d/b.txt": "broken"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	c, err := parse([]string{"--config-path=" + dir, "info"}, nil)
	if err != nil || c.text("process-max") != "2" || c.text("repo1-path") != "/a" {
		t.Errorf("%v: %v", c.values, err)
	}
	if _, err := parse([]string{"--config=/no/where.conf", "info"}, nil); repo.ClassOf(err) != repo.FileMissing {
		t.Errorf("a missing file: %v", err)
	}
}

func TestUnits(t *testing.T) {
	for text, want := range map[string]int64{"20MiB": 20 << 20, "4GB": 4 << 30, "5m": 5 << 20, "4096": 4096, "1k": 1024, "0": 0} {
		if got, ok := parseSize(text); !ok || got != want {
			t.Errorf("%s = %d, %t", text, got, ok)
		}
	}
	for text, want := range map[string]time.Duration{"60": time.Minute, ".5": time.Second / 2, "1.5": 3 * time.Second / 2, "10m": 10 * time.Minute, "250ms": 250 * time.Millisecond} {
		if got, ok := parseDuration(text); !ok || got != want {
			t.Errorf("%s = %s, %t", text, got, ok)
		}
	}
	for _, bad := range []string{"", "x", "1x", "-1", "9999999999999999TB"} {
		if _, ok := parseSize(bad); ok {
			t.Errorf("size %q is taken", bad)
		}
		if _, ok := parseDuration(bad); ok && bad != "" {
			t.Errorf("duration %q is taken", bad)
		}
	}
}

// A pass phrase never shows in what is printed about it.
func TestSecretsStaySecret(t *testing.T) {
	var out, errs bytes.Buffer
	args := []string{conf(t, "[global]\nrepo1-path=/no/where\nrepo1-cipher-type=aes-256-cbc\nrepo1-cipher-pass=hunter2\nlog-level-console=debug\n"), "--stanza=x", "verify"}
	if code := Run(t.Context(), args, Process{Out: &out, Err: &errs}); code == 0 {
		t.Error("verify of nothing succeeds")
	}
	if strings.Contains(out.String()+errs.String(), "hunter2") {
		t.Errorf("it printed the pass phrase:\n%s%s", &out, &errs)
	}
}

func TestVersionAndHelp(t *testing.T) {
	var out bytes.Buffer
	if code := Run(t.Context(), []string{"version"}, Process{Out: &out, Err: &out}); code != 0 || out.String() != "pgBackRest 2.45\n" {
		t.Errorf("%d: %q", code, out.String())
	}
	for _, args := range [][]string{nil, {"help"}, {"--help"}, {"-h"}} {
		out.Reset()
		if code := Run(t.Context(), args, Process{Out: &out, Err: &out}); code != 0 || !strings.Contains(out.String(), "stanza-create") {
			t.Errorf("%q: %d: %q", args, code, out.String())
		}
	}
}
