// Package hosted mints sessions for a ChatKit backend that OpenAI hosts: one
// POST, with exact bounds on time, size, retries and where the key may go.
package hosted

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"time"

	"github.com/cenkalti/backoff/v5"
)

const (
	// maxRetries is how often a call is tried again: OpenAI's own SDKs do it twice.
	maxRetries = 2
	// maxBody is the most that is read of an answer. A session is under 2 kB.
	maxBody = 1 << 20
	// maxHeader is the most that is read of an answer's header block.
	maxHeader = 64 << 10
	// idleConns is how many connections are kept for the next burst: as many as
	// Cloud Run sends concurrent requests to one instance of ours.
	idleConns = 256
	// idleTimeout is how long, in the time that front ends commonly keep theirs.
	idleTimeout = 90 * time.Second
	// bufferSize is that of a connection over HTTP/1.1, each way: a request fits, an
	// answer takes a read or two, and 256 connections have a quarter of the 2 MB that
	// net/http would give them.
	bufferSize = 1 << 10
	// pingAfter and pingTimeout find a connection that has died in silence, as
	// one does while Cloud Run keeps the instance frozen: soon enough to try
	// again on another one.
	pingAfter   = time.Second
	pingTimeout = time.Second
	// answerTime is what a retry must leave of the budget for its answer, or a
	// quarter of what there was where that is less.
	answerTime = time.Second
	// requestID is the header with OpenAI's name for a call.
	requestID = "X-Request-Id"
)

// Secret is a value that may rotate.
type Secret interface {
	// Get returns the current value at once.
	Get() string
	// Renew is told that OpenAI rejected a value, and reports whether there is
	// another one by now.
	Renew(ctx context.Context, rejected string) (value string, changed bool)
}

// Options configure a [Client]. What is zero is not sent, so that OpenAI's own
// default holds.
type Options struct {
	// BaseURL is the API's, without a trailing slash.
	BaseURL string
	// APIKey and WorkflowID must belong to one OpenAI project.
	APIKey, WorkflowID Secret
	// WorkflowVersion pins the workflow's version.
	WorkflowVersion string
	// SessionTTL is how long a session lives, in whole seconds up to 10 minutes.
	SessionTTL time.Duration
	// RequestsPerMinute is how many messages a session takes in a minute.
	RequestsPerMinute *int
	// History and FileUpload are always sent.
	History, FileUpload bool
	// Now is the clock that sessions must not have expired by.
	Now func() time.Time
}

// Session is what a visitor's page needs to talk to OpenAI.
type Session struct {
	// ID names the session towards OpenAI. It is no secret, and empty where
	// OpenAI sends none.
	ID string
	// ClientSecret is the short-lived credential. It must not be logged.
	ClientSecret string
	// ExpiresAt is when it ends, in whole seconds.
	ExpiresAt time.Time
}

// Client mints sessions. It is safe for concurrent use.
type Client struct {
	Options

	http  *http.Client
	token *regexp.Regexp // In the base URL; nil if there is none.
}

// New returns a client with connections of its own.
func New(o Options) *Client {
	return &Client{Options: o, token: tokenOf(o.BaseURL), http: &http.Client{
		Transport: &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			ForceAttemptHTTP2:      true,
			MaxIdleConns:           idleConns,
			MaxIdleConnsPerHost:    idleConns,
			IdleConnTimeout:        idleTimeout,
			MaxResponseHeaderBytes: maxHeader,
			ReadBufferSize:         bufferSize,
			WriteBufferSize:        bufferSize,
			HTTP2:                  &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout},
		},
		// A redirect would carry the key to wherever it points.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Close ends the idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Mint returns a new session for a user: the visitor's ID, which scopes the
// threads. It fails with an [*Error], or with the context's error if the
// visitor goes away; the context's deadline is the budget for everything.
func (c *Client) Mint(ctx context.Context, user string) (Session, error) {
	body, err := c.request(user)
	if err != nil {
		return Session{}, err
	}
	var (
		key     = c.APIKey.Get()
		renewed = false
		last    *Error // What OpenAI answered last.
		delays  = backoff.ExponentialBackOff{InitialInterval: 250 * time.Millisecond, RandomizationFactor: 0.5, Multiplier: 2, MaxInterval: 2 * time.Second}
		reserve = reserveOf(ctx)
	)
	for retries := 0; ; {
		session, err := c.post(ctx, key, body)
		if err == nil {
			return session, nil
		}
		var e *Error
		if !errors.As(err, &e) {
			return Session{}, err
		}
		if e.Kind == Timeout && last != nil {
			return Session{}, last // It did answer, if nothing good.
		}
		if e.Status != 0 {
			last = e
		}
		if e.Status == http.StatusUnauthorized && !renewed {
			renewed = true
			fresh, changed := c.APIKey.Renew(ctx, key)
			if !changed {
				return Session{}, gone(ctx, e)
			}
			key = fresh
			continue
		}
		if e.Kind != Busy || retries == maxRetries {
			return Session{}, e
		}
		retries++
		if !sleep(ctx, max(delays.NextBackOff(), e.retryAfter), reserve) {
			return Session{}, gone(ctx, e)
		}
	}
}

// reserveOf returns the time that a retry must leave for its answer.
func reserveOf(ctx context.Context) time.Duration {
	deadline, ok := ctx.Deadline()
	if !ok {
		return answerTime
	}
	return min(answerTime, time.Until(deadline)/4)
}

// sleep waits for d, and reports false, at once if it can, where that would
// not leave reserve of the budget.
func sleep(ctx context.Context, d, reserve time.Duration) bool {
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < d+reserve {
		return false
	}
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// gone returns the context's error if the visitor has gone, else err.
func gone(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return fmt.Errorf("waiting to ask OpenAI again: %w", ctx.Err())
	}
	return err
}

// Cancel ends a session before its time. It makes one attempt and fails as Mint
// does; a session that is not cancelled ends by itself.
func (c *Client) Cancel(ctx context.Context, id string) error {
	_, err := c.send(ctx, c.APIKey.Get(), "/chatkit/sessions/"+url.PathEscape(id)+"/cancel", nil)
	return err
}

// post makes one attempt.
func (c *Client) post(ctx context.Context, key string, body []byte) (Session, error) {
	a, err := c.send(ctx, key, "/chatkit/sessions", body)
	if err != nil {
		return Session{}, err
	}
	session, err := c.parse(a.body, a.cut)
	if err != nil {
		cause := errors.New(c.scrubber(key)(err.Error())) // It may quote the answer.
		return Session{}, &Error{Kind: Rejected, Status: http.StatusOK, RequestID: a.requestID, cause: cause}
	}
	return session, nil
}

// answer is a 200 of OpenAI's.
type answer struct {
	requestID string
	body      []byte
	cut       error // What kept the rest of the body away, if anything did.
}

// send makes one call. Any other answer than 200 is an error.
func (c *Client) send(ctx context.Context, key, path string, body []byte) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.BaseURL+path, bytes.NewReader(body))
	if err != nil {
		return answer{}, fmt.Errorf("building the request to OpenAI: %w", withoutURL(err))
	}
	scrub := c.scrubber(key)
	req.Header.Set("Authorization", "Bearer "+key)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("OpenAI-Beta", "chatkit_beta=v1")
	req.Header.Set("User-Agent", "docent")
	resp, err := c.http.Do(req)
	if err != nil {
		return answer{}, unreached(ctx, err, scrub)
	}
	defer resp.Body.Close() //nolint:errcheck // Read to its end, or given up.
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	if err != nil && ctx.Err() != nil {
		return answer{}, unreached(ctx, err, scrub)
	}
	if resp.StatusCode != http.StatusOK {
		return answer{}, refused(resp, data, scrub, c.Now())
	}
	return answer{scrub(resp.Header.Get(requestID)), data, err}, nil
}

// parse returns the session in an answer that was read with readErr.
func (c *Client) parse(data []byte, readErr error) (Session, error) {
	if readErr != nil {
		return Session{}, fmt.Errorf("the session was cut short: %w", readErr)
	}
	if len(data) > maxBody {
		return Session{}, errors.New("the session is larger than 1 MB")
	}
	var s struct {
		ID           string `json:"id"`
		ClientSecret string `json:"client_secret"`
		ExpiresAt    int64  `json:"expires_at"`
	}
	if err := json.Unmarshal(data, &s); err != nil {
		return Session{}, fmt.Errorf("the session is not readable: %w", err)
	}
	if s.ClientSecret == "" {
		return Session{}, errors.New("the session has no client_secret")
	}
	if s.ExpiresAt <= c.Now().Unix() {
		return Session{}, errors.New("the session has expired already")
	}
	return Session{ID: s.ID, ClientSecret: s.ClientSecret, ExpiresAt: time.Unix(s.ExpiresAt, 0)}, nil
}

// request returns the JSON to send.
func (c *Client) request(user string) ([]byte, error) {
	type enabled struct {
		Enabled bool `json:"enabled"`
	}
	type expiry struct {
		Anchor  string `json:"anchor"`
		Seconds int    `json:"seconds"`
	}
	type limits struct {
		MaxRequestsPer1Minute int `json:"max_requests_per_1_minute"`
	}
	var r struct {
		Workflow struct {
			ID      string `json:"id"`
			Version string `json:"version,omitempty"`
		} `json:"workflow"`
		User         string  `json:"user"`
		ExpiresAfter *expiry `json:"expires_after,omitempty"`
		RateLimits   *limits `json:"rate_limits,omitempty"`
		ChatKit      struct {
			History    enabled `json:"history"`
			FileUpload enabled `json:"file_upload"`
		} `json:"chatkit_configuration"`
	}
	r.Workflow.ID = c.WorkflowID.Get()
	r.Workflow.Version = c.WorkflowVersion
	r.User = user
	if c.SessionTTL > 0 {
		r.ExpiresAfter = &expiry{Anchor: "created_at", Seconds: int(c.SessionTTL.Seconds())}
	}
	if c.RequestsPerMinute != nil {
		r.RateLimits = &limits{MaxRequestsPer1Minute: *c.RequestsPerMinute}
	}
	r.ChatKit.History.Enabled = c.History
	r.ChatKit.FileUpload.Enabled = c.FileUpload
	body, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encoding the session request: %w", err)
	}
	return body, nil
}
