package ratelimit

import "time"

// clock tells which minute it is. It must be read under the lock of whatever
// counts by it. Then it runs backwards only where the system's clock was set
// back, and never because a request was held up between reading the time and
// being counted: a frozen instance holds one up for minutes.
type clock struct {
	now    func() time.Time
	minute Minute
}

// turn reads the clock and reports whether the minute is another one than
// before, and whether it is an earlier one. A step back to the minute before is
// ignored: that minute was counted once already.
func (c *clock) turn() (turned, back bool) {
	m := MinuteOf(c.now())
	if m == c.minute || m+1 == c.minute {
		return false, false
	}
	back = m < c.minute
	c.minute = m
	return true, back
}
