package firestore_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"cloud.google.com/go/firestore/apiv1/firestorepb"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"docent/internal/chatkit"
	"docent/internal/firestore"
	"docent/internal/testkit/testfirestore"
	"docent/internal/testkit/testthreads"
)

const (
	visitor = "0123456789abcdefghijkl"
	// ownerOfVisitor is what stands for the visitor in a document's path under
	// ownerKey. If it changes, all conversations are lost.
	ownerOfVisitor = "859a054a12dd10e2e20bd7a625c9d1bcb704ca3cf9be1ddc4b5da852131c592e"
	threadID       = "thr_0123456789ABCDEF"
)

var ownerKey = []byte("an owner key for tests, 32 bytes")

func openThreads(t *testing.T, address, project string, change ...func(*firestore.Options)) *firestore.Threads {
	t.Helper()
	return threads(t, open(t, address, project, change...), func() time.Time { return testthreads.Noon })
}

func threads(t *testing.T, c *firestore.Client, now func() time.Time) *firestore.Threads {
	t.Helper()
	s, err := c.Threads(testthreads.Keep, ownerKey, now)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestThreads(t *testing.T) {
	t.Parallel()
	address := testfirestore.Address(t)
	testthreads.Run(t, func(t *testing.T, keep time.Duration, now func() time.Time) chatkit.Store {
		t.Helper()
		s, err := open(t, address, testfirestore.Project()).Threads(keep, ownerKey, now)
		if err != nil {
			t.Fatal(err)
		}
		return s
	})
}

func TestThreads_Refused(t *testing.T) {
	t.Parallel()
	client := open(t, "127.0.0.1:1", "docs-prod")
	for name, key := range map[string][]byte{"no key": nil, "a key that can be guessed": ownerKey[1:]} {
		if _, err := client.Threads(time.Hour, key, time.Now); err == nil {
			t.Errorf("%s: not refused", name)
		}
	}
}

// threadPath returns the name of the visitor's thread.
func threadPath(project string) string {
	return "projects/" + project + "/databases/(default)/documents/visitors/" + ownerOfVisitor + "/threads/" + threadID
}

func TestThreads_Document(t *testing.T) {
	t.Parallel()
	address, project := testfirestore.Address(t), testfirestore.Project()
	s := openThreads(t, address, project)
	thread := testthreads.Thread(threadID, "A secret answer.", testthreads.Noon)
	thread = testthreads.Put(t, s, visitor, thread)
	thread.Title, thread.Updated, thread.Closed = "A secret title", testthreads.Noon.Add(time.Minute), true
	for step, updated := range []bool{false, true} {
		if updated {
			testthreads.Put(t, s, visitor, thread)
		}
		client, ctx := rawFirestore(t, address)
		doc, err := client.GetDocument(ctx, &firestorepb.GetDocumentRequest{Name: threadPath(project)})
		if err != nil {
			t.Fatalf("the document is not where it was: %v", err)
		}
		want := map[string]any{
			"title": "About " + threadID, "created": testthreads.Noon, "updated": testthreads.Noon,
			"expires_at": testthreads.Noon.Add(testthreads.Keep), "closed": false,
		}
		if updated {
			want = map[string]any{
				"title": "A secret title", "created": testthreads.Noon, "updated": thread.Updated,
				"expires_at": thread.Updated.Add(testthreads.Keep), "closed": true,
			}
		}
		got := map[string]any{}
		for name, field := range doc.GetFields() {
			switch v := field.GetValueType().(type) {
			case *firestorepb.Value_StringValue:
				got[name] = v.StringValue
			case *firestorepb.Value_BooleanValue:
				got[name] = v.BooleanValue
			case *firestorepb.Value_TimestampValue:
				got[name] = v.TimestampValue.AsTime()
			}
		}
		text, _ := got["items"].(string)
		if items, err := chatkit.DecodeItems([]byte(text)); err != nil {
			t.Errorf("step %d: the items: %v", step, err)
		} else if diff := cmp.Diff(thread.Items, items); diff != "" {
			t.Errorf("step %d: the items (-want +got):\n%s", step, diff)
		}
		delete(got, "items")
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("step %d (-want +got):\n%s", step, diff)
		}

		stored, err := proto.Marshal(doc)
		if err != nil {
			t.Fatal(err)
		}
		for _, trace := range []string{visitor, hex.EncodeToString([]byte(visitor)), base64.RawStdEncoding.EncodeToString([]byte(visitor))} {
			if bytes.Contains(stored, []byte(trace)) {
				t.Errorf("step %d: the document has %q", step, trace)
			}
		}
	}
}

// There is nothing else in the database: no document of a visitor, no index.
func TestThreads_NothingElseStored(t *testing.T) {
	t.Parallel()
	address, project := testfirestore.Address(t), testfirestore.Project()
	s := openThreads(t, address, project)
	testthreads.Put(t, s, visitor, testthreads.Thread(threadID, "", testthreads.Noon))
	client, ctx := rawFirestore(t, address)
	var names []string
	parents := []string{"projects/" + project + "/databases/(default)/documents"}
	for len(parents) > 0 {
		parent := parents[0]
		parents = parents[1:]
		collections, err := client.ListCollectionIds(ctx, &firestorepb.ListCollectionIdsRequest{Parent: parent})
		if err != nil {
			t.Fatal(err)
		}
		for _, id := range collections.GetCollectionIds() {
			list, err := client.ListDocuments(ctx, &firestorepb.ListDocumentsRequest{Parent: parent, CollectionId: id, ShowMissing: true})
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range list.GetDocuments() {
				parents = append(parents, d.GetName())
				if d.GetCreateTime() != nil { // Not missing.
					names = append(names, d.GetName())
				}
			}
		}
	}
	if diff := cmp.Diff([]string{threadPath(project)}, names); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestThreads_RemoteCalls(t *testing.T) {
	t.Parallel()
	var made testfirestore.Calls
	s := openThreads(t, testfirestore.Address(t), testfirestore.Project(), made.Record)
	const read, write, query = "BatchGetDocuments", "Commit", "RunQuery"
	var thread chatkit.Thread
	put := func(version int64, want error) func() {
		return func() {
			t.Helper()
			stale := thread
			stale.Version = version
			if _, err := s.Put(t.Context(), visitor, stale); !errors.Is(err, want) {
				t.Errorf("Put: %v, want %v", err, want)
			}
		}
	}
	list := func(after string) func() {
		return func() {
			t.Helper()
			if _, _, err := s.List(t.Context(), visitor, chatkit.Cursor{After: after, Limit: 2}); err != nil {
				t.Error(err)
			}
		}
	}
	for _, step := range []struct {
		name string
		do   func()
		want []string
	}{
		{"create", func() { thread = testthreads.Put(t, s, visitor, testthreads.Thread(threadID, "", testthreads.Noon)) }, []string{write}},
		{"get", func() { thread, _ = s.Get(t.Context(), visitor, threadID) }, []string{read}},
		{"put", func() { thread.Title = "New"; thread = testthreads.Put(t, s, visitor, thread) }, []string{write}},
		{"create again", put(0, chatkit.ErrConflict), []string{write}},
		{"put a stale one", func() { put(thread.Version-1000, chatkit.ErrConflict)() }, []string{write, read}},
		{"list", list(""), []string{query}},
		{"list after a thread", list(threadID), []string{read, query}},
		{"list after an unknown one", list("thr_unknown"), []string{read}},
		{"list after what is no ID", list("a/b"), nil},
		{"delete", func() { _ = s.Delete(t.Context(), visitor, threadID) }, []string{read, write}},
		{"delete again", func() { _ = s.Delete(t.Context(), visitor, threadID) }, []string{read}},
		{"put a deleted one", func() { put(thread.Version, chatkit.ErrNotFound)() }, []string{write, read}},
		{"get what is no ID", func() { _, _ = s.Get(t.Context(), visitor, "a/b") }, nil},
	} {
		step.do()
		if diff := cmp.Diff(step.want, made.Take()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", step.name, diff)
		}
	}
}

// A document that was written by hand is an error, which quotes nothing of it.
func TestThreads_InvalidDocument(t *testing.T) {
	t.Parallel()
	address := testfirestore.Address(t)
	text := func(s string) *firestorepb.Value {
		return &firestorepb.Value{ValueType: &firestorepb.Value_StringValue{StringValue: s}}
	}
	instant := &firestorepb.Value{ValueType: &firestorepb.Value_TimestampValue{TimestampValue: timestamppb.New(testthreads.Noon)}}
	for name, fields := range map[string]map[string]*firestorepb.Value{
		"no items":           {"updated": instant},
		"items not JSON":     {"updated": instant, "items": text("secret")},
		"a type unknown":     {"updated": instant, "items": text(`[{"item":{"type":"secret"}}]`)},
		"a time not one":     {"updated": instant, "items": text(`[{"item":{"type":"user_message","created_at":"secret"}}]`)},
		"items not text":     {"updated": instant, "items": instant},
		"a title not text":   {"updated": instant, "title": instant, "items": text("[]")},
		"updated not a time": {"updated": text("secret"), "items": text("[]")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			project := testfirestore.Project()
			s := openThreads(t, address, project)
			client, ctx := rawFirestore(t, address)
			if _, err := client.UpdateDocument(ctx, &firestorepb.UpdateDocumentRequest{
				Document: &firestorepb.Document{Name: threadPath(project), Fields: fields},
			}); err != nil {
				t.Fatal(err)
			}
			_, err := s.Get(t.Context(), visitor, threadID)
			if err == nil || errors.Is(err, chatkit.ErrNotFound) || errors.Is(err, chatkit.ErrConflict) {
				t.Fatalf("Get: %v", err)
			}
			if !strings.HasPrefix(err.Error(), "a conversation in Firestore cannot be read: ") || strings.Contains(err.Error(), "secret") ||
				strings.Contains(err.Error(), threadID) {
				t.Errorf("Get: %v", err)
			}
		})
	}
}

// operations are all that a store does, with a stored thread of some version.
var operations = map[string]func(context.Context, *firestore.Threads) error{
	"get": func(ctx context.Context, s *firestore.Threads) error {
		_, err := s.Get(ctx, visitor, threadID)
		return err
	},
	"create": func(ctx context.Context, s *firestore.Threads) error {
		_, err := s.Put(ctx, visitor, testthreads.Thread(threadID, "", testthreads.Noon))
		return err
	},
	"put": func(ctx context.Context, s *firestore.Threads) error {
		thread := testthreads.Thread(threadID, "", testthreads.Noon)
		thread.Version = testthreads.Noon.UnixNano()
		_, err := s.Put(ctx, visitor, thread)
		return err
	},
	"list": func(ctx context.Context, s *firestore.Threads) error {
		_, _, err := s.List(ctx, visitor, chatkit.Cursor{Limit: 1})
		return err
	},
	"list after": func(ctx context.Context, s *firestore.Threads) error {
		_, _, err := s.List(ctx, visitor, chatkit.Cursor{Limit: 1, After: threadID})
		return err
	},
	"delete": func(ctx context.Context, s *firestore.Threads) error { return s.Delete(ctx, visitor, threadID) },
}

var allOperations = slices.Sorted(maps.Keys(operations))

// atOnce calls f with each of the operations named, all at the same time: most of
// them wait for a deadline.
func atOnce(names []string, f func(name string, operation func(context.Context, *firestore.Threads) error)) {
	var wg sync.WaitGroup
	for _, name := range names {
		wg.Go(func() { f(name, operations[name]) })
	}
	wg.Wait()
}

// failing is a Firestore that fails in all calls alike.
func failing(f func(context.Context) error) *standIn {
	return &standIn{commit: commits(f), batchGet: f, runQuery: f}
}

func TestThreads_Faults(t *testing.T) {
	t.Parallel()
	// Firestore's words name the document.
	says := func(code codes.Code, message string) func(context.Context) error {
		return answers(status.Error(code, message+" ("+threadPath("docs-prod")+" from 203.0.113.77:443)"))
	}
	const named = " (projects/docs-prod/databases/(default)/documents/visitors/…/threads/[redacted] from …)"
	const noDatabase = "Firestore has no database (default) in project docs-prod: gcloud firestore databases create --database='(default)' --project=docs-prod --location=LOCATION" +
		" (NotFound: The database (default) does not exist for project docs-prod"
	const held = "Firestore answers, but not in time for one conversation: another client may hold its document"
	all := allOperations
	found := map[string]*firestorepb.Value{
		"updated": {ValueType: &firestorepb.Value_TimestampValue{TimestampValue: timestamppb.New(testthreads.Noon)}},
		"items":   {ValueType: &firestorepb.Value_StringValue{StringValue: "[]"}},
	}
	for _, tt := range []struct {
		name       string
		server     *standIn
		operations []string
		want       string
	}{
		{"hanging", failing(hang), all, silent},
		{"permission denied", failing(says(codes.PermissionDenied, "Missing or insufficient permissions.")), all, denied + " (PermissionDenied: Missing or insufficient permissions." + named + ")"},
		{"no database", failing(says(codes.NotFound, "The database (default) does not exist for project docs-prod")), all, noDatabase + named + ")"},
		{
			"Datastore mode", failing(says(codes.FailedPrecondition, "The Cloud Firestore API is not available for Firestore in Datastore Mode.")), all,
			"Firestore does not work (FailedPrecondition: The Cloud Firestore API is not available for Firestore in Datastore Mode." + named + ")",
		},
		{"quota", failing(says(codes.ResourceExhausted, "Quota exceeded.")), all, exhausted + " (ResourceExhausted: Quota exceeded." + named + ")"},
		{"unavailable", failing(says(codes.Unavailable, "Going away.")), all, unreachable + " (Unavailable: Going away." + named + ")"},
		{
			"too large", &standIn{commit: commits(says(codes.InvalidArgument, "Document exceeds the maximum size."))},
			[]string{"create", "put"},
			"Firestore does not work (InvalidArgument: Document exceeds the maximum size." + named + ")",
		},
		{"aborted", &standIn{commit: commits(says(codes.Aborted, "Too much contention."))}, []string{"create", "put"}, chatkit.ErrConflict.Error()},
		{"aborted while it is deleted", &standIn{fields: found, commit: commits(says(codes.Aborted, "Too much contention."))}, []string{"delete"}, held},
		{"gone when it is deleted", &standIn{fields: found, commit: commits(says(codes.NotFound, "No document to update."))}, []string{"delete"}, chatkit.ErrNotFound.Error()},
		{"gone when it is changed", &standIn{commit: commits(says(codes.NotFound, "No document to update."))}, []string{"put"}, chatkit.ErrNotFound.Error()},
		{"gone, as the emulator says it", &standIn{commit: commits(says(codes.FailedPrecondition, "The stored version is 0."))}, []string{"put"}, chatkit.ErrNotFound.Error()},
		{"changed by another", &standIn{fields: found, commit: commits(says(codes.FailedPrecondition, "The stored version is 5."))}, []string{"put"}, chatkit.ErrConflict.Error()},
		{"changed by another, then no answer", &standIn{batchGet: hang, commit: commits(says(codes.FailedPrecondition, "The stored version is 5."))}, []string{"put"}, silent},
		{"read, then no answer", &standIn{fields: found, commit: commits(hang)}, []string{"delete"}, silent},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			address := tt.server.serve(t)
			atOnce(tt.operations, func(name string, operation func(context.Context, *firestore.Threads) error) {
				s := openThreads(t, address, "docs-prod")
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				err := operation(ctx, s)
				want := tt.want
				if name == "list" { // It has no ID that it could hide, and no Firestore names one.
					want = strings.ReplaceAll(want, "[redacted]", threadID)
				}
				if diff := cmp.Diff(want, fmt.Sprint(err)); diff != "" {
					t.Errorf("%s (-want +got):\n%s", name, diff)
				}
				for _, is := range []error{chatkit.ErrNotFound, chatkit.ErrConflict} {
					if errors.Is(err, is) != (tt.want == is.Error()) {
						t.Errorf("%s: is %q: %v", name, is, errors.Is(err, is))
					}
				}
			})
		})
	}
}

// A thread whose document another client holds is no outage of Firestore, which the
// error would otherwise tell the operator to look into.
func TestThreads_OneDocumentHangs(t *testing.T) {
	t.Parallel()
	atOnce(allOperations, func(name string, operation func(context.Context, *firestore.Threads) error) {
		waiting := make(chan struct{})
		first := func(ctx context.Context) error {
			close(waiting)
			return hang(ctx)
		}
		s := openThreads(t, failing(inTurn(first, answers(nil))).serve(t), "docs-prod")
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		hung := make(chan error)
		go func() { hung <- operation(ctx, s) }()
		<-waiting
		if _, err := s.Get(t.Context(), visitor, "thr_2"); !errors.Is(err, chatkit.ErrNotFound) {
			t.Errorf("%s: the other conversation: %v", name, err)
		}
		if err := <-hung; err == nil || !strings.HasPrefix(err.Error(), "Firestore answers, but not in time for one conversation") {
			t.Errorf("%s: %v", name, err)
		}
	})
}

func TestThreads_Cancelled(t *testing.T) {
	t.Parallel()
	for name, operation := range operations {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			s := openThreads(t, failing(func(ctx context.Context) error {
				cancel()
				return hang(ctx)
			}).serve(t), "docs-prod")
			if err := operation(ctx, s); !errors.Is(err, context.Canceled) {
				t.Errorf("%v, want context.Canceled", err)
			}
		})
	}
}

func TestThreads_BrokenReadIsRepeated(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"get", "list"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := openThreads(t, failing(inTurn(fails(codes.Unavailable, "connection reset"), answers(nil))).serve(t), "docs-prod")
			if err := operations[name](t.Context(), s); err != nil && !errors.Is(err, chatkit.ErrNotFound) {
				t.Error(err)
			}
		})
	}
}

// A write whose answer is lost is repeated by Google's client. It is a conflict with
// itself.
func TestThreads_AnswerLost(t *testing.T) {
	t.Parallel()
	address := testfirestore.Address(t)
	for name, nth := range map[string]int{"of a create": 1, "of an update": 2} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := openThreads(t, address, testfirestore.Project(), lose(nth))
			thread := testthreads.Thread(threadID, "", testthreads.Noon)
			if nth > 1 {
				thread = testthreads.Put(t, s, visitor, thread)
			}
			thread.Title = "Written"
			if _, err := s.Put(t.Context(), visitor, thread); !errors.Is(err, chatkit.ErrConflict) {
				t.Errorf("Put: %v", err)
			}
			if got, err := s.Get(t.Context(), visitor, threadID); err != nil || got.Title != "Written" {
				t.Errorf("Get: %q, %v", got.Title, err)
			}
		})
	}
}

// A connection that is made and stays silent.
func TestThreads_BlackHole(t *testing.T) {
	t.Parallel()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	atOnce(allOperations, func(name string, operation func(context.Context, *firestore.Threads) error) {
		s := openThreads(t, l.Addr().String(), "docs-prod")
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		err := operation(ctx, s)
		if !errors.Is(err, context.DeadlineExceeded) || err.Error() != silent {
			t.Errorf("%s: %v, want %s", name, err, silent)
		}
	})
}

// TestThreads_EmulatorRestarted stops the emulator under a store that is in use, and
// starts it again.
func TestThreads_EmulatorRestarted(t *testing.T) {
	t.Parallel()
	emulator := testfirestore.Own(t)
	s := openThreads(t, emulator.Address(), testfirestore.Project())
	thread := testthreads.Put(t, s, visitor, testthreads.Thread(threadID, "", testthreads.Noon))

	emulator.Stop()
	atOnce(allOperations, func(name string, operation func(context.Context, *firestore.Threads) error) {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		if err := operation(ctx, s); err == nil || !strings.HasPrefix(err.Error(), unreachable) {
			t.Errorf("%s while it is away: %v, want an outage", name, err)
		}
	})

	if err := emulator.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // Of a cold Java.
	defer cancel()
	if _, err := s.Put(ctx, visitor, thread); !errors.Is(err, chatkit.ErrNotFound) {
		t.Errorf("Put when it is back, empty: %v", err)
	}
	if threads, _, err := s.List(ctx, visitor, chatkit.Cursor{Limit: 1}); err != nil || len(threads) > 0 {
		t.Errorf("List when it is back, empty: %v, %v", threads, err)
	}
}
