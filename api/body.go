package api

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"time"
)

// bodyBytes is more than anyone has to say; Patroni reads whatever comes.
const bodyBytes = 256 << 10

// drained is how much of a body that is too large is read all the same, and drainFor
// how long.
const (
	drained  = 64 << 20
	drainFor = 2 * time.Second
)

// object reads the body, a JSON object. If it may be left out, nothing is an
// empty object. What is wrong with it was answered when ok is false.
func object(w http.ResponseWriter, r *http.Request, optional bool) (body map[string]any, ok bool) {
	_, said := r.Header["Content-Length"]
	switch {
	case r.ContentLength < 0, !said && !optional:
		w.WriteHeader(http.StatusLengthRequired)
		return nil, false
	case r.ContentLength > bodyBytes:
		w.Header().Set("Connection", "close")
		text(w, http.StatusRequestEntityTooLarge, "the body is too large")
		// Who writes all of it before reading would hear of a reset connection instead.
		c := http.NewResponseController(w)
		_ = c.Flush()
		_ = c.SetReadDeadline(time.Now().Add(drainFor))
		_, _ = io.CopyN(io.Discard, r.Body, drained)
		return nil, false
	case r.ContentLength == 0 && optional:
		return map[string]any{}, true
	}
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, bodyBytes)).Decode(&body)
	if err == nil && (body == nil || len(body) == 0 && !optional) {
		err = errors.New("an object is expected")
	}
	if err != nil {
		text(w, http.StatusBadRequest, "Bad request: "+err.Error())
		return nil, false
	}
	return body, true
}

// word is the text of a field; anything but text reads as its absence.
func word(body map[string]any, names ...string) string {
	for _, name := range names {
		if s, ok := body[name].(string); ok && s != "" {
			return s
		}
	}
	return ""
}
