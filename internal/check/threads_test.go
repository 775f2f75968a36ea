//go:build unix

package check_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"cloud.google.com/go/firestore"
	"cloud.google.com/go/firestore/apiv1/admin/adminpb"
	"cloud.google.com/go/firestore/apiv1/firestorepb"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"docent/internal/check"
	"docent/internal/standin"
	"docent/internal/testkit/testfirestore"
)

// front is a Firestore in front of the emulator. It may refuse what is asked of
// conversations.
type front struct {
	firestorepb.UnimplementedFirestoreServer

	emulator firestorepb.FirestoreClient
	// refuse returns the error for a call: read, write or delete.
	refuse func(call string) error
}

func (f *front) BatchGetDocuments(r *firestorepb.BatchGetDocumentsRequest, answers firestorepb.Firestore_BatchGetDocumentsServer) error {
	if strings.Contains(r.GetDocuments()[0], "/threads/") {
		if err := f.refuse("read"); err != nil {
			return err
		}
	}
	stream, err := f.emulator.BatchGetDocuments(asOwner(answers.Context()), r)
	for err == nil {
		var answer *firestorepb.BatchGetDocumentsResponse
		if answer, err = stream.Recv(); err == nil {
			err = answers.Send(answer)
		}
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

func (f *front) Commit(ctx context.Context, r *firestorepb.CommitRequest) (*firestorepb.CommitResponse, error) {
	for _, w := range r.GetWrites() {
		var call string
		switch {
		case strings.Contains(w.GetDelete(), "/threads/"):
			call = "delete"
		case strings.Contains(w.GetUpdate().GetName(), "/threads/"):
			call = "write"
		default:
			continue
		}
		if err := f.refuse(call); err != nil {
			return nil, err
		}
	}
	return f.emulator.Commit(asOwner(ctx), r)
}

func (f *front) BeginTransaction(ctx context.Context, r *firestorepb.BeginTransactionRequest) (*firestorepb.BeginTransactionResponse, error) {
	return f.emulator.BeginTransaction(asOwner(ctx), r)
}

func (f *front) Rollback(ctx context.Context, r *firestorepb.RollbackRequest) (*emptypb.Empty, error) {
	return f.emulator.Rollback(asOwner(ctx), r)
}

// asOwner passes on what the emulator wants to see.
func asOwner(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer owner")
}

// emulator connects to the emulator.
func emulator(t *testing.T) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+testfirestore.Address(t), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// listen serves and returns the address.
func (f *front) listen(t *testing.T) string {
	t.Helper()
	f.emulator = firestorepb.NewFirestoreClient(emulator(t))
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

// kept counts the conversations of all visitors.
func kept(t *testing.T, project string) int {
	t.Helper()
	client, err := firestore.NewClient(t.Context(), project, option.WithGRPCConn(emulator(t)))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	found, err := client.CollectionGroup("threads").Documents(metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer owner")).GetAll()
	if err != nil {
		t.Fatal(err)
	}
	return len(found)
}

const identity = "IDENTITY_KEY=0123456789abcdef0123456789abcdef"

func TestThreads(t *testing.T) {
	t.Parallel()
	denied := status.Error(codes.PermissionDenied, "Missing or insufficient permissions.")
	tests := []struct {
		name   string
		refuse string // The call that is refused, the first time.
		want   string
		left   int
	}{
		{"works", "", "ok", 0},
		{"no write", "write", "fail writing a conversation: ", 0},
		{"no read", "read", "fail reading a conversation: ", 0},
		{"no deletion", "delete", "fail deleting a conversation: ", 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var calls atomic.Int32
			f := &front{refuse: func(call string) error {
				if call == tt.refuse && calls.Add(1) == 1 {
					return denied
				}
				return nil
			}}
			project := testfirestore.Project()
			env := docsEnvironment(t, standin.NewOpenAI(key, workflow), identity,
				"RATE_LIMIT_STORE=firestore", "FIRESTORE_EMULATOR_HOST="+f.listen(t), "GOOGLE_CLOUD_PROJECT="+project)
			expect(t, result(t, check.Options{Environment: env}, "threads"), tt.want)
			if n := kept(t, project); n != tt.left {
				t.Errorf("%d conversations are left, want %d", n, tt.left)
			}
		})
	}
}

func TestThreads_Memory(t *testing.T) {
	t.Parallel()
	for setting, notes := range map[string]int{"": 0, "CLOUD_RUN_JOB=docent-check": 1} {
		got := result(t, check.Options{Environment: docsEnvironment(t, standin.NewOpenAI(key, workflow), setting, "TRUSTED_PROXIES=cloud-run")}, "threads")
		if got.Status != check.Skipped || len(got.Notes) != notes {
			t.Errorf("with %q: %+v, want it skipped with %d notes", setting, got, notes)
		}
	}
}

func TestThreads_FirestoreDown(t *testing.T) {
	t.Parallel()
	env := docsEnvironment(t, standin.NewOpenAI(key, workflow), identity, "RATE_LIMIT_STORE=firestore", "FIRESTORE_EMULATOR_HOST=127.0.0.1:1")
	o := check.Options{Environment: env}
	for _, name := range []string{"threads", "threads-ttl", "firestore-ttl"} {
		if got := find(t, o, name); got.Status != check.Skipped || got.Detail != "Firestore has to answer first" {
			t.Errorf("%+v, want it skipped", got)
		}
	}
}

func TestThreads_TTLPolicy(t *testing.T) {
	t.Parallel()
	project := testfirestore.Project()
	const noPolicy = "fail no TTL policy on expires_at, so documents are kept and paid for forever: " +
		"gcloud firestore fields ttls update expires_at --collection-group=threads --database='(default)' --project="
	for name, want := range map[string]string{"rate_limits": noPolicy, "threads": "ok"} {
		api := &adminAPI{asked: make(chan *adminpb.ListFieldsRequest, 2), answer: func(parent string) ([]*adminpb.Field, error) {
			if strings.HasSuffix(parent, "/rate_limits") || strings.HasSuffix(parent, "/"+name) {
				return []*adminpb.Field{field("expires_at", adminpb.Field_TtlConfig_ACTIVE)}, nil
			}
			return nil, nil
		}}
		env := docsEnvironment(t, standin.NewOpenAI(key, workflow), identity,
			"RATE_LIMIT_STORE=firestore", "FIRESTORE_EMULATOR_HOST="+testfirestore.Address(t), "GOOGLE_CLOUD_PROJECT="+project)
		expect(t, result(t, check.Options{Environment: env, Admin: api.listen(t)}, "threads-ttl"), want)
	}
}
