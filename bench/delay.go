//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"time"
)

// delayed returns an address that leads to target until ctx ends. What a client
// sends arrives there later by delay, which is a round trip for every call that
// waits for an answer. Connecting takes no longer.
func delayed(ctx context.Context, target string, delay time.Duration) (string, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("delaying proxy: %w", err)
	}
	context.AfterFunc(ctx, func() { l.Close() }) //nolint:errcheck // Nothing uses it any more.
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			go relay(ctx, client, target, delay)
		}
	}()
	return l.Addr().String(), nil
}

// chunk is part of what a client sends.
type chunk struct {
	due  time.Time
	data []byte
}

func relay(ctx context.Context, client net.Conn, target string, delay time.Duration) {
	defer client.Close() //nolint:errcheck // It has ended.
	server, err := (&net.Dialer{}).DialContext(ctx, "tcp", target)
	if err != nil {
		return
	}
	defer context.AfterFunc(ctx, func() { client.Close() })() //nolint:errcheck // Nothing uses it any more.
	go io.Copy(client, server)                                //nolint:errcheck // It ends with the server's side.
	chunks := make(chan chunk, 1024)
	go func() {
		defer server.Close() //nolint:errcheck // It has ended.
		for c := range chunks {
			time.Sleep(time.Until(c.due))
			server.Write(c.data) //nolint:errcheck // The client sees that the connection has ended.
		}
	}()
	defer close(chunks)
	for {
		buf := make([]byte, 32<<10)
		n, err := client.Read(buf)
		if err != nil {
			return
		}
		chunks <- chunk{time.Now().Add(delay), buf[:n]}
	}
}
