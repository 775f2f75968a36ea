package ratelimit_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"docent/internal/ratelimit"
	"docent/internal/testkit/teststore"
)

// noon is the beginning of a minute.
var noon = teststore.Noon

func fixed(t time.Time) func() time.Time { return func() time.Time { return t } }

// limiter returns a limiter of 5 with a ceiling out of reach, changed by each
// of the functions.
func limiter(change ...func(*ratelimit.Options)) *ratelimit.Limiter {
	o := ratelimit.Options{
		Name:         "per-ip",
		Limit:        5,
		Window:       time.Minute,
		Ceiling:      1_000_000,
		StoreTimeout: ratelimit.StoreTimeout,
		Log:          slog.New(slog.DiscardHandler),
		Now:          fixed(noon),
	}
	for _, c := range change {
		c(&o)
	}
	return ratelimit.New(o)
}

func take(t *testing.T, l *ratelimit.Limiter, addr string) ratelimit.Decision {
	t.Helper()
	d, err := l.Take(t.Context(), ratelimit.KeyOf(netip.MustParseAddr(addr)))
	if err != nil {
		t.Fatalf("Take(%s): %v", addr, err)
	}
	return d
}

func TestKeyOf(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		a, b string
		same bool
	}{
		{"the same IPv4", "192.0.2.1", "192.0.2.1", true},
		{"neighbours in IPv4", "192.0.2.1", "192.0.2.2", false},
		{"IPv4-in-IPv6 is IPv4", "::ffff:192.0.2.1", "192.0.2.1", true},
		{"the ends of one /64", "2001:db8:1:2::", "2001:db8:1:2:ffff:ffff:ffff:ffff", true},
		{"neighbouring /64s", "2001:db8:1:2::1", "2001:db8:1:3::1", false},
		{"a zone makes no difference", "fe80::1%eth0", "fe80::1%eth1", true},
		{"IPv6 whose /64 looks like an IPv4", "::c000:201:0:0:0:0", "192.0.2.1", false},
		{"unspecified addresses", "::", "0.0.0.0", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a, b := ratelimit.KeyOf(netip.MustParseAddr(tt.a)), ratelimit.KeyOf(netip.MustParseAddr(tt.b))
			if (a == b) != tt.same {
				t.Errorf("KeyOf(%s) = %x, KeyOf(%s) = %x, want same = %v", tt.a, a, tt.b, b, tt.same)
			}
		})
	}
}

func FuzzKeyOf(f *testing.F) {
	f.Add([]byte{192, 0, 2, 1}, []byte{192, 0, 2, 1})
	f.Add(netip.MustParseAddr("2001:db8::1").AsSlice(), netip.MustParseAddr("2001:db8::2").AsSlice())
	f.Fuzz(func(t *testing.T, a, b []byte) {
		x, okX := netip.AddrFromSlice(a)
		y, okY := netip.AddrFromSlice(b)
		if !okX || !okY || x.Unmap().Is6() && x.IsMulticast() || y.Unmap().Is6() && y.IsMulticast() {
			t.Skip("no visitor's address")
		}
		network := func(a netip.Addr) netip.Prefix {
			p, err := a.Unmap().Prefix(min(a.Unmap().BitLen(), 64))
			if err != nil {
				t.Fatal(err)
			}
			return p
		}
		if (ratelimit.KeyOf(x) == ratelimit.KeyOf(y)) != (network(x) == network(y)) {
			t.Errorf("%v and %v share a key: %v, a network: %v", x, y, ratelimit.KeyOf(x) == ratelimit.KeyOf(y), network(x) == network(y))
		}
	})
}

func TestTake_UpToTheLimit(t *testing.T) {
	t.Parallel()
	l := limiter(func(o *ratelimit.Options) { o.Now = fixed(noon.Add(22*time.Second + 300*time.Millisecond)) })
	var got []ratelimit.Decision
	for range 7 {
		got = append(got, take(t, l, "192.0.2.1"))
	}
	want := []ratelimit.Decision{
		{Granted: true, Remaining: 4},
		{Granted: true, Remaining: 3},
		{Granted: true, Remaining: 2},
		{Granted: true, Remaining: 1},
		{Granted: true, Remaining: 0},
		{Refused: ratelimit.ByAddress, First: true},
		{Refused: ratelimit.ByAddress},
	}
	for i := range want {
		want[i].Name, want[i].Limit, want[i].Window, want[i].Reset = "per-ip", 5, time.Minute, 38*time.Second
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(ratelimit.Decision{})); diff != "" {
		t.Errorf("decisions (-want +got):\n%s", diff)
	}
	if d := take(t, l, "192.0.2.2"); !d.Granted {
		t.Error("another address was refused")
	}
}

func TestTake_WindowBoundary(t *testing.T) {
	t.Parallel()
	now := noon
	l := limiter(func(o *ratelimit.Options) { o.Limit = 1; o.Now = func() time.Time { return now } })
	take(t, l, "192.0.2.1")
	tests := []struct {
		at      time.Duration
		granted bool
		reset   time.Duration
	}{
		{0, false, 60 * time.Second},
		{time.Nanosecond, false, 60 * time.Second},
		{999 * time.Millisecond, false, 60 * time.Second},
		{time.Second, false, 59 * time.Second},
		{59 * time.Second, false, time.Second},
		{time.Minute - time.Nanosecond, false, time.Second},
		{time.Minute, true, 60 * time.Second},
		{time.Minute, false, 60 * time.Second},
	}
	for _, tt := range tests {
		now = noon.Add(tt.at)
		d := take(t, l, "192.0.2.1")
		if d.Granted != tt.granted || d.Reset != tt.reset {
			t.Errorf("after %s: granted = %v, reset in %s, want %v, %s", tt.at, d.Granted, d.Reset, tt.granted, tt.reset)
		}
	}
}

func TestTake_LateRequest(t *testing.T) {
	t.Parallel()
	now := noon
	l := limiter(func(o *ratelimit.Options) { o.Limit, o.Ceiling, o.Now = 2, 12, func() time.Time { return now } })
	granted := func(at time.Duration, addr string) bool {
		now = noon.Add(at)
		d, err := l.Take(t.Context(), ratelimit.KeyOf(netip.MustParseAddr(addr)))
		return err == nil && d.Granted
	}
	got := []bool{
		granted(0, "192.0.2.1"), granted(time.Minute, "192.0.2.1"), granted(time.Minute, "192.0.2.1"),
		granted(time.Minute-1, "192.0.2.1"), // Late: its bucket is the full one of the new minute.
		granted(time.Minute, "192.0.2.1"),
		granted(time.Minute-1, "192.0.2.2"), // Late, and the last of the network's share.
		granted(time.Minute, "192.0.2.3"),
	}
	if diff := cmp.Diff([]bool{true, true, true, false, false, true, false}, got); diff != "" {
		t.Errorf("granted (-want +got):\n%s", diff)
	}
}

func TestTake_ClockSetBack(t *testing.T) {
	t.Parallel()
	now := noon.Add(time.Hour)
	l := limiter(func(o *ratelimit.Options) { o.Limit, o.Ceiling, o.Now = 1, 1, func() time.Time { return now } })
	take(t, l, "192.0.2.1")
	for range 2 { // The second time it comes back to minutes that were counted.
		for minute := range 3 {
			now = noon.Add(time.Duration(minute) * time.Minute)
			if d := take(t, l, fmt.Sprintf("192.0.2.%d", minute)); !d.Granted {
				t.Errorf("minute %d: refused for what was counted before the clock was set back", minute)
			}
		}
	}
}

func TestTake_Simultaneous(t *testing.T) {
	t.Parallel()
	l := limiter()
	var granted atomic.Int64
	var wg sync.WaitGroup
	for range 1000 {
		wg.Go(func() {
			if take(t, l, "192.0.2.1").Granted {
				granted.Add(1)
			}
		})
	}
	wg.Wait()
	if granted.Load() != 5 {
		t.Errorf("%d of 1000 simultaneous requests were granted, want 5", granted.Load())
	}
}

func TestCeiling(t *testing.T) {
	t.Parallel()
	now := noon.Add(20 * time.Second)
	l := limiter(func(o *ratelimit.Options) { o.Ceiling = 20; o.Now = func() time.Time { return now } })
	for range 5 {
		for _, addr := range []string{"192.0.2.1", "198.51.100.1", "203.0.113.1", "2001:db8::1"} {
			if d := take(t, l, addr); !d.Granted {
				t.Fatalf("%s: refused under the ceiling", addr)
			}
		}
	}
	_, err := l.Take(t.Context(), ratelimit.KeyOf(netip.MustParseAddr("2001:db8:1::1")))
	var over *ratelimit.OverCapacityError
	if !errors.As(err, &over) {
		t.Errorf("Take over the ceiling: %v, want an OverCapacityError", err)
	}
	if d := take(t, l, "192.0.2.1"); d.Refused != ratelimit.ByAddress || d.Reset != 40*time.Second {
		t.Errorf("an address over its own limit got %+v, want a refusal of its own", d)
	}
	now = noon.Add(time.Minute)
	if d := take(t, l, "2001:db8:1::1"); !d.Granted {
		t.Error("the ceiling outlived its minute")
	}
}

// What was set aside in one minute is not given back in the next, which would
// then have more to give.
func TestCeiling_LateRelease(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		held := make(chan struct{})
		l := limiter(func(o *ratelimit.Options) {
			o.Ceiling, o.Now, o.StoreTimeout = 4, time.Now, time.Hour
			o.Store = store(func(_ context.Context, b ratelimit.Bucket, _ ratelimit.Ask) (ratelimit.Grant, error) {
				if b.Key == ratelimit.KeyOf(nth(0)) {
					<-held
					return ratelimit.Grant{}, ratelimit.ErrContended
				}
				return ratelimit.Grant{N: 1}, nil
			})
		})
		go l.Take(t.Context(), ratelimit.KeyOf(nth(0)))
		synctest.Wait()
		time.Sleep(time.Minute)
		granted := 0
		for n := range uint32(20) {
			if n == 1 {
				close(held)
				synctest.Wait()
			}
			if d, err := l.Take(t.Context(), ratelimit.KeyOf(nth((n+1)<<16))); err == nil && d.Granted {
				granted++
			}
		}
		if granted != 4 {
			t.Errorf("%d granted, want 4", granted)
		}
	})
}

func TestCeiling_RetryAfterIsSpread(t *testing.T) {
	t.Parallel()
	l := limiter(func(o *ratelimit.Options) { o.Ceiling, o.Now = 1, fixed(noon.Add(20*time.Second)) })
	take(t, l, "192.0.2.1")
	told := map[time.Duration]int{}
	for n := range uint32(1000) {
		_, err := l.Take(t.Context(), ratelimit.KeyOf(nth(n<<16)))
		var over *ratelimit.OverCapacityError
		if !errors.As(err, &over) {
			t.Fatalf("Take over the ceiling: %v", err)
		}
		told[over.RetryAfter]++
	}
	for after, n := range told {
		if after < 40*time.Second || after > 50*time.Second || after != after.Truncate(time.Second) || n > 200 {
			t.Errorf("%d of 1000 were told to retry after %s, want them spread over 40s to 50s", n, after)
		}
	}
}

func TestCeiling_NetworkShare(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		nth  func(n int) string // Addresses of the network.
		// neighbour is outside the network, stranger of the other family.
		neighbour, stranger string
	}{
		{"the /64s of a /56", func(n int) string { return fmt.Sprintf("2001:db8:1:%x::1", n) }, "2001:db8:2::1", "192.0.2.1"},
		{"the ends of a /48", func(n int) string { return fmt.Sprintf("2001:db8:1:%x::1", n*0xffff/119) }, "2001:db8:0:ffff::1", "192.0.2.1"},
		{"a /24", func(n int) string { return fmt.Sprintf("192.0.2.%d", n) }, "192.0.3.0", "2001:db8::1"},
		{"a /24 as IPv4-in-IPv6", func(n int) string { return fmt.Sprintf("::ffff:192.0.2.%d", n) }, "192.0.1.255", "2001:db8::1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			now, asked := noon.Add(20*time.Second), 0
			l := limiter(func(o *ratelimit.Options) {
				memory := newStore()
				o.Ceiling, o.Now = 40, func() time.Time { return now }
				o.Store = store(func(ctx context.Context, b ratelimit.Bucket, ask ratelimit.Ask) (ratelimit.Grant, error) {
					asked++
					return memory.Grant(ctx, b, ask)
				})
			})
			attack := func() (granted, first int) {
				for n := range 120 {
					d := take(t, l, tt.nth(n))
					switch {
					case d.Granted:
						granted++
					case d.Refused != ratelimit.ByNetwork || d.Remaining != 0 || d.Reset != untilNextMinute(now):
						t.Fatalf("address %d got %+v, want a refusal of its network until the minute ends", n, d)
					case d.First:
						first++
					}
				}
				return granted, first
			}
			granted, first := attack()
			if granted != 10 || first != 1 || asked != 10 {
				t.Errorf("%d granted, %d first refusals, %d calls of the store, want 10, 1 and 10", granted, first, asked)
			}
			for _, addr := range []string{tt.neighbour, tt.stranger} {
				for range 5 {
					if d := take(t, l, addr); !d.Granted {
						t.Errorf("%s was refused: %+v", addr, d)
					}
				}
			}
			now = noon.Add(time.Minute)
			if granted, _ := attack(); granted != 10 {
				t.Errorf("%d granted in the next minute, want 10", granted)
			}
		})
	}
}

func untilNextMinute(t time.Time) time.Duration {
	return t.Truncate(time.Minute).Add(time.Minute).Sub(t)
}

func TestCeiling_NetworkShareAtOnce(t *testing.T) {
	t.Parallel()
	l := limiter(func(o *ratelimit.Options) { o.Ceiling = 40 })
	var granted atomic.Int64
	var wg sync.WaitGroup
	for n := range 1000 {
		wg.Go(func() {
			if take(t, l, fmt.Sprintf("2001:db8:1:%x::1", n)).Granted {
				granted.Add(1)
			}
		})
	}
	wg.Wait()
	if granted.Load() != 10 {
		t.Errorf("%d of one network were granted, want 10", granted.Load())
	}
}

func TestCeiling_StoreRefusals(t *testing.T) {
	t.Parallel()
	full := true
	l := limiter(func(o *ratelimit.Options) {
		o.Ceiling = 1 // Of which a network's share is 1, too.
		o.Store = store(func(_ context.Context, _ ratelimit.Bucket, ask ratelimit.Ask) (ratelimit.Grant, error) {
			if full {
				return ratelimit.Grant{Before: ask.Limit}, nil // Other instances were faster.
			}
			return ratelimit.Grant{N: 1}, nil
		})
	})
	for n := range uint32(3) {
		if d := take(t, l, nth(n).String()); d.Granted {
			t.Error("granted from a full bucket")
		}
	}
	full = false
	if d := take(t, l, nth(3).String()); !d.Granted {
		t.Error("refused although neither the ceiling nor the network's share was used")
	}
}

// store is a store whose answers the test gives.
type store func(ctx context.Context, b ratelimit.Bucket, ask ratelimit.Ask) (ratelimit.Grant, error)

// Return implements [ratelimit.Store]: these stores take nothing back.
func (s store) Return(context.Context, ratelimit.Bucket, int) error { return nil }

// shared is a store as other instances see it, too.
type shared struct {
	mu     sync.Mutex
	counts map[ratelimit.Bucket]int
}

func newStore() *shared { return &shared{counts: map[ratelimit.Bucket]int{}} }

func (s *shared) Grant(_ context.Context, b ratelimit.Bucket, ask ratelimit.Ask) (ratelimit.Grant, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := ask.From(s.counts[b])
	s.counts[b] += g.N
	return g, nil
}

func (s *shared) Return(_ context.Context, b ratelimit.Bucket, n int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts[b] -= n
	return nil
}

func (s store) Grant(ctx context.Context, b ratelimit.Bucket, ask ratelimit.Ask) (ratelimit.Grant, error) {
	return s(ctx, b, ask)
}

func TestTake_BurstIsCombined(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const burst = 1000
		var asks []ratelimit.Ask
		memory, held := newStore(), make(chan struct{})
		l := limiter(func(o *ratelimit.Options) {
			o.Store = store(func(ctx context.Context, b ratelimit.Bucket, ask ratelimit.Ask) (ratelimit.Grant, error) {
				asks = append(asks, ask)
				if len(asks) == 1 {
					<-held
				}
				return memory.Grant(ctx, b, ask)
			})
		})
		var granted atomic.Int64
		take1 := func() {
			if take(t, l, "192.0.2.1").Granted {
				granted.Add(1)
			}
		}
		go take1()
		synctest.Wait() // The store is asked for the first one.
		for range burst - 1 {
			go take1()
		}
		synctest.Wait() // The others wait for it.
		if d := take(t, l, "192.0.2.2"); len(asks) == 1 || !d.Granted {
			t.Error("a stranger's key had to wait")
		}
		close(held)
		synctest.Wait()
		want := []ratelimit.Ask{{N: 1, Limit: 5}, {N: 1, Limit: 5}, {N: 4, Limit: 5, Seen: true}}
		if diff := cmp.Diff(want, asks); diff != "" {
			t.Errorf("the store was asked (-want +got):\n%s", diff)
		}
		if granted.Load() != 5 {
			t.Errorf("%d granted, want 5", granted.Load())
		}
	})
}

func TestTake_ClientDisconnect(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		memory, held := newStore(), make(chan struct{})
		var asked []int
		l := limiter(func(o *ratelimit.Options) {
			o.Store = store(func(ctx context.Context, b ratelimit.Bucket, ask ratelimit.Ask) (ratelimit.Grant, error) {
				asked = append(asked, ask.N)
				<-held
				return memory.Grant(ctx, b, ask)
			})
		})
		addr := netip.MustParseAddr("192.0.2.1")
		type result struct {
			granted bool
			err     error
		}
		enter := func(ctx context.Context) chan result {
			c := make(chan result, 1)
			go func() {
				d, err := l.Take(ctx, ratelimit.KeyOf(addr))
				c <- result{d.Granted, err}
			}()
			synctest.Wait()
			return c
		}
		leaving, leave := context.WithCancel(t.Context())
		results := []chan result{enter(leaving), enter(t.Context()), enter(leaving), enter(t.Context())}
		leave()
		synctest.Wait()
		close(held)
		synctest.Wait()
		for i, left := range []bool{true, false, true, false} {
			r := <-results[i]
			if left != errors.Is(r.err, context.Canceled) || left == r.granted {
				t.Errorf("visitor %d: granted = %v, error = %v, want left = %v", i, r.granted, r.err, left)
			}
		}
		if diff := cmp.Diff([]int{1, 2}, asked); diff != "" {
			t.Errorf("the store was asked for (-want +got):\n%s", diff)
		}
	})
}

func TestTake_Contention(t *testing.T) {
	t.Parallel()
	l := limiter(func(o *ratelimit.Options) {
		o.Store = store(func(context.Context, ratelimit.Bucket, ratelimit.Ask) (ratelimit.Grant, error) {
			return ratelimit.Grant{}, fmt.Errorf("wrapped: %w", ratelimit.ErrContended)
		})
	})
	if d := take(t, l, "192.0.2.1"); d.Refused != ratelimit.ByContention {
		t.Errorf("%+v although the bucket could not be counted", d)
	}
}

func TestTake_ContentionRefusesTheQueue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		l := limiter(func(o *ratelimit.Options) {
			o.Store = store(func(ctx context.Context, b ratelimit.Bucket, _ ratelimit.Ask) (ratelimit.Grant, error) {
				if b.Key != ratelimit.KeyOf(netip.MustParseAddr("192.0.2.1")) {
					return ratelimit.Grant{N: 1}, nil // A probe.
				}
				calls++
				<-ctx.Done()
				return ratelimit.Grant{}, ratelimit.ErrContended
			})
		})
		began := time.Now()
		for range 10 {
			go func() {
				if d := take(t, l, "192.0.2.1"); d.Refused != ratelimit.ByContention || time.Since(began) > ratelimit.StoreTimeout {
					t.Errorf("%+v after %s, want a refusal after %s", d, time.Since(began), ratelimit.StoreTimeout)
				}
			}()
			synctest.Wait()
		}
		time.Sleep(ratelimit.StoreTimeout)
		synctest.Wait()
		if calls != 1 {
			t.Errorf("the store was asked %d times, want once", calls)
		}
	})
}

// outage is a store that can be switched off, and a limiter with a clock in
// front of it.
type outage struct {
	*ratelimit.Limiter

	mu     sync.Mutex
	down   error
	hang   bool
	locked ratelimit.Key // Calls for it are not answered.
	slow   ratelimit.Key // Calls for it get held's answers.
	held   chan error
	probes int
	memory *shared
	log    strings.Builder
	start  time.Time
}

func newOutage(deny bool) *outage {
	o := &outage{memory: newStore(), start: time.Now()}
	o.Limiter = limiter(func(opt *ratelimit.Options) {
		opt.Deny = deny
		opt.Now = time.Now // synctest's.
		opt.Log = slog.New(slog.NewTextHandler(&o.log, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}}))
		opt.Store = store(func(ctx context.Context, b ratelimit.Bucket, ask ratelimit.Ask) (ratelimit.Grant, error) {
			if b.Key>>48 == 0xfffe {
				o.probes++
			}
			if b.Key == o.slow {
				return ratelimit.Grant{}, <-o.held
			}
			if o.hang || b.Key == o.locked {
				<-ctx.Done()
				return ratelimit.Grant{}, ctx.Err()
			}
			if err := o.failure(); err != nil {
				return ratelimit.Grant{}, err
			}
			return o.memory.Grant(ctx, b, ask)
		})
	})
	return o
}

// fails has calls fail with err from now on, or be answered again.
func (o *outage) fails(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.down = err
}

func (o *outage) failure() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.down
}

func (o *outage) granted(t *testing.T, n int) (granted int) {
	t.Helper()
	for range n {
		if d, err := o.Take(t.Context(), ratelimit.KeyOf(netip.MustParseAddr("192.0.2.1"))); err == nil && d.Granted {
			granted++
		}
	}
	return granted
}

func TestBreaker_OutageLocal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOutage(false)
		before := o.granted(t, 3)
		o.fails(errors.New("connection refused"))
		during := o.granted(t, 1)
		o.fails(nil)
		time.Sleep(2 * time.Second) // Until a probe is due.
		o.granted(t, 0)
		probing := o.granted(t, 1) // Served from memory; the probe runs in the background.
		synctest.Wait()
		after := o.granted(t, 3)
		if diff := cmp.Diff([]int{3, 1, 1, 0}, []int{before, during, probing, after}); diff != "" {
			t.Errorf("granted before, during, while probing and after the outage (-want +got):\n%s", diff)
		}
		want := `level=ERROR msg="rate limit store failed" limit=per-ip error="connection refused"` + "\n" +
			`level=INFO msg="rate limit store answers again" limit=per-ip` + "\n"
		if diff := cmp.Diff(want, o.log.String()); diff != "" {
			t.Errorf("log (-want +got):\n%s", diff)
		}
	})
}

// The store has lost its count, or never had it: what this instance has granted
// on its own counts all the same.
func TestBreaker_LimitAcrossRecovery(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOutage(false)
		o.fails(errors.New("connection refused"))
		total := o.granted(t, 2)
		o.fails(nil)
		time.Sleep(2 * time.Second)
		total += o.granted(t, 1)
		synctest.Wait() // The probe has found the store well.
		if total += o.granted(t, 10); total != 5 {
			t.Errorf("%d granted, want 5", total)
		}
	})
}

func TestBreaker_OutageDeny(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOutage(true)
		o.granted(t, 3)
		o.fails(errors.New("connection refused"))
		if _, err := o.Take(t.Context(), ratelimit.KeyOf(netip.MustParseAddr("192.0.2.1"))); !errors.Is(err, ratelimit.ErrUnavailable) {
			t.Errorf("Take = %v, want ErrUnavailable", err)
		}
		o.fails(nil)
		time.Sleep(2 * time.Second)
		o.granted(t, 1)
		synctest.Wait()
		if got := o.granted(t, 3); got != 2 {
			t.Errorf("%d granted after the outage, want the 2 that were left", got)
		}
	})
}

func TestBreaker_HangingStore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOutage(false)
		o.hang = true
		o.granted(t, 1)
		if waited := time.Since(o.start); waited != ratelimit.StoreTimeout {
			t.Errorf("the first visitor waited %s, want %s", waited, ratelimit.StoreTimeout)
		}
		for range 10 {
			time.Sleep(2 * time.Second)
			since := time.Now()
			if o.granted(t, 1); time.Since(since) != 0 {
				t.Errorf("a later visitor waited %s", time.Since(since))
			}
		}
		if n := strings.Count(o.log.String(), "\n"); n != 1 {
			t.Errorf("%d lines in the log, want 1:\n%s", n, o.log.String())
		}
		time.Sleep(ratelimit.StoreTimeout) // The last probe ends.
	})
}

func TestBreaker_StaleFailureIgnored(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOutage(false)
		slow := netip.MustParseAddr("192.0.2.99")
		o.slow, o.held = ratelimit.KeyOf(slow), make(chan error)
		go o.Take(t.Context(), ratelimit.KeyOf(slow))
		synctest.Wait() // Its call is under way.
		o.fails(errors.New("connection refused"))
		o.granted(t, 1)
		o.fails(nil)
		time.Sleep(2 * time.Second)
		o.granted(t, 1)
		synctest.Wait() // The probe has found the store well.
		o.held <- errors.New("connection reset")
		synctest.Wait()
		if n := strings.Count(o.log.String(), "failed"); n != 1 {
			t.Errorf("%d failures in the log, want 1:\n%s", n, o.log.String())
		}
	})
}

// An instance that has asked the store nothing yet meets a bucket that another
// one keeps locked.
func TestBreaker_LockedBucketIsNotAnOutage(t *testing.T) {
	t.Parallel()
	for _, deny := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			o := newOutage(deny)
			o.locked = ratelimit.KeyOf(netip.MustParseAddr("192.0.2.1"))
			d, err := o.Take(t.Context(), ratelimit.KeyOf(netip.MustParseAddr("192.0.2.1")))
			synctest.Wait()
			if err != nil || d.Refused != ratelimit.ByContention || time.Since(o.start) != ratelimit.StoreTimeout {
				t.Errorf("deny=%v: %+v, %v after %s, want a refusal after %s", deny, d, err, time.Since(o.start), ratelimit.StoreTimeout)
			}
			if o.log.String() != "" {
				t.Errorf("deny=%v: the log has %s", deny, o.log.String())
			}
			if o.probes != 1 {
				t.Errorf("deny=%v: %d probes, want 1", deny, o.probes)
			}
		})
	}
}

func TestBreaker_SlowCallsShareAProbe(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOutage(false)
		o.hang = true
		for n := range uint32(100) {
			go o.Take(t.Context(), ratelimit.KeyOf(nth(n)))
		}
		time.Sleep(2 * ratelimit.StoreTimeout)
		synctest.Wait()
		if o.probes != 1 {
			t.Errorf("%d probes for 100 calls that hang, want 1", o.probes)
		}
		if n := strings.Count(o.log.String(), "failed"); n != 1 {
			t.Errorf("%d failures in the log, want 1:\n%s", n, o.log.String())
		}
	})
}

func TestTake_DeadlineInTheQueue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOutage(false)
		o.hang = true
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := o.Take(ctx, ratelimit.KeyOf(netip.MustParseAddr("192.0.2.1")))
		if !errors.Is(err, ratelimit.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Take = %v, want ErrUnavailable", err)
		}
		time.Sleep(2 * ratelimit.StoreTimeout) // The call and its probe end.
	})
}

// late is a limiter of 5 whose first call of the store, at noon, is answered when
// the test says so, with a clock that the test sets.
type late struct {
	*ratelimit.Limiter

	now    atomic.Pointer[time.Time]
	first  chan struct{} // Closed when the first visitor has been answered.
	answer chan error    // Ends the first call: as the store would have it if nil.
}

func newLate(t *testing.T) *late {
	t.Helper()
	l := &late{first: make(chan struct{}), answer: make(chan error)}
	l.set(noon)
	clock := func() time.Time { return *l.now.Load() }
	memory, calls := newStore(), 0
	l.Limiter = limiter(func(o *ratelimit.Options) {
		o.Now, o.StoreTimeout = clock, time.Hour
		o.Store = store(func(ctx context.Context, b ratelimit.Bucket, ask ratelimit.Ask) (ratelimit.Grant, error) {
			if calls++; calls == 1 {
				return ratelimit.Grant{Before: 4, N: 1}, <-l.answer
			}
			return memory.Grant(ctx, b, ask)
		})
	})
	go func() {
		defer close(l.first)
		l.Take(t.Context(), ratelimit.KeyOf(netip.MustParseAddr("192.0.2.1")))
	}()
	synctest.Wait()
	return l
}

func (l *late) set(t time.Time) { l.now.Store(&t) }

// granted asks n times and returns how often it was granted.
func (l *late) granted(t *testing.T, n int) (granted int) {
	t.Helper()
	for range n {
		if take(t, l.Limiter, "192.0.2.1").Granted {
			granted++
		}
	}
	return granted
}

func TestTake_LateAnswerOfAnEarlierMinute(t *testing.T) {
	t.Parallel()
	for _, held := range []time.Duration{time.Minute, 2 * time.Minute, time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			l := newLate(t)
			l.set(noon.Add(held))
			before := l.granted(t, 1)
			l.answer <- nil // The bucket of noon is full now.
			<-l.first
			if got := before + l.granted(t, 9); got != 5 {
				t.Errorf("%d granted in a minute whose predecessor was full, %s later, want 5", got, held)
			}
		})
	}
}

// The instance was frozen while the store was asked, and the failure comes when
// other requests have been counted in a later minute.
func TestTake_LateFallbackOfAnEarlierMinute(t *testing.T) {
	t.Parallel()
	for _, held := range []time.Duration{time.Minute, 2 * time.Minute, time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			l := newLate(t)
			l.set(noon.Add(held))
			before := l.granted(t, 5)
			l.answer <- errors.New("connection reset")
			<-l.first
			if got := before + l.granted(t, 5); got != 5 {
				t.Errorf("%d granted after a fallback that came %s late, want 5", got, held)
			}
		})
	}
}

func TestBreaker_FailedAtStart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOutage(false)
		o.hang = true
		o.StoreFailed(errors.New("no database"))
		if got := o.granted(t, 6); got != 5 || time.Since(o.start) != 0 {
			t.Errorf("%d granted after %s, want 5 at once", got, time.Since(o.start))
		}
	})
}

// nth returns a different public-looking address for each n.
func nth(n uint32) netip.Addr {
	var b [16]byte
	b[0], b[1] = 0x20, 0x01
	binary.BigEndian.PutUint32(b[4:8], n)
	return netip.AddrFrom16(b)
}

//nolint:paralleltest // It measures the heap, which other tests use.
func TestMemory_Capacity(t *testing.T) {
	empty := heap()
	m, one := ratelimit.NewMemory(fixed(noon), time.Minute), ratelimit.Ask{N: 1, Limit: 1}
	if unused := heap(); unused > empty+1<<20 {
		t.Errorf("an empty store takes %d bytes", unused-empty)
	}
	bucket := func(n uint32) ratelimit.Bucket {
		return ratelimit.Bucket{Key: ratelimit.KeyOf(nth(n)), Window: ratelimit.WindowOf(noon, time.Minute)}
	}
	for n := range uint32(ratelimit.Capacity) {
		if g, err := m.Grant(t.Context(), bucket(n), one); err != nil || g.N != 1 {
			t.Fatalf("address %d: %+v, %v, want a grant", n, g, err)
		}
	}
	before := heap()
	for n := uint32(ratelimit.Capacity); n < 2_000_000; n++ {
		if _, err := m.Grant(t.Context(), bucket(n), one); !errors.Is(err, ratelimit.ErrFull) {
			t.Fatalf("address %d: %v, want ErrFull", n, err)
		}
	}
	if after := heap(); after > before+1<<20 {
		t.Errorf("the heap grew from %d to %d bytes", before, after)
	}
	for n := range uint32(ratelimit.Capacity) {
		if g, err := m.Grant(t.Context(), bucket(n), one); err != nil || g.N != 0 {
			t.Fatalf("address %d the second time: %+v, %v, want no grant", n, g, err)
		}
	}
}

func TestTake_MemoryFull(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	l := limiter(func(o *ratelimit.Options) {
		o.Limit = 1
		o.Ceiling = 2 * ratelimit.Capacity
		o.Log = slog.New(slog.NewTextHandler(&log, nil))
	})
	for n := range uint32(ratelimit.Capacity) {
		if d, err := l.Take(t.Context(), ratelimit.KeyOf(nth(n))); err != nil || !d.Granted {
			t.Fatalf("address %d: %+v, %v", n, d, err)
		}
	}
	for n := range uint32(1000) {
		if _, err := l.Take(t.Context(), ratelimit.KeyOf(nth(ratelimit.Capacity+n))); !errors.Is(err, ratelimit.ErrFull) {
			t.Fatalf("an unseen address: %v, want ErrFull", err)
		}
		if d, err := l.Take(t.Context(), ratelimit.KeyOf(nth(n))); err != nil || d.Granted {
			t.Fatalf("address %d the second time: %+v, %v, want a refusal", n, d, err)
		}
	}
	if n := strings.Count(log.String(), "\n"); n != 1 {
		t.Errorf("%d lines in the log, want 1", n)
	}
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func TestMemory_NextWindow(t *testing.T) {
	t.Parallel()
	now := noon
	l := limiter(func(o *ratelimit.Options) { o.Limit = 1; o.Now = func() time.Time { return now } })
	for minute := range 3 {
		now = noon.Add(time.Duration(minute) * time.Minute)
		for n := range uint32(10_000) {
			// Every minute some addresses come again and some are new.
			if d := take(t, l, nth(n+uint32(minute)*5000).String()); !d.Granted {
				t.Fatalf("minute %d, address %d was refused", minute, n)
			}
		}
	}
}

func TestMemory(t *testing.T) {
	t.Parallel()
	teststore.Run(t, func(_ *testing.T, now func() time.Time, window time.Duration) ratelimit.Store {
		return ratelimit.NewMemory(now, window)
	})
}

func TestWindow(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 24, 13, 45, 30, 999, time.UTC)
	for length, want := range map[time.Duration]time.Time{
		time.Second:    time.Date(2026, 11, 24, 13, 45, 31, 0, time.UTC),
		time.Minute:    time.Date(2026, 11, 24, 13, 46, 0, 0, time.UTC),
		time.Hour:      time.Date(2026, 11, 24, 14, 0, 0, 0, time.UTC),
		24 * time.Hour: time.Date(2026, 11, 25, 0, 0, 0, 0, time.UTC),
	} {
		if got := ratelimit.WindowOf(at, length).End(); !got.Equal(want) {
			t.Errorf("the window of %s at %s ends at %s, want %s", length, at, got.UTC(), want)
		}
	}
}

func TestTake_AnotherWindow(t *testing.T) {
	t.Parallel()
	now := noon
	l := limiter(func(o *ratelimit.Options) {
		o.Name, o.Limit, o.Window, o.Ceiling, o.Now = "answers", 2, 24*time.Hour, 0, func() time.Time { return now }
	})
	var got []ratelimit.Decision
	for range 3 {
		got = append(got, take(t, l, "192.0.2.1"))
	}
	want := []ratelimit.Decision{{Granted: true, Remaining: 1}, {Granted: true}, {Refused: ratelimit.ByAddress, First: true}}
	for i := range want {
		want[i].Name, want[i].Limit, want[i].Window, want[i].Reset = "answers", 2, 24*time.Hour, 12*time.Hour
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(ratelimit.Decision{})); diff != "" {
		t.Errorf("decisions (-want +got):\n%s", diff)
	}
	now = noon.Add(12 * time.Hour)
	if d := take(t, l, "192.0.2.1"); !d.Granted {
		t.Error("refused on the next day")
	}
}

func TestLimiters_OneStore(t *testing.T) {
	t.Parallel()
	s := newStore()
	for _, name := range []string{"per-ip", "messages"} {
		l := limiter(func(o *ratelimit.Options) { o.Name, o.Store = name, s })
		for range 5 {
			if d := take(t, l, "192.0.2.1"); !d.Granted {
				t.Errorf("%s: refused for what another limiter has counted", name)
			}
		}
	}
}

func TestReturn(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]ratelimit.Store{"memory": nil, "store": newStore()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			now := noon
			l := limiter(func(o *ratelimit.Options) {
				// The ceiling gives the network no more than the limit.
				o.Store, o.Ceiling, o.Now = s, 20, func() time.Time { return now }
			})
			var granted []ratelimit.Decision
			for range 5 {
				granted = append(granted, take(t, l, "192.0.2.1"))
			}
			refused := take(t, l, "192.0.2.1")
			l.Return(refused) // Nothing to give back.
			if d := take(t, l, "192.0.2.1"); d.Granted {
				t.Error("a refusal was given back as a grant")
			}
			l.Return(granted[0])
			l.Return(granted[1])
			var got []bool
			for range 3 {
				got = append(got, take(t, l, "192.0.2.1").Granted)
			}
			if diff := cmp.Diff([]bool{true, true, false}, got); diff != "" {
				t.Errorf("after two were given back (-want +got):\n%s", diff)
			}
			now = noon.Add(time.Minute)
			for range 5 {
				take(t, l, "192.0.2.1")
			}
			l.Return(granted[2]) // Of the minute before.
			if d := take(t, l, "192.0.2.1"); d.Granted {
				t.Error("a grant of one minute was given back to the next")
			}
		})
	}
}

func TestReturn_StoreDown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOutage(false)
		d, err := o.Take(t.Context(), ratelimit.KeyOf(netip.MustParseAddr("192.0.2.1")))
		if err != nil || !d.Granted {
			t.Fatal(d, err)
		}
		o.fails(errors.New("connection refused"))
		o.granted(t, 1)
		o.Return(d) // What this instance counts alone is one less now.
		if got := o.granted(t, 9); got != 4 {
			t.Errorf("%d granted, want the 4 that are left", got)
		}
	})
}
