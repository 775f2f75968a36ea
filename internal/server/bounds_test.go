package server_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// framer returns a client of a new connection over HTTP/2 that sends the frames of a
// test. Nothing reads its connection yet.
func (r *running) framer(t *testing.T) (*http2.Framer, net.Conn) {
	t.Helper()
	conn := r.Dial()
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	f := http2.NewFramer(conn, conn)
	if err := f.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	return f, conn
}

// headers returns the header block of a GET request.
func headers() []byte {
	var block bytes.Buffer
	e := hpack.NewEncoder(&block)
	for _, f := range []hpack.HeaderField{
		{Name: ":method", Value: "GET"},
		{Name: ":scheme", Value: "http"},
		{Name: ":authority", Value: "docent"},
		{Name: ":path", Value: "/"},
		{Name: "x-padding", Value: strings.Repeat("x", 100)},
	} {
		e.WriteField(f)
	}
	return block.Bytes()
}

func TestServe_SlowStartOfHTTP2(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		send func(t *testing.T, r *running) (conn net.Conn, send func(i int) error)
		want time.Duration
	}{
		{"preface", func(_ *testing.T, r *running) (net.Conn, func(int) error) {
			conn := r.Dial()
			return conn, func(i int) error {
				_, err := io.WriteString(conn, http2.ClientPreface[i:i+1])
				return err
			}
		}, 10 * time.Second},
		{"header block", func(t *testing.T, r *running) (net.Conn, func(int) error) {
			t.Helper()
			f, conn := r.framer(t)
			block := headers()
			return conn, func(i int) error {
				if i == 0 {
					return f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block[:1]})
				}
				return f.WriteContinuation(1, false, block[i:i+1])
			}
		}, 30 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := serve(t, ok)
				conn, send := tt.send(t, r)
				var sender sync.WaitGroup
				sender.Go(func() {
					for i := 0; send(i) == nil; i++ {
						time.Sleep(time.Second)
					}
				})
				if after := closedAfter(conn); after != tt.want {
					t.Errorf("closed after %s, want %s", after, tt.want)
				}
				sender.Wait()
				r.stop()
				<-r.ended
			})
		})
	}
}

func TestServe_IdleHTTP2(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		pongs bool
		want  time.Duration // net/http closes a connection 1 s after it has said so.
	}{
		{"with answers to pings", true, 2*time.Minute + time.Second},
		{"without", false, 30 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := serve(t, ok)
				began := time.Now()
				f, _ := r.framer(t)
				for {
					frame, err := f.ReadFrame()
					if err != nil {
						break
					}
					if ping, is := frame.(*http2.PingFrame); is && tt.pongs {
						f.WritePing(true, ping.Data)
					}
				}
				if after := time.Since(began); after != tt.want {
					t.Errorf("closed after %s, want %s", after, tt.want)
				}
				r.stop()
				<-r.ended
			})
		})
	}
}

// A connection over HTTP/2 can look alive while it takes no byte. Then the deadline of
// an answer cannot free its handler.
func TestServe_StalledHTTP2(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began, answered := time.Now(), make(chan time.Duration, 1)
		r := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Write(make([]byte, 8<<20))
			answered <- time.Since(began)
		})
		f, conn := r.framer(t)
		if err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: headers(), EndStream: true, EndHeaders: true}); err != nil {
			t.Fatal(err)
		}
		var sender sync.WaitGroup
		sender.Go(func() {
			for f.WriteWindowUpdate(0, 1) == nil && time.Since(began) < time.Hour {
				time.Sleep(5 * time.Second)
			}
			conn.Close()
		})
		if after := <-answered; after != 30*time.Second {
			t.Errorf("the handler was freed after %s, want 30s", after)
		}
		r.stop()
		<-r.ended
		sender.Wait()
	})
}

// An answer that ends just before the drain does is not reported as cut off.
func TestServe_StopWarning(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		stopped := make(chan struct{})
		r := serve(t, func(http.ResponseWriter, *http.Request) {
			<-stopped
			time.Sleep(8900 * time.Millisecond)
		})
		f, conn := r.framer(t)
		if err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: headers(), EndStream: true, EndHeaders: true}); err != nil {
			t.Fatal(err)
		}
		var reader sync.WaitGroup
		reader.Go(func() { closedAfter(conn) })
		synctest.Wait()
		r.stop()
		close(stopped)
		if err := <-r.ended; err != nil {
			t.Error(err)
		}
		reader.Wait()
		synctest.Wait()
		if log := r.log.String(); strings.Contains(log, "still in flight") {
			t.Errorf("the log has %s", log)
		}
	})
}

// Any client can cause faults for free, and net/http names its address.
func TestServe_LogOfClientFaults(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		send func(t *testing.T, r *running) net.Conn
	}{
		{"data of a stream that does not exist", func(t *testing.T, r *running) net.Conn {
			t.Helper()
			f, conn := r.framer(t)
			go f.WriteData(1, true, []byte("x"))
			return conn
		}},
		{"no settings", func(_ *testing.T, r *running) net.Conn {
			conn := r.Dial()
			io.WriteString(conn, http2.ClientPreface)
			return conn
		}},
		{"no answer to pings", func(t *testing.T, r *running) net.Conn {
			t.Helper()
			_, conn := r.framer(t)
			return conn
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := serve(t, ok)
				closedAfter(tt.send(t, r))
				r.stop()
				<-r.ended
				synctest.Wait()
				if log := r.log.String(); strings.Contains(log, "level=WARN") {
					t.Errorf("the log has %s", log)
				}
			})
		})
	}
}

func TestServe_LogOfPanic(t *testing.T) {
	t.Parallel()
	for protocol := range clients {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := serve(t, func(http.ResponseWriter, *http.Request) { panic(fmt.Sprint("of the ", "handler")) })
				tr := r.client(protocol)
				resp, err := get(t.Context(), t, tr, "")
				if err == nil {
					resp.Body.Close()
					t.Error("answered")
				}
				tr.CloseIdleConnections()
				r.stop()
				<-r.ended
				synctest.Wait() // The record is written after the connection has ended.
				if !strings.Contains(r.log.String(), "of the handler") {
					t.Errorf("the log has %s", r.log)
				}
			})
		})
	}
}
