package ratelimit_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"docent/internal/logging"
	"docent/internal/ratelimit"
)

const wholeDay = 24 * time.Hour

// hand is a clock that a test sets.
type hand struct{ at atomic.Int64 }

func clockAt(t time.Time) *hand {
	h := &hand{}
	h.set(t)
	return h
}

func (h *hand) set(t time.Time) { h.at.Store(t.UnixNano()) }
func (h *hand) now() time.Time  { return time.Unix(0, h.at.Load()) }

// dayOf returns limits of a day that are out of reach, changed by a function.
func dayOf(change func(*ratelimit.DayOptions)) *ratelimit.Day {
	o := ratelimit.DayOptions{
		PerAddress:   ratelimit.Unlimited,
		Site:         ratelimit.Unlimited,
		StoreTimeout: ratelimit.StoreTimeout,
		Log:          slog.New(slog.DiscardHandler),
		Now:          time.Now,
	}
	change(&o)
	return ratelimit.NewDay(o)
}

// ask takes one grant and returns what came of it in a word.
func ask(ctx context.Context, d *ratelimit.Day, addr string) string {
	decision, err := d.Take(ctx, ratelimit.KeyOf(netip.MustParseAddr(addr)))
	switch {
	case errors.Is(err, ratelimit.ErrUnavailable):
		return "unavailable"
	case err != nil:
		return err.Error()
	case decision.Granted:
		return "granted"
	default:
		return string(decision.Refused)
	}
}

// asks takes n grants and returns how often each came of it.
func asks(ctx context.Context, d *ratelimit.Day, n int, addr func(i int) string) map[string]int {
	got := map[string]int{}
	for i := range n {
		got[ask(ctx, d, addr(i))]++
	}
	return got
}

func one(addr string) func(int) string { return func(int) string { return addr } }

func strangers(i int) string { return fmt.Sprintf("198.51.%d.%d", i/256, i%256) }

// of returns what a store has counted in a day, by bucket.
func (s *shared) of(t time.Time) map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	counts := map[string]int{}
	for b, n := range s.counts {
		if b.Window == ratelimit.WindowOf(t, wholeDay) && n != 0 {
			counts[b.Name] += n
		}
	}
	return counts
}

func TestDay_Limits(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name             string
		perAddress, site int
		n                int
		addr             func(i int) string
		want             map[string]int
		counted          map[string]int
	}{
		{
			"an address", 3, 100, 5, one("192.0.2.1"),
			map[string]int{"granted": 3, "address": 2},
			map[string]int{"answers-per-address": 3, "answers-of-site": 3},
		},
		{
			"neighbours in IPv4 share nothing", 3, 100, 50, func(i int) string { return fmt.Sprintf("192.0.2.%d", i) },
			map[string]int{"granted": 50},
			map[string]int{"answers-per-address": 50, "answers-of-site": 50},
		},
		{
			"the /64s of a /48", 3, 100, 50, func(i int) string { return fmt.Sprintf("2001:db8:1:%x::1", i) },
			map[string]int{"granted": 30, "network": 20},
			map[string]int{"answers-per-address": 30, "answers-per-network": 30, "answers-of-site": 30},
		},
		{
			"/48s", 3, 100, 50, func(i int) string { return fmt.Sprintf("2001:db8:%x::1", i) },
			map[string]int{"granted": 50},
			map[string]int{"answers-per-address": 50, "answers-per-network": 50, "answers-of-site": 50},
		},
		{
			"the site", 3, 10, 12, strangers,
			map[string]int{"granted": 10, "site": 2},
			map[string]int{"answers-per-address": 10, "answers-of-site": 10},
		},
		{
			"an address cannot use up the site", 100, 2000, 3000, one("192.0.2.1"),
			map[string]int{"granted": 100, "address": 2900},
			map[string]int{"answers-per-address": 100, "answers-of-site": 100},
		},
		{"none for an address", 0, 100, 5, strangers, map[string]int{"address": 5}, map[string]int{}},
		{"none for the site", 3, 0, 5, strangers, map[string]int{"site": 5}, map[string]int{}},
		{
			"no limit for an address", ratelimit.Unlimited, 10, 12, one("2001:db8::1"),
			map[string]int{"granted": 10, "site": 2},
			map[string]int{"answers-of-site": 10},
		},
		{
			"no limit for the site", 3, ratelimit.Unlimited, 5, one("192.0.2.1"),
			map[string]int{"granted": 3, "address": 2},
			map[string]int{"answers-per-address": 3},
		},
		{
			"no limit", ratelimit.Unlimited, ratelimit.Unlimited, 5000, one("192.0.2.1"),
			map[string]int{"granted": 5000},
			map[string]int{},
		},
	}
	for _, tt := range tests {
		for _, where := range []string{"store", "memory"} {
			t.Run(tt.name+" in "+where, func(t *testing.T) {
				t.Parallel()
				counts := newStore()
				d := dayOf(func(o *ratelimit.DayOptions) {
					o.PerAddress, o.Site, o.Now = tt.perAddress, tt.site, fixed(noon)
					if where == "store" {
						o.Store = counts
					}
				})
				if diff := cmp.Diff(tt.want, asks(t.Context(), d, tt.n, tt.addr)); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
				if where == "memory" {
					return
				}
				d.Drain(t.Context())
				if diff := cmp.Diff(tt.counted, counts.of(noon)); diff != "" {
					t.Errorf("the store has counted (-want +got):\n%s", diff)
				}
			})
		}
	}
}

// What the network or the site refuses is given back: when there is room again, the
// address still has all of its own.
func TestDay_GiveBack(t *testing.T) {
	t.Parallel()
	counts, clock := newStore(), clockAt(noon)
	d := dayOf(func(o *ratelimit.DayOptions) { o.PerAddress, o.Site, o.Store, o.Now = 2, 3, counts, clock.now })
	asks(t.Context(), d, 3, strangers)
	clock.set(noon.Add(askAgain))
	if got := ask(t.Context(), d, "2001:db8::1"); got != "site" {
		t.Errorf("after all of the site's: %s", got)
	}
	want := map[string]int{"answers-per-address": 3, "answers-of-site": 3}
	if diff := cmp.Diff(want, counts.of(noon)); diff != "" {
		t.Errorf("the store has counted (-want +got):\n%s", diff)
	}
}

func TestDay_Midnight(t *testing.T) {
	t.Parallel()
	midnight := noon.Add(12 * time.Hour)
	for _, where := range []string{"store", "memory"} {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			clock := clockAt(midnight.Add(-90*time.Second + 1))
			d := dayOf(func(o *ratelimit.DayOptions) {
				o.PerAddress, o.Site, o.Now = 2, 5, clock.now
				if where == "store" {
					o.Store = newStore()
				}
			})
			asks(t.Context(), d, 3, one("192.0.2.1"))
			asks(t.Context(), d, 3, one("192.0.2.2"))
			asks(t.Context(), d, 3, one("192.0.2.3"))
			for _, step := range []struct {
				at    time.Duration
				addr  string
				want  ratelimit.Refusal
				reset time.Duration
			}{
				{-90*time.Second + 1, "192.0.2.3", ratelimit.BySite, 90 * time.Second},
				{-time.Nanosecond, "192.0.2.3", ratelimit.BySite, time.Second},
				{0, "192.0.2.1", "", wholeDay},
				{time.Second, "192.0.2.1", "", wholeDay - time.Second},
				{time.Second, "192.0.2.1", ratelimit.ByAddress, wholeDay - time.Second},
			} {
				clock.set(midnight.Add(step.at))
				got, err := d.Take(t.Context(), ratelimit.KeyOf(netip.MustParseAddr(step.addr)))
				if err != nil || got.Refused != step.want || got.Granted != (step.want == "") || got.Reset != step.reset || got.Window != wholeDay {
					t.Errorf("at %s, %s: %+v, %v, want refused by %q until %s", step.at, step.addr, got, err, step.want, step.reset)
				}
			}
		})
	}
}

// What is left of a lease goes back to the day that it came from: in the next, it
// would be more than there is.
func TestDay_DrainAfterMidnight(t *testing.T) {
	t.Parallel()
	counts, clock := newStore(), clockAt(noon)
	d := dayOf(func(o *ratelimit.DayOptions) { o.Site, o.Store, o.Now = 1000, counts, clock.now })
	asks(t.Context(), d, 3, strangers)
	clock.set(noon.Add(wholeDay))
	asks(t.Context(), d, 5, strangers)
	got := []int{counts.of(noon)["answers-of-site"], counts.of(clock.now())["answers-of-site"]}
	if diff := cmp.Diff([]int{10, 10}, got); diff != "" {
		t.Errorf("counted in leases (-want +got):\n%s", diff)
	}
	for range 2 { // The second one has nothing more to give back.
		d.Drain(t.Context())
		got = []int{counts.of(noon)["answers-of-site"], counts.of(clock.now())["answers-of-site"]}
		if diff := cmp.Diff([]int{3, 5}, got); diff != "" {
			t.Errorf("counted after the drain (-want +got):\n%s", diff)
		}
	}
	if got := ask(t.Context(), d, "192.0.2.1"); got != "unavailable" {
		t.Errorf("after the drain: %s", got)
	}
}

// TestDay_LeaveAfterMidnight has a visitor of one day who leaves in the next.
func TestDay_LeaveAfterMidnight(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		counts, held := newStore(), make(chan struct{})
		d := dayOf(func(o *ratelimit.DayOptions) {
			o.PerAddress, o.Site = 100, 100
			o.StoreTimeout = time.Hour * 24
			o.Store = fakeStore{counts, func(b ratelimit.Bucket, _ ratelimit.Ask) error {
				if b.Name == "answers-of-site" {
					<-held
				}
				return nil
			}}
		})
		first := time.Now()
		time.Sleep(time.Until(ratelimit.WindowOf(first, wholeDay).End()) - time.Second)
		ctx, leave := context.WithCancel(t.Context())
		done := make(chan string)
		go func() { done <- ask(ctx, d, "192.0.2.1") }()
		synctest.Wait()
		time.Sleep(2 * time.Second)
		leave()
		if got := <-done; !strings.Contains(got, "canceled") {
			t.Errorf("the visitor who left: %s", got)
		}
		drained := make(chan struct{})
		go func() {
			d.Drain(t.Context())
			close(drained)
		}()
		synctest.Wait() // The drain waits for the lease.
		close(held)
		<-drained
		synctest.Wait()
		if diff := cmp.Diff([]map[string]int{{}, {}}, []map[string]int{counts.of(first), counts.of(time.Now())}); diff != "" {
			t.Errorf("counted (-want +got):\n%s", diff)
		}
	})
}

// fakeStore is a store that fails, or waits, as a test says.
type fakeStore struct {
	*shared

	before func(b ratelimit.Bucket, ask ratelimit.Ask) error
}

func (s fakeStore) Grant(ctx context.Context, b ratelimit.Bucket, ask ratelimit.Ask) (ratelimit.Grant, error) {
	if err := s.before(b, ask); err != nil {
		return ratelimit.Grant{}, err
	}
	return s.shared.Grant(ctx, b, ask)
}

func TestDay_Leases(t *testing.T) {
	t.Parallel()
	for site, lease := range map[int]int{1: 1, 99: 1, 100: 1, 250: 2, 1999: 19, 2000: 20, 1_000_000: 20} {
		counts := newStore()
		d := dayOf(func(o *ratelimit.DayOptions) { o.Site, o.Store, o.Now = site, counts, fixed(noon) })
		ask(t.Context(), d, "192.0.2.1")
		if n := counts.of(noon)["answers-of-site"]; n != lease {
			t.Errorf("of %d answers a day, a lease has %d, want %d", site, n, lease)
		}
	}
}

// All who wait share the operations of the store.
func TestDay_WaitersShareALease(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var asked []ratelimit.Ask
		held := make(chan struct{})
		d := dayOf(func(o *ratelimit.DayOptions) {
			o.Site = 2000
			o.Store = fakeStore{newStore(), func(_ ratelimit.Bucket, ask ratelimit.Ask) error {
				asked = append(asked, ask)
				<-held
				return nil
			}}
		})
		var granted atomic.Int64
		for range 1000 {
			go func() {
				if ask(t.Context(), d, "192.0.2.1") == "granted" {
					granted.Add(1)
				}
			}()
			synctest.Wait()
		}
		close(held)
		synctest.Wait()
		want := []ratelimit.Ask{{N: 20, Limit: 2000}, {N: 980, Limit: 2000, Seen: true}}
		if diff := cmp.Diff(want, asked); diff != "" || granted.Load() != 1000 {
			t.Errorf("%d granted, asked (-want +got):\n%s", granted.Load(), diff)
		}
	})
}

// A visitor who leaves takes nothing with them: what was asked for is the next one's.
func TestDay_ClientDisconnect(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		counts, held := newStore(), make(chan struct{})
		d := dayOf(func(o *ratelimit.DayOptions) {
			o.PerAddress, o.Site = 1, 1
			o.Store = fakeStore{counts, func(b ratelimit.Bucket, _ ratelimit.Ask) error {
				if b.Name == "answers-of-site" {
					<-held
				}
				return nil
			}}
		})
		ctx, leave := context.WithCancel(t.Context())
		done := make(chan string)
		go func() { done <- ask(ctx, d, "192.0.2.1") }()
		synctest.Wait()
		leave()
		if got := <-done; !strings.Contains(got, "canceled") {
			t.Errorf("the visitor who left: %s", got)
		}
		close(held)
		synctest.Wait()
		if got := ask(t.Context(), d, "192.0.2.1"); got != "granted" {
			t.Errorf("the next visitor of that address: %s", got)
		}
		if got := ask(t.Context(), d, "192.0.2.2"); got != "site" {
			t.Errorf("the one after: %s", got)
		}
		want := map[string]int{"answers-per-address": 1, "answers-of-site": 1}
		if diff := cmp.Diff(want, counts.of(time.Now())); diff != "" {
			t.Errorf("counted (-want +got):\n%s", diff)
		}
	})
}

// Visitors leave at the instant at which the store answers: what it has granted
// to them is not lost, and what it has not granted is not given back to it.
func TestDay_LeaveWhileAnswered(t *testing.T) {
	t.Parallel()
	for name, outage := range map[string]error{"up": nil, "down": errors.New("no database")} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				const others = 600 // They may give some back.
				counts, held := newStore(), make(chan struct{})
				counts.counts[ratelimit.Bucket{Name: "answers-of-site", Window: ratelimit.WindowOf(time.Now(), wholeDay)}] = others
				ctx, leave := context.WithCancel(t.Context())
				var failure atomic.Pointer[error]
				failure.Store(&outage)
				d := dayOf(func(o *ratelimit.DayOptions) {
					o.PerAddress, o.Site = 100, 10_000
					o.Store = fakeStore{counts, func(b ratelimit.Bucket, _ ratelimit.Ask) error {
						switch b.Name {
						case "answers-per-address":
							return nil
						case "answers-of-site":
							<-held
							leave()
						}
						return *failure.Load()
					}}
				})
				var granted atomic.Int64
				for i := range 1000 {
					go func() {
						if ask(ctx, d, strangers(i)) == "granted" {
							granted.Add(1)
						}
					}()
				}
				synctest.Wait()
				close(held)
				synctest.Wait()
				failure.Store(new(error))
				time.Sleep(2 * time.Second)
				ask(t.Context(), d, "192.0.2.1") // Has a store that was down probed.
				granted.Add(1)
				synctest.Wait()
				d.Drain(t.Context())
				n := counts.of(time.Now())["answers-of-site"] - others
				if outage == nil && n != int(granted.Load()) || n < 0 {
					t.Errorf("%d counted, %d granted", n, granted.Load())
				}
			})
		})
	}
}

// TestDay_Instances has three instances at once, of which one crashes with a lease.
func TestDay_Instances(t *testing.T) {
	t.Parallel()
	const limit = 1000
	counts := newStore()
	instance := func() *ratelimit.Day {
		return dayOf(func(o *ratelimit.DayOptions) { o.Site, o.Store, o.Now = limit, counts, fixed(noon) })
	}
	crashed := instance()
	granted := asks(t.Context(), crashed, 3, strangers)["granted"] // Its lease has 7 more.
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, d := range []*ratelimit.Day{instance(), instance(), instance()} {
		for range 20 {
			wg.Go(func() {
				n := asks(t.Context(), d, limit/20, strangers)["granted"]
				mu.Lock()
				defer mu.Unlock()
				granted += n
			})
		}
	}
	wg.Wait()
	if granted != limit-7 {
		t.Errorf("%d granted, want %d: all but what the crash has lost", granted, limit-7)
	}
}

func TestDay_InstancesGiveBack(t *testing.T) {
	t.Parallel()
	counts := newStore()
	instance := func() *ratelimit.Day {
		return dayOf(func(o *ratelimit.DayOptions) { o.Site, o.Store, o.Now = 1000, counts, fixed(noon) })
	}
	a, b := instance(), instance()
	granted := asks(t.Context(), a, 3, strangers)["granted"]
	a.Drain(t.Context())
	granted += asks(t.Context(), b, 2000, strangers)["granted"]
	if granted != 1000 {
		t.Errorf("%d granted of 1000", granted)
	}
}

func TestDay_StoreDown(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name        string
		deny, known bool // known: the instance is told that the store is down.
		// spent is what other instances have used.
		spent   int
		down    map[string]int
		later   map[string]int // When it answers again.
		counted int            // After the drain.
	}{
		{"local", false, true, 0, map[string]int{"granted": 9 + 100, "unavailable": 191}, map[string]int{"granted": 300}, 1 + 9 + 100 + 300},
		{"local, near the end of the day", false, true, 960, map[string]int{"granted": 9 + 30, "unavailable": 261}, map[string]int{"site": 300}, 1000},
		{"local, found out by a visitor", false, false, 0, map[string]int{"granted": 9 + 100, "unavailable": 191}, map[string]int{"granted": 300}, 1 + 9 + 100 + 300},
		{"deny, found out by a visitor", true, false, 0, map[string]int{"granted": 9, "unavailable": 291}, map[string]int{"granted": 300}, 1 + 9 + 300},
		{"deny", true, true, 0, map[string]int{"unavailable": 300}, map[string]int{"granted": 300}, 1 + 300},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				counts := newStore()
				var down atomic.Bool
				var log strings.Builder
				d := dayOf(func(o *ratelimit.DayOptions) {
					o.PerAddress, o.Site, o.Deny = ratelimit.Unlimited, 1000, tt.deny
					o.Log = slog.New(slog.NewTextHandler(&log, nil))
					o.Store = fakeStore{counts, func(ratelimit.Bucket, ratelimit.Ask) error {
						if down.Load() {
							return errors.New("no database")
						}
						return nil
					}}
				})
				counts.counts[ratelimit.Bucket{Name: "answers-of-site", Window: ratelimit.WindowOf(time.Now(), wholeDay)}] = tt.spent
				if got := ask(t.Context(), d, "192.0.2.1"); got != "granted" {
					t.Fatalf("the first: %s", got)
				}
				down.Store(true)
				if tt.known {
					d.StoreFailed(errors.New("no database"))
				}
				if diff := cmp.Diff(tt.down, asks(t.Context(), d, 300, strangers)); diff != "" {
					t.Errorf("while the store is down (-want +got):\n%s", diff)
				}
				down.Store(false)
				time.Sleep(2 * time.Minute)
				ask(t.Context(), d, "192.0.2.1") // Has it probed.
				synctest.Wait()
				granted := asks(t.Context(), d, 300, strangers)
				if diff := cmp.Diff(tt.later, granted); diff != "" {
					t.Errorf("when it answers again (-want +got):\n%s", diff)
				}
				d.Drain(t.Context())
				if n := counts.of(time.Now())["answers-of-site"]; n != tt.counted {
					t.Errorf("%d counted, want %d", n, tt.counted)
				}
				if n := strings.Count(log.String(), "rate limit store failed"); n != 1 {
					t.Errorf("the outage was logged %d times:\n%s", n, log.String())
				}
			})
		})
	}
}

// An outage is found out by whoever asks first, and a second one does not give a
// second tenth of the day.
func TestDay_StoreDownTwice(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		counts := newStore()
		var down atomic.Bool
		d := dayOf(func(o *ratelimit.DayOptions) {
			o.Site = 50
			o.Store = fakeStore{counts, func(ratelimit.Bucket, ratelimit.Ask) error {
				if down.Load() {
					return errors.New("no database")
				}
				return nil
			}}
		})
		for i, want := range []map[string]int{{"granted": 5, "unavailable": 5}, {"unavailable": 10}} {
			down.Store(true)
			if diff := cmp.Diff(want, asks(t.Context(), d, 10, strangers)); diff != "" {
				t.Errorf("outage %d (-want +got):\n%s", i, diff)
			}
			down.Store(false)
			time.Sleep(2 * time.Second)
			ask(t.Context(), d, "192.0.2.1")
			synctest.Wait()
			if got := ask(t.Context(), d, "192.0.2.1"); got != "granted" {
				t.Errorf("after outage %d: %s", i, got)
			}
		}
	})
}

// Where other instances keep the bucket busy, nothing is known of the day: the
// visitor is not sent away until midnight.
func TestDay_Contention(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"answers-per-address", "answers-per-network", "answers-of-site"} {
		counts, contended := newStore(), true
		d := dayOf(func(o *ratelimit.DayOptions) {
			o.PerAddress, o.Site = 5, 5
			o.Store = fakeStore{counts, func(b ratelimit.Bucket, _ ratelimit.Ask) error {
				if contended && b.Name == name {
					return ratelimit.ErrContended
				}
				return nil
			}}
		})
		if got := ask(t.Context(), d, "2001:db8::1"); got != "contention" {
			t.Errorf("%s: %s", name, got)
		}
		if diff := cmp.Diff(map[string]int{}, counts.of(time.Now())); diff != "" {
			t.Errorf("%s: counted (-want +got):\n%s", name, diff)
		}
		contended = false
		if got := ask(t.Context(), d, "2001:db8::1"); got != "granted" {
			t.Errorf("%s, afterwards: %s", name, got)
		}
	}
}

// A flood after the day's end costs one question a minute.
func TestDay_UsedUpCostsNothing(t *testing.T) {
	t.Parallel()
	asked, clock := 0, clockAt(noon)
	var log strings.Builder
	d := dayOf(func(o *ratelimit.DayOptions) {
		o.PerAddress, o.Site, o.Now = 100, 1, clock.now
		o.Log = slog.New(slog.NewTextHandler(&log, nil))
		o.Store = fakeStore{newStore(), func(ratelimit.Bucket, ratelimit.Ask) error {
			asked++
			return nil
		}}
	})
	ask(t.Context(), d, "192.0.2.1")
	asked = 0
	for range 3 {
		clock.set(clock.now().Add(askAgain))
		asks(t.Context(), d, 1000, strangers)
	}
	if asked != 2*3 {
		t.Errorf("3000 refusals in three minutes cost %d questions, want an address's and the site's in each", asked)
	}
	if n := strings.Count(log.String(), "used up"); n != 1 {
		t.Errorf("logged %d times:\n%s", n, log.String())
	}
}

// askAgain is how long an instance believes that the day is used up.
const askAgain = time.Minute

// warnings returns what a log in Cloud Logging's shape has of bursts, as
// "used/limit".
func warnings(t *testing.T, log string) []string {
	t.Helper()
	var found []string
	for line := range strings.Lines(log) {
		var r struct {
			Severity, Message string
			Used, Limit       any
		}
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if r.Severity == "WARNING" && r.Message == "a quarter of the day's answers were used within ten minutes" {
			found = append(found, fmt.Sprintf("%v/%v", r.Used, r.Limit))
		}
	}
	return found
}

func TestDay_Burst(t *testing.T) {
	t.Parallel()
	type step struct {
		at     time.Duration // Since noon.
		others int           // What other instances take.
		n      int           // What this one is asked for.
	}
	steady := func(n int, pause time.Duration) []step {
		steps := make([]step, n)
		for i := range steps {
			steps[i] = step{at: time.Duration(i) * pause, n: 1}
		}
		return steps
	}
	const midnight = 12 * time.Hour
	tests := []struct {
		name  string
		site  int
		steps []step
		want  []string
	}{
		{"a quarter at once", 100, []step{{0, 0, 25}}, []string{"25/100"}},
		{"one less", 100, []step{{0, 0, 24}}, nil},
		{"a quarter that is not whole", 102, []step{{0, 0, 26}}, []string{"26/102"}},
		{"less than a quarter that is not whole", 102, []step{{0, 0, 25}}, nil},
		{"all of the day", 100, []step{{0, 0, 120}}, []string{"25/100"}},
		{"over just ten minutes", 100, []step{{0, 0, 1}, {5 * time.Minute, 0, 10}, {10 * time.Minute, 0, 14}}, []string{"25/100"}},
		{"over more than ten minutes", 100, []step{{0, 0, 1}, {5 * time.Minute, 0, 10}, {10*time.Minute + 1, 0, 14}}, nil},
		{"a quarter an hour, in a steady stream", 100, steady(100, 144*time.Second), nil},
		{"a quarter in ten minutes, in a steady stream", 100, steady(60, 24*time.Second), []string{"25/100", "26/100"}},
		{"again within ten minutes", 200, []step{{0, 0, 50}, {10 * time.Minute, 0, 100}}, []string{"50/200"}},
		{"again later", 200, []step{{0, 0, 50}, {11 * time.Minute, 0, 50}}, []string{"50/200", "50/200"}},
		{"a little more later", 100, []step{{0, 0, 25}, {11 * time.Minute, 0, 24}}, []string{"25/100"}},
		{"before midnight and after it", 100, []step{{midnight - time.Minute, 0, 20}, {midnight, 0, 20}}, nil},
		{"after midnight", 100, []step{{midnight - time.Minute, 0, 20}, {midnight, 0, 25}}, []string{"25/100"}},
		{"a tiny limit", 4, []step{{0, 0, 4}}, nil},
		{"a small limit", 5, []step{{0, 0, 5}}, []string{"5/5"}},
		{"a small limit, few answers", 16, []step{{0, 0, 4}}, nil},
		{"no answers", 0, []step{{0, 0, 100}}, nil},
		{"no limit", ratelimit.Unlimited, []step{{0, 0, 1000}}, nil},
		{"other instances", 100, []step{{0, 0, 1}, {time.Minute, 23, 1}}, []string{"25/100"}},
		{"other instances, long before", 100, []step{{0, 0, 1}, {time.Hour, 40, 1}}, nil},
		{"in leases", 2000, []step{{0, 0, 480}, {time.Minute, 0, 1}}, []string{"500/2000"}},
	}
	for _, tt := range tests {
		for _, where := range []string{"store", "memory"} {
			others := slices.ContainsFunc(tt.steps, func(s step) bool { return s.others > 0 })
			if where == "memory" && (others || tt.name == "in leases") {
				continue
			}
			t.Run(tt.name+" in "+where, func(t *testing.T) {
				t.Parallel()
				var log strings.Builder
				counts, clock := newStore(), clockAt(noon)
				d := dayOf(func(o *ratelimit.DayOptions) {
					o.Site, o.Now, o.Log = tt.site, clock.now, logging.New(&log, "json", slog.LevelInfo)
					if where == "store" {
						o.Store = counts
					}
				})
				for _, s := range tt.steps {
					clock.set(noon.Add(s.at))
					counts.counts[ratelimit.Bucket{Name: "answers-of-site", Window: ratelimit.WindowOf(clock.now(), wholeDay)}] += s.others
					asks(t.Context(), d, s.n, strangers)
				}
				d.Drain(t.Context())
				if diff := cmp.Diff(tt.want, warnings(t, log.String())); diff != "" {
					t.Errorf("warnings (-want +got):\n%s", diff)
				}
			})
		}
	}
}

// What was granted while the store was down is counted when it is up again, which is
// not the time at which it was used.
func TestDay_BurstAfterOutage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		var down atomic.Bool
		d := dayOf(func(o *ratelimit.DayOptions) {
			o.Site, o.Log = 100, logging.New(&log, "json", slog.LevelInfo)
			o.Store = fakeStore{newStore(), func(ratelimit.Bucket, ratelimit.Ask) error {
				if down.Load() {
					return errors.New("no database")
				}
				return nil
			}}
		})
		ask(t.Context(), d, "192.0.2.1")
		down.Store(true)
		asks(t.Context(), d, 10, strangers)
		time.Sleep(time.Hour)
		down.Store(false)
		ask(t.Context(), d, "192.0.2.1") // Has it probed.
		synctest.Wait()
		asks(t.Context(), d, 24, strangers)
		if got := warnings(t, log.String()); got != nil {
			t.Errorf("24 of 100 within ten minutes: %v", got)
		}
		ask(t.Context(), d, "192.0.2.1")
		if diff := cmp.Diff([]string{"25/100"}, warnings(t, log.String())); diff != "" {
			t.Errorf("25 of 100 (-want +got):\n%s", diff)
		}
	})
}

// A flood of answers must not become a flood of memory.
func TestPace_Bounded(t *testing.T) {
	t.Parallel()
	var p ratelimit.Pace
	for i := range 20_000 {
		now := noon.Add(time.Duration(i) * 100 * time.Millisecond)
		if got, want := ratelimit.Note(&p, now, i, i+1), min(i, 6000)+1; got > want || got < want-100 {
			t.Fatalf("after %d answers, it has grown by %d in ten minutes, want %d at most and 100 less at least", i+1, got, want)
		}
		if len(p) > 61 {
			t.Fatalf("after %d answers, %d counts are kept", i+1, len(p))
		}
	}
}
