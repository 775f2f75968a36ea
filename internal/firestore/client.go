// Package firestore is the one connection to Firestore that an instance has, the
// buckets of its rate limits and the conversations in it, and what an operator must
// do when it fails.
package firestore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"cloud.google.com/go/firestore"
	"cloud.google.com/go/firestore/apiv1/firestorepb"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"docent/internal/redact"
)

const (
	// connectTimeout bounds one attempt to connect. A longer one would be of no use:
	// no request waits for it.
	connectTimeout = 4 * time.Second
	// rollbackTimeout bounds the clean-up after a transaction that failed.
	rollbackTimeout = 5 * time.Second
)

// Options say where the database is. All are required but Emulator and
// DialOptions.
type Options struct {
	Project  string
	Database string
	// Emulator is the host and port of an emulator, or empty for the real one.
	Emulator string
	// DialOptions are added to those of the connection.
	DialOptions []grpc.DialOption
}

// Client is a connection to Firestore. It is safe for concurrent use.
type Client struct {
	o      Options
	client *firestore.Client

	// answers counts RPC results that prove that Firestore is up: OK,
	// AlreadyExists, Aborted. If it moved while one call timed out, that call met
	// contention and not an outage.
	answers atomic.Uint64
}

// Open returns a client that has not connected yet: [Client.Warm] does. It fails
// where options or credentials are missing.
func Open(ctx context.Context, o Options) (*Client, error) {
	if o.Project == "" || o.Database == "" {
		return nil, errors.New("no Firestore project or database was named")
	}
	c := &Client{o: o}
	transport, err := c.transport()
	if err != nil {
		return nil, err
	}
	c.client, err = firestore.NewClientWithDatabase(ctx, o.Project, o.Database, transport...)
	if err != nil {
		return nil, fmt.Errorf("opening Firestore (on a workstation, first run: gcloud auth application-default login): %w", err)
	}
	return c, nil
}

// transport returns the client options that make one connection of ours.
func (c *Client) transport() ([]option.ClientOption, error) {
	dial := append([]grpc.DialOption{
		grpc.WithChainUnaryInterceptor(c.unary),
		grpc.WithChainStreamInterceptor(c.stream),
		// gRPC's own pauses between attempts to connect grow to two minutes. Firestore
		// would be up again, and its instances would not notice.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
			MinConnectTimeout: connectTimeout,
		}),
		// Finds a connection that has died without a word within one call. That
		// happens while Cloud Run keeps the instance frozen. Google's clients ping as
		// often elsewhere.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 3 * time.Second}),
	}, c.o.DialOptions...)
	if c.o.Emulator != "" {
		// The client's own connection to an emulator takes no dial options.
		dial = append(dial, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithPerRPCCredentials(emulatorOwner{}))
		conn, err := grpc.NewClient("passthrough:///"+c.o.Emulator, dial...)
		if err != nil {
			return nil, fmt.Errorf("connecting to the Firestore emulator: %w", err)
		}
		return []option.ClientOption{option.WithGRPCConn(conn)}, nil
	}
	// One connection carries a hundred calls at a time; the gate of the rate limit
	// needs fewer. Setting up telemetry would delay every start, and nothing reads it.
	options := []option.ClientOption{option.WithGRPCConnectionPool(1), option.WithTelemetryDisabled()}
	for _, d := range dial {
		options = append(options, option.WithGRPCDialOption(d))
	}
	return options, nil
}

// emulatorOwner tells an emulator, as every Google client does, that its security
// rules do not apply.
type emulatorOwner struct{}

func (emulatorOwner) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer owner"}, nil
}

func (emulatorOwner) RequireTransportSecurity() bool { return false }

// Close closes the connection.
func (c *Client) Close() error {
	if err := c.client.Close(); err != nil {
		return fmt.Errorf("closing Firestore: %w", err)
	}
	return nil
}

// Warm opens the connection and fetches a token, so that the first visitor does
// not wait for it: it reads a document of a collection, which need not exist. Its
// error says what the operator must do.
func (c *Client) Warm(ctx context.Context, collection string) error {
	call, ctx := c.begin(ctx)
	// Not Get, which reports a missing document with the same error as a missing
	// database.
	if _, err := c.client.GetAll(ctx, []*firestore.DocumentRef{c.client.Collection(collection).Doc("warm")}); err != nil {
		return c.outage(call, err)
	}
	return nil
}

// call is what the interceptors see of one operation. Google's client repeats
// failed RPCs until the context ends and then returns the context's error alone,
// so the cause has to be caught below it.
type call struct {
	// answers is what [Client.answers] was when the call began, or when Firestore
	// last failed it.
	answers uint64
	// failure is the last error of a Firestore that is down; nil again once it has
	// answered the call.
	failure error
	// hung says that the last RPC ended unanswered.
	hung bool
	// hide finds what no error of this call may show, besides the names of documents.
	hide redact.Rule
}

type callKey struct{}

func (c *Client) begin(ctx context.Context) (*call, context.Context) {
	x := &call{answers: c.answers.Load()}
	return x, context.WithValue(ctx, callKey{}, x)
}

func callOf(ctx context.Context) *call {
	if x, ok := ctx.Value(callKey{}).(*call); ok {
		return x
	}
	return new(call)
}

// record notes how an RPC ended. A missing quota or permission is an outage, and so
// is NotFound, which may be the database: [Threads], whose documents may be missing,
// then reads to find out.
func (c *Client) record(x *call, err error) {
	switch status.Code(err) {
	case codes.OK, codes.AlreadyExists, codes.Aborted:
		c.answers.Add(1)
		x.failure, x.hung = nil, false
	case codes.DeadlineExceeded, codes.Canceled:
		x.hung = true
	default:
		x.failure, x.hung, x.answers = err, false, c.answers.Load()
	}
}

// unary is a grpc.UnaryClientInterceptor. Besides recording, it sends the client's
// Rollback in the background: a visitor would wait for it up to five seconds
// beyond the deadline. It must be sent, since a transaction that its client gave
// up still holds its lock against other instances.
func (c *Client) unary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	if method == firestorepb.Firestore_Rollback_FullMethodName {
		go func() {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
			defer cancel()
			_ = invoke(ctx, method, req, new(emptypb.Empty), cc, opts...) // If it fails, the lock expires.
		}()
		return nil
	}
	err := invoke(ctx, method, req, reply, cc, opts...)
	c.record(callOf(ctx), err)
	return err
}

// stream is a grpc.StreamClientInterceptor: BatchGetDocuments is a stream.
func (c *Client) stream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	s, err := open(ctx, desc, cc, method, opts...)
	if err != nil {
		c.record(callOf(ctx), err)
		return nil, err
	}
	return &recordedStream{ClientStream: s, client: c, call: callOf(ctx)}, nil
}

type recordedStream struct {
	grpc.ClientStream

	client *Client
	call   *call
}

func (s *recordedStream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	if !errors.Is(err, io.EOF) { // The end of the stream says nothing.
		s.client.record(s.call, err)
	}
	return err //nolint:wrapcheck // gRPC compares it.
}
