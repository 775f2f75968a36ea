//go:build unix

package widget_test

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"docent/internal/standin"
	"docent/internal/testkit/testbrowser"
	"docent/internal/testkit/testprocess"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/google/go-cmp/cmp"
)

func TestWidget_RequestsBeforeOpen(t *testing.T) {
	t.Parallel()
	s := newStage(t, page{})
	v := s.visit(s.url("/"))
	v.Until(launcher + ".checkVisibility()")
	want := []string{"GET " + s.url("/"), "GET " + s.url("/api/chatkit/widget.js")}
	v.Until(`document.readyState === "complete"`)
	got := v.Requests("")
	if got[len(got)-1] == "GET "+s.url("/favicon.ico") {
		got = got[:len(got)-1]
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
	s.minted(0)

	v.chat()
	if len(v.Requests("/session")) != 1 || len(v.Requests("/chatkit.js")) != 1 {
		t.Errorf("after a click: %q", v.Requests(""))
	}
	if complaints := v.complaints(); len(complaints) > 0 {
		t.Errorf("console: %q", complaints)
	}
}

// An attacker who controls a page on another subdomain plants a cookie on a path that
// the browser prefers. Its signature is valid, because it is the attacker's own
// cookie. The visitor must not get the attacker's identity.
func TestSession_PlantedCookie(t *testing.T) {
	t.Parallel()
	var docs, evil string
	s := newStage(t, page{})
	docs = strings.Replace(s.site.URL, "127.0.0.1", "docs.site.localhost", 1)
	evil = strings.Replace(s.site.URL, "127.0.0.1", "evil.site.localhost", 1)
	s.restart("ALLOWED_ORIGINS=" + docs)
	ask := func(v visitor) {
		t.Helper()
		const js = `fetch("/api/chatkit/session", {method: "POST"}).then((r) => r.status)`
		if status := testbrowser.Eval[int](v.Tab, js); status != http.StatusOK {
			t.Fatalf("session: %d", status)
		}
	}
	user := func(nth int) string { return s.openai.Asked()[nth].User }

	attacker := s.visit(docs + "/")
	ask(attacker)
	var stolen string
	for _, c := range testbrowser.Call(attacker.Tab, network.GetCookies, network.GetCookiesParams{URLs: []string{docs + "/api/chatkit/session"}}).Cookies {
		stolen = c.Value
	}

	victim := s.visit(docs + "/")
	ask(victim)
	ask(victim)
	if user(1) != user(2) {
		t.Fatalf("before the attack the visitor is %q, then %q", user(1), user(2))
	}
	victim.Go(evil + "/")
	testbrowser.Eval[any](victim.Tab, fmt.Sprintf(`document.cookie = "__session=%s; Domain=site.localhost; Path=/api/chatkit/session; Secure", null`, stolen))
	victim.Go(docs + "/")
	sent := testbrowser.Call(victim.Tab, network.GetCookies, network.GetCookiesParams{URLs: []string{docs + "/api/chatkit/session"}}).Cookies
	if len(sent) != 2 || !slices.ContainsFunc(sent, func(c *network.Cookie) bool { return c.Value == stolen }) {
		t.Fatalf("the browser has %d cookies for the session, want the visitor's and the planted one", len(sent))
	}
	ask(victim)
	ask(victim)
	for nth := 3; nth <= 4; nth++ {
		if slices.Contains([]string{user(0), user(1)}, user(nth)) {
			t.Errorf("session %d belongs to the visitor %q, want a new one: attacker %q, victim %q", nth, user(nth), user(0), user(1))
		}
	}
}

func TestSession_Click(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, src string
		url       func(*stage, string) string
	}{
		{"same origin", "", (*stage).url},
		{"another site's widget", elsewhere, (*stage).url},
		{"not a secure context", "", (*stage).insecure},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, page{src: test.src})
			v := s.visit(test.url(s, "/"))
			v.chat()
			if got := v.Requests("/api/chatkit/session"); len(got) != 1 || !strings.HasPrefix(got[0], "POST ") {
				t.Errorf("requests: %q, want one POST and no preflight", got)
			}
			if got := v.secrets(); len(got) != 1 || !strings.HasPrefix(got[0], "ek_standin_") {
				t.Errorf("ChatKit got %q", got)
			}
			s.minted(1)
			// The cookie identifies the same visitor again, if the browser keeps it.
			v.later(10 * time.Minute)
			v.Go(test.url(s, "/other"))
			v.Until(chatting)
			s.minted(2)
			asked := s.openai.Asked()
			if same := asked[0].User == asked[1].User; same != (test.name != "not a secure context") {
				t.Errorf("users %q and %q", asked[0].User, asked[1].User)
			}
			if complaints := v.complaints(); len(complaints) > 0 {
				t.Errorf("console: %q", complaints)
			}
		})
	}
}

func TestSession_SharedAcrossPages(t *testing.T) {
	t.Parallel()
	s := newStage(t, page{})
	v := s.visit(s.url("/"))
	v.chat()
	testbrowser.Eval[any](v.Tab, chatKit+`.sendUserMessage({text: "How do I install it?"}).then(() => null)`)
	v.Until(`window.chatkitStandIn.events.some((e) => e.type === "chatkit.response.end")`)
	said := testbrowser.Eval[any](v.Tab, `window.chatkitStandIn.conversation()`)
	for _, path := range []string{"/", "/a", "/b", "/c", "/d", "/e"} {
		v.Go(s.url(path))
		v.Until(chatting)
		v.Until(`window.chatkitStandIn.events.some((e) => e.type === "chatkit.thread.load.end")`)
		if diff := cmp.Diff(said, testbrowser.Eval[any](v.Tab, `window.chatkitStandIn.conversation()`)); diff != "" {
			t.Errorf("the conversation on %s (-before +now):\n%s", path, diff)
		}
		if testbrowser.Eval[bool](v.Tab, `document.activeElement !== document.body`) {
			t.Errorf("the chat took the focus on %s", path)
		}
		v.later(time.Minute)
	}
	s.minted(1)

	v.Click(closer)
	v.Go(s.url("/closed"))
	v.Until(launcher + ".checkVisibility()")
	if testbrowser.Eval[bool](v.Tab, isOpen) {
		t.Error("the closed chat is open on the next page")
	}
}

// hostile is content before the widget's tag: elements with the names of properties
// that scripts read from the document (DOM clobbering).
var hostile = func() string {
	var b strings.Builder
	for _, name := range []string{
		"currentScript", "body", "head", "documentElement", "activeElement", "visibilityState", "adoptedStyleSheets", "querySelector", "getElementById", "cookie", "location", "docent", "customElements", "localStorage",
	} {
		fmt.Fprintf(&b, `<img name="%s"><form name="%[1]s"><input name="src" value="https://evil.test/api/chatkit/widget.js"></form><a id="%[1]s" href="https://evil.test/">x</a>`, name)
	}
	return b.String()
}()

func TestWidget_DOMClobbering(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, content string }{
		{"names of document properties", hostile},
		{"an image with a script's URL", `<img name="currentScript" src="https://evil.test/widget.js">`},
		{"a frame named currentScript", `<iframe name="currentScript" srcdoc="x"></iframe>`},
		{"a base element", `<script type="text/plain"></script><base href="https://evil.test/">`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, page{content: test.content, src: elsewhere})
			v := testbrowser.Open(t)
			v.Go(s.url("/"))
			v.Until(`Object.hasOwn(window, "docent")`)
			testbrowser.Eval[any](v, `window.docent.open(), null`)
			v.Until(`Document.prototype.querySelector.call(document, "openai-chatkit")`)
			v.Until(`window.chatkitStandIn.secrets.length > 0`)
			if got := slices.DeleteFunc(v.Requests("evil.test"), func(r string) bool { return r == "GET https://evil.test/widget.js" }); len(got) > 0 {
				t.Errorf("requests: %q", got)
			}
			s.minted(1)
		})
	}
}

func TestOptions_UnsafeURL(t *testing.T) {
	t.Parallel()
	const attack = `javascript:alert(document.domain)`
	tests := []struct{ name, attribute, value string }{
		{"the fallback", "data-fallback-url", attack},
		{"the fallback with a line break", "data-fallback-url", " java\nscript:alert(1)"},
		{"the fallback as data", "data-fallback-url", "data:text/html,<script>alert(1)</script>"},
		{"ChatKit's script", "data-chatkit-url", attack},
		{"ChatKit's script as data", "data-chatkit-url", "data:text/javascript,alert(1)"},
		{"ChatKit's script as a blob", "data-chatkit-url", "blob:https://docs.test/1"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, page{data: map[string]string{"data-chatkit-url": "https://blocked.test/chatkit.js", test.attribute: test.value}})
			v := s.visit(s.url("/"))
			v.Click(launcher)
			v.failed("script_blocked")
			if testbrowser.Eval[bool](v.Tab, fallback+`.checkVisibility()`) {
				t.Errorf("there is a link to %s", testbrowser.Eval[string](v.Tab, fallback+`.href`))
			}
			for _, r := range v.Requests("") {
				if !strings.HasPrefix(r, "GET http") && !strings.HasPrefix(r, "POST http") {
					t.Errorf("request: %s", r)
				}
			}
			if test.attribute == "data-chatkit-url" && len(v.Requests("GET https://cdn.platform.openai.com/deployments/chatkit/chatkit.js")) == 0 {
				t.Errorf("the default ChatKit script was not requested: %q", v.Requests(""))
			}
			if !slices.ContainsFunc(v.Console(), func(line string) bool {
				return strings.HasPrefix(line, "warning: Docent: ") && strings.Contains(line, "is ignored")
			}) {
				t.Errorf("the console does not say that the option is ignored: %q", v.Console())
			}
		})
	}

	t.Run("the widget's script", func(t *testing.T) {
		t.Parallel()
		script, err := os.ReadFile("widget.js")
		if err != nil {
			t.Fatal(err)
		}
		s := newStage(t, page{src: "data:text/javascript," + url.PathEscape(string(script))})
		v := visitor{testbrowser.Open(t)}
		v.Go(s.url("/"))
		v.Until(`document.readyState === "complete"`)
		if testbrowser.Eval[bool](v.Tab, `Object.hasOwn(window, "docent")`) {
			t.Error("the widget runs without a session endpoint")
		}
		if got := v.complaints(); len(got) != 1 || !strings.HasPrefix(got[0], "warning: Docent: ") {
			t.Errorf("console: %q", got)
		}
	})
}

func TestSession_Expiry(t *testing.T) {
	t.Parallel()
	stored := func(v visitor) bool {
		return testbrowser.Eval[bool](v.Tab, `Object.keys(localStorage).some((k) => k.startsWith("docent session"))`)
	}
	tests := []struct {
		name   string
		ttl    string
		later  time.Duration
		minted int
	}{
		{"used until 60 s before the end", "10m", 9*time.Minute - 10*time.Second, 1},
		{"renewed 60 s before the end", "10m", 9*time.Minute + time.Second, 2},
		{"a short one, used until a tenth before the end", "100s", 85 * time.Second, 1},
		{"a short one, renewed a tenth before the end", "100s", 91 * time.Second, 2},
		{"a clock set back", "10m", -time.Hour, 2},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, page{}, "SESSION_TTL="+test.ttl)
			v := s.visit(s.url("/"))
			v.chat()
			v.Click(closer)
			v.later(test.later)
			v.Go(s.url("/later"))
			v.Until(host)
			if got, want := stored(v), test.minted == 1; got != want {
				t.Errorf("a session is stored: %v, want %v", got, want)
			}
			v.chat()
			s.minted(test.minted)
		})
	}

	t.Run("removed in an open page", func(t *testing.T) {
		t.Parallel()
		s := newStage(t, page{}, "SESSION_TTL=1s")
		v := s.visit(s.url("/"))
		v.chat()
		v.Until(`Object.keys(localStorage).every((k) => !k.startsWith("docent session"))`)
	})

	t.Run("ChatKit asks for a fresher one", func(t *testing.T) {
		t.Parallel()
		s := newStage(t, page{})
		v := s.visit(s.url("/"))
		v.chat()
		testbrowser.Eval[any](v.Tab, `chatkitStandIn.expireSecret().then(() => `+chatKit+`.sendUserMessage({text: "Still there?"})).then(() => null)`)
		v.Until(`chatkitStandIn.secrets.length === 2`)
		got := v.secrets()
		if got[0] == got[1] {
			t.Errorf("ChatKit got the same secret again: %q", got)
		}
		s.minted(2)
	})

	t.Run("another tab has a fresher one", func(t *testing.T) {
		t.Parallel()
		s := newStage(t, page{})
		v := s.visit(s.url("/"))
		v.chat()
		v.later(9*time.Minute + time.Second)
		other := visitor{v.Another()}
		other.later(9*time.Minute + time.Second)
		other.Go(s.url("/other"))
		other.chat()
		testbrowser.Eval[any](v.Tab, `chatkitStandIn.expireSecret().then(() => `+chatKit+`.sendUserMessage({text: "Still there?"})).then(() => null)`)
		v.Until(`chatkitStandIn.secrets.length === 2`)
		if got, want := v.secrets()[1], other.secrets()[0]; got != want {
			t.Errorf("ChatKit got %s, want the other tab's %s", got, want)
		}
		s.minted(2)
	})
}

func TestSession_ConcurrentCalls(t *testing.T) {
	t.Parallel()
	const refuseStorage = `for (const area of ["localStorage", "sessionStorage"])
		Object.defineProperty(window, area, { get() { throw new DOMException("refused", "SecurityError") } })`
	tests := []struct {
		name, before string
		url          func(*stage, string) string
		tabs, minted int
	}{
		{"two tabs at once", "", (*stage).url, 2, 1},
		{"no Web Locks", "", (*stage).insecure, 1, 1},
		{"Web Locks refused", `navigator.locks.request = () => Promise.reject(new DOMException("refused", "SecurityError"))`, (*stage).url, 1, 1},
		{"storage refused", refuseStorage, (*stage).url, 1, 1},
		{"storage full", `Storage.prototype.setItem = () => { throw new DOMException("full", "QuotaExceededError") }`, (*stage).url, 1, 1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, page{})
			// Every tab must ask before any of them gets a session.
			asked, answer := make(chan struct{}, 10), make(chan struct{})
			s.openai.Fail(func(w http.ResponseWriter, r *http.Request) {
				asked <- struct{}{}
				<-answer
				s.openai.ServeHTTP(w, r)
			})
			first := visitor{testbrowser.Open(t)}
			tabs := []visitor{first}
			for range test.tabs - 1 {
				tabs = append(tabs, visitor{first.Another()})
			}
			for _, v := range tabs {
				if test.before != "" {
					v.OnEveryPage(test.before)
				}
				v.Go(test.url(s, "/"))
				v.Click(launcher)
			}
			<-asked
			close(answer)
			for _, v := range tabs {
				v.Until(chatting)
			}
			// ChatKit asks twice at the same time.
			both := testbrowser.Eval[[]string](first.Tab, `Promise.all([null, null].map(() => chatkitStandIn.getClientSecret(null)))`)
			if both[0] != both[1] || both[0] != first.secrets()[0] {
				t.Errorf("two calls got %q, the first call %q", both, first.secrets())
			}
			current := fmt.Sprintf("%q", both[0])
			both = testbrowser.Eval[[]string](first.Tab, `Promise.all([`+current+`, `+current+`].map((c) => chatkitStandIn.getClientSecret(c)))`)
			if both[0] != both[1] || both[0] == first.secrets()[0] {
				t.Errorf("two calls for a fresher secret got %q, before %q", both, first.secrets())
			}
			s.minted(test.minted + 1)
		})
	}
}

func TestFailure_RateLimited(t *testing.T) {
	t.Parallel()
	s := newStage(t, page{data: map[string]string{"data-fallback-url": "/support"}}, "RATE_LIMIT_PER_MINUTE=1")
	testprocess.WholeMinute()
	first := s.visit(s.url("/"))
	first.chat()

	v := s.visit(s.url("/"))
	testbrowser.Eval[any](v.Tab, `window.reported = [], docent.on("error", (e) => reported.push(e)), null`)
	v.Click(launcher)
	v.failed("rate_limited")
	before := testbrowser.Eval[int](v.Tab, `Number(`+countdown+`.textContent.match(/\d+/)[0])`)
	if before < 1 || before > 60 {
		t.Errorf("the countdown starts at %d s", before)
	}
	v.Until(countdown + fmt.Sprintf(`.textContent === "Trying again in %d s"`, before-1))
	type report struct {
		Code       string
		Status     int
		RetryAfter int
		RequestID  string `json:"requestId"`
	}
	reported := testbrowser.Eval[[]report](v.Tab, `reported`)
	if len(reported) != 1 || reported[0].Code != "rate_limited" || reported[0].Status != 429 || reported[0].RetryAfter < 1 || len(reported[0].RequestID) != 32 {
		t.Errorf("reported: %+v", reported)
	}
	if len(v.Requests("/session")) != 1 {
		t.Errorf("the widget asked again too early: %q", v.Requests("/session"))
	}

	// End the minute: the page by its clock, the service by a restart.
	s.restart()
	v.later(time.Minute)
	v.Until(chatting)
	if got := v.Requests("/session"); len(got) != 2 {
		t.Errorf("requests: %q", got)
	}
}

func TestFailure(t *testing.T) {
	t.Parallel()
	chatKitIs := func(h http.Handler) func(*stage, visitor) {
		return func(s *stage, _ visitor) { s.change(func(p *parts) { p.chatKit = h }) }
	}
	sessionsAre := func(h http.Handler) func(*stage, visitor) {
		return func(s *stage, _ visitor) { s.change(func(p *parts) { p.session = h }) }
	}
	openAISays := func(status, times int) func(*stage, visitor) {
		return func(s *stage, _ visitor) {
			s.openai.Fail(slices.Repeat([]http.HandlerFunc{func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }}, times)...)
		}
	}
	nothing := func(*stage, visitor) {} // The failure happens only once, or not at all.
	late := make(chan struct{})
	tests := []struct {
		name, code, sentence string
		fail, fix            func(*stage, visitor)
		environment          string // An additional variable of the service.
		alone                bool   // The widget recovers without the visitor.
		src                  string // The src of the widget's tag.
		console              string // Text in the console that helps the site owner.
	}{
		{
			name: "the script is blocked", code: "script_blocked", sentence: "could not be loaded",
			fail: chatKitIs(http.NotFoundHandler()), fix: chatKitIs(standin.ChatKit()),
		}, {
			name: "the script is slow", code: "script_blocked", sentence: "could not be loaded",
			fail: chatKitIs(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { <-late; standin.ChatKit().ServeHTTP(w, r) })),
			fix:  func(*stage, visitor) { close(late) }, alone: true,
		}, {
			name: "the frame is blocked", code: "frame_blocked", sentence: "does not answer",
			fail: chatKitIs(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/chatkit.js" {
					w.WriteHeader(http.StatusForbidden)
					return
				}
				standin.ChatKit().ServeHTTP(w, r)
			})), fix: chatKitIs(standin.ChatKit()),
		}, {
			name: "offline", code: "offline", sentence: "offline",
			fail: func(s *stage, v visitor) { s.change(func(p *parts) { p.session = gone }); v.offline(true) },
			fix:  func(s *stage, v visitor) { s.change(func(p *parts) { p.session = nil }); v.offline(false) }, alone: true,
		}, {
			name: "the workflow is gone", code: "assistant_unavailable", sentence: "not available",
			fail: openAISays(http.StatusNotFound, 1), fix: nothing,
		}, {
			name: "OpenAI is busy", code: "upstream_busy", sentence: "busy",
			fail: openAISays(http.StatusServiceUnavailable, 3), fix: func(_ *stage, v visitor) { v.later(time.Minute) }, alone: true,
		}, {
			name: "OpenAI rejects the key", code: "upstream_rejected", sentence: "went wrong",
			fail: openAISays(http.StatusUnauthorized, 1), fix: nothing,
		}, {
			name: "the origin is not allowed", code: "origin_not_allowed", sentence: "went wrong", console: "ALLOWED_ORIGINS",
			fail: func(s *stage, _ visitor) { s.restart("ALLOWED_ORIGINS=https://docs.example.com") },
			fix:  func(s *stage, _ visitor) { s.restart() },
		}, {
			name: "the origin is not allowed, another site's widget", code: "unreachable", sentence: "cannot be reached", console: "ALLOWED_ORIGINS",
			src: elsewhere, environment: "ALLOWED_ORIGINS=https://docs.example.com", fail: nothing,
		}, {
			name: "no connection", code: "unreachable", sentence: "cannot be reached",
			fail: sessionsAre(gone), fix: sessionsAre(nil),
		}, {
			name: "not JSON", code: "unreachable", sentence: "cannot be reached",
			fail: sessionsAre(http.NotFoundHandler()), fix: sessionsAre(nil),
		}, {
			name: "no secret", code: "failed", sentence: "went wrong",
			fail: sessionsAre(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"expires_after":600}`) })), fix: sessionsAre(nil),
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, page{src: test.src, data: map[string]string{"data-fallback-url": "/support", "data-fallback-label": "Ask the forum"}}, test.environment)
			v := s.visit(s.url("/"))
			testbrowser.Eval[any](v.Tab, `window.reported = [], addEventListener("docent:error", (e) => reported.push(e.detail.code)), null`)
			test.fail(s, v)
			v.Click(launcher)
			v.failed(test.code)
			if got := testbrowser.Eval[string](v.Tab, root+`.querySelector("[role=status]").textContent`); !strings.Contains(got, test.sentence) {
				t.Errorf("the notice is %q, want %q in it", got, test.sentence)
			}
			if got := testbrowser.Eval[string](v.Tab, `[`+fallback+`].filter((a) => a.checkVisibility()).map((a) => a.textContent + " " + a.href).join()`); got != "Ask the forum "+s.url("/support") {
				t.Errorf("link: %q", got)
			}
			if got := testbrowser.Eval[[]string](v.Tab, `reported`); !slices.Contains(got, test.code) {
				t.Errorf("reported: %q", got)
			}
			if test.console != "" && !slices.ContainsFunc(v.Console(), func(line string) bool { return strings.Contains(line, test.console) }) {
				t.Errorf("the console does not name %s: %q", test.console, v.Console())
			}
			if strings.Contains(strings.Join(v.Console(), ""), "ek_") {
				t.Errorf("a secret in the console: %q", v.Console())
			}
			if test.fix == nil {
				return
			}
			test.fix(s, v)
			if !test.alone {
				v.Click(retry)
			}
			v.Until(chatting)
			v.Until(`!` + retry + `.checkVisibility()`)
		})
	}
}

func TestFailure_DuringConversation(t *testing.T) {
	t.Parallel()
	s := newStage(t, page{})
	v := s.visit(s.url("/"))
	v.chat()
	s.change(func(p *parts) { p.session = gone })
	testbrowser.Eval[any](v.Tab, `chatkitStandIn.expireSecret().then(() => { `+chatKit+`.sendUserMessage({text: "Still there?"}) }), null`)
	v.failed("unreachable")
	if !testbrowser.Eval[bool](v.Tab, `((a, b) => a.bottom <= b.top + 1 && b.height > 200)(`+notice+`.getBoundingClientRect(), `+chatKit+`.getBoundingClientRect())`) {
		t.Error("the notice covers the conversation")
	}
	s.change(func(p *parts) { p.session = nil })
	v.Click(retry)
	v.Until(`chatkitStandIn.events.some((e) => e.type === "chatkit.response.end")`)
	if !testbrowser.Eval[bool](v.Tab, notice+".hidden") {
		t.Error("the notice is still there")
	}
}

func TestThread_LoadFails(t *testing.T) {
	t.Parallel()
	s := newStage(t, page{})
	v := s.visit(s.url("/"))
	testbrowser.Eval[any](v.Tab, `localStorage.setItem("docent thread " + new URL("/api/chatkit/session", location.href), "cthr_somebody_elses"), null`)
	v.Click(launcher)
	v.Until(`window.chatkitStandIn?.options.length === 2`)
	v.Until(chatting)
	got := testbrowser.Eval[[]*string](v.Tab, `chatkitStandIn.options.map((o) => o.initialThread)`)
	if len(got) != 2 || got[0] == nil || *got[0] != "cthr_somebody_elses" || got[1] != nil {
		t.Errorf("threads: %v", got)
	}
	s.minted(1)
	v.Go(s.url("/next"))
	v.Until(chatting)
	if got := testbrowser.Eval[int](v.Tab, `chatkitStandIn.options.length`); got != 1 {
		t.Errorf("on the next page ChatKit was given options %d times", got)
	}
}

func TestColourScheme(t *testing.T) {
	t.Parallel()
	s := newStage(t, page{data: map[string]string{"data-accent": "var(--brand)"}})
	v := s.visit(s.url("/"))
	testbrowser.Eval[any](v.Tab, `document.adoptedStyleSheets = [((s) => (s.replaceSync(":root{--brand:#0055ff} :root.dark{--brand:#ffaa00}"), s))(new CSSStyleSheet())], null`)
	v.chat()
	scheme := func(want string) {
		t.Helper()
		v.Until(fmt.Sprintf(`%s.dataset.scheme === %q && chatkitStandIn.options.at(-1).theme.colorScheme === %[2]q`, host, want))
	}
	scheme("light")
	for _, step := range []struct{ js, want string }{
		{`document.documentElement.dataset.theme = "dark"`, "dark"},
		{`document.documentElement.dataset.theme = "light"`, "light"},
		{`delete document.documentElement.dataset.theme, document.documentElement.classList.add("dark")`, "dark"},
		{`document.documentElement.className = ""`, "light"},
	} {
		testbrowser.Eval[any](v.Tab, step.js+", null")
		scheme(step.want)
		if step.want == "dark" && strings.Contains(step.js, "class") {
			v.Until(`chatkitStandIn.options.at(-1).theme.color.accent.primary === "rgb(255, 170, 0)"`)
		}
	}
	v.system("dark")
	scheme("dark")
	testbrowser.Eval[any](v.Tab, `document.documentElement.dataset.theme = "light", null`)
	scheme("light")
	testbrowser.Eval[any](v.Tab, `docent.set({ colorScheme: "dark" }), null`)
	scheme("dark")

	// Each call must have all the options.
	for _, o := range testbrowser.Eval[[]map[string]any](v.Tab, `chatkitStandIn.options`) {
		if o["frameTitle"] != "Ask AI" || o["startScreen"] == nil {
			t.Errorf("options: %v", o)
		}
	}
	if got := testbrowser.Eval[int](v.Tab, `document.querySelectorAll("openai-chatkit").length`); got != 1 {
		t.Errorf("%d ChatKit elements", got)
	}
	s.minted(1)
}

func TestOptions(t *testing.T) {
	t.Parallel()
	s := newStage(t, page{data: map[string]string{
		"data-title": "Ask the docs", "data-greeting": "Hello <b>reader</b>", "data-placeholder": "Your question", "data-disclaimer": "It may be wrong.",
		"data-prompts": `["How do I install it?", {"label": "Limits", "prompt": "What are the limits?", "icon": "bolt"}]`,
		"data-locale":  "fr", "data-accent": "#c0ffee", "data-color-scheme": "dark", "data-position": "bottom-left",
	}})
	v := s.visit(s.url("/"))
	v.chat()
	want := map[string]any{
		"api": map[string]any{}, "initialThread": nil, "frameTitle": "Ask the docs", "locale": "fr",
		"theme": map[string]any{"colorScheme": "dark", "radius": "soft", "color": map[string]any{"accent": map[string]any{"primary": "rgb(192, 255, 238)", "level": 2.0}}},
		"startScreen": map[string]any{"greeting": "Hello <b>reader</b>", "prompts": []any{
			map[string]any{"label": "How do I install it?", "prompt": "How do I install it?"},
			map[string]any{"label": "Limits", "prompt": "What are the limits?", "icon": "bolt"},
		}},
		"composer": map[string]any{"placeholder": "Your question"}, "disclaimer": map[string]any{"text": "It may be wrong."},
	}
	if diff := cmp.Diff(want, testbrowser.Eval[map[string]any](v.Tab, `chatkitStandIn.options.at(-1)`)); diff != "" {
		t.Errorf("ChatKit's options (-want +got):\n%s", diff)
	}
	if got := testbrowser.Eval[float64](v.Tab, panel+`.getBoundingClientRect().left`); got > 40 {
		t.Errorf("the panel is %v px from the left", got)
	}
	testbrowser.Eval[any](v.Tab, `docent.set({ title: "Help", prompts: [], position: "bottom-right", texts: { close: "Fermer" } }), null`)
	v.Until(`chatkitStandIn.options.at(-1).frameTitle === "Help" && chatkitStandIn.options.at(-1).startScreen.prompts.length === 0`)
	if got := testbrowser.Eval[string](v.Tab, closer+`.ariaLabel`); got != "Fermer" {
		t.Errorf("the close button is %q", got)
	}
}

func TestOptions_Invalid(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, attribute, value string }{
		{"prompts that are not JSON", "data-prompts", `["How`},
		{"prompts that are not a list", "data-prompts", `{"label":"x"}`},
		{"prompts without a label", "data-prompts", `[{"prompt":"x"}]`},
		{"an invalid colour", "data-accent", `red;} body{display:none`},
		{"an unknown position", "data-position", `top`},
		{"an unknown colour scheme", "data-color-scheme", `blue`},
		{"an invalid selector", "data-trigger", `#`},
		{"a shortcut without a modifier", "data-shortcut", `k`},
		{"a shortcut of shift alone", "data-shortcut", `shift+k`},
		{"a shortcut of unknown keys", "data-shortcut", `hyper+k`},
		{"an empty title", "data-title", ``},
		{"texts that are not JSON", "data-texts", `close`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, page{data: map[string]string{test.attribute: test.value}})
			v := s.visit(s.url("/"))
			v.chat()
			warnings := slices.DeleteFunc(v.Console(), func(line string) bool { return !strings.HasPrefix(line, "warning: Docent: ") })
			if len(warnings) != 1 || !strings.Contains(warnings[0], "is ignored") {
				t.Errorf("console: %q", v.Console())
			}
			if got := testbrowser.Eval[string](v.Tab, launcher+`.ariaLabel`); got != "Ask AI" {
				t.Errorf("the button's name is %q", got)
			}
		})
	}
}

func TestKeyboard(t *testing.T) {
	t.Parallel()
	s := newStage(t, page{data: map[string]string{"data-shortcut": "mod+i", "data-trigger": "#own"}})
	v := s.visit(s.url("/"))
	v.Until(launcher + ".checkVisibility()")
	onChat, onLauncher, onOwn := `document.activeElement === `+chatKit, root+`.activeElement === `+launcher, `document.activeElement.id === "own"`
	ctrlI := []chromedp.KeyOption{chromedp.KeyModifiers(kb.ModifierCtrl)}

	// Tab goes through the page to the button. Enter opens the chat and moves the focus
	// into it.
	for range 3 {
		v.Press(kb.Tab)
	}
	v.Until(onLauncher)
	v.Press(kb.Enter)
	v.Until(chatting)
	v.Until(onChat)

	// Shift+Tab goes back from the frame to the close button.
	for !testbrowser.Eval[bool](v.Tab, root+`.activeElement === `+closer) {
		v.Press(kb.Tab, chromedp.KeyModifiers(kb.ModifierShift))
	}
	v.Press(kb.Escape)
	v.Until(`!` + isOpen)
	v.Until(onLauncher)

	// The page's own button opens the chat and gets the focus back.
	v.Click(`document.querySelector("#own")`)
	v.Until(isOpen)
	v.Until(onChat)
	v.Click(closer)
	v.Until(`!` + isOpen)
	v.Until(onOwn)

	// The shortcut opens and closes.
	v.Press("i", ctrlI...)
	v.Until(isOpen)
	v.Until(onChat)
	testbrowser.Eval[any](v.Tab, closer+`.focus(), null`)
	v.Press("i", ctrlI...)
	v.Until(`!` + isOpen)
	v.Until(onOwn)

	// The widget ignores Escape in the page.
	testbrowser.Eval[any](v.Tab, `docent.open(), null`)
	v.Until(onChat)
	testbrowser.Eval[any](v.Tab, `document.querySelector("a").focus(), null`)
	v.Press(kb.Escape)
	if !testbrowser.Eval[bool](v.Tab, isOpen) {
		t.Error("Escape in the page closed the chat")
	}
	s.minted(1)
}

func TestOpen_QueryParameter(t *testing.T) {
	t.Parallel()
	s := newStage(t, page{})
	v := s.visit(s.url("/?chatbot=open"))
	v.Until(chatting)
	v.Click(closer)
	// A jump within the page does not open the chat again. A new address by the History
	// API does.
	testbrowser.Eval[any](v.Tab, `location.hash = "x", null`)
	testbrowser.Eval[any](v.Tab, `history.pushState(null, "", "/next"), null`)
	if testbrowser.Eval[bool](v.Tab, isOpen) {
		t.Error("the chat is open although the address does not ask for it")
	}
	testbrowser.Eval[any](v.Tab, `history.pushState(null, "", "/next?chatbot=open"), null`)
	v.Until(isOpen)
	for _, other := range []string{"/?chatbot=closed", "/?chatbot", "/?x=chatbot=open"} {
		o := s.visit(s.url(other))
		if testbrowser.Eval[bool](o.Tab, isOpen) {
			t.Errorf("%s opens the chat", other)
		}
	}
}

func TestScriptInterface(t *testing.T) {
	t.Parallel()
	s := newStage(t, page{data: map[string]string{"data-position": "none"}})
	v := visitor{testbrowser.Open(t)}
	v.OnEveryPage(`window.seen = []; for (const name of ["ready", "open", "start", "session", "thread", "response", "close", "error"])
		addEventListener("docent:" + name, (e) => seen.push(name))`)
	v.Go(s.url("/"))
	v.Until(host)
	if testbrowser.Eval[bool](v.Tab, launcher+`.checkVisibility()`) {
		t.Error("the button is visible")
	}
	testbrowser.Eval[any](v.Tab, `window.threads = [], window.off = docent.on("thread", ({ threadId }) => threads.push(threadId)), docent.ask("How do I install it?"), null`)
	v.Until(`seen.includes("response")`)
	if got := testbrowser.Eval[[]map[string]string](v.Tab, `chatkitStandIn.conversation()`); len(got) == 0 || got[0]["text"] != "How do I install it?" {
		t.Errorf("conversation: %v", got)
	}
	testbrowser.Eval[any](v.Tab, `off(), docent.ask("And then?"), docent.close(), null`)
	if diff := cmp.Diff([]string{"ready", "open", "session", "start", "thread", "response"}, testbrowser.Eval[[]string](v.Tab, `seen.filter((n) => n !== "close").slice(0, 6)`)); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	if got := testbrowser.Eval[[]string](v.Tab, `threads`); len(got) != 1 || got[0] == "" {
		t.Errorf("threads: %q", got)
	}
	// The page's script interface must not contain a secret.
	if got := testbrowser.Eval[string](v.Tab, `JSON.stringify(Object.entries(docent))`); strings.Contains(got, "ek_") {
		t.Errorf("window.docent: %s", got)
	}
	if got := testbrowser.Eval[string](v.Tab, `(() => { "use strict"; try { window.docent = null } catch (e) { return e.name } return typeof window.docent })()`); got != "TypeError" {
		t.Errorf("window.docent can be replaced: %s", got)
	}
}

// The widget sends every message of docent.ask, as soon as ChatKit can take it.
func TestAsk(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, before, ask string }{
		{"two questions at once", ``, `docent.ask("First?"), docent.ask("Second?")`},
		{"during an answer", ``, `docent.ask("First?"), addEventListener("docent:response", () => docent.ask("Second?"), { once: true })`},
		{"an unrelated ChatKit error", ``, `docent.ask("First?"), docent.ask("Second?"), addEventListener("docent:response", () =>
			` + chatKit + `.dispatchEvent(new CustomEvent("chatkit.error", { detail: { error: new Error("x") } })), { once: true })`},
		{
			"the stored thread does not load",
			`localStorage.setItem("docent thread " + new URL("/api/chatkit/session", location.href), "cthr_somebody_elses")`,
			`docent.ask("First?"), docent.ask("Second?")`,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, page{})
			v := visitor{testbrowser.Open(t)}
			v.OnEveryPage(test.before)
			v.Go(s.url("/"))
			v.Until(host)
			testbrowser.Eval[any](v.Tab, test.ask+", null")
			v.Until(`window.chatkitStandIn?.events.filter((e) => e.type === "chatkit.response.end").length === 2`)
			var asked []string
			for _, m := range testbrowser.Eval[[]map[string]string](v.Tab, `chatkitStandIn.conversation()`) {
				if m["role"] == "user" {
					asked = append(asked, m["text"])
				}
			}
			if diff := cmp.Diff([]string{"First?", "Second?"}, asked); diff != "" {
				t.Errorf("asked (-want +got):\n%s", diff)
			}
		})
	}
}

func TestShortcut(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, event string
		opens       bool
	}{
		{"as it is", `{ key: "i", code: "KeyI", ctrlKey: true }`, true},
		{"in capitals", `{ key: "I", code: "KeyI", ctrlKey: true }`, true},
		{"another alphabet", `{ key: "ш", code: "KeyI", ctrlKey: true }`, true},
		{"another key in its place", `{ key: "c", code: "KeyI", ctrlKey: true }`, false},
		{"held down", `{ key: "i", code: "KeyI", ctrlKey: true, repeat: true }`, false},
		{"more modifiers", `{ key: "i", code: "KeyI", ctrlKey: true, shiftKey: true }`, false},
		{"no modifier", `{ key: "i", code: "KeyI" }`, false},
		{"no key at all", `{}`, false},
		{"a key whose name ends alike", `{ key: "Hoi", code: "Hoi", ctrlKey: true }`, false},
	}
	s := newStage(t, page{data: map[string]string{"data-shortcut": "ctrl+i"}})
	v := s.visit(s.url("/"))
	for _, test := range tests {
		took := testbrowser.Eval[bool](v.Tab, `!dispatchEvent(new KeyboardEvent("keydown", { cancelable: true, ...`+test.event+` }))`)
		if open := testbrowser.Eval[bool](v.Tab, isOpen); open != test.opens || took != test.opens {
			t.Errorf("%s: opens %v, taken from the page %v, want %v", test.name, open, took, test.opens)
		}
		testbrowser.Eval[any](v.Tab, `docent.close(), null`)
	}
}

func TestFocus_WhileStarting(t *testing.T) {
	t.Parallel()
	s := newStage(t, page{})
	answer := make(chan struct{})
	s.openai.Fail(func(w http.ResponseWriter, r *http.Request) { <-answer; s.openai.ServeHTTP(w, r) })
	v := s.visit(s.url("/"))
	v.Click(launcher)
	v.Press(kb.Tab)
	v.Until(root + `.activeElement === ` + closer)
	close(answer)
	v.Until(chatting)
	if !testbrowser.Eval[bool](v.Tab, root+`.activeElement === `+closer) {
		t.Error("the chat took the focus from the close button")
	}
	if got := testbrowser.Eval[string](v.Tab, root+`.querySelector("[role=status]").textContent`); got != "" {
		t.Errorf("the status is still %q", got)
	}
}

func TestFocus_AfterRetry(t *testing.T) {
	t.Parallel()
	s := newStage(t, page{data: map[string]string{"data-fallback-url": "/support"}})
	s.limited()
	v := s.visit(s.url("/"))
	v.Click(launcher)
	v.failed("rate_limited")
	testbrowser.Eval[any](v.Tab, fallback+`.focus(), null`)
	s.restart()
	v.later(time.Minute)
	v.Until(chatting)
	v.Until(`document.activeElement === ` + chatKit)
}

// Concurrent calls send one request, and one more on the retry.
func TestSession_ConcurrentCallsFail(t *testing.T) {
	t.Parallel()
	s := newStage(t, page{})
	v := s.visit(s.url("/"))
	v.chat()
	s.change(func(p *parts) { p.session = http.NotFoundHandler() })
	testbrowser.Eval[any](v.Tab, `window.all = Promise.all(Array.from({ length: 6 }, () => chatkitStandIn.getClientSecret(chatkitStandIn.secrets[0]))), null`)
	v.failed("unreachable")
	s.change(func(p *parts) { p.session = nil })
	v.Click(retry)
	got := testbrowser.Eval[[]string](v.Tab, `all`)
	if got[0] == v.secrets()[0] || got[0] != got[5] {
		t.Errorf("the calls got %q, before %q", got, v.secrets())
	}
	if got := v.Requests("/session"); len(got) != 3 {
		t.Errorf("requests: %q, want three: the first, a failed one, the retry", got)
	}
}

func TestFailure_NoRetryAfter(t *testing.T) {
	t.Parallel()
	s := newStage(t, page{})
	s.change(func(p *parts) {
		p.session = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusTooManyRequests)
			fmt.Fprint(w, `{"code":"rate_limited","retry_after":0}`)
		})
	})
	v := s.visit(s.url("/"))
	v.Click(launcher)
	v.failed("rate_limited")
	s.change(func(p *parts) { p.session = nil })
	v.Click(retry)
	v.Until(chatting)
	if got := v.Requests("/session"); len(got) != 2 {
		t.Errorf("requests: %q", got)
	}
}

func TestPrint(t *testing.T) {
	t.Parallel()
	s := newStage(t, page{})
	v := s.visit(s.url("/"))
	testbrowser.Call(v.Tab, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Media: "print"})
	if testbrowser.Eval[bool](v.Tab, launcher+`.checkVisibility()`) {
		t.Error("the button is visible in print")
	}
}

func TestScriptInterface_BeforeBody(t *testing.T) {
	t.Parallel()
	s := newStage(t, page{})
	s.change(func(p *parts) {
		p.files = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			fmt.Fprintf(w, `<!doctype html><title>x</title><script src="/api/chatkit/widget.js" data-chatkit-url="%s/chatkit.js"></script><script>docent.open()</script><p>x`, s.cdn.URL)
		})
	})
	v := visitor{testbrowser.Open(t)}
	v.Do(chromedp.EmulateViewport(390, 844))
	v.Go(s.url("/"))
	v.Until(chatting)
	if complaints := v.complaints(); len(complaints) > 0 {
		t.Errorf("console: %q", complaints)
	}
}

func TestBackForwardCache(t *testing.T) {
	t.Parallel()
	for _, closed := range []bool{true, false} {
		t.Run(fmt.Sprint("closed elsewhere: ", closed), func(t *testing.T) {
			t.Parallel()
			s := newStage(t, page{})
			v := s.visit(s.url("/"))
			v.chat()
			testbrowser.Eval[any](v.Tab, `addEventListener("pageshow", (e) => window.persisted = e.persisted), null`)
			v.Go(s.url("/b"))
			v.Until(chatting)
			if closed {
				v.Click(closer)
			}
			testbrowser.Eval[any](v.Tab, `setTimeout(() => history.back(), 0), null`)
			v.Until(`location.pathname === "/" && window.persisted === true`)
			if open := testbrowser.Eval[bool](v.Tab, isOpen); open == closed {
				t.Errorf("open: %v", open)
			}
		})
	}
}

// A base element that is added while the page loads must not change any URL.
func TestWidget_LateBaseElement(t *testing.T) {
	t.Parallel()
	s := newStage(t, page{data: map[string]string{"data-fallback-url": "support"}})
	s.change(func(p *parts) { p.session = gone })
	v := visitor{testbrowser.Open(t)}
	v.OnEveryPage(`document.addEventListener("readystatechange", () => document.readyState === "interactive" &&
		document.head.append(Object.assign(document.createElement("base"), { href: "https://evil.test/" })))`)
	v.Go(s.url("/"))
	v.Until(host)
	v.Click(launcher)
	v.failed("unreachable")
	if got := testbrowser.Eval[string](v.Tab, fallback+`.href`); got != s.url("/support") {
		t.Errorf("the link leads to %s", got)
	}
	if got := v.Requests("evil.test"); len(got) > 0 {
		t.Errorf("requests: %q", got)
	}
}

func TestWidget_TwoTags(t *testing.T) {
	t.Parallel()
	s := newStage(t, page{content: `<script src="/api/chatkit/widget.js"></script>`})
	v := s.visit(s.url("/"))
	v.Until(`document.readyState === "complete"`)
	if n := testbrowser.Eval[int](v.Tab, `document.querySelectorAll("docent-widget").length`); n != 1 || len(v.complaints()) > 0 {
		t.Errorf("%d widgets, console %q", n, v.complaints())
	}
}

func TestThread_PerTab(t *testing.T) {
	t.Parallel()
	s := newStage(t, page{})
	ask := func(v visitor) string {
		testbrowser.Eval[any](v.Tab, chatKit+`.sendUserMessage({ text: "?", newThread: true }).then(() => null)`)
		return testbrowser.Eval[string](v.Tab, `chatkitStandIn.events.findLast((e) => e.type === "chatkit.thread.change").detail.threadId`)
	}
	resumed := func(v visitor, want string) {
		t.Helper()
		if got := testbrowser.Eval[*string](v.Tab, `chatkitStandIn.options.at(-1).initialThread`); got == nil || *got != want {
			t.Errorf("resumed %v, want %s", got, want)
		}
	}
	v := s.visit(s.url("/"))
	v.chat()
	one := ask(v)
	other := visitor{v.Another()}
	other.Go(s.url("/other"))
	other.chat()
	resumed(other, one) // A new tab resumes the visitor's last thread.
	ask(other)
	v.Go(s.url("/next"))
	v.Until(chatting)
	resumed(v, one) // A tab resumes its own thread.
}

// After an error of ChatKit, the widget must keep a thread that has loaded.
func TestThread_ChatKitError(t *testing.T) {
	t.Parallel()
	s := newStage(t, page{})
	v := s.visit(s.url("/"))
	v.chat()
	fails := func() {
		t.Helper()
		testbrowser.Eval[any](v.Tab, chatKit+`.dispatchEvent(new CustomEvent("chatkit.error", { detail: { error: new Error("x") } })), null`)
		if n := testbrowser.Eval[int](v.Tab, `chatkitStandIn.options.length`); n != 1 {
			t.Errorf("ChatKit was given options %d times", n)
		}
	}
	fails()
	testbrowser.Eval[any](v.Tab, chatKit+`.sendUserMessage({ text: "?" }).then(() => null)`)
	v.Go(s.url("/next"))
	v.Until(`window.chatkitStandIn?.events.some((e) => e.type === "chatkit.thread.load.end")`)
	fails()
}

func TestPhone(t *testing.T) {
	t.Parallel()
	s := newStage(t, page{})
	v := visitor{testbrowser.Open(t)}
	v.Do(chromedp.EmulateViewport(390, 844, chromedp.EmulateMobile, chromedp.EmulatePortrait, chromedp.EmulateTouch))
	v.Go(s.url("/"))
	v.chat()
	v.Until(`((r) => [r.left, r.top, r.width, r.height].join() === "0,0,390,844")(` + panel + `.getBoundingClientRect())`)
	if !testbrowser.Eval[bool](v.Tab, panel+`.matches(":modal")`) {
		t.Error("the panel is not modal")
	}
	if testbrowser.Eval[bool](v.Tab, `document.activeElement === `+chatKit) {
		t.Error("the chat has the focus, so the keyboard opens")
	}
	// The system closes the dialog, as on a phone's back gesture.
	testbrowser.Eval[any](v.Tab, panel+`.requestClose(), null`)
	v.Until(root + `.activeElement === ` + launcher)
	v.chat()
	v.Press(kb.Escape)
	v.Until(root + `.activeElement === ` + launcher)
	v.chat()
	// The chat stays open when the visitor turns the phone.
	v.Do(chromedp.EmulateViewport(1280, 800))
	v.Until(`!` + panel + `.matches(":modal") && ` + isOpen)
	v.Do(chromedp.EmulateViewport(390, 844))
	v.Until(panel + `.matches(":modal")`)
	v.Go(s.url("/next"))
	v.Until(launcher + `.checkVisibility()`)
	if testbrowser.Eval[bool](v.Tab, isOpen) {
		t.Error("the chat covers the next page")
	}
	s.minted(1)
}

func TestContentSecurityPolicy(t *testing.T) {
	t.Parallel()
	script, err := os.ReadFile("widget.js")
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(script)
	hash := "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
	tests := []struct {
		name, src, csp string
		data           map[string]string
	}{
		{"by origin", "", "script-src 'self' CHATKIT; frame-src CHATKIT; connect-src 'self'", nil},
		{"by origin, another site's widget", elsewhere, "script-src DOCENT CHATKIT; frame-src CHATKIT; connect-src DOCENT", nil},
		{"by nonce", "", "script-src 'nonce-r4nd0m'; frame-src CHATKIT; connect-src 'self'", map[string]string{"nonce": "r4nd0m"}},
		{"by nonce, strictly", "", "script-src 'nonce-r4nd0m' 'strict-dynamic'; frame-src CHATKIT; connect-src 'self'", map[string]string{"nonce": "r4nd0m"}},
		{"by hash, strictly", "", "script-src '" + hash + "' 'strict-dynamic'; frame-src CHATKIT; connect-src 'self'", map[string]string{"integrity": hash}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			data := map[string]string{"data-fallback-url": "/support", "data-accent": "#2457d6"}
			maps.Copy(data, test.data)
			s := newStage(t, page{src: test.src, csp: "default-src 'none'; base-uri 'none'; " + test.csp, data: data})
			v := s.visit(s.url("/"))
			v.chat()
			testbrowser.Eval[any](v.Tab, `document.documentElement.dataset.theme = "dark", null`)
			v.Until(`chatkitStandIn.options.length > 1`)
			if complaints := v.complaints(); len(complaints) > 0 {
				t.Errorf("console: %q", complaints)
			}
			s.minted(1)
		})
	}
}

func TestAccessibilityTree(t *testing.T) {
	t.Parallel()
	s := newStage(t, page{data: map[string]string{"data-title": "Ask the docs"}})
	v := s.visit(s.url("/"))
	v.Until(launcher + ".checkVisibility()")
	tree := func() []string {
		var nodes []string
		for _, n := range testbrowser.Call(v.Tab, accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{}).Nodes {
			if !n.Ignored && n.Role != nil && n.Name != nil && slices.Contains([]string{`"button"`, `"dialog"`, `"Iframe"`, `"status"`, `"timer"`, `"heading"`}, string(n.Role.Value)) {
				nodes = append(nodes, strings.ReplaceAll(string(n.Role.Value)+" "+string(n.Name.Value), `"`, ""))
			}
		}
		slices.Sort(nodes) // Chrome returns the tree by depth.
		return nodes
	}
	all := func(widgets ...string) []string {
		return slices.Sorted(slices.Values(append(widgets, "heading /", "button Ask")))
	}
	if diff := cmp.Diff(all("button Ask the docs"), tree()); diff != "" {
		t.Errorf("closed (-want +got):\n%s", diff)
	}
	v.chat()
	if diff := cmp.Diff(all("dialog Ask the docs", "heading Ask the docs", "button Close", "Iframe Ask the docs"), tree()); diff != "" {
		t.Errorf("open (-want +got):\n%s", diff)
	}
	s.change(func(p *parts) { p.session = gone })
	testbrowser.Eval[any](v.Tab, `chatkitStandIn.expireSecret().then(() => { `+chatKit+`.sendUserMessage({text: "Still there?"}) }), null`)
	v.failed("unreachable")
	if diff := cmp.Diff(all("dialog Ask the docs", "heading Ask the docs", "button Close", "status ", "button Try again", "Iframe Ask the docs"), tree()); diff != "" {
		t.Errorf("failed (-want +got):\n%s", diff)
	}
}

// TestAxe runs the axe-core accessibility checker on the page in every state.
func TestAxe(t *testing.T) {
	t.Parallel()
	axe := installed(t, "node_modules/axe-core/axe.min.js")
	tests := []struct {
		name  string
		data  map[string]string
		state func(*stage, visitor)
	}{
		{"closed", nil, func(_ *stage, v visitor) { v.Until(launcher + ".checkVisibility()") }},
		{"open", nil, func(_ *stage, v visitor) { v.chat() }},
		{"open in the dark", map[string]string{"data-color-scheme": "dark"}, func(_ *stage, v visitor) { v.chat() }},
		{"on a phone", nil, func(_ *stage, v visitor) { v.Do(chromedp.EmulateViewport(390, 844)); v.chat() }},
		{"starting", nil, func(s *stage, v visitor) {
			s.openai.Fail(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
			v.Click(launcher)
		}},
		{"over the limit", map[string]string{"data-fallback-url": "/support"}, func(s *stage, v visitor) { s.limited(); v.Click(launcher); v.failed("rate_limited") }},
		{"over the limit in the dark", map[string]string{"data-fallback-url": "/support", "data-color-scheme": "dark"}, func(s *stage, v visitor) { s.limited(); v.Click(launcher); v.failed("rate_limited") }},
		{"a light accent", map[string]string{"data-accent": "#ffd43b", "data-fallback-url": "/support"}, func(s *stage, v visitor) { s.limited(); v.Click(launcher); v.failed("rate_limited") }},
		{"an accent in between", map[string]string{"data-accent": "#e8590c", "data-fallback-url": "/support"}, func(s *stage, v visitor) { s.limited(); v.Click(launcher); v.failed("rate_limited") }},
		{"a button with a green accent", map[string]string{"data-accent": "#2b8a3e"}, func(_ *stage, v visitor) { v.Until(launcher + ".checkVisibility()") }},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, page{data: test.data})
			v := s.visit(s.url("/"))
			v.reducedMotion() // During a fade, the contrast would be too low.
			test.state(s, v)
			violations := testbrowser.Eval[[]string](v.Tab, string(axe)+`;
				axe.run().then((r) => r.violations.flatMap((v) => v.nodes.map((n) => v.id + ": " + n.target.join(" ") + ": " + n.failureSummary)))`)
			if len(violations) > 0 {
				t.Errorf("axe: %s", strings.Join(violations, "\n"))
			}
		})
	}
}

func TestReducedMotion(t *testing.T) {
	t.Parallel()
	s := newStage(t, page{})
	v := s.visit(s.url("/"))
	v.reducedMotion()
	v.Click(launcher)
	v.Until(chatting)
	moving := testbrowser.Eval[[]string](v.Tab, `[...`+root+`.querySelectorAll("*")].filter((e) => ((c) => c.animationName !== "none" || c.transitionDuration !== "0s" && c.transitionProperty !== "none")(getComputedStyle(e))).map((e) => e.className)`)
	if len(moving) > 0 {
		t.Errorf("in motion: %q", moving)
	}
}

// TestViewTransitions uses the built Astro example, whose navigation replaces the
// page's body in place.
func TestViewTransitions(t *testing.T) {
	t.Parallel()
	dist := filepath.FromSlash("../../examples/astro/dist")
	installed(t, filepath.Join(dist, "index.html"))
	s := newStage(t, page{})
	s.change(func(p *parts) { p.files = http.FileServer(http.Dir(dist)) })
	v := visitor{testbrowser.Open(t)}
	// The build does not know the URL of the fake ChatKit.
	v.OnEveryPage(fmt.Sprintf(`addEventListener("docent:ready", () => docent.set({ chatkitUrl: %q }))`, s.cdn.URL+"/chatkit.js"))
	v.Go(s.url("/"))
	v.chat()
	testbrowser.Eval[any](v.Tab, chatKit+`.sendUserMessage({text: "How do I install it?"}).then(() => null)`)
	v.Until(`chatkitStandIn.events.some((e) => e.type === "chatkit.response.end")`)
	testbrowser.Eval[any](v.Tab, `window.before = [`+host+`, `+chatKit+`], window.loads = 0, document.addEventListener("astro:page-load", () => loads++), null`)
	links := testbrowser.Eval[[]string](v.Tab, `[...new Set([...document.querySelectorAll("a[href^='/']")].map((a) => a.pathname))].filter((p) => p !== location.pathname)`)
	if len(links) < 2 {
		t.Fatalf("links: %q", links)
	}
	for i, path := range links {
		v.Click(fmt.Sprintf(`document.querySelector("a[href='%s'], a[href='%s']")`, path, strings.TrimSuffix(path, "/")))
		// During a view transition, its snapshots cover the page and take clicks.
		v.Until(fmt.Sprintf(`!document.activeViewTransition && loads === %d && location.pathname.startsWith(%q)`, i+1, strings.TrimSuffix(path, "/")))
		if !testbrowser.Eval[bool](v.Tab, `before[0] === `+host+` && before[1] === `+chatKit+` && before[1].isConnected && `+isOpen+` && document.querySelectorAll("docent-widget").length === 1`) {
			t.Fatalf("on %s the widget was replaced, closed or duplicated", path)
		}
		if got := testbrowser.Eval[int](v.Tab, `chatkitStandIn.conversation().then((c) => c.length)`); got < 2 {
			t.Errorf("on %s the conversation has %d messages", path, got)
		}
	}
	if got := len(v.Requests("/frame.html")); got != 1 {
		t.Errorf("the chat's frame was loaded %d times", got)
	}
	s.minted(1)
	if complaints := v.complaints(); len(complaints) > 0 {
		t.Errorf("console: %q", complaints)
	}
}

// offline disconnects or reconnects the visitor's network.
func (v visitor) offline(off bool) {
	testbrowser.Call(v.Tab, network.EmulateNetworkConditionsByRule, network.EmulateNetworkConditionsByRuleParams{
		MatchedNetworkConditions: []*network.Conditions{{Offline: off, DownloadThroughput: -1, UploadThroughput: -1}},
	})
	testbrowser.Call(v.Tab, network.OverrideNetworkState, network.OverrideNetworkStateParams{Offline: off, DownloadThroughput: -1, UploadThroughput: -1})
}

// system sets the colour scheme of the visitor's operating system.
func (v visitor) system(scheme string) { v.media("prefers-color-scheme", scheme) }

func (v visitor) reducedMotion() { v.media("prefers-reduced-motion", "reduce") }

func (v visitor) media(name, value string) {
	testbrowser.Call(v.Tab, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: name, Value: value}}})
}

// gone closes the connection without an answer.
var gone = http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })

// installed reads a file that `make deps` installs or builds with npm. It skips the
// test if the file is missing.
func installed(t *testing.T, path string) []byte {
	t.Helper()
	file, err := os.ReadFile(path)
	if err != nil {
		orSkip(t, "run `make deps` first: "+err.Error())
	}
	return file
}
