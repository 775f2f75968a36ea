package httpapi_test

import (
	"bytes"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"docent/internal/firestore"
	"docent/internal/httpapi"
	"docent/internal/ratelimit"
	"docent/internal/testkit/testfirestore"
)

// onFirestore is a change for serve: a limit of 5 in the emulator, and
// addresses that requests choose.
func onFirestore(t *testing.T, s func() *site, c *testfirestore.Calls) func(*httpapi.Options) {
	t.Helper()
	options := firestore.Options{Project: testfirestore.Project(), Database: "(default)", Emulator: testfirestore.Address(t)}
	c.Record(&options)
	client, err := firestore.Open(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	store, err := client.Buckets("rate_limits", bytes.Repeat([]byte("k"), 32))
	if err != nil {
		t.Fatal(err)
	}
	return func(o *httpapi.Options) {
		loopback(o)
		o.Timeout = time.Minute
		o.Limiter = ratelimit.New(ratelimit.Options{
			Name: "per-ip", Limit: 5, Window: time.Minute, Ceiling: 1_000_000, Store: store, StoreTimeout: 30 * time.Second,
			Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return s().clock() },
		})
	}
}

func serveOnFirestore(t *testing.T) (*site, *testfirestore.Calls) {
	t.Helper()
	var s *site
	c := &testfirestore.Calls{}
	s = serve(t, onFirestore(t, func() *site { return s }, c))
	return s, c
}

func (s *site) from(t *testing.T, address string) int {
	t.Helper()
	resp, _ := s.post(t, "X-Forwarded-For", address)
	return resp.StatusCode
}

func TestSession_RemoteCalls(t *testing.T) {
	t.Parallel()
	s, c := serveOnFirestore(t)
	transaction := []string{"BeginTransaction", "BatchGetDocuments", "Commit"}
	for i, want := range [][]string{{"Commit"}, transaction, transaction, transaction, transaction, nil} {
		s.from(t, "192.0.2.1")
		if diff := cmp.Diff(want, c.Take()); diff != "" {
			t.Errorf("calls of request %d (-want +got):\n%s", i+1, diff)
		}
	}
	var wg sync.WaitGroup
	for range 1000 {
		wg.Go(func() {
			if status := s.from(t, "192.0.2.1"); status != 429 {
				t.Errorf("over the limit: %d", status)
			}
		})
	}
	wg.Wait()
	if got := c.Take(); got != nil {
		t.Errorf("a thousand refusals cost %v, want no call", got)
	}
}

func TestSession_BurstCostsTwoTransactions(t *testing.T) {
	t.Parallel()
	s, c := serveOnFirestore(t)
	var mu sync.Mutex
	statuses := map[int]int{}
	var wg sync.WaitGroup
	for range 1000 {
		wg.Go(func() {
			status := s.from(t, "192.0.2.1")
			mu.Lock()
			defer mu.Unlock()
			statuses[status]++
		})
	}
	wg.Wait()
	if diff := cmp.Diff(map[int]int{200: 5, 429: 995}, statuses); diff != "" {
		t.Errorf("statuses (-want +got):\n%s", diff)
	}
	made := c.Take()
	times := func(method string) int {
		return len(slices.DeleteFunc(slices.Clone(made), func(m string) bool { return m != method }))
	}
	if times("Commit") > 2 || times("BeginTransaction") > 1 || times("Rollback") > 0 {
		t.Errorf("the burst cost %v, want two transactions at most", made)
	}
}

func TestSession_SharedBuckets(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, first, then string
		want              int
	}{
		{"one /64", "2001:db8:1:1::1", "2001:db8:1:1:ffff::2", 429},
		{"two /64s", "2001:db8:1:2::1", "2001:db8:1:3::1", 200},
		{"IPv4-in-IPv6", "1.2.3.4", "::ffff:1.2.3.4", 429},
	}
	s, _ := serveOnFirestore(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for range 5 {
				s.from(t, tt.first)
			}
			if got := s.from(t, tt.then); got != tt.want {
				t.Errorf("%s after five of %s: %d, want %d", tt.then, tt.first, got, tt.want)
			}
		})
	}
}

func TestSession_MinutesInFirestore(t *testing.T) {
	t.Parallel()
	s, _ := serveOnFirestore(t)
	for range 5 {
		s.from(t, "192.0.2.1")
	}
	for _, tt := range []struct {
		after      time.Duration
		status     int
		retryAfter string
	}{
		{0, 429, "60"},
		{1500 * time.Millisecond, 429, "59"},
		{59 * time.Second, 429, "1"},
		{time.Minute - 1, 429, "1"},
		{time.Minute, 200, ""},
	} {
		s.set(noon.Add(tt.after))
		resp, _ := s.post(t, "X-Forwarded-For", "192.0.2.1")
		if got := resp.Header.Get("Retry-After"); resp.StatusCode != tt.status || got != tt.retryAfter {
			t.Errorf("after %s: %d, Retry-After %q, want %d, %q", tt.after, resp.StatusCode, got, tt.status, tt.retryAfter)
		}
	}
}
