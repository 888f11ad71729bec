package pigsty

import (
	"time"

	"howdah/spec"
)

const (
	watchdogMode   = "patroni_watchdog_mode"
	watchdogMargin = "patroni_watchdog_safety_margin"
)

// watchdog is the device that resets a machine of the cluster whose guard hangs; which
// it is, each member says.
func (r *reader) watchdog(s *server, t spec.Timers) (w spec.Watchdog) {
	switch mode := s.text(watchdogMode); mode {
	case spec.WatchdogAutomatic, spec.WatchdogRequired:
		w.Mode = mode
	default:
		return w
	}
	if n, ok := whole(s.get(watchdogMargin)); ok && n >= 0 {
		w.Margin = max(time.Duration(n)*time.Second, 1) // 0 is a whole lease
	}
	line := s.line(watchdogMode)
	if s.given(watchdogMargin) {
		line = s.line(watchdogMargin)
	}
	if err := w.Validate(t); err != nil {
		r.find(spec.Problem, line, "in cluster "+s.cluster+" "+err.Error(), "leave "+watchdogMargin+" out, or say -1: half a lease")
	}
	return w
}
