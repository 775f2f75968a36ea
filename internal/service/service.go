// Package service makes a running Docent of a configuration. The service and
// the demo differ only in what they put around it, and a check of the
// configuration opens its parts as the service does.
package service

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"cloud.google.com/go/compute/metadata"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/grpclog"

	"docent/internal/config"
	"docent/internal/hosted"
	"docent/internal/httpapi"
	"docent/internal/ratelimit"
	"docent/internal/secrets"
	"docent/internal/visitor"
)

// Process is what surrounds the service.
type Process struct {
	Environment    map[string]string
	Stdout, Stderr io.Writer
	// Front wraps the service's handler, if set.
	Front func(http.Handler) http.Handler
	// Listening is called with the address as soon as the port is open, if set.
	Listening func(net.Addr)
}

// OS returns the real surroundings.
func OS() Process {
	environment := map[string]string{}
	for _, entry := range os.Environ() {
		name, value, _ := strings.Cut(entry, "=")
		environment[name] = value
	}
	return Process{Environment: environment, Stdout: os.Stdout, Stderr: os.Stderr}
}

// Run serves until ctx ends and what was in flight then is answered. It has
// reported the error that it returns.
func Run(ctx context.Context, p Process) error {
	c, err := config.Load(p.Environment)
	log := httpapi.NewLogger(p.Stdout, c.LogFormat, c.LogLevel)
	slog.SetDefault(log)                                                         // With it, what libraries write to the standard logger.
	grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, io.Discard)) // It repeats what calls return.
	if err == nil {
		err = run(ctx, p, c, log)
	}
	switch {
	case err == nil:
	case ctx.Err() != nil: // Told to stop while starting: that is no failure.
		return nil //nolint:nilerr // As said.
	case c.LogFormat == "json":
		log.Error("docent: " + err.Error())
	default:
		fmt.Fprintln(p.Stderr, "docent:", err)
	}
	return err
}

func run(ctx context.Context, p Process, c config.Config, log *slog.Logger) error {
	c, err := WithProject(ctx, c)
	if err != nil {
		return err
	}
	parts, err := openParts(ctx, c, log)
	if err != nil {
		return err
	}
	defer parts.close(log)
	handler, err := parts.connect(c, log)
	if err != nil {
		return err
	}
	if p.Front != nil {
		handler = p.Front(handler)
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", c.Address())
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("something else listens on %s already: set PORT to another port", c.Address())
	}
	if err != nil {
		return fmt.Errorf("opening the port: %w", err)
	}
	if p.Listening != nil {
		p.Listening(l.Addr())
	}
	log.Info("listening", "address", l.Addr().String(), "store", c.Store, "origins", c.AllowedOrigins.String())
	if err := httpapi.Serve(ctx, l, handler, c.RequestTimeout, log); err != nil {
		return err //nolint:wrapcheck // It says what was being done.
	}
	log.Info("stopped")
	return nil
}

// metadataTimeout bounds a question to the metadata server, which is on the
// same machine.
const metadataTimeout = 2 * time.Second

// WithProject returns the configuration with its project, for which it asks the
// metadata server if Cloud Run is to tell it. Where only the log would have used
// it, it does without.
func WithProject(ctx context.Context, c config.Config) (config.Config, error) {
	if c.Project != "" || !c.OnCloudRun {
		return c, nil
	}
	ctx, cancel := context.WithTimeout(ctx, metadataTimeout)
	defer cancel()
	project, err := metadata.ProjectIDWithContext(ctx)
	if err != nil && c.NeedsProject() {
		return c, fmt.Errorf("asking the metadata server for the project (or set GOOGLE_CLOUD_PROJECT): %w", err)
	}
	c.Project = project
	return c, nil
}

// warmTimeout bounds the read that opens the connection to Firestore at start.
const warmTimeout = 2 * time.Second

// parts are what has to be opened before the first request and closed after
// the last.
type parts struct {
	apiKey, workflowID, identityKey secrets.Value

	secrets *secrets.Source
	store   *ratelimit.Firestore // Nil where memory is the store.
	cold    error                // Why the store could not be warmed.
	minter  *hosted.Client
}

// openParts opens what the service needs from outside, all at once: nobody
// waits for one round trip after the other. Secrets stop a start, a store that
// does not answer must not.
func openParts(ctx context.Context, c config.Config, log *slog.Logger) (*parts, error) {
	p := &parts{}
	var openings errgroup.Group
	openings.Go(func() error { return p.openSecrets(ctx, c, log) })
	if c.Store == config.Firestore {
		openings.Go(func() error { return p.openStore(ctx, c) })
	}
	if err := openings.Wait(); err != nil {
		p.close(log)
		return nil, err //nolint:wrapcheck // It is one of the two's.
	}
	return p, nil
}

func (p *parts) openSecrets(ctx context.Context, c config.Config, log *slog.Logger) (err error) {
	p.secrets, err = secrets.Open(ctx, SecretOptions(c, log),
		secrets.Want{Variable: "OPENAI_API_KEY", Ref: c.APIKey.WithProject(c.Project), Into: &p.apiKey},
		secrets.Want{Variable: "CHATKIT_WORKFLOW_ID", Ref: c.WorkflowID.WithProject(c.Project), Into: &p.workflowID},
		secrets.Want{Variable: "IDENTITY_KEY", Ref: c.IdentityKey.WithProject(c.Project), Into: &p.identityKey},
	)
	if err != nil {
		return fmt.Errorf("secrets could not be read:\n%w", err)
	}
	return nil
}

// SecretOptions say how secrets are read.
func SecretOptions(c config.Config, log *slog.Logger) secrets.Options {
	o := secrets.Options{TTL: c.SecretsTTL, EmulatorHost: c.SecretManagerEmulator, Log: log}
	if c.OnCloudRun {
		o.ServiceAccount = func(ctx context.Context) (string, error) { return metadata.EmailWithContext(ctx, "default") }
	}
	return o
}

func (p *parts) openStore(ctx context.Context, c config.Config) (err error) {
	p.store, err = ratelimit.OpenFirestore(ctx, StoreOptions(c))
	if err != nil {
		return fmt.Errorf("the rate limit's store could not be opened: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, warmTimeout)
	defer cancel()
	p.cold = p.store.Warm(ctx)
	return nil
}

// StoreOptions say where Firestore has the buckets.
func StoreOptions(c config.Config) ratelimit.FirestoreOptions {
	return ratelimit.FirestoreOptions{
		Project:    c.Project,
		Database:   c.FirestoreDatabase,
		Collection: c.FirestoreCollection,
		Emulator:   c.FirestoreEmulator,
	}
}

func (p *parts) close(log *slog.Logger) {
	var errs []error
	if p.minter != nil {
		p.minter.Close()
	}
	if p.store != nil {
		errs = append(errs, p.store.Close())
	}
	if p.secrets != nil {
		errs = append(errs, p.secrets.Close())
	}
	if err := errors.Join(errs...); err != nil {
		log.Warn("closing", "error", err)
	}
}

// connect makes the routes of the parts.
func (p *parts) connect(c config.Config, log *slog.Logger) (http.Handler, error) {
	identity, err := Identity(p.identityKey.Get(), p.apiKey.Get())
	if err != nil {
		return nil, err
	}
	visitorKey, err := subkey(identity, "visitor IDs")
	if err != nil {
		return nil, err
	}
	bucketKey, err := subkey(identity, "bucket IDs")
	if err != nil {
		return nil, err
	}
	p.minter = hosted.New(MinterOptions(c, p.apiKey, p.workflowID))
	return httpapi.New(httpapi.Options{
		Origins:        c.AllowedOrigins,
		Limiter:        p.limiter(c, bucketKey, log),
		Minter:         p.minter,
		Visitors:       visitor.NewSigner(visitorKey),
		TrustedProxies: c.TrustedProxies,
		FrontEnds:      slices.DeleteFunc(config.FirebaseHosting(), c.TrustedProxies.Covers),
		Timeout:        c.RequestTimeout,
		Project:        c.Project,
		Log:            log,
		Now:            time.Now,
	}), nil
}

func (p *parts) limiter(c config.Config, bucketKey []byte, log *slog.Logger) *ratelimit.Limiter {
	o := ratelimit.Options{
		Limit:        c.RateLimit,
		Ceiling:      c.InstanceLimit,
		Deny:         c.OnStoreFailure == config.Deny,
		StoreTimeout: StoreTimeout(c),
		Log:          log,
		Now:          time.Now,
	}
	if p.store != nil {
		p.store.UseIDKey(bucketKey)
		o.Store = p.store
	}
	l := ratelimit.New(o)
	if p.cold != nil {
		l.StoreFailed(p.cold)
	}
	return l
}

// MinterOptions say how sessions are minted.
func MinterOptions(c config.Config, apiKey, workflowID secrets.Value) hosted.Options {
	return hosted.Options{
		BaseURL:           c.BaseURL,
		APIKey:            apiKey,
		WorkflowID:        workflowID,
		WorkflowVersion:   c.WorkflowVersion,
		SessionTTL:        c.SessionTTL,
		RequestsPerMinute: c.SessionRequestsPerMinute,
		History:           c.History,
		FileUpload:        c.FileUpload,
		Now:               time.Now,
	}
}

// StoreTimeout is how long a count may take: half of a request's budget at most,
// since the rest is OpenAI's.
func StoreTimeout(c config.Config) time.Duration {
	return min(ratelimit.StoreTimeout, c.RequestTimeout/2)
}

// Identity returns the secret behind visitor IDs and bucket names: the identity
// key or, without one, what is derived from the API key. The configuration has
// seen to it that deriving it is safe then.
func Identity(identityKey, apiKey string) ([]byte, error) {
	key := []byte(identityKey)
	switch {
	case len(key) == 0:
		return subkey([]byte(apiKey), "identity key")
	case len(key) < config.MinIdentityKey:
		return nil, fmt.Errorf("IDENTITY_KEY has %d bytes and must have %d or more: store a longer one, as from `openssl rand -base64 32`", len(key), config.MinIdentityKey)
	}
	return key, nil
}

// subkey derives a key for one purpose from a secret, by HKDF with SHA-256.
func subkey(secret []byte, purpose string) ([]byte, error) {
	key, err := hkdf.Key(sha256.New, secret, nil, "docent: "+purpose, sha256.Size)
	if err != nil {
		return nil, fmt.Errorf("deriving the key for %s: %w", purpose, err)
	}
	return key, nil
}
