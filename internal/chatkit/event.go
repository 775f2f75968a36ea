package chatkit

// Event is one entry of a stream. Which fields are set depends on the type; the
// functions of this file make those that are right.
type Event struct {
	Type          EventType      `json:"type"`
	Thread        *threadObject  `json:"thread,omitempty"`
	Item          Item           `json:"item,omitempty"`
	ItemID        string         `json:"item_id,omitempty"`
	Update        *Update        `json:"update,omitempty"`
	StreamOptions *streamOptions `json:"stream_options,omitempty"`
	Icon          string         `json:"icon,omitempty"`
	Text          string         `json:"text,omitempty"`
	Level         NoticeLevel    `json:"level,omitempty"`
	Code          string         `json:"code,omitempty"`
	Message       string         `json:"message,omitempty"`
	Title         string         `json:"title,omitempty"`
	AllowRetry    *bool          `json:"allow_retry,omitempty"`
}

// EventType says what an event is.
type EventType string

// The events that this server sends.
const (
	EventThreadCreated  EventType = "thread.created"
	EventThreadUpdated  EventType = "thread.updated"
	EventItemAdded      EventType = "thread.item.added"
	EventItemUpdated    EventType = "thread.item.updated"
	EventItemDone       EventType = "thread.item.done"
	EventStreamOptions  EventType = "stream_options"
	EventProgressUpdate EventType = "progress_update"
	EventNotice         EventType = "notice"
	EventError          EventType = "error"
)

// Update is a change to an item that is being streamed.
type Update struct {
	Type            string      `json:"type"`
	ContentIndex    int         `json:"content_index"`
	Content         *OutputText `json:"content,omitempty"`
	Delta           string      `json:"delta,omitempty"`
	AnnotationIndex *int        `json:"annotation_index,omitempty"`
	Annotation      *Annotation `json:"annotation,omitempty"`
}

// NoticeLevel is how much a notice matters.
type NoticeLevel string

// The levels of a notice.
const (
	Info    NoticeLevel = "info"
	Warning NoticeLevel = "warning"
	Danger  NoticeLevel = "danger"
)

type streamOptions struct {
	AllowCancel bool `json:"allow_cancel"`
}

// threadObject is a thread as a client gets it.
type threadObject struct {
	Title    string     `json:"title,omitempty"`
	ID       string     `json:"id"`
	Created  Time       `json:"created_at"`
	Status   status     `json:"status"`
	Metadata struct{}   `json:"metadata"`
	Items    page[Item] `json:"items"`
}

type status struct {
	Type   string `json:"type"`
	Reason string `json:"reason,omitempty"`
}

// page is a part of a list.
type page[T any] struct {
	Data    []T  `json:"data"`
	HasMore bool `json:"has_more"`
	// After is the ID of the last entry, where there are more.
	After string `json:"after,omitempty"`
}

// object returns the thread as a client gets it, with a page of its items.
func (t *Thread) object(items page[Item]) *threadObject {
	s := status{Type: "active"}
	if t.Closed {
		s = status{"closed", closedReason}
	}
	return &threadObject{Title: t.Title, ID: t.ID, Created: TimeOf(t.Created), Status: s, Items: items}
}

// noItems is the page of a thread whose items the client does not want.
func noItems() page[Item] { return page[Item]{Data: []Item{}} }

func threadEvent(kind EventType, t *Thread) Event {
	return Event{Type: kind, Thread: t.object(noItems())}
}

func itemEvent(kind EventType, item Item) Event { return Event{Type: kind, Item: item} }

func updateEvent(itemID string, kind string, u Update) Event {
	u.Type = "assistant_message.content_part." + kind
	return Event{Type: EventItemUpdated, ItemID: itemID, Update: &u}
}

// ErrorEvent returns the event that tells a visitor what went wrong, in plain text.
// With retry, ChatKit offers to try again.
func ErrorEvent(message string, retry bool) Event {
	return Event{Type: EventError, Code: "custom", Message: message, AllowRetry: &retry}
}

// Encode returns the event as it is sent: one event of server-sent events.
func (e Event) Encode() ([]byte, error) {
	text, err := encode(e)
	if err != nil {
		return nil, err
	}
	return append(append([]byte("data: "), text...), "\n\n"...), nil
}
