package server_test

import (
	"context"
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
)

// clients are an HTTP/1.1 and an HTTP/2 client without TLS, as Cloud Run is.
var clients = map[string]func(*http.Protocols){
	"HTTP/1.1": func(p *http.Protocols) { p.SetHTTP1(true) },
	"h2c":      func(p *http.Protocols) { p.SetUnencryptedHTTP2(true) },
}

// client returns a client of the running server. Its connections must be closed.
func (r *running) client(protocol string) *http.Transport {
	tr := &http.Transport{
		Protocols:   new(http.Protocols),
		DialContext: func(context.Context, string, string) (net.Conn, error) { return r.Dial(), nil },
	}
	clients[protocol](tr.Protocols)
	return tr
}

func get(ctx context.Context, t *testing.T, tr *http.Transport, header string) (*http.Response, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://docent/", strings.NewReader("body"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Padding", header)
	return tr.RoundTrip(req)
}

// A stream lives as long as its handler sets deadlines, and no longer than the
// budget of an answer where it sets none.
func TestServe_Stream(t *testing.T) {
	t.Parallel()
	for protocol := range clients {
		for name, tt := range map[string]struct {
			deadlines bool
			want      int // Parts of 12.
		}{
			"deadline for each part": {true, 12},
			"no deadlines":           {false, 3},
		} {
			t.Run(protocol+"/"+name, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					r := serve(t, func(w http.ResponseWriter, _ *http.Request) {
						c := http.NewResponseController(w)
						for range 12 {
							if tt.deadlines {
								c.SetWriteDeadline(time.Now().Add(30 * time.Second))
							}
							io.WriteString(w, ".")
							if c.Flush() != nil {
								return
							}
							time.Sleep(8 * time.Second)
						}
					})
					tr := r.client(protocol)
					resp, err := get(t.Context(), t, tr, "")
					if err != nil {
						t.Fatal(err)
					}
					body, err := io.ReadAll(resp.Body)
					if len(body) != tt.want || (err == nil) != tt.deadlines {
						t.Errorf("%d parts, %v, want %d", len(body), err, tt.want)
					}
					resp.Body.Close()
					tr.CloseIdleConnections()
					r.stop()
					<-r.ended
					time.Sleep(time.Minute) // The handler may not know yet.
				})
			})
		}
	}
}

func TestServe_ClientLeaves(t *testing.T) {
	t.Parallel()
	for protocol := range clients {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				left := make(chan struct{})
				r := serve(t, func(w http.ResponseWriter, r *http.Request) {
					io.ReadAll(r.Body)
					http.NewResponseController(w).Flush()
					<-r.Context().Done()
					close(left)
				})
				tr := r.client(protocol)
				ctx, leave := context.WithCancel(t.Context())
				resp, err := get(ctx, t, tr, "")
				if err != nil {
					t.Fatal(err)
				}
				began := time.Now()
				leave()
				<-left
				if took := time.Since(began); took > 0 {
					t.Errorf("the handler learnt it after %s", took)
				}
				resp.Body.Close()
				tr.CloseIdleConnections()
				r.stop()
				<-r.ended
			})
		})
	}
}

// Shutdown waits for streams, too, and lets them send their end.
func TestServe_StopWithStreams(t *testing.T) {
	t.Parallel()
	for protocol := range clients {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				stopped := make(chan struct{})
				r := serve(t, func(w http.ResponseWriter, _ *http.Request) {
					http.NewResponseController(w).Flush()
					<-stopped
					time.Sleep(6 * time.Second)
					io.WriteString(w, "end")
				})
				tr := r.client(protocol)
				var streams sync.WaitGroup
				for range 50 {
					streams.Go(func() {
						resp, err := get(t.Context(), t, tr, "")
						if err != nil {
							t.Error(err)
							return
						}
						defer resp.Body.Close()
						if body, err := io.ReadAll(resp.Body); string(body) != "end" || err != nil {
							t.Errorf("%q, %v", body, err)
						}
					})
				}
				synctest.Wait()
				r.stop()
				close(stopped)
				streams.Wait()
				tr.CloseIdleConnections()
				if err := <-r.ended; err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// One connection carries the streams of more visitors than net/http's default of
// 250 would let it.
func TestServe_ManyStreamsOnOneConnection(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var all sync.WaitGroup
		all.Add(1000)
		r := serve(t, func(_ http.ResponseWriter, r *http.Request) {
			if r.Header.Get("X-Padding") != "first" {
				all.Done()
				all.Wait()
			}
		})
		tr := r.client("h2c")
		dialled := 0
		dial := tr.DialContext
		tr.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			dialled++
			return dial(ctx, network, addr)
		}
		first, err := get(t.Context(), t, tr, "first") // The others find its connection.
		if err != nil {
			t.Fatal(err)
		}
		first.Body.Close()
		var streams sync.WaitGroup
		for range 1000 {
			streams.Go(func() {
				resp, err := get(t.Context(), t, tr, "")
				if err != nil {
					t.Error(err)
					return
				}
				resp.Body.Close()
			})
		}
		streams.Wait()
		if dialled != 1 {
			t.Errorf("%d connections", dialled)
		}
		tr.CloseIdleConnections()
		r.stop()
		<-r.ended
	})
}

// With a pipe, which has no buffer, both ends of an HTTP/2 connection would wait for
// each other here.
func TestServe_LargeHeader(t *testing.T) {
	t.Parallel()
	for protocol, set := range clients {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			ctx, stop := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() {
				ended <- server.Serve(ctx, l, http.HandlerFunc(ok), budget, slog.New(slog.DiscardHandler))
			}()
			tr := &http.Transport{Protocols: new(http.Protocols), DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "tcp", l.Addr().String())
			}}
			set(tr.Protocols)
			for size, want := range map[int]int{20 << 10: 200, 40 << 10: 431} {
				resp, err := get(t.Context(), t, tr, strings.Repeat("x", size))
				if err != nil && want == 200 || err == nil && resp.StatusCode != want {
					t.Errorf("%d bytes: %v, %v, want %d", size, resp, err, want)
				}
				if err == nil {
					resp.Body.Close()
				}
			}
			tr.CloseIdleConnections()
			stop()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
}
