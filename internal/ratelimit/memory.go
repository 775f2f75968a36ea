package ratelimit

import (
	"context"
	"errors"
	"sync"
	"time"
)

// capacity is how many keys a [memory] counts in one window. A map of as many
// takes 36 MiB.
const capacity = 1 << 20

// ErrFull is returned for a key that this instance has not counted in this window
// when it already counts 1048576 others.
var ErrFull = errors.New("memory store is full: it counts 1048576 addresses in a window")

// memory counts the buckets of one limiter in this process. It is exact and
// bounded.
//
// It counts in the window of its own clock. A request whose bucket is of another
// window has been held up, and counts in the window in which it arrives.
type memory struct {
	mu      sync.Mutex
	clock   clock
	tallies map[Key]tally
}

// tally is one bucket. Neither it nor its key has a pointer, so that the garbage
// collector does not scan the map.
type tally struct {
	count   int32 // What the bucket is known to hold.
	refused bool  // This instance has refused a request.
}

func newMemory(now func() time.Time, window time.Duration) *memory {
	return &memory{clock: newClock(now, window), tallies: map[Key]tally{}}
}

// Grant implements [Store]. Its only error is [ErrFull].
func (m *memory) Grant(_ context.Context, b Bucket, ask Ask) (Grant, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	t, ok := m.find(b.Key)
	if !ok {
		return Grant{}, ErrFull
	}
	g := ask.From(int(t.count))
	t.count += int32(g.N) //nolint:gosec // At most Limit, which is at most ten million.
	m.tallies[b.Key] = t
	return g, nil
}

// Return implements [Store]. It forgets what belongs to another window.
func (m *memory) Return(_ context.Context, b Bucket, n int) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.turn()
	if t, ok := m.tallies[b.Key]; ok && b.Window == m.clock.window {
		t.count = max(0, t.count-int32(n)) //nolint:gosec // At most what was granted.
		m.tallies[b.Key] = t
	}
	return nil
}

// count returns what the bucket is known to hold, and whether this instance has
// counted in it.
func (m *memory) count(b Bucket) (n int, seen bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.turn()
	t, seen := m.tallies[b.Key]
	return int(t.count), seen
}

// raise notes that the bucket holds at least n, unless the memory is full or has
// turned to another window.
func (m *memory) raise(b Bucket, n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	t, ok := m.find(b.Key)
	if ok && b.Window == m.clock.window {
		t.count = max(t.count, int32(n)) //nolint:gosec // At most Limit, which is at most ten million.
		m.tallies[b.Key] = t
	}
}

// refuse notes that a request was refused, and reports whether it is the first
// of this bucket on this instance.
func (m *memory) refuse(b Bucket) (first bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	t, ok := m.find(b.Key)
	if !ok || t.refused {
		return false
	}
	t.refused = true
	m.tallies[b.Key] = t
	return true
}

// find returns the key's tally in this window, and reports whether there is room
// for it.
func (m *memory) find(key Key) (t tally, ok bool) {
	m.turn()
	t, ok = m.tallies[key]
	return t, ok || len(m.tallies) < capacity
}

func (m *memory) turn() {
	if m.clock.turn() {
		clear(m.tallies)
	}
}
