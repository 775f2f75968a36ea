package chatkit

import (
	"context"
	"strings"
)

// maxAnswer bounds the text of an answer in bytes, so that a thread that is about
// to be closed still fits into one document of a store.
const maxAnswer = 256 << 10

// Responder answers messages.
type Responder interface {
	// Respond writes the answer to a question. ctx ends when the visitor leaves,
	// stops the answer, or its time is up; Respond then returns soon. What was
	// written until then is kept.
	//
	// A [*StreamError] is told to the visitor. So is the end of an answer without
	// any text, which is an error, too. Of any other error the visitor learns
	// only that there was one.
	Respond(ctx context.Context, q Question, a *Answer) error
}

// Question is a message and what it was asked in.
type Question struct {
	// Visitor is the ID of the visitor. It is a secret.
	Visitor string
	Message *UserMessage
	// History are the items before the message, without those of other visitors.
	// It is empty where the thread could not be read.
	History []Item
	Reader  Reader
}

// Reader is what is known of the visitor's situation. Nothing of it is stored.
type Reader struct {
	// Page is the URL of the page that is being read, without query and fragment,
	// or "".
	Page string
	// Language is the visitor's, as Accept-Language gives it, or "".
	Language string
}

// StreamError is an error that a visitor may read.
type StreamError struct {
	// Code names the error for the server's log.
	Code string
	// Message is a sentence for the visitor, in plain text.
	Message string
	// Retry says that trying again may help.
	Retry bool
}

func (e *StreamError) Error() string { return e.Message }

// errTooLong ends an answer that would not fit into a thread.
var errTooLong = &StreamError{Code: "answer_too_long", Message: "The answer is too long to be shown. Please ask for less at a time."}

// Answer is an answer that is being written. It turns what a [Responder] does into
// events. It must not be used by two goroutines at once.
type Answer struct {
	send func(Event) error
	item *AssistantMessage
	// units is the length of the text in UTF-16 code units.
	units   int
	text    strings.Builder
	begun   bool
	notices []Event
}

// Progress shows the visitor what is being done until the answer begins. ChatKit
// knows the icon by name.
func (a *Answer) Progress(icon, text string) error {
	return a.send(Event{Type: EventProgressUpdate, Icon: icon, Text: text})
}

// Write adds text, in Markdown. It must be valid UTF-8.
func (a *Answer) Write(delta string) error {
	if delta == "" {
		return nil
	}
	if a.text.Len()+len(delta) > maxAnswer {
		return errTooLong
	}
	if err := a.begin(); err != nil {
		return err
	}
	a.text.WriteString(delta)
	a.units += unitsOf(delta)
	return a.send(updateEvent(a.item.ID, "text_delta", Update{Delta: delta}))
}

// Cite adds a source at the end of what was written so far.
func (a *Answer) Cite(source URLSource) error {
	if err := a.begin(); err != nil {
		return err
	}
	part := &a.item.Content[0]
	n, cited := len(part.Annotations), Annotation{Source: source, Index: a.units}
	part.Annotations = append(part.Annotations, cited)
	return a.send(updateEvent(a.item.ID, "annotation_added", Update{AnnotationIndex: &n, Annotation: &cited}))
}

// Notice shows a card below the answer once that is complete. The message may have
// links and emphasis in Markdown; the title may be empty.
func (a *Answer) Notice(level NoticeLevel, title, message string) {
	a.notices = append(a.notices, Event{Type: EventNotice, Level: level, Title: title, Message: message})
}

// begin sends what has to come before the first text.
func (a *Answer) begin() error {
	if a.begun {
		return nil
	}
	a.begun = true
	empty := *a.item
	empty.Content = []OutputText{}
	if err := a.send(itemEvent(EventItemAdded, &empty)); err != nil {
		return err
	}
	return a.send(updateEvent(a.item.ID, "added", Update{Content: &OutputText{Annotations: []Annotation{}}}))
}

// empty reports whether there is nothing that a visitor could read.
func (a *Answer) empty() bool { return strings.TrimSpace(a.text.String()) == "" }

// message returns the item with all that was written.
func (a *Answer) message() *AssistantMessage {
	a.item.Content[0].Text = a.text.String()
	return a.item
}
