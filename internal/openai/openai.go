// Package openai calls OpenAI over HTTP, with exact bounds on time, size and
// retries, and on where the API key may go.
package openai

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"sync/atomic"
	"time"

	"docent/internal/redact"
)

const (
	// maxBody is the most that is read of an answer, in bytes. Vectors may be longer.
	maxBody = 1 << 20
	// maxHeader is the most that is read of an answer's header block, in bytes.
	maxHeader = 64 << 10
	// idleConns is how many connections are kept for the next burst: as many as
	// Cloud Run sends concurrent requests to one instance of ours.
	idleConns = 256
	// idleTimeout is how long they are kept. Front ends commonly keep theirs so long.
	idleTimeout = 90 * time.Second
	// bufferSize is that of a connection over HTTP/1.1, in bytes each way. A request
	// fits, an answer takes a read or two, and 256 connections have a quarter of the
	// 2 MB that net/http would give them.
	bufferSize = 1 << 10
	// pingAfter and pingTimeout find a connection that has died without a word, as
	// one does while Cloud Run keeps the instance frozen: soon enough to try
	// again on another one.
	pingAfter   = time.Second
	pingTimeout = time.Second
)

// requestID is the header that has OpenAI's name for a call.
const requestID = "X-Request-Id"

// Secret is a value that may rotate.
type Secret interface {
	// Get returns the current value at once.
	Get() string
	// Renew is told that OpenAI rejected a value. It reports whether the current
	// value is another one by now.
	Renew(ctx context.Context, rejected string) (value string, changed bool)
}

// Options configure a [Client]. All are required but Transport.
type Options struct {
	// BaseURL is the API's, without a trailing slash. Its path may hold a gateway's
	// token, so it is hidden in every error, unless it is only a version.
	BaseURL string
	// APIKey is sent with every call.
	APIKey Secret
	// Now is the clock that tells how long a Retry-After with a date is.
	Now func() time.Time
	// Transport makes the calls. Default: one with the bounds of this package.
	Transport http.RoundTripper
}

// Client calls OpenAI. It is safe for concurrent use.
type Client struct {
	o      Options
	http   *http.Client
	tokens redact.Rule // In the base URL.

	embedded atomic.Int64 // Tokens.
	refusals refusals
}

// New returns a client with connections of its own.
func New(o Options) *Client {
	if o.Transport == nil {
		o.Transport = &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			ForceAttemptHTTP2:      true,
			MaxIdleConns:           idleConns,
			MaxIdleConnsPerHost:    idleConns,
			IdleConnTimeout:        idleTimeout,
			MaxResponseHeaderBytes: maxHeader,
			ReadBufferSize:         bufferSize,
			WriteBufferSize:        bufferSize,
			HTTP2:                  &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout},
		}
	}
	return &Client{o: o, tokens: tokens(o.BaseURL), http: &http.Client{
		Transport: o.Transport,
		// A redirect would carry the key to wherever it points.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Close ends the idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Answer is a complete answer of status 200.
type Answer struct {
	Body []byte

	requestID string
	scrub     func(string) string
}

// Unusable returns the error for an answer that is not what it should be. The
// reason may quote the answer.
func (a Answer) Unusable(reason error) *Error {
	return &Error{
		Kind: Rejected, Status: http.StatusOK, RequestID: a.scrub(a.requestID),
		cause: errors.New(a.scrub(reason.Error())),
	}
}

// Post sends a JSON body to a path below the base URL and returns the answer. It
// repeats a call that failed for a reason that may pass, and one whose key has
// been replaced meanwhile. The context's deadline is the budget for all of it.
//
// It fails with an [*Error], or with the context's error if the caller goes away.
func (c *Client) Post(ctx context.Context, path string, header http.Header, body []byte) (Answer, error) {
	return c.call(ctx, request{path: path, header: header, body: body, most: maxBody})
}

// PostOnce is Post without any repetition.
func (c *Client) PostOnce(ctx context.Context, path string, header http.Header, body []byte) (Answer, error) {
	return c.post(ctx, c.o.APIKey.Get(), request{path: path, header: header, body: body, most: maxBody})
}

// A request is what [Client.Post] sends, and two things that differ from call to
// call.
type request struct {
	path   string
	header http.Header
	body   []byte
	// most is the most that is read of the answer, in bytes.
	most int
	// texts are parts of the body that no error may quote.
	texts []string
}

// call makes attempts and reads the whole answer.
func (c *Client) call(ctx context.Context, r request) (a Answer, err error) {
	err = c.retry(ctx, func(key string) (err error) {
		a, err = c.post(ctx, key, r)
		return err
	})
	return a, err
}

// post makes one attempt and reads the whole answer.
func (c *Client) post(ctx context.Context, key string, r request) (Answer, error) {
	resp, err := c.send(ctx, key, r)
	if err != nil {
		return Answer{}, err
	}
	defer resp.Body.Close() //nolint:errcheck // Read to its end, or given up.
	data, err := io.ReadAll(io.LimitReader(resp.Body, int64(r.most)+1))
	a := Answer{Body: data, requestID: resp.Header.Get(requestID), scrub: c.scrubber(key, r.texts)}
	switch {
	case err != nil && ctx.Err() != nil:
		return Answer{}, unreached(ctx, err, a.scrub)
	case err != nil:
		return Answer{}, a.Unusable(fmt.Errorf("the answer was cut short: %w", err))
	case len(data) > r.most:
		return Answer{}, a.Unusable(fmt.Errorf("the answer is larger than %d kB", r.most>>10))
	default:
		return a, nil
	}
}

// send makes one attempt. It returns an answer of status 200 with its body open,
// and makes an error of any other.
func (c *Client) send(ctx context.Context, key string, r request) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.o.BaseURL+r.path, bytes.NewReader(r.body))
	if err != nil {
		return nil, fmt.Errorf("building the request to OpenAI: %w", withoutURL(err))
	}
	maps.Copy(req.Header, r.header)
	req.Header.Set("Authorization", "Bearer "+key)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "docent")
	scrub := c.scrubber(key, r.texts)
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, unreached(ctx, err, scrub)
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer resp.Body.Close() //nolint:errcheck // Read to its end, or given up.
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil && ctx.Err() != nil {
		return nil, unreached(ctx, err, scrub)
	}
	return nil, refused(resp, data, scrub, c.o.Now())
}
