//go:build unix

package widget_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"docent/internal/testkit/testbrowser"
	"docent/internal/testkit/testchat"
	"docent/internal/testkit/testindex"
	"docent/internal/widget"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/network"
	"github.com/google/go-cmp/cmp"
)

// docs is a stage whose sessions are for Docent's own backend, on another origin than
// the site, with a chat that is scripted.
type docs struct {
	*stage
	chat   *testchat.Server
	origin string // Of the backend.

	mu       sync.Mutex
	asked    []asked
	hosted   bool // Sessions are hosted ones.
	accepted int  // The first token that the chat accepts.
	blocked  bool // The browser blocks the cookie for other sites' pages.
	api      string
}

// asked is a session request.
type asked struct {
	API, Body string
	Cookie    bool // It has the visitor's cookie.
}

func newDocs(t *testing.T, p page) *docs {
	t.Helper()
	d := &docs{stage: newStage(t, p), chat: &testchat.Server{}}
	mux := http.NewServeMux()
	mux.Handle("GET /api/chatkit/widget.js", widget.Handler())
	mux.HandleFunc("/api/chatkit/session", d.serveSession)
	mux.HandleFunc("/api/chatkit/", d.serveChat)
	backend := httptest.NewServer(mux)
	t.Cleanup(backend.Close)
	d.origin, d.api = backend.URL, backend.URL+"/api/chatkit/chat"
	d.change(func(p *parts) { p.session = http.HandlerFunc(d.serveSession) })
	return d
}

func (d *docs) set(f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f()
}

// revoke has the chat refuse all tokens so far.
func (d *docs) revoke() { d.set(func() { d.accepted = len(d.asked) + 1 }) }

// sessions returns the session requests so far.
func (d *docs) sessions() []asked {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.asked)
}

// serveSession answers with a token that has a number. For another site's page, it
// sends a token for the visitor, too.
func (d *docs) serveSession(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		d.t.Error(err)
	}
	if kind := r.Header.Get("Content-Type"); len(body) > 0 && !strings.HasPrefix(kind, "text/plain") || r.Method != http.MethodPost {
		d.t.Errorf("the session request is a %s with a body of %q", r.Method, kind)
	}
	_, err = r.Cookie("__session")
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked = append(d.asked, asked{r.URL.Query().Get("api"), string(body), err == nil})
	n := len(d.asked)
	w.Header().Set("Access-Control-Allow-Origin", r.Header.Get("Origin"))
	w.Header().Set("Access-Control-Allow-Credentials", "true")
	// The tests' profiles take cookies of other sites only if they are partitioned.
	http.SetCookie(w, &http.Cookie{Name: "__session", Value: "x", Path: "/api/chatkit", Secure: true, HttpOnly: true, SameSite: http.SameSiteNoneMode, Partitioned: !d.blocked})
	answer := map[string]any{"expires_after": 600, "expires_at": time.Now().Unix() + 600}
	if r.Header.Get("Sec-Fetch-Site") == "cross-site" {
		answer["visitor"] = fmt.Sprintf("vt_%d", n)
	}
	if d.hosted {
		answer["client_secret"] = fmt.Sprintf("ek_%d", n)
	} else {
		answer["token"] = fmt.Sprintf("ds_%d", n)
		answer["api"] = map[string]string{"url": d.api, "domain_key": "domain_pk_localhost_dev"}
	}
	_ = json.NewEncoder(w).Encode(answer)
}

// serveChat checks the headers that the widget adds.
func (d *docs) serveChat(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodOptions {
		if page := r.Header.Get("Docent-Page"); page != d.url("/") && page != d.url("/other") || r.Header.Get("Docent-Widget") != "1" {
			d.t.Errorf("headers: %v", r.Header)
		}
		var n int
		if _, err := fmt.Sscanf(r.Header.Get("Authorization"), "Bearer ds_%d", &n); err != nil {
			d.t.Errorf("Authorization: %q", r.Header.Get("Authorization"))
		}
		d.mu.Lock()
		accepted := n >= d.accepted
		d.mu.Unlock()
		if !accepted {
			w.Header().Set("Access-Control-Allow-Origin", "*")
			testchat.JSON(http.StatusUnauthorized, `{"code":"session_invalid","message":"The session has ended."}`)(w, r)
			return
		}
	}
	d.chat.ServeHTTP(w, r)
}

// JavaScript expressions for the state of ChatKit.
const (
	docsReady = `window.chatkitStandIn?.secrets.length + window.chatkitStandIn?.requests.length > 0 && window.chatkitStandIn?.events.some((e) => e.type === "chatkit.ready") && ` + notice + `.hidden`
	ended     = `chatkitStandIn.events.filter((e) => e.type === "chatkit.response.end").length`
)

// reader opens a page as a new visitor, and the chat.
func (d *docs) reader(path string) visitor {
	d.t.Helper()
	v := visitor{testbrowser.Open(d.t)}
	v.OnEveryPage(`window.reported = []; addEventListener("docent:error", (e) => reported.push(e.detail))`)
	v.read(d.url(path))
	return v
}

// read opens a page and the chat.
func (v visitor) read(url string) {
	v.Go(url)
	v.Until(host)
	testbrowser.Eval[any](v.Tab, `docent.open(), null`)
	v.Until(docsReady)
}

// say sends a message and waits for the end of the answer.
func (v visitor) say(text string) {
	before := testbrowser.Eval[int](v.Tab, ended)
	v.js(fmt.Sprintf(`%s.sendUserMessage({ text: %q })`, chatKit, text))
	v.Until(fmt.Sprintf(`%s === %d`, ended, before+1))
}

// js runs an expression and waits for its promise.
func (v visitor) js(expression string) {
	testbrowser.Eval[any](v.Tab, `Promise.resolve(`+expression+`).then(() => null)`)
}

// until waits until something about what ChatKit shows is true.
func (v visitor) until(js string) {
	v.js(`new Promise(async (done) => { for (;;) { const shown = await chatkitStandIn.shown(); if (` + js + `) return done(); await new Promise((go) => setTimeout(go, 10)) } })`)
}

// shown is what ChatKit shows.
type shown struct {
	Start    bool
	Messages []struct{ Role, Text string }
	Errors   []string
	Toast    string
	Threads  []string
	Buttons  []string
}

func (v visitor) shown() shown { return testbrowser.Eval[shown](v.Tab, `chatkitStandIn.shown()`) }

// conversation is the messages on show, one a string.
func (v visitor) conversation() []string {
	var lines []string
	for _, m := range v.shown().Messages {
		lines = append(lines, m.Role+": "+m.Text)
	}
	return lines
}

// thread is the ID of the thread that ChatKit began with.
func (v visitor) thread() string {
	return testbrowser.Eval[string](v.Tab, `chatkitStandIn.options.at(-1).initialThread ?? ""`)
}

var (
	firstTurn  = testchat.Answered([]string{testchat.Created("t1")}, "t1", "1", "How?", "Like this.")
	secondTurn = testchat.Answered(nil, "t1", "2", "And then?", "That is all.")
	stored     = testchat.Thread("t1", "How?", "active", "", testchat.UserMessage("t1", "user1", "How?"), testchat.Message("t1", "answer1", "Like this."))
)

func TestDocs_Talk(t *testing.T) {
	t.Parallel()
	d := newDocs(t, page{})
	d.chat.On("threads.create", testchat.Stream(firstTurn...))
	d.chat.On("threads.add_user_message", testchat.Stream(secondTurn...))
	d.chat.On("threads.get_by_id", testchat.JSON(200, stored))
	v := d.reader("/?q=secret#part")
	v.say("How?")
	v.read(d.url("/other"))
	v.until(`shown.messages.length === 2`)
	v.say("And then?")
	want := []string{"user: How?", "assistant: Like this.", "user: And then?", "assistant: That is all."}
	if diff := cmp.Diff(want, v.conversation()); diff != "" {
		t.Errorf("conversation (-want +got):\n%s", diff)
	}
	if got := v.thread(); got != "t1" {
		t.Errorf("the next page resumed %q", got)
	}
	if diff := cmp.Diff([]asked{{API: "any"}}, d.sessions()); diff != "" {
		t.Errorf("session requests (-want +got):\n%s", diff)
	}
	// The page of the docs is where the visitor reads.
	for kind, page := range map[string]string{"threads.create": d.url("/"), "threads.add_user_message": d.url("/other")} {
		if got := d.chat.Asked(kind)[0].Header.Get("Docent-Page"); got != page {
			t.Errorf("%s says it comes from %s, want %s", kind, got, page)
		}
	}
	if complaints := v.complaints(); len(complaints) > 0 || len(testbrowser.Eval[[]any](v.Tab, `reported`)) > 0 {
		t.Errorf("console: %q", complaints)
	}

	// The next session is for a conversation that the docs backend has.
	v.later(10 * time.Minute)
	v.read(d.url("/"))
	v.until(`shown.messages.length === 2`)
	if got := d.sessions(); len(got) != 2 || got[1].API != "docs" {
		t.Errorf("session requests: %+v", got)
	}
	// A new chat has no backend to stay with.
	v.js(chatKit + `.setThreadId(null)`)
	v.later(20 * time.Minute)
	v.read(d.url("/"))
	if got := d.sessions(); len(got) != 3 || got[2].API != "any" {
		t.Errorf("session requests: %+v", got)
	}
}

func TestDocs_History(t *testing.T) {
	t.Parallel()
	d := newDocs(t, page{})
	d.chat.On("threads.list", testchat.JSON(200, `{"data":[`+stored+`],"has_more":false}`))
	d.chat.On("threads.get_by_id", testchat.JSON(200, stored))
	v := d.reader("/")
	v.js(chatKit + `.showHistory()`)
	v.js(`chatkitStandIn.press("How?")`)
	v.until(`shown.messages.length === 2`)
	v.js(chatKit + `.showHistory()`)
	v.js(`chatkitStandIn.press("Rename How?")`)
	v.js(`chatkitStandIn.fill("Title", "Like this")`)
	v.js(`chatkitStandIn.press("Save")`)
	v.until(`shown.threads?.join() === "Like this"`)
	v.js(`chatkitStandIn.press("Delete Like this")`)
	v.until(`shown.threads?.length === 0`)
	for kind, want := range map[string]string{"threads.update": `{"thread_id":"t1","title":"Like this"}`, "threads.delete": `{"thread_id":"t1"}`} {
		if got := d.chat.Asked(kind); len(got) != 1 || string(got[0].Params) != want {
			t.Errorf("%s: %+v", kind, got)
		}
	}
	v.read(d.url("/other"))
	if got := v.thread(); got != "" {
		t.Errorf("the next page resumed %q, which is deleted", got)
	}
}

func TestDocs_Renewal(t *testing.T) {
	t.Parallel()
	t.Run("two tabs at once", func(t *testing.T) {
		t.Parallel()
		d := newDocs(t, page{})
		d.chat.On("threads.create", testchat.Stream(firstTurn...))
		tabs := []visitor{d.reader("/")}
		tabs = append(tabs, visitor{tabs[0].Another()})
		tabs[1].read(d.url("/other"))
		d.revoke()
		for _, v := range tabs {
			v.js(chatKit + `.sendUserMessage({ text: "How?" })`)
		}
		for _, v := range tabs {
			v.Until(ended + ` === 1`)
			if diff := cmp.Diff([]string{"user: How?", "assistant: Like this."}, v.conversation()); diff != "" {
				t.Errorf("conversation (-want +got):\n%s", diff)
			}
		}
		if got := d.sessions(); len(got) != 2 {
			t.Errorf("session requests: %+v", got)
		}
	})

	t.Run("at a request for JSON", func(t *testing.T) {
		t.Parallel()
		d := newDocs(t, page{})
		d.chat.On("threads.get_by_id", testchat.JSON(200, stored))
		v := d.reader("/")
		d.revoke()
		v.js(chatKit + `.setThreadId("t1")`)
		if got := d.sessions(); len(got) != 2 || len(v.conversation()) != 2 {
			t.Errorf("session requests: %+v", got)
		}
	})

	t.Run("once", func(t *testing.T) {
		t.Parallel()
		d := newDocs(t, page{})
		v := d.reader("/")
		d.set(func() { d.accepted = 100 })
		v.say("How?")
		if got := d.sessions(); len(got) != 2 || v.shown().Toast != "The session has ended." {
			t.Errorf("session requests: %+v, on show: %+v", got, v.shown())
		}
	})

	t.Run("before the token expires", func(t *testing.T) {
		t.Parallel()
		d := newDocs(t, page{})
		d.chat.On("threads.create", testchat.Stream(firstTurn...))
		v := d.reader("/")
		v.later(10 * time.Minute)
		v.say("How?")
		if got := d.chat.Asked("threads.create"); len(got) != 1 || got[0].Header.Get("Authorization") != "Bearer ds_2" {
			t.Errorf("requests: %+v", got)
		}
	})

	t.Run("with another address", func(t *testing.T) {
		t.Parallel()
		d := newDocs(t, page{})
		d.chat.On("threads.create", testchat.Stream(firstTurn...))
		v := d.reader("/")
		d.set(func() { d.api = d.origin + "/api/chatkit/pinned" })
		d.revoke()
		v.say("How?")
		// ChatKit may ask for the list of threads, too.
		if got := v.Requests("POST " + d.origin + "/api/chatkit/pinned"); len(got) == 0 || len(v.conversation()) != 2 {
			t.Errorf("requests: %q", v.Requests("POST"))
		}
	})

	t.Run("fails", func(t *testing.T) {
		t.Parallel()
		d := newDocs(t, page{})
		v := d.reader("/")
		d.change(func(p *parts) { p.session = testchat.JSON(429, `{"code":"rate_limited","retry_after":30}`) })
		d.revoke()
		v.say("How?")
		if got := v.shown().Toast; !strings.HasPrefix(got, "Too many chats") {
			t.Errorf("on show: %q", got)
		}
	})
}

// What is not a stream becomes one with an error, so that the visitor sees it and
// ChatKit does not send the message again.
func TestDocs_Failure(t *testing.T) {
	t.Parallel()
	const unreachable, failed, busy = "The assistant cannot be reached from here.", "Something went wrong on our side.", "The assistant is very busy at the moment."
	tests := []struct {
		name   string
		answer http.HandlerFunc
		says   string
		code   string
		retry  bool // Whether it makes sense to ask again for another answer.
	}{
		{"400", testchat.JSON(400, `{"code":"bad_request","message":"The message is too long."}`), "The message is too long.", "bad_request", false},
		{"403", testchat.JSON(403, `{"code":"origin_not_allowed","error":"This page may not ask."}`), "This page may not ask.", "origin_not_allowed", false},
		{"404", testchat.JSON(404, `{"code":"thread_not_found","message":"There is no such conversation."}`), "There is no such conversation.", "thread_not_found", false},
		{"413", testchat.JSON(413, `{"code":"request_too_large","message":"Too large."}`), "Too large.", "request_too_large", false},
		{"429 for a moment", testchat.JSON(429, `{"code":"busy","message":"Busy."}`), "Busy.", "busy", true},
		{"429 for the day", testchat.JSON(429, `{"code":"answers_used_up","message":"Enough for today."}`), "Enough for today.", "answers_used_up", false},
		{"429 without words", testchat.JSON(429, `{"code":"rate_limited"}`), "Too many chats from your network in a short time. The next one can start in a moment.", "rate_limited", true},
		{"500 without words", testchat.JSON(500, `{"code":"internal"}`), failed, "internal", true},
		{"503 without words", testchat.JSON(503, `{"code":"upstream_busy"}`), busy, "upstream_busy", true},
		{"somebody else's JSON", testchat.JSON(502, `{"message":"upstream connect error"}`), unreachable, "unreachable", true},
		{"JSON that is no object", testchat.JSON(502, `null`), unreachable, "unreachable", true},
		{"a proxy's error page", testchat.Answer(502, "text/html", "<h1>Bad Gateway</h1>"), unreachable, "unreachable", true},
		{"a proxy's login page", testchat.Answer(200, "text/html", "<h1>Log in</h1>"), unreachable, "unreachable", false},
		{"JSON in place of a stream", testchat.JSON(200, `{}`), unreachable, "unreachable", false},
		{"nothing", testchat.Answer(204, "text/event-stream", ""), unreachable, "unreachable", false},
		{"an error's stream", testchat.Answer(500, "text/event-stream", "data: {}\n\n"), unreachable, "unreachable", true},
		{"no connection", testchat.Gone, unreachable, "unreachable", true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			d := newDocs(t, page{})
			d.chat.On("threads.create", test.answer)
			d.chat.On("threads.add_user_message", test.answer)
			d.chat.On("threads.retry_after_item", test.answer)
			v := d.reader("/")
			v.say("How?")
			if got := v.shown(); got.Toast != test.says || !got.Start {
				t.Errorf("a first message: on show: %+v", got)
			}
			d.chat.On("threads.create", testchat.Stream(append(slices.Clone(firstTurn[:2]), testchat.Error("Try again.", true))...))
			v.say("How?")
			v.say("And then?")
			// The message is not in the thread, so there is nothing to retry: only the first one.
			if got := v.shown(); got.Errors[1] != test.says || len(got.Buttons) != len(slices.DeleteFunc(slices.Clone(got.Buttons), func(s string) bool { return s == "Retry" }))+1 {
				t.Errorf("a later message: on show: %+v", got)
			}
			before := testbrowser.Eval[int](v.Tab, ended)
			v.js(`chatkitStandIn.press("Retry")`)
			v.Until(fmt.Sprintf(`%s === %d`, ended, before+1))
			if got := v.shown(); got.Errors[0] != test.says || slices.Contains(got.Buttons, "Retry") != test.retry {
				t.Errorf("a retry: on show: %+v", got)
			}
			// Without a connection, it is the browser itself that tries again.
			if test.code != "unreachable" && len(d.chat.Asked("threads.add_user_message")) != 1 {
				t.Error("the message was sent again")
			}
			codes := testbrowser.Eval[[]string](v.Tab, `reported.filter((e) => e.code !== "chatkit_error").map((e) => e.code)`)
			if !slices.Equal(codes, []string{test.code, test.code, test.code}) {
				t.Errorf("reported: %q", codes)
			}
		})
	}
}

func TestDocs_Stop(t *testing.T) {
	t.Parallel()
	d := newDocs(t, page{})
	left := make(chan struct{})
	d.chat.On("threads.create", func(w http.ResponseWriter, r *http.Request) {
		events := append(slices.Clone(firstTurn[:2]), `{"type":"stream_options","stream_options":{"allow_cancel":true}}`)
		events = append(events, testchat.Begin("t1", "a1")...)
		testchat.Stream(append(events, testchat.Delta("a1", "Like this and that."))...)(w, r)
		<-r.Context().Done()
		close(left)
	})
	v := d.reader("/")
	v.js(chatKit + `.sendUserMessage({ text: "How?" })`)
	v.until(`shown.buttons.includes("Stop")`)
	v.js(`chatkitStandIn.press("Stop")`)
	v.Until(ended + ` === 1`)
	select {
	case <-left:
	case <-time.After(15 * time.Second):
		t.Error("the request goes on")
	}
	if diff := cmp.Diff([]string{"user: How?", "assistant: Like this and that."}, v.conversation()); diff != "" {
		t.Errorf("conversation (-want +got):\n%s", diff)
	}
	if got := testbrowser.Eval[[]any](v.Tab, `reported`); len(got) > 0 {
		t.Errorf("reported: %v", got)
	}
}

// A request that is aborted while it waits is not an error, and is not sent later.
func TestDocs_AbortedRequest(t *testing.T) {
	t.Parallel()
	d := newDocs(t, page{})
	held := make(chan struct{})
	d.chat.On("threads.create", func(_ http.ResponseWriter, r *http.Request) { close(held); <-r.Context().Done() })
	v := d.reader("/")
	v.js(chatKit + `.sendUserMessage({ text: "How?" })`)
	<-held
	v.js(chatKit + `.remove()`)
	v.Until(`chatkitStandIn.requests.at(-1).aborted`)
	// A page's own call gets the same answer as ChatKit.
	name := testbrowser.Eval[string](v.Tab, `chatkitStandIn.fetch("x", { method: "POST", body: "{}", headers: { accept: "text/event-stream" }, signal: AbortSignal.abort() }).catch((e) => e.name)`)
	if got := testbrowser.Eval[[]any](v.Tab, `reported`); name != "AbortError" || len(got) > 0 {
		t.Errorf("rejected with %s, reported: %v", name, got)
	}
}

func TestDocs_Retry(t *testing.T) {
	t.Parallel()
	d := newDocs(t, page{})
	d.chat.On("threads.create", testchat.Stream(append(slices.Clone(firstTurn[:2]), testchat.Error("No answer came.", true))...))
	d.chat.On("threads.retry_after_item", testchat.Stream(firstTurn[2:]...))
	v := d.reader("/")
	v.say("How?")
	v.js(`chatkitStandIn.press("Retry")`)
	v.Until(ended + ` === 2`)
	if diff := cmp.Diff([]string{"user: How?", "assistant: Like this."}, v.conversation()); diff != "" {
		t.Errorf("conversation (-want +got):\n%s", diff)
	}
	if got := d.chat.Asked("threads.retry_after_item"); len(got) != 1 || string(got[0].Params) != `{"thread_id":"t1","item_id":"user1"}` {
		t.Errorf("retry: %+v", got)
	}
}

func TestDocs_UnknownThread(t *testing.T) {
	t.Parallel()
	d := newDocs(t, page{})
	v := d.reader("/")
	testbrowser.Eval[any](v.Tab, `localStorage.setItem("docent docs thread " + new URL("/api/chatkit/session", location.href), "gone"), null`)
	v.read(d.url("/other"))
	v.Until(`chatkitStandIn.events.some((e) => e.type === "chatkit.thread.change" && e.detail.threadId === null)`)
	v.read(d.url("/"))
	if got := v.thread(); got != "" {
		t.Errorf("the next page asked for %q again", got)
	}
}

// Each backend has its own session and thread.
func TestDocs_BackendsApart(t *testing.T) {
	t.Parallel()
	d := newDocs(t, page{})
	d.chat.On("threads.create", testchat.Stream(firstTurn...))
	d.chat.On("threads.get_by_id", testchat.JSON(200, stored))
	d.set(func() { d.hosted = true })
	v := visitor{testbrowser.Open(t)}
	v.read(d.url("/"))
	v.js(chatKit + `.sendUserMessage({ text: "Hello?" })`)
	const last = `chatkitStandIn.events.findLast((e) => e.type === "chatkit.thread.change").detail.threadId`
	hosted := testbrowser.Eval[string](v.Tab, last)

	// A session of another backend begins a new conversation.
	d.set(func() { d.hosted = false })
	v.later(10 * time.Minute)
	v.read(d.url("/"))
	if got := v.thread(); got != "" {
		t.Errorf("the docs backend was asked for the thread %q", got)
	}
	v.say("How?")
	v.read(d.url("/"))
	if got := v.thread(); got != "t1" {
		t.Errorf("resumed %q", got)
	}

	// A new chat may have a hosted session again. The hosted thread is where it was.
	v.js(chatKit + `.setThreadId(null)`)
	d.set(func() { d.hosted = true })
	v.later(20 * time.Minute)
	v.read(d.url("/"))
	if got := v.thread(); got != hosted {
		t.Errorf("resumed %q, want %q", got, hosted)
	}
	var asked []string
	for _, a := range d.sessions() {
		asked = append(asked, a.API)
	}
	if diff := cmp.Diff([]string{"any", "any", "any"}, asked); diff != "" {
		t.Errorf("session requests (-want +got):\n%s", diff)
	}
}

// A hosted session does not keep a visitor from a docs conversation.
func TestDocs_HostedSessionStored(t *testing.T) {
	t.Parallel()
	d := newDocs(t, page{})
	d.chat.On("threads.get_by_id", testchat.JSON(200, stored))
	d.set(func() { d.hosted = true })
	v := visitor{testbrowser.Open(t)}
	v.read(d.url("/"))
	testbrowser.Eval[any](v.Tab, `localStorage.setItem("docent docs thread " + new URL("/api/chatkit/session", location.href), "t1"), null`)
	d.set(func() { d.hosted = false })
	v.read(d.url("/"))
	v.until(`shown.messages.length === 2`)
	if got := d.sessions(); len(got) != 2 || got[1].API != "docs" {
		t.Errorf("session requests: %+v", got)
	}
}

// A renewal that names another backend builds another chat.
func TestDocs_Switch(t *testing.T) {
	t.Parallel()
	for _, hosted := range []bool{true, false} {
		t.Run(fmt.Sprint("from hosted: ", hosted), func(t *testing.T) {
			t.Parallel()
			d := newDocs(t, page{})
			d.set(func() { d.hosted = hosted })
			v := visitor{testbrowser.Open(t)}
			v.read(d.url("/"))
			d.set(func() { d.hosted = !hosted })
			d.revoke()
			testbrowser.Eval[any](v.Tab, `chatkitStandIn.expireSecret().then(() => void `+chatKit+`.sendUserMessage({ text: "How?" })).then(() => null)`)
			v.Until(fmt.Sprintf(`chatkitStandIn.options.length === 2 && ("url" in chatkitStandIn.options[1].api) === %t && %s`, hosted, docsReady))
			if slices.ContainsFunc(v.secrets(), func(s string) bool { return strings.HasPrefix(s, "ds_") }) {
				t.Errorf("ChatKit got %q as a client secret", v.secrets())
			}
		})
	}
}

// Where the browser blocks cookies of other sites, the token keeps the visitor.
func TestDocs_BlockedCookies(t *testing.T) {
	t.Parallel()
	for _, blocked := range []bool{true, false} {
		t.Run(fmt.Sprint("blocked: ", blocked), func(t *testing.T) {
			t.Parallel()
			d := newDocs(t, page{})
			d.set(func() { d.blocked = blocked })
			d.change(func(p *parts) { p.page.src = d.origin + "/api/chatkit/widget.js" })
			v := visitor{testbrowser.Open(t)}
			v.read(d.url("/"))
			v.later(10 * time.Minute)
			v.read(d.url("/other"))
			v.later(20 * time.Minute)
			v.read(d.url("/"))
			want := []asked{{API: "any"}, {"any", "vt_1", !blocked}, {"any", "vt_2", !blocked}}
			if diff := cmp.Diff(want, d.sessions()); diff != "" {
				t.Errorf("session requests (-want +got):\n%s", diff)
			}
			if got := v.Requests("/session"); len(got) != 3 || slices.ContainsFunc(got, func(r string) bool { return !strings.HasPrefix(r, "POST") }) {
				t.Errorf("requests: %q, want three POSTs and no preflight", got)
			}
		})
	}
}

// The built service answers the protocol as the script of these tests does.
func TestDocs_Service(t *testing.T) {
	t.Parallel()
	for name, src := range map[string]string{"same origin": "", "another site's widget": elsewhere} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, page{src: src}, "CHATKIT_WORKFLOW_ID=", "DOCS_INDEX="+testindex.Write(t, testindex.Small()))
			v := visitor{testbrowser.Open(t)}
			v.read(s.url("/"))
			v.say("How do I install it?")
			v.read(s.url("/other"))
			v.until(`shown.messages.length === 2`)
			v.say("And then?")
			said := v.conversation()
			if len(said) != 4 || said[0] != "user: How do I install it?" || said[2] != "user: And then?" || said[1] == "assistant: " {
				t.Errorf("conversation: %q", said)
			}
			v.js(chatKit + `.showHistory()`)
			v.js(`chatkitStandIn.press("Rename How do I install it?")`)
			v.js(`chatkitStandIn.fill("Title", "Installing")`)
			v.js(`chatkitStandIn.press("Save")`)
			v.until(`shown.threads?.join() === "Installing"`)
			v.read(s.url("/"))
			v.until(`shown.messages.length === 4 && shown.title === "Installing"`)
			if diff := cmp.Diff(said, v.conversation()); diff != "" {
				t.Errorf("conversation on the next page (-want +got):\n%s", diff)
			}
			v.js(chatKit + `.showHistory()`)
			v.js(`chatkitStandIn.press("Delete Installing")`)
			v.until(`shown.threads?.length === 0`)
			v.read(s.url("/other"))
			if got := v.thread(); got != "" {
				t.Errorf("resumed %q, which is deleted", got)
			}
			if complaints := v.complaints(); len(complaints) > 0 {
				t.Errorf("console: %q", complaints)
			}
		})
	}
}

// With the built service, a visitor without the cookie stays the same one.
func TestSession_VisitorToken(t *testing.T) {
	t.Parallel()
	s := newStage(t, page{src: elsewhere})
	v := s.visit(s.url("/"))
	v.chat()
	for _, wait := range []time.Duration{10 * time.Minute, 20 * time.Minute} {
		testbrowser.Call(v.Tab, network.ClearBrowserCookies, cdp.Empty{})
		v.later(wait)
		v.Go(s.url("/other"))
		v.Until(chatting)
	}
	s.minted(3)
	for _, asked := range s.openai.Asked() {
		if first := s.openai.Asked()[0].User; asked.User != first {
			t.Errorf("the visitor is %s, then %s", first, asked.User)
		}
	}
}

func TestDocs_Options(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, value string
		want        any
	}{
		{"telemetry as ever", "false", nil},
		{"an attribute without a value", "", true},
		{"no telemetry", "true", true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			d := newDocs(t, page{data: map[string]string{"data-disable-telemetry": test.value}})
			v := d.reader("/")
			got := testbrowser.Eval[map[string]any](v.Tab, `chatkitStandIn.options[0]`)
			if got["disableTelemetry"] != test.want {
				t.Errorf("disableTelemetry is %v, want %v", got["disableTelemetry"], test.want)
			}
			if diff := cmp.Diff(map[string]any{"url": d.api, "domainKey": "domain_pk_localhost_dev"}, got["api"]); diff != "" {
				t.Errorf("api (-want +got):\n%s", diff)
			}
			// Other options may change, and the address of the chat stays.
			testbrowser.Eval[any](v.Tab, `docent.set({ title: "Help", disableTelemetry: true }), null`)
			v.Until(`chatkitStandIn.options.at(-1).frameTitle === "Help" && chatkitStandIn.options.at(-1).disableTelemetry`)
			if complaints := v.complaints(); len(complaints) > 0 {
				t.Errorf("console: %q", complaints)
			}
		})
	}
}

// An answer without what a docs session needs is a failure that the visitor sees.
func TestDocs_IncompleteSession(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]string{
		"no token":      `{"expires_after":600,"api":{"url":"https://x.test/","domain_key":"k"}}`,
		"no domain key": `{"expires_after":600,"token":"ds_1","api":{"url":"https://x.test/"}}`,
		"no address":    `{"expires_after":600,"token":"ds_1","api":{"domain_key":"k"}}`,
		"no API":        `{"expires_after":600,"token":"ds_1"}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, page{})
			s.change(func(p *parts) { p.session = testchat.JSON(200, answer) })
			v := s.visit(s.url("/"))
			v.Click(launcher)
			v.failed("failed")
		})
	}
}
