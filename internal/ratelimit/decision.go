package ratelimit

import "time"

// Decision is what one request for a session is told.
type Decision struct {
	// Granted says that the request may go on.
	Granted bool
	// Limit is how many grants one bucket has.
	Limit int
	// Remaining is how many grants are left after this one.
	Remaining int
	// Reset is the time until the bucket ends, rounded up to whole seconds:
	// from 1 s to 60 s, so that whoever waits for it never comes too early.
	Reset time.Duration
	// Refused is why the request may not go on.
	Refused Refusal
	// First marks the first refusal of a bucket, or of a network in this minute,
	// on this instance: the one that is worth a line in the log.
	First bool
}

// Refusal is why a request is refused.
type Refusal string

// The reasons.
const (
	// ByAddress: the address has used its limit in this minute.
	ByAddress Refusal = "address"
	// ByNetwork: the address's network has used its share of this instance's
	// ceiling, whatever is left to the address.
	ByNetwork Refusal = "network"
	// ByContention: other instances were counting the address at this instant.
	ByContention Refusal = "contention"
)

// decide returns what a request gets that finds count others before it in the
// bucket of minute.
func decide(count, limit int, minute Minute, now time.Time) Decision {
	return Decision{
		Granted:   count < limit,
		Limit:     limit,
		Remaining: max(0, limit-count-1),
		Reset:     untilEnd(minute, now),
	}
}

// grantOf grants what is left of a bucket that holds before.
func grantOf(before int, ask Ask) Grant {
	return Grant{Before: before, N: max(0, min(ask.N, ask.Limit-before))}
}

// untilEnd returns the rest of minute in whole seconds, rounded up. Where the
// minute ended while the request waited, that is still a second.
func untilEnd(minute Minute, now time.Time) time.Duration {
	return max(time.Second, minute.End().Sub(now.Truncate(time.Second)))
}
