//go:build unix

package main_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"docent/internal/testkit/testbrowser"

	"github.com/google/go-cmp/cmp"
)

// visitor is somebody who talks in the demo's chat.
type visitor struct {
	t   *testing.T
	tab *testbrowser.Tab
}

// until waits until something about what the chat shows is true.
func (v visitor) until(js string) {
	v.t.Helper()
	testbrowser.Eval[any](v.tab, `(async () => { for (;;) { const shown = await chatkitStandIn.shown(); if (`+js+
		`) return null; await new Promise((go) => setTimeout(go, 10)) } })()`)
}

func (v visitor) press(label string) {
	v.t.Helper()
	testbrowser.Eval[any](v.tab, fmt.Sprintf(`chatkitStandIn.press(%q).then(() => null)`, label))
}

// ask asks a question and waits for the answer, whose text it returns.
func (v visitor) ask(question string) string {
	v.t.Helper()
	testbrowser.Eval[any](v.tab, fmt.Sprintf(`docent.ask(%q), null`, question))
	v.until(fmt.Sprintf(`shown.messages.at(-2)?.text === %q && shown.messages.at(-1).role === "assistant" && shown.messages.at(-1).text && !shown.buttons.includes("Stop")`, question))
	return testbrowser.Eval[string](v.tab, `chatkitStandIn.conversation().then((all) => all.at(-1).text)`)
}

// sources returns the links of the sources that the chat shows.
func (v visitor) sources() []string {
	v.t.Helper()
	return testbrowser.Eval[[]string](v.tab, `chatkitStandIn.shown().then((shown) => shown.sources.map(({ href }) => href))`)
}

func (v visitor) messages() []string {
	v.t.Helper()
	return testbrowser.Eval[[]string](v.tab, `chatkitStandIn.conversation().then((all) => all.map((m) => m.role + ": " + m.text))`)
}

// TestChat is a visit with the real widget and the real Docent: only ChatKit is a
// stand-in.
func TestChat(t *testing.T) {
	t.Parallel()
	url, _ := demo(t)
	v := visitor{t, testbrowser.Open(t)}
	open := func(path string) {
		t.Helper()
		v.tab.Go(url + path)
		v.tab.Until(`window.chatkitStandIn?.events.some((e) => e.type === "chatkit.ready") && ` + inWidget + `.querySelector(".notice").hidden`)
	}
	v.tab.Go(url + "/embed")
	v.tab.Until(launcher + `.checkVisibility()`)
	v.tab.Click(launcher)
	v.tab.Until(started)
	first := v.ask("How do I embed the widget?")
	second := v.ask("And in Astro?") // Found by the question before it, too.
	want := []string{"user: How do I embed the widget?", "assistant: " + first, "user: And in Astro?", "assistant: " + second}
	if diff := cmp.Diff(want, v.messages()); diff != "" {
		t.Errorf("conversation (-want +got):\n%s", diff)
	}
	if !strings.Contains(second, "astro.config.mjs") {
		t.Errorf("answer to the second question: %s", second)
	}
	sources := v.sources()
	if len(sources) == 0 {
		t.Error("the answers have no sources")
	}
	for _, source := range sources {
		page, heading, anchored := strings.Cut(source, "#")
		if !strings.HasPrefix(page, url+"/") || anchored && !slices.Contains(attributes(parse(t, page), "id"), heading) {
			t.Errorf("source %s leads nowhere", source)
		}
	}

	open("/deploy") // Another page: the chat is open there, with the same conversation.
	v.until(`shown.messages.length === 4`)
	v.ask("What does it cost in a month?")
	if err := os.MkdirAll(*pictures, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(*pictures, "talk.png"), v.tab.Picture(), 0o644); err != nil {
		t.Fatal(err)
	}

	testbrowser.Eval[any](v.tab, `document.querySelector("openai-chatkit").showHistory().then(() => null)`)
	v.until(`shown.threads?.join() === "How do I embed the widget?"`)
	v.press("Rename How do I embed the widget?")
	testbrowser.Eval[any](v.tab, `chatkitStandIn.fill("Title", "Embedding").then(() => null)`)
	v.press("Save")
	v.until(`shown.threads?.join() === "Embedding"`)
	open("/embed") // The new title is stored.
	v.until(`shown.messages.length === 6`)
	testbrowser.Eval[any](v.tab, `document.querySelector("openai-chatkit").showHistory().then(() => null)`)
	v.until(`shown.threads?.join() === "Embedding"`)
	v.press("Delete Embedding")
	v.until(`shown.threads?.length === 0`)
	open("/deploy") // A conversation that is gone is not an error.
	v.until(`shown.start`)
	if answer := v.ask("Which grapes grow in Burgundy?"); !strings.Contains(answer, "do not have") {
		t.Errorf("answer to what the docs do not have: %s", answer)
	}
}
