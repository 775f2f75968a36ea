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
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"docent/internal/chatkit"
	"docent/internal/httpapi"
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

// Nothing is left of streams that have ended: a bubble does not end before its last
// goroutine.
func TestStream_ManyAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var all sync.WaitGroup
		all.Add(256)
		s := &chatSite{}
		s.site = build(s.answering(t.Context(), func(_ context.Context, _ chatkit.Question, a *chatkit.Answer) error {
			all.Done()
			all.Wait() // All are open at once.
			return a.Write("Yes.")
		}), func(o *httpapi.Options) { o.Chat.Messages = nil })
		s.url = "http://docent"
		l := testpipe.New()
		srv := &http.Server{Handler: s.handler}
		go srv.Serve(l)
		var visitors sync.WaitGroup
		for n := range 256 {
			token, _ := s.visitors.Session(fmt.Sprint(n), time.Minute)
			req := s.request(t.Context(), t, create("hello"), "Authorization", "Bearer "+token)
			visitors.Go(func() {
				conn := l.Dial()
				defer conn.Close()
				go req.Write(conn)
				resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
				if err != nil {
					t.Error(err)
					return
				}
				if body, err := io.ReadAll(resp.Body); err != nil || !strings.Contains(string(body), "Yes.") {
					t.Errorf("%v: %s", err, body)
				}
			})
		}
		visitors.Wait()
		srv.Close()
	})
}
