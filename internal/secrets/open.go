// Package secrets has one type for a value that may be literal or rotating.
//
// A [Ref] is what the configuration says; parsing it looks nothing up. [Open]
// turns Refs into [Value]s: it fetches every referenced secret from a [Store] and
// fails if one of them cannot be read or used. From then on a Value always
// returns a secret at once. One that follows the latest version is looked up
// again in the background once it is old, or on demand after it was rejected. A
// failed lookup keeps the last good secret.
package secrets

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// Bounds of the pause after a failed refresh, which is a tenth of the TTL.
const (
	minPause = time.Second
	maxPause = 30 * time.Second
)

// Store is where referenced secrets are kept. Its methods are called concurrently.
type Store interface {
	// Fetch returns the payload of the version that a reference names, as it is
	// stored. It MUST return soon after ctx ends. Its error says what went wrong
	// and how to fix it. It MUST NOT contain the payload.
	Fetch(ctx context.Context, r Ref) (payload string, err error)
	// Close is called once, after the last Fetch has returned.
	Close() error
}

// Options configure [Open]. What is zero takes its default.
type Options struct {
	// Connect opens the store. It is called at most once, and only if there is a
	// reference to look up; it may be nil if there is none.
	Connect func(context.Context) (Store, error)
	// Replace returns how an operator replaces a stored version that cannot be
	// used, as the end of an error message. Default: the message ends without.
	Replace func(Ref) string
	// TTL is the age after which a latest secret is looked up again when it is
	// next used. Default 5m.
	TTL time.Duration
	// OpenTimeout is the deadline of all lookups of Open together. Default 10s.
	OpenTimeout time.Duration
	// LookupTimeout is the deadline of each later lookup. Default 3s.
	LookupTimeout time.Duration
	// Log gets a warning for each failed refresh and a line for each change.
	// Default [slog.Default].
	Log *slog.Logger
	// Now is the clock. Default [time.Now].
	Now func() time.Time
}

// Want is a secret to open.
type Want struct {
	// Variable names the reference in messages.
	Variable string
	// Ref is what the variable holds. It must have a project.
	Ref Ref
	// Into is where the value goes.
	Into *Value
}

// Source is where opened values come from.
type Source struct {
	options Options
	store   Store // Nil if all values are literals.

	// ctx ends when the source is closed, and ends its lookups.
	ctx    context.Context //nolint:containedctx // It belongs to the background, not to a request.
	cancel context.CancelFunc
	// mu guards the start and the end of lookups, not the reading of secrets. No
	// lookup starts after cancel was called under it.
	mu      sync.Mutex
	lookups sync.WaitGroup
}

// Open fetches all secrets in parallel, and each version only once however many
// variables refer to it. Closing the source leaves the values as they are; they
// stay usable and no longer change. If all of them are literals, Open does not
// connect to the store.
//
// The error says of every secret that failed which variable names it, why it
// failed and how to fix that. It never contains a secret. No value is set then.
func Open(ctx context.Context, o Options, wants ...Want) (*Source, error) {
	o.TTL = cmp.Or(o.TTL, 5*time.Minute)
	o.OpenTimeout = cmp.Or(o.OpenTimeout, 10*time.Second)
	o.LookupTimeout = cmp.Or(o.LookupTimeout, 3*time.Second)
	o.Log = cmp.Or(o.Log, slog.Default())
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &Source{options: o}
	s.ctx, s.cancel = context.WithCancel(context.Background())

	values := make([]Value, len(wants))
	var entries []*entry
	shared := map[Ref]*entry{}
	for i, w := range wants {
		secret, isLiteral := w.Ref.Literal()
		switch {
		case w.Ref.IsZero():
			continue
		case isLiteral:
			values[i] = literal(secret)
			continue
		}
		version := w.Ref
		version.header = false
		e := shared[version]
		if e == nil {
			e = &entry{source: s, ref: version}
			shared[version] = e
			entries = append(entries, e)
		}
		e.ref.header = e.ref.header || w.Ref.header
		e.variables = append(e.variables, w.Variable)
		values[i] = Value{e}
	}
	if err := s.open(ctx, entries); err != nil {
		_ = s.Close()
		return nil, err
	}
	for i, w := range wants {
		*w.Into = values[i]
	}
	return s, nil
}

// open fetches all entries in parallel.
func (s *Source) open(ctx context.Context, entries []*entry) error {
	if len(entries) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.options.OpenTimeout)
	defer cancel()
	store, err := s.options.Connect(ctx)
	if err != nil {
		var variables []string
		for _, e := range entries {
			variables = append(variables, e.variables...)
		}
		return fmt.Errorf("%s: %w", strings.Join(variables, ", "), err)
	}
	s.store = store

	faults := make([]error, len(entries))
	var fetches sync.WaitGroup
	for i, e := range entries {
		fetches.Go(func() {
			secret, err := s.fetch(ctx, e.ref)
			if err != nil {
				faults[i] = fmt.Errorf("%s: %s: %w", strings.Join(e.variables, ", "), e.ref, err)
				return
			}
			e.current.Store(&secret)
			e.due.Store(never)
			if !e.ref.Pinned() {
				e.due.Store(s.now().Add(s.options.TTL).UnixNano())
			}
		})
	}
	fetches.Wait()
	return errors.Join(faults...)
}

// fetch looks a secret up and checks that it can be used.
func (s *Source) fetch(ctx context.Context, r Ref) (string, error) {
	if r.NeedsProject() {
		return "", errNoProject
	}
	payload, err := s.store.Fetch(ctx, r)
	if err != nil {
		return "", err
	}
	secret, ok := clean(payload)
	if !ok {
		return "", s.unusable(r, "it is empty")
	}
	if found, never := HeaderFault(secret); never && r.header {
		return "", s.unusable(r, "there is "+found+" in it, which no HTTP header can carry")
	}
	return secret, nil
}

// unusable is the error for a secret that is stored but cannot be used.
func (s *Source) unusable(r Ref, problem string) error {
	if s.options.Replace != nil {
		problem += ": " + s.options.Replace(r)
	}
	return errors.New(problem)
}

// pause is how long Docent waits after a failed refresh before it tries again. A
// Secret Manager that is down must not be asked at every request.
func (s *Source) pause() time.Duration {
	return min(max(s.options.TTL/10, minPause), maxPause)
}

func (s *Source) now() time.Time { return s.options.Now() }

// Close ends the lookups under way and closes the store.
func (s *Source) Close() error {
	s.mu.Lock()
	s.cancel()
	s.mu.Unlock()
	s.lookups.Wait()
	if s.store == nil {
		return nil
	}
	return s.store.Close()
}
