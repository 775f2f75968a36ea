package chatkit_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"docent/internal/chatkit"
)

var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func head(id string, itemType chatkit.ItemType, created time.Time) chatkit.Head {
	return chatkit.Head{ID: id, ThreadID: "thr_1", Created: chatkit.TimeOf(created), Type: itemType}
}

// question returns a user's message of one text.
func question(id, text string) *chatkit.UserMessage {
	return &chatkit.UserMessage{
		Head:        head(id, chatkit.TypeUserMessage, noon),
		Content:     []chatkit.UserContent{{Type: "input_text", Text: text}},
		Attachments: []struct{}{},
	}
}

// answer returns an answer of one text, with the annotations.
func answer(id, text string, annotations ...chatkit.Annotation) *chatkit.AssistantMessage {
	if annotations == nil {
		annotations = []chatkit.Annotation{}
	}
	return &chatkit.AssistantMessage{
		Head:    head(id, chatkit.TypeAssistantMessage, noon),
		Content: []chatkit.OutputText{{Annotations: annotations, Text: text}},
	}
}

func note(id, text string) *chatkit.HiddenContext {
	return &chatkit.HiddenContext{Head: head(id, chatkit.TypeHiddenContext, noon), Content: text}
}

// everyItem returns items that use all fields.
func everyItem() []chatkit.Item {
	group, quote, model := "Pages", "the quote", "a-model"
	user := question("msg_1", "What is ")
	user.Content = append(user.Content, chatkit.UserContent{Type: "input_tag", Text: "@install", Tag: &chatkit.Tag{
		ID: "tag_1", Data: json.RawMessage(`{"path":"/install","n":1}`), Group: &group, Interactive: true,
	}})
	user.QuotedText = &quote
	user.Options = chatkit.InferenceOptions{ToolChoice: &chatkit.ToolChoice{ID: "tool"}, Model: &model}
	good, bad := answer("msg_2", "Both.", chatkit.Annotation{Source: chatkit.URLSource{Title: "A", URL: "https://docs.test/a"}, Index: 5}), answer("msg_4", "")
	good.Feedback, bad.Feedback = chatkit.Positive, chatkit.Negative
	return []chatkit.Item{user, good, question("msg_3", "Emoji \U0001F469\u200d\U0001F680, NUL \x00, <b>"), bad, note("msg_5", "The visitor left.")}
}

func TestItem_JSON(t *testing.T) {
	t.Parallel()
	group, empty := "Pages", ""
	late := question("msg_1", "Hi")
	late.Created = chatkit.TimeOf(time.Date(2026, 11, 24, 13, 0, 0, 120_000_999, time.FixedZone("", 3600)))
	tagged := question("msg_1", "See ")
	tagged.Content = append(tagged.Content, chatkit.UserContent{Type: "input_tag", Text: "@x", Tag: &chatkit.Tag{
		ID: "tag_1", Data: json.RawMessage(`{ "href": "/?a&b" }`), Group: &group, Interactive: true,
	}})
	quoting := question("msg_1", "Why?")
	quoting.QuotedText = &empty
	rated := answer("msg_2", "Yes.")
	rated.Feedback = chatkit.Negative
	const created = `"thread_id":"thr_1","created_at":"2026-11-24T12:00:00Z"`
	for _, tt := range []struct {
		name string
		item chatkit.Item
		want string
	}{
		{
			"a user's text",
			question("msg_1", "How?"),
			`{"id":"msg_1",` + created + `,"type":"user_message","content":[{"type":"input_text","text":"How?"}],"attachments":[],"inference_options":{}}`,
		},
		{
			"a user's text and tag",
			tagged,
			`{"id":"msg_1",` + created + `,"type":"user_message","content":[{"type":"input_text","text":"See "},` +
				`{"type":"input_tag","id":"tag_1","text":"@x","data":{"href":"/?a&b"},"group":"Pages","interactive":true}],"attachments":[],"inference_options":{}}`,
		},
		{
			"an empty quote",
			quoting,
			`{"id":"msg_1",` + created + `,"type":"user_message","content":[{"type":"input_text","text":"Why?"}],"attachments":[],"quoted_text":"","inference_options":{}}`,
		},
		{
			"microseconds, and another zone",
			late,
			`{"id":"msg_1","thread_id":"thr_1","created_at":"2026-11-24T12:00:00.120000Z","type":"user_message",` +
				`"content":[{"type":"input_text","text":"Hi"}],"attachments":[],"inference_options":{}}`,
		},
		{
			"an answer without annotations",
			answer("msg_2", "No."),
			`{"id":"msg_2",` + created + `,"type":"assistant_message","content":[{"annotations":[],"text":"No.","type":"output_text"}]}`,
		},
		{
			"annotations, one without an index",
			answer("msg_2", "Yes.",
				chatkit.Annotation{Source: chatkit.URLSource{Title: "A", URL: "https://docs.test/a#b"}, Index: 4},
				chatkit.Annotation{Source: chatkit.URLSource{Title: "C", URL: "https://docs.test/c"}}),
			`{"id":"msg_2",` + created + `,"type":"assistant_message","content":[{"annotations":[` +
				`{"type":"annotation","source":{"title":"A","type":"url","url":"https://docs.test/a#b"},"index":4},` +
				`{"type":"annotation","source":{"title":"C","type":"url","url":"https://docs.test/c"}}],"text":"Yes.","type":"output_text"}]}`,
		},
		{
			"feedback, which is not sent",
			rated,
			`{"id":"msg_2",` + created + `,"type":"assistant_message","content":[{"annotations":[],"text":"Yes.","type":"output_text"}]}`,
		},
		{
			"a hidden note",
			note("msg_3", "<left> & gone"),
			`{"id":"msg_3",` + created + `,"type":"sdk_hidden_context","content":"<left> & gone"}`,
		},
		{
			"characters of HTML",
			answer("msg_2", "<b>&</b>", chatkit.Annotation{Source: chatkit.URLSource{Title: "<A>", URL: "https://docs.test/?a&b"}}),
			`{"id":"msg_2",` + created + `,"type":"assistant_message","content":[{"annotations":[` +
				`{"type":"annotation","source":{"title":"<A>","type":"url","url":"https://docs.test/?a&b"}}],"text":"<b>&</b>","type":"output_text"}]}`,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			text, err := chatkit.EncodeItems([]chatkit.Item{tt.item})
			if err != nil {
				t.Fatal(err)
			}
			got := strings.TrimPrefix(string(text), `[{"item":`)
			got = strings.TrimSuffix(strings.TrimSuffix(got, `}]`), `,"feedback":"negative"`)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestItems_RoundTrip(t *testing.T) {
	t.Parallel()
	for name, items := range map[string][]chatkit.Item{"none": {}, "all kinds": everyItem()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text, err := chatkit.EncodeItems(items)
			if err != nil {
				t.Fatal(err)
			}
			got, err := chatkit.DecodeItems(text)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(items, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestDecodeItems_Refused(t *testing.T) {
	t.Parallel()
	const user = `{"id":"a","thread_id":"t","created_at":"2026-11-24T12:00:00Z","type":"user_message"`
	for _, tt := range []struct {
		name, text, want string
	}{
		{"no text", ``, "the items are not a list"},
		{"an object", `{"secret":1}`, "the items are not a list"},
		{"half a text", `[{"item":` + user, "the items are not a list"},
		{"no item", `[{}]`, "item 0 is not valid"},
		{"null", `[{"item":null}]`, "item 0 has a type that this version does not know"},
		{"an unknown type", `[{"item":` + user + `}},{"item":{"type":"secret"}}]`, "item 1 has a type that this version does not know"},
		{"a wrong field", `[{"item":` + user + `,"content":"secret"}}]`, "item 0 is not valid"},
		{"a wrong time", `[{"item":{"created_at":"secret","type":"user_message"}}]`, "item 0 is not valid"},
		{"a time before the year 0 in UTC", `[{"item":{"created_at":"0000-01-01T00:00:00+01:00","type":"user_message"}}]`, "item 0 is not valid"},
		{"an unknown content", `[{"item":` + user + `,"content":[{"type":"secret"}]}}]`, "item 0 is not valid"},
		{"a tag whose data is not an object", `[{"item":` + user + `,"content":[{"type":"input_tag","data":"secret"}]}}]`, "item 0 is not valid"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			items, err := chatkit.DecodeItems([]byte(tt.text))
			if err == nil {
				t.Fatalf("%d items, want an error", len(items))
			}
			if diff := cmp.Diff(tt.want, err.Error()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// A tag's data comes from the page and is kept as it is, but for bytes that no store
// takes.
func TestUserContent_InvalidUTF8(t *testing.T) {
	t.Parallel()
	var c chatkit.UserContent
	if err := json.Unmarshal([]byte("{\"type\":\"input_tag\",\"text\":\"\xff\",\"data\":{\"a\":\"\xff\"}}"), &c); err != nil {
		t.Fatal(err)
	}
	want := chatkit.UserContent{Type: "input_tag", Text: "\uFFFD", Tag: &chatkit.Tag{Data: json.RawMessage("{\"a\":\"\uFFFD\"}")}}
	if diff := cmp.Diff(want, c); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestUserContent_TagWithoutData(t *testing.T) {
	t.Parallel()
	var c chatkit.UserContent
	if err := json.Unmarshal([]byte(`{"type":"input_tag","id":"x","text":"@x"}`), &c); err != nil {
		t.Fatal(err)
	}
	want := chatkit.UserContent{Type: "input_tag", Text: "@x", Tag: &chatkit.Tag{ID: "x", Data: json.RawMessage("{}")}}
	if diff := cmp.Diff(want, c); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestMessage_Texts(t *testing.T) {
	t.Parallel()
	items := everyItem()
	user, ok := items[0].(*chatkit.UserMessage)
	if !ok || user.Text() != "What is @install" || user.Quote() != "the quote" {
		t.Errorf("a message with a tag and a quote: %q, %q", user.Text(), user.Quote())
	}
	if q := question("msg_1", "Hi").Quote(); q != "" {
		t.Errorf("the quote of a message without one: %q", q)
	}
	if text := answer("msg_2", "Both.").Text(); text != "Both." {
		t.Errorf("an answer's text: %q", text)
	}
}

// FuzzDecodeItems checks that what decodes encodes to a text that decodes to the
// same.
func FuzzDecodeItems(f *testing.F) {
	text, err := chatkit.EncodeItems(everyItem())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(`null`))
	f.Add([]byte(`[{"item":{"type":"user_message","created_at":"2026-11-24T13:00:00.1234567+01:00","content":[{"type":"input_tag","data":{ "a" : "\u2028<" }}]}}]`))
	f.Add([]byte("[{\"item\":{\"type\":\"user_message\",\"content\":[{\"type\":\"input_tag\",\"data\":{\"\xff\":1}}],\"attachments\":[{}]}}]"))
	f.Add([]byte(`[{"item":{"type":"assistant_message","created_at":"0000-01-01T00:00:00+23:59","content":[{"annotations":[{"index":-1}]}]},"feedback":"x"}]`))
	// Encoding drops the spaces in a tag's data.
	compact := cmp.Transformer("compact", func(text json.RawMessage) string {
		var b bytes.Buffer
		if err := json.Compact(&b, text); err != nil {
			return string(text)
		}
		return b.String()
	})
	f.Fuzz(func(t *testing.T, text []byte) {
		items, err := chatkit.DecodeItems(text)
		if err != nil {
			return
		}
		encoded, err := chatkit.EncodeItems(items)
		if err != nil {
			t.Fatalf("encoding what was decoded: %v", err)
		}
		again, err := chatkit.DecodeItems(encoded)
		if err != nil {
			t.Fatalf("decoding %q: %v", encoded, err)
		}
		if diff := cmp.Diff(items, again, compact); diff != "" {
			t.Fatalf("(-first +second):\n%s", diff)
		}
		if !bytes.Equal(encoded, bytes.ToValidUTF8(encoded, nil)) {
			t.Fatalf("%q is not valid UTF-8", encoded)
		}
	})
}
