package secrets_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"docent/internal/secrets"
)

// TestGet_TooOld has 50 goroutines use a secret that is too old while its lookup
// hangs: all get the old one at once, and there is one lookup.
func TestGet_TooOld(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore("old")
		log, logged := newLog()
		o := options(s)
		o.TTL, o.LookupTimeout, o.Log = time.Minute, 24*time.Hour, log
		clock := &meetingClock{}
		o.Now = clock.Now
		v, source := open(t, o, "sm://docs-site/key")
		defer source.Close()
		s.Add("docs-site/key", "new")

		time.Sleep(time.Minute - 1)
		wantSecret(t, v, "old")
		synctest.Wait()
		s.wantCalls(t, 1)

		release := s.Hold()
		time.Sleep(time.Nanosecond)
		start := time.Now()
		clock.meet(50) // All see that it is too old before any of them starts a lookup.
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() { wantSecret(t, v, "old") })
		}
		all.Wait()
		if took := time.Since(start); took != 0 {
			t.Errorf("Get waited %v for the lookup", took)
		}
		synctest.Wait()
		s.wantCalls(t, 2)
		time.Sleep(time.Hour)
		wantSecret(t, v, "old")

		release()
		synctest.Wait()
		if diff := cmp.Diff([]string{`level=INFO msg="secret changed" secret=sm://docs-site/key variables=[KEY]`}, logged.take()); diff != "" {
			t.Errorf("log (-want +got):\n%s", diff)
		}
		wantSecret(t, v, "new")
		s.wantCalls(t, 2)

		// The next one is due a TTL after the lookup's end, not after its start. It
		// logs nothing if the secret is the same.
		time.Sleep(time.Minute - 1)
		wantSecret(t, v, "new")
		synctest.Wait()
		s.wantCalls(t, 2)
		time.Sleep(time.Nanosecond)
		wantSecret(t, v, "new")
		synctest.Wait()
		s.wantCalls(t, 3)
		if lines := logged.take(); lines != nil {
			t.Errorf("logged: %q", lines)
		}
	})
}

// meetingClock is a clock whose readers may be told to wait for each other.
type meetingClock struct{ all atomic.Pointer[meeting] }

type meeting struct {
	missing atomic.Int64
	begin   chan struct{}
}

// meet has the next n readers get the time together.
func (c *meetingClock) meet(n int64) {
	m := &meeting{begin: make(chan struct{})}
	m.missing.Store(n)
	c.all.Store(m)
}

func (c *meetingClock) Now() time.Time {
	now := utcNow()
	if m := c.all.Load(); m != nil {
		if m.missing.Add(-1) == 0 {
			close(m.begin)
		}
		<-m.begin
	}
	return now
}

// TestGet_LookupFails has a store that fails in several ways: the last good secret
// stays, each attempt is logged once with its cause, and there is a pause between
// attempts.
func TestGet_LookupFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore("good")
		log, logged := newLog()
		o := options(s)
		o.TTL, o.LookupTimeout, o.Log = time.Minute, time.Second, log
		v, source := open(t, o, "sm://docs-site/key")
		defer source.Close()
		time.Sleep(time.Minute)

		calls := 1
		for _, step := range []struct {
			name         string
			begin        func() (end func())
			took         time.Duration
			cause, after string
		}{
			{"fails", func() func() { s.Fail(errors.New("denied")); return func() { s.Fail(nil) } }, 0, "denied", "00:01:06.000Z"},
			{"empty", func() func() { s.Add("docs-site/key", "\n"); return func() {} }, 0, `"it is empty: replace sm://docs-site/key"`, "00:01:12.000Z"},
			// The pause begins when the lookup has ended.
			{"hangs", s.Hold, time.Second, `"hangs: context deadline exceeded"`, "00:01:19.000Z"},
		} {
			end := step.begin()
			wantSecret(t, v, "good")
			time.Sleep(step.took)
			synctest.Wait()
			if diff := cmp.Diff([]string{
				`level=WARN msg="secret not refreshed, its last good value stays in use" secret=sm://docs-site/key variables=[KEY] error=` +
					step.cause + " next_lookup=2000-01-01T" + step.after,
			}, logged.take()); diff != "" {
				t.Errorf("%s: log (-want +got):\n%s", step.name, diff)
			}
			calls++
			time.Sleep(6*time.Second - 1)
			wantSecret(t, v, "good")
			synctest.Wait()
			s.wantCalls(t, calls)
			end()
			time.Sleep(time.Nanosecond)
		}

		s.Add("docs-site/key", payload)
		wantSecret(t, v, "good")
		synctest.Wait()
		if diff := cmp.Diff([]string{`level=INFO msg="secret changed" secret=sm://docs-site/key variables=[KEY]`}, logged.take()); diff != "" {
			t.Errorf("log (-want +got):\n%s", diff)
		}
		wantSecret(t, v, payload)
		s.wantCalls(t, calls+1)
	})
}

// TestGet_LookupTimeout shows how long a lookup takes at most by default.
func TestGet_LookupTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore("good")
		log, logged := newLog()
		o := options(s)
		o.Log = log
		v, source := open(t, o, "sm://docs-site/key")
		defer source.Close()
		s.Hold()
		time.Sleep(5 * time.Minute)
		wantSecret(t, v, "good")
		time.Sleep(3*time.Second - 1)
		synctest.Wait()
		if lines := logged.take(); lines != nil {
			t.Errorf("too soon: %q", lines)
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if lines := logged.take(); len(lines) != 1 {
			t.Errorf("logged %q after 3s, want one line", lines)
		}
	})
}

// TestLookup_ForHeader has a rotation bring what no HTTP header can carry: the last
// good secret stays, whether its age or a rejection leads to the lookup.
func TestLookup_ForHeader(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		lookup func(t *testing.T, v secrets.Value)
	}{
		{"too old", func(_ *testing.T, v secrets.Value) {
			time.Sleep(time.Minute)
			v.Get()
		}},
		{"rejected", func(t *testing.T, v secrets.Value) {
			t.Helper()
			if got, changed := v.Renew(t.Context(), "good"); got != "good" || changed {
				t.Errorf("Renew = %q, %t", got, changed)
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newStore("good")
				log, logged := newLog()
				o := options(s)
				o.TTL, o.Log = time.Minute, log
				v, source := openRef(t, o, ref(t, "sm://docs-site/key").ForHeader())
				defer source.Close()
				s.Add("docs-site/key", payload+"\nrest")
				tt.lookup(t, v)
				synctest.Wait()
				lines := logged.take()
				want := `level=WARN msg="secret not refreshed, its last good value stays in use" secret=sm://docs-site/key variables=[KEY] ` +
					`error="there is a line break in it, which no HTTP header can carry: replace sm://docs-site/key" next_lookup=`
				if len(lines) != 1 || !strings.HasPrefix(lines[0], want) {
					t.Errorf("logged %q, want %s", lines, want)
				}
				mustNotLeak(t, "the log", strings.Join(lines, "\n"))
				wantSecret(t, v, "good")

				s.Add("docs-site/key", "better")
				time.Sleep(time.Minute)
				v.Get()
				synctest.Wait()
				wantSecret(t, v, "better")
			})
		})
	}
}

// TestGet_PauseAfterFailure shows the bounds of the pause after a failed lookup.
func TestGet_PauseAfterFailure(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name       string
		ttl, pause time.Duration
	}{
		{"shortest TTL", time.Second, time.Second},
		{"a tenth", time.Minute, 6 * time.Second},
		{"default", 0, 30 * time.Second},
		{"long TTL", 24 * time.Hour, 30 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newStore(payload)
				log, logged := newLog()
				o := options(s)
				o.TTL, o.Log = tt.ttl, log
				v, source := open(t, o, "sm://docs-site/key")
				defer source.Close()
				s.Fail(errors.New("denied"))
				time.Sleep(max(tt.ttl, 5*time.Minute))
				v.Get()
				synctest.Wait()
				want := " next_lookup=" + utcNow().Add(tt.pause).Format("2006-01-02T15:04:05.000Z")
				if lines := logged.take(); len(lines) != 1 || !strings.HasSuffix(lines[0], want) {
					t.Errorf("logged %q, want%s", lines, want)
				}
				time.Sleep(tt.pause - 1)
				v.Get()
				synctest.Wait()
				s.wantCalls(t, 2)
				time.Sleep(time.Nanosecond)
				v.Get()
				synctest.Wait()
				s.wantCalls(t, 3)
			})
		})
	}
}

// TestValue_NeverChanges has literals and pinned references stay as they are at
// any age and after a rejection, without a look at the clock.
func TestValue_NeverChanges(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(payload, "newer")
		var reads atomic.Int64
		o := options(s)
		o.Now = func() time.Time { reads.Add(1); return utcNow() }
		pinned, source := open(t, o, "sm://docs-site/key#1")
		defer source.Close()
		literal, literalSource := open(t, o, payload)
		defer literalSource.Close()
		for name, v := range map[string]secrets.Value{"pinned": pinned, "literal": literal, "made of a literal": secrets.Literal(payload)} {
			time.Sleep(24 * time.Hour)
			reads.Store(0)
			wantSecret(t, v, payload)
			if reads.Load() > 0 {
				t.Errorf("%s: Get read the clock", name)
			}
			if got, changed := v.Renew(t.Context(), payload); got != payload || changed {
				t.Errorf("%s: Renew = %q, %t", name, got, changed)
			}
		}
		if got, changed := (secrets.Value{}).Renew(t.Context(), ""); got != "" || changed {
			t.Errorf("not set: Renew = %q, %t", got, changed)
		}
		synctest.Wait()
		s.wantCalls(t, 1)
	})
}

// TestRenew rotates a key. Rejections, which are OpenAI's 401, tell Docent so.
func TestRenew(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore("first")
		o := options(s)
		o.TTL = time.Hour
		v, source := open(t, o, "sm://docs-site/key")
		defer source.Close()
		step := func(name, rejected, want string, wantChanged bool, calls int) {
			t.Helper()
			got, changed := v.Renew(t.Context(), rejected)
			if got != want || changed != wantChanged {
				t.Errorf("%s: Renew = %q, %t; want %q, %t", name, got, changed, want, wantChanged)
			}
			s.wantCalls(t, calls)
		}
		s.Add("docs-site/key", "second")
		step("rotated", "first", "second", true, 2)
		step("a call that used the old key", "first", "second", true, 2)
		s.Add("docs-site/key", "third")
		step("rotated too soon", "second", "second", false, 2)
		time.Sleep(30*time.Second - 1)
		step("still too soon", "second", "second", false, 2)
		time.Sleep(time.Nanosecond)
		step("30 s later", "second", "third", true, 3)
		time.Sleep(30 * time.Second)
		step("a call that used the old key, later", "first", "third", true, 3)
		step("wrong for good", "third", "third", false, 4)
		step("and asked again", "third", "third", false, 4)
		time.Sleep(30 * time.Second)
		s.Fail(errors.New("denied"))
		step("lookup fails", "third", "third", false, 5)
		s.Fail(nil)
		s.Add("docs-site/key", "fourth")
		step("a failed one counts too", "third", "third", false, 5)
	})
}

// TestRenew_Shared has 50 goroutines with the same rejected secret wait for one
// lookup.
func TestRenew_Shared(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		rotated bool
		want    string
	}{
		{"rotated", true, "new"},
		{"wrong for good", false, "old"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newStore("old")
				v, source := open(t, options(s), "sm://docs-site/key")
				defer source.Close()
				if tt.rotated {
					s.Add("docs-site/key", "new")
				}
				release := s.Hold()
				var all sync.WaitGroup
				for range 50 {
					all.Go(func() {
						if got, changed := v.Renew(t.Context(), "old"); got != tt.want || changed != tt.rotated {
							t.Errorf("Renew = %q, %t", got, changed)
						}
					})
				}
				synctest.Wait()
				s.wantCalls(t, 2)
				release()
				all.Wait()
				wantSecret(t, v, tt.want)
				s.wantCalls(t, 2)
			})
		})
	}
}

// renewed is what Renew returned.
type renewed struct {
	secret  string
	changed bool
}

// renew calls Renew in the background.
func renew(ctx context.Context, v secrets.Value, rejected string) <-chan renewed {
	c := make(chan renewed, 1)
	go func() {
		secret, changed := v.Renew(ctx, rejected)
		c <- renewed{secret, changed}
	}()
	return c
}

// TestRenew_CallerLeaves has a caller's context end: that call returns at once,
// and the lookup goes on for the others.
func TestRenew_CallerLeaves(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore("old")
		v, source := open(t, options(s), "sm://docs-site/key")
		defer source.Close()
		s.Add("docs-site/key", "new")
		release := s.Hold()
		ctx, leave := context.WithCancel(t.Context())
		first := renew(ctx, v, "old") // Its call starts the lookup.
		synctest.Wait()
		other := renew(t.Context(), v, "old")
		synctest.Wait()
		leave()
		if got := <-first; got != (renewed{"old", false}) {
			t.Errorf("the caller that left got %+v", got)
		}
		release()
		if got := <-other; got != (renewed{"new", true}) {
			t.Errorf("the other caller got %+v", got)
		}
		s.wantCalls(t, 2)
	})
}

// TestRenew_DuringRefresh has a rejection arrive during a refresh that finds what
// was valid before the rotation: another lookup follows, but not at the same time.
func TestRenew_DuringRefresh(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		failure error
	}{
		{"finds the old one", nil},
		{"fails", errors.New("denied")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newStore("old")
				v, source := open(t, options(s), "sm://docs-site/key")
				defer source.Close()
				release := s.Hold()
				time.Sleep(5 * time.Minute)
				wantSecret(t, v, "old")
				synctest.Wait()
				s.wantCalls(t, 2)

				got := renew(t.Context(), v, "old")
				synctest.Wait()
				s.wantCalls(t, 2)

				s.Fail(tt.failure)
				releaseNext := s.Hold()
				release()
				synctest.Wait()
				s.wantCalls(t, 3)
				s.Fail(nil)
				s.Add("docs-site/key", "new")
				releaseNext()
				if got := <-got; got != (renewed{"new", true}) {
					t.Errorf("Renew = %+v", got)
				}
				s.wantCalls(t, 3)
			})
		})
	}
}

// TestClose_DuringLookup has a lookup hang while the source is closed: the lookup
// is ended without a warning, the store is closed after it, and the secret stays.
func TestClose_DuringLookup(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore("old")
		s.delay = time.Millisecond
		log, logged := newLog()
		o := options(s)
		o.LookupTimeout, o.Log = time.Hour, log
		v, source := open(t, o, "sm://docs-site/key")
		s.Hold()
		got := renew(t.Context(), v, "old")
		synctest.Wait()
		s.wantCalls(t, 2)
		start := time.Now()
		if err := source.Close(); err != nil {
			t.Error(err)
		}
		if got := <-got; got != (renewed{"old", false}) {
			t.Errorf("Renew = %+v", got)
		}
		if took := time.Since(start); took != s.delay {
			t.Errorf("took %v, want %v", took, s.delay)
		}
		s.wantConnections(t, 1)

		time.Sleep(time.Hour)
		wantSecret(t, v, "old")
		if got, changed := v.Renew(t.Context(), "old"); got != "old" || changed {
			t.Errorf("Renew = %q, %t", got, changed)
		}
		synctest.Wait()
		s.wantCalls(t, 2)
		if lines := logged.take(); lines != nil {
			t.Errorf("logged: %q", lines)
		}
	})
}
