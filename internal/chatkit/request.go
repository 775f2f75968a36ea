package chatkit

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// The bounds of a message, in UTF-16 code units, which is how a browser counts.
const (
	MaxText  = 4000
	MaxQuote = 2000
)

const (
	defaultPage = 20
	maxPage     = 100
	maxFeedback = 20 // Items of one request.
	maxNewTitle = 200
)

// Type says what a client wants.
type Type string

// The types that this server answers.
const (
	ThreadsCreate         Type = "threads.create"
	ThreadsAddUserMessage Type = "threads.add_user_message"
	ThreadsRetryAfterItem Type = "threads.retry_after_item"
	ThreadsGetByID        Type = "threads.get_by_id"
	ThreadsList           Type = "threads.list"
	ThreadsUpdate         Type = "threads.update"
	ThreadsDelete         Type = "threads.delete"
	ItemsList             Type = "items.list"
	ItemsFeedback         Type = "items.feedback"
)

// The types of the protocol that this server does not support: it has no widgets,
// no client tools, no uploads and no dictation.
const (
	threadsAddClientToolOutput Type = "threads.add_client_tool_output"
	threadsAddStructuredInput  Type = "threads.add_structured_input"
	threadsCustomAction        Type = "threads.custom_action"
	threadsSyncCustomAction    Type = "threads.sync_custom_action"
	attachmentsCreate          Type = "attachments.create"
	attachmentsDelete          Type = "attachments.delete"
	inputTranscribe            Type = "input.transcribe"
)

// types are all of the protocol's.
var types = []Type{
	ThreadsCreate, ThreadsAddUserMessage, ThreadsRetryAfterItem, ThreadsGetByID, ThreadsList, ThreadsUpdate, ThreadsDelete, ItemsList, ItemsFeedback,
	threadsAddClientToolOutput, threadsAddStructuredInput, threadsCustomAction, threadsSyncCustomAction, attachmentsCreate, attachmentsDelete, inputTranscribe,
}

// Streams reports whether requests of this type are answered with a stream of
// events. All others are answered with JSON.
func (t Type) Streams() bool {
	switch t {
	case ThreadsCreate, ThreadsAddUserMessage, ThreadsRetryAfterItem,
		threadsAddClientToolOutput, threadsAddStructuredInput, threadsCustomAction:
		return true
	}
	return false
}

// Request is what a client asks for. Which fields are set depends on the type.
type Request struct {
	Type     Type
	ThreadID string   // All but threads.create and threads.list.
	Input    *Input   // threads.create, threads.add_user_message.
	ItemID   string   // threads.retry_after_item.
	Title    string   // threads.update.
	ItemIDs  []string // items.feedback.
	Kind     Feedback // items.feedback.
	Cursor   Cursor   // threads.list, items.list.
}

// Input is a message as the client sends it.
type Input struct {
	Content    []UserContent
	QuotedText *string
	Options    InferenceOptions
}

// BadRequestError is a request that is not right.
type BadRequestError struct {
	// Field is where the fault is, such as params.thread_id, or "" for the whole
	// body.
	Field string
	// Problem continues a sentence that begins with the field: "must be a text".
	Problem string
}

func (e *BadRequestError) Error() string {
	if e.Field == "" {
		return "The request " + e.Problem + "."
	}
	return fmt.Sprintf("The request is not valid: %s %s.", e.Field, e.Problem)
}

// ErrNotSupported is returned for a type of the protocol that this server does not
// support, and for an attachment.
var ErrNotSupported = errors.New("not supported")

// params are the parameters of all types. What is absent or null is nil.
type params struct {
	ThreadID *string   `json:"thread_id"`
	ItemID   *string   `json:"item_id"`
	ItemIDs  []string  `json:"item_ids"`
	Kind     *Feedback `json:"kind"`
	Title    *string   `json:"title"`
	Limit    *int      `json:"limit"`
	Order    *string   `json:"order"`
	After    *string   `json:"after"`
	Input    *struct {
		Content          []userTag        `json:"content"`
		Attachments      []string         `json:"attachments"`
		QuotedText       *string          `json:"quoted_text"`
		InferenceOptions InferenceOptions `json:"inference_options"`
	} `json:"input"`
}

// Parse reads a request. Its error is a [*BadRequestError] or [ErrNotSupported];
// the request has its type even then, if that is one of the protocol's.
func Parse(body []byte) (Request, error) {
	var envelope struct {
		Type   Type            `json:"type"`
		Params json.RawMessage `json:"params"`
	}
	if err := json.Unmarshal(body, &envelope); err != nil {
		return Request{}, invalid("", err)
	}
	switch {
	case envelope.Type == "":
		return Request{}, &BadRequestError{"type", "is missing"}
	case !slices.Contains(types, envelope.Type):
		return Request{}, &BadRequestError{"type", "is not one of ChatKit's"}
	}
	r := Request{Type: envelope.Type}
	var p params
	if len(envelope.Params) > 0 {
		if err := json.Unmarshal(envelope.Params, &p); err != nil {
			return r, invalid("params", err)
		}
	}
	return r, r.take(p)
}

// invalid returns the fault of JSON that does not fit, without its values.
func invalid(within string, err error) error {
	var wrong *json.UnmarshalTypeError
	if !errors.As(err, &wrong) {
		return &BadRequestError{"", "is not JSON"}
	}
	field := strings.Trim(within+"."+wrong.Field, ".")
	return &BadRequestError{field, "has the wrong type"}
}

// take fills the request with the parameters that its type has. It returns the first
// fault.
func (r *Request) take(p params) error {
	thread := func() error { return text(&r.ThreadID, p.ThreadID, "thread_id") }
	switch r.Type {
	case ThreadsCreate:
		return r.takeInput(p)
	case ThreadsAddUserMessage:
		return first(thread(), r.takeInput(p))
	case ThreadsRetryAfterItem:
		return first(thread(), text(&r.ItemID, p.ItemID, "item_id"))
	case ThreadsGetByID, ThreadsDelete:
		return thread()
	case ThreadsUpdate:
		return first(thread(), text(&r.Title, p.Title, "title"), r.checkTitle())
	case ThreadsList:
		return r.takeCursor(p)
	case ItemsList:
		return first(thread(), r.takeCursor(p))
	case ItemsFeedback:
		return first(thread(), r.takeFeedback(p))
	default:
		return ErrNotSupported
	}
}

// first returns the first error that there is.
func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func text(into, given *string, name string) error {
	if given == nil {
		return &BadRequestError{"params." + name, "is missing"}
	}
	*into = *given
	return nil
}

func (r *Request) takeInput(p params) error {
	if p.Input == nil {
		return &BadRequestError{"params.input", "is missing"}
	}
	if len(p.Input.Attachments) > 0 {
		return ErrNotSupported
	}
	in := &Input{QuotedText: p.Input.QuotedText, Options: p.Input.InferenceOptions}
	units, blank := 0, true
	for _, part := range p.Input.Content {
		c, problem := part.content()
		if problem != "" {
			return &BadRequestError{"params.input.content", problem}
		}
		in.Content = append(in.Content, c)
		units += unitsOf(c.Text)
		blank = blank && strings.TrimSpace(c.Text) == ""
	}
	switch {
	case blank:
		return &BadRequestError{"params.input.content", "has no text"}
	case units > MaxText:
		return &BadRequestError{"params.input.content", fmt.Sprintf("has %d characters, more than %d", units, MaxText)}
	case in.QuotedText != nil && unitsOf(*in.QuotedText) > MaxQuote:
		return &BadRequestError{"params.input.quoted_text", fmt.Sprintf("has more than %d characters", MaxQuote)}
	}
	r.Input = in
	return nil
}

func (r *Request) checkTitle() error {
	r.Title = strings.TrimSpace(r.Title)
	if n := unitsOf(r.Title); n == 0 || n > maxNewTitle {
		return &BadRequestError{"params.title", fmt.Sprintf("must have 1 to %d characters", maxNewTitle)}
	}
	return nil
}

func (r *Request) takeCursor(p params) error {
	r.Cursor.Limit = defaultPage
	if p.Limit != nil && *p.Limit != 0 {
		if *p.Limit < 0 {
			return &BadRequestError{"params.limit", "must not be negative"}
		}
		r.Cursor.Limit = min(*p.Limit, maxPage)
	}
	if p.Order != nil {
		if *p.Order != "asc" && *p.Order != "desc" {
			return &BadRequestError{"params.order", "must be asc or desc"}
		}
		r.Cursor.Ascending = *p.Order == "asc"
	}
	if p.After != nil {
		r.Cursor.After = *p.After
	}
	return nil
}

func (r *Request) takeFeedback(p params) error {
	switch {
	case len(p.ItemIDs) == 0:
		return &BadRequestError{"params.item_ids", "is missing or empty"}
	case len(p.ItemIDs) > maxFeedback:
		return &BadRequestError{"params.item_ids", fmt.Sprintf("has more than %d items", maxFeedback)}
	case p.Kind == nil || *p.Kind != Positive && *p.Kind != Negative:
		return &BadRequestError{"params.kind", "must be positive or negative"}
	}
	r.ItemIDs, r.Kind = p.ItemIDs, *p.Kind
	return nil
}
