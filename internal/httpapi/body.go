package httpapi

import (
	"context"
	"io"
	"mime"
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
	// maxText is the longest text that a page may send, in bytes.
	maxText = 512
)

// discardBody reads the body while the request is answered. No handler needs more of
// it than [sentText] returns.
//
// net/http notices that a client has left only while the connection is read.
// Without this, a client that leaves with its body open holds a call to OpenAI
// until the request's time is up.
func (a *api) discardBody(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength == 0 {
			next.ServeHTTP(w, r)
			return
		}
		if r.URL.Path != chatPath { // Its handler reads the body.
			var text chan string
			if isText(r) {
				text = make(chan string, 1)
				exchangeOf(r.Context()).text = text
			}
			go readBody(r.Body, text)
		}
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

func isText(r *http.Request) bool {
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	return err == nil && media == "text/plain" && r.ContentLength <= maxText
}

// readBody reads a body. If text is not nil, it sends the body there, provided that
// it ends after at most maxText bytes, and closes text.
func readBody(body io.Reader, text chan<- string) {
	if text != nil {
		sent, err := io.ReadAll(io.LimitReader(body, maxText+1))
		if err == nil && len(sent) <= maxText {
			text <- string(sent)
		}
		close(text)
	}
	discard(body)
}

// sentText returns the body of a request, if it is plain text of at most maxText
// bytes and all of it arrives within bodyPatience. Otherwise it returns "".
func sentText(ctx context.Context) string {
	x := exchangeOf(ctx)
	if x.text == nil {
		return ""
	}
	select {
	case text := <-x.text:
		return text
	case <-time.After(bodyPatience):
	case <-ctx.Done():
	}
	return ""
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
