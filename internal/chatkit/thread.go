package chatkit

import (
	"slices"
	"strings"
	"time"
	"unicode/utf16"
)

// A thread that has reached one of these bounds is closed: it takes no more
// messages.
const (
	MaxItems = 200
	MaxBytes = 256 << 10 // Of [EncodeItems].
)

// maxTitle is the length of a title that is taken from a question, in characters.
const maxTitle = 60

// Thread is a conversation.
type Thread struct {
	ID string
	// Title is the first question until the visitor gives another; "" before it.
	Title  string
	Closed bool
	// Created and Updated are in UTC, to the microsecond.
	Created, Updated time.Time
	// Items are in the order of the conversation. A [Store] that lists threads
	// leaves them out.
	Items []Item
	// Version is the store's: it names what was read, so that [Store.Put] can tell
	// whether another write came between. 0 is a thread that was never stored.
	Version int64
}

// closedReason is what a visitor reads in place of the composer.
const closedReason = "This conversation is full. Please start a new one."

// Operation changes a thread. It is applied again where another write came first,
// so it must find what it changes by ID, and do nothing where that is done already.
type Operation func(*Thread)

// Append adds an item at the end. A message gives the thread its title where it
// has none.
func Append(item Item) Operation {
	return func(t *Thread) {
		if t.index(item.ItemID()) < 0 {
			t.Items = append(t.Items, item)
		}
		if m, ok := item.(*UserMessage); ok && t.Title == "" {
			t.Title = titleOf(m.Text())
		}
	}
}

// Remove takes items out.
func Remove(ids ...string) Operation {
	return func(t *Thread) {
		t.Items = slices.DeleteFunc(t.Items, func(i Item) bool { return slices.Contains(ids, i.ItemID()) })
	}
}

// SetTitle renames the thread.
func SetTitle(title string) Operation {
	return func(t *Thread) { t.Title = title }
}

// SetFeedback notes the visitor's opinion with those of the items that are answers.
func SetFeedback(kind Feedback, ids ...string) Operation {
	return func(t *Thread) {
		for i, item := range t.Items {
			if m, ok := item.(*AssistantMessage); ok && slices.Contains(ids, m.ID) {
				rated := *m // The old one may be in another goroutine's hands.
				rated.Feedback = kind
				t.Items[i] = &rated
			}
		}
	}
}

// apply returns the thread after operations, closed if it is full then. The
// thread that it was is left as it is. Only what is said makes a thread newer and
// keeps it for longer, not a title or an opinion.
func (t *Thread) apply(ops []Operation, now time.Time) (Thread, error) {
	next := *t
	next.Items = slices.Clone(t.Items)
	for _, op := range ops {
		op(&next)
	}
	if last := next.last(); last != t.last() {
		next.Updated = TimeOf(now).Time
	}
	text, err := EncodeItems(next.Items)
	next.Closed = next.Closed || len(next.Items) >= MaxItems || len(text) >= MaxBytes
	return next, err
}

// last returns the ID of the last item, or "".
func (t *Thread) last() string {
	if len(t.Items) == 0 {
		return ""
	}
	return t.Items[len(t.Items)-1].ItemID()
}

// index returns where an item is, or -1.
func (t *Thread) index(id string) int {
	return slices.IndexFunc(t.Items, func(i Item) bool { return i.ItemID() == id })
}

// titleOf returns a question as a title: in one line, cut at a word.
func titleOf(question string) string {
	title := []rune(strings.Join(strings.Fields(question), " "))
	if len(title) <= maxTitle {
		return string(title)
	}
	for end := maxTitle; end > 0; end-- {
		if title[end] == ' ' {
			return string(title[:end])
		}
	}
	return string(title[:maxTitle]) // One long word.
}

// unitsOf returns the length of a text in UTF-16 code units, which is how browsers
// count.
func unitsOf(text string) int {
	n := 0
	for _, r := range text {
		n += utf16.RuneLen(r)
	}
	return n
}
