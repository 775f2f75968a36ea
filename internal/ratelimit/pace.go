package ratelimit

import "time"

const (
	// burst is the time within which fast use of a day is noticed, and the least time
	// between two warnings of it.
	burst = 10 * time.Minute
	// burstShare is how much of the day makes a burst: one of so many parts.
	burstShare = 4
	// burstLeast is how many answers make a burst at least. A quarter of a very small
	// day is only a question or two.
	burstLeast = 5
	// paceStep is the least time between two counts that a [pace] keeps.
	paceStep = 10 * time.Second
)

// pace is what the site's bucket held at some moments of the last ten minutes, oldest
// first. It has at most one count for each [paceStep].
type pace []moment

type moment struct {
	at    time.Time
	count int
}

// add notes that the bucket held before until now and holds after from now on. It
// returns by how much the bucket is known to have grown in the last ten minutes.
func (p *pace) add(now time.Time, before, after int) int {
	old := 0
	for old < len(*p) && now.Sub((*p)[old].at) > burst {
		old++
	}
	*p = append((*p)[:0], (*p)[old:]...)
	if n := len(*p); n == 0 || now.Sub((*p)[n-1].at) >= paceStep {
		*p = append(*p, moment{now, before})
	}
	return after - (*p)[0].count
}

// watch warns when a quarter of the day's answers were granted within ten minutes, over
// all instances as far as this one has seen. The caller holds the lock.
func (s *site) watch(a *account, before, after int) {
	now := s.now()
	used := a.pace.add(now, before, after)
	if used < burstLeast || used*burstShare < s.limit || now.Sub(s.warned) <= burst {
		return
	}
	s.warned = now
	s.log.Warn("a quarter of the day's answers were used within ten minutes", "used", used, "limit", s.limit)
}
