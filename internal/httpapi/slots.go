package httpapi

import (
	"sync"
	"time"
)

const (
	// visitorSlots is how many answers a visitor gets at the same time: one in each
	// of two tabs. It keeps one visitor from taking all of an instance.
	visitorSlots = 2
	// busyPause is how long a visitor is told to wait for a free slot.
	busyPause = 5 * time.Second
)

// slots bound the answers that an instance writes at the same time.
type slots struct {
	max int // -1 for any number.

	mu       sync.Mutex
	taken    int
	visitors map[string]int
}

// take takes a slot, unless all or those of the visitor are taken.
func (s *slots) take(visitor string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.max >= 0 && s.taken >= s.max || s.visitors[visitor] >= visitorSlots {
		return false
	}
	s.taken++
	s.visitors[visitor]++
	return true
}

// add takes a slot in place of one that was just released.
func (s *slots) add(visitor string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken++
	s.visitors[visitor]++
}

// release gives a slot back.
func (s *slots) release(visitor string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken--
	if s.visitors[visitor]--; s.visitors[visitor] == 0 {
		delete(s.visitors, visitor)
	}
}
