package console

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"howdah/control"
	"howdah/observe/logbook"
	"howdah/problem"
)

const (
	around     = 15 * time.Second // before and after what happened
	longest    = 10 * time.Minute // that is asked about at once
	shownLines = 300
	linesSoon  = 15 * time.Second
	longLine   = 2000 // bytes
)

// Logs are where the lines around what happened are.
type Logs interface {
	Read(ctx context.Context, q control.LogQuery, tell func(logbook.Record) error) error
}

// A line is a record for a person.
type line struct {
	At     time.Time `json:"at"`
	Member string    `json:"member"`
	Job    string    `json:"job"`
	Level  string    `json:"level"`
	Text   string    `json:"text"`
}

// lines tells what the members of a cluster logged around a time: at and for are in
// milliseconds, as the page has them.
func (c *Console) lines(w http.ResponseWriter, r *http.Request) {
	if c.feeds[r.FormValue("cluster")] == nil {
		http.Error(w, "there is no such cluster", http.StatusNotFound)
		return
	}
	if c.Logs == nil {
		http.Error(w, "no logs are kept", http.StatusNotFound)
		return
	}
	at, err1 := strconv.ParseInt(r.FormValue("at"), 10, 64)
	took, err2 := strconv.ParseFloat(r.FormValue("for"), 64)
	if err1 != nil || err2 != nil || !(took >= 0 && took <= float64(longest.Milliseconds())) { // NaN is neither
		http.Error(w, "at and for are milliseconds, and for is ten minutes at most", http.StatusBadRequest)
		return
	}
	only, err := logbook.ParseSelector(fmt.Sprintf("{cls=%q}", r.FormValue("cluster")))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	from := time.UnixMilli(at)
	away := []problem.Error{}
	q := control.LogQuery{
		Filter: logbook.Filter{Since: from.Add(-around), Until: from.Add(time.Duration(took)*time.Millisecond + around), Level: logbook.Info, Selector: only},
		Last:   shownLines, Away: func(err error) { away = append(away, plain(err)) },
	}
	ctx, cancel := context.WithTimeout(r.Context(), linesSoon)
	defer cancel()
	all := []line{}
	err = c.Logs.Read(ctx, q, func(one logbook.Record) error {
		text := strings.TrimRight(one.Text(), "\n")
		if len(text) > longLine {
			text = strings.ToValidUTF8(text[:longLine], "") + " …"
		}
		all = append(all, line{one.Time, one.Member, one.Job, one.Level.String(), text})
		return nil
	})
	if err != nil {
		refused(w, http.StatusBadGateway, plain(err))
		return
	}
	answer(w, map[string]any{"lines": all, "away": away})
}
