package firestore_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/firestore/apiv1/firestorepb"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	"docent/internal/chatkit"
	"docent/internal/testkit/testfirestore"
	"docent/internal/testkit/testthreads"
)

// write writes a document as it is.
func write(t *testing.T, address, project, path string, fields map[string]*firestorepb.Value) {
	t.Helper()
	client, ctx := rawFirestore(t, address)
	if _, err := client.UpdateDocument(ctx, &firestorepb.UpdateDocumentRequest{
		Document: &firestorepb.Document{Name: "projects/" + project + "/databases/(default)/documents/" + path, Fields: fields},
	}); err != nil {
		t.Fatal(err)
	}
}

// fieldsOf returns the fields of a thread's document that was updated at noon.
func fieldsOf(items string) map[string]*firestorepb.Value {
	return map[string]*firestorepb.Value{
		"updated": {ValueType: &firestorepb.Value_TimestampValue{TimestampValue: timestamppb.New(testthreads.Noon)}},
		"items":   {ValueType: &firestorepb.Value_StringValue{StringValue: items}},
	}
}

func TestRecent(t *testing.T) {
	t.Parallel()
	address, project := testfirestore.Address(t), testfirestore.Project()
	var calls testfirestore.Calls
	client := open(t, address, project, calls.Record)
	s := threads(t, client, func() time.Time { return testthreads.Noon })
	const n = 120
	var want []string
	for i := range n { // Three of the same instant, each of another visitor.
		updated := testthreads.Noon.Add(time.Duration(i/3) * time.Second)
		thread := testthreads.Thread(fmt.Sprintf("thr_%03d", i), "An answer.", updated)
		testthreads.Put(t, s, fmt.Sprintf("%s%d", visitor, i%3), thread)
		want = append(want, thread.ID)
	}
	// Collections of the same name that are not Docent's.
	owner := strings.Repeat("0f", 32)
	for _, path := range []string{"threads/a", "forums/a/threads/b", "sites/a/visitors/" + owner + "/threads/c"} {
		write(t, address, project, path, fieldsOf("[]"))
	}

	tests := []struct {
		name    string
		since   time.Time
		stop    int // After so many, if not 0.
		want    []string
		queries int
	}{
		{"all", testthreads.Noon, 0, want, 3},
		{"since an instant", testthreads.Noon.Add(39 * time.Second), 0, want[117:], 1},
		{"none", testthreads.Noon.Add(time.Hour), 0, nil, 1},
		{"stopped", testthreads.Noon, 50, nil, 1},
	}
	for _, tt := range tests { // One after another: the calls are counted.
		calls.Take()
		var got []string
		var last time.Time
		unreadable, err := client.Recent(t.Context(), tt.since, func(thread chatkit.Thread) bool {
			if len(thread.Items) != 2 || !last.IsZero() && thread.Updated.After(last) {
				t.Errorf("%s: %+v after %s", tt.name, thread, last)
			}
			last = thread.Updated
			got = append(got, thread.ID)
			return len(got) != tt.stop
		})
		if err != nil || unreadable != 0 {
			t.Fatalf("%s: %d unreadable, %v", tt.name, unreadable, err)
		}
		if n := len(calls.Take()); n != tt.queries {
			t.Errorf("%s: %d calls, want %d", tt.name, n, tt.queries)
		}
		if tt.stop > 0 {
			if len(got) != tt.stop {
				t.Errorf("%s: %d threads", tt.name, len(got))
			}
			continue
		}
		slices.Sort(got)
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}

func TestRecent_Unreadable(t *testing.T) {
	t.Parallel()
	address, project := testfirestore.Address(t), testfirestore.Project()
	client := open(t, address, project)
	s := threads(t, client, func() time.Time { return testthreads.Noon })
	testthreads.Put(t, s, visitor, testthreads.Thread(threadID, "An answer.", testthreads.Noon.Add(-time.Second)))
	for i, items := range []string{"secret", `[{"item":{"type":"secret"}}]`} {
		write(t, address, project, fmt.Sprintf("visitors/%s/threads/thr_%d", ownerOfVisitor, i), fieldsOf(items))
	}
	var got []string
	unreadable, err := client.Recent(t.Context(), testthreads.Noon.Add(-time.Minute), func(thread chatkit.Thread) bool {
		got = append(got, thread.ID)
		return true
	})
	if unreadable != 2 || err != nil || len(got) != 1 || got[0] != threadID {
		t.Errorf("%d unreadable, %v, %v", unreadable, got, err)
	}
}

// console begins the link of an error for an index that is missing.
const console = "https://console.firebase.google.com/v1/r/project/docs-prod/firestore/indexes?create_exemption="

func TestRecent_Faults(t *testing.T) {
	t.Parallel()
	link := console + strings.Repeat("ClBwcm9qZWN0cy9", 20)
	page, err := os.ReadFile("../../docs/operate.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := regexp.MustCompile(`--data '.*'`).FindString(string(page))
	tests := []struct {
		name string
		fail func(context.Context) error
		want []string
		code codes.Code
	}{
		{
			"no index", fails(codes.FailedPrecondition, "The query requires a COLLECTION_GROUP_DESC index for collection threads and field updated. You can create it here: "+link),
			[]string{"Firestore needs one more index", "/projects/docs-prod/databases/(default)/collectionGroups/threads/fields/updated?updateMask=indexConfig'", link + " (projects/p", documented},
			codes.FailedPrecondition,
		},
		{
			"index in the making", fails(codes.FailedPrecondition, "The query requires a COLLECTION_GROUP_DESC index for collection threads and field updated. That index is not ready yet. See its current status: "+link),
			[]string{"still making the index", "try again in some minutes", link},
			codes.FailedPrecondition,
		},
		{
			"Datastore mode", fails(codes.FailedPrecondition, "The Cloud Firestore API is not available for Firestore in Datastore Mode database projects/p."),
			[]string{"Firestore does not work (FailedPrecondition: "},
			codes.FailedPrecondition,
		},
		{
			"no permission", fails(codes.PermissionDenied, "Missing or insufficient permissions."),
			[]string{"gcloud projects add-iam-policy-binding docs-prod --member=user:", "--role=roles/datastore.viewer", "Missing or insufficient"},
			codes.PermissionDenied,
		},
		{"not enabled", disabled(t), []string{"gcloud services enable firestore.googleapis.com"}, codes.PermissionDenied},
		{"no database", fails(codes.NotFound, "The database (default) does not exist."), []string{"gcloud firestore databases create"}, codes.NotFound},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			client := open(t, failing(tt.fail).serve(t), "docs-prod")
			_, err := client.Recent(t.Context(), testthreads.Noon, func(chatkit.Thread) bool { return true })
			if err == nil || causeOf(err) != tt.code {
				t.Fatalf("%v", err)
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("no %q in %v", want, err)
				}
			}
			if strings.Contains(err.Error(), strings.Repeat("0f", 32)) || strings.Contains(err.Error(), "203.0.113.77") {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestRecent_Cancelled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	client := open(t, failing(func(ctx context.Context) error { cancel(); return hang(ctx) }).serve(t), "docs-prod")
	if _, err := client.Recent(ctx, testthreads.Noon, func(chatkit.Thread) bool { return true }); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func TestRecent_BrokenReadIsRepeated(t *testing.T) {
	t.Parallel()
	broken := inTurn(fails(codes.Unavailable, "connection reset by peer"), answers(nil))
	client := open(t, (&standIn{runQuery: broken}).serve(t), "docs-prod")
	if _, err := client.Recent(t.Context(), testthreads.Noon, func(chatkit.Thread) bool { return true }); err != nil {
		t.Error(err)
	}
}
