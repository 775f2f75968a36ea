// Package teststore is the suite of tests that every store of rate limits must
// pass.
package teststore

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"docent/internal/ratelimit"
)

// Noon is the beginning of a minute.
var Noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// BucketOf returns the bucket of an address in the minute of noon, of the limiter
// that has counted addresses from the beginning.
func BucketOf(addr string) ratelimit.Bucket { return bucketOf(addr, time.Minute) }

func bucketOf(addr string, window time.Duration) ratelimit.Bucket {
	return ratelimit.Bucket{
		Name: "per-ip", Key: ratelimit.KeyOf(netip.MustParseAddr(addr)), Window: ratelimit.WindowOf(Noon, window),
	}
}

// Grant asks a store, which must not fail.
func Grant(t *testing.T, s ratelimit.Store, b ratelimit.Bucket, ask ratelimit.Ask) ratelimit.Grant {
	t.Helper()
	g, err := s.Grant(t.Context(), b, ask)
	if err != nil {
		t.Fatalf("Grant(%+v): %v", ask, err)
	}
	return g
}

// Run tests what every store must do, in windows of a minute and of a day. store
// returns an empty one, which uses now and window if it needs the time.
func Run(t *testing.T, store func(t *testing.T, now func() time.Time, window time.Duration) ratelimit.Store) {
	t.Helper()
	for _, window := range []time.Duration{time.Minute, 24 * time.Hour} {
		t.Run(window.String(), func(t *testing.T) {
			t.Parallel()
			run(t, window, func(t *testing.T, now func() time.Time) ratelimit.Store {
				t.Helper()
				return store(t, now, window)
			})
		})
	}
	t.Run("a day of three instances", func(t *testing.T) {
		t.Parallel()
		testDay(t, store(t, func() time.Time { return Noon }, 24*time.Hour))
	})
}

func run(t *testing.T, window time.Duration, store func(t *testing.T, now func() time.Time) ratelimit.Store) {
	t.Helper()
	bucket := func(addr string) ratelimit.Bucket { return bucketOf(addr, window) }
	type step struct {
		ask  ratelimit.Ask
		want ratelimit.Grant
	}
	sequences := []struct {
		name  string
		steps []step
	}{
		{"one by one up to the limit", []step{
			{ratelimit.Ask{N: 1, Limit: 3}, ratelimit.Grant{Before: 0, N: 1}},
			{ratelimit.Ask{N: 1, Limit: 3, Seen: true}, ratelimit.Grant{Before: 1, N: 1}},
			{ratelimit.Ask{N: 1, Limit: 3, Seen: true}, ratelimit.Grant{Before: 2, N: 1}},
			{ratelimit.Ask{N: 1, Limit: 3, Seen: true}, ratelimit.Grant{Before: 3, N: 0}},
			{ratelimit.Ask{N: 9, Limit: 3, Seen: true}, ratelimit.Grant{Before: 3, N: 0}},
		}},
		{"several at once", []step{
			{ratelimit.Ask{N: 2, Limit: 5}, ratelimit.Grant{Before: 0, N: 2}},
			{ratelimit.Ask{N: 5, Limit: 5, Seen: true}, ratelimit.Grant{Before: 2, N: 3}},
			{ratelimit.Ask{N: 1, Limit: 5, Seen: true}, ratelimit.Grant{Before: 5, N: 0}},
		}},
		{"more than the limit at first", []step{
			{ratelimit.Ask{N: 1000, Limit: 5}, ratelimit.Grant{Before: 0, N: 5}},
			{ratelimit.Ask{N: 1, Limit: 5, Seen: true}, ratelimit.Grant{Before: 5, N: 0}},
		}},
		{"a bucket with grants to others", []step{
			{ratelimit.Ask{N: 4, Limit: 5}, ratelimit.Grant{Before: 0, N: 4}},
			{ratelimit.Ask{N: 3, Limit: 5}, ratelimit.Grant{Before: 4, N: 1}},
			{ratelimit.Ask{N: 1, Limit: 5}, ratelimit.Grant{Before: 5, N: 0}},
		}},
		{"a bucket that was seen and deleted", []step{
			{ratelimit.Ask{N: 7, Limit: 5, Seen: true}, ratelimit.Grant{Before: 0, N: 5}},
			{ratelimit.Ask{N: 1, Limit: 5, Seen: true}, ratelimit.Grant{Before: 5, N: 0}},
		}},
		{"a limit that was lowered", []step{
			{ratelimit.Ask{N: 5, Limit: 5}, ratelimit.Grant{Before: 0, N: 5}},
			{ratelimit.Ask{N: 1, Limit: 3, Seen: true}, ratelimit.Grant{Before: 5, N: 0}},
		}},
	}
	for _, test := range sequences {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s, b := store(t, func() time.Time { return Noon }), bucket("192.0.2.1")
			for i, step := range test.steps {
				if diff := cmp.Diff(step.want, Grant(t, s, b, step.ask)); diff != "" {
					t.Fatalf("step %d, %+v (-want +got):\n%s", i, step.ask, diff)
				}
			}
		})
	}

	t.Run("keys and windows are independent", func(t *testing.T) {
		t.Parallel()
		now := Noon
		s, full := store(t, func() time.Time { return now }), bucket("192.0.2.1")
		Grant(t, s, full, ratelimit.Ask{N: 5, Limit: 5})
		next := full.Window
		next.Index++
		for _, b := range []ratelimit.Bucket{
			bucket("192.0.2.2"),
			bucket("2001:db8::1"),
			{Name: full.Name, Key: full.Key, Window: next},
		} {
			now = b.Window.End().Add(-time.Second)
			want := ratelimit.Grant{Before: 0, N: 5}
			if diff := cmp.Diff(want, Grant(t, s, b, ratelimit.Ask{N: 6, Limit: 5})); diff != "" {
				t.Errorf("%+v (-want +got):\n%s", b, diff)
			}
		}
	})

	t.Run("what is given back is granted again", func(t *testing.T) {
		t.Parallel()
		s, b, other := store(t, func() time.Time { return Noon }), bucket("192.0.2.1"), bucket("192.0.2.2")
		giveBack := func(b ratelimit.Bucket, n int) {
			t.Helper()
			if err := s.Return(t.Context(), b, n); err != nil {
				t.Fatalf("Return(%d): %v", n, err)
			}
		}
		giveBack(b, 1) // Nothing was granted.
		Grant(t, s, b, ratelimit.Ask{N: 5, Limit: 5})
		Grant(t, s, other, ratelimit.Ask{N: 5, Limit: 5})
		giveBack(b, 2)
		for i, want := range []ratelimit.Grant{{Before: 3, N: 2}, {Before: 5, N: 0}} {
			if diff := cmp.Diff(want, Grant(t, s, b, ratelimit.Ask{N: 9, Limit: 5, Seen: true})); diff != "" {
				t.Errorf("question %d after two were given back (-want +got):\n%s", i, diff)
			}
		}
		giveBack(b, 100) // More than there is.
		if diff := cmp.Diff(ratelimit.Grant{N: 5}, Grant(t, s, b, ratelimit.Ask{N: 9, Limit: 5, Seen: true})); diff != "" {
			t.Errorf("after all were given back (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(ratelimit.Grant{Before: 5}, Grant(t, s, other, ratelimit.Ask{N: 1, Limit: 5, Seen: true})); diff != "" {
			t.Errorf("another key's bucket (-want +got):\n%s", diff)
		}
	})

	t.Run("asked at once, exactly the limit", func(t *testing.T) {
		t.Parallel()
		s := store(t, func() time.Time { return Noon })
		if n := GrantedAtOnce(t, bucket("192.0.2.1"), 5, s, s, s); n != 5 {
			t.Errorf("granted %d of 5", n)
		}
	})
}

// GrantedAtOnce lets each store ask for one and then for 32, all at the same
// time, and returns how many were granted.
func GrantedAtOnce(t *testing.T, b ratelimit.Bucket, limit int, stores ...ratelimit.Store) (n int) {
	t.Helper()
	// Longer than a visitor would wait: under contention the emulator holds locks for
	// seconds, and here no store may give up.
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		gate = make(chan struct{})
	)
	for _, s := range stores {
		wg.Go(func() {
			<-gate
			for _, ask := range []ratelimit.Ask{{N: 1, Limit: limit}, {N: 32, Limit: limit, Seen: true}} {
				g, err := s.Grant(ctx, b, ask)
				if err != nil && !errors.Is(err, ratelimit.ErrContended) {
					t.Errorf("Grant(%+v): %v", ask, err)
				}
				mu.Lock()
				n += g.N
				mu.Unlock()
			}
		})
	}
	close(gate)
	wg.Wait()
	return n
}

// testDay has three instances give the answers of a day, at once, while a fourth has
// crashed with a lease and a fifth stops in the middle.
func testDay(t *testing.T, s ratelimit.Store) {
	t.Helper()
	const limit, lease = 300, 3
	instance := func() *ratelimit.Day {
		return ratelimit.NewDay(ratelimit.DayOptions{
			PerAddress: ratelimit.Unlimited, Site: limit, Store: s, Deny: true, StoreTimeout: time.Minute,
			Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return Noon },
		})
	}
	granted := 0
	take := func(d *ratelimit.Day) (more bool) {
		for {
			got, err := d.Take(t.Context(), 0)
			if err != nil {
				t.Errorf("Take: %v", err)
			}
			if got.Refused != ratelimit.ByContention {
				return got.Granted
			}
		}
	}
	crashed, stopped := instance(), instance()
	for _, d := range []*ratelimit.Day{crashed, stopped} {
		if take(d) {
			granted++
		}
	}
	var (
		wg sync.WaitGroup
		mu sync.Mutex
	)
	wg.Go(func() { stopped.Drain(t.Context()) })
	for range 3 {
		d := instance()
		for range 5 {
			wg.Go(func() {
				for range limit / 10 {
					if !take(d) {
						return
					}
					mu.Lock()
					granted++
					mu.Unlock()
				}
			})
		}
	}
	wg.Wait()
	if lost := limit - granted; lost < lease-1 || lost > 2*(lease-1) {
		t.Errorf("%d of %d granted: the crash has lost %d, and no more than the stopped instance's is given back too late", granted, limit, lease-1)
	}
}
