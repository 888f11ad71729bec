package stanza

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"howdah/backup/repo"
)

// A repository that several hosts share has a lock of its own beside those of
// each machine: an object that whoever makes or removes backups stores, renews
// and takes away. Whether its holder lives is seen by watching, not by the time
// in it: clocks of hosts differ. pgBackRest knows nothing of it.
const (
	beat     = 5 * time.Second // between renewals
	patience = 4 * beat        // without one the holder is gone
)

// claimName is beside archive and backup, where pgBackRest does not look.
func (s *Stanza) claimName() string { return "lock/" + s.Name + "-backup" }

// A claim is what the object says.
type claim struct {
	ID   string    `json:"id"` // of the holder: no two are the same
	Host string    `json:"host"`
	PID  int       `json:"pid"`
	From time.Time `json:"from"`
	Beat int       `json:"beat"`
}

// Claim keeps backup and expire of other hosts out of the repository until
// release, where the store can arbitrate between hosts. The context that it
// returns ends if somebody else has taken the claim.
func (s *Stanza) Claim(ctx context.Context, voice Voice) (claimed context.Context, release func(), err error) {
	store, ok := s.Storage.(repo.Arbiter)
	if !ok {
		return ctx, func() {}, nil
	}
	host, _ := os.Hostname()
	h := &holder{store: store, name: s.claimName(), mine: claim{ID: rand.Text(), Host: host, PID: os.Getpid(), From: time.Now().UTC()}}
	err = h.take(ctx)
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		voice.Warn("the store of %s does not arbitrate between hosts: only one of them may make backups in it", s)
		_ = s.Remove(ctx, h.name) // it would say something to nobody
		return ctx, func() {}, nil
	case err != nil:
		return nil, nil, fmt.Errorf("%s: %w", s, err)
	}
	claimed, cancel := context.WithCancelCause(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		h.hold(claimed, cancel)
	}()
	return claimed, func() {
		cancel(nil)
		<-ended
		if h.lost {
			return
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*beat)
		defer cancel()
		if err := s.Remove(ctx, h.name); err != nil {
			voice.Warn("the lock of %s was not removed, and is waited for by whoever comes next: %s", s, err)
		}
	}, nil
}

// A holder has the claim, or wants it.
type holder struct {
	store repo.Arbiter
	name  string
	mine  claim
	tag   string // of the object, as this holder stored it
	lost  bool
}

// put stores the claim in place of what has a tag. An answer that was lost on
// the way, and asked for again, looks like somebody else's claim.
func (h *holder) put(ctx context.Context, was string) error {
	data, err := json.Marshal(h.mine)
	if err != nil {
		return err
	}
	tag, err := h.store.Swap(ctx, h.name, was, data)
	if errors.Is(err, repo.ErrSwapped) {
		if have, is, err := h.store.Tagged(ctx, h.name); err == nil && bytes.Equal(have, data) {
			h.tag = is
			return nil
		}
	}
	if err == nil {
		h.tag = tag
	}
	return err
}

func (h *holder) take(ctx context.Context) error {
	err := h.put(ctx, "")
	if err == nil {
		// A store that knows no conditions lets everybody do everything.
		if _, err := h.store.Swap(ctx, h.name, "", []byte("{}")); !errors.Is(err, repo.ErrSwapped) {
			if err == nil {
				err = errors.ErrUnsupported
			}
			return err
		}
		return nil
	}
	if !errors.Is(err, repo.ErrSwapped) {
		return err
	}
	data, seen, err := h.store.Tagged(ctx, h.name)
	if errors.Is(err, fs.ErrNotExist) {
		return h.taken(h.put(ctx, ""), claim{})
	}
	if err != nil {
		return err
	}
	var other claim
	_ = json.Unmarshal(data, &other) // only for the message
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	_, now, err := h.store.Tagged(ctx, h.name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return h.taken(h.put(ctx, ""), other)
	case err != nil:
		return err
	case now != seen:
		return h.taken(repo.ErrSwapped, other)
	}
	return h.taken(h.put(ctx, seen), other)
}

// taken says who holds the claim, if it is another.
func (h *holder) taken(err error, other claim) error {
	if !errors.Is(err, repo.ErrSwapped) {
		return err
	}
	who := "another host"
	if other.Host != "" {
		who = fmt.Sprintf("host %s (process %d, since %s)", other.Host, other.PID, other.From.Format(time.RFC3339))
	}
	return repo.Errorf(repo.LockAcquire, "%s makes or removes backups in this repository: try again when it is done", who)
}

// hold renews the claim until ctx ends. That the store does not answer is no
// loss: nobody else can take the claim then.
func (h *holder) hold(ctx context.Context, lose context.CancelCauseFunc) {
	tick := time.NewTicker(beat)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		h.mine.Beat++
		if err := h.put(ctx, h.tag); errors.Is(err, repo.ErrSwapped) {
			h.lost = true
			lose(repo.Errorf(repo.LockAcquire, "another host took this repository's lock, because it was not renewed for %s", patience))
			return
		}
	}
}
