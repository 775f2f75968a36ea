package secrets

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math"
	"sync/atomic"
	"time"
)

const (
	// renewEvery is the least time between two lookups of a rejected secret: short
	// enough for a rotation, long enough that a key which is simply wrong causes no
	// storm of lookups.
	renewEvery = 30 * time.Second
	// never is the due time of a secret that no refresh is planned for.
	never = math.MaxInt64
)

// Value is a secret that may rotate. It is a handle, to be copied and shared:
// all methods are safe for concurrent use, and all copies see the same secret.
// The zero Value stands for a variable that is not set; its secret is empty.
//
// A Value prints as [redacted].
type Value struct {
	// entry is a pointer because fmt calls no methods on a value in another
	// struct's unexported field. Of a pointer there it prints the address alone.
	entry *entry
}

// entry is one secret, shared by all values that refer to it.
type entry struct {
	current atomic.Pointer[string]
	// due is the time of the next lookup in nanoseconds since 1970. It is [never]
	// for a secret that cannot change, and while a lookup is under way.
	due atomic.Int64

	// Of a secret in the store.
	source    *Source
	ref       Ref
	variables []string

	// Guarded by source.mu.
	flight *flight   // The lookup under way, if any.
	forced time.Time // When a lookup was last forced.
}

// flight is a lookup that others may wait for.
type flight struct {
	forced bool
	done   chan struct{}
}

// literal returns the Value of a secret that is known.
func literal(secret string) Value {
	e := &entry{}
	e.current.Store(&secret)
	e.due.Store(never)
	return Value{e}
}

// Get returns the last good secret without waiting. If it is older than
// [Options.TTL], Get also starts a lookup in the background, for later callers.
func (v Value) Get() string {
	if v.entry == nil {
		return ""
	}
	secret := *v.entry.current.Load()
	if due := v.entry.due.Load(); due != never && v.entry.source.now().UnixNano() >= due {
		v.entry.refresh()
	}
	return secret
}

// Renew is called with a secret from Get that was rejected. It returns the secret
// to use instead, and whether that is a different one. If no other is known yet,
// Renew looks it up, unless it cannot change. One lookup serves all callers, and
// Renew looks a secret up at most once in 30 seconds. The lookup has its own
// deadline, [Options.LookupTimeout]. When ctx ends, Renew returns and the lookup
// goes on.
func (v Value) Renew(ctx context.Context, rejected string) (secret string, changed bool) {
	if v.entry == nil {
		return "", false
	}
	for waiting := true; waiting; {
		f := v.entry.force(rejected)
		if f == nil {
			break
		}
		// A refresh that was already under way may have read the secret before it was
		// rotated. Then another lookup must follow.
		waiting = !f.forced
		select {
		case <-f.done:
		case <-ctx.Done():
			waiting = false
		}
	}
	secret = *v.entry.current.Load()
	return secret, secret != rejected
}

// refresh starts a lookup if one is still due.
func (e *entry) refresh() {
	e.source.mu.Lock()
	defer e.source.mu.Unlock()
	if e.source.now().UnixNano() >= e.due.Load() {
		e.start(false)
	}
}

// force returns a lookup to wait for after a secret was rejected, or nil if no
// lookup can help: the secret has already changed or never changes, or the last
// forced lookup was less than renewEvery ago.
func (e *entry) force(rejected string) *flight {
	if e.source == nil || e.ref.Pinned() {
		return nil
	}
	e.source.mu.Lock()
	defer e.source.mu.Unlock()
	now := e.source.now()
	switch {
	case *e.current.Load() != rejected:
		return nil
	case e.flight != nil:
		return e.flight
	case now.Sub(e.forced) < renewEvery:
		return nil
	}
	e.forced = now
	return e.start(true)
}

// start looks the secret up in the background. It returns nil if the source is
// closed. The caller holds source.mu, and no lookup may be under way.
func (e *entry) start(forced bool) *flight {
	if e.source.ctx.Err() != nil {
		return nil
	}
	f := &flight{forced: forced, done: make(chan struct{})}
	e.flight = f
	e.due.Store(never)
	e.source.lookups.Go(func() { e.lookup(f) })
	return f
}

// lookup replaces the secret, or keeps the last good one if the lookup fails.
func (e *entry) lookup(f *flight) {
	defer close(f.done)
	s := e.source
	ctx, cancel := context.WithTimeout(s.ctx, s.options.LookupTimeout)
	defer cancel()
	secret, err := s.fetch(ctx, e.ref)
	next, changed := s.now().Add(s.options.TTL), false
	if err != nil {
		next = s.now().Add(s.pause())
	} else {
		changed = secret != *e.current.Swap(&secret)
	}

	s.mu.Lock()
	e.flight = nil
	e.due.Store(next.UnixNano())
	s.mu.Unlock()

	switch {
	case s.ctx.Err() != nil: // Closed, which is also why the lookup failed.
	case err != nil:
		s.options.Log.Warn("secret not refreshed, its last good value stays in use",
			"secret", e.ref, "variables", e.variables, "error", err, "next_lookup", next)
	case changed:
		s.options.Log.Info("secret changed", "secret", e.ref, "variables", e.variables)
	}
}

// String returns [redacted].
func (Value) String() string { return redacted }

// Format implements [fmt.Formatter], which takes precedence over the other ways to
// print.
func (Value) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// MarshalText implements [encoding.TextMarshaler], for JSON among others.
func (Value) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue implements [slog.LogValuer].
func (Value) LogValue() slog.Value { return slog.StringValue(redacted) }
