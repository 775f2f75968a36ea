//go:build unix

package testfirestore

import (
	"context"
	"path"
	"sync"

	"google.golang.org/grpc"

	"docent/internal/firestore"
)

// Calls records the remote calls of a store, so that a test can count them.
type Calls struct {
	mu      sync.Mutex
	methods []string
}

// Take returns the methods that were called since the last Take, in order.
func (c *Calls) Take() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer func() { c.methods = nil }()
	return c.methods
}

// Record changes options so that the store opened with them records its calls.
func (c *Calls) Record(o *firestore.Options) {
	o.DialOptions = append(o.DialOptions,
		grpc.WithChainUnaryInterceptor(func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			c.add(method)
			return invoke(ctx, method, req, reply, cc, opts...)
		}),
		grpc.WithChainStreamInterceptor(func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
			c.add(method)
			return open(ctx, desc, cc, method, opts...)
		}))
}

func (c *Calls) add(method string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.methods = append(c.methods, path.Base(method))
}
