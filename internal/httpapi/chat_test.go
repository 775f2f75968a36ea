package httpapi_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"docent/internal/chatkit"
	"docent/internal/httpapi"
	"docent/internal/ratelimit"
	"docent/internal/visitor"

	"github.com/google/go-cmp/cmp"
)

// responder is a [chatkit.Responder] that a test writes.
type responder func(ctx context.Context, q chatkit.Question, a *chatkit.Answer) error

func (r responder) Respond(ctx context.Context, q chatkit.Question, a *chatkit.Answer) error {
	return r(ctx, q, a)
}

var yes = responder(func(_ context.Context, _ chatkit.Question, a *chatkit.Answer) error { return a.Write("Yes.") })

// chatSite is a site with conversations.
type chatSite struct {
	*site

	client   *http.Client
	visitors *visitor.Signer
	stop     context.CancelFunc // Ends the answers.
}

// chats returns a site behind a real server, whose answers a responder writes.
func chats(t *testing.T, answer responder, change ...func(*httpapi.Options)) *chatSite {
	t.Helper()
	s := &chatSite{client: &http.Client{Transport: &http.Transport{}}}
	t.Cleanup(s.client.CloseIdleConnections)
	s.site = serve(t, append([]func(*httpapi.Options){s.answering(t.Context(), answer)}, change...)...)
	return s
}

// answering returns what makes a site answer messages.
func (s *chatSite) answering(ctx context.Context, answer responder) func(*httpapi.Options) {
	stopping, stop := context.WithCancel(ctx)
	s.stop = stop
	return func(o *httpapi.Options) {
		loopback(o)
		s.visitors = o.Visitors
		o.Chat = &httpapi.Chat{
			Chats: chatkit.New(chatkit.Options{
				Store: chatkit.NewMemory(720*time.Hour, o.Now), Responder: answer, StoreTimeout: 4 * time.Second, Now: o.Now,
			}),
			Messages:       ratelimit.New(ratelimit.Options{Name: "messages", Limit: 10, Window: time.Minute, Log: o.Log, Now: o.Now}),
			Queries:        ratelimit.New(ratelimit.Options{Name: "queries", Limit: 120, Window: time.Minute, Log: o.Log, Now: o.Now}),
			AtOnce:         256,
			TrustedProxies: o.TrustedProxies,
			AnswerTimeout:  time.Minute,
			Stopping:       stopping,
		}
	}
}

// request returns a chat request of the visitor v, as the widget sends it.
func (s *chatSite) request(ctx context.Context, t *testing.T, body string, header ...string) *http.Request {
	t.Helper()
	token, _ := s.visitors.Session("v", 10*time.Minute)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+"/api/chatkit/chat", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	accept := "*/*"
	if r, _ := chatkit.Parse([]byte(body)); r.Type.Streams() {
		accept = "text/event-stream"
	}
	for i, h := 0, append([]string{
		"Accept", accept, "Origin", page, "Authorization", "Bearer " + token, "Content-Type", "application/json",
		"X-Forwarded-For", "192.0.2.1", "Docent-Widget", "1",
	}, header...); i < len(h); i += 2 {
		req.Header.Set(h[i], h[i+1])
		if h[i+1] == "" {
			req.Header.Del(h[i])
		}
	}
	return req
}

// chat sends a request and returns the whole answer.
func (s *chatSite) chat(t *testing.T, body string, header ...string) (*http.Response, string) {
	t.Helper()
	resp, err := s.client.Do(s.request(t.Context(), t, body, header...))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(text)
}

// create returns the request that begins a conversation.
func create(text string) string {
	quoted, _ := json.Marshal(text)
	return `{"type":"threads.create","params":{"input":{"content":[{"type":"input_text","text":` + string(quoted) + `}],"quoted_text":"","attachments":[],"inference_options":{}}}}`
}

// add returns the request that goes on with one.
func add(thread, text string) string {
	return strings.Replace(strings.Replace(create(text), "threads.create", "threads.add_user_message", 1), `"params":{`, `"params":{"thread_id":"`+thread+`",`, 1)
}

// event is what tests look at in an event.
type event struct {
	Type, Message string
	AllowRetry    bool `json:"allow_retry"`
	Thread        struct{ ID string }
	Item          struct{ Type string }
	Update        struct{ Delta string }
}

// eventsIn reads a stream, which must be well-formed to the last byte.
func eventsIn(t *testing.T, stream string) (events []event) {
	t.Helper()
	rest, ok := strings.CutSuffix(stream, "\n\n")
	if !ok {
		t.Fatalf("the stream does not end with an event: %q", stream)
	}
	for line := range strings.SplitSeq(rest, "\n\n") {
		data, ok := strings.CutPrefix(line, "data: ")
		if strings.HasPrefix(line, ":") {
			continue
		}
		var e event
		if err := json.Unmarshal([]byte(data), &e); err != nil || !ok || strings.Contains(data, "\n") {
			t.Fatalf("%q is not an event: %v", line, err)
		}
		events = append(events, e)
	}
	return events
}

// last returns the type and message of a stream's last event.
func last(t *testing.T, stream string) string {
	t.Helper()
	events := eventsIn(t, stream)
	e := events[len(events)-1]
	return strings.TrimSpace(e.Type + " " + e.Message)
}

func TestChat_Conversation(t *testing.T) {
	t.Parallel()
	s := chats(t, yes)
	resp, body := s.chat(t, create("hello"), "Accept", "text/event-stream")
	want := http.Header{
		"Content-Type": {"text/event-stream"}, "Cache-Control": {"private, no-store, no-transform"}, "X-Accel-Buffering": {"no"},
		"X-Content-Type-Options": {"nosniff"}, "Access-Control-Allow-Origin": {page}, "Access-Control-Allow-Credentials": {"true"},
	}
	got := http.Header{}
	for name := range want {
		got[name] = resp.Header.Values(name)
	}
	if diff := cmp.Diff(want, got); diff != "" || resp.StatusCode != 200 || resp.Header.Get("Content-Length") != "" || resp.Header.Get("Set-Cookie") != "" {
		t.Errorf("%s %v (-want +got):\n%s", resp.Status, resp.Header, diff)
	}
	events := eventsIn(t, body)
	if events[0].Type != "thread.created" || events[1].Type != "thread.item.done" || events[1].Item.Type != "user_message" {
		t.Errorf("the stream begins with %+v", events[:2])
	}
	thread := events[0].Thread.ID
	if _, body := s.chat(t, add(thread, "more")); last(t, body) != "thread.item.done" {
		t.Errorf("the second answer ends with %s", last(t, body))
	}
	resp, body = s.chat(t, `{"type":"threads.get_by_id","params":{"thread_id":"`+thread+`"}}`, "Accept", "*/*")
	if n := strings.Count(body, `"thread_id"`); resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "application/json" || n != 4 {
		t.Errorf("%s, %d items: %s", resp.Status, n, body)
	}
}

// TestChat_Errors has what is answered before a stream begins, to the widget, to
// ChatKit on its own, and to a request for JSON.
func TestChat_Errors(t *testing.T) {
	t.Parallel()
	unknown := "thr_" + strings.Repeat("A", 26)
	token := func(sealed string) func(*chatSite) (string, []string) {
		return func(*chatSite) (string, []string) { return create("hello"), []string{"Authorization", sealed} }
	}
	tests := []struct {
		name    string
		request func(s *chatSite) (body string, header []string)
		status  int
		code    string
		told    string // What ChatKit shows.
	}{
		{"no token", token(""), 401, "session_invalid", "Your session has ended. Please reload the page."},
		{"token without its scheme", func(s *chatSite) (string, []string) {
			sealed, _ := s.visitors.Session("v", time.Minute)
			return create("hello"), []string{"Authorization", sealed}
		}, 401, "session_invalid", "Your session has ended. Please reload the page."},
		{"forged token", token("Bearer ds_v.1795435200.1795438800.AAAA"), 401, "session_invalid", "Your session has ended. Please reload the page."},
		{"token of another key", func(s *chatSite) (string, []string) {
			sealed, _ := visitor.NewSigner(visitor.Keys{Tokens: []byte("other")}, "/", s.clock).Session("v", time.Hour)
			return create("hello"), []string{"Authorization", "Bearer " + sealed}
		}, 401, "session_invalid", "Your session has ended. Please reload the page."},
		{"expired token", func(s *chatSite) (string, []string) {
			sealed, _ := s.visitors.Session("v", 0)
			return create("hello"), []string{"Authorization", "Bearer " + sealed}
		}, 401, "session_invalid", "Your session has ended. Please reload the page."},
		{"cut token", func(s *chatSite) (string, []string) {
			sealed, _ := s.visitors.Session("v", time.Minute)
			return create("hello"), []string{"Authorization", "Bearer " + sealed[:len(sealed)-1]}
		}, 401, "session_invalid", "Your session has ended. Please reload the page."},
		{"the cookie as a token", func(s *chatSite) (string, []string) {
			r := httptest.NewRequest(http.MethodPost, "/", nil)
			return create("hello"), []string{"Authorization", "Bearer " + s.visitors.Cookie(r, "v").Value}
		}, 401, "session_invalid", "Your session has ended. Please reload the page."},
		{"the visitor token as a token", func(s *chatSite) (string, []string) {
			r := httptest.NewRequest(http.MethodPost, "/", nil)
			r.Header.Set("Origin", page)
			return create("hello"), []string{"Authorization", "Bearer " + s.visitors.Token(r, "v")}
		}, 401, "session_invalid", "Your session has ended. Please reload the page."},
		{
			"address that cannot be told", func(*chatSite) (string, []string) { return create("hello"), []string{"X-Forwarded-For", "x"} },
			400, "client_address_unknown", "Your network address could not be determined.",
		},
		{
			"not JSON", func(*chatSite) (string, []string) { return "hello", []string{"Accept", "text/event-stream"} },
			400, "bad_request", "The request is not JSON.",
		},
		{
			"empty object", func(*chatSite) (string, []string) { return "{}", []string{"Accept", "text/event-stream"} },
			400, "bad_request", "The request is not valid: type is missing.",
		},
		{
			"no text", func(*chatSite) (string, []string) { return create(""), nil },
			400, "bad_request", "The request is not valid: params.input.content has no text.",
		},
		{
			"unsupported", func(*chatSite) (string, []string) { return `{"type":"threads.custom_action"}`, nil },
			400, "not_supported", "The assistant does not support this.",
		},
		{"64 kB and one byte", func(*chatSite) (string, []string) {
			return strings.Repeat(" ", 64<<10-len(create("x"))+1) + create("x"), []string{"Accept", "text/event-stream"}
		}, 413, "request_too_large", "The message is too long."},
		{
			"unknown thread", func(*chatSite) (string, []string) { return add(unknown, "hello"), nil },
			404, "thread_not_found", "This conversation does not exist. It may have expired or been deleted.",
		},
		{"another visitor's thread", func(s *chatSite) (string, []string) {
			_, body := s.chat(t, create("mine"))
			sealed, _ := s.visitors.Session("w", time.Minute)
			return add(eventsIn(t, body)[0].Thread.ID, "hello"), []string{"Authorization", "Bearer " + sealed}
		}, 404, "thread_not_found", "This conversation does not exist. It may have expired or been deleted."},
		{"retry of nothing", func(*chatSite) (string, []string) {
			return `{"type":"threads.retry_after_item","params":{"thread_id":"` + unknown + `","item_id":"x"}}`, nil
		}, 404, "thread_not_found", "This conversation does not exist. It may have expired or been deleted."},
		{"too many messages", func(s *chatSite) (string, []string) {
			for range 10 {
				s.chat(t, create("hello"))
			}
			return create("hello"), nil
		}, 429, "rate_limited", "Too many requests came from your network in a short time. Please try again in a moment."},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := chats(t, yes)
			body, header := tt.request(s)
			resp, got := s.chat(t, body, header...)
			var answer struct{ Error, Message, Code string }
			if err := json.Unmarshal([]byte(got), &answer); err != nil || answer.Error != answer.Message {
				t.Errorf("the widget gets %q: %v", got, err)
			}
			if diff := cmp.Diff([]any{tt.status, tt.code, tt.told}, []any{resp.StatusCode, answer.Code, answer.Message}); diff != "" {
				t.Errorf("the widget gets (-want +got):\n%s", diff)
			}
			resp, got = s.chat(t, body, append(header, "Docent-Widget", "")...)
			if diff := cmp.Diff([]any{200, "text/event-stream", "error " + tt.told}, []any{resp.StatusCode, resp.Header.Get("Content-Type"), last(t, got)}); diff != "" {
				t.Errorf("ChatKit gets (-want +got):\n%s", diff)
			}
		})
	}
}

func TestChat_GateKeepsItsStatus(t *testing.T) {
	t.Parallel()
	s := chats(t, yes)
	resp, body := s.chat(t, create("hello"), "Origin", "https://other.example", "Docent-Widget", "")
	if resp.StatusCode != 403 || !strings.Contains(body, `"origin_not_allowed"`) || resp.Header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("%s %s", resp.Status, body)
	}
	req := s.request(t.Context(), t, "")
	req.Method = http.MethodOptions
	req.Header.Set("Access-Control-Request-Method", "POST")
	req.Header.Set("Access-Control-Request-Headers", "authorization,chatkit-frame-instance-id,content-type,docent-page,docent-widget")
	resp, err := s.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if allowed := resp.Header.Get("Access-Control-Allow-Headers"); !strings.EqualFold(allowed, req.Header.Get("Access-Control-Request-Headers")) &&
		len(strings.Split(allowed, ",")) != 5 {
		t.Errorf("the preflight allows %q", allowed)
	}
	req.Method, req.Body = http.MethodGet, nil
	req.Header.Del("Access-Control-Request-Method")
	resp, err = s.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 405 || resp.Header.Get("Allow") != "POST" {
		t.Errorf("GET: %s, Allow %q", resp.Status, resp.Header.Get("Allow"))
	}
}

func TestChat_BodyOf64kB(t *testing.T) {
	t.Parallel()
	s := chats(t, yes)
	if resp, body := s.chat(t, strings.Repeat(" ", 64<<10-len(create("x")))+create("x")); resp.StatusCode != 200 || last(t, body) != "thread.item.done" {
		t.Errorf("%s %s", resp.Status, body)
	}
}

// pausing answers with one word and then waits: for the test, or for the end of the
// answer.
type pausing struct {
	begun, resume chan struct{}
	ended         chan error // What ended the answer, or nil.
}

func newPausing() *pausing {
	return &pausing{begun: make(chan struct{}, 100), resume: make(chan struct{}), ended: make(chan error, 100)}
}

func (p *pausing) respond(ctx context.Context, _ chatkit.Question, a *chatkit.Answer) error {
	if err := a.Write("Wait. "); err != nil {
		return err
	}
	p.begun <- struct{}{}
	select {
	case <-ctx.Done():
		p.ended <- context.Cause(ctx)
		return ctx.Err()
	case <-p.resume:
		p.ended <- nil
		return a.Write("Done.")
	}
}

// start sends a message whose answer stays open. The answer is read to its end in
// the background.
func (s *chatSite) start(t *testing.T, body string, header ...string) (leave func(), answer <-chan string) {
	t.Helper()
	ctx, leave := context.WithCancel(t.Context())
	whole := make(chan string, 1)
	req := s.request(ctx, t, body, header...)
	go func() {
		defer close(whole)
		resp, err := s.client.Do(req)
		if err != nil {
			return
		}
		defer resp.Body.Close()
		text, _ := io.ReadAll(resp.Body)
		whole <- string(text)
	}()
	return leave, whole
}

func TestChat_AtOnce(t *testing.T) {
	t.Parallel()
	p := newPausing()
	s := chats(t, p.respond, func(o *httpapi.Options) { o.Chat.AtOnce = 3 })
	as := func(visitor string) []string {
		sealed, _ := s.visitors.Session(visitor, time.Minute)
		return []string{"Authorization", "Bearer " + sealed}
	}
	for range 2 {
		leave, _ := s.start(t, create("hello"))
		defer leave()
		<-p.begun
	}
	resp, body := s.chat(t, create("hello"))
	if resp.StatusCode != 429 || resp.Header.Get("Retry-After") != "5" || !strings.Contains(body, `"busy"`) {
		t.Errorf("the third answer of a visitor: %s %v %s", resp.Status, resp.Header, body)
	}
	leave, _ := s.start(t, create("hello"), as("w")...)
	<-p.begun
	if resp, body = s.chat(t, create("hello"), as("x")...); resp.StatusCode != 429 {
		t.Errorf("the fourth answer of the instance: %s %s", resp.Status, body)
	}
	leave()
	<-p.ended
	s.await(t, 3) // Two refusals, and the one that was left.
	leave, _ = s.start(t, create("hello"), as("x")...)
	defer leave()
	<-p.begun // There is room again.

	// What was refused by this limit has not cost a message: 4 of 10 are used.
	close(p.resume)
	for n := range 7 {
		if resp, _ := s.chat(t, create("hello"), as(fmt.Sprint(n))...); (resp.StatusCode == 200) != (n < 6) {
			t.Errorf("message %d: %s", n+5, resp.Status)
		}
	}
}

// await waits until the log has n records.
func (s *chatSite) await(t *testing.T, n int) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); strings.Count(s.log.String(), "\n") < n; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the log has not %d records:\n%s", n, s.log)
		}
	}
}

func TestChat_Limits(t *testing.T) {
	t.Parallel()
	none := func(o *httpapi.Options) {
		o.Chat.Messages = ratelimit.New(ratelimit.Options{Name: "messages", Limit: 0, Window: time.Minute, Log: o.Log, Now: o.Now})
	}
	s := chats(t, yes, none)
	s.set(noon.Add(20 * time.Second))
	resp, body := s.chat(t, create("hello"))
	if resp.StatusCode != 429 || resp.Header.Get("Retry-After") != "40" || resp.Header.Get("RateLimit-Policy") != `"messages";q=0;w=60` || !strings.Contains(body, `"retry_after":40`) {
		t.Errorf("with a limit of none: %s %v %s", resp.Status, resp.Header, body)
	}
	s = chats(t, yes, func(o *httpapi.Options) { o.Chat.Messages = nil })
	for range 30 {
		if resp, _ := s.chat(t, create("hello")); resp.StatusCode != 200 {
			t.Fatalf("without a limit: %s", resp.Status)
		}
	}
	for n := range 121 {
		resp, _ := s.chat(t, `{"type":"threads.list","params":{}}`)
		if (resp.StatusCode == 200) != (n < 120) {
			t.Fatalf("request %d for JSON: %s", n+1, resp.Status)
		}
	}
}

// An unknown thread costs a message, or guessing would be free.
func TestChat_UnknownThreadCounts(t *testing.T) {
	t.Parallel()
	s := chats(t, yes)
	for n := range 11 {
		resp, _ := s.chat(t, add("thr_"+strings.Repeat("A", 26), "hello"))
		if want := map[bool]int{true: 404, false: 429}[n < 10]; resp.StatusCode != want {
			t.Errorf("request %d: %s, want %d", n+1, resp.Status, want)
		}
	}
}

func TestChat_Repeat(t *testing.T) {
	t.Parallel()
	p := newPausing()
	var asked sync.Map
	s := chats(t, func(ctx context.Context, q chatkit.Question, a *chatkit.Answer) error {
		asked.Store(q.Message.ID, q.Message.ThreadID)
		return p.respond(ctx, q, a)
	}, func(o *httpapi.Options) {
		o.Chat.Messages = ratelimit.New(ratelimit.Options{Name: "messages", Limit: 1, Window: time.Minute, Log: o.Log, Now: o.Now})
	})
	frame := []string{"Chatkit-Frame-Instance-Id", "f"}
	_, first := s.start(t, create("hello"), frame...)
	<-p.begun
	for _, other := range [][]string{{"Chatkit-Frame-Instance-Id", "g"}, {"Chatkit-Frame-Instance-Id", ""}} {
		if resp, _ := s.chat(t, create("hello"), other...); resp.StatusCode != 429 {
			t.Errorf("the same from another frame: %s", resp.Status)
		}
	}
	if resp, _ := s.chat(t, create("hello!"), frame...); resp.StatusCode != 429 {
		t.Errorf("another message: %s", resp.Status)
	}
	answers := []<-chan string{first}
	for range 6 {
		_, again := s.start(t, create("hello"), frame...)
		<-p.begun
		if err := <-p.ended; !errors.Is(err, chatkit.ErrReplaced) {
			t.Errorf("the first answer was ended by %v", err)
		}
		answers = append(answers, again)
	}
	if resp, _ := s.chat(t, create("hello"), frame...); resp.StatusCode != 429 {
		t.Errorf("one repeat too many: %s", resp.Status)
	}
	close(p.resume)
	whole := <-answers[6]
	if events := eventsIn(t, whole); last(t, whole) != "thread.item.done" || events[0].Type != "thread.created" {
		t.Errorf("the last repeat gets %+v", events)
	}
	n := 0
	asked.Range(func(any, any) bool { n++; return true })
	_, list := s.chat(t, `{"type":"threads.list","params":{}}`)
	if strings.Count(list, `"created_at"`) != 1 || n != 1 {
		t.Errorf("%d messages were asked, threads: %s", n, list)
	}
	if got := <-first; strings.Contains(got, `"error"`) {
		t.Errorf("the first request gets %s", got)
	}
	// What has finished is not repeated.
	if resp, _ := s.chat(t, create("hello"), frame...); resp.StatusCode != 429 {
		t.Errorf("the same message again: %s", resp.Status)
	}
}

// noAddress checks that the log does not say who was connected.
func (s *chatSite) noAddress(t *testing.T) {
	t.Helper()
	if log := s.written(); strings.Contains(log, "127.0.0.1") {
		t.Errorf("the log has an address: %s", log)
	}
}

// protocols are the two that the service speaks.
func protocols(t *testing.T, test func(t *testing.T, client *http.Client)) {
	t.Helper()
	for name, set := range map[string]func(*http.Protocols){
		"HTTP/1.1": func(p *http.Protocols) { p.SetHTTP1(true) },
		"h2c":      func(p *http.Protocols) { p.SetUnencryptedHTTP2(true) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tr := &http.Transport{Protocols: new(http.Protocols)}
			set(tr.Protocols)
			t.Cleanup(tr.CloseIdleConnections)
			test(t, &http.Client{Transport: tr})
		})
	}
}

func TestChat_VisitorLeaves(t *testing.T) {
	t.Parallel()
	protocols(t, func(t *testing.T, client *http.Client) {
		t.Helper()
		p := newPausing()
		s := chats(t, p.respond)
		s.client = client
		leave, _ := s.start(t, create("hello"))
		<-p.begun
		leave()
		left := time.Now()
		if err := <-p.ended; err == nil {
			t.Error("the answer went on")
		}
		if took := time.Since(left); took > time.Second {
			t.Errorf("the answer ended after %s", took)
		}
		s.await(t, 1)
		if !strings.Contains(s.log.String(), `"outcome":"client_gone"`) {
			t.Errorf("log: %s", s.log)
		}
		_, list := s.chat(t, `{"type":"threads.list","params":{}}`)
		var threads struct{ Data []struct{ ID string } }
		if err := json.Unmarshal([]byte(list), &threads); err != nil || len(threads.Data) != 1 {
			t.Fatalf("threads: %s", list)
		}
		_, thread := s.chat(t, `{"type":"threads.get_by_id","params":{"thread_id":"`+threads.Data[0].ID+`"}}`)
		if !strings.Contains(thread, `"text":"Wait. "`) || strings.Contains(thread, "hidden") {
			t.Errorf("stored: %s", thread)
		}
		s.noAddress(t)
	})
}

func TestChat_Stopping(t *testing.T) {
	t.Parallel()
	p := newPausing()
	s := chats(t, p.respond, func(o *httpapi.Options) { o.Chat.Messages = nil })
	var answers []<-chan string
	for n := range 50 {
		sealed, _ := s.visitors.Session(fmt.Sprint(n), time.Minute)
		_, answer := s.start(t, create("hello"), "Authorization", "Bearer "+sealed)
		answers = append(answers, answer)
		<-p.begun
	}
	s.stop()
	for _, answer := range answers {
		if got := last(t, <-answer); got != "error The assistant is being restarted. Please try again." {
			t.Errorf("a stream ends with %q", got)
		}
	}
	if n := strings.Count(s.written(), `"outcome":"cut"`); n != 50 {
		t.Errorf("%d records of answers that were cut", n)
	}
}

func TestChat_AnswerTimeout(t *testing.T) {
	t.Parallel()
	p := newPausing()
	s := chats(t, p.respond, func(o *httpapi.Options) { o.Chat.AnswerTimeout = time.Millisecond })
	_, body := s.chat(t, create("hello"))
	if got := last(t, body); got != "error The assistant took too long to answer. Please try again." || !eventsIn(t, body)[len(eventsIn(t, body))-1].AllowRetry {
		t.Errorf("the stream ends with %q", got)
	}
}

func TestChat_Panic(t *testing.T) {
	t.Parallel()
	s := chats(t, func(_ context.Context, _ chatkit.Question, a *chatkit.Answer) error {
		a.Write("Half")
		panic("secret")
	})
	resp, body := s.chat(t, create("hello"))
	if got := last(t, body); resp.StatusCode != 200 || got != "error Something went wrong on our side. Please try again." || strings.Contains(body, "secret") {
		t.Errorf("%s %q", resp.Status, got)
	}
	if !strings.Contains(s.written(), `"severity":"ERROR"`) || !strings.Contains(s.written(), "panic: secret") {
		t.Errorf("log: %s", s.written())
	}
}

// brokenChats fails before there is a stream.
type brokenChats struct{ err error }

func (b brokenChats) Query(context.Context, string, chatkit.Request) (any, error) { return nil, b.err }

func (b brokenChats) Begin(context.Context, string, chatkit.Request, chatkit.Reader) (*chatkit.Turn, error) {
	if b.err == nil {
		panic("secret")
	}
	return nil, b.err
}

// Never a 5xx: ChatKit would send the message five more times.
func TestChat_FailureOfOurs(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		err   error
		told  string
		query int
	}{
		"store": {fmt.Errorf("%w: %w", chatkit.ErrUnavailable, errors.New("secret")), "Conversations are not available right now. Please try again later.", 503},
		"bug":   {errors.New("secret"), "Something went wrong on our side.", 500},
		"panic": {nil, "Something went wrong on our side.", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := chats(t, yes, func(o *httpapi.Options) { o.Chat.Chats = brokenChats{tt.err} })
			for _, widget := range []string{"1", ""} {
				resp, body := s.chat(t, create("hello"), "Docent-Widget", widget)
				if got := last(t, body); resp.StatusCode != 200 || got != "error "+tt.told || !eventsIn(t, body)[0].AllowRetry {
					t.Errorf("widget %q: %s %q", widget, resp.Status, body)
				}
			}
			if tt.query != 0 {
				if resp, body := s.chat(t, `{"type":"threads.list"}`); resp.StatusCode != tt.query || strings.Contains(body, "secret") {
					t.Errorf("%s %s", resp.Status, body)
				}
			}
		})
	}
}

// The page is what the prompt will be about, so a page cannot name another's.
func TestChat_Reader(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, page, want string }{
		{"page", page + "/guide/start", page + "/guide/start"},
		{"root", page + "/", page + "/"},
		{"none", "", ""},
		{"another origin", "https://other.example/guide", ""},
		{"name that begins alike", page + ".other.example/", ""},
		{"another scheme", "http://docs.example.com/", ""},
		{"user", "https://docs.example.com@other.example/", ""},
		{"password", "https://u:p@docs.example.com/", ""},
		{"query", page + "/?q=secret", ""},
		{"empty query", page + "/?", ""},
		{"fragment", page + "/#x", ""},
		{"path alone", "/guide", ""},
		{"long", page + "/" + strings.Repeat("x", 3000), ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var got chatkit.Reader
			s := chats(t, func(_ context.Context, q chatkit.Question, a *chatkit.Answer) error {
				got = q.Reader
				return a.Write("Yes.")
			})
			s.chat(t, create("hello"), "Docent-Page", tt.page, "Accept-Language", "de")
			s.handling.Wait()
			if diff := cmp.Diff(chatkit.Reader{Page: tt.want, Language: "de"}, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestChat_Log(t *testing.T) {
	t.Parallel()
	s := chats(t, yes)
	_, body := s.chat(t, create("visitors words"), "Docent-Page", page+"/secret-page", "Chatkit-Frame-Instance-Id", "secret-frame")
	thread := eventsIn(t, body)[0].Thread.ID
	s.chat(t, `{"type":"threads.update","params":{"thread_id":"`+thread+`","title":"secret title"}}`)
	s.chat(t, `{"type":"threads.get_by_id","params":{"thread_id":"secret-thread"}}`)
	s.chat(t, `{"type":"secret-type","params":{"secret-field":"secret"}}`)
	s.chat(t, `{"type":"threads.delete","params":{"thread_id":["secret"]}}`)
	_, items := s.chat(t, `{"type":"items.list","params":{"thread_id":"`+thread+`"}}`)
	item := items[strings.Index(items, "msg_"):][:30]
	s.chat(t, `{"type":"items.feedback","params":{"thread_id":"`+thread+`","item_ids":["`+item+`"],"kind":"negative"}}`)
	for _, secret := range []string{"words", "secret", thread, item, "ds_", "192.0.2.1", "Yes."} {
		if strings.Contains(s.written(), secret) {
			t.Errorf("the log has %q:\n%s", secret, s.written())
		}
	}
	type record struct {
		Outcome, Type, Feedback string
		Items                   int
		Events, Bytes           int
		First                   *float64 `json:"first_event_ms"`
	}
	var got []record
	for line := range strings.Lines(s.written()) {
		var r record
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatal(err)
		}
		got = append(got, r)
	}
	zero := 0.0
	want := []record{
		{Outcome: "answered", Type: "threads.create", Events: 9, Bytes: len(body), First: &zero},
		{Outcome: "thread_not_found", Type: "threads.get_by_id"},
		{Outcome: "bad_request"},
		{Outcome: "bad_request", Type: "threads.delete"},
		{Outcome: "ok", Type: "items.feedback", Feedback: "negative", Items: 1},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("records (-want +got):\n%s\n%s", diff, s.written())
	}
}

// The preset firebase-hosting is not trusted on the chat route, so its option can
// differ from that of the session route.
func TestChat_OwnProxies(t *testing.T) {
	t.Parallel()
	s := chats(t, yes, func(o *httpapi.Options) {
		o.Chat.TrustedProxies = nil
		o.Chat.Messages = ratelimit.New(ratelimit.Options{Name: "messages", Limit: 1, Window: time.Minute, Log: o.Log, Now: o.Now})
	})
	for n, want := range []int{200, 429} {
		if resp, _ := s.chat(t, create("hello"), "X-Forwarded-For", fmt.Sprintf("192.0.2.%d", n)); resp.StatusCode != want {
			t.Errorf("forged address %d: %s, want %d", n, resp.Status, want)
		}
	}
}

// slow sends a body a byte at a time.
func TestChat_SlowBody(t *testing.T) {
	t.Parallel()
	s := chats(t, yes, func(o *httpapi.Options) { o.Timeout = 50 * time.Millisecond })
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	req := s.request(t.Context(), t, create("hello"))
	var head bytes.Buffer
	req.ContentLength = 1000
	fmt.Fprintf(&head, "POST /api/chatkit/chat HTTP/1.1\r\nHost: docent\r\nContent-Length: 1000\r\n")
	req.Header.Write(&head)
	head.WriteString("\r\n{")
	conn.Write(head.Bytes())
	resp, err := http.ReadResponse(bufio.NewReader(conn), req)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != 400 || !strings.Contains(string(body), "did not arrive whole and in time") {
		t.Errorf("%s %s", resp.Status, body)
	}
	s.noAddress(t)
}
