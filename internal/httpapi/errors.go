package httpapi

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"docent/internal/chatkit"
	"docent/internal/openai"
	"docent/internal/ratelimit"
)

// The codes that a page may rely on.
const (
	codeOriginNotAllowed     = "origin_not_allowed"
	codeNotFound             = "not_found"
	codeMethodNotAllowed     = "method_not_allowed"
	codeClientAddressUnknown = "client_address_unknown"
	codeBadRequest           = "bad_request"
	codeRateLimited          = "rate_limited"
	codeUpstreamRejected     = "upstream_rejected"
	codeAssistantUnavailable = "assistant_unavailable"
	codeUpstreamBusy         = "upstream_busy"
	codeUpstreamTimeout      = "upstream_timeout"
	codeLimiterUnavailable   = "limiter_unavailable"
	codeOverCapacity         = "over_capacity"
	codeClientGone           = "client_gone"
	codeSessionInvalid       = "session_invalid"
	codeNotSupported         = "not_supported"
	codeRequestTooLarge      = "request_too_large"
	codeThreadNotFound       = "thread_not_found"
	codeItemNotFound         = "item_not_found"
	codeThreadClosed         = "thread_closed"
	codeBusy                 = "busy"
	codeAnswersUsedUp        = "answers_used_up"
	codeConversationsDown    = "conversations_unavailable"
	codeInternal             = "internal"
)

// statusClientGone is the status that nginx logs for a client that has closed its
// request. It appears in the log alone.
const statusClientGone = 499

// problem is what a code means to the page, and how much it matters to the operator.
type problem struct {
	status  int
	message string
	level   slog.Level
	// sampled says that causing it costs the sender nothing and Docent no call, so
	// that a flood of it must not become a flood in the log.
	sampled bool
}

var problems = map[string]problem{
	codeOriginNotAllowed:     {http.StatusForbidden, "This page is not allowed to use the assistant.", slog.LevelInfo, true},
	codeNotFound:             {http.StatusNotFound, "There is nothing here.", slog.LevelDebug, true},
	codeMethodNotAllowed:     {http.StatusMethodNotAllowed, "This method does not work here.", slog.LevelDebug, true},
	codeClientAddressUnknown: {http.StatusBadRequest, "Your network address could not be determined.", slog.LevelWarn, true},
	codeRateLimited:          {http.StatusTooManyRequests, "Too many requests came from your network in a short time. Please try again in a moment.", slog.LevelInfo, false},
	codeUpstreamRejected:     {http.StatusBadGateway, "The assistant could not be started.", slog.LevelError, false},
	codeAssistantUnavailable: {http.StatusServiceUnavailable, "The assistant is not available.", slog.LevelError, false},
	codeUpstreamBusy:         {http.StatusServiceUnavailable, "The assistant is busy. Please try again in a moment.", slog.LevelWarn, false},
	codeUpstreamTimeout:      {http.StatusGatewayTimeout, "The assistant took too long to answer. Please try again.", slog.LevelWarn, false},
	codeLimiterUnavailable:   {http.StatusServiceUnavailable, "The assistant is not available right now. Please try again later.", slog.LevelWarn, true},
	codeOverCapacity:         {http.StatusServiceUnavailable, "Many people are using the assistant right now. Please try again in a moment.", slog.LevelWarn, true},
	codeClientGone:           {statusClientGone, "The request was cancelled.", slog.LevelInfo, true},
	codeSessionInvalid:       {http.StatusUnauthorized, "Your session has ended. Please reload the page.", slog.LevelInfo, true},
	codeBadRequest:           {http.StatusBadRequest, "The request is not valid.", slog.LevelInfo, true},
	codeNotSupported:         {http.StatusBadRequest, "The assistant does not support this.", slog.LevelInfo, true},
	codeRequestTooLarge:      {http.StatusRequestEntityTooLarge, "The message is too long.", slog.LevelInfo, true},
	codeThreadNotFound:       {http.StatusNotFound, "This conversation does not exist. It may have expired or been deleted.", slog.LevelInfo, true},
	codeItemNotFound:         {http.StatusNotFound, "This message does not exist any more.", slog.LevelInfo, true},
	codeThreadClosed:         {http.StatusConflict, "This conversation is full. Please start a new one.", slog.LevelInfo, true},
	codeBusy:                 {http.StatusTooManyRequests, "The assistant is busy. Please try again in a moment.", slog.LevelWarn, true},
	codeAnswersUsedUp:        {http.StatusTooManyRequests, "The assistant has given all its answers for today. Please come back tomorrow.", slog.LevelInfo, true},
	codeConversationsDown:    {http.StatusServiceUnavailable, "Conversations are not available right now. Please try again later.", slog.LevelWarn, true},
	codeInternal:             {http.StatusInternalServerError, "Something went wrong on our side.", slog.LevelError, false},
}

// failure is an error with a code for the page and a cause for the log.
type failure struct {
	code string
	// message replaces the code's sentence for the page where it is not empty.
	message string
	// retryAfter is told to the visitor where it is not 0.
	retryAfter time.Duration
	cause      error
}

func (f *failure) Error() string {
	if f.cause == nil {
		return f.code
	}
	return fmt.Sprintf("%s: %v", f.code, f.cause)
}

// failureOf gives every error its code. It is the only place that translates other
// packages' errors to HTTP.
func failureOf(err error) *failure {
	var (
		f        *failure
		upstream *openai.Error
		over     *ratelimit.OverCapacityError
		invalid  *chatkit.BadRequestError
	)
	switch {
	case errors.As(err, &f):
		return f
	case errors.As(err, &upstream):
		switch upstream.Kind {
		case openai.NotFound:
			return &failure{code: codeAssistantUnavailable, cause: err}
		case openai.Busy, openai.Spent:
			return &failure{code: codeUpstreamBusy, retryAfter: upstream.RetryAfter(), cause: err}
		case openai.Timeout:
			return &failure{code: codeUpstreamTimeout, cause: err}
		case openai.Rejected, openai.TooLong:
			return &failure{code: codeUpstreamRejected, cause: err}
		}
	case errors.As(err, &over):
		return &failure{code: codeOverCapacity, retryAfter: over.RetryAfter, cause: err}
	case errors.As(err, &invalid):
		return &failure{code: codeBadRequest, message: invalid.Error()}
	case errors.Is(err, chatkit.ErrNotSupported):
		return &failure{code: codeNotSupported}
	case errors.Is(err, chatkit.ErrNotFound):
		return &failure{code: codeThreadNotFound}
	case errors.Is(err, chatkit.ErrItemNotFound):
		return &failure{code: codeItemNotFound}
	case errors.Is(err, chatkit.ErrClosed):
		return &failure{code: codeThreadClosed}
	case errors.Is(err, chatkit.ErrUnavailable) && !errors.Is(err, context.Canceled):
		return &failure{code: codeConversationsDown, cause: err}
	case errors.Is(err, ratelimit.ErrUnavailable), errors.Is(err, ratelimit.ErrFull):
		return &failure{code: codeLimiterUnavailable, cause: err}
	case errors.Is(err, context.Canceled), errors.Is(err, chatkit.ErrReplaced):
		return &failure{code: codeClientGone, cause: err}
	}
	return &failure{code: codeInternal, cause: err}
}

// fail answers with an error. The cause goes to the log and nowhere else.
func (a *api) fail(w http.ResponseWriter, r *http.Request, err error) {
	f := failureOf(err)
	x := exchangeOf(r.Context())
	x.outcome, x.cause = f.code, f.cause
	p := problems[f.code]
	message := cmp.Or(f.message, p.message)
	if c := x.chat; c != nil && c.mustStream(p.status) {
		s := c.open(w, a.Now)
		defer s.end()
		retry := p.status >= 429 && f.code != codeAnswersUsedUp // Nobody waits until tomorrow.
		_ = s.send(chatkit.ErrorEvent(message, retry))          // Else there is nobody to tell.
		return
	}
	if f.code == codeRateLimited {
		x.outcome = outcomeLimited
		setRateLimit(w.Header(), x.decision)
	}
	body := struct {
		Error      string `json:"error"`
		Message    string `json:"message,omitempty"` // Where ChatKit looks for it.
		Code       string `json:"code"`
		RequestID  string `json:"request_id"`
		RetryAfter int64  `json:"retry_after,omitempty"`
	}{Error: message, Code: f.code, RequestID: x.id, RetryAfter: seconds(f.retryAfter)}
	if x.chat != nil {
		body.Message = message
	}
	if body.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.FormatInt(body.RetryAfter, 10))
	}
	if err := a.writeJSON(w, p.status, body); err != nil {
		a.Log.Error("could not answer", "error", err)
	}
}

// mustStream reports whether an error is to be an event of a stream. Of any other
// answer to a streaming request than a stream, ChatKit shows the visitor nothing: it
// drops their words, and after a 5xx sends them five times more. The widget handles
// statuses itself, but for those.
func (c *chat) mustStream(status int) bool {
	return c.stream != nil || c.streams && (!c.widget || status >= http.StatusInternalServerError)
}

// writeJSON encodes before it writes, so that a value that cannot be encoded can
// still be answered with an error.
func (a *api) writeJSON(w http.ResponseWriter, status int, v any) error {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("encoding the answer: %w", err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(buf.Len()))
	w.WriteHeader(status)
	if _, err := w.Write(buf.Bytes()); err != nil {
		a.Log.Debug("the visitor left before the answer", "error", err)
	}
	return nil
}
