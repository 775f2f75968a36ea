package chatkit_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"docent/internal/chatkit"

	"github.com/google/go-cmp/cmp"
)

// said returns the parameters of a message.
func said(text string) string {
	return `{"input":{"content":[{"type":"input_text","text":"` + text + `"}],"quoted_text":"","attachments":[],"inference_options":{}},"thread_id":"t"}`
}

func TestParse(t *testing.T) {
	t.Parallel()
	quote, model := "", "m"
	tests := []struct {
		name, body string
		want       chatkit.Request
	}{
		{"create", `{"type":"threads.create","params":` + said("hello") + `}`, chatkit.Request{
			Type: chatkit.ThreadsCreate, Input: &chatkit.Input{
				Content: []chatkit.UserContent{{Type: "input_text", Text: "hello"}}, QuotedText: &quote,
			},
		}},
		{"message with a tag and a model", `{"type":"threads.add_user_message","params":{"thread_id":"t","input":{"content":[` +
			`{"type":"input_tag","id":"i","text":"@x","data":{"a":1},"interactive":true},{"type":"input_text","text":"y"}],` +
			`"attachments":[],"quoted_text":null,"inference_options":{"model":"m","tool_choice":{"id":"q"}}}}}`, chatkit.Request{
			Type: chatkit.ThreadsAddUserMessage, ThreadID: "t", Input: &chatkit.Input{
				Content: []chatkit.UserContent{
					{Type: "input_tag", Text: "@x", Tag: &chatkit.Tag{ID: "i", Data: []byte(`{"a":1}`), Interactive: true}},
					{Type: "input_text", Text: "y"},
				},
				Options: chatkit.InferenceOptions{Model: &model, ToolChoice: &chatkit.ToolChoice{ID: "q"}},
			},
		}},
		{
			"retry", `{"type":"threads.retry_after_item","params":{"thread_id":"t","item_id":"i"}}`,
			chatkit.Request{Type: chatkit.ThreadsRetryAfterItem, ThreadID: "t", ItemID: "i"},
		},
		{
			"get", `{"type":"threads.get_by_id","params":{"thread_id":"t"}}`,
			chatkit.Request{Type: chatkit.ThreadsGetByID, ThreadID: "t"},
		},
		{
			"list as ChatKit asks", `{"type":"threads.list","params":{"limit":9999,"order":"desc"}}`,
			chatkit.Request{Type: chatkit.ThreadsList, Cursor: chatkit.Cursor{Limit: 100}},
		},
		{
			"list of nothing", `{"type":"threads.list","params":{"limit":null,"order":null,"after":null}}`,
			chatkit.Request{Type: chatkit.ThreadsList, Cursor: chatkit.Cursor{Limit: 20}},
		},
		{
			"list without parameters", `{"type":"threads.list"}`,
			chatkit.Request{Type: chatkit.ThreadsList, Cursor: chatkit.Cursor{Limit: 20}},
		},
		{
			"items", `{"type":"items.list","params":{"thread_id":"t","limit":3,"order":"asc","after":"a"}}`,
			chatkit.Request{Type: chatkit.ItemsList, ThreadID: "t", Cursor: chatkit.Cursor{Limit: 3, Ascending: true, After: "a"}},
		},
		{
			"rename", `{"type":"threads.update","params":{"thread_id":"t","title":" New "}}`,
			chatkit.Request{Type: chatkit.ThreadsUpdate, ThreadID: "t", Title: "New"},
		},
		{
			"delete", `{"type":"threads.delete","params":{"thread_id":"t"}}`,
			chatkit.Request{Type: chatkit.ThreadsDelete, ThreadID: "t"},
		},
		{
			"feedback, with metadata and unknown fields", `{"type":"items.feedback","metadata":{"x":1},"more":2,"params":{"thread_id":"t","item_ids":["a","b"],"kind":"negative","x":[]}}`,
			chatkit.Request{Type: chatkit.ItemsFeedback, ThreadID: "t", ItemIDs: []string{"a", "b"}, Kind: chatkit.Negative},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := chatkit.Parse([]byte(tt.body))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestParse_BadRequest(t *testing.T) {
	t.Parallel()
	create := func(params string) string { return `{"type":"threads.create","params":` + params + `}` }
	input := func(input string) string { return create(`{"input":` + input + `}`) }
	tests := []struct{ name, body, want string }{
		{"nothing", "", "The request is not JSON."},
		{"text", "hello", "The request is not JSON."},
		{"two objects", "{}{}", "The request is not JSON."},
		{"list", "[]", "The request has the wrong type."},
		{"deep nesting", strings.Repeat("[", 60_000), "The request is not JSON."},
		{"deep nesting in the parameters", create(strings.Repeat("[", 30_000) + strings.Repeat("]", 30_000)), "The request is not JSON."},
		{"no type", "{}", "The request is not valid: type is missing."},
		{"type of another protocol", `{"type":"threads.stop","params":{}}`, "The request is not valid: type is not one of ChatKit's."},
		{"type as a number", `{"type":1}`, "The request is not valid: type has the wrong type."},
		{"parameters as a text", create(`"x"`), "The request is not valid: params has the wrong type."},
		{"no parameters", `{"type":"threads.create"}`, "The request is not valid: params.input is missing."},
		{"no thread", `{"type":"threads.get_by_id","params":{}}`, "The request is not valid: params.thread_id is missing."},
		{"thread as null", `{"type":"threads.delete","params":{"thread_id":null}}`, "The request is not valid: params.thread_id is missing."},
		{"thread as a number", `{"type":"threads.get_by_id","params":{"thread_id":5}}`, "The request is not valid: params.thread_id has the wrong type."},
		{"no item", `{"type":"threads.retry_after_item","params":{"thread_id":"t"}}`, "The request is not valid: params.item_id is missing."},
		{"input as a list", input(`[]`), "The request is not valid: params.input has the wrong type."},
		{"content as a text", input(`{"content":"x"}`), "The request is not valid: params.input.content has the wrong type."},
		{"part as a text", input(`{"content":["x"]}`), "The request is not valid: params.input.content has the wrong type."},
		{"text as a number", input(`{"content":[{"type":"input_text","text":1}]}`), "The request is not valid: params.input.content.text has the wrong type."},
		{"unknown part", input(`{"content":[{"type":"input_image","text":"x"}]}`), "The request is not valid: params.input.content has a part that is neither input_text nor input_tag."},
		{"tag without an object", input(`{"content":[{"type":"input_tag","text":"x","data":[]}]}`), "The request is not valid: params.input.content has an input_tag whose data is not an object."},
		{"attachments as a text", input(`{"content":[],"attachments":"x"}`), "The request is not valid: params.input.attachments has the wrong type."},
		{"quote as a number", input(`{"content":[],"quoted_text":1}`), "The request is not valid: params.input.quoted_text has the wrong type."},
		{"options as a text", input(`{"content":[],"inference_options":"x"}`), "The request is not valid: params.input.inference_options has the wrong type."},
		{"no content", input(`{}`), "The request is not valid: params.input.content has no text."},
		{"blank", input(`{"content":[{"type":"input_text","text":" \n\t"}]}`), "The request is not valid: params.input.content has no text."},
		{"4,001 units", create(said(strings.Repeat("a", 4001))), "The request is not valid: params.input.content has 4001 characters, more than 4000."},
		{"4,002 units in pairs", create(said(strings.Repeat("😀", 2001))), "The request is not valid: params.input.content has 4002 characters, more than 4000."},
		{"long quote", input(`{"content":[{"type":"input_text","text":"x"}],"quoted_text":"` + strings.Repeat("q", 2001) + `"}`), "The request is not valid: params.input.quoted_text has more than 2000 characters."},
		{"blank title", `{"type":"threads.update","params":{"thread_id":"t","title":" "}}`, "The request is not valid: params.title must have 1 to 200 characters."},
		{"long title", `{"type":"threads.update","params":{"thread_id":"t","title":"` + strings.Repeat("x", 201) + `"}}`, "The request is not valid: params.title must have 1 to 200 characters."},
		{"negative limit", `{"type":"threads.list","params":{"limit":-1}}`, "The request is not valid: params.limit must not be negative."},
		{"half a limit", `{"type":"threads.list","params":{"limit":1.5}}`, "The request is not valid: params.limit has the wrong type."},
		{"endless limit", `{"type":"threads.list","params":{"limit":1e400}}`, "The request is not valid: params.limit has the wrong type."},
		{"unknown order", `{"type":"items.list","params":{"thread_id":"t","order":"random"}}`, "The request is not valid: params.order must be asc or desc."},
		{"no items", `{"type":"items.feedback","params":{"thread_id":"t","item_ids":[],"kind":"positive"}}`, "The request is not valid: params.item_ids is missing or empty."},
		{"21 items", `{"type":"items.feedback","params":{"thread_id":"t","item_ids":["a"` + strings.Repeat(`,"a"`, 20) + `],"kind":"positive"}}`, "The request is not valid: params.item_ids has more than 20 items."},
		{"unknown feedback", `{"type":"items.feedback","params":{"thread_id":"t","item_ids":["a"],"kind":"meh"}}`, "The request is not valid: params.kind must be positive or negative."},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := chatkit.Parse([]byte(tt.body))
			if diff := cmp.Diff(tt.want, fmt.Sprint(err)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestParse_Accepted has texts that look wrong and are not.
func TestParse_Accepted(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, text, want string }{
		{"4,000 units", strings.Repeat("a", 4000), strings.Repeat("a", 4000)},
		{"4,000 units in pairs", strings.Repeat("😀", 2000), strings.Repeat("😀", 2000)},
		{"lone surrogates", `\ud800 x \udc00`, "\ufffd x \ufffd"},
		{"NUL", `a\u0000b`, "a\x00b"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r, err := chatkit.Parse([]byte(`{"type":"threads.create","params":` + said(tt.text) + `}`))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, r.Input.Content[0].Text); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestParse_NotSupported(t *testing.T) {
	t.Parallel()
	streams := map[string]bool{
		`{"type":"threads.add_client_tool_output"}`: true,
		`{"type":"threads.add_structured_input"}`:   true,
		`{"type":"threads.custom_action"}`:          true,
		`{"type":"threads.sync_custom_action"}`:     false,
		`{"type":"attachments.create"}`:             false,
		`{"type":"attachments.delete"}`:             false,
		`{"type":"input.transcribe"}`:               false,
		`{"type":"threads.create","params":{"input":{"content":[{"type":"input_text","text":"x"}],"attachments":["a"]}}}`: true,
	}
	for body, stream := range streams {
		r, err := chatkit.Parse([]byte(body))
		if !errors.Is(err, chatkit.ErrNotSupported) || r.Type.Streams() != stream {
			t.Errorf("%s: %v, streams: %t", body, err, r.Type.Streams())
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"type":"threads.create","params":` + said("hello") + `}`))
	f.Add([]byte(`{"type":"threads.retry_after_item","params":{"thread_id":"t","item_id":"i"}}`))
	f.Add([]byte(`{"type":"items.list","params":{"thread_id":"t","limit":9999,"order":"asc","after":"a"}}`))
	f.Add([]byte(`{"type":"items.feedback","params":{"thread_id":"t","item_ids":["a"],"kind":"positive"}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := chatkit.Parse(body)
		var bad *chatkit.BadRequestError
		if err != nil && !errors.As(err, &bad) && !errors.Is(err, chatkit.ErrNotSupported) {
			t.Fatalf("%v is neither kind of error", err)
		}
		if err != nil {
			return
		}
		if r.Input == nil && (r.Type == chatkit.ThreadsCreate || r.Type == chatkit.ThreadsAddUserMessage) {
			t.Error("a message has no input")
		}
		if c := r.Cursor; c.Limit < 0 || c.Limit > 100 {
			t.Errorf("a page has %d entries", c.Limit)
		}
	})
}
