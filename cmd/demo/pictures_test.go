//go:build unix

package main_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"docent/internal/testkit/testbrowser"
	"docent/internal/testkit/testprocess"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// Where the parts of the widget are on a page.
const (
	inWidget = `document.querySelector("docent-widget").shadowRoot`
	launcher = inWidget + `.querySelector(".launcher")`
	started  = `window.chatkitStandIn?.events.some((e) => e.type === "chatkit.ready") && ` + inWidget + `.querySelector(".notice").hidden`
)

// answered asks a question in the chat and waits for the answer.
func answered(question string) func(*testing.T, *testbrowser.Tab) {
	return func(t *testing.T, tab *testbrowser.Tab) {
		t.Helper()
		chat(t, tab)
		testbrowser.Eval[any](tab, fmt.Sprintf(`docent.ask(%q), null`, question))
		tab.Until(`chatkitStandIn.events.some((e) => e.type === "chatkit.response.end")`)
	}
}

// TestPictures shows the widget on the demo's pages in each of its states.
func TestPictures(t *testing.T) {
	t.Parallel()
	if err := os.MkdirAll(*pictures, 0o755); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name          string
		scheme        string
		width, height int64
		before, state func(t *testing.T, tab *testbrowser.Tab)
		limit         int
	}{
		{name: "closed", width: 1280, height: 800, state: func(*testing.T, *testbrowser.Tab) {}},
		{name: "open", width: 1280, height: 800, state: answered("How do I rotate the OpenAI key?")},
		{name: "dark", width: 1280, height: 800, scheme: "dark", state: answered("How do I index my docs?")},
		{name: "phone", width: 390, height: 844, state: chat},
		{name: "limited", width: 1280, height: 800, limit: 1, state: func(t *testing.T, tab *testbrowser.Tab) {
			t.Helper()
			tab.Click(launcher)
			tab.Until(inWidget + `.querySelector(".notice").dataset.code === "rate_limited"`)
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			limit := max(test.limit, 5)
			url, _ := demo(t, fmt.Sprintf("RATE_LIMIT_PER_MINUTE=%d", limit))
			if test.limit > 0 {
				testprocess.WholeMinute()
				for range limit {
					fetch(t, "POST", url+"/api/chatkit/session", url)
				}
			}
			tab := testbrowser.Open(t)
			testbrowser.Call(tab, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
				{Name: "prefers-color-scheme", Value: test.scheme}, {Name: "prefers-reduced-motion", Value: "reduce"},
			}})
			tab.Do(chromedp.EmulateViewport(test.width, test.height, chromedp.EmulateScale(2)))
			tab.Go(url + "/embed")
			tab.Until(launcher + `.checkVisibility()`)
			test.state(t, tab)
			if err := os.WriteFile(filepath.Join(*pictures, test.name+".png"), tab.Picture(), 0o644); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestPagesFitTheScreen holds each page to the width of a phone and of a desk:
// a table or code that is wider scrolls within the page.
func TestPagesFitTheScreen(t *testing.T) {
	t.Parallel()
	url, _ := demo(t)
	tab := testbrowser.Open(t)
	tab.Go(url)
	for _, path := range testbrowser.Eval[[]string](tab, `[...document.querySelectorAll(".sidebar a")].map((a) => a.pathname)`) {
		tab.Go(url + path)
		for _, width := range []int64{320, 390, 768, 1280} {
			tab.Do(chromedp.EmulateViewport(width, 800))
			if got := testbrowser.Eval[int64](tab, "document.documentElement.scrollWidth"); got > width {
				t.Errorf("%s is %d pixels wide on a screen of %d", path, got, width)
			}
		}
	}
}

func chat(t *testing.T, tab *testbrowser.Tab) {
	t.Helper()
	tab.Click(launcher)
	tab.Until(started)
}
