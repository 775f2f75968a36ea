package chatkit

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"time"
)

// ErrReplaced is the cause with which a stream's context is cancelled where another
// request takes the turn over. What was written is dropped.
var ErrReplaced = errors.New("replaced by a repeated request")

const (
	// leaveTimeout bounds the write of an answer whose visitor has left.
	leaveTimeout = 3 * time.Second
	// cutTimeout bounds the write of an answer whose visitor waits to be told that it
	// was cut short, perhaps because the process is about to end.
	cutTimeout = 2 * time.Second
)

// What visitors read.
var (
	errNoText   = &StreamError{"no_text", "The assistant did not answer. Please try again.", true}
	errInternal = &StreamError{"internal", "Something went wrong on our side. Please try again.", true}
)

const (
	notSaved   = "This conversation could not be saved. It will be gone when you leave or reload the page."
	wasDeleted = "This conversation was deleted. It will be gone when you leave or reload the page."
	// cutShort tells the model why there is no answer, or no whole one.
	cutShort = "The answer to the message above was stopped or cut short. Do not continue it."
)

// Turn is a message and its answer. Its methods must not be called at the same
// time.
type Turn struct {
	server   *Server
	question Question
	before   Thread      // As it was read.
	message  []Operation // Stores the visitor's message; nil for a retry.
	retried  []string    // The items that a new answer takes the place of.
	unread   error       // Why the thread could not be read.

	saved   chan struct{} // Closed when the write of the message has ended; nil before it began.
	thread  Thread        // As it was last written. Another goroutine's until saved.
	pending []Operation   // What is not stored yet. Also.
	answer  *AssistantMessage
}

// Begin reads what a streaming request is about. Its errors are [ErrNotFound],
// [ErrItemNotFound], [ErrClosed] and, for a retry alone, [ErrUnavailable]: while
// the store is down a question is answered without what was said before.
func (s *Server) Begin(ctx context.Context, visitor string, r Request, reader Reader) (*Turn, error) {
	t := &Turn{server: s, question: Question{Visitor: visitor, Reader: reader}}
	if r.Type == ThreadsCreate {
		t.before = Thread{ID: newID("thr"), Created: TimeOf(s.o.Now()).Time}
		t.say(r.Input)
		return t, nil
	}
	var err error
	t.before, err = s.get(ctx, visitor, r.ThreadID)
	switch {
	case r.Type == ThreadsRetryAfterItem && err == nil:
		return t, t.retry(r.ItemID)
	case r.Type == ThreadsAddUserMessage && errors.Is(err, ErrUnavailable):
		t.before.ID, t.unread = r.ThreadID, err
	case err != nil:
		return nil, err
	case t.before.Closed:
		return nil, ErrClosed
	}
	t.say(r.Input)
	return t, nil
}

// say adds the visitor's message.
func (t *Turn) say(in *Input) {
	m := &UserMessage{
		Head:        t.head("msg", TypeUserMessage),
		Content:     in.Content,
		Attachments: []struct{}{},
		QuotedText:  in.QuotedText,
		Options:     in.Options,
	}
	t.question.Message, t.question.History = m, t.before.Items
	t.message = []Operation{Append(m)}
	t.thread, t.pending = t.before, t.message
}

// retry finds the message to answer again. Where the client names an item that is
// unknown or not a message of the visitor's, it is the last one: a client whose
// message was lost on the way does not know its ID.
func (t *Turn) retry(itemID string) error {
	t.thread = t.before
	at := -1
	for i, item := range t.before.Items {
		if m, ok := item.(*UserMessage); ok {
			at, t.question.Message = i, m
			if m.ID == itemID {
				break
			}
		}
	}
	if at < 0 {
		return ErrItemNotFound
	}
	t.question.History = t.before.Items[:at]
	for _, item := range t.before.Items[at+1:] {
		t.retried = append(t.retried, item.ItemID())
	}
	return nil
}

// head begins an item of this thread.
func (t *Turn) head(kind string, typ ItemType) Head {
	return Head{ID: newID(kind), ThreadID: t.before.ID, Created: TimeOf(t.server.o.Now()), Type: typ}
}

// Result is how a turn has ended.
type Result struct {
	// Err is nil for a whole answer. Otherwise it is why there is none: a
	// [*StreamError], which the visitor was told; another error, of which the visitor
	// was told that there is one; or what ended the stream.
	Err error
	// Left says that the visitor was gone before the end.
	Left bool
	// Unsaved is why the end of the turn is not stored, or nil.
	Unsaved error
}

// Stream answers the message and passes the events to send, one at a time. When it
// returns, all is stored and sent.
//
// ctx ends when the visitor leaves. If its cause is a [*StreamError], the visitor is
// still there and is told. Either way the answer so far is stored, unless the cause
// is [ErrReplaced]: then Stream can be called again, and sends all events from the
// first.
func (t *Turn) Stream(ctx context.Context, send func(Event) error) Result {
	running, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	tell := func(e Event) error {
		err := send(e)
		if err != nil {
			stop(err) // Whoever cannot be sent an event has left.
		}
		return err
	}
	a := &Answer{send: tell, item: &AssistantMessage{
		Head:    t.head("msg", TypeAssistantMessage),
		Content: []OutputText{{Annotations: []Annotation{}}},
	}}
	err := t.open(ctx, tell)
	if err == nil && t.answer != nil { // Written just before the turn was taken over.
		err = tell(itemEvent(EventItemDone, t.answer))
		return Result{Err: err, Left: err != nil}
	}
	if err == nil {
		err = t.respond(running, a)
	}
	cause := context.Cause(running)
	var told *StreamError
	switch {
	case errors.Is(cause, ErrReplaced):
		return Result{Err: cause}
	case err == nil && !a.empty():
		return t.finish(ctx, a, tell)
	case errors.As(cause, &told), cause == nil && errors.As(err, &told):
		err = told
	case cause != nil:
		return Result{Err: cause, Left: true, Unsaved: t.cut(ctx, a, true, leaveTimeout)}
	case err == nil:
		told, err = errNoText, errNoText
	default:
		told = errInternal
	}
	unsaved := t.cut(ctx, a, false, cutTimeout)
	_ = send(ErrorEvent(told.Message, told.Retry)) // Otherwise there is nobody to tell.
	return Result{Err: err, Unsaved: unsaved}
}

// open sends what comes before the answer. It begins to store the message, which
// goes on in parallel with what answers it.
func (t *Turn) open(ctx context.Context, send func(Event) error) error {
	t.save(ctx)
	var events []Event
	if t.message != nil {
		if t.before.Version == 0 && t.unread == nil {
			events = append(events, threadEvent(EventThreadCreated, &t.before))
		}
		events = append(events, itemEvent(EventItemDone, t.question.Message))
	}
	events = append(events, Event{Type: EventStreamOptions, StreamOptions: &streamOptions{AllowCancel: true}})
	if titled := t.before; t.message != nil && t.unread == nil && titled.Title == "" {
		titled.Title = titleOf(t.question.Message.Text())
		events = append(events, threadEvent(EventThreadUpdated, &titled))
	}
	for _, e := range events {
		if err := send(e); err != nil {
			return err
		}
	}
	return nil
}

// save begins to store the message, once.
func (t *Turn) save(ctx context.Context) {
	if t.saved != nil {
		return
	}
	t.saved = make(chan struct{})
	if t.message == nil || t.unread != nil {
		close(t.saved)
		return
	}
	go func() {
		defer close(t.saved)
		ctx := context.WithoutCancel(ctx) // Who leaves has still asked.
		if thread, err := t.server.write(ctx, t.question.Visitor, t.thread, t.pending...); err == nil {
			t.thread, t.pending = thread, nil
		}
		// Otherwise it is stored with the answer, if the store is back by then.
	}()
}

// respond runs the responder. A panic in it costs this answer, and nothing else.
func (t *Turn) respond(ctx context.Context, a *Answer) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic: %v\n%s", v, debug.Stack())
		}
	}()
	return t.server.o.Responder.Respond(ctx, t.question, a)
}

// finish stores a whole answer and sends its end. A visitor who leaves here has it
// when they come back.
func (t *Turn) finish(ctx context.Context, a *Answer, send func(Event) error) Result {
	answer := a.message()
	_ = send(updateEvent(answer.ID, "done", Update{Content: &answer.Content[0]}))
	unsaved := t.keep(ctx, t.server.o.StoreTimeout, Remove(t.retried...), Append(answer))
	t.answer = answer
	events := append([]Event{itemEvent(EventItemDone, answer)}, a.notices...)
	switch {
	case errors.Is(unsaved, ErrNotFound):
		events = append(events, Event{Type: EventNotice, Level: Warning, Message: wasDeleted})
	case unsaved != nil:
		events = append(events, Event{Type: EventNotice, Level: Warning, Message: notSaved})
	case t.thread.Closed && !t.before.Closed:
		events = append(events, threadEvent(EventThreadUpdated, &t.thread))
	}
	for _, e := range events {
		if err := send(e); err != nil {
			return Result{Err: err, Left: true, Unsaved: unsaved}
		}
	}
	return Result{Unsaved: unsaved}
}

// cut stores what there is of an answer. A retry without any text changes nothing:
// the old answer is better than none.
func (t *Turn) cut(ctx context.Context, a *Answer, left bool, timeout time.Duration) error {
	note := &HiddenContext{Head: t.head("shcx", TypeHiddenContext), Content: cutShort}
	ops := []Operation{}
	switch {
	case !a.empty():
		ops = append(ops, Remove(t.retried...), Append(a.message()), Append(note))
	case t.message != nil && left:
		ops = append(ops, Append(note))
	}
	t.retried = append(t.retried, a.item.ID, note.ID) // If this turn is taken over.
	return t.keep(ctx, timeout, ops...)
}

// keep stores operations after those of the message, even if ctx has ended.
func (t *Turn) keep(ctx context.Context, timeout time.Duration, ops ...Operation) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeout)
	defer cancel()
	if t.unread != nil {
		return t.unread
	}
	select {
	case <-t.saved:
	case <-ctx.Done():
		return fmt.Errorf("%w: the message is still being written", ErrUnavailable)
	}
	ops = slices.Concat(t.pending, ops)
	if len(ops) == 0 {
		return nil
	}
	thread, err := t.server.write(ctx, t.question.Visitor, t.thread, ops...)
	if err != nil {
		return err
	}
	t.thread, t.pending = thread, nil
	return nil
}
