package httpapi

import (
	"io"
	"net/http"
	"time"
)

const (
	// bodyPatience is how long an answer waits for the rest of a body. net/http would
	// wait for as long as the client likes.
	bodyPatience = time.Second
	// maxBody is how much of a body is read. It is also how much of the rest
	// net/http reads before it sends an answer, to use the connection again.
	maxBody = 256 << 10
)

// discardBody reads a body that no handler needs while the request is answered.
// net/http notices that a client has left only while the connection is read.
// Without this, a client that leaves with its body open holds a call to OpenAI
// until the request's time is up.
func (a *api) discardBody(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength == 0 {
			next.ServeHTTP(w, r)
			return
		}
		go discard(r.Body)
		defer func() {
			patience := bodyPatience
			if r.ContentLength > maxBody { // net/http closes the connection anyway.
				patience = 0
			}
			if err := http.NewResponseController(w).SetReadDeadline(time.Now().Add(patience)); err != nil {
				a.Log.Debug("a body could not be given a deadline", "error", err)
			}
		}()
		next.ServeHTTP(w, r)
	})
}

// discard reads up to maxBody of a body. Its buffer is small: a client that sends
// a body slowly keeps one for as long.
func discard(body io.Reader) {
	var buf [512]byte
	for read := 0; read < maxBody; {
		n, err := body.Read(buf[:])
		if err != nil {
			return
		}
		read += n
	}
}
