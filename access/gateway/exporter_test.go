package gateway

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"howdah/access/admin"
	"howdah/test/linted"
)

// A pooler that has ended is told as down, and everything told is what Prometheus reads.
func TestPoolMetrics(t *testing.T) {
	ok := true
	e := newExporter(func() (admin.Facts, bool) {
		if !ok {
			return admin.Facts{}, false
		}
		return admin.Facts{Now: time.Now(), Databases: []admin.DatabaseFact{{Name: "demo", PoolSize: 20}}}, true
	})
	ask := func(path string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		e.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		return w
	}
	up := ask("/metrics")
	linted.Metrics(t, up.Body.Bytes())
	for _, line := range []string{"\npgbouncer_up 1\n", "\npgbouncer_database_pool_size{datname=\"demo\",host=\"\",port=\"0\",real_datname=\"\"} 20\n", "\npgbouncer_exporter_scrape_total_count 1\n"} {
		if !strings.Contains("\n"+up.Body.String(), line) {
			t.Errorf("%q is missing in\n%s", line, up.Body)
		}
	}
	if w := ask("/health"); w.Code != http.StatusOK {
		t.Errorf("health: %d", w.Code)
	}
	ok = false
	down := ask("/metrics")
	linted.Metrics(t, down.Body.Bytes())
	for _, line := range []string{"\npgbouncer_up 0\n", "\npgbouncer_exporter_scrape_error_count 1\n"} {
		if !strings.Contains("\n"+down.Body.String(), line) {
			t.Errorf("%q is missing in\n%s", line, down.Body)
		}
	}
	if w := ask("/health"); w.Code != http.StatusServiceUnavailable {
		t.Errorf("health of one that has ended: %d", w.Code)
	}
}
