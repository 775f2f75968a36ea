package openai_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"docent/internal/openai"
	"docent/internal/testkit/testpipe"
)

// text is what events have delivered. A refusal stands in brackets.
type text struct {
	strings.Builder
	fail error // Returned by all calls.
}

func (t *text) Text(delta string) error {
	t.WriteString(delta)
	return t.fail
}

func (t *text) Refusal(delta string) error {
	t.WriteString("[" + delta + "]")
	return t.fail
}

// The events of a response, as OpenAI writes them.
func created() string {
	return `{"type":"response.created","sequence_number":0,"response":{"id":"resp_1","status":"in_progress","instructions":"rules","output":[],"usage":null,"error":null,"incomplete_details":null}}`
}

func newItem(index int, phase string) string {
	return fmt.Sprintf(`{"type":"response.output_item.added","output_index":%d,"item":{"id":"msg_%[1]d","type":"message","status":"in_progress","phase":%q,"content":[]}}`, index, phase)
}

func delta(index int, text string) string {
	return fmt.Sprintf(`{"type":"response.output_text.delta","output_index":%d,"content_index":0,"delta":%q,"logprobs":[]}`, index, text)
}

func done(index int, text string) string {
	return fmt.Sprintf(`{"type":"response.output_text.done","output_index":%d,"content_index":0,"text":%q}`, index, text)
}

func completed(output ...string) string {
	return `{"type":"response.completed","response":{"id":"resp_1","model":"gpt-6-luna-2026-09-22","status":"completed","error":null,"incomplete_details":null,"output":[` + strings.Join(output, ",") +
		`],"usage":{"input_tokens":100,"input_tokens_details":{"cached_tokens":40},"output_tokens":7,"total_tokens":107}}}`
}

func incomplete(reason string) string {
	return `{"type":"response.incomplete","response":{"id":"resp_1","model":"m","status":"incomplete","incomplete_details":{"reason":"` + reason + `"},"output":[],"usage":null}}`
}

func message(text string) string {
	return fmt.Sprintf(`{"type":"message","content":[{"type":"output_text","text":%q,"annotations":[]}]}`, text)
}

func wrong(code, message string) string {
	return fmt.Sprintf(`{"type":"error","sequence_number":2,"error":{"type":"tokens","code":%q,"message":%q,"param":null}}`, code, message)
}

// sse writes events as OpenAI does.
func sse(events ...string) string {
	var b strings.Builder
	for _, e := range events {
		var named struct{ Type string }
		_ = json.Unmarshal([]byte(e), &named)
		fmt.Fprintf(&b, "event: %s\ndata: %s\n\n", named.Type, e)
	}
	return b.String()
}

// streams answers with a stream.
func streams(body string) http.HandlerFunc {
	return answers(200, body, "Content-Type", "text/event-stream; charset=utf-8", "X-Request-Id", "req_1")
}

// ask asks for a response to one message.
func (u *upstream) ask(t *testing.T, apiKey secret, events openai.ResponseEvents) (openai.ResponseResult, error) {
	t.Helper()
	ctx, c := u.client(t, "/v1", apiKey)
	return c.Respond(ctx, openai.ResponseRequest{Model: "gpt-6-luna", Effort: "none", MaxOutputTokens: 1200, Input: []openai.InputMessage{{Role: "user", Text: "How do I install it?"}}}, events)
}

func TestRespond_Streams(t *testing.T) {
	t.Parallel()
	whole := sse(created(), newItem(0, ""), delta(0, "Hello "), delta(0, "there."), done(0, "Hello there."), completed(message("Hello there.")))
	tests := []struct {
		name, stream, want string
		result             openai.ResponseResult // Without what completed says.
	}{
		{"in deltas", whole, "Hello there.", openai.ResponseResult{}},
		{"lines that end in CRLF", strings.ReplaceAll(whole, "\n", "\r\n"), "Hello there.", openai.ResponseResult{}},
		{"without the last empty line", strings.TrimSpace(whole), "Hello there.", openai.ResponseResult{}},
		{"data before the event's name", "data: " + delta(0, "Hi") + "\nevent: response.output_text.delta\n\ndata: " + completed() + "\n\n", "Hi", openai.ResponseResult{}},
		{"without names, spaces, and with comments", ": hi\n\ndata:" + delta(0, "Hi") + "\n\n:\n\ndata:" + completed() + "\n\n", "Hi", openai.ResponseResult{}},
		{"data in two lines", "data: {\"type\":\ndata: \"response.output_text.delta\",\"delta\":\"Hi\"}\n\n" + sse(completed()), "Hi", openai.ResponseResult{}},
		{"unknown events and fields", sse(`{"type":"keepalive","sequence_number":1}`, `{"type":"response.new","item":7,"error":"x"}`, delta(0, "Hi"), completed()), "Hi", openai.ResponseResult{}},
		{"an end mark", "data: [DONE]\n\n" + whole, "Hello there.", openai.ResponseResult{}},
		{"bytes after the end", whole + "data: {", "Hello there.", openai.ResponseResult{}},
		{"no text", sse(created(), completed()), "", openai.ResponseResult{}},
		{"text without deltas", sse(done(0, "Hi"), completed(message("Hi"))), "Hi", openai.ResponseResult{}},
		{"text at the end alone", sse(completed(message("Hi"))), "Hi", openai.ResponseResult{}},
		{"the end has more than the deltas", sse(delta(0, "Hel"), completed(message("Hello"))), "Hello", openai.ResponseResult{}},
		{"the end has other text than the deltas", sse(delta(0, "Bye"), completed(message("Hello"))), "Bye", openai.ResponseResult{}},
		{"two messages", sse(delta(0, "One."), done(0, "One."), delta(1, "Two."), completed(message("One."), message("Two."))), "One.\n\nTwo.", openai.ResponseResult{}},
		{"two messages at the end alone", sse(completed(message("One."), message("Two."))), "One.\n\nTwo.", openai.ResponseResult{}},
		{"the end numbers items differently", sse(delta(1, "Yes."), completed(message("Yes."))), "Yes.", openai.ResponseResult{}},
		{"a part of another type", sse(completed(`{"type":"message","content":[{"type":"secret","text":"x"},{"type":"output_text","text":"Yes."}]}`)), "Yes.", openai.ResponseResult{}},
		{"text beyond ASCII", sse(delta(0, "日本 "), delta(0, "🙂"), completed()), "日本 🙂", openai.ResponseResult{}},
		{"two parts", sse(delta(0, "A"), `{"type":"response.output_text.delta","output_index":0,"content_index":1,"delta":"B"}`, completed(`{"type":"message","content":[{"text":"A"},{"text":"B"}]}`)), "A\n\nB", openai.ResponseResult{}},
		{
			"a comment, then the answer", sse(newItem(0, "commentary"), delta(0, "Let me see."), newItem(1, "final_answer"), delta(1, "Yes."),
				completed(`{"type":"message","phase":"commentary","content":[{"text":"Let me see."}]}`, message("Yes."))), "Yes.", openai.ResponseResult{},
		},
		{
			"reasoning", sse(`{"type":"response.reasoning_summary_text.delta","output_index":0,"delta":"Hm"}`, `{"type":"response.reasoning_text.delta","delta":"Hm"}`,
				`{"type":"response.content_part.done","part":{"type":"reasoning_text","text":"Hm"}}`, delta(1, "Yes."), completed(`{"type":"reasoning","summary":[{"text":"Hm"}]}`, message("Yes."))), "Yes.", openai.ResponseResult{},
		},
		{
			"a refusal", sse(`{"type":"response.refusal.delta","output_index":0,"content_index":0,"delta":"No."}`, `{"type":"response.refusal.done","refusal":"No."}`, completed(`{"type":"message","content":[{"type":"refusal","refusal":"No."}]}`)),
			"[No.]",
			openai.ResponseResult{Refused: true},
		},
		{"a refusal at the end alone", sse(completed(`{"type":"message","content":[{"type":"refusal","refusal":"No."}]}`)), "[No.]", openai.ResponseResult{Refused: true}},
		{"cut at the token limit", sse(delta(0, "Long"), incomplete("max_output_tokens")), "Long", openai.ResponseResult{Cut: "max_output_tokens"}},
		{"cut before any text", sse(incomplete("content_filter")), "", openai.ResponseResult{Cut: "content_filter"}},
		{"cut for no reason", sse(delta(0, "Long"), incomplete("")), "Long", openai.ResponseResult{Cut: "unknown"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var got text
			result, err := serve(t, streams(tt.stream)).ask(t, secret{value: key}, &got)
			if err != nil || got.String() != tt.want {
				t.Fatalf("text %q, want %q, error %v", got.String(), tt.want, err)
			}
			want := tt.result
			want.ID, want.Begun = "resp_1", tt.want != ""
			if want.Cut == "" {
				want.Model, want.InputTokens, want.CachedTokens, want.OutputTokens = "gpt-6-luna-2026-09-22", 100, 40, 7
			} else {
				want.Model = "m"
			}
			if diff := cmp.Diff(want, result); diff != "" {
				t.Errorf("result (-want +got):\n%s", diff)
			}
		})
	}
}

// A stream that arrives in two pieces, cut at any byte, is the same stream. One that
// ends there is an error, or a beginning of the same text.
func TestRespond_EveryByte(t *testing.T) {
	t.Parallel()
	const want = "Ja 🙂, 設定."
	stream := sse(created(), newItem(0, ""), delta(0, "Ja 🙂"), delta(0, ", 設"), delta(0, "定."), completed(message(want)))
	for cut := range len(stream) {
		u := serve(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			io.WriteString(w, stream[:cut])
			http.NewResponseController(w).Flush()
			if r.URL.Path == "/whole/responses" {
				io.WriteString(w, stream[cut:])
			}
		})
		var whole text
		ctx, c := u.client(t, "/whole", secret{value: key})
		if result, err := c.Respond(ctx, openai.ResponseRequest{}, &whole); err != nil || whole.String() != want || result.ID != "resp_1" {
			t.Fatalf("cut at %d: %q, %+v, %v", cut, whole.String(), result, err)
		}
		if cut < strings.Index(stream, delta(0, ", 設")) {
			u.Close()
			continue // Nothing has been delivered: it would be repeated.
		}
		var begun text
		ctx, c = u.client(t, "/begun", secret{value: key})
		_, err := c.Respond(ctx, openai.ResponseRequest{}, &begun)
		if (err == nil) != (begun.String() == want && strings.Count(stream[:cut], "{") == strings.Count(stream, "{") && cut >= len(strings.TrimSpace(stream))) {
			t.Errorf("ended at %d: %q, error %v", cut, begun.String(), err)
		}
		if !strings.HasPrefix(want, begun.String()) {
			t.Errorf("ended at %d: %q", cut, begun.String())
		}
		u.Close()
	}
}

func TestRespond_Errors(t *testing.T) {
	t.Parallel()
	const secretText = "You sent: How do I install it?"
	tests := []struct {
		name   string
		answer http.HandlerFunc
		kind   openai.Kind
		code   string
		calls  int
	}{
		{"an error before any text", streams(sse(created(), wrong("invalid_prompt", "policy"))), openai.Rejected, "invalid_prompt", 1},
		{"a flat error", streams(sse(`{"type":"error","code":"invalid_prompt","message":"policy","param":null}`)), openai.Rejected, "invalid_prompt", 1},
		{"a failed response alone", streams(sse(`{"type":"response.failed","response":{"error":{"code":"invalid_prompt","message":"policy"}}}`)), openai.Rejected, "invalid_prompt", 1},
		{"an error and a failed response", streams(sse(wrong("invalid_prompt", "policy"), `{"type":"response.failed","response":{"error":{"code":"server_error"}}}`)), openai.Rejected, "invalid_prompt", 1},
		{"no credit", streams(sse(created(), wrong("insufficient_quota", "Pay."))), openai.Spent, "insufficient_quota", 1},
		{"no credit, as a status", says(429, "insufficient_quota", "credit_balance_exhausted", "Pay."), openai.Spent, "credit_balance_exhausted", 1},
		{"a request that is too large", streams(sse(wrong("rate_limit_exceeded", "Request too large for gpt-6-luna"))), openai.Rejected, "rate_limit_exceeded", 1},
		{"a context that is too long", says(400, "invalid_request_error", "context_length_exceeded", "Too long."), openai.TooLong, "context_length_exceeded", 1},
		{"a context that is too long, in the stream", streams(sse(wrong("context_length_exceeded", "Too long."))), openai.TooLong, "context_length_exceeded", 1},
		{"an unknown model", says(400, "invalid_request_error", "model_not_found", "No."), openai.Rejected, "model_not_found", 1},
		{"an error that quotes the question", streams(sse(wrong("invalid_prompt", secretText))), openai.Rejected, "invalid_prompt", 1},
		{"a status whose error quotes the question", says(400, "invalid_request_error", "invalid_value", secretText), openai.Rejected, "invalid_value", 1},
		{"an error after some text", streams(sse(delta(0, "Hel"), wrong("server_error", "Sorry."))), openai.Busy, "server_error", 1},
		{"the end in mid-text", streams(sse(delta(0, "Hel"))), openai.Busy, "", 1},
		{"not JSON after some text", streams(sse(delta(0, "Hel")) + "data: {oops\n\n"), openai.Busy, "", 1},
		{"HTML", answers(200, "<html>", "Content-Type", "text/html"), openai.Rejected, "", 1},
		{"JSON", answers(200, completed(), "Content-Type", "application/json"), openai.Rejected, "", 1},
		{"no type", raw("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"), openai.Rejected, "", 1},
		{"a redirect", answers(302, "", "Location", "https://example.com"), openai.Rejected, "", 1},
		{"2 MB in one line", streams("data: " + strings.Repeat("x", 2<<20)), openai.Rejected, "", 1},
		{"2 MB of comments", streams(strings.Repeat(": keep alive\n\n", 150_000)), openai.Rejected, "", 1},
		{"an error of the request, in the stream", streams(sse(`{"type":"error","error":{"type":"invalid_request_error","code":null,"message":"No."}}`)), openai.Rejected, "", 1},
		{"an error without a type of event", streams("data: {\"error\":{\"type\":\"insufficient_quota\",\"message\":\"Pay.\"}}\n\n"), openai.Spent, "", 1},
		{"a wrong key", says(401, "invalid_request_error", "invalid_api_key", "Wrong key."), openai.Rejected, "invalid_api_key", 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			u := serve(t, tt.answer)
			_, err := u.ask(t, secret{value: key}, &text{})
			got := failureOf(t, err)
			if got.Kind != tt.kind || got.Code != tt.code {
				t.Errorf("kind %d, code %q, want %d, %q: %v", got.Kind, got.Code, tt.kind, tt.code, err)
			}
			if record := logged(err); strings.Contains(record, "install") || strings.Contains(record, key) {
				t.Errorf("the error has a text or the key: %s", record)
			}
			u.mu.Lock()
			defer u.mu.Unlock()
			if len(u.calls) != tt.calls {
				t.Errorf("%d calls, want %d", len(u.calls), tt.calls)
			}
		})
	}
}

// A question may have the words by which an error is known.
func TestRespond_CodeInQuestion(t *testing.T) {
	t.Parallel()
	u := serve(t, streams(sse(wrong("insufficient_quota", "Pay."))))
	ctx, c := u.client(t, "/v1", secret{value: key})
	question := []openai.InputMessage{{Role: "user", Text: "What does insufficient_quota mean?"}}
	_, err := c.Respond(ctx, openai.ResponseRequest{Input: question}, &text{})
	if got := failureOf(t, err); got.Kind != openai.Spent || got.Code == "insufficient_quota" {
		t.Errorf("kind %d, code %q", got.Kind, got.Code)
	}
	u.wantCalls(t, "/v1/responses "+key)
}

func TestRespond_Retry(t *testing.T) {
	t.Parallel()
	good := streams(sse(delta(0, "Hi"), completed()))
	tests := []struct {
		name    string
		answers []http.HandlerFunc
		err     bool
	}{
		{"busy, then good", []http.HandlerFunc{answers(503, "{}"), good}, false},
		{"overloaded in the stream, then good", []http.HandlerFunc{streams(sse(created(), wrong("server_is_overloaded", "Later."))), good}, false},
		{"a hint in the message", []http.HandlerFunc{streams(sse(wrong("rate_limit_exceeded", "Please try again in 20ms."))), good}, false},
		{"a number for a code", []http.HandlerFunc{streams(sse(`{"type":"error","error":{"code":529,"message":"Later."}}`)), good}, false},
		{"a hint in a refusal's message", []http.HandlerFunc{says(429, "tokens", "rate_limit_exceeded", "Please try again in 6m0s.")}, true},
		{"a hint that is too long", []http.HandlerFunc{streams(sse(wrong("rate_limit_exceeded", "Please try again in 120s.")))}, true},
		{"the stream ends before any text", []http.HandlerFunc{streams(sse(created())), good}, false},
		{"an empty stream", []http.HandlerFunc{streams(""), good}, false},
		{"never good", []http.HandlerFunc{answers(500, "{}"), answers(500, "{}"), answers(500, "{}")}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var calls atomic.Int32
			u := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if n := int(calls.Add(1)); n <= len(tt.answers) {
					tt.answers[n-1](w, r)
				}
			})
			var got text
			_, err := u.ask(t, secret{value: key}, &got)
			if (err != nil) != tt.err || !tt.err && got.String() != "Hi" {
				t.Errorf("text %q, error %v", got.String(), err)
			}
			if n := int(calls.Load()); n != len(tt.answers) {
				t.Errorf("%d calls, want %d", n, len(tt.answers))
			}
		})
	}
}

func TestRespond_Body(t *testing.T) {
	t.Parallel()
	var got, header string
	u := &upstream{Server: newServer(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got, header = string(body), r.Header.Get("Accept")
		streams(sse(completed()))(w, r)
	})}
	ctx, c := u.client(t, "/v1", secret{value: key})
	_, err := c.Respond(ctx, openai.ResponseRequest{
		Model: "gpt-6-luna", Effort: "none", Instructions: "Rules.", MaxOutputTokens: 1200, SafetyIdentifier: "hash", CacheKey: "site",
		Input: []openai.InputMessage{{Role: "user", Text: "Before"}, {Role: "assistant", Text: "Answer"}, {Role: "user", Text: "Now"}},
	}, &text{})
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"input":[{"role":"user","content":"Before"},{"role":"assistant","content":"Answer"},{"role":"user","content":"Now"}],"instructions":"Rules.",` +
		`"max_output_tokens":1200,"model":"gpt-6-luna","prompt_cache_key":"site","reasoning":{"effort":"none"},"safety_identifier":"hash","store":false,"stream":true,` +
		`"stream_options":{"include_obfuscation":false},"text":{"verbosity":"low"}}`
	if diff := cmp.Diff(want, got); diff != "" || header != "text/event-stream" {
		t.Errorf("Accept %q, body (-want +got):\n%s", header, diff)
	}
}

func TestRespond_KeyRotation(t *testing.T) {
	t.Parallel()
	u := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+otherKey {
			says(401, "invalid_request_error", "invalid_api_key", "Wrong key.")(w, r)
			return
		}
		streams(sse(delta(0, "Hi"), completed()))(w, r)
	})
	var got text
	if _, err := u.ask(t, secret{key, func(string) (string, bool) { return otherKey, true }}, &got); err != nil || got.String() != "Hi" {
		t.Errorf("text %q, error %v", got.String(), err)
	}
	u.wantCalls(t, "/v1/responses "+key, "/v1/responses "+otherKey)
}

// sent returns the names of the parameters in a request, sorted.
func sent(r *http.Request) []string {
	var fields map[string]any
	body, _ := io.ReadAll(r.Body)
	_ = json.Unmarshal(body, &fields)
	var names []string
	for name := range fields {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func newServer(tb testing.TB, h http.HandlerFunc) *httptest.Server {
	tb.Helper()
	s := httptest.NewServer(h)
	tb.Cleanup(s.Close)
	return s
}

func TestRespond_RefusedParameters(t *testing.T) {
	t.Parallel()
	var bodies [][]string
	// This model has no reasoning, and a gateway in front of it no cache.
	u := &upstream{Server: newServer(t, func(w http.ResponseWriter, r *http.Request) {
		names := sent(r)
		bodies = append(bodies, names)
		switch {
		case slices.Contains(names, "reasoning"):
			answers(400, `{"error":{"type":"invalid_request_error","code":"unsupported_parameter","param":"reasoning.effort","message":"No."}}`)(w, r)
		case slices.Contains(names, "prompt_cache_key"):
			streams(sse(`{"type":"error","error":{"code":"unsupported_parameter","param":"prompt_cache_key","message":"No."}}`))(w, r)
		default:
			streams(sse(delta(0, "Hi"), completed()))(w, r)
		}
	})}
	ctx, c := u.client(t, "/v1", secret{value: key})
	for range 2 {
		var got text
		if _, err := c.Respond(ctx, openai.ResponseRequest{Model: "old", Effort: "none", CacheKey: "k", SafetyIdentifier: "s"}, &got); err != nil || got.String() != "Hi" {
			t.Fatalf("text %q, error %v", got.String(), err)
		}
	}
	all := []string{"input", "instructions", "max_output_tokens", "model", "prompt_cache_key", "reasoning", "safety_identifier", "store", "stream", "stream_options", "text"}
	without := func(names ...string) []string {
		return slices.DeleteFunc(slices.Clone(all), func(n string) bool { return slices.Contains(names, n) })
	}
	want := [][]string{all, without("reasoning"), without("reasoning", "prompt_cache_key"), without("reasoning", "prompt_cache_key")}
	if diff := cmp.Diff(want, bodies); diff != "" {
		t.Errorf("parameters (-want +got):\n%s", diff)
	}
}

// Calls at the same time may learn the same.
func TestRespond_RefusedAtOnce(t *testing.T) {
	t.Parallel()
	u := &upstream{Server: newServer(t, func(w http.ResponseWriter, r *http.Request) {
		if slices.Contains(sent(r), "reasoning") {
			answers(400, `{"error":{"code":"unsupported_parameter","param":"reasoning.effort","message":"No."}}`)(w, r)
			return
		}
		streams(sse(delta(0, "Hi"), completed()))(w, r)
	})}
	ctx, c := u.client(t, "/v1", secret{value: key})
	var calls sync.WaitGroup
	for range 20 {
		calls.Go(func() {
			if _, err := c.Respond(ctx, openai.ResponseRequest{Effort: "none"}, &text{}); err != nil {
				t.Error(err)
			}
		})
	}
	calls.Wait()
}

// A gateway may put anything into a response's ID.
func TestRespond_Names(t *testing.T) {
	t.Parallel()
	u := serve(t, streams(sse(delta(0, "Hi"), `{"type":"response.completed","response":{"id":"How do I install it?","model":"m\u001b","usage":{"input_tokens":-1}}}`)))
	result, err := u.ask(t, secret{value: key}, &text{})
	if diff := cmp.Diff(openai.ResponseResult{Begun: true}, result); diff != "" || err != nil {
		t.Errorf("error %v, result (-want +got):\n%s", err, diff)
	}
}

// What cannot be left out, or has been, ends the call.
func TestRespond_RefusedForGood(t *testing.T) {
	t.Parallel()
	for _, param := range []string{"model", "max_output_tokens", "input", "reasoning.effort"} {
		u := serve(t, answers(400, `{"error":{"code":"unsupported_parameter","param":"`+param+`","message":"No."}}`))
		if _, err := u.ask(t, secret{value: key}, &text{}); failureOf(t, err).Kind != openai.Rejected {
			t.Errorf("%s: error %v", param, err)
		}
		want := []string{"/v1/responses " + key}
		if param == "reasoning.effort" {
			want = append(want, want[0])
		}
		u.wantCalls(t, want...)
	}
}

func TestRespond_EventsFail(t *testing.T) {
	t.Parallel()
	u := serve(t, streams(sse(delta(0, "Hi"), delta(0, " there"), completed())))
	gone := errors.New("the visitor has left")
	got := text{fail: gone}
	result, err := u.ask(t, secret{value: key}, &got)
	if !errors.Is(err, gone) || got.String() != "Hi" || !result.Begun {
		t.Errorf("text %q, result %+v, error %v", got.String(), result, err)
	}
	u.wantCalls(t, "/v1/responses "+key)
}

// bubbled returns a client in a bubble of synctest, and serves it there.
func bubbled(t *testing.T, h http.HandlerFunc) *openai.Client {
	t.Helper()
	l := testpipe.New()
	srv := &http.Server{Handler: h}
	go srv.Serve(l)
	c := openai.New(openai.Options{BaseURL: "http://openai.test/v1", APIKey: secret{value: key}, Now: time.Now, Transport: &http.Transport{
		DialContext: func(context.Context, string, string) (net.Conn, error) { return l.Dial(), nil },
	}})
	t.Cleanup(func() {
		c.Close()
		srv.Close()
	})
	return c
}

// Leaving out a parameter gives a call no more time.
func TestRespond_SlowRefusals(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := bubbled(t, func(w http.ResponseWriter, r *http.Request) {
			names := sent(r)
			select {
			case <-time.After(15 * time.Second):
			case <-r.Context().Done():
			}
			param := "reasoning"
			if !slices.Contains(names, param) {
				param = "text"
			}
			answers(400, `{"error":{"param":"`+param+`","message":"No."}}`)(w, r)
		})
		began := time.Now()
		_, err := c.Respond(t.Context(), openai.ResponseRequest{Effort: "none"}, &text{})
		if took := time.Since(began); failureOf(t, err).Kind != openai.Timeout || took != 20*time.Second {
			t.Errorf("after %v: %v", took, err)
		}
	})
}

// The first text may take 20 s, with all repetitions. What follows may take longer.
func TestRespond_Slow(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		first   time.Duration // Until the first text.
		then    time.Duration // Until the end.
		took    time.Duration
		timeout bool
	}{
		{"in time", 19 * time.Second, 40 * time.Second, 59 * time.Second, false},
		{"too late", 21 * time.Second, time.Second, 20 * time.Second, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var left time.Duration
				began := time.Now()
				c := bubbled(t, func(w http.ResponseWriter, r *http.Request) {
					w.Header().Set("Content-Type", "text/event-stream")
					io.WriteString(w, sse(created()))
					http.NewResponseController(w).Flush()
					for _, wait := range []struct {
						d    time.Duration
						next string
					}{{tt.first, delta(0, "Hi")}, {tt.then, completed()}} {
						select {
						case <-time.After(wait.d):
						case <-r.Context().Done():
							left = time.Since(began)
							return
						}
						io.WriteString(w, sse(wait.next))
						http.NewResponseController(w).Flush()
					}
				})
				_, err := c.Respond(t.Context(), openai.ResponseRequest{}, &text{})
				var e *openai.Error
				if timeout := errors.As(err, &e) && e.Kind == openai.Timeout; timeout != tt.timeout || !tt.timeout && err != nil {
					t.Errorf("error %v", err)
				}
				if took := time.Since(began); took != tt.took {
					t.Errorf("took %v, want %v", took, tt.took)
				}
				synctest.Wait()
				if tt.timeout && left != tt.took {
					t.Errorf("the call ended after %v", left)
				}
			})
		})
	}
}

// The recordings of the real API, where they are.
func TestRespond_Recordings(t *testing.T) {
	t.Parallel()
	files, _ := filepath.Glob("../../../shared/cassettes/*.sse")
	if len(files) == 0 {
		t.Skip("there are no recordings")
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			body, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var got text
			ctx, c := serve(t, streams(string(body))).client(t, "/v1", secret{value: key})
			ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
			defer cancel()
			result, err := c.Respond(ctx, openai.ResponseRequest{}, &got)
			if failed := strings.HasPrefix(filepath.Base(file), "error_"); failed != (err != nil) {
				t.Fatalf("result %+v, error %v", result, err)
			}
			// The deltas of each part are what its done event has.
			for block := range strings.SplitSeq(string(body), "\n\n") {
				var e struct{ Type, Text string }
				_, data, _ := strings.Cut(block, "data: ")
				_ = json.Unmarshal([]byte(data), &e)
				if e.Type == "response.output_text.done" && !strings.Contains(file, "commentary") && !strings.Contains(got.String(), e.Text) {
					t.Errorf("text %q is not in %q", e.Text, got.String())
				}
			}
		})
	}
}

func FuzzRespond(f *testing.F) {
	f.Add([]byte(sse(created(), delta(0, "Hi"), completed(message("Hi")))))
	f.Add([]byte(sse(wrong("server_error", "x"))))
	f.Add([]byte("data: {\"type\":\"error\",\"code\":{},\"error\":{}}\n\n"))
	f.Add([]byte("\r\n:\ndata\ndata:\n\n"))
	var body []byte
	u := newServer(f, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		w.Write(body)
	})
	c := openai.New(openai.Options{BaseURL: u.URL, APIKey: secret{value: key}, Now: now})
	f.Cleanup(c.Close)
	f.Fuzz(func(t *testing.T, stream []byte) {
		body = stream
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond) // Leaves no time for repetitions.
		defer cancel()
		var got text
		result, err := c.Respond(ctx, openai.ResponseRequest{}, &got)
		if result.Begun != (got.Len() > 0) || !utf8.ValidString(got.String()) {
			t.Errorf("text %q, result %+v, error %v", got.String(), result, err)
		}
		if err == nil && !bytes.Contains(stream, []byte("response.")) {
			t.Errorf("a stream without an end: %q", stream)
		}
	})
}
