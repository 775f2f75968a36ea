//go:build unix

// Package testbrowser gives tests visitors with a real browser: one headless
// Chromium for all the tests of a package, one profile for each visitor.
package testbrowser

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
)

// patience is how long a test waits for a page: more than the widget's longest own
// timeout, which is 10 s, on a busy machine.
const patience = 15 * time.Second

// end closes the browser, once there is one.
var end = func() {}

// Run runs a package's tests and then closes their browser.
func Run(m *testing.M) int {
	defer func() { end() }()
	return m.Run()
}

// shared is the browser, which starts when the first test needs it.
var shared = sync.OnceValues(func() (context.Context, error) {
	path, err := exec.LookPath("chromium")
	if err != nil {
		return nil, err
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path),
		chromedp.NoSandbox, // Root cannot have a sandbox. The pages are ours.
		chromedp.DisableGPU,
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-quic", true),
		// docs.test is a site on this machine that is not a secure context, unlike
		// localhost and its subdomains. No other name resolves.
		chromedp.Flag("host-resolver-rules", "MAP docs.test 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE *.localhost, EXCLUDE 127.0.0.1"),
	)
	allocator, stop := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, closeFirst := chromedp.NewContext(allocator)
	if err := chromedp.Do(ctx); err != nil {
		stop()
		return nil, fmt.Errorf("starting %s: %w", path, err)
	}
	end = func() { closeFirst(); stop() }
	return ctx, nil
})

// Tab is a page that a visitor has open.
type Tab struct {
	tb  testing.TB
	ctx context.Context //nolint:containedctx // It is chromedp's handle of the tab.

	mu       sync.Mutex
	requests []string
	console  []string
}

// Open returns a tab of a new visitor, without cookies or storage. If Chromium is
// not installed it skips the test, or fails it if CI=true.
func Open(tb testing.TB) *Tab {
	tb.Helper()
	parent, err := shared()
	switch {
	case errors.Is(err, exec.ErrNotFound) && os.Getenv("CI") != "true":
		tb.Skip("no chromium on this machine: `make deps` installs it as root on Debian")
	case err != nil:
		tb.Fatal(err)
	}
	return open(parent, tb, chromedp.WithNewBrowserContext())
}

// Another opens another tab of the same visitor.
func (t *Tab) Another() *Tab {
	t.tb.Helper()
	return open(t.ctx, t.tb)
}

func open(parent context.Context, tb testing.TB, options ...chromedp.ContextOption) *Tab {
	tb.Helper()
	ctx, cancel := chromedp.NewContext(parent, options...)
	tb.Cleanup(cancel)
	t := &Tab{tb: tb, ctx: ctx}
	if err := chromedp.Listen(ctx, t.note); err != nil {
		tb.Fatal(err)
	}
	Call(t, network.Enable, network.EnableParams{})
	t.Do(chromedp.EmulateViewport(1280, 800))
	go func() {
		for message, err := range chromedp.Console(ctx) {
			if err != nil {
				return
			}
			t.mu.Lock()
			t.console = append(t.console, fmt.Sprintf("%s: %s", message.Type, message.Text))
			t.mu.Unlock()
		}
	}()
	tb.Cleanup(func() {
		if tb.Failed() {
			tb.Logf("the console:\n%s", strings.Join(t.Console(), "\n"))
			tb.Logf("the requests:\n%s", strings.Join(t.Requests(""), "\n"))
		}
	})
	return t
}

func (t *Tab) note(event any) {
	if e, ok := event.(*network.EventRequestWillBeSent); ok {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.requests = append(t.requests, e.Request.Method+" "+e.Request.URL)
	}
}

// Requests returns the tab's requests so far that contain part, as "GET URL".
func (t *Tab) Requests(part string) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var found []string
	for _, r := range t.requests {
		if strings.Contains(r, part) {
			found = append(found, r)
		}
	}
	return found
}

// Console returns the console's messages, as "error: text", including uncaught
// exceptions and violations of a content security policy.
func (t *Tab) Console() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]string(nil), t.console...)
}

// Do runs actions of chromedp.
func (t *Tab) Do(actions ...chromedp.Action[chromedp.Void]) {
	t.tb.Helper()
	ctx, cancel := context.WithTimeout(t.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		t.tb.Fatal(err)
	}
}

// Go opens a page and waits until it is loaded.
func (t *Tab) Go(url string) {
	t.tb.Helper()
	t.Do(chromedp.Navigate(url))
}

// OnEveryPage makes a script run before the scripts of every page from now on.
func (t *Tab) OnEveryPage(js string) {
	t.tb.Helper()
	Call(t, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: js})
}

// Eval returns the value of an expression on the page. It waits for a promise.
func Eval[T any](t *Tab, js string) T {
	t.tb.Helper()
	ctx, cancel := context.WithTimeout(t.ctx, patience)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](js, chromedp.EvalAwaitPromise))
	if err != nil {
		t.tb.Fatalf("%s: %v", js, err)
	}
	return v
}

// Until waits until an expression is true on the page.
func (t *Tab) Until(js string) {
	t.tb.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for {
		// While the page changes, evaluating can fail.
		ctx, cancel := context.WithTimeout(t.ctx, patience)
		ok, err := chromedp.Run(ctx, chromedp.Evaluate[bool]("!!("+js+")"))
		cancel()
		if ok {
			return
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-deadline.C:
			t.tb.Fatalf("not within %v: %s (%v)", patience, js, err)
		}
	}
}

// Click clicks on the element that an expression returns, as soon as it is visible.
func (t *Tab) Click(js string) {
	t.tb.Helper()
	t.Until(js + "?.checkVisibility()")
	// Until the next frame is drawn, a click may go to the element that was there before.
	Eval[any](t, "new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(() => drawn(null))))")
	t.Do(chromedp.Click(chromedp.JSPath(js)))
}

// Press presses a key, or types.
func (t *Tab) Press(keys string, options ...chromedp.KeyOption) {
	t.tb.Helper()
	t.Do(chromedp.KeyEvent(keys, options...))
}

// Picture returns the visible part of the page as PNG.
func (t *Tab) Picture() []byte {
	t.tb.Helper()
	ctx, cancel := context.WithTimeout(t.ctx, patience)
	defer cancel()
	png, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
	if err != nil {
		t.tb.Fatal(err)
	}
	return png
}

// Call sends a command of the DevTools protocol.
func Call[P, R any](t *Tab, command cdp.Command[P, R], parameters P) R {
	t.tb.Helper()
	ctx, cancel := context.WithTimeout(t.ctx, patience)
	defer cancel()
	r, err := chromedp.Call(ctx, command, parameters)
	if err != nil {
		t.tb.Fatalf("%s: %v", command.Method, err)
	}
	return r
}
