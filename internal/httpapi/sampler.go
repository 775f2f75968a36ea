package httpapi

import (
	"sync"
	"time"
)

// maxSampled is how many records a minute there are of each refusal that costs
// its sender nothing.
const maxSampled = 60

// sampler bounds the records of each outcome in a minute.
type sampler struct {
	mu     sync.Mutex
	minute int64 // Of the Unix epoch.
	counts map[string]int
}

func (s *sampler) allow(outcome string, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m := now.Unix() / 60; m != s.minute || s.counts == nil {
		s.minute, s.counts = m, map[string]int{}
	}
	s.counts[outcome]++
	return s.counts[outcome] <= maxSampled
}
