package server_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"docent/internal/server"
	"docent/internal/testkit/testpipe"
)

// budget is the longest that an answer takes in these tests.
const budget = 8 * time.Second

// running is a server under test.
type running struct {
	*testpipe.Listener

	log  *strings.Builder
	stop func()
	// ended gets what Serve returns.
	ended chan error
}

func serve(t *testing.T, h http.HandlerFunc) *running {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	r := &running{
		Listener: testpipe.New(),
		log:      &strings.Builder{}, stop: stop, ended: make(chan error, 1),
	}
	go func() { r.ended <- server.Serve(ctx, r, h, budget, slog.New(slog.NewTextHandler(r.log, nil))) }()
	return r
}

// closedAfter returns how long a connection stays open from now on.
func closedAfter(c net.Conn) time.Duration {
	began := time.Now()
	_, _ = io.Copy(io.Discard, c) // Until the server closes it.
	return time.Since(began)
}

func ok(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") }

func TestServe_SlowHeader(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := serve(t, ok)
		conn := r.Dial()
		var sender sync.WaitGroup
		sender.Go(func() {
			for _, b := range []byte("GET / HTTP/1.1\r\nHost: docent\r\nX-Padding: and so on") {
				if _, err := conn.Write([]byte{b}); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		})
		if after := closedAfter(conn); after != 10*time.Second {
			t.Errorf("a client that is slow with its header was closed after %s, want 10s", after)
		}
		sender.Wait()
		r.stop()
		<-r.ended
	})
}

func TestServe_IdleConnection(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := serve(t, ok)
		conn := r.Dial()
		fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: docent\r\n\r\n")
		if after := closedAfter(conn); after != 2*time.Minute {
			t.Errorf("an idle connection was closed after %s, want 2m", after)
		}
		r.stop()
		<-r.ended
	})
}

// A pipe has no buffer: the answer waits for a client that does not read it.
func TestServe_SlowReader(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began, answered := time.Now(), make(chan time.Duration, 1)
		r := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			_, err := w.Write(make([]byte, 1<<20))
			if err == nil {
				t.Error("the answer was written to a client that does not read")
			}
			answered <- time.Since(began)
		})
		conn := r.Dial()
		fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: docent\r\n\r\n")
		if after := <-answered; after != 10*time.Second+budget {
			t.Errorf("the answer was given up after %s, want 18s", after)
		}
		r.stop()
		<-r.ended
	})
}

func TestServe_LargestHeader(t *testing.T) {
	t.Parallel()
	const line = "GET / HTTP/1.1\r\nHost: docent\r\nX-Padding: "
	for _, tt := range []struct{ size, want int }{
		{32 << 10, http.StatusOK},
		{32<<10 + 1, http.StatusRequestHeaderFieldsTooLarge},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := serve(t, ok)
			conn := r.Dial()
			go io.WriteString(conn, line+strings.Repeat("x", tt.size-len(line)-4)+"\r\n\r\n")
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil || resp.StatusCode != tt.want {
				t.Errorf("a header of %d bytes: %v, %v, want %d", tt.size, resp, err, tt.want)
			}
			conn.Close()
			r.stop()
			<-r.ended
		})
	}
}

func TestServe_Stop(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name     string
		takes    time.Duration // From the signal to stop to the answer.
		ends     time.Duration
		answered bool
	}{
		{"nothing in flight", 0, 0, true},
		{"in flight", 5 * time.Second, 5 * time.Second, true},
		{"in flight for too long", 12 * time.Second, 9 * time.Second, false},
	}
	for _, tt := range tests {
		synctest.Test(t, func(t *testing.T) {
			stopped := make(chan struct{})
			r := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if tt.takes > 0 {
					<-stopped
					select {
					case <-time.After(tt.takes):
					case <-r.Context().Done():
					}
				}
				ok(w, r)
			})
			conn := r.Dial()
			answers := make(chan error, 1)
			go func() {
				fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: docent\r\nConnection: close\r\n\r\n")
				_, err := http.ReadResponse(bufio.NewReader(conn), nil)
				answers <- err
				conn.Close()
			}()
			synctest.Wait()
			began := time.Now()
			r.stop()
			close(stopped)
			if err := <-r.ended; err != nil {
				t.Errorf("%s: %v", tt.name, err)
			}
			// Shutdown looks every half a second at most whether requests have ended.
			if took := time.Since(began); took < tt.ends || took > tt.ends+time.Second {
				t.Errorf("%s: stopped after %s, want %s", tt.name, took, tt.ends)
			}
			if err := <-answers; (err == nil) != tt.answered {
				t.Errorf("%s: the client got %v", tt.name, err)
			}
			if said := strings.Contains(r.log.String(), "still in flight"); said == tt.answered {
				t.Errorf("%s: the log has %s", tt.name, r.log)
			}
		})
	}
}

func TestServe_ListenerFails(t *testing.T) {
	t.Parallel()
	l := testpipe.New()
	l.Close()
	if err := server.Serve(t.Context(), l, http.HandlerFunc(ok), budget, slog.New(slog.DiscardHandler)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Serve: %v, want the listener's error", err)
	}
}
