// Package secret keeps passwords out of logs, errors, metrics and JSON.
package secret

import "log/slog"

// A Text is a secret: every way of printing it gives three stars. Only Reveal
// gives it away, so a search for Reveal finds every place where a secret leaves.
type Text string

const mask = "***"

// Reveal returns the secret itself.
func (t Text) Reveal() string { return string(t) }

// String, GoString, LogValue, MarshalText: all masked.
func (t Text) String() string { return mask }

// GoString masks the secret in %#v.
func (t Text) GoString() string { return mask }

// LogValue masks the secret in slog.
func (t Text) LogValue() slog.Value { return slog.StringValue(mask) }

// MarshalText masks the secret in JSON and YAML.
func (t Text) MarshalText() ([]byte, error) { return []byte(mask), nil }
