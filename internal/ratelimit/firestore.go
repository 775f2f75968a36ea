package ratelimit

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"cloud.google.com/go/firestore"
	"cloud.google.com/go/firestore/apiv1/firestorepb"
	"github.com/googleapis/gax-go/v2/apierror"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
)

const (
	// keepFor is how long a bucket is kept after its minute, for a person who
	// looks into a complaint. A TTL policy on expires_at deletes it then.
	keepFor = time.Hour
	// minIDKey is the length in bytes that makes guessing the key hopeless.
	minIDKey = 32
	// rollbackTimeout bounds the clean-up behind a transaction that failed.
	rollbackTimeout = 5 * time.Second
)

// FirestoreOptions say where the buckets are. All are required but Emulator
// and DialOptions.
type FirestoreOptions struct {
	Project    string
	Database   string
	Collection string
	// Emulator is the host and port of an emulator, if Firestore is one.
	Emulator string
	// DialOptions are added to those of the connection.
	DialOptions []grpc.DialOption
}

// Firestore counts buckets for any number of instances, in one document each.
type Firestore struct {
	client     *firestore.Client
	collection *firestore.CollectionRef
	idKey      []byte
	project    string
	database   string
	emulated   bool

	// answers counts the replies which only a store that is well gives.
	answers atomic.Uint64
}

// bucketDocument is a bucket as it is stored: nothing that tells whose it is.
type bucketDocument struct {
	Count     int       `firestore:"count"`
	ExpiresAt time.Time `firestore:"expires_at"`
}

// OpenFirestore returns a store that has not connected yet: [Firestore.Warm]
// does. It counts as soon as it has its key, by [Firestore.UseIDKey]. It fails
// where options or credentials are missing.
func OpenFirestore(ctx context.Context, o FirestoreOptions) (*Firestore, error) {
	if o.Project == "" || o.Database == "" {
		return nil, errors.New("no Firestore project or database was named")
	}
	if o.Collection == "" || strings.Contains(o.Collection, "/") {
		return nil, fmt.Errorf("%q cannot be a Firestore collection", o.Collection)
	}
	emulator := o.Emulator
	f := &Firestore{project: o.Project, database: o.Database, emulated: emulator != ""}
	transport, err := f.transport(emulator, o.DialOptions)
	if err != nil {
		return nil, err
	}
	f.client, err = firestore.NewClientWithDatabase(ctx, o.Project, o.Database, transport...)
	if err != nil {
		return nil, fmt.Errorf("opening Firestore (on a workstation it takes: gcloud auth application-default login): %w", err)
	}
	f.collection = f.client.Collection(o.Collection)
	return f, nil
}

// transport returns the client options that make one connection of ours.
func (f *Firestore) transport(emulator string, more []grpc.DialOption) ([]option.ClientOption, error) {
	dial := append([]grpc.DialOption{
		grpc.WithChainUnaryInterceptor(f.unary),
		grpc.WithChainStreamInterceptor(f.stream),
		// gRPC's own pauses between attempts to connect grow to two minutes, in
		// which Firestore would be back and its instances would not notice. An
		// attempt longer than anybody waits for is of no use either.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
			MinConnectTimeout: StoreTimeout,
		}),
		// A connection that has died in silence, as one does while Cloud Run keeps
		// the instance frozen, is found within a call. Google's clients ping as
		// often elsewhere.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 3 * time.Second}),
	}, more...)
	if emulator != "" {
		// The client's own connection to an emulator takes no dial options.
		dial = append(dial, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithPerRPCCredentials(emulatorOwner{}))
		conn, err := grpc.NewClient("passthrough:///"+emulator, dial...)
		if err != nil {
			return nil, fmt.Errorf("connecting to the Firestore emulator: %w", err)
		}
		return []option.ClientOption{option.WithGRPCConn(conn)}, nil
	}
	// One connection carries a hundred calls at a time; the gate needs fewer.
	// Nobody reads the telemetry, which would cost every start its set-up.
	options := []option.ClientOption{option.WithGRPCConnectionPool(1), option.WithTelemetryDisabled()}
	for _, d := range dial {
		options = append(options, option.WithGRPCDialOption(d))
	}
	return options, nil
}

// emulatorOwner is how every Google client tells an emulator that its security
// rules do not apply.
type emulatorOwner struct{}

func (emulatorOwner) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer owner"}, nil
}

func (emulatorOwner) RequireTransportSecurity() bool { return false }

// Close closes the connection.
func (f *Firestore) Close() error {
	if err := f.client.Close(); err != nil {
		return fmt.Errorf("closing Firestore: %w", err)
	}
	return nil
}

// Warm opens the connection and fetches a token by reading a document, which
// need not exist, so that the first visitor does not wait for it. Its error
// says what the operator must do.
func (f *Firestore) Warm(ctx context.Context) error {
	c, ctx := f.begin(ctx)
	// Not Get, for which a missing document is an error like a missing database.
	if _, err := f.client.GetAll(ctx, []*firestore.DocumentRef{f.collection.Doc("warm")}); err != nil {
		return f.outage(c, err)
	}
	return nil
}

// UseIDKey sets the secret behind the documents' IDs, of 32 bytes or more, before
// the first Grant. It must be the same on all instances, and serve nothing else.
// It is apart from the options so that it can be fetched while the connection is
// opened.
func (f *Firestore) UseIDKey(key []byte) { f.idKey = slices.Clone(key) }

// Grant implements [Store]. Its errors are [ErrContended], context.Canceled,
// and what the operator must do about an outage, with its cause.
func (f *Firestore) Grant(ctx context.Context, b Bucket, ask Ask) (Grant, error) {
	if len(f.idKey) < minIDKey {
		// Whoever reads the documents could try all addresses.
		return Grant{}, fmt.Errorf("the key for bucket IDs has %d bytes, fewer than %d", len(f.idKey), minIDKey)
	}
	c, ctx := f.begin(ctx)
	g, err := f.grant(ctx, b, ask)
	if err == nil {
		return g, nil
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		return Grant{}, fmt.Errorf("asking Firestore: %w", ctx.Err())
	}
	return Grant{}, f.diagnose(c, err)
}

func (f *Firestore) grant(ctx context.Context, b Bucket, ask Ask) (Grant, error) {
	doc := f.collection.Doc(f.id(b))
	expires := b.Minute.End().Add(keepFor)
	if !ask.Seen {
		g := grantOf(0, ask)
		_, err := doc.Create(ctx, bucketDocument{g.N, expires})
		switch status.Code(err) {
		case codes.OK:
			return g, nil
		case codes.AlreadyExists, codes.Aborted:
			// Another instance was first, or is at it. Or this one was, and the
			// answer was lost: then what it granted is lost too.
		default:
			return Grant{}, err //nolint:wrapcheck // Grant makes a sentence of it.
		}
	}
	g, err := f.count(ctx, doc, ask, expires)
	switch status.Code(err) {
	case codes.Unavailable, codes.InvalidArgument:
		// The connection broke where the client does not repeat: under a read
		// that had begun to answer, or under a Commit that was done. That one it
		// does repeat, and is told that there is no such transaction any more.
		g, err = f.count(ctx, doc, ask, expires)
	}
	return g, err
}

// count grants what is left of a bucket, which may not exist, in one
// transaction. Whatever it has counted when it fails, nobody is granted.
func (f *Firestore) count(ctx context.Context, doc *firestore.DocumentRef, ask Ask, expires time.Time) (Grant, error) {
	var g Grant
	err := f.client.RunTransaction(ctx, func(_ context.Context, tx *firestore.Transaction) error {
		found, err := tx.GetAll([]*firestore.DocumentRef{doc})
		if err != nil {
			return err //nolint:wrapcheck // RunTransaction looks for Aborted.
		}
		before, err := countIn(found[0])
		if err != nil {
			return err
		}
		g = grantOf(before, ask)
		if g.N == 0 {
			// Not an error: the Rollback for it would be a call as well, and be
			// taken for a failure. The empty Commit gives the lock back.
			return nil
		}
		return tx.Set(doc, bucketDocument{before + g.N, expires})
	})
	if err != nil {
		return Grant{}, err //nolint:wrapcheck // Grant makes a sentence of it.
	}
	return g, nil
}

// countIn reads the one field. A count that is none is refused: taken for 0 it
// would open the bucket to everybody.
func countIn(doc *firestore.DocumentSnapshot) (int, error) {
	if !doc.Exists() {
		return 0, nil
	}
	field, err := doc.DataAt("count")
	count, ok := field.(int64)
	if err != nil || !ok || count < 0 {
		return 0, errors.New("a document in the collection of buckets has no valid count: does something else write to it?")
	}
	return int(count), nil
}

// id returns the name of a bucket's document. Without the key, nothing in it
// tells the address, nor that two minutes belong to one visitor.
func (f *Firestore) id(b Bucket) string {
	mac := hmac.New(sha256.New, f.idKey)
	var bucket [12]byte
	binary.BigEndian.PutUint64(bucket[:8], uint64(b.Key))
	binary.BigEndian.PutUint32(bucket[8:], uint32(b.Minute))
	mac.Write(bucket[:])
	return hex.EncodeToString(mac.Sum(nil))
}

// call is what the interceptors see of one Grant or Warm. The client repeats
// failed calls until the context ends and then returns the context's error
// alone, so the cause has to be caught below it.
type call struct {
	// answers is what [Firestore.answers] was when the call began, or when the
	// store last failed it.
	answers uint64
	// failure is the last error of a store that is out of order; nil again
	// once the store has answered the call.
	failure error
	// hung says that the last RPC ended unanswered.
	hung bool
}

type callKey struct{}

func (f *Firestore) begin(ctx context.Context) (*call, context.Context) {
	c := &call{answers: f.answers.Load()}
	return c, context.WithValue(ctx, callKey{}, c)
}

func callOf(ctx context.Context) *call {
	if c, ok := ctx.Value(callKey{}).(*call); ok {
		return c
	}
	return new(call)
}

// record notes how an RPC ended. Only what a store says that is doing its work
// counts as an answer; a quota or a permission that is missing is an outage,
// and NotFound is never the document, which is written without being required
// to exist, but the database.
func (f *Firestore) record(c *call, err error) {
	switch status.Code(err) {
	case codes.OK, codes.AlreadyExists, codes.Aborted:
		f.answers.Add(1)
		c.failure, c.hung = nil, false
	case codes.DeadlineExceeded, codes.Canceled:
		c.hung = true
	default:
		c.failure, c.hung, c.answers = err, false, f.answers.Load()
	}
}

// unary is a grpc.UnaryClientInterceptor. Beside recording, it keeps the
// client's Rollback out of the visitor's way, who would wait for it up to five
// seconds beyond the deadline. It is sent all the same: a transaction that its
// client gave up still holds its lock against other instances.
func (f *Firestore) unary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	if method == firestorepb.Firestore_Rollback_FullMethodName {
		go func() {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
			defer cancel()
			_ = invoke(ctx, method, req, new(emptypb.Empty), cc, opts...) // If it fails, the lock expires.
		}()
		return nil
	}
	err := invoke(ctx, method, req, reply, cc, opts...)
	f.record(callOf(ctx), err)
	return err
}

// stream is a grpc.StreamClientInterceptor: BatchGetDocuments is a stream.
func (f *Firestore) stream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	s, err := open(ctx, desc, cc, method, opts...)
	if err != nil {
		f.record(callOf(ctx), err)
		return nil, err
	}
	return &recordedStream{ClientStream: s, store: f, call: callOf(ctx)}, nil
}

type recordedStream struct {
	grpc.ClientStream

	store *Firestore
	call  *call
}

func (s *recordedStream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	if !errors.Is(err, io.EOF) { // The end of the stream is no news.
		s.store.record(s.call, err)
	}
	return err //nolint:wrapcheck // gRPC compares it.
}

// diagnose tells contention from an outage. Contention is Aborted to the last
// attempt, or waiting on one bucket until the deadline while the store answers
// others, or this same call: AlreadyExists and then silence means that another
// instance holds the document.
func (f *Firestore) diagnose(c *call, err error) error {
	waited := isDeadline(err) && (c.hung || c.failure == nil)
	if status.Code(err) == codes.Aborted || waited && f.answers.Load() != c.answers {
		return ErrContended
	}
	return f.outage(c, err)
}

func isDeadline(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || status.Code(err) == codes.DeadlineExceeded
}

// outageError is a sentence for the operator, with its cause.
type outageError struct {
	message string
	cause   error
}

func (e *outageError) Error() string { return e.message }
func (e *outageError) Unwrap() error { return e.cause }

func (f *Firestore) outage(c *call, err error) error {
	cause := cmp.Or(c.failure, err)
	if isDeadline(cause) {
		cause = context.DeadlineExceeded // Also where gRPC has its own error for it.
	}
	message, isAnswer := f.advice(cause)
	if isAnswer {
		message += " (" + reply(cause) + ")"
	}
	return &outageError{message, cause}
}

// advice returns what the operator must do, and whether the store's own words
// add to it.
func (f *Firestore) advice(err error) (message string, isAnswer bool) {
	switch code := status.Code(err); {
	case isDeadline(err), code == codes.Unavailable:
		message = "Firestore cannot be reached"
		if isDeadline(err) {
			message = "Firestore does not answer"
		}
		if f.emulated {
			return message + ": start the emulator that FIRESTORE_EMULATOR_HOST names, or unset the variable", !isDeadline(err)
		}
		return message + ": check the way to firestore.googleapis.com, and https://status.cloud.google.com", !isDeadline(err)
	case code == codes.PermissionDenied && isAPIDisabled(err):
		return "Firestore is not enabled in project " + f.project +
			": gcloud services enable firestore.googleapis.com --project=" + f.project, false
	case code == codes.PermissionDenied:
		return "Firestore refuses the service account that Docent runs as: gcloud projects add-iam-policy-binding " + f.project +
			" --member=serviceAccount:SERVICE_ACCOUNT --role=roles/datastore.user", true
	case code == codes.NotFound:
		return fmt.Sprintf("Firestore has no database %s in project %s: gcloud firestore databases create --database='%[1]s' --project=%[2]s --location=LOCATION",
			f.database, f.project), true
	case code == codes.ResourceExhausted:
		return "Firestore's quota is used up: raise it or enable billing: https://console.cloud.google.com/iam-admin/quotas?project=" + f.project, true
	case code == codes.Unauthenticated:
		return "Firestore does not accept Docent's credentials: on a workstation gcloud auth application-default login, on Cloud Run check the service account", true
	default:
		return "Firestore does not work", true
	}
}

// isAPIDisabled reports whether permission is denied to everybody, because
// nobody has enabled the API.
func isAPIDisabled(err error) bool {
	e, ok := apierror.FromError(err)
	return ok && e.Reason() == "SERVICE_DISABLED"
}

// reply returns what the store said, in one line, without the parts that name
// a bucket or an address.
func reply(err error) string {
	s, ok := status.FromError(err)
	if !ok {
		return err.Error()
	}
	words := strings.Join(strings.Fields(s.Message()), " ")
	words = names.ReplaceAllString(words, "…")
	if runes := []rune(words); len(runes) > 300 {
		words = string(runes[:300]) + "…"
	}
	return s.Code().String() + ": " + words
}

// names matches documents' IDs and IP addresses with their ports.
var names = regexp.MustCompile(`[0-9a-f]{64}|\d+\.\d+\.\d+\.\d+(:\d+)?|\[[0-9a-fA-F:.]+(%\w+)?\](:\d+)?`)
