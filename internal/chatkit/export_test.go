package chatkit

import "time"

// Apply exposes what a turn does to a thread before the thread is stored.
func Apply(t Thread, now time.Time, ops ...Operation) (Thread, error) { return t.apply(ops, now) }
