package httpapi

import (
	"context"
	"crypto/sha256"
	"fmt"
	"sync"
	"time"

	"docent/internal/chatkit"
)

const (
	// repeatWithin is how long after a message the same request is a repeat. ChatKit
	// sends a request up to five more times within a minute, and a browser sends one
	// again whose connection broke.
	repeatWithin = time.Minute
	// maxRepeats is how often a message is answered again without being counted.
	maxRepeats = 6
)

// repeats finds requests that a client has sent again although the first is still
// being answered. The later one takes the turn over, so that the visitor's message
// is neither stored nor counted twice.
type repeats struct {
	mu      sync.Mutex
	running map[repeatKey]*message
}

// repeatKey is a hash of visitor, frame and body.
type repeatKey [sha256.Size]byte

// message is a streaming request in progress.
type message struct {
	key     repeatKey
	began   time.Time
	cancel  context.CancelCauseFunc
	earlier *message // Which this one repeats, or nil.
	count   int      // How many this one repeats.

	admitted chan struct{} // Closed when turn is set, or will never be.
	turn     *chatkit.Turn
	ended    chan struct{}
	once     sync.Once
}

// begin notes that a message is being answered. cancel ends it. Without a frame's ID
// nothing repeats it.
func (rs *repeats) begin(c *chat, frame string, now time.Time, cancel context.CancelCauseFunc) *message {
	m := &message{began: now, cancel: cancel, admitted: make(chan struct{}), ended: make(chan struct{})}
	if frame == "" {
		return m
	}
	h := sha256.New()
	for _, part := range []string{c.visitor, frame} {
		h.Write([]byte(part + "\x00"))
	}
	h.Write(c.body)
	h.Sum(m.key[:0])

	rs.mu.Lock()
	defer rs.mu.Unlock()
	if e := rs.running[m.key]; e != nil && now.Sub(e.began) < repeatWithin && e.count < maxRepeats {
		m.earlier, m.began, m.count = e, e.began, e.count+1
	}
	rs.running[m.key] = m
	return m
}

// end notes that a message is not being answered any more.
func (rs *repeats) end(m *message) {
	m.admit(nil)
	close(m.ended)
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if rs.running[m.key] == m {
		delete(rs.running, m.key)
	}
}

// admit notes that a message has passed the limits, or with nil that it has not.
func (m *message) admit(t *chatkit.Turn) {
	m.once.Do(func() {
		m.turn = t
		close(m.admitted)
	})
}

// takeOver ends the message that this one repeats, and returns its turn: nil where
// there is none, because nothing is repeated or it was refused.
func (m *message) takeOver(ctx context.Context) (*chatkit.Turn, error) {
	e := m.earlier
	if e == nil {
		return nil, nil //nolint:nilnil // As said.
	}
	m.earlier = nil // Else a chain of repeats would be kept.
	select {
	case <-e.admitted:
	case <-ctx.Done():
		return nil, fmt.Errorf("waiting for the request that this one repeats: %w", context.Cause(ctx))
	}
	if e.turn == nil {
		return nil, nil //nolint:nilnil // As said.
	}
	e.cancel(chatkit.ErrReplaced)
	select {
	case <-e.ended:
		return e.turn, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("waiting for the request that this one repeats: %w", context.Cause(ctx))
	}
}
