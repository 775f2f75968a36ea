package httpapi

import (
	"net/http"
	"sync"
	"time"

	"docent/internal/chatkit"
)

const (
	// eventTimeout is how long a client may take to receive an event. What the
	// kernel holds for a client that does not read counts as received.
	eventTimeout = 30 * time.Second
	// silence is the time after which a comment is sent, which clients ignore: what is
	// between them and Docent may end a connection that carries nothing.
	silence = 15 * time.Second
)

// stream sends server-sent events to one client.
type stream struct {
	w    http.ResponseWriter
	conn *http.ResponseController
	now  func() time.Time

	mu            sync.Mutex // A comment may be sent at any time.
	quiet         *time.Timer
	ended         bool
	err           error // Of the first write that failed.
	first         time.Time
	events, bytes int
}

// open begins the stream of a chat request, once.
func (c *chat) open(w http.ResponseWriter, now func() time.Time) *stream {
	if c.stream != nil {
		return c.stream
	}
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "private, no-store, no-transform")
	h.Set("X-Accel-Buffering", "no") // Asks a proxy such as nginx to pass events on at once.
	c.stream = &stream{w: w, conn: http.NewResponseController(innermost(w)), now: now}
	c.stream.quiet = time.AfterFunc(silence, c.stream.comment)
	return c.stream
}

// innermost returns the server's own writer. Those around it that have a Flush of
// their own do not report its errors, by which a client that left or reads too
// slowly is noticed.
func innermost(w http.ResponseWriter) http.ResponseWriter {
	for {
		outer, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return w
		}
		w = outer.Unwrap()
	}
}

// send sends an event. Its error means that the client has left or does not read.
func (s *stream) send(e chatkit.Event) error {
	text, err := e.Encode()
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.events++; s.events == 1 {
		s.first = s.now()
	}
	return s.write(text)
}

// comment keeps a silent connection open.
func (s *stream) comment() {
	if !s.mu.TryLock() {
		return // An event is being sent: it is not silent.
	}
	defer s.mu.Unlock()
	if !s.ended {
		_ = s.write([]byte(":\n\n")) // The next event fails, too.
	}
}

func (s *stream) write(text []byte) error {
	if s.err != nil {
		return s.err
	}
	defer s.quiet.Reset(silence)
	s.bytes += len(text)
	if s.err = s.conn.SetWriteDeadline(time.Now().Add(eventTimeout)); s.err != nil {
		return s.err
	}
	if _, s.err = s.w.Write(text); s.err != nil {
		return s.err
	}
	s.err = s.conn.Flush()
	return s.err
}

// end sends no comment any more: the request's handler returns.
func (s *stream) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	s.quiet.Stop()
}
