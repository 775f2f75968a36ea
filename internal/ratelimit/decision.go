package ratelimit

import "time"

// Decision is the answer to one request.
type Decision struct {
	// Granted says that the request may go on.
	Granted bool
	// Name, Limit and Window are the limiter's.
	Name   string
	Limit  int
	Window time.Duration
	// Remaining is how many grants are left in the bucket after this one.
	Remaining int
	// Reset is the time until the bucket's window ends, rounded up to whole
	// seconds and at least 1 s, so that a caller who waits for it is never early.
	Reset time.Duration
	// Refused is why the request may not go on.
	Refused Refusal
	// First marks the first refusal of a bucket, or of a network in this window,
	// on this instance: the one that is worth a line in the log.
	First bool

	bucket Bucket
}

// Refusal is why a request is refused.
type Refusal string

// The reasons.
const (
	// ByAddress: the key has used its limit in this window.
	ByAddress Refusal = "address"
	// ByNetwork: the key's network has used its share, of this instance's ceiling or
	// of a day, whatever is left to the key.
	ByNetwork Refusal = "network"
	// BySite: all keys together have used the limit of a day.
	BySite Refusal = "site"
	// ByContention: other instances were counting the key at this instant.
	ByContention Refusal = "contention"
)

// untilEnd returns the rest of a window in whole seconds, rounded up. It is a
// second where the window ended while the request waited.
func untilEnd(w Window, now time.Time) time.Duration {
	return max(time.Second, w.End().Sub(now.Truncate(time.Second)))
}
