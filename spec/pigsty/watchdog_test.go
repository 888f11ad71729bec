package pigsty

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"howdah/spec"
	"howdah/spec/place"
)

func TestWatchdog(t *testing.T) {
	const s = time.Second
	for _, tt := range []struct {
		name, vars string
		want       spec.Watchdog
		timeout    time.Duration
		problem    string
	}{
		{name: "nobody says", vars: "pg_rto: norm"},
		{name: "off", vars: "patroni_watchdog_mode: off"},
		{name: "automatic", vars: "patroni_watchdog_mode: automatic", want: spec.Watchdog{Mode: "automatic", Device: "/dev/watchdog"}, timeout: 2 * s},
		{
			name: "required, with Patroni's margin", vars: "patroni_watchdog_mode: required, pg_rto: fast, patroni_watchdog_safety_margin: 10, patroni_watchdog_device: /dev/watchdog1",
			want: spec.Watchdog{Mode: "required", Device: "/dev/watchdog1", Margin: 10 * s}, timeout: 10 * s,
		},
		{name: "a margin that leaves too much", vars: "patroni_watchdog_mode: required, patroni_watchdog_safety_margin: 1", problem: "fires after 4s does not suit a lease of 5s, renewed every 1s: it must fire after 1s to 2s"},
		{name: "a margin that leaves nothing", vars: "patroni_watchdog_mode: required, patroni_watchdog_safety_margin: 5", problem: "fires after 0s"},
		{name: "another word", vars: "patroni_watchdog_mode: needed", problem: "patroni_watchdog_mode must be one of"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := Read("x.yml", []byte(fmt.Sprintf(`all:
  vars: { admin_ip: 10.0.0.1 }
  children:
    etcd: { hosts: { 10.0.0.1: { etcd_seq: 1 } } }
    pg-a: { hosts: { 10.0.0.1: { pg_seq: 1, pg_role: primary } }, vars: { pg_cluster: pg-a, %s } }
`, tt.vars)))
			if err := w.Err(); tt.problem != "" || err != nil {
				if err == nil || tt.problem == "" || !strings.Contains(err.Error(), tt.problem) {
					t.Fatalf("it says %v, want %q", err, tt.problem)
				}
				return
			}
			machine := place.Nodes(w, place.Site{Dir: "/d", Run: "/r"})[0]
			if machine.Watchdog != tt.want {
				t.Errorf("%+v, want %+v", machine.Watchdog, tt.want)
			}
			if got := machine.Watchdog.Timeout(machine.Agent.Timers); tt.timeout > 0 && got != tt.timeout {
				t.Errorf("it fires after %s, want %s", got, tt.timeout)
			}
			if play := place.Nodes(w, place.Site{Dir: "/d", Run: "/r", Bind: true})[0].Watchdog; play.On() && (!play.Mock || play.Device == "/dev/watchdog") {
				t.Errorf("a playground has %+v", play)
			}
		})
	}
}
