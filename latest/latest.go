// Package latest hands the newest value of something from one writer to any
// number of readers.
//
// It keeps no queue: who was slow or away sees the newest value and nothing
// else, and so still ends up right.
package latest

import (
	"context"
	"sync"
)

// A Value holds the newest T. The zero Value is empty and ready for use.
type Value[T any] struct {
	mu      sync.Mutex
	value   T
	version uint64        // 0: nothing was ever set
	changed chan struct{} // closed at the next Set
}

// Set replaces the value and wakes everyone who waits for it.
func (v *Value[T]) Set(value T) { v.SetIf(value, func(T) bool { return true }) }

// SetIf is Set, but only over a value that better says value may replace.
func (v *Value[T]) SetIf(value T, better func(old T) bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !better(v.value) {
		return
	}
	v.value = value
	v.version++
	if v.changed != nil {
		close(v.changed)
		v.changed = nil
	}
}

// Get returns the newest value and its version; version 0 means none was set.
func (v *Value[T]) Get() (T, uint64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.value, v.version
}

// Changed returns a channel that is closed once a value newer than seen exists.
func (v *Value[T]) Changed(seen uint64) <-chan struct{} {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.version > seen {
		c := make(chan struct{})
		close(c)
		return c
	}
	if v.changed == nil {
		v.changed = make(chan struct{})
	}
	return v.changed
}

// Wait returns the newest value once its version exceeds seen, or the error of ctx.
func (v *Value[T]) Wait(ctx context.Context, seen uint64) (T, uint64, error) {
	for {
		changed := v.Changed(seen)
		select {
		case <-changed:
			if value, version := v.Get(); version > seen {
				return value, version, nil
			}
		case <-ctx.Done():
			value, version := v.Get()
			return value, version, ctx.Err()
		}
	}
}
