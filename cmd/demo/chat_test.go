//go:build unix

package main_test

import (
	"fmt"
	"os"
	"path/filepath"
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

// ask asks a question and waits for the answer, which is the question.
func (v visitor) ask(question string) {
	v.t.Helper()
	testbrowser.Eval[any](v.tab, fmt.Sprintf(`docent.ask(%q), null`, question))
	v.until(fmt.Sprintf(`shown.messages.at(-1)?.role === "assistant" && shown.messages.at(-1).text === %q && !shown.buttons.includes("Stop")`, question))
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
	v.ask("How do I embed it?")
	v.ask("And in Astro?")
	want := []string{"user: How do I embed it?", "assistant: How do I embed it?", "user: And in Astro?", "assistant: And in Astro?"}
	if diff := cmp.Diff(want, v.messages()); diff != "" {
		t.Errorf("conversation (-want +got):\n%s", diff)
	}

	open("/deploy") // Another page: the chat is open there, with the same conversation.
	v.until(`shown.messages.length === 4`)
	v.ask("What does it cost?")
	if err := os.MkdirAll(*pictures, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(*pictures, "talk.png"), v.tab.Picture(), 0o644); err != nil {
		t.Fatal(err)
	}

	testbrowser.Eval[any](v.tab, `document.querySelector("openai-chatkit").showHistory().then(() => null)`)
	v.until(`shown.threads?.join() === "How do I embed it?"`)
	v.press("Rename How do I embed it?")
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
	v.ask("A new one")
}
