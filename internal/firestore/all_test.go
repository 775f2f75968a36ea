package firestore_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/firestore/apiv1/firestorepb"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"docent/internal/chatkit"
	"docent/internal/testkit/testfirestore"
	"docent/internal/testkit/testthreads"
)

func TestAllThreads(t *testing.T) {
	t.Parallel()
	address, project := testfirestore.Address(t), testfirestore.Project()
	client := open(t, address, project)
	s := threads(t, client, func() time.Time { return testthreads.Noon })
	for i, id := range []string{"thr_OLD", "thr_FIRST", "thr_LAST"} {
		at := testthreads.Noon.Add(time.Duration(i) * time.Minute)
		testthreads.Put(t, s, id+"-visitor", testthreads.Thread(id, "An answer.", at))
	}
	raw, ctx := rawFirestore(t, address)
	instant := &firestorepb.Value{ValueType: &firestorepb.Value_TimestampValue{TimestampValue: timestamppb.New(testthreads.Noon.Add(time.Hour))}}
	for _, name := range []string{"visitors/x/threads/unreadable", "forum/x/threads/foreign"} {
		if _, err := raw.UpdateDocument(ctx, &firestorepb.UpdateDocumentRequest{Document: &firestorepb.Document{
			Name: "projects/" + project + "/databases/(default)/documents/" + name, Fields: map[string]*firestorepb.Value{"updated": instant},
		}}); err != nil {
			t.Fatal(err)
		}
	}
	tests := []struct {
		name       string
		since      time.Time
		most       int
		want       []string
		unreadable int
	}{
		{"since the second", testthreads.Noon.Add(time.Minute), 10, []string{"thr_LAST", "thr_FIRST"}, 1},
		{"the newest", testthreads.Noon, 1, []string{"thr_LAST"}, 1},
		{"nothing", testthreads.Noon.Add(2 * time.Hour), 10, nil, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var got []string
			unreadable, err := client.AllThreads(t.Context(), tt.since, func(thread chatkit.Thread) bool {
				if len(thread.Items) == 0 {
					t.Errorf("%s has no items", thread.ID)
				}
				got = append(got, thread.ID)
				return len(got) < tt.most
			})
			if diff := cmp.Diff(tt.want, got); err != nil || unreadable != tt.unreadable || diff != "" {
				t.Errorf("%d unreadable, %v, (-want +got):\n%s", unreadable, err, diff)
			}
		})
	}
}

func TestAllThreads_Faults(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		err  error
		want string
	}{
		{
			"no index",
			status.Error(codes.FailedPrecondition, "The query requires a COLLECTION_GROUP_DESC index for collection threads and field updated. You can create it here: https://console.firebase.google.com/"),
			"gcloud firestore indexes fields update updated --project=docs-prod --database='(default)' --collection-group=threads",
		},
		{"not permitted", status.Error(codes.PermissionDenied, "Missing or insufficient permissions."), "roles/datastore.user"},
		{"no such database", status.Error(codes.NotFound, "The database (default) does not exist for project docs-prod"), "gcloud firestore databases create"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			client := open(t, failing(answers(tt.err)).serve(t), "docs-prod")
			_, err := client.AllThreads(t.Context(), testthreads.Noon, func(chatkit.Thread) bool { return true })
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
	t.Run("interrupted", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		client := open(t, testfirestore.Address(t), testfirestore.Project())
		if _, err := client.AllThreads(ctx, testthreads.Noon, func(chatkit.Thread) bool { return true }); err == nil || !strings.Contains(err.Error(), "context canceled") {
			t.Errorf("%v", err)
		}
	})
}
