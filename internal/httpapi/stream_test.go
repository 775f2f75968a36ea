package httpapi_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"docent/internal/chatkit"
	"docent/internal/testkit/testpipe"
)

// piped sends a message that a responder answers over a connection without a buffer,
// in a bubble. read gets the client's end.
func piped(t *testing.T, answer responder, read func(t *testing.T, conn io.Reader, began time.Time)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &chatSite{}
		s.site = build(s.answering(t.Context(), answer))
		s.url = "http://docent"
		l := testpipe.New()
		srv := &http.Server{Handler: s.handler}
		go srv.Serve(l)
		conn, began := l.Dial(), time.Now()
		go s.request(t.Context(), t, create("hello")).Write(conn)
		read(t, conn, began)
		conn.Close()
		srv.Close()
	})
}

func TestStream_Silence(t *testing.T) {
	t.Parallel()
	piped(t, func(_ context.Context, _ chatkit.Question, a *chatkit.Answer) error {
		time.Sleep(50 * time.Second)
		return a.Write("Yes.")
	}, func(t *testing.T, conn io.Reader, began time.Time) {
		t.Helper()
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		var comments []string
		body := bufio.NewReader(resp.Body)
		for line, err := body.ReadString('\n'); err == nil; line, err = body.ReadString('\n') {
			if line == ":\n" {
				comments = append(comments, time.Since(began).String())
			}
		}
		if got := fmt.Sprint(comments); got != "[15s 30s 45s]" {
			t.Errorf("comments came after %s", got)
		}
	})
}

// A reader that takes a byte a second is cut off: an event has more than 30 bytes.
func TestStream_SlowReader(t *testing.T) {
	t.Parallel()
	ended := make(chan error, 1)
	piped(t, func(_ context.Context, _ chatkit.Question, a *chatkit.Answer) error {
		for {
			if err := a.Write(strings.Repeat("x", 1000)); err != nil {
				ended <- err
				return err
			}
		}
	}, func(t *testing.T, conn io.Reader, began time.Time) {
		t.Helper()
		for b := make([]byte, 1); ; {
			if _, err := conn.Read(b); err != nil {
				break
			}
			time.Sleep(time.Second)
		}
		if took := time.Since(began); took < 30*time.Second || took > 40*time.Second {
			t.Errorf("the reader was cut off after %s", took)
		}
	})
	select {
	case err := <-ended:
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("the answer was ended by %v", err)
		}
	default: // The answer had not begun: the first event did not arrive.
	}
}
