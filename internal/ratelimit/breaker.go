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

// probePause is the least time between two probes of a store that is down: short
// enough for a visitor not to notice, long enough not to be a load.
const probePause = time.Second

// breaker is a circuit breaker around a store. While the store is down, visitors
// do not wait for it; half-open probes in the background find out when it is up
// again. Each change is logged once.
//
// A store that is up leaves a call unanswered where other instances keep the
// bucket locked. If this instance took that for an outage, it would count alone
// beside them. So a slow call has the store probed: as long as the store answers
// anything, it is up, and the bucket is contended.
type breaker struct {
	name    string // The limiter's.
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
	// outages is how many there were. A call that began before the last one ended
	// says nothing about the store as it is now.
	outages int
	// answers counts the calls that the store has answered, whatever it said.
	answers int
}

// grant asks the store within the breaker's own deadline. Its error is
// [ErrContended] or [ErrUnavailable].
func (k *breaker) grant(b Bucket, ask Ask) (Grant, error) {
	began, down := k.state()
	if down {
		return Grant{}, ErrUnavailable
	}
	slow := time.AfterFunc(k.timeout/4, k.probe)
	defer slow.Stop()
	g, err := k.call(b, ask)
	if err != nil && !errors.Is(err, ErrContended) {
		if k.fail(began, err) {
			return Grant{}, fmt.Errorf("%w: the store answers others", ErrContended)
		}
		return Grant{}, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return g, err
}

// giveBack returns n to the store. Its failure costs visitors n grants, and is
// not evidence of an outage: the next call is.
func (k *breaker) giveBack(b Bucket, n int) {
	if _, down := k.state(); down {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), k.timeout)
	defer cancel()
	if err := k.store.Return(ctx, b, n); err != nil {
		k.log.Debug("a grant was not given back", "limit", k.name, "error", err)
	}
}

// call asks the store, and notes that it answers.
func (k *breaker) call(b Bucket, ask Ask) (Grant, error) {
	ctx, cancel := context.WithTimeout(context.Background(), k.timeout)
	defer cancel()
	g, err := k.store.Grant(ctx, b, ask)
	if err == nil || errors.Is(err, ErrContended) {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.era.answers++
	}
	return g, err
}

// state reports whether the store is down, and then has it probed.
func (k *breaker) state() (began era, down bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.down && k.now().Sub(k.probed) >= probePause {
		go k.probe()
	}
	return k.era, k.down
}

// fail notes that a call has failed. It reports contention where the call ran out
// of time although the store answered others meanwhile.
func (k *breaker) fail(began era, err error) (contended bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if errors.Is(err, context.DeadlineExceeded) && k.era.answers != began.answers {
		return true
	}
	if k.down || k.era.outages != began.outages {
		return false
	}
	k.down, k.probed = true, k.now()
	k.era.outages++
	k.log.Error("rate limit store failed", "limit", k.name, "error", err)
	return false
}

// probe asks for one grant from a bucket that belongs to no visitor, which needs
// whatever a real request needs. Failures are not logged: the outage was.
func (k *breaker) probe() {
	if !k.beginProbe() {
		return
	}
	b := Bucket{
		Name:   k.name,
		Key:    probeKey | Key(rand.Uint64()>>16), //nolint:gosec // Spreads probes, keeps no secret.
		Window: WindowOf(k.now(), time.Minute),
	}
	_, err := k.call(b, Ask{N: 1, Limit: 1})
	k.mu.Lock()
	defer k.mu.Unlock()
	k.probing, k.probed = false, k.now()
	if k.down && err == nil { // No other call contends for the probe's own bucket.
		k.down = false
		k.log.Info("rate limit store answers again", "limit", k.name)
	}
}

// beginProbe reports whether a probe may begin: one at a time.
func (k *breaker) beginProbe() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.probing {
		return false
	}
	k.probing = true
	return true
}

// probeKey is the head of an IPv6 multicast prefix, like [ipv4]: no visitor has
// an address there.
const probeKey Key = 0xfffe_0000_0000_0000
