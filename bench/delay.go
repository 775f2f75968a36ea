//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"time"
)

// delayed serves, until ctx ends, an address behind which target seems to be a
// round trip of rtt further away. Connecting takes its round trip as well: the
// client's first bytes arrive when they would have been sent after a handshake
// over that distance, and the server hears of the connection when its last part
// arrives.
func delayed(ctx context.Context, target string, rtt time.Duration) (string, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("delaying proxy: %w", err)
	}
	context.AfterFunc(ctx, func() { l.Close() }) //nolint:errcheck // Nobody uses it any more.
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			go relay(ctx, client, target, rtt)
		}
	}()
	return l.Addr().String(), nil
}

func relay(ctx context.Context, client net.Conn, target string, rtt time.Duration) {
	defer client.Close() //nolint:errcheck // It has ended.
	connected := time.Now().Add(rtt)
	chunks := make(chan chunk, 1024)
	go read(client, chunks, connected, rtt/2)
	time.Sleep(rtt + rtt/2)
	server, err := (&net.Dialer{}).DialContext(ctx, "tcp", target)
	if err != nil {
		return
	}
	defer server.Close()                                                      //nolint:errcheck // It has ended.
	defer context.AfterFunc(ctx, func() { client.Close(); server.Close() })() //nolint:errcheck // Nobody uses them any more.
	back := make(chan chunk, 1024)
	go read(server, back, time.Time{}, rtt/2)
	go func() {
		defer client.Close() //nolint:errcheck // It has ended.
		write(client, back)
	}()
	write(server, chunks)
}

type chunk struct {
	due  time.Time
	data []byte
}

// read gives every chunk the time at which it arrives at the other side.
func read(from io.Reader, to chan<- chunk, notBefore time.Time, delay time.Duration) {
	defer close(to)
	for {
		buf := make([]byte, 32<<10)
		n, err := from.Read(buf)
		if n > 0 {
			sent := time.Now()
			if sent.Before(notBefore) {
				sent = notBefore
			}
			to <- chunk{sent.Add(delay), buf[:n]}
		}
		if err != nil {
			return
		}
	}
}

func write(to io.Writer, chunks <-chan chunk) {
	for c := range chunks {
		time.Sleep(time.Until(c.due))
		if _, err := to.Write(c.data); err != nil {
			return
		}
	}
}
