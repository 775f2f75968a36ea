// Package logging makes the one log that Docent writes: structured, on standard
// output, for Cloud Logging or for a person.
package logging

import (
	"fmt"
	"io"
	"log/slog"
	"time"
)

// New returns a logger in Cloud Logging's shape ("json") or for a person to read
// ("text").
func New(w io.Writer, format string, level slog.Level) *slog.Logger {
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level, ReplaceAttr: cloudLogging}))
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level, ReplaceAttr: forPeople}))
}

// The names that Cloud Logging gives a meaning to.
const (
	requestKey = "httpRequest"
	traceKey   = "logging.googleapis.com/trace"
	spanKey    = "logging.googleapis.com/spanId"
)

// httpRequest is the value of requestKey. It is a struct rather than a slog
// group: where ReplaceAttr removes every member of a group, slog (Go 1.26, both
// handlers) also loses the attributes after the group.
type httpRequest struct {
	Method  string `json:"requestMethod"`
	URL     string `json:"requestUrl"`
	Status  int    `json:"status"`
	Latency string `json:"latency"`
}

// Request returns the attribute that makes a record the log of one request. The
// path must come without its query, which may hold anything.
func Request(method, path string, status int, took time.Duration) slog.Attr {
	return slog.Any(requestKey, httpRequest{method, path, status, fmt.Sprintf("%.6fs", took.Seconds())})
}

// Trace returns the attribute that ties a record to a trace of a Google Cloud
// project.
func Trace(project, id string) slog.Attr {
	return slog.String(traceKey, "projects/"+project+"/traces/"+id)
}

// Span returns the attribute that ties a record to a span of its trace.
func Span(id string) slog.Attr { return slog.String(spanKey, id) }

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

// forPeople leaves out what the message says already and what only Google Cloud
// uses.
func forPeople(groups []string, a slog.Attr) slog.Attr {
	if len(groups) > 0 {
		return a
	}
	switch a.Key {
	case requestKey, traceKey, spanKey:
		return slog.Attr{}
	case slog.TimeKey:
		return slog.String(slog.TimeKey, a.Value.Time().Format("15:04:05.000"))
	}
	return a
}
