// Package testpipe gives tests a listener without a network. Its connections have
// no buffer and no system behind them, so in a bubble of testing/synctest their time
// is the bubble's.
package testpipe

import (
	"net"
	"sync"
)

// Listener accepts the connections that [Listener.Dial] makes.
type Listener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

// New returns an open listener.
func New() *Listener { return &Listener{conns: make(chan net.Conn), closed: make(chan struct{})} }

// Dial returns a client's end of a new connection.
func (l *Listener) Dial() net.Conn {
	client, end := net.Pipe()
	l.conns <- conn{end}
	return client
}

// conn has an address, as servers expect: a pipe has none.
type conn struct{ net.Conn }

func (conn) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }

// Accept implements [net.Listener].
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close implements [net.Listener].
func (l *Listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// Addr implements [net.Listener].
func (l *Listener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }
