package firestore_test

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/bits"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"cloud.google.com/go/firestore/apiv1/firestorepb"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"docent/internal/firestore"
	"docent/internal/ratelimit"
	"docent/internal/testkit/testfirestore"
	"docent/internal/testkit/teststore"
)

const collection = "rate_limits"

// patience is the deadline of calls that hang: long enough for a busy machine
// to make those that do not.
const patience = 2 * time.Second

var idKey = []byte("an identity key for tests, 32 B+")

// open returns a client of an emulator or a stand-in.
func open(t *testing.T, address, project string, change ...func(*firestore.Options)) *firestore.Client {
	t.Helper()
	o := firestore.Options{Project: project, Database: "(default)", Emulator: address}
	for _, c := range change {
		c(&o)
	}
	client, err := firestore.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	})
	return client
}

// openBuckets returns the buckets of an emulator or a stand-in.
func openBuckets(t *testing.T, address, project string, change ...func(*firestore.Options)) *firestore.Buckets {
	t.Helper()
	return buckets(t, open(t, address, project, change...), idKey)
}

func buckets(t *testing.T, c *firestore.Client, idKey []byte) *firestore.Buckets {
	t.Helper()
	b, err := c.Buckets(collection, idKey)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestBuckets(t *testing.T) {
	t.Parallel()
	address := testfirestore.Address(t)
	teststore.Run(t, func(t *testing.T, _ func() time.Time, _ time.Duration) ratelimit.Store {
		t.Helper()
		return openBuckets(t, address, testfirestore.Project())
	})
}

func TestBuckets_SeveralInstances(t *testing.T) {
	t.Parallel()
	address, project := testfirestore.Address(t), testfirestore.Project()
	var instances []ratelimit.Store
	for range 3 {
		instances = append(instances, openBuckets(t, address, project))
	}
	for round := range 5 {
		t.Run(fmt.Sprintf("round %d", round), func(t *testing.T) {
			t.Parallel()
			b := teststore.BucketOf(fmt.Sprintf("192.0.2.%d", round))
			if n := teststore.GrantedAtOnce(t, b, 5, instances...); n != 5 {
				t.Errorf("granted %d of 5", n)
			}
			want := ratelimit.Grant{Before: 5}
			if diff := cmp.Diff(want, teststore.Grant(t, instances[0], b, ratelimit.Ask{N: 1, Limit: 5, Seen: true})); diff != "" {
				t.Errorf("afterwards (-want +got):\n%s", diff)
			}
		})
	}
}

func TestBuckets_RemoteCalls(t *testing.T) {
	t.Parallel()
	address, project := testfirestore.Address(t), testfirestore.Project()
	var made testfirestore.Calls
	client := open(t, address, project, made.Record)
	s, b := buckets(t, client, idKey), teststore.BucketOf("192.0.2.1")
	transaction := []string{"BeginTransaction", "BatchGetDocuments", "Commit"}
	for _, step := range []struct {
		name string
		ask  ratelimit.Ask
		want []string
	}{
		{"the first of a bucket", ratelimit.Ask{N: 1, Limit: 5}, []string{"Commit"}},
		{"the next", ratelimit.Ask{N: 1, Limit: 5, Seen: true}, transaction},
		{"those that fill it", ratelimit.Ask{N: 9, Limit: 5, Seen: true}, transaction},
		{"a full bucket", ratelimit.Ask{N: 1, Limit: 5, Seen: true}, transaction},
		{"another instance's bucket", ratelimit.Ask{N: 1, Limit: 5}, append([]string{"Commit"}, transaction...)},
	} {
		teststore.Grant(t, s, b, step.ask)
		if diff := cmp.Diff(step.want, made.Take()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", step.name, diff)
		}
	}
	if err := s.Return(t.Context(), b, 1); err != nil {
		t.Errorf("Return: %v", err)
	}
	if diff := cmp.Diff(transaction, made.Take()); diff != "" {
		t.Errorf("Return (-want +got):\n%s", diff)
	}
	if err := client.Warm(t.Context(), collection); err != nil {
		t.Errorf("Warm: %v", err)
	}
	if diff := cmp.Diff([]string{"BatchGetDocuments"}, made.Take()); diff != "" {
		t.Errorf("Warm (-want +got):\n%s", diff)
	}
}

// rawFirestore returns a client of the emulator that leaves nothing out.
func rawFirestore(t *testing.T, address string) (firestorepb.FirestoreClient, context.Context) {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return firestorepb.NewFirestoreClient(conn), metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer owner")
}

// documents returns everything that a project holds.
func documents(t *testing.T, address, project string) []*firestorepb.Document {
	t.Helper()
	client, ctx := rawFirestore(t, address)
	root := "projects/" + project + "/databases/(default)/documents"
	collections, err := client.ListCollectionIds(ctx, &firestorepb.ListCollectionIdsRequest{Parent: root})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{collection}, collections.GetCollectionIds()); diff != "" {
		t.Errorf("collections (-want +got):\n%s", diff)
	}
	list, err := client.ListDocuments(ctx, &firestorepb.ListDocumentsRequest{Parent: root, CollectionId: collection, ShowMissing: true})
	if err != nil {
		t.Fatal(err)
	}
	return list.GetDocuments()
}

func idOf(d *firestorepb.Document) string {
	return d.GetName()[strings.LastIndex(d.GetName(), "/")+1:]
}

func TestBuckets_Document(t *testing.T) {
	t.Parallel()
	address, project := testfirestore.Address(t), testfirestore.Project()
	s := openBuckets(t, address, project)
	b := teststore.BucketOf("192.0.2.1")
	expires := b.Window.End().Add(time.Hour)
	for i, ask := range []ratelimit.Ask{{N: 2, Limit: 5}, {N: 2, Limit: 5, Seen: true}} {
		teststore.Grant(t, s, b, ask)
		docs := documents(t, address, project)
		if len(docs) != 1 {
			t.Fatalf("step %d: %d documents, want 1", i, len(docs))
		}
		got := map[string]any{}
		for name, field := range docs[0].GetFields() {
			switch v := field.GetValueType().(type) {
			case *firestorepb.Value_IntegerValue:
				got[name] = v.IntegerValue
			case *firestorepb.Value_TimestampValue:
				got[name] = v.TimestampValue.AsTime()
			default:
				got[name] = fmt.Sprintf("%T", v)
			}
		}
		want := map[string]any{"count": int64(2 * (i + 1)), "expires_at": expires.UTC()}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("step %d (-want +got):\n%s", i, diff)
		}
		if id, err := hex.DecodeString(idOf(docs[0])); err != nil || len(id) != sha256.Size {
			t.Errorf("the ID %q is not a SHA-256 in hex", idOf(docs[0]))
		}
	}
}

// traces returns what an address could be recognised by in stored bytes: the
// address itself, its key, and their hashes, each in the usual writings.
func traces(addr netip.Addr, b ratelimit.Bucket) [][]byte {
	ip := addr.AsSlice()
	key := binary.BigEndian.AppendUint64(nil, uint64(b.Key))
	bucket := binary.BigEndian.AppendUint32(slices.Clone(key), b.Window.Index)
	secrets := [][]byte{ip, []byte(addr.String()), []byte(addr.StringExpanded()), key, bucket}
	for _, s := range slices.Clone(secrets) {
		m, s1, s2, s5 := md5.Sum(s), sha1.Sum(s), sha256.Sum256(s), sha512.Sum512(s)
		secrets = append(secrets, m[:], s1[:], s2[:], s5[:])
	}
	for _, s := range slices.Clone(secrets) {
		reversed := slices.Clone(s)
		slices.Reverse(reversed)
		secrets = append(secrets, reversed)
	}
	var all [][]byte
	for _, s := range secrets {
		all = append(all, s,
			[]byte(hex.EncodeToString(s)), []byte(strings.ToUpper(hex.EncodeToString(s))),
			[]byte(base64.RawStdEncoding.EncodeToString(s)), []byte(base64.RawURLEncoding.EncodeToString(s)))
	}
	for _, n := range []uint64{uint64(b.Key), bits.ReverseBytes64(uint64(b.Key)), uint64(uint32(b.Key))} {
		all = append(all, []byte(strconv.FormatUint(n, 10)), []byte(strconv.FormatUint(n, 36)), binary.AppendUvarint(nil, n))
	}
	return all
}

func TestBuckets_NoAddressStored(t *testing.T) {
	t.Parallel()
	address, project := testfirestore.Address(t), testfirestore.Project()
	s := openBuckets(t, address, project)
	addrs := []netip.Addr{netip.MustParseAddr("203.0.113.77"), netip.MustParseAddr("2001:db8:1234:5678:9abc:def0:1234:5678")}
	for _, addr := range addrs {
		b := teststore.BucketOf(addr.String())
		for range 3 { // Three minutes of one visitor.
			teststore.Grant(t, s, b, ratelimit.Ask{N: 1, Limit: 5})
			b.Window.Index++
		}
	}
	docs := documents(t, address, project)
	if len(docs) != 6 {
		t.Fatalf("%d documents, want one for each address and minute", len(docs))
	}
	for _, d := range docs {
		// Times apart: they are the server's, and any number may turn up in one.
		d.CreateTime, d.UpdateTime = nil, nil
		stored, err := proto.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		id, err := hex.DecodeString(idOf(d))
		if err != nil {
			t.Fatal(err)
		}
		for _, addr := range addrs {
			b := teststore.BucketOf(addr.String())
			for range 3 {
				for _, trace := range traces(addr, b) {
					if bytes.Contains(stored, trace) || len(trace) >= 4 && bytes.Contains(id, trace) {
						t.Errorf("%s can be recognised by %q in %v", addr, trace, d)
					}
				}
				b.Window.Index++
			}
		}
	}

	t.Run("IDs have nothing in common", func(t *testing.T) {
		t.Parallel()
		for i, d := range docs {
			for _, other := range docs[:i] {
				same := 0
				for k := range len(idOf(d)) {
					if idOf(d)[k] == idOf(other)[k] {
						same++
					}
				}
				// Of 64 random digits 4 are the same on average; 20 are not, once
				// in a thousand million.
				if same > 20 {
					t.Errorf("%s and %s have %d digits in common", idOf(d), idOf(other), same)
				}
			}
		}
	})

	t.Run("another key makes other IDs", func(t *testing.T) {
		t.Parallel()
		project := testfirestore.Project()
		s := buckets(t, open(t, address, project), []byte("another identity key, 32 bytes +"))
		teststore.Grant(t, s, teststore.BucketOf(addrs[0].String()), ratelimit.Ask{N: 1, Limit: 5})
		for _, d := range documents(t, address, project) {
			if slices.ContainsFunc(docs, func(other *firestorepb.Document) bool { return idOf(other) == idOf(d) }) {
				t.Errorf("%s does not depend on the key", idOf(d))
			}
		}
	})
}

func TestGrant_InvalidDocument(t *testing.T) {
	t.Parallel()
	address, project := testfirestore.Address(t), testfirestore.Project()
	s, b := openBuckets(t, address, project), teststore.BucketOf("192.0.2.1")
	teststore.Grant(t, s, b, ratelimit.Ask{N: 1, Limit: 5})
	doc := documents(t, address, project)[0]
	for name, fields := range map[string]map[string]*firestorepb.Value{
		"no count":       {},
		"a text":         {"count": {ValueType: &firestorepb.Value_StringValue{StringValue: "1"}}},
		"less than none": {"count": {ValueType: &firestorepb.Value_IntegerValue{IntegerValue: -5}}},
	} {
		client, ctx := rawFirestore(t, address)
		if _, err := client.UpdateDocument(ctx, &firestorepb.UpdateDocumentRequest{
			Document: &firestorepb.Document{Name: doc.GetName(), Fields: fields},
		}); err != nil {
			t.Fatal(err)
		}
		g, err := s.Grant(t.Context(), b, ratelimit.Ask{N: 1, Limit: 5})
		if err == nil || g.N != 0 || errors.Is(err, ratelimit.ErrContended) {
			t.Errorf("%s: %+v, %v", name, g, err)
		}
	}
}

// lockBuckets returns n buckets whose documents, which do not exist, are locked
// by another client's transaction until the test ends.
func lockBuckets(t *testing.T, address, project string, n int) []string {
	t.Helper()
	// A bucket has the same ID in every project.
	elsewhere := testfirestore.Project()
	s := openBuckets(t, address, elsewhere)
	var addrs []string
	for i := range n {
		addrs = append(addrs, fmt.Sprintf("192.0.2.%d", i))
		teststore.Grant(t, s, teststore.BucketOf(addrs[i]), ratelimit.Ask{N: 1, Limit: 5})
	}
	var names []string
	for _, d := range documents(t, address, elsewhere) {
		names = append(names, strings.Replace(d.GetName(), elsewhere, project, 1))
	}
	client, ctx := rawFirestore(t, address)
	database := "projects/" + project + "/databases/(default)"
	tx, err := client.BeginTransaction(ctx, &firestorepb.BeginTransactionRequest{Database: database})
	if err != nil {
		t.Fatal(err)
	}
	read, err := client.BatchGetDocuments(ctx, &firestorepb.BatchGetDocumentsRequest{
		Database: database, Documents: names,
		ConsistencySelector: &firestorepb.BatchGetDocumentsRequest_Transaction{Transaction: tx.GetTransaction()},
	})
	if err != nil {
		t.Fatal(err)
	}
	for range names {
		if _, err := read.Recv(); err != nil {
			t.Fatal(err)
		}
	}
	return addrs
}

// Each of twenty instances, in its first call, meets a bucket that is locked for
// longer than it waits, while the machine is busy. To count alone would pass the
// limit.
func TestLimiter_LockedDocument(t *testing.T) {
	t.Parallel()
	address, project := testfirestore.Address(t), testfirestore.Project()
	addrs := lockBuckets(t, address, project, 20)
	var instances sync.WaitGroup
	for _, addr := range addrs {
		store := openBuckets(t, address, project)
		var log strings.Builder
		l := ratelimit.New(ratelimit.Options{
			Name: "per-ip", Limit: 5, Window: time.Minute, Ceiling: 1_000_000, Store: store, StoreTimeout: 1500 * time.Millisecond,
			Log: slog.New(slog.NewTextHandler(&log, nil)), Now: func() time.Time { return teststore.Noon },
		})
		instances.Go(func() {
			d, err := l.Take(t.Context(), ratelimit.KeyOf(netip.MustParseAddr(addr)))
			if err != nil || d.Refused != ratelimit.ByContention || log.String() != "" {
				t.Errorf("%s: %+v, %v, want a refusal; the log has %q", addr, d, err, log.String())
			}
		})
	}
	instances.Wait()
}

// lose lets the nth Commit happen and then loses its answer, as a connection
// does that breaks.
func lose(nth int) func(*firestore.Options) {
	var mu sync.Mutex
	commits := 0
	return func(o *firestore.Options) {
		o.DialOptions = append(o.DialOptions, grpc.WithChainUnaryInterceptor(
			func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
				err := invoke(ctx, method, req, reply, cc, opts...)
				mu.Lock()
				defer mu.Unlock()
				if method != firestorepb.Firestore_Commit_FullMethodName || err != nil {
					return err
				}
				if commits++; commits == nth {
					return status.Error(codes.Unavailable, "connection reset by peer")
				}
				return nil
			}))
	}
}

func TestGrant_AnswerLost(t *testing.T) {
	t.Parallel()
	address := testfirestore.Address(t)
	for name, nth := range map[string]int{"of a Create": 1, "of a transaction": 2} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, b := openBuckets(t, address, testfirestore.Project(), lose(nth)), teststore.BucketOf("192.0.2.1")
			granted := 0
			for i := range 4 {
				granted += teststore.Grant(t, s, b, ratelimit.Ask{N: 2, Limit: 5, Seen: i > 0}).N
			}
			if granted != 3 {
				t.Errorf("granted %d, want 5 less the 2 whose answer was lost", granted)
			}
		})
	}
}

// standIn is a Firestore on loopback that does what a test tells it.
type standIn struct {
	firestorepb.UnimplementedFirestoreServer

	commit   func(context.Context, *firestorepb.CommitRequest) error
	begin    func(context.Context) error
	batchGet func(context.Context) error
	runQuery func(context.Context) error
	rollback func(context.Context) error
	// fields are those of every document that is read. Without any, it is missing.
	fields map[string]*firestorepb.Value
}

func (s *standIn) Commit(ctx context.Context, r *firestorepb.CommitRequest) (*firestorepb.CommitResponse, error) {
	var results []*firestorepb.WriteResult
	for range r.GetWrites() {
		results = append(results, &firestorepb.WriteResult{})
	}
	return &firestorepb.CommitResponse{WriteResults: results}, s.commit(ctx, r)
}

func (s *standIn) BeginTransaction(ctx context.Context, _ *firestorepb.BeginTransactionRequest) (*firestorepb.BeginTransactionResponse, error) {
	return &firestorepb.BeginTransactionResponse{Transaction: []byte("1")}, s.begin(ctx)
}

func (s *standIn) BatchGetDocuments(r *firestorepb.BatchGetDocumentsRequest, stream firestorepb.Firestore_BatchGetDocumentsServer) error {
	if err := s.batchGet(stream.Context()); err != nil {
		return err
	}
	if s.fields != nil {
		now := timestamppb.Now()
		return stream.Send(&firestorepb.BatchGetDocumentsResponse{ReadTime: now, Result: &firestorepb.BatchGetDocumentsResponse_Found{
			Found: &firestorepb.Document{Name: r.GetDocuments()[0], Fields: s.fields, CreateTime: now, UpdateTime: now},
		}})
	}
	return stream.Send(&firestorepb.BatchGetDocumentsResponse{
		Result: &firestorepb.BatchGetDocumentsResponse_Missing{Missing: r.GetDocuments()[0]},
	})
}

func (s *standIn) RunQuery(_ *firestorepb.RunQueryRequest, stream firestorepb.Firestore_RunQueryServer) error {
	return s.runQuery(stream.Context())
}

func (s *standIn) Rollback(ctx context.Context, _ *firestorepb.RollbackRequest) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, s.rollback(ctx)
}

// serve starts the stand-in, which answers whatever it was told nothing about.
func (s *standIn) serve(t *testing.T) (address string) {
	t.Helper()
	well := answers(nil)
	if s.commit == nil {
		s.commit = commits(well)
	}
	for _, f := range []*func(context.Context) error{&s.begin, &s.batchGet, &s.runQuery, &s.rollback} {
		if *f == nil {
			*f = well
		}
	}
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	firestorepb.RegisterFirestoreServer(server, s)
	go func() { _ = server.Serve(l) }()
	t.Cleanup(server.Stop)
	return l.Addr().String()
}

// hang leaves a call unanswered.
func hang(ctx context.Context) error {
	<-ctx.Done()
	return status.FromContextError(ctx.Err()).Err()
}

func answers(err error) func(context.Context) error {
	return func(context.Context) error { return err }
}

// inTurn answers each call with the next of the functions, and all after the
// last with that.
func inTurn(fs ...func(context.Context) error) func(context.Context) error {
	var mu sync.Mutex
	i := -1
	return func(ctx context.Context) error {
		mu.Lock()
		i = min(i+1, len(fs)-1)
		f := fs[i]
		mu.Unlock()
		return f(ctx)
	}
}

func commits(f func(context.Context) error) func(context.Context, *firestorepb.CommitRequest) error {
	return func(ctx context.Context, _ *firestorepb.CommitRequest) error { return f(ctx) }
}

// fails answers with an error as Firestore words it, with everything in it that
// must not get into a log: a document's ID and addresses.
func fails(code codes.Code, message string) func(context.Context) error {
	return answers(status.Error(code, message+" (projects/p/databases/(default)/documents/rate_limits/"+
		strings.Repeat("0f", sha256.Size)+" from 203.0.113.77:443 and [2001:db8::1]:443)"))
}

const named = " (projects/p/databases/(default)/documents/rate_limits/… from … and …)"

func disabled(t *testing.T) func(context.Context) error {
	t.Helper()
	s, err := status.New(codes.PermissionDenied, "Cloud Firestore API has not been used in project p before or it is disabled.").
		WithDetails(&errdetails.ErrorInfo{Reason: "SERVICE_DISABLED", Domain: "googleapis.com"})
	if err != nil {
		t.Fatal(err)
	}
	return answers(s.Err())
}

const (
	silent      = "Firestore does not answer: start the emulator that FIRESTORE_EMULATOR_HOST names, or unset the variable"
	unreachable = "Firestore cannot be reached: start the emulator that FIRESTORE_EMULATOR_HOST names, or unset the variable"
	denied      = "Firestore refuses the service account that Docent runs as: gcloud projects add-iam-policy-binding docs-prod --member=serviceAccount:SERVICE_ACCOUNT --role=roles/datastore.user"
	exhausted   = "Firestore's quota is used up: raise it or enable billing: https://console.cloud.google.com/iam-admin/quotas?project=docs-prod"
)

func TestGrant_Faults(t *testing.T) {
	t.Parallel()
	contended := ratelimit.ErrContended.Error()
	tests := []struct {
		name   string
		server standIn
		seen   bool
		code   codes.Code // Of the cause.
		want   string
	}{
		{
			name:   "hanging",
			server: standIn{commit: commits(hang)},
			code:   codes.DeadlineExceeded,
			want:   silent,
		},
		{
			name:   "hanging, bucket seen",
			server: standIn{begin: hang},
			seen:   true,
			code:   codes.DeadlineExceeded,
			want:   silent,
		},
		{
			name:   "permission denied",
			server: standIn{commit: commits(fails(codes.PermissionDenied, "Missing or insufficient permissions."))},
			code:   codes.PermissionDenied,
			want:   denied + " (PermissionDenied: Missing or insufficient permissions." + named + ")",
		},
		{
			name:   "permission denied to read",
			server: standIn{batchGet: fails(codes.PermissionDenied, "Missing or insufficient permissions.")},
			seen:   true,
			code:   codes.PermissionDenied,
			want:   denied + " (PermissionDenied: Missing or insufficient permissions." + named + ")",
		},
		{
			name:   "not enabled",
			server: standIn{commit: commits(disabled(t))},
			code:   codes.PermissionDenied,
			want:   "Firestore is not enabled in project docs-prod: gcloud services enable firestore.googleapis.com --project=docs-prod",
		},
		{
			name:   "no database",
			server: standIn{commit: commits(fails(codes.NotFound, "The database (default) does not exist for project docs-prod"))},
			code:   codes.NotFound,
			want: "Firestore has no database (default) in project docs-prod: gcloud firestore databases create --database='(default)' --project=docs-prod --location=LOCATION" +
				" (NotFound: The database (default) does not exist for project docs-prod" + named + ")",
		},
		{
			name:   "no database, bucket seen",
			server: standIn{begin: fails(codes.NotFound, "The database (default) does not exist for project docs-prod")},
			seen:   true,
			code:   codes.NotFound,
			want: "Firestore has no database (default) in project docs-prod: gcloud firestore databases create --database='(default)' --project=docs-prod --location=LOCATION" +
				" (NotFound: The database (default) does not exist for project docs-prod" + named + ")",
		},
		{
			name:   "quota",
			server: standIn{commit: commits(fails(codes.ResourceExhausted, "Quota exceeded."))},
			code:   codes.ResourceExhausted,
			want:   exhausted + " (ResourceExhausted: Quota exceeded." + named + ")",
		},
		{
			name:   "quota of writes alone",
			server: standIn{commit: commits(inTurn(answers(status.Error(codes.AlreadyExists, "")), fails(codes.ResourceExhausted, "Quota exceeded.")))},
			code:   codes.ResourceExhausted,
			want:   exhausted + " (ResourceExhausted: Quota exceeded." + named + ")",
		},
		{
			name:   "unavailable",
			server: standIn{commit: commits(fails(codes.Unavailable, "The service is\n currently unavailable."))},
			code:   codes.Unavailable,
			want:   unreachable + " (Unavailable: The service is currently unavailable." + named + ")",
		},
		{
			name:   "unavailable, bucket seen",
			server: standIn{batchGet: fails(codes.Unavailable, "The service is currently unavailable.")},
			seen:   true,
			code:   codes.Unavailable,
			want:   unreachable + " (Unavailable: The service is currently unavailable." + named + ")",
		},
		{
			name:   "unavailable, then hanging",
			server: standIn{commit: commits(inTurn(fails(codes.Unavailable, "Going away."), hang))},
			code:   codes.Unavailable,
			want:   unreachable + " (Unavailable: Going away." + named + ")",
		},
		{
			name:   "credentials",
			server: standIn{commit: commits(fails(codes.Unauthenticated, "Request had invalid authentication credentials."))},
			code:   codes.Unauthenticated,
			want: "Firestore does not accept Docent's credentials: on a workstation run gcloud auth application-default login, on Cloud Run check the service account" +
				" (Unauthenticated: Request had invalid authentication credentials." + named + ")",
		},
		{
			name:   "Datastore mode",
			server: standIn{commit: commits(fails(codes.FailedPrecondition, "The Cloud Firestore API is not available for Firestore in Datastore Mode."))},
			code:   codes.FailedPrecondition,
			want:   "Firestore does not work (FailedPrecondition: The Cloud Firestore API is not available for Firestore in Datastore Mode." + named + ")",
		},
		{
			name:   "aborted to the last attempt",
			server: standIn{commit: commits(fails(codes.Aborted, "Too much contention on these documents. Please try again."))},
			want:   contended,
		},
		{
			name:   "aborted to the last attempt, bucket seen",
			server: standIn{batchGet: fails(codes.Aborted, "The transaction was aborted.")},
			seen:   true,
			want:   contended,
		},
		{
			name:   "aborted before it began",
			server: standIn{begin: fails(codes.Aborted, "The transaction was aborted.")},
			seen:   true,
			want:   contended,
		},
		{
			name:   "broken once, then aborted to the last attempt",
			server: standIn{commit: commits(inTurn(fails(codes.Unavailable, "Going away."), fails(codes.Aborted, "Please try again.")))},
			seen:   true,
			want:   contended,
		},
		{
			name:   "created by another instance, which has the lock",
			server: standIn{commit: commits(fails(codes.AlreadyExists, "Document already exists.")), batchGet: hang},
			want:   contended,
		},
		{
			name:   "created by another instance, then no answer",
			server: standIn{commit: commits(fails(codes.AlreadyExists, "Document already exists.")), begin: hang},
			want:   contended,
		},
		{
			name:   "created by another instance, then unavailable",
			server: standIn{commit: commits(fails(codes.AlreadyExists, "Document already exists.")), begin: fails(codes.Unavailable, "Going away.")},
			code:   codes.Unavailable,
			want:   unreachable + " (Unavailable: Going away." + named + ")",
		},
		{
			name: "created by another instance, then unavailable and no answer",
			server: standIn{
				commit: commits(fails(codes.AlreadyExists, "Document already exists.")),
				begin:  inTurn(fails(codes.Unavailable, "Going away."), hang),
			},
			code: codes.Unavailable,
			want: unreachable + " (Unavailable: Going away." + named + ")",
		},
		{
			name:   "waiting for the lock to the store's own deadline",
			server: standIn{commit: commits(fails(codes.DeadlineExceeded, "Lock timeout."))},
			seen:   true,
			want:   contended,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := openBuckets(t, test.server.serve(t), "docs-prod")
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			g, err := s.Grant(ctx, teststore.BucketOf("192.0.2.1"), ratelimit.Ask{N: 1, Limit: 5, Seen: test.seen})
			if err == nil || g != (ratelimit.Grant{}) {
				t.Fatalf("Grant = %+v, %v; want an error", g, err)
			}
			if diff := cmp.Diff(test.want, err.Error()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if is := errors.Is(err, ratelimit.ErrContended); is != (test.want == contended) {
				t.Errorf("contended: %v", is)
			}
			if code := causeOf(err); test.want != contended && code != test.code {
				t.Errorf("the cause is %v, want %v", code, test.code)
			}
		})
	}
}

func causeOf(err error) codes.Code {
	if errors.Is(err, context.DeadlineExceeded) {
		return codes.DeadlineExceeded
	}
	return status.Code(err)
}

func TestGrant_OneDocumentHangs(t *testing.T) {
	t.Parallel()
	waiting := make(chan struct{})
	first := func(ctx context.Context) error {
		close(waiting)
		return hang(ctx)
	}
	server := standIn{commit: commits(inTurn(first, answers(nil)))}
	s := openBuckets(t, server.serve(t), "docs-prod")
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	hung := make(chan error)
	go func() {
		_, err := s.Grant(ctx, teststore.BucketOf("192.0.2.1"), ratelimit.Ask{N: 1, Limit: 5})
		hung <- err
	}()
	<-waiting
	teststore.Grant(t, s, teststore.BucketOf("192.0.2.2"), ratelimit.Ask{N: 1, Limit: 5})
	if err := <-hung; !errors.Is(err, ratelimit.ErrContended) {
		t.Errorf("the bucket that hangs: %v, want contention", err)
	}
}

// The quota of writes is used up, not that of reads: the caller learns why, however
// many reads succeed.
func TestGrant_QuotaWhileReadsWork(t *testing.T) {
	t.Parallel()
	var server standIn
	client := open(t, server.serve(t), "docs-prod", func(o *firestore.Options) {
		// Not in the server, where the deadline could fall between call and answer.
		o.DialOptions = append(o.DialOptions, grpc.WithChainUnaryInterceptor(
			func(context.Context, string, any, any, *grpc.ClientConn, grpc.UnaryInvoker, ...grpc.CallOption) error {
				return status.Error(codes.ResourceExhausted, "Quota exceeded.")
			}))
	})
	s := buckets(t, client, idKey)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	failed := make(chan error)
	go func() {
		_, err := s.Grant(ctx, teststore.BucketOf("192.0.2.1"), ratelimit.Ask{N: 1, Limit: 5})
		failed <- err
	}()
	for {
		select {
		case err := <-failed:
			if diff := cmp.Diff(exhausted+" (ResourceExhausted: Quota exceeded.)", fmt.Sprint(err)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			return
		default:
			if err := client.Warm(t.Context(), collection); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestGrant_Cancelled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	server := standIn{commit: commits(func(ctx context.Context) error {
		cancel()
		return hang(ctx)
	})}
	s := openBuckets(t, server.serve(t), "docs-prod")
	_, err := s.Grant(ctx, teststore.BucketOf("192.0.2.1"), ratelimit.Ask{N: 1, Limit: 5})
	if !errors.Is(err, context.Canceled) || errors.Is(err, ratelimit.ErrContended) {
		t.Errorf("Grant: %v, want context.Canceled", err)
	}
}

func TestGrant_BrokenReadIsRepeated(t *testing.T) {
	t.Parallel()
	server := standIn{batchGet: inTurn(fails(codes.Unavailable, "connection reset"), answers(nil))}
	s := openBuckets(t, server.serve(t), "docs-prod")
	want := ratelimit.Grant{N: 1}
	if diff := cmp.Diff(want, teststore.Grant(t, s, teststore.BucketOf("192.0.2.1"), ratelimit.Ask{N: 1, Limit: 5, Seen: true})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestGrant_RollbackInBackground(t *testing.T) {
	t.Parallel()
	rolledBack, release := make(chan struct{}), make(chan struct{})
	server := standIn{
		batchGet: fails(codes.PermissionDenied, "Missing or insufficient permissions."),
		rollback: func(context.Context) error {
			close(rolledBack)
			<-release
			return nil
		},
	}
	s := openBuckets(t, server.serve(t), "docs-prod")
	start := time.Now()
	if _, err := s.Grant(t.Context(), teststore.BucketOf("192.0.2.1"), ratelimit.Ask{N: 1, Limit: 5, Seen: true}); err == nil {
		t.Error("Grant did not fail")
	}
	// The client gives a rollback up after five seconds.
	if took := time.Since(start); took > ratelimit.StoreTimeout {
		t.Errorf("Grant took %v", took)
	}
	<-rolledBack // It was sent all the same.
	close(release)
}

func TestGrant_NothingListens(t *testing.T) {
	t.Parallel()
	s := openBuckets(t, "127.0.0.1:1", "docs-prod") // No other test is given that port.
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, err := s.Grant(ctx, teststore.BucketOf("192.0.2.1"), ratelimit.Ask{N: 1, Limit: 5})
	if err == nil || errors.Is(err, ratelimit.ErrContended) {
		t.Fatalf("Grant: %v, want an outage", err)
	}
	want := unreachable + ` (Unavailable: connection error: desc = "transport: Error while dialing: dial tcp …: connect: connection refused")`
	if diff := cmp.Diff(want, err.Error()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestWarm(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		batchGet func(context.Context) error
		want     string
	}{
		"well":    {answers(nil), "<nil>"},
		"hanging": {hang, silent},
		"unavailable": {
			fails(codes.Unavailable, "Going away."),
			unreachable + " (Unavailable: Going away." + named + ")",
		},
		"denied": {
			fails(codes.PermissionDenied, "Missing or insufficient permissions."),
			denied + " (PermissionDenied: Missing or insufficient permissions." + named + ")",
		},
		"no database": {
			fails(codes.NotFound, "The database docent does not exist for project docs-prod"),
			"Firestore has no database docent in project docs-prod: gcloud firestore databases create --database='docent' --project=docs-prod --location=LOCATION" +
				" (NotFound: The database docent does not exist for project docs-prod" + named + ")",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := standIn{batchGet: test.batchGet}
			client := open(t, server.serve(t), "docs-prod", func(o *firestore.Options) { o.Database = "docent" })
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			if diff := cmp.Diff(test.want, fmt.Sprint(client.Warm(ctx, collection))); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestGrant_EmulatorRestarted stops the emulator under a store that is in use, and
// starts it again.
func TestGrant_EmulatorRestarted(t *testing.T) {
	t.Parallel()
	emulator := testfirestore.Own(t)
	s, b := openBuckets(t, emulator.Address(), testfirestore.Project()), teststore.BucketOf("192.0.2.1")
	teststore.Grant(t, s, b, ratelimit.Ask{N: 5, Limit: 5})

	emulator.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, err := s.Grant(ctx, b, ratelimit.Ask{N: 1, Limit: 5, Seen: true})
	if err == nil || errors.Is(err, ratelimit.ErrContended) || !strings.HasPrefix(err.Error(), unreachable) {
		t.Errorf("while it is away: %v, want an outage", err)
	}

	if err := emulator.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), time.Minute) // Of a cold Java.
	defer cancel()
	g, err := s.Grant(ctx, b, ratelimit.Ask{N: 1, Limit: 5, Seen: true})
	if want := (ratelimit.Grant{N: 1}); err != nil || g != want {
		t.Errorf("when it is back: %+v, %v; want %+v of an empty bucket", g, err, want)
	}
}

// serviceAccount writes the key file of a service account, whose tokens are signed
// on this machine, and has it found as on a workstation.
func serviceAccount(t *testing.T) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	file, err := json.Marshal(map[string]string{
		"type":           "service_account",
		"project_id":     "docs-prod",
		"private_key_id": "1",
		"private_key":    string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
		"client_email":   "docent@docs-prod.iam.gserviceaccount.com",
		"token_uri":      "http://127.0.0.1:1/token",
	})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "key.json")
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", path)
}

// TestOpen_WithCredentials takes the way that Cloud Run takes, but for the
// last step: the connection ends at a stand-in on loopback.
func TestOpen_WithCredentials(t *testing.T) {
	t.Setenv("FIRESTORE_EMULATOR_HOST", "")
	serviceAccount(t)
	authorized, dialled := make(chan []string, 1), make(chan string, 1)
	server := standIn{commit: commits(inTurn(
		func(ctx context.Context) error {
			authorized <- metadata.ValueFromIncomingContext(ctx, "authorization")
			return nil
		},
		hang,
		fails(codes.Unavailable, "Going away."),
	))}
	address := server.serve(t)
	var made testfirestore.Calls
	s := openBuckets(t, "", "docs-prod", made.Record, func(o *firestore.Options) {
		o.DialOptions = append(o.DialOptions,
			grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithContextDialer(func(ctx context.Context, target string) (net.Conn, error) {
				dialled <- target
				return (&net.Dialer{}).DialContext(ctx, "tcp", address)
			}))
	})
	teststore.Grant(t, s, teststore.BucketOf("192.0.2.1"), ratelimit.Ask{N: 1, Limit: 5})
	if target := <-dialled; target != "firestore.googleapis.com:443" {
		t.Errorf("connected to %s", target)
	}
	if tokens := <-authorized; len(tokens) != 1 || !strings.HasPrefix(tokens[0], "Bearer ey") {
		t.Errorf("%d tokens, want a signed one", len(tokens))
	}
	if diff := cmp.Diff([]string{"Commit"}, made.Take()); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
	for _, want := range []string{
		"Firestore does not answer: check the way to firestore.googleapis.com, and https://status.cloud.google.com",
		"Firestore cannot be reached: check the way to firestore.googleapis.com, and https://status.cloud.google.com (Unavailable: Going away." + named + ")",
	} {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		_, err := s.Grant(ctx, teststore.BucketOf("192.0.2.1"), ratelimit.Ask{N: 1, Limit: 5})
		if diff := cmp.Diff(want, fmt.Sprint(err)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}

func TestOpen_WithoutCredentials(t *testing.T) {
	t.Setenv("FIRESTORE_EMULATOR_HOST", "")
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", filepath.Join(t.TempDir(), "missing.json"))
	_, err := firestore.Open(t.Context(), firestore.Options{Project: "docs-prod", Database: "(default)"})
	if err == nil || !strings.Contains(err.Error(), "gcloud auth application-default login") {
		t.Errorf("Open: %v, want what to do", err)
	}
}

func TestOpen_Refused(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*firestore.Options){
		"no project":  func(o *firestore.Options) { o.Project = "" },
		"no database": func(o *firestore.Options) { o.Database = "" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := firestore.Options{Project: "docs-prod", Database: "(default)", Emulator: "127.0.0.1:1"}
			change(&o)
			if c, err := firestore.Open(t.Context(), o); err == nil {
				_ = c.Close()
				t.Error("Open did not refuse it")
			}
		})
	}
}

func TestBuckets_Refused(t *testing.T) {
	t.Parallel()
	client := open(t, "127.0.0.1:1", "docs-prod")
	for _, tt := range []struct {
		name, collection string
		idKey            []byte
	}{
		{"no collection", "", idKey},
		{"a subcollection", "a/b/c", idKey},
		{"no key", collection, nil},
		{"a key that can be guessed", collection, idKey[1:]},
	} {
		if _, err := client.Buckets(tt.collection, tt.idKey); err == nil {
			t.Errorf("%s: not refused", tt.name)
		}
	}
}

// Two limiters of different names count the same address in different documents,
// whatever their windows are.
func TestBuckets_NamesDoNotMeet(t *testing.T) {
	t.Parallel()
	address, project := testfirestore.Address(t), testfirestore.Project()
	s := openBuckets(t, address, project)
	addr := netip.MustParseAddr("192.0.2.1")
	for _, name := range []string{"per-ip", "messages", "per-ip-day", ""} {
		for _, length := range []time.Duration{time.Minute, 24 * time.Hour} {
			b := ratelimit.Bucket{Name: name, Key: ratelimit.KeyOf(addr), Window: ratelimit.WindowOf(teststore.Noon, length)}
			if g := teststore.Grant(t, s, b, ratelimit.Ask{N: 9, Limit: 5}); g.Before != 0 || g.N != 5 {
				t.Errorf("%q, %s: %+v, want 5 from a bucket of its own", name, length, g)
			}
		}
	}
	if n := len(documents(t, address, project)); n != 8 {
		t.Errorf("%d documents, want 8", n)
	}
}
