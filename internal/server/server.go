// Package server carries a handler over HTTP: its bounds on clients, and an
// orderly end.
package server

import (
	"context"
	"errors"
	"fmt"
	stdlog "log"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"
)

const (
	// headerTimeout is how long a client may take to send its header block over
	// HTTP/1.1. Over HTTP/2 it has until its ping is overdue, because no frame may come
	// between those of a header block.
	headerTimeout = 10 * time.Second
	// maxHeader is the largest header block, with the request line.
	maxHeader = 32 << 10
	// headerSlop is how much net/http allows beyond MaxHeaderBytes: a buffer of its
	// own, and the bytes that it reads first to tell HTTP/1.1 and HTTP/2 apart.
	headerSlop = 4<<10 + len("PRI * HTTP/2.0")
	// idleTimeout is how long a connection is kept without a request.
	idleTimeout = 2 * time.Minute
	// drainTimeout is how long requests in flight may take after the signal to stop.
	// Cloud Run kills the process after 10 s.
	drainTimeout = 9 * time.Second
	// maxStreams is how many requests one HTTP/2 connection may carry at a time. Cloud
	// Run sends those of many visitors through one.
	maxStreams = 1000
	// pingTimeout is how long an HTTP/2 connection may be silent before it is asked
	// whether the other end is still there, and then how long the answer may take.
	pingTimeout = 15 * time.Second
	// stallTimeout is how long an HTTP/2 connection may take no byte. A write deadline
	// ends a stream, but cannot free a handler whose bytes the connection does not take.
	stallTimeout = 2 * pingTimeout
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
	var inFlight atomic.Int64
	srv := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			inFlight.Add(1)
			defer inFlight.Add(-1)
			h.ServeHTTP(w, r)
		}),
		Protocols: &both,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: maxStreams,
			SendPingTimeout:      pingTimeout,
			PingTimeout:          pingTimeout,
			WriteByteTimeout:     stallTimeout,
		},
		ReadHeaderTimeout: headerTimeout,
		// No ReadTimeout: the handler bounds how long it waits for a body, and when
		// that deadline passes net/http stops noticing that a client leaves.
		WriteTimeout:   headerTimeout + budget,
		IdleTimeout:    idleTimeout,
		MaxHeaderBytes: maxHeader - headerSlop,
		ErrorLog:       stdlog.New(errorLog{log}, "", 0),
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
		// net/http keeps an HTTP/2 connection for a second after its last request.
		if inFlight.Load() > 0 {
			log.Warn("requests were still in flight when the time to drain was over")
		}
		err = srv.Close()
	}
	if err != nil {
		return fmt.Errorf("stopping: %w", err)
	}
	return nil
}

// errorLog is the log of net/http without the faults of HTTP/2 clients: any client can
// cause those for free, and they name its address.
type errorLog struct{ log *slog.Logger }

func (l errorLog) Write(line []byte) (int, error) {
	message := strings.TrimSuffix(string(line), "\n")
	if strings.HasPrefix(message, "http: ") || strings.HasPrefix(message, "http2: panic serving") {
		l.log.Warn(message)
	}
	return len(line), nil
}
