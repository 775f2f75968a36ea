//go:build unix

package standin_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"docent/internal/standin"
	"docent/internal/testkit/testbrowser"
	"docent/internal/testkit/testchat"

	"github.com/google/go-cmp/cmp"
)

func TestMain(m *testing.M) { os.Exit(testbrowser.Run(m)) }

// chat is a page with ChatKit and a custom API, in a browser.
type chat struct {
	*testbrowser.Tab
	t      *testing.T
	server *testchat.Server
}

// api is a valid custom API, as JavaScript.
const api = `{ url: "/chat", domainKey: "domain_pk_localhost_dev" }`

// open opens a page whose ChatKit has the options, which are JavaScript. Nothing
// waits. prepare sets the server's answers.
func open(t *testing.T, options string, prepare func(*testchat.Server)) chat {
	t.Helper()
	server := &testchat.Server{}
	if prepare != nil {
		prepare(server)
	}
	chatKit := httptest.NewServer(standin.ChatKit())
	t.Cleanup(chatKit.Close)
	mux := http.NewServeMux()
	mux.Handle("/chat", server)
	mux.HandleFunc("/{$}", testchat.Answer(http.StatusOK, "text/html", fmt.Sprintf(`<!doctype html>
<script src="%s/chatkit.js"></script>
<script>
  chatkitStandIn.pace = 0;
  const chat = document.createElement("openai-chatkit");
  chat.setOptions(%s);
  addEventListener("DOMContentLoaded", () => document.body.append(chat));
</script>`, chatKit.URL, options)))
	site := httptest.NewServer(mux)
	t.Cleanup(site.Close)
	c := chat{testbrowser.Open(t), t, server}
	c.Go(strings.Replace(site.URL, "127.0.0.1", "localhost", 1))
	c.Until(`chatkitStandIn.events.some((e) => e.type === "chatkit.ready")`)
	return c
}

// say sends a message and waits until ChatKit no longer answers.
func (c chat) say(text string) {
	c.t.Helper()
	ends := testbrowser.Eval[int](c.Tab, ended)
	c.js(fmt.Sprintf(`chat.sendUserMessage({ text: %q })`, text))
	c.Until(fmt.Sprintf(`%s === %d`, ended, ends+1))
}

// ended counts the answers that ended.
const ended = `chatkitStandIn.events.filter((e) => e.type === "chatkit.response.end").length`

// js runs an expression and waits for its promise.
func (c chat) js(expression string) {
	c.t.Helper()
	testbrowser.Eval[any](c.Tab, `Promise.resolve(`+expression+`).then(() => null)`)
}

func (c chat) press(label string) { c.t.Helper(); c.js(fmt.Sprintf(`chatkitStandIn.press(%q)`, label)) }

// until waits until something about what is on show is true.
func (c chat) until(js string) {
	c.t.Helper()
	c.js(`new Promise(async (done) => { for (;;) { const shown = await chatkitStandIn.shown(); if (` + js + `) return done(); await new Promise((go) => setTimeout(go, 10)) } })`)
}

type message struct{ Role, Text string }

type place struct{ Text, Href, After string }

// shown is what the visitor sees.
type shown struct {
	Title    string
	Start    bool
	Messages []message
	Chips    []place
	Sources  []place
	Progress []string
	Errors   []string
	Notices  []string
	Toast    string
	Banner   string
	Composer *string
	Threads  []string
	Buttons  []string
}

func (c chat) shown() shown {
	c.t.Helper()
	return testbrowser.Eval[shown](c.Tab, `chatkitStandIn.shown()`)
}

func (c chat) has(button string) bool {
	c.t.Helper()
	return slices.Contains(c.shown().Buttons, button)
}

// events returns the events of ChatKit but for ready, as "type detail".
func (c chat) events() []string {
	c.t.Helper()
	return testbrowser.Eval[[]string](c.Tab, `chatkitStandIn.events.slice(1).map(({ type, name, detail }) =>
		[type.replace("chatkit.", ""), name, typeof detail === "object" ? JSON.stringify(detail) : detail].filter((s) => s !== undefined).join(" "))`)
}

func (c chat) asked(kind string) []string {
	var found []string
	for _, r := range c.server.Asked(kind) {
		found = append(found, string(r.Params))
	}
	return found
}

// untilAsked waits until the server has got n requests of a type: the page counts them
// when it sends them.
func (c chat) untilAsked(kind string, n int) {
	for deadline := time.Now().Add(10 * time.Second); len(c.asked(kind)) < n && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
	}
}

func same[T any](t *testing.T, what string, want, got T) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

const custom = `{ api: ` + api + ` }`

const generating = "There was an error while generating the assistant's response."

var hello = message{"user", "Hello there"}

// first is a thread's first events: the thread and the visitor's message.
var first = []string{testchat.Created("t1"), testchat.Done(testchat.UserMessage("t1", "u1", "Hello there"))}

// whole is a turn that ends well.
var whole = testchat.Answered([]string{testchat.Created("t1")}, "t1", "1", "Hello there", "One two three four.")

func events(parts ...any) []string {
	var all []string
	for _, part := range parts {
		switch part := part.(type) {
		case string:
			all = append(all, part)
		case []string:
			all = append(all, part...)
		}
	}
	return all
}

// create sets the answers to the first message of a thread.
func create(answers ...http.HandlerFunc) func(*testchat.Server) {
	return func(s *testchat.Server) { s.On("threads.create", answers...) }
}

func TestChatKit_Requests(t *testing.T) {
	t.Parallel()
	c := open(t, `{ api: { url: "/chat", domainKey: "k", fetch: (...a) => { (window.fetched ??= []).push(a); return fetch(...a) } } }`, func(s *testchat.Server) {
		create(testchat.Stream(whole...))(s)
		s.On("threads.add_user_message", testchat.Stream(testchat.Answered(nil, "t1", "2", "And now?", "Later.")...))
	})
	c.say("Hello there")
	c.say("And now?")
	same(t, "threads.list", []string{`{"limit":9999,"order":"desc"}`}, c.asked("threads.list"))
	same(t, "threads.create", []string{`{"input":{"content":[{"type":"input_text","text":"Hello there"}],"quoted_text":"","attachments":[],"inference_options":{}}}`}, c.asked("threads.create"))
	same(t, "threads.add_user_message", []string{`{"input":{"content":[{"type":"input_text","text":"And now?"}],"quoted_text":"","attachments":[],"inference_options":{}},"thread_id":"t1"}`}, c.asked("threads.add_user_message"))
	ids := map[string]bool{}
	for _, r := range c.server.Asked("") {
		accept := "text/event-stream"
		if r.Type == "threads.list" {
			accept = "*/*"
		}
		id := r.Header.Get("Chatkit-Frame-Instance-Id")
		ids[id] = true
		if r.Header.Get("Accept") != accept || r.Header.Get("Content-Type") != "application/json" || r.Header.Get("Accept-Language") != "en" || !regexp.MustCompile(`^[0-9a-f-]{36}$`).MatchString(id) {
			t.Errorf("%s has the headers %v", r.Type, r.Header)
		}
	}
	if len(ids) != 1 {
		t.Errorf("one frame has the IDs %v", ids)
	}
	// The page's fetch gets plain values, and a signal that is aborted after a stream.
	// The list of threads may be asked for before or after the first message.
	same(t, "arguments of fetch", []string{"/chat POST string Object false", "/chat POST string Object true", "/chat POST string Object true"},
		testbrowser.Eval[[]string](c.Tab, `fetched.map(([url, i]) => [url, i.method, typeof i.body, i.headers.constructor.name, i.signal.aborted].join(" ")).sort()`))
	same(t, "events", []string{
		"response.start", `thread.change {"threadId":"t1"}`, "response.end", "response.start", "response.end",
	}, c.events())
	same(t, "messages", []message{hello, {"assistant", "One two three four."}, {"user", "And now?"}, {"assistant", "Later."}}, c.shown().Messages)
}

func TestChatKit_FirstMessageFails(t *testing.T) {
	t.Parallel()
	const tooMany = "You’ve sent too many requests. Please try again later."
	lost := []string{"response.start", `thread.change {"threadId":null}`, "response.end"}
	tests := []struct {
		name   string
		answer http.HandlerFunc
		times  int
		toast  string
		events []string
	}{
		{"400", testchat.JSON(400, `{"message":"No."}`), 1, "", lost},
		{"401", testchat.JSON(401, `{"message":"No."}`), 1, "", lost},
		{"404", testchat.JSON(404, `{"message":"No."}`), 1, "", lost},
		{"429", testchat.JSON(429, `{"message":"No."}`), 1, tooMany, lost},
		{"500", testchat.JSON(500, `{"message":"No."}`), 6, "", lost},
		{"503", testchat.JSON(503, `{"message":"No."}`), 6, "", lost},
		{"a proxy's page", testchat.Answer(200, "text/html", "<p>Please log in"), 6, "", lost},
		{"no connection", testchat.Gone, -1, generating, slices.Insert(slices.Clone(lost), 1, "error StreamError "+generating)},
		{"an error before the thread", testchat.Stream(testchat.Error("Try **later**.", true)), 1, "Try later.", slices.Insert(slices.Clone(lost), 1, "error StreamError Try **later**.")},
		{"nothing", testchat.Stream(), 1, "", lost},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := open(t, custom, create(test.answer))
			c.say("Hello there")
			if got := len(c.asked("threads.create")); got != test.times && test.times > 0 {
				t.Errorf("asked %d times, want %d", got, test.times)
			}
			got := c.shown()
			if !got.Start || len(got.Messages) > 0 || len(got.Errors) > 0 || *got.Composer != "" || got.Toast != test.toast {
				t.Errorf("on show: %+v", got)
			}
			same(t, "events", test.events, c.events())
		})
	}
}

func TestChatKit_LaterMessageFails(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		answer http.HandlerFunc
		errors []string
		retry  bool
	}{
		{"400", testchat.JSON(400, `{"message":"No."}`), nil, false},
		{"500", testchat.JSON(500, `{"message":"No."}`), nil, false},
		{"no connection", testchat.Gone, []string{generating}, true},
		{"an error", testchat.Stream(testchat.Error("Not **now**.", true)), []string{"Not **now**."}, true},
		{"an error that is final", testchat.Stream(testchat.Error("Not **now**.", false)), []string{"Not **now**."}, false},
		{"an error without words", testchat.Stream(`{"type":"error","code":"stream.error","allow_retry":true}`), []string{generating}, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := open(t, custom, func(s *testchat.Server) {
				create(testchat.Stream(whole...))(s)
				s.On("threads.add_user_message", test.answer)
				s.On("threads.retry_after_item", testchat.Stream(events(testchat.Begin("t1", "a9"), testchat.Done(testchat.Message("t1", "a9", "Again.")))...))
			})
			c.say("Hello there")
			c.say("And now?")
			got := c.shown()
			same(t, "messages", []message{hello, {"assistant", "One two three four."}}, got.Messages)
			if len(got.Errors) != len(test.errors) || !slices.Equal(got.Errors, test.errors) || slices.Contains(got.Buttons, "Retry") != test.retry {
				t.Errorf("on show: %+v", got)
			}
			if !test.retry {
				return
			}
			// The user's item never came, so the retry names the last item before the error.
			c.press("Retry")
			c.until(`shown.messages.at(-1).text === "Again."`)
			same(t, "retry", []string{`{"thread_id":"t1","item_id":"answer1"}`}, c.asked("threads.retry_after_item"))
		})
	}
}

func TestChatKit_Stream(t *testing.T) {
	t.Parallel()
	text := events(testchat.Begin("t1", "a1"), testchat.Delta("a1", "One two"), testchat.Delta("a1", " three four"))
	done := testchat.Done(testchat.Message("t1", "a1", "One two three four."))
	full := []message{hello, {"assistant", "One two three four."}}
	cut := []message{hello, {"assistant", "One two"}}
	notice := `{"type":"notice","level":"warning","title":"Mind","message":"It was **cut**."}`
	tests := []struct {
		name    string
		answer  http.HandlerFunc
		want    shown    // Messages, errors, notices, banner and title are compared.
		buttons string   // What the buttons must contain.
		events  []string // Between thread.change and response.end.
	}{
		{"whole", testchat.Stream(events(first, text, done)...), shown{Messages: full}, "Thumbs up", nil},
		{"ends without a done", testchat.Stream(events(first, text)...), shown{Messages: cut}, "Thumbs up", nil},
		{"an error after the thread", testchat.Stream(events(first, testchat.Error("Not **now**.", true))...), shown{Messages: full[:1], Errors: []string{"Not **now**."}}, "Retry", []string{"error StreamError Not **now**."}},
		{"an error that is final", testchat.Stream(events(first, testchat.Error("Not **now**.", false))...), shown{Messages: full[:1], Errors: []string{"Not **now**."}}, "", []string{"error StreamError Not **now**."}},
		{"goes on after an error", testchat.Stream(events(first, testchat.Error("Hm.", false), text, done)...), shown{Messages: full, Errors: []string{"Hm."}}, "", []string{"error StreamError Hm."}},
		{"no item of the user", testchat.Stream(events(first[0], text, done)...), shown{Messages: full[1:]}, "Thumbs up", nil},
		{"text before its part", testchat.Stream(events(first, text[0], testchat.Delta("a1", "lost words"), text[1:])...), shown{Messages: cut}, "", []string{`log {"name":"stream.event.dropped","data":{"type":"assistant_message.content_part.text_delta"}}`}},
		{"text of an unknown item", testchat.Stream(events(first, testchat.Delta("a7", "lost"), text, done)...), shown{Messages: full}, "", nil},
		{"an unknown event", testchat.Stream(events(first, `{"type":"thread.polished"}`, text, done)...), shown{Messages: full}, "", nil},
		{"an unknown item", testchat.Stream(events(first, testchat.Done(`{"id":"x","type":"hologram","content":[{"text":"x"}]}`), text, done)...), shown{Messages: full}, "", nil},
		{"comments and no data", testchat.Stream(events(": ok", first, ": ping", "data:", text, done)...), shown{Messages: full}, "", nil},
		{"CRLF and data in two lines", testchat.Stream(events(strings.Replace("data: "+first[0], `,`, ",\r\ndata: ", 1)+"\r\n\r", first[1], text, done)...), shown{Messages: full}, "", nil},
		{"no JSON", testchat.Stream(events(first, "data: not json", text, done)...), shown{Messages: full}, "", []string{`error StreamEventParsingError Failed to parse stream event: Unexpected token 'o', "not json" is not valid JSON`}},
		{"the same ID again", testchat.Stream(events(first, testchat.Done(testchat.Message("t1", "a1", "Gone.")), done)...), shown{Messages: full}, "", nil},
		{"a notice", testchat.Stream(events(first, text, done, notice)...), shown{Messages: full, Notices: []string{"Mind\n\nIt was cut."}}, "", nil},
		{"a notice without an answer", testchat.Stream(events(first, notice)...), shown{Messages: full[:1]}, "", nil},
		{"a title", testchat.Stream(events(first, text, done, testchat.Updated(testchat.Thread("t1", "Hello", "active", "")))...), shown{Messages: full, Title: "Hello"}, "", nil},
		{"closed", testchat.Stream(events(first, text, done, testchat.Updated(testchat.Thread("t1", "", "closed", "Start a new one.")))...), shown{Messages: full, Banner: "Start a new one."}, "", nil},
		{"removed", testchat.Stream(events(first, text, done, `{"type":"thread.item.removed","item_id":"a1"}`)...), shown{Messages: full[:1]}, "", nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := open(t, custom, create(test.answer))
			c.say("Hello there")
			got := c.shown()
			same(t, "messages", test.want.Messages, got.Messages)
			for _, each := range [][2][]string{{test.want.Errors, got.Errors}, {test.want.Notices, got.Notices}} {
				if !slices.Equal(each[0], each[1]) {
					t.Errorf("on show %q, want %q", each[1], each[0])
				}
			}
			if got.Banner != test.want.Banner || (got.Composer == nil) != (test.want.Banner != "") || test.want.Title != "" && got.Title != test.want.Title {
				t.Errorf("on show: %+v", got)
			}
			if test.buttons != "" && !slices.Contains(got.Buttons, test.buttons) || test.buttons != "Retry" && slices.Contains(got.Buttons, "Retry") {
				t.Errorf("buttons: %q, want %q", got.Buttons, test.buttons)
			}
			same(t, "events", events("response.start", `thread.change {"threadId":"t1"}`, test.events, "response.end"), c.events())
		})
	}
}

func TestChatKit_Broken(t *testing.T) {
	t.Parallel()
	seen := make(chan struct{})
	c := open(t, custom, create(testchat.Broken(events(first, testchat.Begin("t1", "a1"), testchat.Delta("a1", "One two three four")), seen)))
	c.js(`chat.sendUserMessage({ text: "Hello there" })`)
	c.until(`shown.messages.at(-1)?.text === "One two"`)
	close(seen)
	c.until(`shown.buttons.includes("Retry")`)
	got := c.shown()
	same(t, "messages", []message{hello, {"assistant", "One two"}}, got.Messages)
	same(t, "errors", []string{generating}, got.Errors)
	same(t, "events", []string{"response.start", `thread.change {"threadId":"t1"}`, "error StreamError " + generating, "response.end"}, c.events())
}

// During an answer there is one line of progress, until the next item, and a button
// that stops the answer if the server allows that.
func TestChatKit_Stop(t *testing.T) {
	t.Parallel()
	more := make(chan struct{})
	progress := []string{`{"type":"progress_update","icon":"search","text":"Thinking"}`, `{"type":"progress_update","icon":"search","text":"Looking"}`}
	c := open(t, custom, create(func(w http.ResponseWriter, r *http.Request) {
		answer := events(testchat.Begin("t1", "a1"), testchat.Delta("a1", "One two three four"), `{"type":"stream_options","stream_options":{"allow_cancel":true}}`)
		testchat.Open(events(first, progress), more, answer...)(w, r)
		<-r.Context().Done()
	}))
	c.js(`chat.sendUserMessage({ text: "Hello there" })`)
	c.until(`shown.progress.join() === "Looking"`)
	if c.has("Stop") {
		t.Error("there is a button to stop what the server does not let stop")
	}
	close(more)
	c.until(`shown.buttons.includes("Stop")`)
	if got := c.shown(); len(got.Progress) > 0 {
		t.Errorf("progress: %q", got.Progress)
	}
	same(t, "messages", []message{hello, {"assistant", "One two"}}, c.shown().Messages)
	c.press("Stop")
	c.Until(ended + ` === 1`)
	same(t, "messages", []message{hello, {"assistant", "One two three four"}}, c.shown().Messages)
	if got := c.shown(); len(got.Errors) > 0 || slices.Contains(got.Buttons, "Stop") {
		t.Errorf("on show: %+v", got)
	}
	same(t, "events", []string{"response.start", `thread.change {"threadId":"t1"}`, "response.end"}, c.events())
}

func TestChatKit_Sources(t *testing.T) {
	t.Parallel()
	const text = "Set 🙂 it here. Then there."
	annotations := []string{
		testchat.Source(9, "https://docs.example.com/a#x", "A"), testchat.Source(9, "https://docs.example.com/b", "B"),
		testchat.Source(26, "https://example.org/c", "C"), testchat.Source(0, "https://docs.example.com/d", "D"), testchat.Source(-1, "https://docs.example.com/a#x", "A"),
		testchat.Source(900, "https://docs.example.com/e", "E"), `{"type":"annotation","index":9,"source":{"type":"file","filename":"f.md","title":"F"}}`,
	}
	c := open(t, custom, create(testchat.Stream(events(first, testchat.Begin("t1", "a1"), testchat.Delta("a1", text),
		testchat.Update("a1", `"type":"assistant_message.content_part.annotation_added","content_index":0,"annotation_index":0,"annotation":`+annotations[0]),
		testchat.Done(testchat.Message("t1", "a1", text, annotations...)))...)))
	c.say("Hello there")
	got := c.shown()
	same(t, "chips", []place{
		{Text: "", After: "Set 🙂 it"}, {"docs.example.com +1", "https://docs.example.com/a#x", "Set 🙂 it"}, {"example.org", "https://example.org/c", "Set 🙂 it here. Then there"},
	}, got.Chips)
	same(t, "sources", []place{
		{Text: "A", Href: "https://docs.example.com/a#x"},
		{Text: "B", Href: "https://docs.example.com/b"},
		{Text: "C", Href: "https://example.org/c"},
		{Text: "D", Href: "https://docs.example.com/d"},
		{Text: "E", Href: "https://docs.example.com/e"},
	}, got.Sources)
}

func TestChatKit_Actions(t *testing.T) {
	t.Parallel()
	answers := func(s *testchat.Server) {
		create(testchat.Stream(whole...))(s)
		s.On("threads.retry_after_item", testchat.Stream(events(testchat.Begin("t1", "a2"), testchat.Done(testchat.Message("t1", "a2", "Again.")))...))
	}
	c := open(t, `{ api: `+api+`, threadItemActions: { retry: true } }`, answers)
	c.say("Hello there")
	c.press("Thumbs down")
	c.untilAsked("items.feedback", 1)
	same(t, "feedback", []string{`{"thread_id":"t1","item_ids":["answer1"],"kind":"negative"}`}, c.asked("items.feedback"))
	c.press("Try again")
	c.until(`shown.messages.at(-1).text === "Again."`)
	same(t, "retry", []string{`{"thread_id":"t1","item_id":"user1"}`}, c.asked("threads.retry_after_item"))
	same(t, "messages", []message{hello, {"assistant", "Again."}}, c.shown().Messages)

	c = open(t, `{ api: `+api+`, threadItemActions: { feedback: false } }`, answers)
	c.say("Hello there")
	if got := c.shown().Buttons; slices.Contains(got, "Thumbs up") || slices.Contains(got, "Try again") {
		t.Errorf("buttons: %q", got)
	}
}

func page(hasMore bool, items ...string) string {
	return fmt.Sprintf(`{"data":[%s],"has_more":%t}`, strings.Join(items, ","), hasMore)
}

func TestChatKit_History(t *testing.T) {
	t.Parallel()
	c := open(t, custom, func(s *testchat.Server) {
		s.On("threads.list",
			testchat.JSON(503, `{"message":"Later."}`), testchat.JSON(200, page(true, testchat.Thread("t9", "Nine", "active", ""), testchat.Thread("t8", "Eight", "active", ""))),
			testchat.JSON(200, page(false, testchat.Thread("t7", "Seven", "active", ""))), testchat.JSON(200, page(false, testchat.Thread("t7", "Later seven", "active", ""))))
		found := testchat.Thread("t8", "Eight", "active", "", testchat.UserMessage("t8", "u1", "Hello there"))
		s.On("threads.get_by_id", testchat.JSON(200, strings.Replace(found, `"has_more":false`, `"has_more":true`, 1)))
		s.On("items.list", testchat.JSON(200, page(true, testchat.Message("t8", "a1", "One."))), testchat.JSON(200, page(false, testchat.UserMessage("t8", "u2", "Two?"))))
	})
	c.untilAsked("threads.list", 3)
	same(t, "threads.list", []string{`{"limit":9999,"order":"desc"}`, `{"limit":9999,"order":"desc"}`, `{"limit":9999,"order":"desc","after":"t8"}`}, c.asked("threads.list"))
	c.js(`chatkitStandIn.pace = 1`)
	c.js(`chat.showHistory()`)
	// The first list was never fresh. The next is, for 30 s.
	same(t, "threads", []string{"Later seven"}, c.shown().Threads)
	c.js(`chat.hideHistory()`)
	c.js(`chat.showHistory()`)
	if got := len(c.asked("threads.list")); got != 4 {
		t.Errorf("the list was asked for %d times", got)
	}

	c.js(`chat.setThreadId("t8")`)
	same(t, "items.list", []string{`{"thread_id":"t8","limit":9999,"order":"asc","after":"u1"}`, `{"thread_id":"t8","limit":9999,"order":"asc","after":"a1"}`}, c.asked("items.list"))
	got := c.shown()
	same(t, "messages", []message{hello, {"assistant", "One."}, {"user", "Two?"}}, got.Messages)
	if got.Title != "Eight" || got.Threads != nil {
		t.Errorf("on show: %+v", got)
	}

	c.js(`chat.showHistory()`)
	c.press("Rename Later seven")
	c.js(`chatkitStandIn.fill("Title", "Seven again")`)
	c.press("Save")
	c.until(`shown.threads?.join() === "Seven again"`)
	same(t, "threads.update", []string{`{"thread_id":"t7","title":"Seven again"}`}, c.asked("threads.update"))
	c.press("Delete Seven again")
	c.until(`shown.threads?.length === 0`)
	same(t, "threads.delete", []string{`{"thread_id":"t7"}`}, c.asked("threads.delete"))
}

func TestChatKit_HistoryDisabled(t *testing.T) {
	t.Parallel()
	c := open(t, `{ api: `+api+`, history: { enabled: false } }`, create(testchat.Stream(whole...)))
	c.say("Hello there")
	if got := c.asked("threads.list"); len(got) > 0 || c.has("Chats") {
		t.Errorf("the threads were asked for: %q", got)
	}
}

// ChatKit deletes the thread on show like any other.
func TestChatKit_DeleteOwnThread(t *testing.T) {
	t.Parallel()
	c := open(t, custom, func(s *testchat.Server) {
		create(testchat.Stream(whole...))(s)
		s.On("threads.list", testchat.JSON(200, page(false, testchat.Thread("t1", "Hello", "active", ""))))
	})
	c.say("Hello there")
	c.js(`chat.showHistory()`)
	c.press("Delete Hello")
	c.Until(`chatkitStandIn.events.at(-1).detail?.threadId === null`)
	c.js(`chat.hideHistory()`)
	if got := c.shown(); !got.Start {
		t.Errorf("on show: %+v", got)
	}
}

func TestChatKit_UnknownThread(t *testing.T) {
	t.Parallel()
	c := open(t, `{ api: `+api+`, initialThread: "gone" }`, create(testchat.Stream(whole...)))
	c.Until(`chatkitStandIn.events.some((e) => e.type === "chatkit.thread.change")`)
	same(t, "events", []string{
		`thread.load.start {"threadId":"gone"}`, `thread.load.end {"threadId":"gone"}`,
		"error InitialThreadLoadError Failed to load initial thread: There is no such conversation.", `thread.change {"threadId":null}`,
	}, c.events())
	if !c.shown().Start {
		t.Error("the start screen is not on show")
	}
	c.say("Hello there")
	rejected := testbrowser.Eval[string](c.Tab, `chat.setThreadId("nope").then(() => "it resolved", (e) => e.message)`)
	same(t, "setThreadId", "There is no such conversation.", rejected)
	got := c.events()
	same(t, "events", []string{`thread.change {"threadId":"nope"}`, `thread.load.start {"threadId":"nope"}`, `thread.load.end {"threadId":"nope"}`, `thread.change {"threadId":"t1"}`}, got[len(got)-4:])
	if len(c.shown().Messages) != 2 {
		t.Error("the thread before is gone")
	}
	// A thread that was not found is not asked for again within 5 s.
	c.js(`chatkitStandIn.pace = 1`)
	for range 2 {
		testbrowser.Eval[string](c.Tab, `chat.setThreadId("other").then(() => "", (e) => e.message)`)
	}
	if got := c.asked("threads.get_by_id"); len(got) != 3 {
		t.Errorf("asked for: %q", got)
	}
}

// The error of a JSON request is the body's message, else the status line.
func TestChatKit_JSONErrors(t *testing.T) {
	t.Parallel()
	c := open(t, custom, func(s *testchat.Server) {
		s.On("threads.get_by_id", testchat.JSON(503, `{"message":"Later."}`), testchat.JSON(500, `{"error":"x"}`), testchat.Answer(502, "text/html", "<p>"))
	})
	for _, want := range []string{"Later.", "Internal Server Error", "Bad Gateway"} {
		same(t, "error", want, testbrowser.Eval[string](c.Tab, `chat.setThreadId("t1").then(() => "it resolved", (e) => e.message)`))
	}
}

func TestChatKit_InvalidAPI(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, api string }{
		{"both kinds", `{ url: "/chat", domainKey: "k", getClientSecret: async () => "ek_x" }`},
		{"no domain key", `{ url: "/chat" }`},
		{"a domain key that is not a string", `{ url: "/chat", domainKey: 1 }`},
		{"a domain key for a hosted session", `{ domainKey: "k", getClientSecret: async () => "ek_x" }`},
		{"nothing", `{}`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := open(t, `{ api: `+test.api+` }`, nil)
			c.Until(`chatkitStandIn.events.length > 1`)
			same(t, "events", []string{"error FatalAppError ChatKit.create():\n✖ Invalid input\n  → at api"}, c.events())
			c.Until(`chatkitStandIn.requests.length === 0`)
			if got := c.shown(); len(got.Buttons) > 0 {
				t.Errorf("on show: %+v", got)
			}
		})
	}
}

func TestChatKit_URLStays(t *testing.T) {
	t.Parallel()
	c := open(t, custom, create(testchat.Stream(whole...)))
	c.js(`chat.setOptions({ api: { url: "/elsewhere", domainKey: "k" } })`)
	c.say("Hello there")
	if got := c.asked("threads.create"); len(got) != 1 {
		t.Errorf("asked at the first URL: %q", got)
	}
	if !slices.ContainsFunc(c.Console(), func(line string) bool { return strings.HasPrefix(line, "warning: ChatKit: api.url") }) {
		t.Errorf("console: %q", c.Console())
	}
}

// A frame that goes takes its requests with it.
func TestChatKit_FrameGoes(t *testing.T) {
	t.Parallel()
	left := make(chan struct{})
	c := open(t, custom, create(func(w http.ResponseWriter, r *http.Request) {
		testchat.Stream(first...)(w, r)
		<-r.Context().Done()
		close(left)
	}))
	c.js(`chat.sendUserMessage({ text: "Hello there" })`)
	c.Until(`chatkitStandIn.events.at(-1).type === "chatkit.thread.change"`)
	c.js(`chat.remove()`)
	select {
	case <-left:
	case <-time.After(15 * time.Second):
		t.Error("the request goes on")
	}
	if !testbrowser.Eval[bool](c.Tab, `chatkitStandIn.requests.at(-1).aborted`) {
		t.Error("the request was not aborted")
	}
}
