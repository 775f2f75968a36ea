package chatkit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Item is one entry of a conversation: a [*UserMessage], an [*AssistantMessage] or
// a [*HiddenContext]. Encoded as JSON, the first two are what ChatKit expects.
type Item interface {
	// ItemID returns the item's ID, which is unique in its thread.
	ItemID() string
}

// Head is what all items begin with.
type Head struct {
	ID       string `json:"id"`
	ThreadID string `json:"thread_id"`
	// Created is in UTC.
	Created Time     `json:"created_at"`
	Type    ItemType `json:"type"`
}

// ItemID implements [Item].
func (h *Head) ItemID() string { return h.ID }

// ItemType tells the items apart in JSON.
type ItemType string

// The types of items.
const (
	TypeUserMessage      ItemType = "user_message"
	TypeAssistantMessage ItemType = "assistant_message"
	TypeHiddenContext    ItemType = "sdk_hidden_context"
)

// UserMessage is what the visitor has sent.
type UserMessage struct {
	Head

	Content []UserContent `json:"content"`
	// Attachments is always empty: this server takes none.
	Attachments []struct{} `json:"attachments"`
	// QuotedText is what the visitor has selected in an answer and asks about, or
	// nil where the client does not know quotes.
	QuotedText *string          `json:"quoted_text,omitempty"`
	Options    InferenceOptions `json:"inference_options"`
}

// Text returns what the visitor has written: the text of all parts.
func (m *UserMessage) Text() string {
	var b strings.Builder
	for _, c := range m.Content {
		b.WriteString(c.Text)
	}
	return b.String()
}

// Quote returns what the visitor has quoted, or "".
func (m *UserMessage) Quote() string {
	if m.QuotedText == nil {
		return ""
	}
	return *m.QuotedText
}

// UserContent is a part of a user's message: text, or a tag such as a mention.
type UserContent struct {
	// Type is input_text or input_tag.
	Type string
	Text string
	// Tag is set for an input_tag alone.
	Tag *Tag
}

// Tag is what an input_tag has besides its text.
type Tag struct {
	ID          string          `json:"id"`
	Data        json.RawMessage `json:"data"` // An object.
	Group       *string         `json:"group,omitempty"`
	Interactive bool            `json:"interactive"`
}

// InferenceOptions are choices of the visitor that ChatKit offers where a site
// configures them. They are kept with the message.
type InferenceOptions struct {
	ToolChoice *ToolChoice `json:"tool_choice,omitempty"`
	Model      *string     `json:"model,omitempty"`
}

// ToolChoice names a tool.
type ToolChoice struct {
	ID string `json:"id"`
}

// userText and userTag are the two shapes of [UserContent] in JSON.
type userText struct {
	Type string `json:"type"`
	Text string `json:"text"`
}

type userTag struct {
	Type        string          `json:"type"`
	ID          string          `json:"id"`
	Text        string          `json:"text"`
	Data        json.RawMessage `json:"data"`
	Group       *string         `json:"group,omitempty"`
	Interactive bool            `json:"interactive"`
}

const (
	inputText = "input_text"
	inputTag  = "input_tag"
)

// MarshalJSON implements [json.Marshaler].
func (c UserContent) MarshalJSON() ([]byte, error) {
	if c.Tag == nil {
		return encode(userText{c.Type, c.Text})
	}
	return encode(userTag{c.Type, c.Tag.ID, c.Text, c.Tag.Data, c.Tag.Group, c.Tag.Interactive})
}

// UnmarshalJSON implements [json.Unmarshaler].
func (c *UserContent) UnmarshalJSON(text []byte) error {
	var t userTag
	if err := json.Unmarshal(text, &t); err != nil {
		return err //nolint:wrapcheck // The caller names the item.
	}
	content, problem := t.content()
	if problem != "" {
		return errors.New("the content " + problem)
	}
	*c = content
	return nil
}

// content returns the part that was sent, or what is wrong with it.
func (t userTag) content() (c UserContent, problem string) {
	c = UserContent{Type: t.Type, Text: t.Text}
	switch t.Type {
	case inputText:
		return c, ""
	case inputTag:
		if len(t.Data) == 0 {
			t.Data = json.RawMessage("{}")
		}
		if t.Data[0] != '{' {
			return c, "has an input_tag whose data is not an object"
		}
		// The rest of the text was decoded. This part is kept as it came, and a store
		// takes valid UTF-8 alone.
		data := bytes.ToValidUTF8(t.Data, []byte("\uFFFD"))
		c.Tag = &Tag{t.ID, data, t.Group, t.Interactive}
		return c, ""
	default:
		return c, "has a part that is neither input_text nor input_tag"
	}
}

// AssistantMessage is an answer.
type AssistantMessage struct {
	Head

	// Content has one part.
	Content []OutputText `json:"content"`
	// Feedback is what the visitor thinks of the answer. It is stored with it and
	// never sent back: ChatKit has no field for it.
	Feedback Feedback `json:"-"`
}

// Text returns the answer's text.
func (m *AssistantMessage) Text() string {
	var b strings.Builder
	for _, c := range m.Content {
		b.WriteString(c.Text)
	}
	return b.String()
}

// OutputText is a part of an answer: Markdown, and what it rests on.
type OutputText struct {
	Annotations []Annotation `json:"annotations"`
	Text        string       `json:"text"`
	Type        outputText   `json:"type"`
}

// outputText is the only type that an answer's part has.
type outputText struct{}

// MarshalJSON implements [json.Marshaler].
func (outputText) MarshalJSON() ([]byte, error) { return []byte(`"output_text"`), nil }

// UnmarshalJSON implements [json.Unmarshaler].
func (*outputText) UnmarshalJSON([]byte) error { return nil }

// Annotation is a source that an answer cites.
type Annotation struct {
	Type   annotation `json:"type"`
	Source URLSource  `json:"source"`
	// Index is where in the text ChatKit shows the source: a number of UTF-16 code
	// units. ChatKit lists a source without an index below the answer only, so 0
	// stands for none.
	Index int `json:"index,omitempty"`
}

type annotation struct{}

// MarshalJSON implements [json.Marshaler].
func (annotation) MarshalJSON() ([]byte, error) { return []byte(`"annotation"`), nil }

// UnmarshalJSON implements [json.Unmarshaler].
func (*annotation) UnmarshalJSON([]byte) error { return nil }

// URLSource is a page that an answer rests on.
type URLSource struct {
	Title string
	URL   string
}

type urlSource struct {
	Title string `json:"title"`
	Type  string `json:"type"`
	URL   string `json:"url"`
}

// MarshalJSON implements [json.Marshaler].
func (s URLSource) MarshalJSON() ([]byte, error) { return encode(urlSource{s.Title, "url", s.URL}) }

// UnmarshalJSON implements [json.Unmarshaler].
func (s *URLSource) UnmarshalJSON(text []byte) error {
	var u urlSource
	if err := json.Unmarshal(text, &u); err != nil {
		return err //nolint:wrapcheck // The caller names the item.
	}
	*s = URLSource{u.Title, u.URL}
	return nil
}

// HiddenContext is a note in the conversation for the model. No client ever gets
// it.
type HiddenContext struct {
	Head

	Content string `json:"content"`
}

// Feedback is the visitor's opinion of an answer.
type Feedback string

// The kinds of feedback.
const (
	Positive Feedback = "positive"
	Negative Feedback = "negative"
)

// Time is an instant in UTC, to the microsecond.
type Time struct{ time.Time }

// TimeOf returns t as this package stores and sends it.
func TimeOf(t time.Time) Time { return Time{t.UTC().Truncate(time.Microsecond)} }

// MarshalJSON implements [json.Marshaler]. The reference sends local time without
// a zone, which a browser takes for its own.
func (t Time) MarshalJSON() ([]byte, error) {
	layout := `"2006-01-02T15:04:05.000000Z"`
	if t.Nanosecond() == 0 {
		layout = `"2006-01-02T15:04:05Z"`
	}
	return []byte(t.UTC().Format(layout)), nil
}

// UnmarshalJSON implements [json.Unmarshaler].
func (t *Time) UnmarshalJSON(text []byte) error {
	var decoded time.Time
	if err := decoded.UnmarshalJSON(text); err != nil {
		return err //nolint:wrapcheck // The caller names the item.
	}
	*t = TimeOf(decoded)
	if y := t.Year(); y < 0 || y > 9999 {
		return errors.New("the year has more than four digits in UTC")
	}
	return nil
}

// storedItem is an item as [EncodeItems] writes it: what the client gets, and what
// only the server knows.
type storedItem struct {
	Item     json.RawMessage `json:"item"`
	Feedback Feedback        `json:"feedback,omitempty"`
}

// EncodeItems returns items as one JSON text for a store. [DecodeItems] reads it.
func EncodeItems(items []Item) ([]byte, error) {
	stored := make([]storedItem, len(items))
	for i, item := range items {
		var err error
		if stored[i].Item, err = encode(item); err != nil {
			return nil, err
		}
		if m, ok := item.(*AssistantMessage); ok {
			stored[i].Feedback = m.Feedback
		}
	}
	return encode(stored)
}

// DecodeItems reads what [EncodeItems] has written. Its errors quote nothing of the
// text.
func DecodeItems(text []byte) ([]Item, error) {
	var stored []storedItem
	if err := json.Unmarshal(text, &stored); err != nil {
		return nil, errors.New("the items are not a list")
	}
	items := make([]Item, len(stored))
	for i, s := range stored {
		var head Head
		if err := json.Unmarshal(s.Item, &head); err != nil {
			return nil, fmt.Errorf("item %d is not valid", i)
		}
		switch head.Type {
		case TypeUserMessage:
			items[i] = new(UserMessage)
		case TypeAssistantMessage:
			items[i] = &AssistantMessage{Feedback: s.Feedback}
		case TypeHiddenContext:
			items[i] = new(HiddenContext)
		default:
			return nil, fmt.Errorf("item %d has a type that this version does not know", i)
		}
		if err := json.Unmarshal(s.Item, items[i]); err != nil {
			return nil, fmt.Errorf("item %d is not valid", i)
		}
	}
	return items, nil
}

// encode returns v as JSON in one line, without HTML escapes, as the reference
// sends it.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, fmt.Errorf("encoding: %w", err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}
