package ratelimit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"
)

// probePause is the least time between two probes of a store that is down: soon
// enough for a visitor not to notice, too seldom to be a load.
const probePause = time.Second

// fallible is a circuit breaker around a store. While the store is down, visitors
// do not wait for it; probes in the background find out when it is up again. Each
// change is logged once.
//
// A store that is up leaves a call unanswered where other instances keep its
// bucket locked. To take that for an outage would let this instance count alone
// beside them, so a call that is slow has the store probed: as long as it answers
// anything, it is up, and the bucket is contended.
type fallible struct {
	store   Store
	timeout time.Duration
	log     *slog.Logger
	now     func() time.Time

	mu      sync.Mutex
	down    bool
	probing bool
	probed  time.Time // When the last probe ended, or the outage began.
	era     era
}

// era tells a call that fails what has happened since it began.
type era struct {
	// outages is their number. A call that began before the last one ended says
	// nothing about the store as it is now.
	outages int
	// answers counts the calls that the store has answered, whatever it said.
	answers int
}

// Grant asks the store within the breaker's own deadline. Its error is
// [ErrContended] or [ErrUnavailable].
func (f *fallible) Grant(b Bucket, ask Ask) (Grant, error) {
	began, down := f.state()
	if down {
		return Grant{}, ErrUnavailable
	}
	slow := time.AfterFunc(f.timeout/4, f.probe)
	defer slow.Stop()
	g, err := f.call(b, ask)
	if err != nil && !errors.Is(err, ErrContended) {
		if f.fail(began, err) {
			return Grant{}, fmt.Errorf("%w: the store answers others", ErrContended)
		}
		return Grant{}, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return g, err
}

// call asks the store, and notes that it answers.
func (f *fallible) call(b Bucket, ask Ask) (Grant, error) {
	ctx, cancel := context.WithTimeout(context.Background(), f.timeout)
	defer cancel()
	g, err := f.store.Grant(ctx, b, ask)
	if err == nil || errors.Is(err, ErrContended) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.era.answers++
	}
	return g, err //nolint:wrapcheck // The store's errors are ours, and whole.
}

// state reports whether the store is down, and then has it probed.
func (f *fallible) state() (began era, down bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down && f.now().Sub(f.probed) >= probePause {
		go f.probe()
	}
	return f.era, f.down
}

// fail notes that a call has failed. Where the call was given up although the
// store answered others meanwhile, it reports contention.
func (f *fallible) fail(began era, err error) (contended bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if errors.Is(err, context.DeadlineExceeded) && f.era.answers != began.answers {
		return true
	}
	if f.down || f.era.outages != began.outages {
		return false
	}
	f.down, f.probed = true, f.now()
	f.era.outages++
	f.log.Error("rate limit store failed", "error", err)
	return false
}

// probe asks for one grant from a bucket that is nobody's: whatever a real
// request needs, this needs too. Failures are not logged: the change was.
func (f *fallible) probe() {
	if !f.beginProbe() {
		return
	}
	b := Bucket{Key: probeKey | Key(rand.Uint64()>>16), Minute: MinuteOf(f.now())} //nolint:gosec // Spreads probes, keeps no secret.
	_, err := f.call(b, Ask{N: 1, Limit: 1})
	f.mu.Lock()
	defer f.mu.Unlock()
	f.probing, f.probed = false, f.now()
	if f.down && err == nil { // Nobody contends for the probe's own bucket.
		f.down = false
		f.log.Info("rate limit store answers again")
	}
}

// beginProbe reports whether no probe is under way, and then one is.
func (f *fallible) beginProbe() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.probing {
		return false
	}
	f.probing = true
	return true
}

// probeKey is the head of an IPv6 multicast prefix, like [ipv4]: no visitor
// has an address there.
const probeKey Key = 0xfffe_0000_0000_0000
