package openai

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Kind is what a failure means for the caller.
type Kind int

// The kinds of failure.
const (
	// Rejected: OpenAI refused the key or the request, or its answer is not what
	// it should be. An operator must act.
	Rejected Kind = iota
	// NotFound: OpenAI does not know what the request names. An operator must act.
	NotFound
	// Busy: OpenAI cannot serve now, or could not be reached.
	Busy
	// Timeout: the budget ran out before OpenAI answered anything.
	Timeout
	// Spent: the project has no credit, or is over its limits of spending. An operator
	// must act.
	Spent
	// TooLong: the request is longer than the model allows.
	TooLong
)

// Bounds of the time that callers are told to wait while OpenAI is busy.
const (
	minRetryAfter     = time.Second
	maxRetryAfter     = time.Minute
	defaultRetryAfter = 5 * time.Second
)

// quota is OpenAI's type, and an older code, for a project that is out of credit or
// over its limits of spending.
const quota = "insufficient_quota"

// tooLarge begins the message for a request that is larger than a minute's tokens.
const tooLarge = "Request too large"

// Error is a failed call. All of it is for the operator's log. Only Kind and
// RetryAfter may show in what a visitor gets.
type Error struct {
	Kind Kind
	// Status is OpenAI's, or 0 where there was no answer.
	Status int
	// RequestID is OpenAI's x-request-id, which their support asks for.
	RequestID string
	// Type, Code and Message are OpenAI's own, without credentials and without a
	// token in the base URL.
	Type, Code, Message string

	param         string // The parameter that OpenAI refused.
	cause         error
	hasRetryAfter bool
	retryAfter    time.Duration // OpenAI's, if it sent one.
}

func (e *Error) Error() string {
	switch {
	case e.cause != nil && e.Status != 0:
		return fmt.Sprintf("OpenAI answered %d: %v", e.Status, e.cause)
	case e.cause != nil:
		return fmt.Sprintf("no answer from OpenAI: %v", e.cause)
	default:
		return fmt.Sprintf("OpenAI answered %d", e.Status)
	}
}

func (e *Error) Unwrap() error { return e.cause }

// RetryAfter is how long the caller should wait before trying again: what
// OpenAI said, within 1 s and 60 s, else 5 s.
func (e *Error) RetryAfter() time.Duration {
	if !e.hasRetryAfter {
		return defaultRetryAfter
	}
	return min(max(e.retryAfter, minRetryAfter), maxRetryAfter)
}

// LogValue is what the request log holds of a failure.
func (e *Error) LogValue() slog.Value {
	attrs := []slog.Attr{slog.String("error", e.Error())}
	for _, a := range []slog.Attr{
		slog.String("request_id", e.RequestID),
		slog.String("type", e.Type),
		slog.String("code", e.Code),
		slog.String("message", e.Message),
	} {
		if a.Value.String() != "" {
			attrs = append(attrs, a)
		}
	}
	return slog.GroupValue(attrs...)
}

// unreached returns the error for a call that got no complete answer. Its cause is
// only a text: the error that net/http returns has the whole URL in it, and may
// quote the answer.
func unreached(ctx context.Context, err error, scrub func(string) string) error {
	switch ctx.Err() {
	case context.Canceled:
		return fmt.Errorf("asking OpenAI: %w", context.Canceled)
	case context.DeadlineExceeded:
		return &Error{Kind: Timeout, cause: context.DeadlineExceeded}
	default:
		return &Error{Kind: Busy, cause: errors.New(scrub(withoutURL(err).Error()))}
	}
}

// withoutURL returns what net/http says of a failed call, without the URL.
func withoutURL(err error) error {
	var call *url.Error
	if errors.As(err, &call) {
		return call.Err
	}
	return err
}

// refused returns the error for an answer that is not 200.
func refused(resp *http.Response, body []byte, scrub func(string) string, now time.Time) *Error {
	e := &Error{Kind: kindOf(resp.StatusCode), Status: resp.StatusCode, RequestID: scrub(resp.Header.Get(requestID))}
	if e.Kind == Busy {
		e.retryAfter, e.hasRetryAfter = retryAfter(resp.Header.Get("Retry-After"), now)
	}
	var answer struct {
		Error apiError `json:"error"`
	}
	var otherType *json.UnmarshalTypeError // The rest was decoded all the same.
	if err := json.Unmarshal(body, &answer); err != nil && !errors.As(err, &otherType) {
		e.cause = errors.New("its body is not JSON")
		return e
	}
	e.fill(answer.Error, scrub)
	return e
}

// apiError is an error as OpenAI writes it.
type apiError struct {
	Type    string `json:"type"`
	Code    any    `json:"code"` // A gateway's may be a number.
	Message string `json:"message"`
	Param   string `json:"param"`
}

func (a apiError) code() string {
	if a.Code == nil {
		return ""
	}
	return fmt.Sprint(a.Code)
}

// fill takes over what OpenAI says of an error.
func (e *Error) fill(a apiError, scrub func(string) string) {
	e.Type, e.Code, e.Message, e.param = scrub(a.Type), scrub(a.code()), scrub(a.Message), a.Param
	// What decides is what OpenAI said, not what is left of it for the log.
	switch a.code() {
	case quota, "credit_balance_exhausted", "organization_spend_limit_exceeded", "project_spend_limit_exceeded", "organization_usage_limit_exceeded":
		e.Kind = Spent
	case "context_length_exceeded":
		e.Kind = TooLong
	default:
		switch {
		case a.Type == quota:
			e.Kind = Spent
		case strings.HasPrefix(a.Message, tooLarge): // Waiting does not help, as it does for other limits.
			e.Kind = Rejected
		}
	}
	if m := hint.FindStringSubmatch(a.Message); m != nil && !e.hasRetryAfter {
		d, err := time.ParseDuration(strings.ToLower(m[1]))
		e.retryAfter, e.hasRetryAfter = d, err == nil
	}
}

// hint matches how long to wait, where only the message says it.
var hint = regexp.MustCompile(`(?i)try again in ((?:[0-9]{1,6}(?:\.[0-9]{1,6})?(?:ms|s|m|h))+)`)

func kindOf(status int) Kind {
	switch {
	case status == http.StatusNotFound, status == http.StatusGone:
		return NotFound
	case status == http.StatusRequestTimeout, status == http.StatusConflict, status == http.StatusTooManyRequests, status >= 500:
		return Busy
	default:
		return Rejected
	}
}

// retryAfter parses the header's two forms, seconds and a date. It returns a day
// at most.
func retryAfter(header string, now time.Time) (d time.Duration, ok bool) {
	const day = 24 * time.Hour
	if seconds, err := strconv.ParseUint(header, 10, 64); err == nil || errors.Is(err, strconv.ErrRange) {
		return time.Duration(min(seconds, uint64(day/time.Second))) * time.Second, true
	}
	if at, err := http.ParseTime(header); err == nil {
		return min(max(0, at.Sub(now)), day), true
	}
	return 0, false
}
