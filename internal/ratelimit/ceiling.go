package ratelimit

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

// maxSpread is how far apart callers over the ceiling are told to come back, so
// that not all of them come in the first second of the next window.
const maxSpread = 10 * time.Second

// OverCapacityError is returned when this instance has granted as much in this
// window as it may.
type OverCapacityError struct {
	// RetryAfter is the rest of the window and up to 10 s more, at random, in whole
	// seconds.
	RetryAfter time.Duration
}

func overCapacity(restOfWindow time.Duration) *OverCapacityError {
	return &OverCapacityError{RetryAfter: restOfWindow + rand.N(maxSpread+1).Truncate(time.Second)} //nolint:gosec // Spreads visitors, keeps no secret.
}

func (e *OverCapacityError) Error() string {
	return fmt.Sprintf("this instance's ceiling is reached (RATE_LIMIT_INSTANCE_PER_MINUTE), retry after %s", e.RetryAfter)
}

// ceiling bounds the grants of one instance in a window: those of all networks,
// and those of one network, which may have a quarter. So an attacker with many
// addresses of one network can use up that network's share, but not everybody's.
//
// Grants are reserved before the store is asked, so that an attack from many
// addresses costs no more operations than the ceiling allows, and given back if
// the store refuses.
type ceiling struct {
	max int // 0 for no ceiling.

	mu       sync.Mutex
	clock    clock
	used     int
	networks map[Key]share // At most max: each has used some of this window.
}

// share is what one network has used of the ceiling.
type share struct {
	used    int
	refused bool
}

// reservation is what a ceiling has set aside for some requests of one key.
type reservation struct {
	window Window
	n      int
	// networkFull says that n is less than was asked for because of the network's
	// share rather than the ceiling itself; first, that this is the first time in
	// the window.
	networkFull, first bool
}

// reserve sets aside up to n for a key.
func (c *ceiling) reserve(key Key, n int) reservation {
	if c.max == 0 {
		return reservation{n: n}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.clock.turn() {
		c.used = 0
		clear(c.networks)
	}
	r := reservation{window: c.clock.window}
	network := key.network()
	s := c.networks[network]
	left, leftOfShare := c.max-c.used, max(1, c.max/4)-s.used
	r.n = min(n, left, leftOfShare)
	if r.n < n && leftOfShare <= left {
		r.networkFull, r.first = true, !s.refused
		s.refused = true
	}
	s.used += r.n
	c.used += r.n
	c.set(network, s)
	return r
}

// release gives back n that were reserved for a key in a window.
func (c *ceiling) release(key Key, w Window, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if w != c.clock.window {
		return
	}
	s := c.networks[key.network()]
	n = min(n, s.used)
	s.used -= n
	c.used -= n
	c.set(key.network(), s)
}

func (c *ceiling) set(network Key, s share) {
	if s.used == 0 {
		delete(c.networks, network)
		return
	}
	c.networks[network] = s
}
