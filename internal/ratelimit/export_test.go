package ratelimit

// What the tests measure and compare.
const Capacity = capacity

type Pace = pace

var (
	NewMemory = newMemory
	Note      = (*pace).add
)
