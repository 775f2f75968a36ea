package main_test

import (
	"fmt"
	"slices"
	"testing"
	"unicode/utf16"

	"github.com/google/go-cmp/cmp"

	"docent/internal/standin"
)

// What visitors read.
const (
	sayUnavailable = "The assistant is not available right now. Please try again later."
	sayRejected    = "The assistant could not answer this question."
	sayBusy        = "The assistant is busy. Please try again in a moment. (retry)"
	sayTimeout     = "The assistant took too long to answer. Please try again. (retry)"
	sayInterrupted = "The answer was interrupted. Please try again. (retry)"
	sayNoText      = "The assistant did not answer. Please try again. (retry)"
	sayCutAtLimit  = "The answer was cut off because it became too long. You can ask for the rest, or about less at a time."
	sayCutByModel  = "The answer was ended before it was complete."
)

// How the stand-in answers [installs].
const (
	firstSentence  = "Install Orchard on Linux with the package manager of your distribution."
	secondSentence = "Install Orchard on Windows with the signed installer."
	linuxURL       = "https://docs.example.com/install#linux"
	windowsURL     = "https://docs.example.com/install#windows"
)

// wholeAnswer is all of it, with something after each sentence and after each paragraph.
func wholeAnswer(sentence, paragraph string) shown {
	text := firstSentence + sentence + paragraph + "\n\n" + secondSentence + sentence
	end := func(text string) int { return len(utf16.Encode([]rune(text))) }
	first := firstSentence + sentence[:len(sentence)/2] // The stand-in puts it before and after the marker.
	second := text[:len(text)-len(sentence)/2]
	return shown{Text: text, Citations: []string{
		fmt.Sprint(end(first), " ", linuxURL), fmt.Sprint(end(second), " ", windowsURL),
	}}
}

// TestAnswers_Streams plays every kind of stream that the stand-in knows.
func TestAnswers_Streams(t *testing.T) {
	t.Parallel()
	type result struct {
		outcome string
		calls   int
		shown   shown
	}
	whole := result{"answered", 1, wholeAnswer("", "")}
	parts := result{"answered", 1, wholeAnswer("", "\n\n")}
	parts.shown.Text += "\n\n\n\nThat is all."
	busy := result{"upstream_busy", 3, shown{Error: sayBusy}}
	rejected := result{"upstream_rejected", 1, shown{Error: sayRejected}}
	interrupted := result{"upstream_busy", 1, shown{Text: firstSentence, Error: sayInterrupted}} // In its marker.
	want := map[string]result{
		"refusal":                   {"refused", 1, shown{Text: "I'm sorry, but I can't help with that request."}},
		"content-filter":            {"cut", 1, shown{Text: firstSentence, Notice: sayCutByModel}},
		"max-output-tokens":         {"cut", 1, shown{Text: firstSentence, Notice: sayCutAtLimit}},
		"max-output-tokens-no-text": {"no_text", 1, shown{Error: sayNoText}},
		"reasoning":                 whole,
		"commentary":                whole,
		"queued":                    whole,
		"content-parts":             parts,
		"annotations":               whole,
		"filecite-markers":          whole,
		"emoji":                     {"answered", 1, wholeAnswer(" 🗼👩‍💻𝔘 🗼👩‍💻𝔘", "")},
		"done-only":                 whole,

		"keepalive":          whole,
		"comments":           whole,
		"crlf":               whole,
		"data-first":         whole,
		"no-event-names":     whole,
		"no-last-blank-line": whole,
		"done-marker":        whole,
		"changing-ids":       whole,
		"unknown-events":     whole,
		"tiny-deltas":        whole,

		"error-nested":              busy,
		"error-flat":                busy,
		"failed":                    busy,
		"error-then-failed":         busy,
		"rate-limited":              busy,
		"request-too-large":         rejected,
		"context-length-exceeded":   rejected,
		"overloaded":                busy,
		"slow-down":                 busy,
		"server-error-in-text":      interrupted,
		"server-error-flat-in-text": interrupted,

		"eof":           busy,
		"eof-in-text":   interrupted,
		"reset-in-text": interrupted,
		"hang":          {"upstream_timeout", 1, shown{Error: sayTimeout}},
		"hang-in-text":  {"upstream_timeout", 1, shown{Text: firstSentence, Error: sayTimeout}},
	}
	var m models
	d := m.answering(t, "ANSWER_TIMEOUT=5s")
	// The one that pauses all answers has TestAnswers_SpendingRefused.
	kinds := slices.DeleteFunc(standin.StreamKinds(), func(kind string) bool { return kind == "insufficient-quota" })
	together(t, kinds, func(kind string) string { return kind }, func(t *testing.T, kind string) {
		t.Helper()
		m.of(kind).Play(kind, kind, kind)
		got, record := newReader(t, d).watch(t, d, m.question(kind))
		want := want[kind]
		if diff := cmp.Diff(want.shown, got); diff != "" {
			t.Errorf("shown (-want +got):\n%s", diff)
		}
		if n := len(m.of(kind).Responses()); record["outcome"] != want.outcome || n != want.calls {
			t.Errorf("%d calls, the record is %v, want %d and %q", n, record, want.calls, want.outcome)
		}
		if record["citations"] != float64(len(got.Citations)) || record["passages"] == 0.0 || record["passages_ms"] == nil || record["backend"] != "docs" {
			t.Errorf("the record is %v", record)
		}
	})
}

func TestAnswers_SpendingRefused(t *testing.T) {
	t.Parallel()
	d := answering(t, docs(t)...)
	d.openai.Play("insufficient-quota")
	v := newReader(t, d)
	for _, outcome := range []string{"spending_refused", "assistant_unavailable"} {
		got, record := v.watch(t, d, installs)
		if got.Error != sayUnavailable || record["outcome"] != outcome {
			t.Errorf("%+v, the record is %v, want %s", got, record, outcome)
		}
		if severe := record["severity"] == "ERROR"; severe != (outcome == "spending_refused") {
			t.Errorf("the record is %v", record)
		}
	}
	if n := len(d.openai.Responses()); n != 1 {
		t.Errorf("OpenAI was asked %d times", n)
	}
}

// Words of the question are hidden in what is logged of OpenAI's. What an answer is cut
// for must not be among them.
func TestAnswers_CutReasonInQuestion(t *testing.T) {
	t.Parallel()
	d := answering(t, docs(t)...)
	d.openai.Play("max-output-tokens")
	got, _ := newReader(t, d).watch(t, d, installs+" And what does max_output_tokens do?")
	if got.Notice != sayCutAtLimit {
		t.Errorf("%+v", got)
	}
}
