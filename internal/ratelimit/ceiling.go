package ratelimit

import (
	"fmt"
	"sync"
	"time"
)

// OverCapacityError is returned when this instance has granted as many
// sessions in this minute as it may, whoever asks.
type OverCapacityError struct {
	// RetryAfter is the rest of the minute, 1 s to 60 s.
	RetryAfter time.Duration
}

func (e *OverCapacityError) Error() string {
	return fmt.Sprintf("this instance's ceiling is reached (RATE_LIMIT_INSTANCE_PER_MINUTE), next minute in %s", e.RetryAfter)
}

// ceiling bounds the grants of one instance in a minute. Grants are reserved
// before the store is asked, so that an attack from many addresses costs no
// more operations than the ceiling allows, and given back if it refuses.
type ceiling struct {
	max int

	mu     sync.Mutex
	minute Minute
	used   int
}

// reserve takes up to n and returns how many it got.
func (c *ceiling) reserve(minute Minute, n int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if minute > c.minute || setBack(minute, c.minute) {
		c.minute, c.used = minute, 0
	}
	n = min(n, c.max-c.used)
	c.used += n
	return n
}

// release gives n back that were reserved in the same minute.
func (c *ceiling) release(minute Minute, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if minute == c.minute {
		c.used -= n
	}
}
