// Package server carries a handler over HTTP: its bounds on clients, and an
// orderly end.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"
)

const (
	// headerTimeout is how long a client may take to send its header block.
	headerTimeout = 10 * time.Second
	// maxHeader is the largest header block, with the request line.
	maxHeader = 32 << 10
	// headerSlop is how much net/http allows beyond MaxHeaderBytes, at least. It may
	// be as much again, which it has read to tell HTTP/1.1 and HTTP/2 apart.
	headerSlop = 4 << 10
	// idleTimeout is how long a connection is kept without a request.
	idleTimeout = 2 * time.Minute
	// drainTimeout is how long requests in flight may take after the signal to stop.
	// Cloud Run kills the process after 10 s.
	drainTimeout = 9 * time.Second
	// maxStreams is how many requests one HTTP/2 connection may carry at a time. Cloud
	// Run sends those of many visitors through one.
	maxStreams = 1000
	// pingTimeout is how long an HTTP/2 connection may be silent before it is asked
	// whether the other end is still there.
	pingTimeout = 15 * time.Second
)

// Serve answers requests on l until ctx ends, then finishes those in flight
// and returns nil. budget is the longest that an answer takes; a handler that
// streams sets a new write deadline for each part.
//
// It speaks HTTP/1.1, and HTTP/2 without TLS to clients that know it does: with
// HTTP/1.1, Cloud Run does not tell a container that a visitor has left.
func Serve(ctx context.Context, l net.Listener, h http.Handler, budget time.Duration, log *slog.Logger) error {
	var both http.Protocols
	both.SetHTTP1(true) // Cloud Run's probes.
	both.SetUnencryptedHTTP2(true)
	srv := &http.Server{
		Handler:           h,
		Protocols:         &both,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: maxStreams, SendPingTimeout: pingTimeout},
		ReadHeaderTimeout: headerTimeout,
		// No ReadTimeout: the handler bounds how long it waits for a body, and when
		// that deadline passes net/http stops noticing that a client leaves.
		WriteTimeout:   headerTimeout + budget,
		IdleTimeout:    idleTimeout,
		MaxHeaderBytes: maxHeader - headerSlop,
		ErrorLog:       slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		// The routes refuse OPTIONS *, like any other path.
		DisableGeneralOptionsHandler: true,
	}
	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(l) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serving: %w", err)
	case <-ctx.Done():
	}
	log.Info("stopping")
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()
	err := srv.Shutdown(drain)
	if errors.Is(err, context.DeadlineExceeded) {
		log.Warn("requests were still in flight when the time to drain was over")
		err = srv.Close()
	}
	if err != nil {
		return fmt.Errorf("stopping: %w", err)
	}
	return nil
}
