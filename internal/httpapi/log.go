package httpapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime/debug"
	"sync"
	"time"

	"docent/internal/hosted"
	"docent/internal/origin"
	"docent/internal/ratelimit"

	"github.com/go-chi/chi/v5/middleware"
)

// NewLogger returns a logger in Cloud Logging's shape ("json") or for a person
// to read ("text").
func NewLogger(w io.Writer, format string, level slog.Level) *slog.Logger {
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level, ReplaceAttr: cloudLogging}))
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level, ReplaceAttr: forPeople}))
}

// The names that Cloud Logging gives a meaning to.
const (
	requestAttr = "httpRequest"
	traceAttr   = "logging.googleapis.com/trace"
	spanAttr    = "logging.googleapis.com/spanId"
)

// httpRequest is the value of requestAttr. It is no slog group, because a
// handler that drops all of a group drops what follows it, too.
type httpRequest struct {
	Method  string `json:"requestMethod"`
	URL     string `json:"requestUrl"` // The path alone: a query may hold anything.
	Status  int    `json:"status"`
	Latency string `json:"latency"`
}

// cloudLogging renames slog's own attributes.
func cloudLogging(groups []string, a slog.Attr) slog.Attr {
	if len(groups) > 0 {
		return a
	}
	switch a.Key {
	case slog.LevelKey:
		a.Key = "severity"
		if a.Value.Any() == slog.LevelWarn {
			a.Value = slog.StringValue("WARNING")
		}
	case slog.MessageKey:
		a.Key = "message"
	}
	return a
}

// forPeople leaves out what the message has said already and what only Google
// Cloud makes use of.
func forPeople(groups []string, a slog.Attr) slog.Attr {
	if len(groups) > 0 {
		return a
	}
	switch a.Key {
	case requestAttr, traceAttr, spanAttr:
		return slog.Attr{}
	case slog.TimeKey:
		return slog.String(slog.TimeKey, a.Value.Time().Format("15:04:05.000"))
	}
	return a
}

// record gathers what the log says of one request. Only the request's own
// goroutine writes it.
type record struct {
	id, span          string
	outcome           string
	cause             error
	decision          ratelimit.Decision
	limiter, upstream time.Duration
}

type recordKey struct{}

func recordOf(ctx context.Context) *record {
	rec, _ := ctx.Value(recordKey{}).(*record)
	return rec
}

// logRequest gives the request its ID and writes one record of it at the end.
// The record holds no address, no query and no header but the origin that was
// refused.
func (a *api) logRequest(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		started := a.Now()
		rec := &record{}
		rec.id, rec.span = traceOf(r.Header)
		ww := middleware.NewWrapResponseWriter(w, r.ProtoMajor)
		// Firebase Hosting drops Set-Cookie from an answer that is not private, and
		// caches a 404 for ten minutes that says nothing of caching.
		ww.Header().Set("Cache-Control", "private, no-store")
		ww.Header().Set("X-Content-Type-Options", "nosniff")
		ww.Header().Set("X-Request-Id", rec.id)
		next.ServeHTTP(ww, r.WithContext(context.WithValue(r.Context(), recordKey{}, rec)))

		level := a.level(r, rec, started)
		if !a.Log.Enabled(r.Context(), level) {
			return
		}
		a.Log.LogAttrs(r.Context(), level, fmt.Sprintf("%s %s %d %s", r.Method, r.URL.Path, ww.Status(), rec.outcome),
			a.attrs(r, rec, ww.Status(), a.Now().Sub(started))...)
	})
}

func (a *api) attrs(r *http.Request, rec *record, status int, took time.Duration) []slog.Attr {
	attrs := []slog.Attr{
		slog.Any(requestAttr, httpRequest{r.Method, r.URL.Path, status, fmt.Sprintf("%.6fs", took.Seconds())}),
		slog.String("request_id", rec.id),
		slog.Float64("total_ms", milliseconds(took)),
	}
	if a.Project != "" {
		attrs = append(attrs, slog.String(traceAttr, "projects/"+a.Project+"/traces/"+rec.id))
	}
	if rec.span != "" {
		attrs = append(attrs, slog.String(spanAttr, rec.span))
	}
	if rec.outcome != "" {
		attrs = append(attrs, slog.String("outcome", rec.outcome))
	}
	if rec.decision.Refused != "" {
		attrs = append(attrs, slog.String("limited_by", string(rec.decision.Refused)))
	}
	if rec.limiter > 0 {
		attrs = append(attrs, slog.Float64("limiter_ms", milliseconds(rec.limiter)))
	}
	if rec.upstream > 0 {
		attrs = append(attrs, slog.Float64("upstream_ms", milliseconds(rec.upstream)))
	}
	if o := r.Header.Get("Origin"); rec.outcome == codeOriginNotAllowed && origin.WellFormed(o) {
		attrs = append(attrs, slog.String("origin", o)) // What the operator would add to ALLOWED_ORIGINS.
	}
	var upstream *hosted.Error
	switch {
	case errors.As(rec.cause, &upstream):
		attrs = append(attrs, slog.Any("upstream", upstream))
	case rec.cause != nil:
		attrs = append(attrs, slog.String("error", rec.cause.Error()))
	}
	return attrs
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// level keeps the log's volume bounded, whatever is sent: sessions are bounded
// by the ceiling, each bucket's first refusal by the sessions before it, what
// costs the visitor nothing by a number a minute.
func (a *api) level(r *http.Request, rec *record, now time.Time) slog.Level {
	p, failed := problems[rec.outcome]
	switch {
	case rec.outcome == "granted", rec.outcome == "limited" && rec.decision.First:
		return slog.LevelInfo
	case !failed, r.Method == http.MethodOptions, p.free && !a.noise.allow(rec.outcome, now):
		return slog.LevelDebug
	default:
		return p.level
	}
}

// noisePerMinute is how many records a minute there are of each refusal that
// anybody can cause for nothing.
const noisePerMinute = 60

// noise counts such records in the minute.
type noise struct {
	mu     sync.Mutex
	minute ratelimit.Minute
	counts map[string]int
}

func (n *noise) allow(outcome string, now time.Time) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if m := ratelimit.MinuteOf(now); m != n.minute || n.counts == nil {
		n.minute, n.counts = m, map[string]int{}
	}
	n.counts[outcome]++
	return n.counts[outcome] <= noisePerMinute
}

// recoverPanic makes an answer of a panic.
func (a *api) recoverPanic(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			switch v := recover(); v {
			case nil:
			case http.ErrAbortHandler:
				panic(v)
			default:
				a.fail(w, r, fmt.Errorf("panic: %v\n%s", v, debug.Stack()))
			}
		}()
		next.ServeHTTP(w, r)
	})
}
