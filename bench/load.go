//go:build linux

package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"syscall"
	"time"
)

// request appends the n-th request of a load to buf.
type request func(buf []byte, n uint32) []byte

// load sends requests over connections of its own, each as soon as the one
// before it on its connection is answered. It is one thread that polls, because
// a client of net/http costs more than the servers that it would measure, and
// one that sleeps is woken at the expense of the server that answers it.
type load struct {
	address string
	conns   int
	request request
	first   uint32         // The number of the first request.
	allowed []int          // Statuses that count; any other ends the load.
	enough  func(int) bool // Whether to stop after that many; nil: when the context ends.
	// patient sleeps while there is no answer, and leaves the core to a third
	// process that needs it.
	patient bool
}

// result is what a load has seen.
type result struct {
	took     time.Duration
	answered int
	times    []time.Duration // Sorted.
}

func (r result) quantile(q float64) time.Duration {
	if len(r.times) == 0 {
		return 0
	}
	return r.times[int(float64(len(r.times)-1)*q)]
}

// talk is one connection.
type talk struct {
	fd   int
	sent time.Time
	in   []byte // What has arrived of the answer.
}

// run loads the server until ctx ends or enough is answered.
func (l load) run(ctx context.Context) (result, error) {
	r := result{}
	poll, err := syscall.EpollCreate1(0)
	if err != nil {
		return r, fmt.Errorf("load: %w", err)
	}
	defer syscall.Close(poll) //nolint:errcheck // It holds nothing.
	var (
		talks   = map[int32]*talk{}
		events  = make([]syscall.EpollEvent, l.conns)
		request = make([]byte, 0, 1<<10)
		arrived = make([]byte, 64<<10)
		next    = l.first
		timeout = 0
		began   = time.Now()
	)
	if l.patient {
		timeout = 100 // Milliseconds.
	}
	defer func() {
		for _, t := range talks {
			syscall.Close(t.fd) //nolint:errcheck // Nobody waits for more.
		}
	}()
	send := func(t *talk) error {
		request = l.request(request[:0], next)
		next++
		t.sent = time.Now()
		if _, err := syscall.Write(t.fd, request); err != nil {
			return fmt.Errorf("load: sending to %s: %w", l.address, err)
		}
		return nil
	}
	for range l.conns {
		t, err := connect(ctx, l.address)
		if err != nil {
			return r, err
		}
		talks[int32(t.fd)] = t                                                                                                                     //nolint:gosec // Descriptors are small.
		if err := syscall.EpollCtl(poll, syscall.EPOLL_CTL_ADD, t.fd, &syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(t.fd)}); err != nil { //nolint:gosec // As above.
			return r, fmt.Errorf("load: %w", err)
		}
		if err := send(t); err != nil {
			return r, err
		}
	}
	for ctx.Err() == nil && (l.enough == nil || !l.enough(r.answered)) {
		n, err := syscall.EpollWait(poll, events, timeout)
		if err != nil && !errors.Is(err, syscall.EINTR) {
			return r, fmt.Errorf("load: %w", err)
		}
		for _, event := range events[:max(n, 0)] {
			t := talks[event.Fd]
			n, err := syscall.Read(t.fd, arrived)
			if n <= 0 {
				return r, fmt.Errorf("load: %s ended the connection: %w", l.address, cmp.Or(err, io.EOF))
			}
			t.in = append(t.in, arrived[:n]...)
			status, whole, err := parseAnswer(t.in)
			switch {
			case err != nil:
				return r, err
			case !whole:
				continue
			case !slices.Contains(l.allowed, status):
				return r, fmt.Errorf("load: %s answered\n%s", l.address, t.in)
			}
			r.answered++
			r.times = append(r.times, time.Since(t.sent))
			t.in = t.in[:0]
			if err := send(t); err != nil {
				return r, err
			}
		}
	}
	r.took = time.Since(began)
	slices.Sort(r.times)
	return r, nil
}

// connect opens a connection and takes it from Go's own polling.
func connect(ctx context.Context, address string) (*talk, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("load: %w", err)
	}
	defer conn.Close() //nolint:errcheck // The copy stays open.
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return nil, fmt.Errorf("load: %s is not TCP", address)
	}
	file, err := tcp.File()
	if err != nil {
		return nil, fmt.Errorf("load: %w", err)
	}
	defer file.Close() //nolint:errcheck // As above.
	fd, err := syscall.Dup(int(file.Fd()))
	if err != nil {
		return nil, fmt.Errorf("load: %w", err)
	}
	return &talk{fd: fd}, nil
}

var (
	endOfHeader   = []byte("\r\n\r\n")
	contentLength = []byte("\r\nContent-Length: ")
	chunked       = []byte("\r\nTransfer-Encoding: chunked")
	lastChunk     = []byte("\r\n0\r\n\r\n")
)

// parseAnswer returns an answer's status, and whether all of it has arrived.
func parseAnswer(in []byte) (status int, whole bool, err error) {
	head, body, ok := bytes.Cut(in, endOfHeader)
	if !ok {
		return 0, false, nil
	}
	if status, err = strconv.Atoi(string(head[9:12])); err != nil {
		return 0, false, fmt.Errorf("load: not an answer: %.100q", head)
	}
	if bytes.Contains(head, chunked) {
		return status, bytes.HasSuffix(body, lastChunk), nil
	}
	length := 0
	if _, value, ok := bytes.Cut(head, contentLength); ok {
		value, _, _ = bytes.Cut(value, endOfHeader[:2])
		if length, err = strconv.Atoi(string(value)); err != nil {
			return 0, false, fmt.Errorf("load: not an answer: %.100q", head)
		}
	}
	return status, len(body) >= length, nil
}

// ask sends one request and waits for its answer, which must be 200.
func ask(conn net.Conn, request []byte) error {
	answer, status, err := answerTo(conn, request)
	if err == nil && status != 200 {
		err = fmt.Errorf("the answer is\n%s", answer)
	}
	return err
}

func answerTo(conn net.Conn, request []byte) (answer []byte, status int, err error) {
	if _, err := conn.Write(request); err != nil {
		return nil, 0, fmt.Errorf("asking: %w", err)
	}
	for buf := make([]byte, 4<<10); ; {
		n, err := conn.Read(buf)
		if err != nil {
			return nil, 0, fmt.Errorf("asking: %w", err)
		}
		answer = append(answer, buf[:n]...)
		if status, whole, err := parseAnswer(answer); err != nil || whole {
			return answer, status, err
		}
	}
}

const (
	origin     = "https://docs.example.com"
	widgetPath = "/api/chatkit/widget.js"
)

// session is what a browser sends from a page, by way of a proxy, for the n-th
// visitor.
func session(buf []byte, n uint32) []byte {
	return append(append(visitor(append(buf, "POST /api/chatkit/session HTTP/1.1\r\n"...), n), browser...), "Content-Length: 0\r\n\r\n"...)
}

// sameVisitor is one visitor who asks again and again.
func sameVisitor(buf []byte, _ uint32) []byte { return session(buf, 0) }

func preflight(buf []byte, _ uint32) []byte {
	return append(append(append(buf, "OPTIONS /api/chatkit/session HTTP/1.1\r\n"...), browser...),
		"Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: content-type\r\n\r\n"...)
}

func script(buf []byte, _ uint32) []byte {
	return append(append(append(buf, "GET "+widgetPath+" HTTP/1.1\r\n"...), browser...), "\r\n"...)
}

const browser = "Host: docent.example.com\r\nOrigin: " + origin + "\r\n" +
	"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0\r\n" +
	"Accept: */*\r\nAccept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br, zstd\r\nReferer: " + origin + "/\r\n" +
	"Sec-Fetch-Dest: empty\r\nSec-Fetch-Mode: cors\r\nSec-Fetch-Site: cross-site\r\n"

// visitor gives each n an address of its own, up to 2^24.
func visitor(buf []byte, n uint32) []byte {
	buf = append(buf, "X-Forwarded-For: 10"...)
	for shift := 16; shift >= 0; shift -= 8 {
		buf = strconv.AppendUint(append(buf, '.'), uint64(n>>shift&0xff), 10)
	}
	return append(buf, "\r\n"...)
}
