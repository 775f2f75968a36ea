//go:build unix

package conformance_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/google/go-cmp/cmp"
)

// question is a request and Docent's answers to the earlier ones of its
// conversation, by name.
type question struct {
	request

	earlier map[string]answer
}

// difference is what Docent does differently on purpose. docs/decisions.md has the
// same list.
type difference struct {
	what, why string
	// rewrite returns the answer that Docent gives in place of the reference's: the
	// same one where the difference does not occur.
	rewrite func(q question, a answer) answer
}

var differences = []difference{
	{
		"An unknown thread is 404 `thread_not_found`, in a stream an `error`",
		"The reference raises an exception, which a web framework answers with 500. ChatKit sends a message five more times after a 5xx.",
		refuses("thread_not_found", 0),
	},
	{
		"Feedback on unknown items is 404 `item_not_found`",
		"The reference does not check the items.",
		refuses("item_not_found", 0),
	},
	{
		"An invalid request is 400 `bad_request`, in a stream an `error`, and the message names the field",
		"The reference raises an exception.",
		refuses("bad_request", 500),
	},
	{
		"Messages, quotes, titles, limits and feedback have bounds",
		"A model is paid by the word. The reference has no bounds.",
		refuses("bad_request", 200),
	},
	{
		"A body has at most 64 kB",
		"The reference has no bound.",
		refuses("request_too_large", 0),
	},
	{
		"Attachments, dictation, actions, forms and tools in the page are 400 `not_supported`, in a stream an `error`",
		"Docent does not offer them. The reference raises an exception where a site has not implemented them.",
		refuses("not_supported", 0),
	},
	{
		"A closed thread takes no more messages",
		"The reference leaves that to the client.",
		refuses("thread_closed", 0),
	},
	{
		"A retry after an unknown item or an answer repeats the last answer",
		"A client whose message was lost on the way does not know its ID. The reference answers nothing, or raises an exception.",
		func(q question, a answer) answer {
			if q.like == "" || !strings.Contains(q.body, "retry_after_item") {
				return a
			}
			return renumbered(q.earlier[q.like])
		},
	},
	{
		"Attachments and inference options may be missing, and text that is not valid Unicode is repaired",
		"They are empty in most requests, and a browser can cut an emoji in half. The reference raises an exception.",
		func(q question, a answer) answer {
			if q.like == "" || a.Status != 500 || strings.Contains(q.body, "retry_after_item") {
				return a
			}
			return renumbered(q.earlier[q.like])
		},
	},
	{
		"An answer that an error cut short is kept, and a retry keeps the old answer until it has text",
		"The visitor has read both. The reference keeps neither.",
		keep,
	},
	{
		"An answer without text ends with an `error` that can be retried",
		"With the reference, the visitor sees nothing.",
		func(q question, a answer) answer {
			said := func(part string) bool {
				return strings.Contains(part, `"type":"assistant_message"`) || strings.Contains(part, `"type":"error"`)
			}
			if a.streams() && q.leave == "" && !slices.ContainsFunc(a.Parts, said) {
				a.Parts = append(slices.Clone(a.Parts), errorEvent("The assistant did not answer. Please try again.", true))
			}
			return a
		},
	},
	{
		"A refusal is an answer",
		"It is what the model says. The reference shows it, and then an error.",
		completes("refusal"),
	},
	{
		"An answer whose last event has no empty line after it is complete",
		"Some gateways end a stream so. The reference drops the event, and sends an error.",
		completes("no-last-blank-line"),
	},
	{
		"An answer that OpenAI ends early is kept, and a `notice` says so",
		"The visitor can ask for the rest. The reference ends it with an error.",
		func(q question, a answer) answer {
			if !strings.Contains(q.ends, `"type":"notice"`) || !a.fails() {
				return a
			}
			return a.saying(q.said, q.ends)
		},
	},
	{
		"A failure of OpenAI's is an `error` that says what the visitor can do, after all of the text that had come",
		"ChatKit's sentence for `stream.error` is the same for all failures. The reference can lose the text that came shortly before.",
		func(q question, a answer) answer {
			if !strings.Contains(q.ends, `"type":"error"`) || !a.fails() {
				return a
			}
			return a.saying(q.said, q.ends)
		},
	},
	{
		"Reasoning is not shown",
		"It is about the prompt, which visitors do not see.",
		func(_ question, a answer) answer { return a.without("<workflow ") },
	},
	{
		"What a model says on the way to its answer is not shown",
		"Docent says itself what it does.",
		func(_ question, a answer) answer {
			isAnswer := func(part string) bool {
				return strings.Contains(part, `"type":"thread.item.done"`) && strings.Contains(part, `"type":"assistant_message"`)
			}
			first := slices.IndexFunc(a.Parts, isAnswer)
			if first < 0 || !slices.ContainsFunc(a.Parts[first+1:], isAnswer) {
				return a
			}
			return a.without("<item 2 ").replace("<item 3 ", "<item 2 ")
		},
	},
	{
		"An answer is one part: more parts are paragraphs of it",
		"A citation's index counts the text of its part.",
		func(_ question, a answer) answer {
			if _, more := a.find(`"content_index":1`); more < 0 {
				return a
			}
			var said []string
			for _, part := range a.Parts {
				if strings.Contains(part, `"type":"assistant_message.content_part.added"`) && said != nil {
					said = append(said, `\n\n`)
				}
				if m := deltaOf.FindStringSubmatch(part); m != nil {
					said = append(said, m[1])
				}
			}
			return a.saying(said, "")
		},
	},
	{
		"Text that comes without deltas is sent as one",
		"Some gateways send it so. The reference sends nothing until the part is done.",
		func(_ question, a answer) answer {
			part, _ := a.find(`"type":"assistant_message.content_part.done"`)
			if _, at := a.find(`"delta":`); at >= 0 || part == "" {
				return a
			}
			return a.saying([]string{textOf.FindStringSubmatch(part)[1]}, "")
		},
	},
	{
		"All events of an answer name its item",
		"Some gateways give each event another ID, which the reference passes on.",
		func(_ question, a answer) answer {
			a.Parts = slices.Clone(a.Parts)
			for i, part := range a.Parts {
				a.Parts[i] = strayID.ReplaceAllLiteralString(part, `"item_id":"<item 2 of `+openAIID+`>"`)
			}
			return a
		},
	},
	{
		"Citation markers in the text become sources",
		"Docent tells the model to write them. The reference, which knows only OpenAI's own annotations, shows them as text.",
		cite,
	},
	{
		"OpenAI's own annotations are not sources",
		"Nothing that Docent asks for makes any, and they do not name passages.",
		func(_ question, a answer) answer {
			if _, at := a.find("https://annotated.example.com/"); at < 0 {
				return a
			}
			a = a.without("annotation_added")
			for i, part := range a.Parts {
				a.Parts[i] = sources.ReplaceAllLiteralString(part, `"annotations":[],"text"`)
			}
			return a
		},
	},
	{
		"A fault of the server is an `error` with a sentence of Docent's",
		"The reference sends `stream.error`, for which ChatKit has a sentence of its own.",
		replaces(streamError, errorEvent("Something went wrong on our side. Please try again.", true)),
	},
	{
		"`thread.updated` with the title comes before the answer",
		"The visitor sees the title at once. The reference sends it after the answer's next event.",
		titleFirst,
	},
	{
		"`content_part.done` has the sources",
		"It is the whole part. In the reference, only the item has them.",
		sourcesInPart,
	},
	{
		"A source at index 0 has no index",
		"ChatKit shows a source in the text only at an index above 0.",
		replaces(`,"index":0}`, `}`),
	},
	{
		"A page has at most 100 entries",
		"ChatKit asks for 9,999. The reference has no bound.",
		shorten,
	},
	{
		"Hidden notes do not count as entries of a page",
		"The reference can send an empty page with `has_more`, after which ChatKit asks again without end.",
		fill,
	},
	{
		"A title has no spaces around it",
		"They are invisible.",
		replaces(`"title":" Another title\n"`, `"title":"Another title"`),
	},
	{
		"The IDs of answers are Docent's own",
		"The reference takes over OpenAI's.",
		replaces(" of "+openAIID+">", " of "+longID+">"),
	},
	{
		"IDs have 130 random bits",
		"With the reference's 32 bits, two of 80,000 threads share an ID more often than not.",
		replaces(" of "+shortID+">", " of "+longID+">"),
	},
	{
		"Times are in UTC and say so",
		"The reference sends local time without a zone, which a browser takes for its own.",
		replaces(localTime, utcTime),
	},
	{
		"U+2028 and U+2029 are escaped",
		"It is the same JSON, and safe where they count as line ends.",
		func(_ question, a answer) answer {
			return a.replace("\u2028", `\u2028`).replace("\u2029", `\u2029`)
		},
	},
	{
		"A JSON body ends with a line feed",
		"So do Docent's other answers.",
		func(_ question, a answer) answer {
			if a.Type == "application/json" && !strings.HasSuffix(a.Parts[0], "\n") {
				a.Parts = []string{a.Parts[0] + "\n"}
			}
			return a
		},
	},
}

// replace returns the answer with a text of its parts replaced.
func (a answer) replace(from, to string) answer {
	a.Parts = slices.Clone(a.Parts)
	for i, part := range a.Parts {
		a.Parts[i] = strings.ReplaceAll(part, from, to)
	}
	return a
}

// streamError is the reference's only error.
const streamError = `{"type":"error","code":"stream.error","allow_retry":true}`

// fails reports whether the answer ends with the reference's error.
func (a answer) fails() bool { return len(a.Parts) > 0 && a.Parts[len(a.Parts)-1] == streamError }

// without returns the answer without the parts that contain a text.
func (a answer) without(text string) answer {
	a.Parts = slices.DeleteFunc(slices.Clone(a.Parts), func(part string) bool { return strings.Contains(part, text) })
	return a
}

// saying returns the stream of a first message with another answer: its deltas, and
// the last event. After an error, or if the last event is "", the answer is complete.
func (a answer) saying(deltas []string, last string) answer {
	a = a.without("<item 2 ").without("<workflow ").without(streamError)
	item := func(content string) string {
		return `"item":{"id":"<item 2 of ` + openAIID + `>","thread_id":"<thread 1 of ` + shortID + `>",` + localTime +
			`,"type":"assistant_message","content":[` + content + `]}}`
	}
	update := func(kind, rest string) {
		a.Parts = append(a.Parts, `{"type":"thread.item.updated","item_id":"<item 2 of `+openAIID+`>",`+
			`"update":{"type":"assistant_message.content_part.`+kind+`","content_index":0,`+rest+`}}`)
	}
	content := func(text string) string { return `{"annotations":[],"text":"` + text + `","type":"output_text"}` }
	if len(deltas) > 0 {
		a.Parts = append(a.Parts, `{"type":"thread.item.added",`+item(""))
		update("added", `"content":`+content(""))
	}
	for _, delta := range deltas {
		update("text_delta", `"delta":"`+delta+`"`)
	}
	if !strings.Contains(last, `"type":"error"`) {
		whole := content(strings.Join(deltas, ""))
		update("done", `"content":`+whole)
		a.Parts = append(a.Parts, `{"type":"thread.item.done",`+item(whole))
	}
	if last != "" {
		a.Parts = append(a.Parts, last)
	}
	return a
}

// completes is a difference in a kind of stream that the reference takes for a
// failure.
func completes(kind string) func(question, answer) answer {
	return func(q question, a answer) answer {
		if !strings.Contains(q.body, "stream: "+kind) || !a.fails() {
			return a
		}
		return a.saying(q.said, "")
	}
}

// cite takes the citation markers out of a stream, and adds the sources that are known.
func cite(_ question, a answer) answer {
	if _, at := a.find(markerBegin); at < 0 || !a.streams() {
		return a
	}
	var (
		parts  []string
		cited  []string
		length int
	)
	for _, part := range a.Parts {
		m := deltaOf.FindStringSubmatch(part)
		if m == nil {
			part = marker.ReplaceAllLiteralString(part, "")
			if strings.Contains(part, `"type":"thread.item.done"`) && len(cited) > 0 {
				part = strings.Replace(part, `"annotations":[]`, `"annotations":[`+strings.Join(cited, ",")+`]`, 1)
			}
			parts = append(parts, part)
			continue
		}
		texts, markers := marker.Split(m[1], -1), marker.FindAllStringSubmatch(m[1], -1)
		for i, text := range texts {
			if i > 0 && citable[markers[i-1][1]] != "" {
				source := fmt.Sprintf(`{"type":"annotation","source":%s,"index":%d}`, citable[markers[i-1][1]], length)
				parts = append(parts, strings.Replace(part, `text_delta","content_index":0,"delta":"`+m[1]+`"`,
					fmt.Sprintf(`annotation_added","content_index":0,"annotation_index":%d,"annotation":%s`, len(cited), source), 1))
				cited = append(cited, source)
			}
			if text != "" {
				parts = append(parts, strings.Replace(part, `"delta":"`+m[1]+`"`, `"delta":"`+text+`"`, 1))
				length += len(utf16.Encode([]rune(text)))
			}
		}
	}
	a.Parts = parts
	return a
}

// replaces is a difference in one text.
func replaces(from, to string) func(question, answer) answer {
	return func(_ question, a answer) answer { return a.replace(from, to) }
}

func errorEvent(message string, retry bool) string {
	return fmt.Sprintf(`{"type":"error","code":"custom","message":%s,"allow_retry":%t}`, plain(message), retry)
}

// plain returns a value as JSON without HTML escapes.
func plain(v any) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(err)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// refuses is a difference in requests that Docent refuses with a code. The reference
// answers them with the status, unless that is 0.
func refuses(code string, status int) func(question, answer) answer {
	return func(q question, a answer) answer {
		r := q.refused
		if r == nil || r.code != code || status != 0 && a.Status != status {
			return a
		}
		if q.streams() && !q.widget {
			return answer{Status: 200, Type: "text/event-stream", Parts: []string{errorEvent(r.message, r.retry)}}
		}
		return answer{Status: r.status, Type: "application/json", Parts: []string{fmt.Sprintf(
			`{"error":%s,"message":%s,"code":"%s","request_id":"<request>"}`, plain(r.message), plain(r.message), r.code,
		)}}
	}
}

var (
	itemNumber = regexp.MustCompile(`<item \d+ of`)
	itemOf     = regexp.MustCompile(`"item":(\{.*\})\}$`)
	deltaOf    = regexp.MustCompile(`"delta":"((?:[^"\\]|\\.)*)"`)
	sources    = regexp.MustCompile(`"annotations":\[.*\],"text"`)
	textOf     = regexp.MustCompile(`"text":"((?:[^"\\]|\\.)*)"`)
	strayID    = regexp.MustCompile(`"item_id":"msg_[0-9a-f]{50}"`)
)

// renumbered returns a stream as it is when it comes again: its items have the next
// numbers.
func renumbered(a answer) answer {
	items := map[string]bool{}
	for _, name := range itemNumber.FindAllString(strings.Join(a.Parts, ""), -1) {
		items[name] = true
	}
	a.Parts = slices.Clone(a.Parts)
	for i, part := range a.Parts {
		a.Parts[i] = itemNumber.ReplaceAllStringFunc(part, func(name string) string {
			var n int
			if _, err := fmt.Sscanf(name, "<item %d of", &n); err != nil {
				panic(err)
			}
			return fmt.Sprintf("<item %d of", n+len(items))
		})
	}
	return a
}

// find returns the first part that contains a text, and where it is: -1 if there is
// none.
func (a answer) find(text string) (part string, at int) {
	at = slices.IndexFunc(a.Parts, func(part string) bool { return strings.Contains(part, text) })
	if at < 0 {
		return "", at
	}
	return a.Parts[at], at
}

// keep adds an earlier answer to a thread: the item that was done, or else what was
// said of it.
func keep(q question, a answer) answer {
	if q.keeps == "" {
		return a
	}
	stream := q.earlier[q.keeps]
	added, _ := stream.find(`"type":"thread.item.added"`)
	item := itemOf.FindStringSubmatch(added)[1]
	var text string
	for _, part := range stream.Parts {
		if m := deltaOf.FindStringSubmatch(part); m != nil {
			text += m[1]
		}
	}
	item = strings.Replace(item, `"content":[]`, `"content":[{"annotations":[],"text":"`+text+`","type":"output_text"}]`, 1)
	return a.replace(`}],"has_more"`, `},`+item+`],"has_more"`)
}

// show has a thread show its answer as an earlier stream did.
func show(q question, a answer) answer {
	var thread struct {
		Items struct{ Data []json.RawMessage }
	}
	if q.shows == "" || json.Unmarshal([]byte(a.Parts[0]), &thread) != nil {
		return a
	}
	for _, item := range thread.Items.Data[1:] {
		a = a.replace(","+string(item), "")
	}
	done, _ := q.earlier[q.shows].find(`"content":[{"annotations":`)
	return a.replace(`}],"has_more"`, `},`+itemOf.FindStringSubmatch(done)[1]+`],"has_more"`)
}

// titleFirst moves the title before the answer.
func titleFirst(_ question, a answer) answer {
	title, from := a.find(`"type":"thread.updated"`)
	_, to := a.find(`"type":"stream_options"`)
	if from < 0 || to < 0 || strings.Contains(title, `"status":{"type":"closed"`) {
		return a
	}
	a.Parts = slices.Insert(slices.Delete(slices.Clone(a.Parts), from, from+1), to+1, title)
	return a
}

// sourcesInPart adds an answer's sources to the event that ends its text.
func sourcesInPart(_ question, a answer) answer {
	part, at := a.find(`"type":"assistant_message.content_part.done"`)
	if at < 0 || at == len(a.Parts)-1 {
		return a
	}
	a.Parts = slices.Clone(a.Parts)
	a.Parts[at] = sources.ReplaceAllLiteralString(part, sources.FindString(a.Parts[at+1]))
	return a
}

// list is a page as JSON.
type list struct {
	Data    []json.RawMessage `json:"data"`
	HasMore bool              `json:"has_more"`
	After   string            `json:"after,omitempty"`
}

func (l list) of(a answer) answer {
	a.Parts = []string{plain(l)}
	return a
}

// shorten cuts a page at 100 entries.
func shorten(_ question, a answer) answer {
	var l list
	if a.streams() || json.Unmarshal([]byte(a.Parts[0]), &l) != nil || len(l.Data) <= 100 {
		return a
	}
	var last object
	if err := json.Unmarshal(l.Data[99], &last); err != nil {
		return a
	}
	return list{l.Data[:100], true, last.ID}.of(a)
}

// fill puts the newest item that is not hidden into a page that is empty although
// there are more.
func fill(q question, a answer) answer {
	var l, all list
	if a.streams() || json.Unmarshal([]byte(a.Parts[0]), &l) != nil || len(l.Data) > 0 || !l.HasMore {
		return a
	}
	if err := json.Unmarshal([]byte(q.earlier["items"].Parts[0]), &all); err != nil {
		return a
	}
	newest := all.Data[len(all.Data)-1]
	var last object
	if err := json.Unmarshal(newest, &last); err != nil {
		return a
	}
	return list{[]json.RawMessage{newest}, true, last.ID}.of(a)
}

// TestDecisions holds the table in docs/decisions.md to the list.
func TestDecisions(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../docs/decisions.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(text), "\n| Docent | why |\n|---|---|\n")
	table, _, _ = strings.Cut(table, "\n\n")
	var want []string
	for _, d := range differences {
		want = append(want, fmt.Sprintf("| %s | %s |", d.what, d.why))
	}
	if diff := cmp.Diff(want, strings.Split(table, "\n")); diff != "" {
		t.Errorf("rows (-list +docs/decisions.md):\n%s", diff)
	}
}
