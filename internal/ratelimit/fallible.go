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

// probePause is the least time between two probes of a store that is out of
// order: soon enough for a visitor not to notice, too seldom to be a load.
const probePause = time.Second

// fallible is a store that is left alone while it is out of order. Visitors
// then do not wait for it; a probe beside their requests finds out when it is
// back. Each change is logged once.
type fallible struct {
	Store
	timeout time.Duration
	log     *slog.Logger
	now     func() time.Time

	mu      sync.Mutex
	down    bool
	probing bool
	probed  time.Time // When the last probe ended, or the outage began.
	// outages tells a call that fails whether it began before the store came
	// back: then it says nothing about the store as it is now.
	outages int
}

// Grant asks the store within its own deadline. Its error is [ErrContended] or
// [ErrUnavailable].
func (f *fallible) Grant(b Bucket, ask Ask) (Grant, error) {
	outages, down := f.state()
	if down {
		return Grant{}, ErrUnavailable
	}
	g, err := f.call(b, ask)
	if err != nil && !errors.Is(err, ErrContended) {
		f.fail(outages, err)
		return Grant{}, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return g, err
}

func (f *fallible) call(b Bucket, ask Ask) (Grant, error) {
	ctx, cancel := context.WithTimeout(context.Background(), f.timeout)
	defer cancel()
	return f.Store.Grant(ctx, b, ask) //nolint:wrapcheck // The store's errors are ours, and whole.
}

// state reports whether the store is out of order, and then has it probed.
func (f *fallible) state() (outages int, down bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down && !f.probing && f.now().Sub(f.probed) >= probePause {
		f.probing = true
		go f.probe()
	}
	return f.outages, f.down
}

func (f *fallible) fail(outages int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down || outages != f.outages {
		return
	}
	f.down, f.probed = true, f.now()
	f.outages++
	f.log.Error("rate limit store failed", "error", err)
}

// probe grants itself one of a bucket that is no visitor's: whatever a real
// request needs, this needs too. Failures are not logged: the change was.
func (f *fallible) probe() {
	_, err := f.call(Bucket{Key: probeKey | Key(rand.Uint64()>>16), Minute: MinuteOf(f.now())}, Ask{N: 1, Limit: 1}) //nolint:gosec // Spreads probes, keeps no secret.
	f.mu.Lock()
	defer f.mu.Unlock()
	f.probing, f.probed = false, f.now()
	if err == nil { // Nobody contends for the probe's own bucket.
		f.down = false
		f.log.Info("rate limit store answers again")
	}
}

// probeKey is the head of an IPv6 multicast prefix, like [ipv4]: no visitor
// has an address there.
const probeKey Key = 0xfffe_0000_0000_0000
