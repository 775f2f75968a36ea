package secrets_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"docent/internal/secrets"
)

// TestRefresh has 50 goroutines use a secret that is too old while its lookup
// hangs: all get the old one at once, and there is one lookup.
func TestRefresh(t *testing.T) {
	t.Parallel()
	m, c := newSecretManager(t), newClock()
	m.Add("docs-site/key", "old")
	log, logged := newLog()
	v, _ := open(t, secrets.Options{EmulatorHost: m.Address(), TTL: time.Minute, LookupTimeout: patience, Now: c.Now, Log: log}, "sm://docs-site/key")
	m.Add("docs-site/key", "new")

	c.Advance(time.Minute - 1)
	wantSecret(t, v, "old")
	wantCalls(t, m, 1)

	release := m.Hold()
	c.Advance(1)
	c.gather(50) // All find it too old before any starts a lookup.
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() { wantSecret(t, v, "old") })
	}
	all.Wait()
	awaitCalls(t, m, 2)
	c.Advance(time.Hour)
	wantSecret(t, v, "old")

	release()
	receive(t, logged, "the change")
	wantSecret(t, v, "new")
	wantCalls(t, m, 2)

	// The next one is due a TTL after the lookup's end, not after its start, and
	// says nothing if it finds the same.
	c.Advance(time.Minute - 1)
	wantSecret(t, v, "new")
	wantCalls(t, m, 2)
	c.Advance(1)
	wantSecret(t, v, "new")
	v.Renew(t.Context(), "new") // Returns when no lookup is under way.
	wantCalls(t, m, 4)
	if len(logged) > 0 {
		t.Errorf("logged: %s", <-logged)
	}
}

// TestRefreshFails has a Secret Manager that fails in several ways: the last good
// secret stays, each attempt is logged once with its cause, and between them is a
// pause.
func TestRefreshFails(t *testing.T) {
	t.Parallel()
	m, c := newSecretManager(t), newClock()
	m.Add("docs-site/key", "good")
	log, logged := newLog()
	v, _ := open(t, secrets.Options{
		EmulatorHost: m.Address(), TTL: time.Minute, LookupTimeout: time.Second, Now: c.Now, Log: log,
	}, "sm://docs-site/key")
	second := m.Add("docs-site/key", payload)
	c.Advance(time.Minute)

	calls := 1
	for _, step := range []struct {
		name         string
		begin, end   func()
		cause, after string
	}{
		{
			"disabled", func() { m.Disable("docs-site/key", second) }, func() { m.Enable("docs-site/key", second) },
			"is in DISABLED state", "2026-11-23T12:01:06.000Z",
		},
		{
			"corrupt", func() { m.Corrupt("docs-site/key", true) }, func() { m.Corrupt("docs-site/key", false) },
			"its checksum is wrong", "2026-11-23T12:01:12.000Z",
		},
		{
			"denied", func() { m.Deny("docs-site/key") }, func() { m.Fail("docs-site/key", nil) },
			"roles/secretmanager.secretAccessor", "2026-11-23T12:01:18.000Z",
		},
		{
			"hangs", nil, nil,
			"DeadlineExceeded", "2026-11-23T12:01:24.000Z",
		},
	} {
		if step.begin == nil {
			step.begin, step.end = func() { step.end = m.Hold() }, func() { step.end() }
		}
		step.begin()
		wantSecret(t, v, "good")
		line := receive(t, logged, "the failure: "+step.name)
		start, rest, _ := strings.Cut(line, " error=")
		cause, end, _ := strings.Cut(rest, " next_lookup=")
		if diff := cmp.Diff([]string{
			`level=WARN msg="secret not refreshed, its last good value stays in use" secret=sm://docs-site/key variables=[KEY]`, step.after,
		}, []string{start, end}); diff != "" {
			t.Errorf("%s: -want +got:\n%s", step.name, diff)
		}
		if !strings.Contains(cause, step.cause) {
			t.Errorf("%s: the log misses the cause: %s", step.name, line)
		}
		mustNotLeak(t, "the log", line)
		calls++
		c.Advance(6*time.Second - 1)
		wantSecret(t, v, "good")
		wantCalls(t, m, calls)
		c.Advance(1)
		step.end()
	}

	wantSecret(t, v, "good")
	receive(t, logged, "the recovery")
	wantSecret(t, v, payload)
	wantCalls(t, m, calls+1)
}

// TestRefreshForHeader has a rotation bring what no HTTP header can carry: the last
// good secret stays, whether its age or a rejection leads to the lookup.
func TestRefreshForHeader(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		lookup func(c *clock, v secrets.Value)
	}{
		{"too old", func(c *clock, v secrets.Value) {
			c.Advance(time.Minute)
			v.Get()
		}},
		{"rejected", func(_ *clock, v secrets.Value) {
			if got, changed := v.Renew(t.Context(), "good"); got != "good" || changed {
				t.Errorf("Renew = %q, %t", got, changed)
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m, c := newSecretManager(t), newClock()
			m.Add("docs-site/key", "good")
			log, logged := newLog()
			var v secrets.Value
			source, err := secrets.Open(t.Context(), secrets.Options{
				EmulatorHost: m.Address(), TTL: time.Minute, LookupTimeout: patience, Now: c.Now, Log: log,
			}, secrets.Want{Variable: "KEY", Ref: ref(t, "sm://docs-site/key").ForHeader(), Into: &v})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { source.Close() })
			m.Add("docs-site/key", payload+"\nrest")
			tt.lookup(c, v)
			line := receive(t, logged, "the failure")
			want := `level=WARN msg="secret not refreshed, its last good value stays in use" secret=sm://docs-site/key variables=[KEY] ` +
				`error="there is a line break in it, which no HTTP header can carry: `
			if !strings.HasPrefix(line, want) {
				t.Errorf("logged %s, want %s", line, want)
			}
			mustNotLeak(t, "the log", line)
			wantSecret(t, v, "good")

			m.Add("docs-site/key", "better")
			c.Advance(time.Minute)
			v.Get()
			receive(t, logged, "the change")
			wantSecret(t, v, "better")
		})
	}
}

// TestRefreshPause shows the bounds of the pause after a failure.
func TestRefreshPause(t *testing.T) {
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
			m, c := newSecretManager(t), newClock()
			m.Add("docs-site/key", payload)
			log, logged := newLog()
			v, _ := open(t, secrets.Options{EmulatorHost: m.Address(), TTL: tt.ttl, Now: c.Now, Log: log}, "sm://docs-site/key")
			m.Deny("docs-site/key")
			c.Advance(max(tt.ttl, 5*time.Minute))
			want := c.Now().Add(tt.pause).Format("2006-01-02T15:04:05.000Z")
			v.Get()
			if line := receive(t, logged, "the failure"); !strings.HasSuffix(line, " next_lookup="+want) {
				t.Errorf("want the next lookup at %s: %s", want, line)
			}
		})
	}
}

// TestPinnedNeverLookedUpAgain has literals and pinned references pass any age
// and rejection.
func TestPinnedNeverLookedUpAgain(t *testing.T) {
	t.Parallel()
	m, c := newSecretManager(t), newClock()
	m.Add("docs-site/key", payload)
	m.Add("docs-site/key", "newer")
	pinned, _ := open(t, secrets.Options{EmulatorHost: m.Address(), Now: c.Now}, "sm://docs-site/key#1")
	literal, _ := open(t, secrets.Options{EmulatorHost: m.Address(), Now: c.Now}, payload)
	for name, v := range map[string]secrets.Value{"pinned": pinned, "literal": literal, "made of a literal": secrets.Literal(payload)} {
		c.Advance(24 * time.Hour)
		c.watch()
		wantSecret(t, v, payload)
		if len(c.reads) > 0 {
			t.Errorf("%s: Get looked whether the secret is too old", name)
		}
		if got, changed := v.Renew(t.Context(), payload); got != payload || changed {
			t.Errorf("%s: Renew = %q, %t", name, got, changed)
		}
	}
	if got, changed := (secrets.Value{}).Renew(t.Context(), ""); got != "" || changed {
		t.Errorf("not set: Renew = %q, %t", got, changed)
	}
	wantCalls(t, m, 1)
}

// TestRenew rotates a key as OpenAI's 401 tells of it.
func TestRenew(t *testing.T) {
	t.Parallel()
	m, c := newSecretManager(t), newClock()
	m.Add("docs-site/key", "first")
	log, _ := newLog()
	v, _ := open(t, secrets.Options{EmulatorHost: m.Address(), Now: c.Now, TTL: time.Hour, Log: log}, "sm://docs-site/key")
	step := func(name, rejected, want string, wantChanged bool, calls int) {
		t.Helper()
		got, changed := v.Renew(t.Context(), rejected)
		if got != want || changed != wantChanged {
			t.Errorf("%s: Renew = %q, %t; want %q, %t", name, got, changed, want, wantChanged)
		}
		wantCalls(t, m, calls)
	}
	m.Add("docs-site/key", "second")
	step("rotated", "first", "second", true, 2)
	step("a call that used the old key", "first", "second", true, 2)
	m.Add("docs-site/key", "third")
	step("rotated too soon", "second", "second", false, 2)
	c.Advance(30*time.Second - 1)
	step("still too soon", "second", "second", false, 2)
	c.Advance(1)
	step("30 s later", "second", "third", true, 3)
	c.Advance(30 * time.Second)
	step("a call that used the old key, later", "first", "third", true, 3)
	step("wrong for good", "third", "third", false, 4)
	step("and asked again", "third", "third", false, 4)
	c.Advance(30 * time.Second)
	m.Deny("docs-site/key")
	step("lookup fails", "third", "third", false, 5)
	m.Fail("docs-site/key", nil)
	m.Add("docs-site/key", "fourth")
	step("a failed one counts too", "third", "third", false, 5)
}

// TestRenewShared has 50 goroutines with the same rejected secret wait for one
// lookup.
func TestRenewShared(t *testing.T) {
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
			m, c := newSecretManager(t), newClock()
			m.Add("docs-site/key", "old")
			v, _ := open(t, secrets.Options{EmulatorHost: m.Address(), LookupTimeout: patience, Now: c.Now}, "sm://docs-site/key")
			if tt.rotated {
				m.Add("docs-site/key", "new")
			}
			release := m.Hold()
			c.watch()
			var all sync.WaitGroup
			for range 50 {
				all.Go(func() {
					if got, changed := v.Renew(t.Context(), "old"); got != tt.want || changed != tt.rotated {
						t.Errorf("Renew = %q, %t", got, changed)
					}
				})
			}
			for range 50 {
				receive(t, c.reads, "all to wait")
			}
			awaitCalls(t, m, 2)
			release()
			all.Wait()
			wantSecret(t, v, tt.want)
			wantCalls(t, m, 2)
		})
	}
}

// TestRenewAbandoned has a caller leave: it returns at once, and the lookup goes
// on for the others.
func TestRenewAbandoned(t *testing.T) {
	t.Parallel()
	m, c := newSecretManager(t), newClock()
	m.Add("docs-site/key", "old")
	v, _ := open(t, secrets.Options{EmulatorHost: m.Address(), LookupTimeout: patience, Now: c.Now}, "sm://docs-site/key")
	m.Add("docs-site/key", "new")
	release := m.Hold()
	defer release()
	ctx, leave := context.WithCancel(t.Context())
	type answer struct {
		secret  string
		changed bool
	}
	renew := func(ctx context.Context) <-chan answer {
		c := make(chan answer, 1)
		go func() {
			secret, changed := v.Renew(ctx, "old")
			c <- answer{secret, changed}
		}()
		return c
	}
	c.watch()
	first, other := renew(ctx), renew(t.Context())
	receive(t, c.reads, "one to wait")
	receive(t, c.reads, "the other to wait")
	leave()
	if got := receive(t, first, "the caller that left"); got != (answer{"old", false}) {
		t.Errorf("the caller that left got %+v", got)
	}
	release()
	if got := receive(t, other, "the other caller"); got != (answer{"new", true}) {
		t.Errorf("the other caller got %+v", got)
	}
	wantCalls(t, m, 2)
}

// TestRenewAfterRefresh has a rejection arrive while a refresh is under way that
// finds what was valid before the rotation: one lookup at a time, but another
// one.
func TestRenewAfterRefresh(t *testing.T) {
	t.Parallel()
	m, c := newSecretManager(t), newClock()
	m.Add("docs-site/key", "old")
	log, logged := newLog()
	v, _ := open(t, secrets.Options{EmulatorHost: m.Address(), LookupTimeout: patience, Now: c.Now, Log: log}, "sm://docs-site/key")
	release := m.Hold()
	c.Advance(5 * time.Minute)
	wantSecret(t, v, "old")
	awaitCalls(t, m, 2)

	c.watch()
	renewed := make(chan string, 1)
	go func() {
		secret, _ := v.Renew(t.Context(), "old")
		renewed <- secret
	}()
	receive(t, c.reads, "the caller to wait")
	wantCalls(t, m, 2)
	// The refresh fails, which stands for an answer from before the rotation.
	m.Deny("docs-site/key")
	releaseNext := m.Hold()
	release()
	receive(t, logged, "the refresh")
	awaitCalls(t, m, 3)
	m.Fail("docs-site/key", nil)
	m.Add("docs-site/key", "new")
	releaseNext()
	if got := receive(t, renewed, "the renewed secret"); got != "new" {
		t.Errorf("Renew = %q", got)
	}
}

// TestClose has a lookup hang while the source is closed: it ends at once, is no
// reason for a warning, and the secret stays.
func TestClose(t *testing.T) {
	t.Parallel()
	m, c := newSecretManager(t), newClock()
	m.Add("docs-site/key", "old")
	log, logged := newLog()
	v, source := open(t, secrets.Options{EmulatorHost: m.Address(), LookupTimeout: time.Hour, Now: c.Now, Log: log}, "sm://docs-site/key")
	m.Hold()
	renewed := make(chan bool, 1)
	go func() {
		_, changed := v.Renew(t.Context(), "old")
		renewed <- changed
	}()
	awaitCalls(t, m, 2)
	closed := make(chan error, 1)
	go func() { closed <- source.Close() }()
	if err := receive(t, closed, "the source to close"); err != nil {
		t.Error(err)
	}
	if receive(t, renewed, "the caller that waits") {
		t.Error("the secret changed")
	}
	c.Advance(time.Hour)
	wantSecret(t, v, "old")
	if got, changed := v.Renew(t.Context(), "old"); got != "old" || changed {
		t.Errorf("Renew = %q, %t", got, changed)
	}
	wantCalls(t, m, 2)
	if len(logged) > 0 {
		t.Errorf("logged: %s", <-logged)
	}
}
