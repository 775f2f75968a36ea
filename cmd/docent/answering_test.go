package main_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"docent/internal/standin"
)

// Words of a question and of the docs, which nothing but a conversation may have.
const (
	visitorsWords = "visitors-words"
	docsWords     = "Orchard"
)

// installs is a question that [testindex.Small] answers.
const installs = "How do I install Orchard on Linux? " + visitorsWords

// answering starts a Docent whose model quotes the docs, without pauses. Nothing of a
// question or an answer may be in its output, up to its end.
func answering(t *testing.T, settings ...string) *docent {
	t.Helper()
	var d *docent
	t.Cleanup(func() { // After the process has stopped.
		if d != nil {
			noTexts(t, d.output.String())
		}
	})
	d = start(t, settings...)
	d.openai.SetPace(0)
	return d
}

// noTexts checks that a log has no text of questions and answers, and OpenAI's words
// only in its field for them.
func noTexts(t *testing.T, output string) {
	t.Helper()
	for line := range strings.Lines(output) {
		for _, words := range []string{visitorsWords, docsWords, "ds_"} {
			if strings.Contains(line, words) {
				t.Errorf("the log has %q: %s", words, line)
			}
		}
		var record map[string]any
		if err := json.Unmarshal([]byte(line), &record); err != nil {
			t.Errorf("not a line of JSON: %s", line)
		}
		delete(record, "upstream")
		if strings.Contains(fmt.Sprint(record), upstreamText) {
			t.Errorf("the log has words of OpenAI's: %s", line)
		}
	}
}

// shown is what a visitor sees of an answer.
type shown struct {
	Text      string
	Citations []string // The URLs, each with its place in the text before it.
	Notice    string
	Error     string // With " (retry)" behind it where the visitor may try again.
}

// chatEvent has the fields of a stream's event that [readShown] checks.
type chatEvent struct {
	Type    string
	Message string
	Retry   *bool `json:"allow_retry"`
	Thread  struct{ ID string }
	Item    chatItem
	ItemID  string `json:"item_id"`
	Update  struct {
		Type       string
		Delta      string
		Annotation *annotation
	}
}

type chatItem struct {
	ID, Type string
	Content  []struct {
		Text        string
		Annotations []annotation
	}
}

type annotation struct {
	Source struct{ URL, Title string }
	Index  int
}

func (a annotation) String() string { return fmt.Sprint(a.Index, " ", a.Source.URL) }

// openAIs matches what only OpenAI says: IDs, names of models, errors, reasoning, and
// what comes from tools and comments.
var openAIs = regexp.MustCompile(`resp_|rs_[0-9a-f]|msg_[0-9a-f]{40}|req_|org-|proj_|gpt-|o[34]-mini|(?i:openai)|` + upstreamText +
	`|server_error|is_overloaded|slow_down|rate_limit|insufficient_quota|context_length|per min|billing|context window|help center|contact us|currently overloaded` +
	`|must not be shown|Reading the blocks|The visitor wants|Looking through|annotated\.example|file-standin|turn0file`)

// readShown reads a stream, checks what holds for every stream, and returns what the
// visitor sees and the conversation's ID.
func readShown(t *testing.T, stream, question string) (s shown, thread string) {
	t.Helper()
	if i := strings.IndexAny(stream, "\uE200\uE201\uE202\uFFFD"); i >= 0 {
		t.Errorf("a marker or a broken character in the stream: …%q", stream[max(0, i-100):min(len(stream), i+100)])
	}
	if !strings.HasSuffix(stream, "\n\n") {
		t.Errorf("the stream is not whole: %q", stream[max(0, len(stream)-100):])
	}
	var kinds []string
	var answer string // The ID of the answer's item.
	ended := false
	for block := range strings.SplitSeq(strings.TrimSuffix(stream, "\n\n"), "\n\n") {
		data, ok := strings.CutPrefix(block, "data: ")
		if strings.HasPrefix(block, ":") {
			continue
		}
		var e chatEvent
		if err := json.Unmarshal([]byte(data), &e); err != nil || !ok {
			t.Fatalf("%q: %v", block, err)
		}
		kinds = append(kinds, e.Type)
		if ended && e.Type != "notice" && e.Type != "thread.updated" {
			t.Errorf("%s after the end of the answer", e.Type)
		}
		switch e.Type {
		case "thread.created":
			thread = e.Thread.ID
		case "thread.item.added":
			answer = e.Item.ID
		case "thread.item.updated":
			s.Text += e.Update.Delta
			if e.ItemID != answer {
				t.Errorf("an update of item %q in the answer %q", e.ItemID, answer)
			}
			if a := e.Update.Annotation; a != nil {
				s.Citations = append(s.Citations, a.String())
			}
		case "notice":
			s.Notice += e.Message
		case "error":
			ended = true
			if s.Error = e.Message; e.Retry == nil || e.Message == "" {
				t.Errorf("an error without a message or allow_retry: %s", block)
			} else if *e.Retry {
				s.Error += " (retry)"
			}
		case "thread.item.done":
			if e.Item.Type == "user_message" {
				if text := e.Item.Content[0].Text; text != question {
					t.Errorf("the visitor's message is %q, want %q", text, question)
				}
				break
			}
			ended = true
			if e.Item.ID != answer {
				t.Errorf("item %q is done, want %q", e.Item.ID, answer)
			}
			if diff := cmp.Diff(s, itemShown(e.Item)); diff != "" {
				t.Errorf("the item done is not what was streamed (-streamed +done):\n%s", diff)
			}
		}
	}
	first := []string{"thread.created", "thread.item.done", "stream_options", "thread.updated"}
	if diff := cmp.Diff(first, kinds[:min(len(first), len(kinds))]); diff != "" {
		t.Errorf("the first events (-want +got):\n%s", diff)
	}
	for _, words := range openAIs.FindAllString(stream, -1) {
		if !strings.Contains(s.Text, words) { // The model may use such a word, which is then compared as a part of the text.
			t.Errorf("OpenAI's own words %q in the stream:\n%s", words, stream)
		}
	}
	if !ended {
		t.Errorf("the stream has no end: %q", kinds)
	}
	return s, thread
}

// itemShown returns what the visitor sees of an answer's item.
func itemShown(item chatItem) shown {
	var s shown
	for _, c := range item.Content {
		s.Text += c.Text
		for _, a := range c.Annotations {
			s.Citations = append(s.Citations, a.String())
		}
	}
	return s
}

// watch asks a question in a conversation of its own and returns what the visitor
// sees, and the log's record. What is stored must be the same.
func (v *reader) watch(t *testing.T, d *docent, question string) (shown, map[string]any) {
	t.Helper()
	v.thread = ""
	resp := v.open(t.Context(), t, d, v.message(question))
	defer resp.Body.Close()
	stream, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%v: %d %s", err, resp.StatusCode, stream)
	}
	s, thread := readShown(t, string(stream), question)
	v.thread = thread
	keeps := s
	if strings.TrimSpace(s.Text) == "" { // Then it is not an answer.
		keeps.Text = ""
	}
	if diff := cmp.Diff(keeps, v.stored(t, d, question), cmpopts.IgnoreFields(shown{}, "Notice", "Error")); diff != "" {
		t.Errorf("what is stored is not what was shown (-shown +stored):\n%s", diff)
	}
	return s, d.recordOf(t, resp.Header.Get("X-Request-Id"))
}

// stored returns what is kept of a conversation with one question.
func (v *reader) stored(t *testing.T, d *docent, question string) shown {
	t.Helper()
	_, body := v.send(t, d, fmt.Sprintf(`{"type":"items.list","params":{"thread_id":%q,"order":"asc","limit":100}}`, v.thread))
	var list struct{ Data []chatItem }
	if err := json.Unmarshal([]byte(body), &list); err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	switch items := list.Data; {
	case len(items) == 0, len(items) > 2, itemShown(items[0]).Text != question:
		t.Fatalf("stored for the question %q: %s", question, body)
		return shown{}
	case len(items) == 1:
		return shown{}
	default:
		return itemShown(items[1])
	}
}

// models is OpenAI with a stand-in of its own for each case, which the question names.
// So cases that take their time can share a Docent.
type models struct {
	mu  sync.Mutex
	all map[string]*standin.OpenAI
}

// answering starts a Docent that asks them.
func (m *models) answering(t *testing.T, settings ...string) *docent {
	t.Helper()
	m.all = map[string]*standin.OpenAI{}
	srv := httptest.NewServer(m)
	t.Cleanup(srv.Close)
	d := answering(t, docs(t, append(settings, "OPENAI_BASE_URL="+srv.URL+"/v1")...)...)
	d.disconnect = srv.Close
	return d
}

// of returns the stand-in of a case.
func (m *models) of(name string) *standin.OpenAI {
	m.mu.Lock()
	defer m.mu.Unlock()
	o := m.all[name]
	if o == nil {
		o = standin.NewOpenAI(testKey, testWorkflow)
		o.SetPace(0)
		m.all[name] = o
	}
	return o
}

// question returns a question in the case.
func (*models) question(name string) string { return installs + " (case " + name + ")" }

var caseName = regexp.MustCompile(`.*\(case ([^()]+)\)`) // The last one: that of the question.

func (m *models) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // Docent has gone.
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	name := caseName.FindSubmatch(body)
	if name == nil {
		http.Error(w, "no case", http.StatusTeapot)
		return
	}
	m.of(string(name[1])).ServeHTTP(w, r)
}

// together runs subtests at the same time: most of them wait.
func together[T any](t *testing.T, cases []T, name func(T) string, test func(t *testing.T, c T)) {
	t.Helper()
	var all sync.WaitGroup
	for _, c := range cases {
		all.Go(func() { t.Run(name(c), func(t *testing.T) { test(t, c) }) })
	}
	all.Wait()
}

// recordOf returns the record of the request with an ID, once it is there.
func (d *docent) recordOf(t *testing.T, requestID string) map[string]any {
	t.Helper()
	for n := 1; ; {
		records := d.records(t, n)
		for _, r := range records {
			if r["request_id"] == requestID {
				return r
			}
		}
		n = len(records) + 1
	}
}
