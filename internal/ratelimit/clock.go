package ratelimit

import "time"

// clock tells which window it is. It must be read under the lock of whatever
// counts by it. Then it runs backwards only where the system's clock was set
// back, and never because a request was held up between reading the time and
// being counted: a frozen instance holds one up for minutes.
type clock struct {
	now    func() time.Time
	window Window
}

func newClock(now func() time.Time, length time.Duration) clock {
	return clock{now: now, window: Window{Length: length}}
}

// turn reads the clock and reports whether the window has changed. A step back
// into the window before is ignored: that window was counted once already.
func (c *clock) turn() bool {
	w := WindowOf(c.now(), c.window.Length)
	if w == c.window || w.Index+1 == c.window.Index {
		return false
	}
	c.window = w
	return true
}
