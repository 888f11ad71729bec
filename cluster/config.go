package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Config is the dynamic configuration: whatever object people put there.
// The getters give Patroni's defaults for what is absent or unreadable.
type Config struct {
	Mod  int64
	Data map[string]any // nil: there is none, or it can not be read
}

// ParseConfig reads the dynamic configuration.
func ParseConfig(value []byte) (Config, error) {
	var c Config
	err := decode(value, &c.Data)
	return c, err
}

// Encode is the value to put.
func (c Config) Encode() string {
	if c.Data == nil {
		return "{}"
	}
	return encode(c.Data)
}

// Patched is the configuration with patch merged in, as Patroni's patch_config
// merges: objects go into objects, null takes away, and a value that reads the
// same is no change.
func (c Config) Patched(patch map[string]any) (data map[string]any, changed bool) {
	return merge(c.Data, patch)
}

func merge(old, patch map[string]any) (map[string]any, bool) {
	data, changed := maps.Clone(old), false
	if data == nil {
		data = map[string]any{}
	}
	for name, v := range patch {
		was, there := data[name]
		inner, isObject := v.(map[string]any)
		wasObject, wasIsObject := was.(map[string]any)
		switch {
		case v == nil:
			delete(data, name)
			changed = changed || there
		case there && isObject && wasIsObject:
			next, c := merge(wasObject, inner)
			data[name], changed = next, changed || c
		case !there || isObject || fmt.Sprint(was) != fmt.Sprint(v):
			data[name], changed = v, true
		}
	}
	return data, changed
}

// Lookup follows path through the objects.
func (c Config) Lookup(path ...string) (any, bool) {
	var v any = c.Data
	for _, key := range path {
		m, ok := v.(map[string]any)
		if !ok {
			return nil, false
		}
		if v, ok = m[key]; !ok {
			return nil, false
		}
	}
	return v, v != nil
}

// TTL is how long Patroni's leader may be silent.
func (c Config) TTL() time.Duration { return c.seconds("ttl", 30) }

// LoopWait is the pause between two of Patroni's turns.
func (c Config) LoopWait() time.Duration { return c.seconds("loop_wait", 10) }

// RetryTimeout is the time allowed to one operation.
func (c Config) RetryTimeout() time.Duration { return c.seconds("retry_timeout", 10) }

// MaximumLagOnFailover is how many bytes behind a candidate may be.
func (c Config) MaximumLagOnFailover() int64 { return c.Int(1<<20, "maximum_lag_on_failover") }

// PrimaryStartTimeout is the time allowed to a crashed primary to start in place.
func (c Config) PrimaryStartTimeout() time.Duration {
	if _, ok := c.Lookup("primary_start_timeout"); ok {
		return c.seconds("primary_start_timeout", 300)
	}
	return c.seconds("master_start_timeout", 300)
}

// StartTimeout says that it is there.
func (c Config) StartTimeout() bool {
	_, there := c.Lookup("primary_start_timeout")
	_, old := c.Lookup("master_start_timeout")
	return there || old
}

// Pause says that nobody may be promoted or demoted by itself.
func (c Config) Pause() bool { return c.Bool("pause") }

// CheckTimeline excludes candidates behind the cluster's timeline.
func (c Config) CheckTimeline() bool { return c.Bool("check_timeline") }

// FailsafeMode lets a primary live on without the store by the word of the others:
// unless it is said not to.
func (c Config) FailsafeMode() bool {
	_, said := c.Lookup("failsafe_mode")
	return !said || c.Bool("failsafe_mode")
}

// Synchronous modes.
const (
	SyncOff    = "off"
	SyncOn     = "on"
	SyncQuorum = "quorum"
)

// SynchronousMode is off, on or quorum, as it is asked for: ask the State what counts.
func (c Config) SynchronousMode() string {
	v, _ := c.Lookup("synchronous_mode")
	if s, ok := v.(string); ok && strings.EqualFold(s, SyncQuorum) {
		return SyncQuorum
	}
	if on, _ := boolOf(v); on {
		return SyncOn
	}
	return SyncOff
}

// CheckModes refuses what would be taken for off although somebody meant
// something: a commit that nobody waits for is not what a slip of the pen may cost.
func (c Config) CheckModes() error {
	var errs []error
	if v, _ := c.Lookup("synchronous_mode"); v != nil {
		s, _ := v.(string)
		if _, ok := boolOf(v); !ok && !strings.EqualFold(s, SyncQuorum) {
			errs = append(errs, fmt.Errorf("synchronous_mode: %v is none of off, on, quorum", v))
		}
	}
	if v, _ := c.Lookup("synchronous_mode_strict"); v != nil {
		if _, ok := boolOf(v); !ok {
			errs = append(errs, fmt.Errorf("synchronous_mode_strict: %v is neither true nor false", v))
		}
	}
	return errors.Join(errs...)
}

// SynchronousModeStrict forbids to go on without a synchronous standby.
func (c Config) SynchronousModeStrict() bool { return c.Bool("synchronous_mode_strict") }

// SynchronousNodeCount is how many standbys must acknowledge.
func (c Config) SynchronousNodeCount() int {
	n := int(min(c.Int(1, "synchronous_node_count"), math.MaxInt32))
	if c.SynchronousModeStrict() {
		return max(n, 1)
	}
	return max(n, 0)
}

// SynchronousNodes is how many standbys must acknowledge, 0 where nobody said.
func (c Config) SynchronousNodes() int {
	if _, said := c.Lookup("synchronous_node_count"); !said {
		return 0
	}
	return c.SynchronousNodeCount()
}

// MaximumLagOnSyncnode is how many bytes behind a synchronous standby may be;
// -1 is any number.
func (c Config) MaximumLagOnSyncnode() int64 { return c.Int(-1, "maximum_lag_on_syncnode") }

// MaxTimelinesHistory is how many rows of history are kept; 0 is all.
func (c Config) MaxTimelinesHistory() int {
	return int(max(0, min(c.Int(0, "max_timelines_history"), math.MaxInt32)))
}

// Parameters are the server settings under postgresql.parameters, as text.
func (c Config) Parameters() map[string]string {
	v, _ := c.Lookup("postgresql", "parameters")
	m, _ := v.(map[string]any)
	params := make(map[string]string, len(m))
	for name, v := range m {
		switch v := v.(type) {
		case string:
			params[name] = v
		case bool:
			params[name] = "off"
			if v {
				params[name] = "on"
			}
		case float64:
			params[name] = strconv.FormatFloat(v, 'f', -1, 64)
		}
	}
	return params
}

// ParametersText is parameters as one text that is equal for equal settings:
// "{}" for none.
func ParametersText(parameters map[string]string) string { return encode(parameters) }

// ParseParameters is the inverse.
func ParseParameters(text string) (map[string]string, error) {
	var m map[string]string
	err := decode([]byte(text), &m)
	return m, err
}

// Howdah is our own section: the object under howdah.
func (c Config) Howdah() map[string]any {
	v, _ := c.Lookup("howdah")
	m, _ := v.(map[string]any)
	return m
}

// Our own settings of the dynamic configuration: what stands under howdah.
const (
	SetLease = "lease"
	SetRenew = "renew"
	SetRetry = "retry"
	SetStart = "start"
	SetGrace = "grace"

	SetDisk      = "disk"
	SetDrain     = "drain"
	SetUndrained = "undrained"
)

// What the disk guard does (ha/disk.go).
const (
	DiskAct  = "act"  // as it is meant
	DiskTell = "tell" // it tells, and does nothing
	DiskOff  = "off"
)

// Disk is one of them; what can not be read is the first.
func (c Config) Disk() string {
	switch v, _ := c.Lookup("howdah", SetDisk); v {
	case DiskTell:
		return DiskTell
	case DiskOff, false:
		return DiskOff
	}
	return DiskAct
}

// DrainMost is the longest that a planned change may wait for gateways, which hold
// their clients no longer than that and the change itself take.
const DrainMost = 5 * time.Second

// Drain is how long a planned change waits for the transactions that go on when it
// begins. A second is more than a transaction takes behind which no person or report waits,
// and little enough that a gateway which died just before costs no client its patience.
func (c Config) Drain() time.Duration {
	return min(max(0, c.Duration(time.Second, "howdah", SetDrain)), DrainMost)
}

// DrainAborts says that a planned change is given up when they have not ended by then.
func (c Config) DrainAborts() bool {
	v, _ := c.Lookup("howdah", SetUndrained)
	return v == "abort"
}

// checkDrain refuses what can not be meant.
func (c Config) checkDrain() (errs []error) {
	if v, ok := c.Lookup("howdah", SetDrain); ok {
		const never = -1
		if d := c.Duration(never, "howdah", SetDrain); d < 0 || d > DrainMost {
			errs = append(errs, fmt.Errorf("howdah.drain: %v is no time from 0s to %s", v, DrainMost))
		}
	}
	if v, ok := c.Lookup("howdah", SetUndrained); ok && v != "abort" && v != "proceed" {
		errs = append(errs, fmt.Errorf("howdah.undrained: %v is neither proceed nor abort", v))
	}
	if v, ok := c.Lookup("howdah", SetDisk); ok && v != DiskAct && v != DiskTell && v != DiskOff && v != false {
		errs = append(errs, fmt.Errorf("howdah.disk: %v is none of act, tell, off", v))
	}
	return errs
}

// SetTimers are the timers that stand under howdah, by name. The error names
// what is no timer and what can not be read as a time.
func (c Config) SetTimers() (map[string]time.Duration, error) {
	set, there := c.Lookup("howdah")
	if !there {
		return nil, nil // as nearly always
	}
	own, ok := set.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("howdah: %v is no object of settings", set)
	}
	errs := c.checkDrain()
	if err := c.checkDegraded(); err != nil {
		errs = append(errs, err)
	}
	timers := make(map[string]time.Duration, len(own))
	for _, name := range slices.Sorted(maps.Keys(own)) {
		switch name {
		case SetLease, SetRenew, SetRetry, SetStart, SetGrace:
		case SetDisk, SetDrain, SetUndrained, SetDegraded:
			continue
		default:
			errs = append(errs, fmt.Errorf("howdah.%s: there is no such setting", name))
			continue
		}
		const never = -1
		if own[name] == nil {
			continue
		}
		if d := c.Duration(never, "howdah", name); d <= 0 {
			errs = append(errs, fmt.Errorf("howdah.%s: %v is no time, like 5s or 250ms", name, own[name]))
		} else {
			timers[name] = d
		}
	}
	return timers, errors.Join(errs...)
}

// Duration reads "5s" or a number of seconds.
func (c Config) Duration(otherwise time.Duration, path ...string) time.Duration {
	v, _ := c.Lookup(path...)
	if s, ok := v.(string); ok {
		if d, err := time.ParseDuration(s); err == nil {
			return d
		}
	}
	if f, ok := floatOf(v); ok && math.Abs(f) < math.MaxInt32 {
		return time.Duration(f * float64(time.Second))
	}
	return otherwise
}

// Int reads a whole number.
func (c Config) Int(otherwise int64, path ...string) int64 {
	v, _ := c.Lookup(path...)
	if n, ok := intOf(v); ok {
		return n
	}
	return otherwise
}

// Bool reads a switch; absent and unreadable are off.
func (c Config) Bool(path ...string) bool {
	v, _ := c.Lookup(path...)
	b, _ := boolOf(v)
	return b
}

func (c Config) seconds(key string, otherwise int) time.Duration {
	return c.Duration(time.Duration(otherwise)*time.Second, key)
}

// boolOf reads what Patroni's parse_bool reads.
func boolOf(v any) (value, ok bool) {
	switch v := v.(type) {
	case bool:
		return v, true
	case float64:
		return v == 1, v == 0 || v == 1
	case string:
		switch strings.ToLower(v) {
		case "on", "true", "yes", "1":
			return true, true
		case "off", "false", "no", "0":
			return false, true
		}
	}
	return false, false
}

func intOf(v any) (int64, bool) {
	f, ok := floatOf(v)
	if !ok || math.Abs(f) >= 1<<62 {
		return 0, false
	}
	return int64(f), true
}

func floatOf(v any) (float64, bool) {
	switch v := v.(type) {
	case float64:
		return v, !math.IsNaN(v)
	case int:
		return float64(v), true
	case int64:
		return float64(v), true
	case json.Number:
		f, err := v.Float64()
		return f, err == nil
	case string:
		f, err := strconv.ParseFloat(strings.TrimSpace(v), 64)
		return f, err == nil && !math.IsNaN(f)
	}
	return 0, false
}
