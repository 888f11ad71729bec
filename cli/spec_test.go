package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"howdah/postgres/conf"
	"howdah/problem"
	"howdah/spec/pigsty"
)

func TestSpecIsPrinted(t *testing.T) {
	text, err := os.ReadFile("testdata/inventory.yml")
	if err != nil {
		t.Fatal(err)
	}
	w := pigsty.Read("inventory.yml", text)
	if err := w.Err(); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	specText(&out, w, conf.Machine{CPU: 8, MemoryMB: 32768, DiskSize: 500 << 30})
	golden := "testdata/spec.golden"
	if *update {
		if err := os.WriteFile(golden, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if out.String() != string(want) {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
	for _, secret := range []string{"DBUser", "s3cret"} {
		if strings.Contains(out.String(), secret) {
			t.Errorf("%s is printed", secret)
		}
	}
}

// What init writes for any answers is an inventory that means them, or it is refused.
func TestInitWritesAnInventory(t *testing.T) {
	good := answers{"shop", "10.10.10.11, 10.10.10.12", "16", "shop", "0"}
	text, err := good.inventory()
	if err != nil {
		t.Fatal(err)
	}
	w := pigsty.Read("x", []byte(text))
	c := w.Clusters[0]
	if w.Err() != nil || c.Name != "shop" || len(c.Members) != 2 || c.Major != 16 || c.Timers.MaxLag != 0 || c.Objects.Databases[0].Owner != "shop" {
		t.Errorf("got %+v, %v", c, w.Err())
	}
	good.hosts, good.loss = "10.10.10.11 10.10.10.12 10.10.10.13", "default"
	if text, err = good.inventory(); err != nil || strings.Contains(text, "max_loss") {
		t.Errorf("got\n%s%v", text, err)
	}
	if c := pigsty.Read("x", []byte(text)).Clusters[0]; c.Begin["synchronous_mode"] != "quorum" {
		t.Errorf("three hosts begin with %v", c.Begin)
	}
	for _, wrong := range []answers{
		{"a b", "10.10.10.11", "16", "x", "0"},
		{"a", "nowhere", "16", "x", "0"},
		{"a", "10.10.10.11", "12", "x", "0"},
		{"a", "10.10.10.11", "16", "A\nb: c", "0"},
		{"a", "10.10.10.11", "16", "x", "some"},
		{"a", "", "16", "x", "0"},
	} {
		if text, err := wrong.inventory(); err == nil {
			t.Errorf("%+v: got\n%s", wrong, text)
		}
	}
}

func TestInit(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.yml")
	code, out, _ := run(t, dir, "init", path, "--cluster", "shop")
	if text, err := os.ReadFile(path); code != Done || err != nil || !strings.Contains(string(text), "cluster: shop\n") || !strings.Contains(out, "howdah up") {
		t.Errorf("got %d, %q, %q, %v", code, out, text, err)
	}
	if code, _, errs := run(t, dir, "init", path); code != NotDone || !strings.Contains(errs, "[init-exists]") {
		t.Errorf("a second init: %d, %s", code, errs)
	}
	if _, err := (answers{}).inventory(); problem.Code(err) == "" && err == nil {
		t.Error("nothing is an inventory")
	}
}

// vip-manager's file becomes lines of an inventory; what can not be is refused with its line.
func TestSpecFromVIPManager(t *testing.T) {
	file := filepath.Join(t.TempDir(), "vip-manager.yml")
	const text = "ip: 10.10.10.2\nnetmask: 24\ninterface: eth1\ntrigger-key: /service/pg-test/leader\netcd-password: s3cret\n"
	for _, c := range []struct {
		text string
		args []string
		code int
		out  string
		errs string
	}{
		{text, nil, 0, "pg_vip_enabled: true\npg_vip_address: 10.10.10.2/24\npg_vip_interface: eth1\n", "not applicable: etcd-password"},
		{text, []string{"--json"}, 0, `"pg_vip_address": "10.10.10.2/24"`, ""},
		{text + "manager-type: hetzner\n", nil, 1, "", "vip-manager.yml:6: manager-type"},
		{text, []string{"pigsty.yml"}, 2, "", "nothing else"},
	} {
		if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		code, out, errs := run(t, t.TempDir(), append([]string{"spec", "--from-vip-manager", file}, c.args...)...)
		if code != c.code || !strings.Contains(out, c.out) || !strings.Contains(errs, c.errs) || strings.Contains(out+errs, "s3cret") {
			t.Errorf("%q: exit %d, %s%s", c.args, code, out, errs)
		}
	}
}
