package secrets_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"docent/internal/secrets"
)

// payload is a secret that must not show anywhere.
const payload = "sk-proj-Zm9vYmFy"

// store is a [secrets.Store] in memory.
type store struct {
	mu       sync.Mutex
	versions map[string][]string // By PROJECT/NAME.
	failure  error
	delay    time.Duration // Of each answer, also of one that follows the context's end.
	gate     chan struct{} // If there is one, calls wait until it is closed.
	connects int
	calls    int
	underWay int
	closes   int
}

var (
	errNotFound = errors.New("not found")
	errUnderWay = errors.New("closed during a lookup")
)

// newStore returns a store with the versions of docs-site/key.
func newStore(versions ...string) *store {
	return &store{versions: map[string][]string{"docs-site/key": versions}}
}

// Add stores a version of a secret. The first is number 1.
func (s *store) Add(secret, payload string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.versions[secret] = append(s.versions[secret], payload)
}

// Fail makes all lookups fail, until it is called with nil.
func (s *store) Fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failure = err
}

// Hold makes all lookups from now on hang until release is called or their
// contexts end. What they read is decided after that. A later Hold has a gate of
// its own.
func (s *store) Hold() (release func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	gate := make(chan struct{})
	s.gate = gate
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.gate == gate {
			s.gate = nil
		}
		close(gate)
	}
}

// Connect is [secrets.Options.Connect].
func (s *store) Connect(context.Context) (secrets.Store, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.connects++
	return s, nil
}

// Fetch implements [secrets.Store].
func (s *store) Fetch(ctx context.Context, r secrets.Ref) (string, error) {
	s.mu.Lock()
	s.calls++
	s.underWay++
	gate, delay := s.gate, s.delay
	s.mu.Unlock()
	defer s.end()
	defer time.Sleep(delay)
	if gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
			return "", fmt.Errorf("hangs: %w", ctx.Err())
		}
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failure != nil {
		return "", s.failure
	}
	versions := s.versions[r.Project()+"/"+r.Name()]
	number := len(versions)
	if r.Version() != "" {
		number, _ = strconv.Atoi(r.Version())
	}
	if number < 1 || number > len(versions) {
		return "", errNotFound
	}
	return versions[number-1], nil
}

func (s *store) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.underWay--
}

// Close implements [secrets.Store].
func (s *store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closes++
	if s.underWay > 0 {
		return errUnderWay
	}
	return nil
}

func (s *store) wantCalls(t *testing.T, want int) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.calls != want {
		t.Errorf("the store was asked %d times, want %d", s.calls, want)
	}
}

// wantConnections fails the test unless the store was opened so often, and each
// time closed again.
func (s *store) wantConnections(t *testing.T, want int) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.connects != want || s.closes != want {
		t.Errorf("the store was opened %d times and closed %d times, want %d", s.connects, s.closes, want)
	}
}

// replace is [secrets.Options.Replace].
func replace(r secrets.Ref) string { return "replace " + r.String() }

// utcNow is a clock in the same time zone everywhere. In a synctest bubble it
// starts at 2000-01-01 00:00:00.
func utcNow() time.Time { return time.Now().UTC() }

func ref(t *testing.T, s string) secrets.Ref {
	t.Helper()
	var r secrets.Ref
	if err := r.UnmarshalText([]byte(s)); err != nil {
		t.Fatalf("%q %v", s, err)
	}
	return r
}

// options returns options for a store, without a log.
func options(s *store) secrets.Options {
	return secrets.Options{Connect: s.Connect, Replace: replace, Now: utcNow, Log: slog.New(slog.DiscardHandler)}
}

// open opens one reference.
func open(t *testing.T, o secrets.Options, s string) (secrets.Value, *secrets.Source) {
	t.Helper()
	return openRef(t, o, ref(t, s))
}

func openRef(t *testing.T, o secrets.Options, r secrets.Ref) (secrets.Value, *secrets.Source) {
	t.Helper()
	var v secrets.Value
	source, err := secrets.Open(t.Context(), o, secrets.Want{Variable: "KEY", Ref: r, Into: &v})
	if err != nil {
		t.Fatal(err)
	}
	return v, source
}

// fault returns the text of an error that a test expects.
func fault(t *testing.T, source *secrets.Source, err error) string {
	t.Helper()
	if err == nil {
		source.Close()
		t.Fatal("opened")
	}
	return err.Error()
}

func wantSecret(t *testing.T, v secrets.Value, want string) {
	t.Helper()
	if got := v.Get(); got != want {
		t.Errorf("Get() = %q, want %q", got, want)
	}
}

// records is a log.
type records struct {
	mu    sync.Mutex
	lines []string
}

// Write implements [io.Writer]. It is called once for each record.
func (r *records) Write(record []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, strings.TrimSpace(string(record)))
	return len(record), nil
}

// take returns what was logged since it was last called.
func (r *records) take() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	lines := r.lines
	r.lines = nil
	return lines
}

// newLog returns a log whose records have no time.
func newLog() (*slog.Logger, *records) {
	r := &records{}
	return slog.New(slog.NewTextHandler(r, &slog.HandlerOptions{
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		},
	})), r
}
