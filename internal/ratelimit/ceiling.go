package ratelimit

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

// maxSpread is how far apart those who are over the ceiling are told to come
// back, so that they do not all come in the first second of the next minute.
const maxSpread = 10 * time.Second

// OverCapacityError is returned when this instance has granted as many sessions
// in this minute as it may.
type OverCapacityError struct {
	// RetryAfter is the rest of the minute and up to 10 s more, at random: from 1 s
	// to 70 s, in whole seconds.
	RetryAfter time.Duration
}

func overCapacity(restOfMinute time.Duration) *OverCapacityError {
	return &OverCapacityError{RetryAfter: restOfMinute + rand.N(maxSpread+1).Truncate(time.Second)} //nolint:gosec // Spreads visitors, keeps no secret.
}

func (e *OverCapacityError) Error() string {
	return fmt.Sprintf("this instance's ceiling is reached (RATE_LIMIT_INSTANCE_PER_MINUTE), retry after %s", e.RetryAfter)
}

// ceiling bounds the grants of one instance in a minute: those of all networks,
// and those of one, which may have a quarter. So somebody with many addresses of
// one network can use up that network's share, but not everybody's.
//
// Grants are reserved before the store is asked, so that an attack from many
// addresses costs no more operations than the ceiling allows, and given back if
// the store refuses.
type ceiling struct {
	max int

	mu       sync.Mutex
	clock    clock
	used     int
	networks map[Key]share // At most max: each has used something of this minute.
}

// share is what one network has used of the ceiling.
type share struct {
	used    int
	refused bool
}

// reservation is what a ceiling has set aside for some requests of one key.
type reservation struct {
	network Key
	minute  Minute
	n       int
	// networkFull says that the network's share, not the ceiling itself, is why n
	// is less than was asked for; first, that it is so for the first time in the
	// minute.
	networkFull, first bool
}

// reserve sets aside up to n for a key.
func (c *ceiling) reserve(key Key, n int) reservation {
	c.mu.Lock()
	defer c.mu.Unlock()
	if turned, _ := c.clock.turn(); turned {
		c.used = 0
		clear(c.networks)
	}
	r := reservation{network: key.network(), minute: c.clock.minute}
	s := c.networks[r.network]
	left, leftOfShare := c.max-c.used, max(1, c.max/4)-s.used
	r.n = min(n, left, leftOfShare)
	if r.n < n && leftOfShare <= left {
		r.networkFull, r.first = true, !s.refused
		s.refused = true
	}
	s.used += r.n
	c.used += r.n
	c.set(r.network, s)
	return r
}

// release gives back n of a reservation.
func (c *ceiling) release(r reservation, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r.minute != c.clock.minute {
		return
	}
	s := c.networks[r.network]
	s.used -= n
	c.used -= n
	c.set(r.network, s)
}

func (c *ceiling) set(network Key, s share) {
	if s.used == 0 {
		delete(c.networks, network)
		return
	}
	c.networks[network] = s
}
