// Package secretmanager fetches secrets from Google Secret Manager. Where that
// fails it says why, and names the command that fixes it.
package secretmanager

import (
	"context"
	"fmt"
	"hash/crc32"
	"time"

	api "cloud.google.com/go/secretmanager/apiv1"
	"cloud.google.com/go/secretmanager/apiv1/secretmanagerpb"
	"github.com/googleapis/gax-go/v2"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"docent/internal/secrets"
)

// Options configure [Open]. All are optional.
type Options struct {
	// EmulatorHost is the host and port of a stand-in for Secret Manager that
	// speaks gRPC without TLS and credentials. Default: Google's.
	EmulatorHost string
	// ServiceAccount returns the email address of the account this process runs
	// as, for error messages. It is called only after a permission was denied, and
	// gets one second. Leave it nil where there is no metadata server.
	ServiceAccount func(context.Context) (email string, err error)
}

// Client is a connection to Secret Manager. It implements [secrets.Store].
type Client struct {
	options Options
	api     *api.Client
}

// Open makes a client. It fails if there are no credentials, and does not wait
// for the connection.
func Open(ctx context.Context, o Options) (*Client, error) {
	options := []option.ClientOption{
		// Docent exports no traces, and setting them up delays the start.
		option.WithTelemetryDisabled(),
		// The connection is silent for minutes at a time. Keepalive finds one that
		// has died meanwhile before a lookup's deadline passes.
		option.WithGRPCDialOption(grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 2 * time.Second})),
	}
	if o.EmulatorHost != "" {
		options = append(options,
			option.WithEndpoint(o.EmulatorHost),
			option.WithoutAuthentication(),
			option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())))
	}
	c, err := api.NewClient(ctx, options...)
	if err != nil {
		return nil, fmt.Errorf("cannot connect to Secret Manager: %w; on your own machine, log in with `%s`", err, loginCommand)
	}
	return &Client{o, c}, nil
}

// Close closes the connection.
func (c *Client) Close() error {
	if err := c.api.Close(); err != nil {
		return fmt.Errorf("closing Secret Manager's client: %w", err)
	}
	return nil
}

// Fetch implements [secrets.Store]. It tries again until ctx ends while Secret
// Manager is unavailable. A denied permission may take it a second longer than
// ctx, to find the account's name.
func (c *Client) Fetch(ctx context.Context, r secrets.Ref) (payload string, err error) {
	attempts := &retryer{backoff: gax.Backoff{Initial: 200 * time.Millisecond, Max: 2 * time.Second, Multiplier: 2}}
	response, err := c.api.AccessSecretVersion(ctx,
		&secretmanagerpb.AccessSecretVersionRequest{Name: resource(r)},
		gax.WithRetry(func() gax.Retryer { return attempts }))
	if err != nil {
		// The server may notice the deadline before the client does.
		if attempts.last != nil && (ctx.Err() != nil || status.Code(err) == codes.DeadlineExceeded) {
			err = attempts.last
		}
		return "", c.explain(ctx, r, err)
	}
	p := response.GetPayload()
	// Secret Manager always sends a checksum; a stand-in may not. The table is made
	// once, and not by a start that reads no secret.
	castagnoli := crc32.MakeTable(crc32.Castagnoli)
	if p.DataCrc32C != nil && p.GetDataCrc32C() != int64(crc32.Checksum(p.GetData(), castagnoli)) {
		return "", damaged(r)
	}
	return string(p.GetData()), nil
}

// resource returns the name of a version in Secret Manager's API.
func resource(r secrets.Ref) string {
	version := r.Version()
	if version == "" {
		version = "latest"
	}
	return "projects/" + r.Project() + "/secrets/" + r.Name() + "/versions/" + version
}

// retryer repeats the calls that Google's client would repeat, but sooner: the
// client's first pause of up to 2 s is most of a lookup's time. It also keeps the
// last failure, which gax drops when the deadline passes during a pause or during
// the next attempt.
type retryer struct {
	backoff gax.Backoff
	last    error
}

// Retry implements [gax.Retryer].
func (r *retryer) Retry(err error) (pause time.Duration, again bool) {
	switch status.Code(err) {
	case codes.Unavailable, codes.ResourceExhausted:
		r.last = err
		return r.backoff.Pause(), true
	}
	return 0, false
}
