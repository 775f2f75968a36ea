//go:build unix

package conformance_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"

	"docent/internal/standin"
)

const apiKey = "sk-test"

// stream matches how a question names the kind of stream that OpenAI is to answer it
// with: one of [standin.StreamKinds], or usual.
var stream = regexp.MustCompile(`stream: ([a-z-]+)`)

// openAI starts a stand-in for OpenAI, which answers a question with its own words. It
// returns the base URL.
func openAI(t *testing.T) string {
	t.Helper()
	// A stand-in plays streams in the order in which requests arrive, whatever they ask.
	// So each kind has one of its own.
	kinds := map[string]*standin.OpenAI{}
	for _, kind := range append(standin.StreamKinds(), "usual", "") {
		o := standin.NewOpenAI(apiKey, "")
		o.SetPace(0)
		o.Repeat()
		kinds[kind] = o
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // The server has gone.
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		kind := ""
		if named := stream.FindAllSubmatch(body, -1); named != nil {
			kind = string(named[len(named)-1][1]) // The last question is the one to answer.
		}
		if slices.Contains(standin.StreamKinds(), kind) {
			kinds[kind].Play(kind)
		}
		kinds[kind].ServeHTTP(citing{w}, r)
	}))
	t.Cleanup(srv.Close)
	return srv.URL + "/v1"
}

// markerBegin is the first character of a citation marker.
const markerBegin = "\uE200"

var (
	marker = regexp.MustCompile(`\x{E200}\w+\x{E202}([^\x{E201}]*)\x{E201}`)
	// citable are the blocks of testindex.Small that are found for the questions below,
	// as sources.
	citable = map[string]string{
		"block1": `{"title":"Install – On Linux","type":"url","url":"https://docs.example.com/install#linux"}`,
		"block2": `{"title":"Install – On Windows","type":"url","url":"https://docs.example.com/install#windows"}`,
	}
)

// citing turns block names in brackets into citation markers, which no question may
// have.
type citing struct{ http.ResponseWriter }

var brackets = regexp.MustCompile(`\[(block[0-9])\]`)

// Write implements [io.Writer].
func (c citing) Write(event []byte) (int, error) {
	_, err := c.ResponseWriter.Write(brackets.ReplaceAll(event, []byte(markerBegin+"cite\uE202$1\uE201")))
	return len(event), err
}

// Unwrap is for [http.ResponseController].
func (c citing) Unwrap() http.ResponseWriter { return c.ResponseWriter }

// The errors of Docent's where OpenAI fails.
var (
	busy        = errorEvent("The assistant is busy. Please try again in a moment.", true)
	rejected    = errorEvent("The assistant could not answer this question.", false)
	unavailable = errorEvent("The assistant is not available right now. Please try again later.", false)
	interrupted = errorEvent("The answer was interrupted. Please try again.", true)
	noText      = errorEvent("The assistant did not answer. Please try again.", true)
)

func notice(message string) string {
	return `{"type":"notice","level":"info","message":` + plain(message) + `}`
}

// endings are what Docent sends last, by the kind of stream, where the reference sends
// an error of its own.
var endings = map[string]string{
	"content-filter":            notice("The answer was ended before it was complete."),
	"max-output-tokens":         notice("The answer was cut off because it became too long. You can ask for the rest, or about less at a time."),
	"max-output-tokens-no-text": noText,
	"error-nested":              busy,
	"error-flat":                busy,
	"failed":                    busy,
	"error-then-failed":         busy,
	"rate-limited":              busy,
	"overloaded":                busy,
	"slow-down":                 busy,
	"eof":                       busy,
	"request-too-large":         rejected,
	"context-length-exceeded":   rejected,
	"insufficient-quota":        unavailable,
	"server-error-in-text":      interrupted,
	"server-error-flat-in-text": interrupted,
	"eof-in-text":               interrupted,
	"reset-in-text":             interrupted,
}

// others are the kinds of which Docent keeps another answer than the reference does.
var others = []string{"refusal", "no-last-blank-line", "reasoning", "commentary", "content-parts", "annotations", "filecite-markers"}

// answeredWith is a conversation about a question that OpenAI answers with a kind of
// stream.
func answeredWith(kind string) conversation {
	text := "How do I install it on Linux? stream: " + kind
	half := strings.SplitAfter(text[:len(text)/2], " ") // As the stand-in cuts it.
	first, thread := request{name: "message", body: create(text), ends: endings[kind]}, request{name: "thread", body: get}
	switch {
	case kind == "hang":
		// Without any text, the reference does not send the title of a first message.
		first.body, first.leave = add(text), "Searching"
		return conversation{{name: "first message", body: create("Hello? stream: usual")}, first, thread}
	case kind == "hang-in-text":
		first.leave = quote(half[len(half)-1])
		thread.until = strings.Join(half, "")
	case kind == "refusal":
		first.said, first.joined = []string{"I'm sorry, but I can't help with that request."}, true
	case kind == "no-last-blank-line":
		first.said = strings.SplitAfter(text, " ")
	case endings[kind] == interrupted:
		first.said, thread.keeps = half, "message"
	case strings.Contains(endings[kind], "notice"):
		first.said = half
	}
	switch {
	case slices.Contains(others, kind):
		thread.shows = "message"
		return conversation{first, thread}
	case first.said != nil, endings[kind] == unavailable:
		return conversation{first, thread} // The reference may have lost an item, or Docent takes a pause.
	default:
		return append(
			conversation{first, thread},
			request{name: "next message", body: add("And on Windows? stream: usual")},
			request{name: "thread with the next answer", body: get},
		)
	}
}

// withMarkers is a conversation about a question that OpenAI answers with citations.
var withMarkers = conversation{
	{name: "message", body: create("[block1] How do I install it on Linux?[block1] 😀 Or [block2] elsewhere?[block1][block9] stream: usual")},
	{name: "thread", body: get, shows: "message"},
	{name: "retry", body: retry("<item 1>")},
	{name: "thread after the retry", body: get, shows: "retry"},
}
