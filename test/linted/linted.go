// Package linted reads what an exporter answers as Prometheus's own linter does
// (promtool check metrics).
//
// What the linter says of names alone is let pass: they are those of the
// programs whose dashboards go by them.
package linted

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
)

// named are the beginnings of complaints about a name, which is not ours to choose.
var named = []string{
	`counter metrics should have "_total" suffix`,
	`non-counter metrics should not have "_total" suffix`,
	`non-histogram and non-summary metrics should not have`,
	`metric names should not contain abbreviated units`,
	`metric names should be written in 'snake_case' not 'camelCase'`,
	`use base unit`,
	`metric name should not include type`,
}

// Metrics fails t if text is not what Prometheus reads, or is told badly.
func Metrics(t *testing.T, text []byte) {
	t.Helper()
	problems, err := promlint.New(bytes.NewReader(text)).Lint()
	if err != nil {
		t.Errorf("not Prometheus's format: %v", err)
	}
	for _, p := range problems {
		if !slices.ContainsFunc(named, func(s string) bool { return strings.HasPrefix(p.Text, s) }) {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
}
