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
	// renewEvery is how often a rejected value is looked up at most: often enough
	// for a rotation, too seldom for a key that is simply wrong to make a storm.
	renewEvery = 30 * time.Second
	// never is the time of a lookup that is not to come by itself.
	never = math.MaxInt64
)

// Value is a secret that may rotate. It is a handle, to be copied and shared:
// all methods are safe for concurrent use, and all copies see the same secret.
// The zero Value stands for a variable that is not set; its secret is empty.
//
// A Value prints as [redacted].
type Value struct {
	// The secret is behind pointers because fmt calls no methods on what lies in
	// another struct's unexported field, and there prints a pointer's address.
	entry *entry
}

// entry is one secret, shared by all values that refer to it.
type entry struct {
	current atomic.Pointer[string]
	// due is when the next lookup is, in nanoseconds since 1970. It is [never] for
	// a secret that cannot change, and while a lookup is under way.
	due atomic.Int64

	// Of a secret in Secret Manager.
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

// Literal returns the Value of a secret that is known.
func Literal(secret string) Value {
	e := &entry{}
	e.current.Store(&secret)
	e.due.Store(never)
	return Value{e}
}

// Get returns the secret as it is known now, at once. Where it is older than
// [Options.TTL], a lookup starts beside the caller, for those who come later.
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

// Renew is told that somebody rejected a secret which Get returned. It returns
// the one to use instead and reports whether that is another one. Where none is
// known it looks the secret up, unless it cannot change; one lookup serves all
// who ask, and a secret is looked up so at most once in 30 seconds. The lookup
// has a deadline of its own, [Options.LookupTimeout]. It goes on when ctx ends,
// while Renew returns.
func (v Value) Renew(ctx context.Context, rejected string) (secret string, changed bool) {
	if v.entry == nil {
		return "", false
	}
	for waiting := true; waiting; {
		f := v.entry.force(rejected)
		if f == nil {
			break
		}
		// A lookup that was under way already may have been answered before the
		// secret was rotated: then another one has to follow.
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

// refresh starts a lookup if it still is due.
func (e *entry) refresh() {
	e.source.mu.Lock()
	defer e.source.mu.Unlock()
	if e.source.now().UnixNano() >= e.due.Load() {
		e.start(false)
	}
}

// force returns a lookup to wait for, because the secret given was rejected, or
// nil if none can help: there is another secret already, or too little time has
// passed since the last one.
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

// start looks the secret up in the background. source.mu is held, and no lookup
// is under way. It returns nil if the source is closed.
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

// lookup replaces the secret, or keeps the last good one if that fails.
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
	case s.ctx.Err() != nil: // Closed: nobody needs the secret any more.
	case err != nil:
		s.options.Log.Warn("secret not refreshed, its last good value stays in use",
			"secret", e.ref, "variables", e.variables, "error", err, "next_lookup", next)
	case changed:
		s.options.Log.Info("secret changed", "secret", e.ref, "variables", e.variables)
	}
}

// String returns [redacted].
func (Value) String() string { return redacted }

// Format implements [fmt.Formatter], which goes before all other ways to print.
func (Value) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// MarshalText implements [encoding.TextMarshaler], for JSON among others.
func (Value) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue implements [slog.LogValuer].
func (Value) LogValue() slog.Value { return slog.StringValue(redacted) }
