// Package testchat gives tests a ChatKit server that answers as each test says:
// exact events, wrong statuses, streams that break.
package testchat

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
)

// Request is a request that the server got.
type Request struct {
	Type   string          `json:"type"`
	Params json.RawMessage `json:"params"`
	Header http.Header     `json:"-"`
}

// Server is a ChatKit server. Its zero value knows no thread and confirms what
// changes one.
type Server struct {
	mu      sync.Mutex
	answers map[string][]http.HandlerFunc
	asked   []Request
}

// On sets the answers to the requests of a type: each request takes the next one, and
// the last one stays.
func (s *Server) On(kind string, answers ...http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.answers == nil {
		s.answers = map[string][]http.HandlerFunc{}
	}
	s.answers[kind] = answers
}

// Asked returns the requests of a type so far. Without a type it returns all.
func (s *Server) Asked(kind string) []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []Request
	for _, r := range s.asked {
		if kind == "" || r.Type == kind {
			found = append(found, r)
		}
	}
	return found
}

var defaults = map[string]http.HandlerFunc{
	"threads.list":      JSON(http.StatusOK, `{"data":[],"has_more":false}`),
	"threads.get_by_id": JSON(http.StatusNotFound, `{"code":"thread_not_found","message":"There is no such conversation."}`),
	"threads.update":    JSON(http.StatusOK, `{}`),
	"threads.delete":    JSON(http.StatusOK, `{}`),
	"items.feedback":    JSON(http.StatusOK, `{}`),
}

func (s *Server) take(r Request) http.HandlerFunc {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, r)
	answers := s.answers[r.Type]
	switch len(answers) {
	case 0:
		return defaults[r.Type]
	case 1:
	default:
		s.answers[r.Type] = answers[1:]
	}
	return answers[0]
}

// ServeHTTP answers a request, for any origin. By CORS it allows the headers that
// ChatKit and the widget send, and no others.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Access-Control-Allow-Origin", "*")
	if r.Method == http.MethodOptions {
		h.Set("Access-Control-Allow-Headers", "Content-Type, Authorization, chatkit-frame-instance-id, docent-page, docent-widget")
		w.WriteHeader(http.StatusNoContent)
		return
	}
	request := Request{Header: r.Header.Clone()}
	if err := json.NewDecoder(r.Body).Decode(&request); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	answer := s.take(request)
	if answer == nil {
		http.Error(w, "no answer to "+request.Type, http.StatusNotImplemented)
		return
	}
	answer(w, r)
}

// JSON returns an answer with a status and a body of JSON.
func JSON(status int, body string) http.HandlerFunc { return Answer(status, "application/json", body) }

// Answer returns any answer.
func Answer(status int, contentType, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// Gone closes the connection without an answer.
func Gone(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

// Stream returns an answer of events that ends well.
func Stream(events ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { send(w, events) }
}

// Broken returns a stream whose connection breaks after the events, once seen is
// closed: a browser may drop what it has not read when it learns of the break.
func Broken(events []string, seen <-chan struct{}) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		Open(events, seen)(w, r)
		Gone(w, r)
	}
}

// Open returns a stream that stays open after the events, until more is closed or
// ChatKit leaves. Then rest follows.
func Open(events []string, more <-chan struct{}, rest ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		send(w, events)
		select {
		case <-more:
			send(w, rest)
		case <-r.Context().Done():
		}
	}
}

// send writes each event as a line of data, or as it is if it has a line of its own.
func send(w http.ResponseWriter, events []string) {
	w.Header().Set("Content-Type", "text/event-stream")
	for _, event := range events {
		if strings.HasPrefix(event, "{") {
			event = "data: " + event
		}
		_, _ = io.WriteString(w, event+"\n\n")
	}
	_ = http.NewResponseController(w).Flush()
}

// The events and objects of the protocol. A thread's ID is part of its items' IDs
// only by a test's own choice.

const created = `"created_at":"2026-11-24T10:00:00Z"`

func quote(text string) string {
	quoted, err := json.Marshal(text)
	if err != nil {
		panic(err) // A string is always JSON.
	}
	return string(quoted)
}

// Thread returns a thread. status is its type, such as "active", with a reason if
// there is one.
func Thread(id, title, status, reason string, items ...string) string {
	return fmt.Sprintf(`{"id":%q,"title":%s,%s,"status":{"type":%q,"reason":%s},"items":{"data":[%s],"has_more":false}}`,
		id, quote(title), created, status, quote(reason), strings.Join(items, ","))
}

// Created returns the event that begins a thread.
func Created(id string) string {
	return fmt.Sprintf(`{"type":"thread.created","thread":{"id":%q,%s,"status":{"type":"active"},"items":{"data":[],"has_more":false}}}`, id, created)
}

// Updated returns the event that changes a thread.
func Updated(thread string) string { return `{"type":"thread.updated","thread":` + thread + `}` }

// UserMessage returns a visitor's message as an item.
func UserMessage(thread, id, text string) string {
	return fmt.Sprintf(`{"id":%q,"thread_id":%q,%s,"type":"user_message","content":[{"type":"input_text","text":%s}],"attachments":[],"inference_options":{}}`,
		id, thread, created, quote(text))
}

// Message returns an answer as an item.
func Message(thread, id, text string, annotations ...string) string {
	return fmt.Sprintf(`{"id":%q,"thread_id":%q,%s,"type":"assistant_message","content":[{"type":"output_text","text":%s,"annotations":[%s]}]}`,
		id, thread, created, quote(text), strings.Join(annotations, ","))
}

// Source returns an annotation with a URL. An index below 0 is left out.
func Source(index int, url, title string) string {
	at := ""
	if index >= 0 {
		at = fmt.Sprintf(`,"index":%d`, index)
	}
	return fmt.Sprintf(`{"type":"annotation","source":{"type":"url","url":%q,"title":%s}%s}`, url, quote(title), at)
}

// Done returns the event that completes an item.
func Done(item string) string { return `{"type":"thread.item.done","item":` + item + `}` }

// Begin returns the events that begin an answer.
func Begin(thread, id string) []string {
	return []string{
		fmt.Sprintf(`{"type":"thread.item.added","item":{"id":%q,"thread_id":%q,%s,"type":"assistant_message","content":[]}}`, id, thread, created),
		Update(id, `"type":"assistant_message.content_part.added","content_index":0,"content":{"type":"output_text","text":"","annotations":[]}`),
	}
}

// Update returns an event that changes an item.
func Update(id, update string) string {
	return fmt.Sprintf(`{"type":"thread.item.updated","item_id":%q,"update":{%s}}`, id, update)
}

// Delta returns the event of more text.
func Delta(id, text string) string {
	return Update(id, `"type":"assistant_message.content_part.text_delta","content_index":0,"delta":`+quote(text))
}

// Error returns an event of Docent's form.
func Error(message string, retry bool) string {
	return fmt.Sprintf(`{"type":"error","code":"custom","message":%s,"allow_retry":%t}`, quote(message), retry)
}

// Answered returns the events of a question and its answer. before come first.
func Answered(before []string, thread, n, question, answer string) []string {
	events := append(before, Done(UserMessage(thread, "user"+n, question)))
	events = append(events, Begin(thread, "answer"+n)...)
	return append(events, Delta("answer"+n, answer), Done(Message(thread, "answer"+n, answer)))
}
