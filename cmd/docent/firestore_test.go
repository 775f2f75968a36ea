package main_test

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"docent/internal/testkit/testfirestore"
)

// burst sends n requests from one address at once, spread over the instances,
// and returns how many got which status. It starts again, with another address,
// where the minute ended meanwhile.
func burst(t *testing.T, n int, address func() string, instances ...*docent) map[int]int {
	t.Helper()
	for {
		from := address()
		var mu sync.Mutex
		statuses := map[int]int{}
		began := time.Now()
		var wg sync.WaitGroup
		for i := range n {
			wg.Go(func() {
				r := instances[i%len(instances)].ask(t, http.MethodPost, sessionPath, header("X-Forwarded-For", from))
				mu.Lock()
				defer mu.Unlock()
				statuses[r.StatusCode]++
			})
		}
		wg.Wait()
		if began.Minute() == time.Now().Minute() {
			return statuses
		}
	}
}

// addresses returns one new address after the other.
func addresses() func() string {
	var n int
	return func() string {
		n++
		return fmt.Sprintf("198.18.%d.%d", n/256, n%256)
	}
}

func TestFirestoreHoldsTheLimitExactly(t *testing.T) {
	t.Parallel()
	for _, instances := range []int{1, 3} {
		t.Run(fmt.Sprint(instances, " instances"), func(t *testing.T) {
			t.Parallel()
			env := []string{"FIRESTORE_EMULATOR_HOST=" + testfirestore.Address(t), "GOOGLE_CLOUD_PROJECT=" + testfirestore.Project(), "REQUEST_TIMEOUT=20s"}
			var all []*docent
			for range instances {
				all = append(all, start(t, env...))
			}
			next := addresses()
			for round := range 5 {
				if got := burst(t, 100, next, all...); got[200] != 5 || got[429] != 95 {
					t.Errorf("round %d: %v, want 5 granted and 95 refused", round, got)
				}
			}
		})
	}
}

// failed and back are what the log says when the store changes its state.
const (
	failed = "rate limit store failed"
	back   = "rate limit store answers again"
)

func TestTheStoreIsKilledAndComesBack(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"local", "deny"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			emulator := testfirestore.Own(t)
			d := start(t, "FIRESTORE_EMULATOR_HOST="+emulator.Address(), "GOOGLE_CLOUD_PROJECT="+testfirestore.Project(), "RATE_LIMIT_ON_STORE_FAILURE="+mode)
			next := addresses()
			visit := func() (reply, time.Duration) {
				began := time.Now()
				r := d.ask(t, http.MethodPost, sessionPath, header("X-Forwarded-For", next()))
				return r, time.Since(began)
			}
			if r, _ := visit(); r.StatusCode != 200 {
				t.Fatalf("before: %d %s", r.StatusCode, r.body)
			}
			emulator.Stop()
			visit() // This visitor finds out.
			for range 20 {
				r, took := visit()
				if mode == "local" && r.StatusCode != 200 || mode == "deny" && (r.StatusCode != 503 || r.Code != "limiter_unavailable") {
					t.Errorf("during the outage: %d %s", r.StatusCode, r.body)
				}
				if took > time.Second {
					t.Errorf("a visitor waited %s for a store that is known to be away", took)
				}
			}
			if mode == "local" {
				if got := burst(t, 50, next, d); got[200] != 5 || got[429] != 45 {
					t.Errorf("a burst during the outage: %v, want 5 granted and 45 refused", got)
				}
			}
			if err := emulator.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			for deadline := time.Now().Add(30 * time.Second); !strings.Contains(d.output.String(), back); {
				if visit(); time.Now().After(deadline) {
					t.Fatalf("the store was not used again:\n%s", d.output)
				}
			}
			if got := burst(t, 50, next, d); got[200] != 5 || got[429] != 45 {
				t.Errorf("a burst after the outage: %v, want 5 granted and 45 refused", got)
			}
			for _, line := range []string{failed, back} {
				if n := strings.Count(d.output.String(), line); n != 1 {
					t.Errorf("%q is in the log %d times, want once:\n%s", line, n, d.output)
				}
			}
			if want := "Firestore cannot be reached: start the emulator"; !strings.Contains(d.output.String(), want) {
				t.Errorf("the log does not say %q:\n%s", want, d.output)
			}
		})
	}
}

// brokenFirestore is a gRPC server that answers every call with an error, or
// never with nil.
func brokenFirestore(t *testing.T, err error) (address string) {
	t.Helper()
	l, e := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if e != nil {
		t.Fatal(e)
	}
	srv := grpc.NewServer(grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		if err == nil {
			<-stream.Context().Done()
			return status.FromContextError(stream.Context().Err()).Err()
		}
		return err
	}))
	go srv.Serve(l)
	t.Cleanup(srv.Stop)
	return l.Addr().String()
}

func TestStoreFaults(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		err  error
		log  string
	}{
		{"hanging", nil, "Firestore does not answer: start the emulator"},
		{"permission denied", status.Error(codes.PermissionDenied, "Missing or insufficient permissions."), "--role=roles/datastore.user"},
		{"no database", status.Error(codes.NotFound, "The database (default) does not exist for project x"), "gcloud firestore databases create"},
		{"quota", status.Error(codes.ResourceExhausted, "Quota exceeded."), "Firestore's quota is used up"},
	}
	for _, tt := range tests {
		for mode, want := range map[string]int{"local": 200, "deny": 503} {
			t.Run(tt.name+" "+mode, func(t *testing.T) {
				t.Parallel()
				d := start(t, "FIRESTORE_EMULATOR_HOST="+brokenFirestore(t, tt.err), "RATE_LIMIT_ON_STORE_FAILURE="+mode)
				for range 3 {
					r := d.ask(t, http.MethodPost, sessionPath)
					if r.StatusCode != want || want == 503 && r.Code != "limiter_unavailable" {
						t.Errorf("%d %s, want %d", r.StatusCode, r.body, want)
					}
				}
				written := d.output.String()
				if strings.Count(written, failed) != 1 || !strings.Contains(written, tt.log) {
					t.Errorf("the log does not say once %q:\n%s", tt.log, written)
				}
			})
		}
	}
}
