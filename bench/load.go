//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	origin      = "https://docs.example.com"
	sessionPath = "/api/chatkit/session"
	widgetPath  = "/api/chatkit/widget.js"
	// connTimeout is more than any measurement takes on one connection.
	connTimeout = time.Minute
)

// conn is one connection to a server. It costs less than a client of net/http,
// which would need more of the machine than the servers that it measures.
type conn struct {
	net.Conn
	in  *bufio.Reader
	req *http.Request
}

// dial connects to a server, to ask it for sessions as a browser does from a page.
func dial(ctx context.Context, address string) (*conn, error) {
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("connecting: %w", err)
	}
	if err := c.SetDeadline(time.Now().Add(connTimeout)); err != nil {
		return nil, fmt.Errorf("connecting: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://docent.example.com"+sessionPath, http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("making a request: %w", err)
	}
	for name, value := range map[string]string{
		"Accept":          "*/*",
		"Accept-Encoding": "gzip, deflate, br, zstd",
		"Accept-Language": "en-US,en;q=0.5",
		"Origin":          origin,
		"Referer":         origin + "/",
		"Sec-Fetch-Dest":  "empty",
		"Sec-Fetch-Mode":  "cors",
		"Sec-Fetch-Site":  "cross-site",
		"User-Agent":      "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0",
	} {
		req.Header.Set(name, value)
	}
	return &conn{Conn: c, in: bufio.NewReader(c), req: req}, nil
}

// answer is what a server answered. [docent/bench/yardstick] reads it as JSON.
type answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// ask asks for a session for the n-th visitor, of at most 2^24.
func (c *conn) ask(n uint32, allowed ...int) (answer, error) {
	c.req.Header.Set("X-Forwarded-For", net.IPv4(10, byte(n>>16), byte(n>>8), byte(n)).String()) //nolint:gosec // The bytes of n.
	if err := c.req.Write(c); err != nil {
		return answer{}, fmt.Errorf("asking %s: %w", c.RemoteAddr(), err)
	}
	resp, err := http.ReadResponse(c.in, c.req)
	if err != nil {
		return answer{}, fmt.Errorf("asking %s: %w", c.RemoteAddr(), err)
	}
	defer resp.Body.Close() //nolint:errcheck // Read only.
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return answer{}, fmt.Errorf("asking %s: %w", c.RemoteAddr(), err)
	}
	if !slices.Contains(allowed, resp.StatusCode) {
		return answer{}, fmt.Errorf("%s answered %s\n%s", c.RemoteAddr(), resp.Status, body)
	}
	return answer{resp.StatusCode, resp.Header, body}, nil
}

// load sends requests over connections of its own, each as soon as the one
// before it on its connection is answered.
type load struct {
	address  string
	conns    int
	first    uint32 // The number of the first request.
	visitors uint32 // How many visitors send them, in turn.
	allowed  []int  // Any other status is an error.
}

// run loads the server for so long, and returns the number of answers.
func (l load) run(ctx context.Context, duration time.Duration) (answered int, err error) {
	ctx, cancel := context.WithTimeout(ctx, duration)
	defer cancel()
	var (
		asked   atomic.Uint32
		workers sync.WaitGroup
		errs    = make([]error, l.conns)
	)
	for i := range l.conns {
		workers.Go(func() { errs[i] = l.work(ctx, &asked) })
	}
	workers.Wait()
	return int(asked.Load()), errors.Join(errs...)
}

func (l load) work(ctx context.Context, asked *atomic.Uint32) error {
	c, err := dial(ctx, l.address)
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // All was read.
	for ctx.Err() == nil {
		if _, err := c.ask((l.first+asked.Add(1))%l.visitors, l.allowed...); err != nil {
			return err
		}
	}
	return nil
}
