package chatkit_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"docent/internal/chatkit"

	"github.com/google/go-cmp/cmp"
)

const keep = 720 * time.Hour

// began is the time of all turns.
var began = time.Date(2026, 11, 24, 12, 0, 0, 5000, time.UTC)

// responder is a [chatkit.Responder] that a test writes.
type responder func(ctx context.Context, q chatkit.Question, a *chatkit.Answer) error

func (r responder) Respond(ctx context.Context, q chatkit.Question, a *chatkit.Answer) error {
	return r(ctx, q, a)
}

// says answers with deltas.
func says(deltas ...string) responder {
	return func(_ context.Context, _ chatkit.Question, a *chatkit.Answer) error {
		for _, d := range deltas {
			if err := a.Write(d); err != nil {
				return err
			}
		}
		return nil
	}
}

// store is the memory store with faults: fail sees each call before it is made.
type store struct {
	chatkit.Store

	mu    sync.Mutex
	calls []string
	fail  func(call string) error
	slow  bool // Answers nothing until the caller gives up.
}

func newStore(now func() time.Time) *store {
	return &store{Store: chatkit.NewMemory(keep, now), fail: func(string) error { return nil }}
}

func (s *store) call(ctx context.Context, name string) error {
	if s.slow {
		<-ctx.Done()
		return ctx.Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, name)
	return s.fail(name)
}

func (s *store) Get(ctx context.Context, visitor, id string) (chatkit.Thread, error) {
	if err := s.call(ctx, "get"); err != nil {
		return chatkit.Thread{}, err
	}
	return s.Store.Get(ctx, visitor, id)
}

func (s *store) Put(ctx context.Context, visitor string, t chatkit.Thread) (int64, error) {
	if err := s.call(ctx, "put"); err != nil {
		return 0, err
	}
	return s.Store.Put(ctx, visitor, t)
}

// fixture is a server with one visitor's conversation.
type fixture struct {
	t      *testing.T
	store  *store
	server *chatkit.Server
	answer responder // Of the next turn.
	thread string    // The ID of the conversation, once there is one.
	now    time.Time // Of the turns.
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{t: t, now: began, answer: says("Yes.")}
	now := func() time.Time { return f.now }
	f.store = newStore(now)
	f.server = chatkit.New(chatkit.Options{
		Store: f.store,
		Responder: responder(func(ctx context.Context, q chatkit.Question, a *chatkit.Answer) error {
			return f.answer(ctx, q, a)
		}),
		StoreTimeout: time.Minute,
		Now:          now,
	})
	return f
}

// request returns the request of a type.
func (f *fixture) request(typ, params string) chatkit.Request {
	f.t.Helper()
	r, err := chatkit.Parse(fmt.Appendf(nil, `{"type":%q,"params":%s}`, typ, params))
	if err != nil {
		f.t.Fatal(err)
	}
	return r
}

// message returns the request that says something in the conversation, or begins it.
func (f *fixture) message(text string) chatkit.Request {
	f.t.Helper()
	params := strings.Replace(said(text), `"t"`, fmt.Sprintf("%q", f.thread), 1)
	if f.thread == "" {
		return f.request("threads.create", params)
	}
	return f.request("threads.add_user_message", params)
}

// retry returns the request to answer a message again.
func (f *fixture) retry(item string) chatkit.Request {
	return f.request("threads.retry_after_item", fmt.Sprintf(`{"thread_id":%q,"item_id":%q}`, f.thread, item))
}

func (f *fixture) begin(r chatkit.Request) *chatkit.Turn {
	f.t.Helper()
	turn, err := f.server.Begin(f.t.Context(), "visitor", r, chatkit.Reader{})
	if err != nil {
		f.t.Fatal(err)
	}
	return turn
}

// stream carries a turn out and returns its events in short.
func (f *fixture) stream(ctx context.Context, turn *chatkit.Turn) ([]string, chatkit.Result) {
	var events []string
	result := turn.Stream(ctx, func(e chatkit.Event) error {
		events = append(events, f.short(e))
		return nil
	})
	return events, result
}

// say carries a whole turn out.
func (f *fixture) say(text string) []string {
	f.t.Helper()
	events, result := f.stream(f.t.Context(), f.begin(f.message(text)))
	if result.Err != nil || result.Unsaved != nil {
		f.t.Fatalf("%q: %+v", text, result)
	}
	return events
}

// short returns an event as its type and the text in it, and notes the thread.
func (f *fixture) short(e chatkit.Event) string {
	s := string(e.Type)
	switch {
	case e.Thread != nil:
		text, _ := json.Marshal(e.Thread)
		var thread struct {
			ID, Title string
			Status    struct{ Type string }
		}
		if err := json.Unmarshal(text, &thread); err != nil {
			f.t.Error(err)
		}
		f.thread = thread.ID
		s += " " + thread.Status.Type + " " + thread.Title
	case e.Item != nil:
		s += " " + shortItem(e.Item)
	case e.Update != nil:
		s = strings.TrimPrefix(e.Update.Type, "assistant_message.content_part.") + " " + e.Update.Delta
	case e.Message != "":
		s += " " + e.Message
	}
	if e.AllowRetry != nil && *e.AllowRetry {
		s += " (retry)"
	}
	return strings.TrimSpace(s)
}

func shortItem(i chatkit.Item) string {
	switch i := i.(type) {
	case *chatkit.UserMessage:
		return "user: " + i.Text()
	case *chatkit.AssistantMessage:
		return strings.TrimSpace("assistant: " + i.Text() + " " + string(i.Feedback))
	default:
		return "hidden"
	}
}

// stored returns the items of the conversation as they are stored.
func (f *fixture) stored() []string {
	f.t.Helper()
	thread, err := f.store.Store.Get(f.t.Context(), "visitor", f.thread)
	if err != nil {
		return []string{err.Error()}
	}
	items := []string{}
	for _, i := range thread.Items {
		items = append(items, shortItem(i))
	}
	return items
}

// query returns the answer to a request that wants JSON.
func (f *fixture) query(visitor, typ, params string) string {
	f.t.Helper()
	v, err := f.server.Query(f.t.Context(), visitor, f.request(typ, params))
	if err != nil {
		return err.Error()
	}
	text, err := json.Marshal(v)
	if err != nil {
		f.t.Fatal(err)
	}
	return ids.ReplaceAllString(string(text), "$1")
}

var ids = regexp.MustCompile(`\b(thr|msg|shcx)_[A-Z2-7]{26}\b`)

func check[T any](t *testing.T, what string, want, got T) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// TestStream_JSON pins what is sent, down to the order of the fields.
func TestStream_JSON(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.answer = func(_ context.Context, _ chatkit.Question, a *chatkit.Answer) error {
		return errors.Join(
			a.Progress("search", "Searching"),
			a.Cite(chatkit.URLSource{Title: "A", URL: "https://docs.example.com/a"}),
			a.Write("é😀<b> & "),
			a.Cite(chatkit.URLSource{Title: "B", URL: "https://docs.example.com/b#c"}),
			func() error { a.Notice(chatkit.Info, "T", "**N**"); return nil }(),
		)
	}
	var got strings.Builder
	f.begin(f.message("hello")).Stream(t.Context(), func(e chatkit.Event) error {
		text, err := e.Encode()
		got.Write(text)
		return err
	})
	const (
		active = `"id":"thr","created_at":"2026-11-24T12:00:00.000005Z","status":{"type":"active"},"metadata":{},"items":{"data":[],"has_more":false}`
		update = `data: {"type":"thread.item.updated","item_id":"msg","update":{"type":"assistant_message.content_part.`
		a      = `{"type":"annotation","source":{"title":"A","type":"url","url":"https://docs.example.com/a"}}`
		b      = `{"type":"annotation","source":{"title":"B","type":"url","url":"https://docs.example.com/b#c"},"index":9}`
		item   = `"item":{"id":"msg","thread_id":"thr","created_at":"2026-11-24T12:00:00.000005Z",`
	)
	want := `data: {"type":"thread.created","thread":{` + active + `}}

data: {"type":"thread.item.done",` + item + `"type":"user_message","content":[{"type":"input_text","text":"hello"}],"attachments":[],"quoted_text":"","inference_options":{}}}

data: {"type":"stream_options","stream_options":{"allow_cancel":true}}

data: {"type":"thread.updated","thread":{"title":"hello",` + active + `}}

data: {"type":"progress_update","icon":"search","text":"Searching"}

data: {"type":"thread.item.added",` + item + `"type":"assistant_message","content":[]}}

` + update + `added","content_index":0,"content":{"annotations":[],"text":"","type":"output_text"}}}

` + update + `annotation_added","content_index":0,"annotation_index":0,"annotation":` + a + `}}

` + update + `text_delta","content_index":0,"delta":"é😀<b> & "}}

` + update + `annotation_added","content_index":0,"annotation_index":1,"annotation":` + b + `}}

` + update + `done","content_index":0,"content":{"annotations":[` + a + `,` + b + `],"text":"é😀<b> & ","type":"output_text"}}}

data: {"type":"thread.item.done",` + item + `"type":"assistant_message","content":[{"annotations":[` + a + `,` + b + `],"text":"é😀<b> & ","type":"output_text"}]}}

data: {"type":"notice","level":"info","message":"**N**","title":"T"}

`
	check(t, "stream", want, ids.ReplaceAllString(got.String(), "$1"))
}

func TestStream_Conversation(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	var history []string
	f.answer = func(ctx context.Context, q chatkit.Question, a *chatkit.Answer) error {
		history = []string{}
		for _, i := range q.History {
			history = append(history, shortItem(i))
		}
		return says("To ", q.Message.Text())(ctx, q, a)
	}
	check(t, "first turn", []string{
		"thread.created active", "thread.item.done user: one", "stream_options", "thread.updated active one",
		"thread.item.added assistant:", "added", "text_delta To", "text_delta one", "done", "thread.item.done assistant: To one",
	}, f.say("one"))
	check(t, "its history", []string{}, history)
	f.store.calls = nil
	check(t, "second turn", []string{
		"thread.item.done user: two", "stream_options",
		"thread.item.added assistant:", "added", "text_delta To", "text_delta two", "done", "thread.item.done assistant: To two",
	}, f.say("two"))
	check(t, "its history", []string{"user: one", "assistant: To one"}, history)
	check(t, "its cost", []string{"get", "put", "put"}, f.store.calls)
	check(t, "stored", []string{"user: one", "assistant: To one", "user: two", "assistant: To two"}, f.stored())
}

// TestStream_Ends has every way in which an answer ends.
func TestStream_Ends(t *testing.T) {
	t.Parallel()
	told := &chatkit.StreamError{Code: "busy", Message: "Busy.", Retry: true}
	tests := []struct {
		name   string
		end    error  // Of the responder.
		cause  error  // Of the context, if it ends.
		last   string // The last event without text.
		whole  string // The last event with text.
		stored []string
		retry  []string // With text, where the turn was a retry.
		left   bool
	}{
		{"whole", nil, nil, "error The assistant did not answer. Please try again. (retry)", "thread.item.done assistant: Hi", []string{"user: q"}, []string{"user: q", "assistant: Hi"}, false},
		{"told", told, nil, "error Busy. (retry)", "error Busy. (retry)", []string{"user: q"}, []string{"user: q", "assistant: Hi", "hidden"}, false},
		{"not told", errors.New("secret"), nil, "error Something went wrong on our side. Please try again. (retry)", "error Something went wrong on our side. Please try again. (retry)", []string{"user: q"}, []string{"user: q", "assistant: Hi", "hidden"}, false},
		{"time is up", context.DeadlineExceeded, told, "error Busy. (retry)", "error Busy. (retry)", []string{"user: q"}, []string{"user: q", "assistant: Hi", "hidden"}, false},
		{"visitor left", context.Canceled, context.Canceled, "", "", []string{"user: q", "hidden"}, []string{"user: q", "assistant: Hi", "hidden"}, true},
	}
	for _, tt := range tests {
		for _, kind := range []string{"message without text", "message with text", "retry without text", "retry with text"} {
			t.Run(tt.name+"/"+kind, func(t *testing.T) {
				t.Parallel()
				f := newFixture(t)
				request := f.message("q")
				want, last := tt.stored, tt.last
				withText, isRetry := strings.HasSuffix(kind, "with text"), strings.HasPrefix(kind, "retry")
				if isRetry {
					f.answer = says("Old")
					f.say("q")
					request = f.retry("")
					want = []string{"user: q", "assistant: Old"}
				}
				if withText {
					want, last = tt.retry, tt.whole
				}
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				f.answer = func(ctx context.Context, q chatkit.Question, a *chatkit.Answer) error {
					if withText {
						if err := says("Hi")(ctx, q, a); err != nil {
							return err
						}
					} else {
						a.Progress("search", "…")
					}
					if tt.cause != nil {
						cancel(tt.cause)
					}
					return tt.end
				}
				events, result := f.stream(ctx, f.begin(request))
				if last == "" { // Nothing more is sent to who has left.
					last = map[bool]string{true: "text_delta Hi", false: "progress_update"}[withText]
				}
				check(t, "last event", last, events[len(events)-1])
				check(t, "stored", want, f.stored())
				check(t, "left", tt.left, result.Left)
				if result.Unsaved != nil {
					t.Errorf("unsaved: %v", result.Unsaved)
				}
			})
		}
	}
}

func TestStream_Panic(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.answer = func(_ context.Context, _ chatkit.Question, a *chatkit.Answer) error {
		a.Write("Hi")
		panic("secret")
	}
	events, result := f.stream(t.Context(), f.begin(f.message("q")))
	check(t, "last event", "error Something went wrong on our side. Please try again. (retry)", events[len(events)-1])
	check(t, "stored", []string{"user: q", "assistant: Hi", "hidden"}, f.stored())
	if result.Err == nil || !strings.Contains(result.Err.Error(), "panic: secret") {
		t.Errorf("%v has nothing of the panic", result.Err)
	}
}

// TestStream_SendFails ends a stream at each of its events.
func TestStream_SendFails(t *testing.T) {
	t.Parallel()
	whole := []string{
		"thread.created active", "thread.item.done user: q", "stream_options", "thread.updated active q",
		"thread.item.added assistant:", "added", "text_delta Hi", "text_delta you", "done", "thread.item.done assistant: Hi you",
	}
	for n := range whole {
		t.Run(whole[n], func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.answer = says("Hi ", "you")
			sent := []string{}
			result := f.begin(f.message("q")).Stream(t.Context(), func(e chatkit.Event) error {
				s := f.short(e)
				if len(sent) == n {
					return errors.New("broken pipe")
				}
				sent = append(sent, s)
				return nil
			})
			check(t, "sent", whole[:n], sent)
			want := []string{"user: q", "hidden"}
			switch {
			case n >= 8:
				want = []string{"user: q", "assistant: Hi you"}
			case n == 7:
				want = []string{"user: q", "assistant: Hi you", "hidden"}
			case n == 6:
				want = []string{"user: q", "assistant: Hi", "hidden"}
			}
			check(t, "stored", want, f.stored())
			check(t, "left", true, result.Left)
		})
	}
}

func TestStream_Replaced(t *testing.T) {
	t.Parallel()
	for _, whole := range []bool{false, true} {
		t.Run(fmt.Sprintf("first is whole %t", whole), func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			f.answer = func(ctx context.Context, q chatkit.Question, a *chatkit.Answer) error {
				if err := says("First")(ctx, q, a); err != nil || whole {
					return err
				}
				cancel(chatkit.ErrReplaced)
				return ctx.Err()
			}
			turn := f.begin(f.message("q"))
			_, result := f.stream(ctx, turn)
			check(t, "replaced", !whole, errors.Is(result.Err, chatkit.ErrReplaced))
			first := f.thread
			f.answer = says("Second")
			events, _ := f.stream(t.Context(), turn)
			check(t, "thread", first, f.thread)
			if whole {
				check(t, "events", []string{
					"thread.created active", "thread.item.done user: q", "stream_options", "thread.updated active q", "thread.item.done assistant: First",
				}, events)
				check(t, "stored", []string{"user: q", "assistant: First"}, f.stored())
				return
			}
			check(t, "first event", "thread.created active", events[0])
			check(t, "last event", "thread.item.done assistant: Second", events[len(events)-1])
			check(t, "stored", []string{"user: q", "assistant: Second"}, f.stored())
		})
	}
}

// A browser that sends a request again may do so when its first connection is
// already known to be broken.
func TestStream_AgainAfterLeaving(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx, leave := context.WithCancel(t.Context())
	f.answer = func(ctx context.Context, _ chatkit.Question, a *chatkit.Answer) error {
		a.Write("Half")
		leave()
		return ctx.Err()
	}
	turn := f.begin(f.message("q"))
	f.stream(ctx, turn)
	check(t, "stored", []string{"user: q", "assistant: Half", "hidden"}, f.stored())
	f.answer = says("Whole")
	f.stream(t.Context(), turn)
	check(t, "stored", []string{"user: q", "assistant: Whole"}, f.stored())
}

func TestRetry(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		item int // Of four, or -1 for one that does not exist.
		want []string
	}{
		{"first message", 0, []string{"user: one", "assistant: New"}},
		{"last message", 2, []string{"user: one", "assistant: Yes.", "user: two", "assistant: New"}},
		{"answer", 1, []string{"user: one", "assistant: Yes.", "user: two", "assistant: New"}},
		{"last answer", 3, []string{"user: one", "assistant: Yes.", "user: two", "assistant: New"}},
		{"unknown", -1, []string{"user: one", "assistant: Yes.", "user: two", "assistant: New"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.say("one")
			f.say("two")
			id := "msg_unknown"
			if tt.item >= 0 {
				thread, err := f.store.Get(t.Context(), "visitor", f.thread)
				if err != nil {
					t.Fatal(err)
				}
				id = thread.Items[tt.item].ItemID()
			}
			before := f.stored()
			f.answer = func(ctx context.Context, q chatkit.Question, a *chatkit.Answer) error {
				check(t, "stored while it is answered", before, f.stored())
				return says("New")(ctx, q, a)
			}
			f.store.calls = nil
			events, _ := f.stream(t.Context(), f.begin(f.retry(id)))
			check(t, "events", []string{"stream_options", "thread.item.added assistant:", "added", "text_delta New", "done", "thread.item.done assistant: New"}, events)
			check(t, "stored", tt.want, f.stored())
			check(t, "cost", []string{"get", "put"}, f.store.calls)
		})
	}
}

// TestStore_Faults breaks the store at each step of a turn.
func TestStore_Faults(t *testing.T) {
	t.Parallel()
	down := errors.New("down")
	saved := []string{"user: one", "assistant: Yes.", "user: two", "assistant: Yes."}
	const done = "thread.item.done assistant: Yes."
	unsaved := "notice This conversation could not be saved. It will be gone when you leave or reload the page."
	tests := []struct {
		name   string
		errors []error // Of the calls: get, put, put, and so on.
		last   string
		stored []string
	}{
		{"read", []error{down}, unsaved, saved[:2]},
		{"message", []error{nil, down}, done, saved},
		{"answer", []error{nil, nil, down}, unsaved, saved[:3]},
		{"message and answer", []error{nil, down, down}, unsaved, saved[:2]},
		{"lost race for the message", []error{nil, chatkit.ErrConflict}, done, saved},
		{"lost race for the answer", []error{nil, nil, chatkit.ErrConflict}, done, saved},
		{"two lost races", []error{nil, nil, chatkit.ErrConflict, nil, chatkit.ErrConflict}, done, saved},
		{"three lost races", []error{nil, nil, chatkit.ErrConflict, nil, chatkit.ErrConflict, nil, chatkit.ErrConflict}, unsaved, saved[:3]},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.say("one")
			written := make(chan struct{})
			n := 0
			f.store.fail = func(string) error {
				n++
				if n == 2 {
					defer close(written)
				}
				if n <= len(tt.errors) {
					return tt.errors[n-1]
				}
				return nil
			}
			f.answer = func(ctx context.Context, q chatkit.Question, a *chatkit.Answer) error {
				if tt.errors[0] == nil {
					<-written // Otherwise the calls could come in another order.
				}
				return says("Yes.")(ctx, q, a)
			}
			events, result := f.stream(t.Context(), f.begin(f.message("two")))
			check(t, "last event", tt.last, events[len(events)-1])
			check(t, "stored", tt.stored, f.stored())
			check(t, "unsaved", tt.last == unsaved, errors.Is(result.Unsaved, chatkit.ErrUnavailable))
			for i, e := range events[:len(events)-1] {
				if e == done && i != len(events)-2 {
					t.Errorf("events after the answer's last: %q", events[i+1:])
				}
			}
		})
	}
}

// A store that does not answer holds a visitor up for no longer than its time, before
// the answer and after it.
func TestStore_Slow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.say("one")
		f.store.slow = true
		asked := time.Now()
		turn := f.begin(f.message("two"))
		if took := time.Since(asked); took != time.Minute {
			t.Errorf("the thread was waited for %s", took)
		}
		events, result := f.stream(t.Context(), turn)
		check(t, "answer", "thread.item.done assistant: Yes.", events[len(events)-2])
		check(t, "unsaved", true, errors.Is(result.Unsaved, chatkit.ErrUnavailable))

		f.store.slow = false
		turn = f.begin(f.message("three"))
		f.store.slow = true
		asked = time.Now()
		_, result = f.stream(t.Context(), turn)
		if took := time.Since(asked); took != time.Minute || !errors.Is(result.Unsaved, chatkit.ErrUnavailable) {
			t.Errorf("the turn took %s: %v", took, result.Unsaved)
		}
		synctest.Wait()
	})
}

func TestStore_DownForNewThread(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.store.fail = func(string) error { return errors.New("down") }
	events, _ := f.stream(t.Context(), f.begin(f.message("q")))
	check(t, "first event", "thread.created active", events[0])
	if last := events[len(events)-1]; !strings.HasPrefix(last, "notice This conversation could not be saved.") {
		t.Errorf("the last event is %q", last)
	}
	check(t, "stored", []string{"thread not found"}, f.stored())
}

func TestStore_DownForRetryAndQueries(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.say("q")
	f.store.fail = func(string) error { return errors.New("down") }
	if _, err := f.server.Begin(t.Context(), "visitor", f.retry("x"), chatkit.Reader{}); !errors.Is(err, chatkit.ErrUnavailable) {
		t.Errorf("retry: %v", err)
	}
	for _, q := range []string{"threads.get_by_id", "items.list"} {
		if got := f.query("visitor", q, fmt.Sprintf(`{"thread_id":%q}`, f.thread)); got != "conversations are unavailable: down" {
			t.Errorf("%s: %s", q, got)
		}
	}
}

func TestStream_DeletedWhileAnswered(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.say("one")
	f.answer = func(ctx context.Context, q chatkit.Question, a *chatkit.Answer) error {
		if got := f.query("visitor", "threads.delete", fmt.Sprintf(`{"thread_id":%q}`, f.thread)); got != "{}" {
			t.Errorf("delete: %s", got)
		}
		return says("Yes.")(ctx, q, a)
	}
	events, result := f.stream(t.Context(), f.begin(f.message("two")))
	check(t, "last events", []string{
		"thread.item.done assistant: Yes.",
		"notice This conversation was deleted. It will be gone when you leave or reload the page.",
	}, events[len(events)-2:])
	check(t, "stored", []string{"thread not found"}, f.stored())
	check(t, "unsaved", true, errors.Is(result.Unsaved, chatkit.ErrNotFound))
}

func TestStream_TwoTabs(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.say("one")
	var tabs sync.WaitGroup
	var together sync.WaitGroup
	together.Add(2)
	f.answer = func(ctx context.Context, q chatkit.Question, a *chatkit.Answer) error {
		together.Done()
		together.Wait() // Both have read the same thread.
		return says("To ", q.Message.Text())(ctx, q, a)
	}
	for _, text := range []string{"two", "three"} {
		turn := f.begin(f.message(text))
		tabs.Go(func() {
			if result := turn.Stream(t.Context(), func(chatkit.Event) error { return nil }); result.Unsaved != nil {
				t.Errorf("%s: %v", text, result.Unsaved)
			}
		})
	}
	tabs.Wait()
	got := f.stored()
	for _, want := range []string{"user: two", "user: three", "assistant: To two", "assistant: To three"} {
		if !strings.Contains(strings.Join(got, "\n"), want) {
			t.Errorf("%q is lost: %q", want, got)
		}
	}
	check(t, "items", 6, len(got))
}

func TestStream_FullThread(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	var last []string
	for n := range chatkit.MaxItems / 2 {
		last = f.say(fmt.Sprint("question ", n))
	}
	check(t, "last event", "thread.updated closed question 0", last[len(last)-1])
	if _, err := f.server.Begin(t.Context(), "visitor", f.message("more"), chatkit.Reader{}); !errors.Is(err, chatkit.ErrClosed) {
		t.Errorf("one more message: %v", err)
	}
	f.answer = says("New")
	events, _ := f.stream(t.Context(), f.begin(f.retry("")))
	check(t, "last event of a retry", "thread.item.done assistant: New", events[len(events)-1])
	check(t, "items", chatkit.MaxItems, len(f.stored()))
}

func TestStream_LongAnswer(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.answer = func(_ context.Context, _ chatkit.Question, a *chatkit.Answer) error {
		for {
			if err := a.Write(strings.Repeat("x", 10_000)); err != nil {
				return err
			}
		}
	}
	events, _ := f.stream(t.Context(), f.begin(f.message("q")))
	check(t, "last event", "error The answer is too long to be shown. Please ask for less at a time.", events[len(events)-1])
	check(t, "items", 3, len(f.stored()))
}

// TestQuery_OfAnother asks for what is another visitor's, or was never there: the
// answers are the same.
func TestQuery_OfAnother(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.say("q")
	threads := map[string]string{
		"another's": f.thread, "unknown": "thr_" + strings.Repeat("A", 26), "empty": "",
		"path": "../visitor/threads/" + f.thread, "slash": "a/b", "dots": "..", "long": strings.Repeat("x", 10_000),
		"NUL": "thr_\x00", "another kind": "msg_" + strings.Repeat("A", 26),
	}
	requests := map[string]string{
		"threads.get_by_id":        `{"thread_id":%s}`,
		"items.list":               `{"thread_id":%s}`,
		"threads.update":           `{"thread_id":%s,"title":"x"}`,
		"threads.delete":           `{"thread_id":%s}`,
		"items.feedback":           `{"thread_id":%s,"item_ids":["x"],"kind":"positive"}`,
		"threads.retry_after_item": `{"thread_id":%s,"item_id":"x"}`,
		"threads.add_user_message": `{"thread_id":%s,"input":{"content":[{"type":"input_text","text":"x"}],"attachments":[],"inference_options":{}}}`,
	}
	for name, id := range threads {
		for typ, params := range requests {
			quoted, _ := json.Marshal(id)
			r := f.request(typ, fmt.Sprintf(params, quoted))
			var err error
			if r.Type.Streams() {
				_, err = f.server.Begin(t.Context(), "another visitor", r, chatkit.Reader{})
			} else {
				_, err = f.server.Query(t.Context(), "another visitor", r)
			}
			if !errors.Is(err, chatkit.ErrNotFound) {
				t.Errorf("%s thread, %s: %v", name, typ, err)
			}
		}
	}
	check(t, "list", `{"data":[],"has_more":false}`, f.query("another visitor", "threads.list", "{}"))
	check(t, "stored", []string{"user: q", "assistant: Yes."}, f.stored())
}

func TestQuery_Items(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for n := range 12 {
		f.say(fmt.Sprint(n))
	}
	f.answer = func(context.Context, chatkit.Question, *chatkit.Answer) error { return context.Canceled }
	ctx, leave := context.WithCancel(t.Context())
	leave()
	f.stream(ctx, f.begin(f.message("left"))) // Leaves a hidden item.
	params := fmt.Sprintf(`{"thread_id":%q`, f.thread)
	texts := func(typ, more string) (got []string, after string) {
		t.Helper()
		v, err := f.server.Query(t.Context(), "visitor", f.request(typ, params+more+"}"))
		if err != nil {
			t.Fatal(err)
		}
		text, _ := json.Marshal(v)
		type list struct {
			Data []struct {
				Content []struct{ Text string }
				Type    string
			}
			HasMore bool `json:"has_more"`
			After   string
		}
		var whole struct {
			list

			Items *list
		}
		if err := json.Unmarshal(text, &whole); err != nil {
			t.Fatal(err)
		}
		if whole.Items != nil {
			whole.list = *whole.Items
		}
		for _, i := range whole.Data {
			if i.Type == "sdk_hidden_context" {
				t.Errorf("%s shows a hidden item", typ)
			}
			got = append(got, i.Content[0].Text)
		}
		if whole.HasMore != (whole.After != "") || whole.HasMore && len(got) == 0 {
			t.Errorf("%s: %d items, more: %t, after %q", typ, len(got), whole.HasMore, whole.After)
		}
		return got, whole.After
	}
	first, after := texts("threads.get_by_id", "")
	check(t, "first page", 20, len(first))
	rest, end := texts("items.list", fmt.Sprintf(`,"limit":9999,"order":"asc","after":%q`, after))
	check(t, "rest", []string{"10", "Yes.", "11", "Yes.", "left"}, rest)
	check(t, "end", "", end)
	newest, _ := texts("items.list", `,"limit":2`)
	check(t, "newest first", []string{"left", "Yes."}, newest)
	none, _ := texts("items.list", `,"after":"msg_unknown"`)
	check(t, "after an unknown item", nil, none)
}

func TestQuery_Threads(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.say("a question")
	params := fmt.Sprintf(`{"thread_id":%q`, f.thread)
	const thread = `"id":"thr","created_at":"2026-11-24T12:00:00.000005Z","status":{"type":"active"},"metadata":{},"items":{"data":[],"has_more":false}}`
	check(t, "list", `{"data":[{"title":"a question",`+thread+`],"has_more":false}`, f.query("visitor", "threads.list", "{}"))
	check(t, "after an unknown thread", `{"data":[],"has_more":false}`, f.query("visitor", "threads.list", `{"after":"../x"}`))
	check(t, "rename", `{"title":"New",`+thread, f.query("visitor", "threads.update", params+`,"title":"New"}`))
	check(t, "list", `{"data":[{"title":"New",`+thread+`],"has_more":false}`, f.query("visitor", "threads.list", "{}"))
	check(t, "delete", `{}`, f.query("visitor", "threads.delete", params+`}`))
	check(t, "delete again", `thread not found`, f.query("visitor", "threads.delete", params+`}`))
	check(t, "list", `{"data":[],"has_more":false}`, f.query("visitor", "threads.list", "{}"))
}

func TestQuery_Feedback(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.say("q")
	thread, err := f.store.Get(t.Context(), "visitor", f.thread)
	if err != nil {
		t.Fatal(err)
	}
	params := func(items string) string {
		return fmt.Sprintf(`{"thread_id":%q,"item_ids":[%s],"kind":"negative"}`, f.thread, items)
	}
	turn := fmt.Sprintf(`"msg_gone",%q,%q`, thread.Items[0].ItemID(), thread.Items[1].ItemID())
	f.now = f.now.Add(time.Hour)
	check(t, "feedback", "{}", f.query("visitor", "items.feedback", params(turn)))
	check(t, "stored", []string{"user: q", "assistant: Yes. negative"}, f.stored())
	check(t, "unknown item", "item not found", f.query("visitor", "items.feedback", params(`"msg_gone"`)))
	rated, err := f.store.Get(t.Context(), "visitor", f.thread)
	if err != nil || !rated.Updated.Equal(thread.Updated) {
		t.Errorf("feedback has changed the time of the last message from %s to %s, %v", thread.Updated, rated.Updated, err)
	}
	if got := f.query("visitor", "threads.get_by_id", fmt.Sprintf(`{"thread_id":%q}`, f.thread)); strings.Contains(got, "negative") {
		t.Errorf("the client gets the feedback: %s", got)
	}
}
