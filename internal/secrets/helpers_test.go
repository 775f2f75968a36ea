package secrets_test

import (
	"cmp"
	"context"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"docent/internal/secrets"
	"docent/internal/standin"
)

// patience is what a test gives to what should take milliseconds.
const patience = 20 * time.Second

// payload is a secret that must not show anywhere.
const payload = "sk-proj-Zm9vYmFy"

func newSecretManager(t *testing.T) *standin.SecretManager {
	t.Helper()
	m, err := standin.NewSecretManager()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m
}

func ref(t *testing.T, s string) secrets.Ref {
	t.Helper()
	var r secrets.Ref
	if err := r.UnmarshalText([]byte(s)); err != nil {
		t.Fatalf("%q %v", s, err)
	}
	return r
}

// open opens one reference.
func open(t *testing.T, o secrets.Options, s string) (secrets.Value, *secrets.Source) {
	t.Helper()
	var v secrets.Value
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	source, err := secrets.Open(t.Context(), o, secrets.Want{Variable: "KEY", Ref: ref(t, s), Into: &v})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { source.Close() })
	return v, source
}

// awaitCalls fails the test if the stand-in is not asked for docs-site/key so
// often.
func awaitCalls(t *testing.T, m *standin.SecretManager, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := m.AwaitCalls(ctx, "docs-site/key", n); err != nil {
		t.Fatal(err)
	}
}

func wantCalls(t *testing.T, m *standin.SecretManager, want int) {
	t.Helper()
	if got := m.Calls("docs-site/key"); got != want {
		t.Errorf("the secret was looked up %d times, want %d", got, want)
	}
}

func wantSecret(t *testing.T, v secrets.Value, want string) {
	t.Helper()
	if got := v.Get(); got != want {
		t.Errorf("Get() = %q, want %q", got, want)
	}
}

// receive returns what comes, or fails the test.
func receive[T any](t *testing.T, from <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(patience):
		t.Fatalf("waited in vain for %s", what)
		panic("unreachable")
	}
}

// clock is a clock that stands still until it is moved.
type clock struct {
	// reads gets a token for each time the clock is read, if it is not nil.
	reads chan struct{}
	// meet, if it is not nil, has the first readers wait for each other.
	meet func()

	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	now, reads, meet := c.now, c.reads, c.meet
	c.mu.Unlock()
	if reads != nil {
		reads <- struct{}{}
	}
	if meet != nil {
		meet()
	}
	return now
}

// watch has the clock's reads counted from now on. A Renew that has to wait reads
// it once, just before, while no lookup can end.
func (c *clock) watch() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reads = make(chan struct{}, 1000)
}

// gather has the next n readers get the time together.
func (c *clock) gather(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var readers atomic.Int64
	all := make(chan struct{})
	c.meet = func() {
		if readers.Add(1) == int64(n) {
			close(all)
		}
		<-all
	}
}

func (c *clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// lines receives a log, record by record.
type lines chan string

func (l lines) Write(record []byte) (int, error) {
	l <- strings.TrimSpace(string(record))
	return len(record), nil
}

// newLog returns a log whose records come without their time.
func newLog() (*slog.Logger, lines) {
	l := make(lines, 100)
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		},
	})), l
}
