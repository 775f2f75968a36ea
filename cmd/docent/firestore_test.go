package main_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cloud.google.com/go/firestore/apiv1/firestorepb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"docent/internal/testkit/testfirestore"
)

// burst sends n requests from one address at once, spread over the instances,
// and counts the statuses. If the minute ends meanwhile, it starts again with
// another address.
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

// addresses returns a function that returns a new address at every call.
func addresses() func() string {
	var n int
	return func() string {
		n++
		return fmt.Sprintf("198.18.%d.%d", n/256, n%256)
	}
}

// An address never gets more than its limit. It gets fewer only where instances
// contend for it: Firestore may still carry out a count after the deadline at which
// the instance gave up (the emulator does so after five seconds), and its grants
// are then lost. The next requests are granted what is left.
func TestFirestore_ExactLimit(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		instances int
		mode      string
	}{
		{1, "deny"},
		{3, "deny"},
		{3, "local"}, // If an instance mistook contention for an outage, it would count alone.
	} {
		t.Run(fmt.Sprint(tt.instances, " instances ", tt.mode), func(t *testing.T) {
			t.Parallel()
			env := []string{
				"FIRESTORE_EMULATOR_HOST=" + testfirestore.Address(t), "GOOGLE_CLOUD_PROJECT=" + testfirestore.Project(),
				"RATE_LIMIT_ON_STORE_FAILURE=" + tt.mode,
			}
			var all []*docent
			for range tt.instances {
				all = append(all, start(t, env...))
			}
			contended := func() (n int) {
				for _, d := range all {
					n += strings.Count(d.output.String(), `"limited_by":"contention"`)
				}
				return n
			}
			next := addresses()
			for round := range 5 {
				var from string
				var minute time.Time
				before := contended()
				got := burst(t, 100, func() string { from, minute = next(), time.Now().Truncate(time.Minute); return from }, all...)
				granted := got[200]
				if granted+got[429]+got[503] != 100 || granted > 5 {
					t.Errorf("round %d: %v, want 5 granted and 95 refused", round, got)
				}
				for i := range 30 {
					if all[i%len(all)].ask(t, http.MethodPost, sessionPath, header("X-Forwarded-For", from)).StatusCode == 200 {
						granted++
					}
				}
				if !time.Now().Truncate(time.Minute).Equal(minute) {
					continue // The address has another bucket by now.
				}
				if granted > 5 || granted < 5 && contended() == before {
					t.Errorf("round %d: %d granted in all, want 5, or fewer where instances contended", round, granted)
				}
			}
		})
	}
}

// failed and back are the log's messages when the store fails and when it is up
// again.
const (
	failed = "rate limit store failed"
	back   = "rate limit store answers again"
)

func TestFirestore_OutageAndRecovery(t *testing.T) {
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
			visit() // This visitor meets the outage first.
			for range 20 {
				r, took := visit()
				if mode == "local" && r.StatusCode != 200 || mode == "deny" && (r.StatusCode != 503 || r.Code != "limiter_unavailable") {
					t.Errorf("during the outage: %d %s", r.StatusCode, r.body)
				}
				if took > time.Second {
					t.Errorf("a visitor waited %s for a store that is known to be down", took)
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

// faultyFirestore is a Firestore that answers reads, as at a start, and one write
// while well is set. Every other call gets the error, or no answer if err is nil.
type faultyFirestore struct {
	firestorepb.UnimplementedFirestoreServer

	err  error
	well atomic.Bool
}

func (f *faultyFirestore) fault(ctx context.Context) error {
	if f.err == nil {
		<-ctx.Done()
		return status.FromContextError(ctx.Err()).Err()
	}
	return f.err
}

func (f *faultyFirestore) BatchGetDocuments(r *firestorepb.BatchGetDocumentsRequest, stream firestorepb.Firestore_BatchGetDocumentsServer) error {
	if !f.well.Load() {
		return f.fault(stream.Context())
	}
	for _, doc := range r.GetDocuments() {
		if err := stream.Send(&firestorepb.BatchGetDocumentsResponse{
			Result:   &firestorepb.BatchGetDocumentsResponse_Missing{Missing: doc},
			ReadTime: timestamppb.Now(),
		}); err != nil {
			return err
		}
	}
	return nil
}

func (f *faultyFirestore) BeginTransaction(ctx context.Context, _ *firestorepb.BeginTransactionRequest) (*firestorepb.BeginTransactionResponse, error) {
	return nil, f.fault(ctx)
}

func (f *faultyFirestore) Commit(ctx context.Context, _ *firestorepb.CommitRequest) (*firestorepb.CommitResponse, error) {
	if !f.well.CompareAndSwap(true, false) {
		return nil, f.fault(ctx)
	}
	return &firestorepb.CommitResponse{
		CommitTime:   timestamppb.Now(),
		WriteResults: []*firestorepb.WriteResult{{UpdateTime: timestamppb.Now()}},
	}, nil
}

// serve returns the address to configure as an emulator's.
func (f *faultyFirestore) serve(t *testing.T) (address string) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer()
	firestorepb.RegisterFirestoreServer(srv, f)
	go srv.Serve(l)
	t.Cleanup(srv.Stop)
	return l.Addr().String()
}

func TestFirestore_Faults(t *testing.T) {
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
			for _, well := range []bool{true, false} { // Up until the second visitor, or down from the start.
				t.Run(fmt.Sprintf("%s %s well=%v", tt.name, mode, well), func(t *testing.T) {
					t.Parallel()
					f := &faultyFirestore{err: tt.err}
					f.well.Store(well)
					d := start(t, "FIRESTORE_EMULATOR_HOST="+f.serve(t), "RATE_LIMIT_ON_STORE_FAILURE="+mode)
					if well {
						if r := d.ask(t, http.MethodPost, sessionPath); r.StatusCode != 200 {
							t.Errorf("before the fault: %d %s", r.StatusCode, r.body)
						}
					}
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
}

func TestStart_SecretsAndStoreBothFail(t *testing.T) {
	t.Parallel()
	_, stderr := fails(t, "PORT=127.0.0.1:0", "ALLOWED_ORIGINS="+testOrigin, "CHATKIT_WORKFLOW_ID="+testWorkflow, "IDENTITY_KEY="+testIdentity,
		"OPENAI_API_KEY=sm://p/openai-api-key", "SECRET_MANAGER_EMULATOR_HOST="+nowhere,
		"RATE_LIMIT_STORE=firestore", "GOOGLE_CLOUD_PROJECT=p", "GOOGLE_APPLICATION_CREDENTIALS="+t.TempDir()+"/none.json")
	for _, want := range []string{"openai-api-key", "gcloud auth application-default login"} {
		if !strings.Contains(stderr, want) {
			t.Errorf("stderr does not name %q:\n%s", want, stderr)
		}
	}
}
