package ratelimit

import (
	"context"
	"errors"
	"hash/maphash"
	"math/bits"
	"sync"
	"time"
)

// Capacity is how many addresses a [Memory] counts in one minute.
const Capacity = 1 << 20

// slots leaves a quarter of the table free, which keeps the longest walk past
// other keys' entries short: 8.5 slots on average to an absent key when the
// table is as full as it may get (Knuth, linear probing at a load of 0.75).
const slots = Capacity / 3 * 4

// firstSlots are enough for 3072 addresses a minute, in 64 kB.
const firstSlots = 1 << 12

// ErrFull is returned for a key that a [Memory] has not seen in this minute
// when it already counts [Capacity] others.
var ErrFull = errors.New("memory store is full: it counts 1048576 addresses a minute")

// Memory counts buckets in this process. It is exact, and bounded: its one table
// of 16-byte entries without pointers doubles as it fills, up to 22 MB. It does
// not begin with those, because Go lets the heap grow to twice of what is in use,
// and would take all of a table for that.
//
// Nothing in it is ever deleted. An entry belongs to the minute it names, and
// in a later minute it reads as free; within a minute entries are only added,
// so a walk for a key may stop at the first free one.
//
// It counts in the minute of its own clock. A request whose bucket is of another
// minute has been held up on its way, and counts in the minute that it comes in.
type Memory struct {
	seed maphash.Seed // Random, so that nobody can choose addresses that collide.

	mu    sync.Mutex
	clock clock
	used  int // Entries of this minute.
	table []entry
}

// entry is one bucket of the table.
type entry struct {
	key Key
	// turn is one more than the minute: 0 is an entry never used.
	turn Minute
	// count is what the bucket is known to hold; refused, on top of it, says
	// that this instance has refused somebody.
	count uint32
}

const refused = 1 << 31

func (e *entry) granted() int { return int(e.count &^ refused) }

// NewMemory returns an empty store that tells the time by now.
func NewMemory(now func() time.Time) *Memory {
	return &Memory{seed: maphash.MakeSeed(), clock: clock{now: now}, table: make([]entry, firstSlots)}
}

// Grant implements [Store]. It fails with [ErrFull] alone.
func (m *Memory) Grant(_ context.Context, b Bucket, ask Ask) (Grant, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.begin()
	e := m.find(b.Key)
	if e == nil {
		return Grant{}, ErrFull
	}
	g := grantOf(e.granted(), ask)
	e.count += uint32(g.N) //nolint:gosec // At most Limit, which is at most a million.
	return g, nil
}

// count returns what the bucket is known to hold, and whether it was ever
// counted here.
func (m *Memory) count(b Bucket) (n int, seen bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.begin()
	e := &m.table[m.index(b.Key)]
	if e.turn != m.turn() {
		return 0, false
	}
	return e.granted(), true
}

// raise notes that the bucket holds at least n. A full table forgets it, and
// so does one that is counting another minute by now.
func (m *Memory) raise(b Bucket, n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.begin()
	if b.Minute != m.clock.minute {
		return
	}
	if e := m.find(b.Key); e != nil && n > e.granted() {
		e.count = e.count&refused | uint32(n) //nolint:gosec // At most Limit, which is at most a million.
	}
}

// refuse notes that somebody was refused, and reports whether it is the first
// in this bucket on this instance.
func (m *Memory) refuse(b Bucket) (first bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.begin()
	e := m.find(b.Key)
	if e == nil || e.count&refused != 0 {
		return false
	}
	e.count |= refused
	return true
}

// turn is what marks this minute's entries.
func (m *Memory) turn() Minute { return m.clock.minute + 1 }

// find returns the key's entry in this minute, a new one if need be, or nil if
// there is no room for one.
func (m *Memory) find(key Key) *entry {
	e := &m.table[m.index(key)]
	if e.turn == m.turn() {
		return e
	}
	if m.used == Capacity {
		return nil
	}
	if m.used == len(m.table)/4*3 && len(m.table) < slots {
		m.grow()
		e = &m.table[m.index(key)]
	}
	m.used++
	*e = entry{key: key, turn: m.turn()}
	return e
}

// grow doubles the table and keeps this minute's entries. It never shrinks: what
// was needed in one minute may be in the next.
func (m *Memory) grow() {
	old := m.table
	m.table = make([]entry, min(2*len(old), slots))
	for _, e := range old {
		if e.turn == m.turn() {
			m.table[m.index(e.key)] = e
		}
	}
}

// begin turns to the minute of the clock. Where that was set back, entries of
// the minute it shows may be left, which are not in used: all are forgotten.
func (m *Memory) begin() {
	turned, back := m.clock.turn()
	if turned {
		m.used = 0
	}
	if back {
		clear(m.table)
	}
}

// index returns where the key's entry of this minute is, or the free place
// where it belongs.
func (m *Memory) index(key Key) int {
	n := uint64(len(m.table))
	i, _ := bits.Mul64(maphash.Comparable(m.seed, key), n)
	for m.table[i].turn == m.turn() && m.table[i].key != key {
		if i++; i == n {
			i = 0
		}
	}
	return int(i) //nolint:gosec // Below the length.
}
