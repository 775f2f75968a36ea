package httpapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"docent/internal/logging"
	"docent/internal/openai"
	"docent/internal/origin"
	"docent/internal/ratelimit"

	"github.com/go-chi/chi/v5/middleware"
)

// exchange is the state of one request: what its handlers tell each other and, at
// the end, the log. Only the request's own goroutine writes it.
type exchange struct {
	id, span          string
	outcome           string
	cause             error
	decision          ratelimit.Decision
	limiter, upstream time.Duration
	text              <-chan string // For [sentText]; nil where no text is sent.
	chat              *chat         // On the chat route.
	backend           string        // That of a session or a message, once it is known.
}

const (
	backendHosted = "hosted"
	backendDocs   = "docs"
)

// The outcomes that are neither the code of an error nor that of an answer.
const (
	outcomeGranted = "granted"
	outcomeLimited = "limited"
	// Of the chat route.
	outcomeOK       = "ok"       // A request that is answered with JSON.
	outcomeReplaced = "replaced" // A message that was sent again while it was answered.
)

type exchangeKey struct{}

func exchangeOf(ctx context.Context) *exchange {
	x, _ := ctx.Value(exchangeKey{}).(*exchange)
	return x
}

// logRequest gives the request its ID and writes one record of it at the end. The
// record has no address, no query and no header, except an origin that was refused.
func (a *api) logRequest(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		started := a.Now()
		x := &exchange{}
		x.id, x.span = traceOf(r.Header)
		ww := middleware.NewWrapResponseWriter(w, r.ProtoMajor)
		// Firebase Hosting drops Set-Cookie from an answer that is not private, and
		// caches a 404 without this header for ten minutes.
		ww.Header().Set("Cache-Control", "private, no-store")
		ww.Header().Set("X-Content-Type-Options", "nosniff")
		ww.Header().Set("X-Request-Id", x.id)
		next.ServeHTTP(ww, r.WithContext(context.WithValue(r.Context(), exchangeKey{}, x)))

		level := a.level(r, x, started)
		if !a.Log.Enabled(r.Context(), level) {
			return
		}
		a.Log.LogAttrs(r.Context(), level, fmt.Sprintf("%s %s %d %s", r.Method, r.URL.Path, ww.Status(), x.outcome),
			a.attrs(r, x, ww.Status(), started)...)
	})
}

func (a *api) attrs(r *http.Request, x *exchange, status int, started time.Time) []slog.Attr {
	took := a.Now().Sub(started)
	attrs := []slog.Attr{
		logging.Request(r.Method, r.URL.Path, status, took),
		slog.String("request_id", x.id),
		slog.Float64("total_ms", milliseconds(took)),
	}
	if a.Project != "" {
		attrs = append(attrs, logging.Trace(a.Project, x.id))
	}
	if x.span != "" {
		attrs = append(attrs, logging.Span(x.span))
	}
	if x.outcome != "" {
		attrs = append(attrs, slog.String("outcome", x.outcome))
	}
	if x.backend != "" {
		attrs = append(attrs, slog.String("backend", x.backend))
	}
	if x.decision.Refused != "" {
		attrs = append(attrs, slog.String("limited_by", string(x.decision.Refused)))
	}
	if x.limiter > 0 {
		attrs = append(attrs, slog.Float64("limiter_ms", milliseconds(x.limiter)))
	}
	if x.upstream > 0 {
		attrs = append(attrs, slog.Float64("upstream_ms", milliseconds(x.upstream)))
	}
	if o := r.Header.Get("Origin"); x.outcome == codeOriginNotAllowed && origin.WellFormed(o) {
		attrs = append(attrs, slog.String("origin", o)) // What the operator would add to ALLOWED_ORIGINS.
	}
	if x.chat != nil {
		attrs = append(attrs, x.chat.attrs(started)...)
	}
	var upstream *openai.Error
	switch {
	case errors.As(x.cause, &upstream):
		attrs = append(attrs, slog.Any("upstream", upstream))
	case x.cause != nil:
		attrs = append(attrs, slog.String("error", x.cause.Error()))
	}
	return attrs
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// level bounds the log's volume, whatever clients send. Sessions are bounded by the
// ceiling, first refusals of a bucket by the sessions before them, and refusals that
// cost their sender nothing by the sampler.
func (a *api) level(r *http.Request, x *exchange, started time.Time) slog.Level {
	p, failed := problems[x.outcome]
	switch {
	case x.chat != nil && x.chat.admitted:
		return x.chat.level(x.outcome)
	case x.outcome == outcomeOK && x.chat.request.Kind != "" && a.sampler.allow("feedback", started):
		return slog.LevelInfo
	case x.outcome == outcomeGranted, x.outcome == outcomeLimited && x.decision.First:
		return slog.LevelInfo
	case !failed, r.Method == http.MethodOptions, p.sampled && !a.sampler.allow(x.outcome, started):
		return slog.LevelDebug
	default:
		return p.level
	}
}
