// Package secrets has one type for a value that may be literal or rotating.
//
// A [Ref] is what the configuration says, without any lookup. [Open] makes
// [Value]s of them: it fetches what is in Secret Manager and fails if anything
// cannot be had. From then on a Value always has a secret at once. Those that
// follow the latest version are looked up again beside their use, or on demand
// after they were rejected; when a lookup fails the last good secret stays.
package secrets

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"strings"
	"sync"
	"time"

	secretmanager "cloud.google.com/go/secretmanager/apiv1"
	"cloud.google.com/go/secretmanager/apiv1/secretmanagerpb"
	"github.com/googleapis/gax-go/v2"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
)

// Bounds of the pause after a failed refresh, which is a tenth of the TTL.
const (
	minPause = time.Second
	maxPause = 30 * time.Second
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Options configure [Open]. What is zero takes its default.
type Options struct {
	// TTL is the age after which a latest secret is looked up again when it is
	// next used. Default 5m.
	TTL time.Duration
	// OpenTimeout bounds Open, but for what ServiceAccount takes after a failure.
	// Default 10s.
	OpenTimeout time.Duration
	// LookupTimeout bounds each later lookup. Default 3s.
	LookupTimeout time.Duration
	// EmulatorHost is the host and port of a stand-in for Secret Manager that
	// speaks plain gRPC and wants no credentials.
	EmulatorHost string
	// ServiceAccount returns the email address of the account this runs as, for
	// error messages. It is asked only where a permission is missing and gets one
	// second. Leave it out where no metadata server can be asked.
	ServiceAccount func(context.Context) (email string, err error)
	// Log gets a warning for each failed refresh and a line for each change.
	// Default [slog.Default].
	Log *slog.Logger
	// Now is the clock. Default [time.Now].
	Now func() time.Time
}

// Want is a secret to open.
type Want struct {
	// Variable names the reference in messages.
	Variable string
	// Ref is what the variable holds. It must have a project.
	Ref Ref
	// Into is where the value goes.
	Into *Value
}

// Source is where opened values come from.
type Source struct {
	options Options
	client  *secretmanager.Client // Nil if all values are literals.

	// ctx ends when the source is closed, and lookups with it.
	ctx    context.Context //nolint:containedctx // It belongs to the background, not to a request.
	cancel context.CancelFunc
	// mu guards the start and the end of lookups, not the reading of secrets. No
	// lookup starts after cancel was called under it.
	mu      sync.Mutex
	lookups sync.WaitGroup
}

// Open fetches all secrets at once, each version only once however many refer to
// it. The values stay useful, though they no longer change, after the source is
// closed. If all of them are literals nothing is fetched, and no client made.
//
// The error says of every secret that failed which variable names it, why, and
// what would mend it. It never holds a secret. No value is set then.
func Open(ctx context.Context, o Options, wants ...Want) (*Source, error) {
	o.TTL = cmp.Or(o.TTL, 5*time.Minute)
	o.OpenTimeout = cmp.Or(o.OpenTimeout, 10*time.Second)
	o.LookupTimeout = cmp.Or(o.LookupTimeout, 3*time.Second)
	o.Log = cmp.Or(o.Log, slog.Default())
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &Source{options: o}
	s.ctx, s.cancel = context.WithCancel(context.Background())

	values := make([]Value, len(wants))
	var entries []*entry
	shared := map[Ref]*entry{}
	for i, w := range wants {
		literal, isLiteral := w.Ref.Literal()
		switch {
		case w.Ref.IsZero():
			continue
		case isLiteral:
			values[i] = Literal(literal)
			continue
		}
		version := w.Ref
		version.header = false
		e := shared[version]
		if e == nil {
			e = &entry{source: s, ref: version}
			shared[version] = e
			entries = append(entries, e)
		}
		e.ref.header = e.ref.header || w.Ref.header
		e.variables = append(e.variables, w.Variable)
		values[i] = Value{e}
	}
	if err := s.open(ctx, entries); err != nil {
		_ = s.Close()
		return nil, err
	}
	for i, w := range wants {
		*w.Into = values[i]
	}
	return s, nil
}

// open fetches all entries concurrently.
func (s *Source) open(ctx context.Context, entries []*entry) error {
	if len(entries) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.options.OpenTimeout)
	defer cancel()
	client, err := s.dial(ctx)
	if err != nil {
		var variables []string
		for _, e := range entries {
			variables = append(variables, e.variables...)
		}
		return fmt.Errorf("%s: Secret Manager cannot be asked: %w; on a machine of your own, log in with `%s`",
			strings.Join(variables, ", "), err, loginCommand)
	}
	s.client = client

	faults := make([]error, len(entries))
	var fetches sync.WaitGroup
	for i, e := range entries {
		fetches.Go(func() {
			secret, err := s.fetch(ctx, e.ref)
			if err != nil {
				faults[i] = fmt.Errorf("%s: %s: %w", strings.Join(e.variables, ", "), e.ref, err)
				return
			}
			e.current.Store(&secret)
			e.due.Store(never)
			if !e.ref.Pinned() {
				e.due.Store(s.now().Add(s.options.TTL).UnixNano())
			}
		})
	}
	fetches.Wait()
	return errors.Join(faults...)
}

// dial makes the client. It does not wait for the connection.
func (s *Source) dial(ctx context.Context) (*secretmanager.Client, error) {
	// Nobody reads its traces, and making them delays the start.
	options := []option.ClientOption{
		option.WithTelemetryDisabled(),
		// Its connection is silent for minutes at a time; one that has died
		// meanwhile is found within a lookup.
		option.WithGRPCDialOption(grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 2 * time.Second})),
	}
	if s.options.EmulatorHost != "" {
		options = append(options,
			option.WithEndpoint(s.options.EmulatorHost),
			option.WithoutAuthentication(),
			option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())))
	}
	return secretmanager.NewClient(ctx, options...) //nolint:wrapcheck // Its caller says what was being done.
}

// fetch looks a secret up and checks it. Its errors say what would mend them.
func (s *Source) fetch(ctx context.Context, r Ref) (string, error) {
	if r.NeedsProject() {
		return "", noProject()
	}
	attempts := &retryer{backoff: gax.Backoff{Initial: 200 * time.Millisecond, Max: 2 * time.Second, Multiplier: 2}}
	response, err := s.client.AccessSecretVersion(ctx,
		&secretmanagerpb.AccessSecretVersionRequest{Name: r.resource()},
		gax.WithRetry(func() gax.Retryer { return attempts }))
	if err != nil {
		// The server may notice the deadline before we do.
		if attempts.last != nil && (ctx.Err() != nil || status.Code(err) == codes.DeadlineExceeded) {
			err = attempts.last
		}
		return "", s.explain(r, err)
	}
	payload := response.GetPayload()
	secret, ok := clean(payload.GetData())
	switch {
	case !ok:
		return "", empty(r)
	// Secret Manager always sends a checksum; a stand-in may not.
	case payload.DataCrc32C != nil && payload.GetDataCrc32C() != int64(crc32.Checksum(payload.GetData(), castagnoli)):
		return "", damaged(r)
	}
	if found, never := HeaderFault(secret); never && r.header {
		return "", unsendable(r, found)
	}
	return secret, nil
}

// retryer tries again what may pass, as the client would, but sooner: the
// client's first pause of up to 2 s is most of a lookup's time. And it keeps the
// cause, which is lost when the deadline ends a pause or the next attempt.
type retryer struct {
	backoff gax.Backoff
	last    error
}

func (r *retryer) Retry(err error) (pause time.Duration, again bool) {
	switch status.Code(err) {
	case codes.Unavailable, codes.ResourceExhausted:
		r.last = err
		return r.backoff.Pause(), true
	}
	return 0, false
}

// pause is how long a failed refresh is not tried again: a Secret Manager that
// is down is not asked at every request.
func (s *Source) pause() time.Duration {
	return min(max(s.options.TTL/10, minPause), maxPause)
}

func (s *Source) now() time.Time { return s.options.Now() }

// Close ends the lookups under way and closes the connection.
func (s *Source) Close() error {
	s.mu.Lock()
	s.cancel()
	s.mu.Unlock()
	s.lookups.Wait()
	if s.client == nil {
		return nil
	}
	if err := s.client.Close(); err != nil {
		return fmt.Errorf("closing Secret Manager's client: %w", err)
	}
	return nil
}
