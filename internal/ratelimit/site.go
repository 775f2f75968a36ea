package ratelimit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"
)

const (
	// maxLease is the most that an instance takes of the site's day at a time. What is
	// left of a lease is lost where an instance is killed.
	maxLease = 20
	// leasesPerDay is how many leases there are at least in a day that has as many
	// grants, so that one instance does not hold much of a small day.
	leasesPerDay = 100
	// aloneShare is the part of a day that an instance gives on its own while the
	// store is down: one of so many.
	aloneShare = 10
	// askAgain is how long the store is not asked again about a day that is used up.
	// Another instance may have given something back.
	askAgain = time.Minute
)

// site counts the grants of a day to all keys together. One bucket for all is asked
// for by every request on every instance, so it is taken in leases: an instance asks
// the store for several grants at once and hands them out from memory.
type site struct {
	limit, lease int
	deny         bool
	breaker      *breaker // Nil: this instance counts alone.
	log          *slog.Logger
	now          func() time.Time

	mu       sync.Mutex
	days     map[Window]*account
	drained  bool
	warned   time.Time // When the log was last told of a burst.
	servings sync.WaitGroup
}

// account is what an instance has of one day.
type account struct {
	// left is what may be granted without asking the store.
	left int
	// alone is what was granted while the store was down, and owed is as much of it as
	// the store has not counted since.
	alone, owed int
	// count is what the bucket held over all instances when the store last answered,
	// and full is when it was seen to hold the limit.
	count int
	full  time.Time
	// seen says that this instance has counted in the bucket before.
	seen bool
	// told says that the log has the day as used up.
	told bool
	pace pace
	// waiting is who the next lease is for. While there is one, it is being asked for.
	waiting []*waiter
	serving bool
}

func newSite(o DayOptions, k *breaker) *site {
	return &site{
		limit:   o.Site,
		lease:   max(1, min(maxLease, o.Site/leasesPerDay)),
		deny:    o.Deny,
		breaker: k,
		log:     o.Log,
		now:     o.Now,
		days:    map[Window]*account{},
	}
}

// usedUp reports whether the day is known to be used up.
func (s *site) usedUp() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.isUsedUp(s.account(WindowOf(s.now(), day)))
}

func (s *site) isUsedUp(a *account) bool {
	if a.left > 0 || s.limit > 0 && s.breaker != nil && s.now().Sub(a.full) >= askAgain {
		return false
	}
	if !a.told {
		a.told = true
		s.log.Warn("the site's answers of this day are used up (ANSWERS_PER_DAY)", "limit", s.limit)
	}
	return true
}

// account returns the account of a day. Without a store it begins with all of it.
func (s *site) account(w Window) *account {
	a := s.days[w]
	if a == nil {
		a = &account{}
		if s.breaker == nil {
			a.left = s.limit
		}
		s.days[w] = a
	}
	return a
}

// take asks for one grant.
func (s *site) take(ctx context.Context) (Decision, error) {
	w := WindowOf(s.now(), day)
	s.mu.Lock()
	a := s.account(w)
	switch {
	case s.drained || s.deny && s.isDown():
		s.mu.Unlock()
		return Decision{}, ErrUnavailable
	case a.left > 0:
		a.left--
		if s.breaker == nil {
			s.watch(a, s.limit-a.left-1, s.limit-a.left)
		}
		s.mu.Unlock()
		return s.decision(""), nil
	case s.isUsedUp(a):
		s.mu.Unlock()
		return s.decision(BySite), nil
	}
	x := newWaiter()
	a.waiting = append(a.waiting, x)
	if !a.serving {
		a.serving = true
		s.servings.Go(func() { s.serve(w, a) })
	}
	s.mu.Unlock()

	select {
	case v := <-x.verdict:
		return v.decision, v.err
	case <-ctx.Done():
		s.leave(a, x)
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return Decision{}, fmt.Errorf("%w: no answer in the request's time", ErrUnavailable)
		}
		return Decision{}, fmt.Errorf("waiting for the rate limit: %w", ctx.Err())
	}
}

func (s *site) isDown() bool {
	if s.breaker == nil {
		return false
	}
	_, down := s.breaker.state()
	return down
}

// leave takes a waiter out again. What it was granted meanwhile is left to others.
func (s *site) leave(a *account, x *waiter) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(a.waiting)
	a.waiting = slices.DeleteFunc(a.waiting, func(other *waiter) bool { return other == x })
	if len(a.waiting) == n && (<-x.verdict).decision.Granted { // Verdicts are given under the lock.
		a.left++
	}
}

// serve takes leases of a day until nobody waits for one. It has a goroutine of its
// own, so that a visitor who disconnects does not abort what others wait for.
func (s *site) serve(w Window, a *account) {
	for {
		s.mu.Lock()
		n := len(a.waiting)
		if n == 0 {
			a.serving = false
			s.mu.Unlock()
			return
		}
		ask := Ask{N: a.owed + (n+s.lease-1)/s.lease*s.lease, Limit: s.limit, Seen: a.seen}
		s.mu.Unlock()
		g, err := s.breaker.grant(bucketOfSite(w), ask)
		s.mu.Lock()
		s.settle(a, g, err)
		s.mu.Unlock()
	}
}

func bucketOfSite(w Window) Bucket { return Bucket{Name: "answers-of-site", Window: w} }

// settle hands out what the store has answered to those who wait. Who gets nothing
// from a store that had all of what it was asked for waits for the next lease.
func (s *site) settle(a *account, g Grant, err error) {
	refusal := verdict{err: err}
	switch {
	case err == nil:
		a.seen = true
		paid := min(a.owed, g.N)
		a.owed -= paid
		a.left += g.N - paid
		if a.count = g.Before + g.N; a.count >= s.limit {
			a.full = s.now()
		}
		s.watch(a, g.Before+paid, a.count) // What is paid was given earlier.
	case errors.Is(err, ErrContended):
		refusal = verdict{decision: s.decision(ByContention)}
	case !s.deny:
		n := max(0, min(len(a.waiting)-a.left, s.limit/aloneShare-a.alone, s.limit-a.count-a.owed))
		a.left += n
		a.alone += n
		a.owed += n
	}
	n := min(a.left, len(a.waiting))
	a.left -= n
	for _, x := range a.waiting[:n] {
		x.verdict <- verdict{decision: s.decision("")}
	}
	a.waiting = a.waiting[n:]
	if err == nil {
		if !s.isUsedUp(a) {
			return
		}
		refusal = verdict{decision: s.decision(BySite)}
	}
	for _, x := range a.waiting {
		x.verdict <- refusal
	}
	a.waiting = nil
}

// drain gives back what is left, once. What was granted while the store was down was
// never taken from it.
func (s *site) drain() {
	s.mu.Lock()
	s.drained = true
	s.mu.Unlock()
	s.servings.Wait()
	s.mu.Lock()
	days := s.days
	s.days = map[Window]*account{}
	s.mu.Unlock()
	for w, a := range days {
		if n := a.left - a.owed; n > 0 {
			s.breaker.giveBack(bucketOfSite(w), n)
		}
	}
}

// decision is a grant, or a refusal for a reason.
func (s *site) decision(why Refusal) Decision {
	return Decision{
		Granted: why == "", Name: "answers-of-site", Limit: s.limit, Window: day,
		Reset: untilEnd(WindowOf(s.now(), day), s.now()), Refused: why,
	}
}
