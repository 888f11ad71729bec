package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// SetDegraded is a person's word, under howdah in the dynamic configuration, that
// commits need not wait where no standby is left to wait for, although the mode is
// strict.
const SetDegraded = "degraded"

// Degraded says who accepted that, when, and for how long.
type Degraded struct {
	By    string    `json:"by"`
	Since time.Time `json:"since"`
	Until time.Time `json:"until,omitzero"` // zero: until it is taken back
}

// Degraded is what a person accepted; ok is false where nobody did, or it can not
// be read: then commits wait.
func (c Config) Degraded() (d Degraded, ok bool) {
	d, err := c.degraded()
	return d, err == nil
}

var errNotDegraded = errors.New("nobody accepted that commits do not wait")

func (c Config) degraded() (d Degraded, err error) {
	v, there := c.Lookup("howdah", SetDegraded)
	if !there {
		return d, errNotDegraded
	}
	text, err := json.Marshal(v)
	if err == nil {
		err = decode(text, &d)
	}
	if err == nil && d.Since.IsZero() {
		err = errors.New("since is needed")
	}
	return d, err
}

// checkDegraded refuses what can not be read.
func (c Config) checkDegraded() error {
	if _, err := c.degraded(); err != nil && !errors.Is(err, errNotDegraded) {
		return fmt.Errorf("howdah.degraded: %w (`howdah degrade` writes it)", err)
	}
	return nil
}

// Data is the value to put into a configuration.
func (d Degraded) Data() map[string]any {
	data := map[string]any{"by": d.By, "since": d.Since.UTC().Format(time.RFC3339)}
	if !d.Until.IsZero() {
		data["until"] = d.Until.UTC().Format(time.RFC3339)
	}
	return data
}

// Over says that its time has passed.
func (d Degraded) Over(now time.Time) bool { return !d.Until.IsZero() && !now.Before(d.Until) }
