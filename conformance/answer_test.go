//go:build unix

package conformance_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

// answer is what a server has answered.
type answer struct {
	Status int
	Type   string
	// Parts are the data of a stream's events, or the one text of another body.
	Parts []string
	// Cut says that the connection ended before the body did.
	Cut bool
}

// streams reports whether the answer is a stream of events.
func (a answer) streams() bool { return a.Type == "text/event-stream" }

// read reads an answer. It stops after an event that contains leave, unless that is
// "".
func read(resp *http.Response, leave string) (answer, error) {
	a := answer{Status: resp.StatusCode, Type: resp.Header.Get("Content-Type")}
	if !a.streams() {
		body, err := io.ReadAll(resp.Body)
		a.Parts = []string{string(body)}
		return a, err
	}
	err := readEvents(resp.Body, func(data string) bool {
		a.Parts = append(a.Parts, data)
		return leave == "" || !strings.Contains(data, leave)
	})
	if errors.Is(err, io.ErrUnexpectedEOF) {
		a.Cut, err = true, nil
	}
	return a, err
}

var errForm = errors.New("not an event of one line of JSON")

// readEvents reads a stream of events and passes the data of each, until more
// returns false. It knows nothing but what ChatKit's servers send: one line of JSON
// for each event, and comments.
func readEvents(r io.Reader, more func(data string) bool) error {
	in := bufio.NewReader(r)
	for {
		line, err := in.ReadString('\n')
		if err == io.EOF && line == "" {
			return nil
		}
		if err != nil {
			return fmt.Errorf("in the event %q: %w", line, err)
		}
		if end, err := in.ReadString('\n'); err != nil {
			return fmt.Errorf("after the event %q: %w", line, err)
		} else if end != "\n" {
			return fmt.Errorf("%w: %q", errForm, line+end)
		}
		if strings.HasPrefix(line, ":") {
			continue
		}
		data, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "data: ")
		if !ok || !json.Valid([]byte(data)) || !utf8.ValidString(data) {
			return fmt.Errorf("%w: %q", errForm, line)
		}
		if !more(data) {
			return nil
		}
	}
}

// names give the IDs of one server in one conversation names that are the same for
// both servers: IDs are numbered as they appear. The name also says how long the ID
// is.
type names struct {
	name  map[string]string // By ID.
	id    map[string]string // By name, without the length.
	count map[string]int    // By kind.
}

func newNames() *names {
	return &names{map[string]string{}, map[string]string{}, map[string]int{}}
}

// object is a thread, an item, or a page of either, as far as it has IDs.
type object struct {
	ID     string   `json:"id"`
	Type   string   `json:"type"` // Of an item.
	Thread *object  `json:"thread"`
	Item   *object  `json:"item"`
	Items  *object  `json:"items"`
	Data   []object `json:"data"`
	After  string   `json:"after"`
}

// learn names the IDs in an answer.
func (n *names) learn(o object) {
	kind := "item"
	switch {
	case o.Items != nil:
		kind = "thread"
	case o.Type == "workflow": // It does not count as an item: only the reference has any.
		kind = "workflow"
	}
	n.add(kind, o.ID)
	for _, within := range []*object{o.Thread, o.Item, o.Items} {
		if within != nil {
			n.learn(*within)
		}
	}
	for _, within := range o.Data {
		n.learn(within)
	}
	n.add("hidden item", o.After) // All others are in the page.
}

func (n *names) add(kind, id string) {
	if id == "" || n.name[id] != "" {
		return
	}
	n.count[kind]++
	name := fmt.Sprintf("%s %d", kind, n.count[kind])
	n.id["<"+name+">"] = id
	length := "an unknown form"
	for _, form := range idForms {
		if form.pattern.MatchString(id) {
			length = form.length
		}
	}
	n.name[id] = fmt.Sprintf("<%s of %s>", name, length)
}

var idForms = []struct {
	pattern *regexp.Regexp
	length  string
}{
	{regexp.MustCompile(`^(thr|msg|shcx|wf)_[0-9a-f]{8}$`), shortID},
	{regexp.MustCompile(`^msg_[0-9a-f]{50}$`), openAIID},
	{regexp.MustCompile(`^(thr|msg|shcx)_[A-Z2-7]{26}$`), longID},
}

const (
	shortID  = "32 bits"
	longID   = "130 bits"
	openAIID = "200 bits"
)

var nameInBody = regexp.MustCompile(`<(thread|item) \d+>`)

// fill puts the IDs for their names into a request's body.
func (n *names) fill(t *testing.T, body string) string {
	t.Helper()
	return nameInBody.ReplaceAllStringFunc(body, func(name string) string {
		id, ok := n.id[name]
		if !ok {
			t.Fatalf("no answer had %s: %s", name, body)
		}
		return id
	})
}

var (
	created   = regexp.MustCompile(`"created_at":"([^"]*)"`)
	timeForm  = regexp.MustCompile(`^([0-9-]{10}T[0-9:]{8}(?:\.[0-9]{6})?)(Z?)$`)
	requestID = regexp.MustCompile(`"request_id":"[0-9a-f]{32}"`)
	anyString = regexp.MustCompile(`"(?:[^"\\]|\\.)*"`)
)

const (
	localTime = `"created_at":"<time without a zone>"`
	utcTime   = `"created_at":"<time in UTC>"`
)

// normalise returns the answer without what is different in every run. since is a
// time before the conversation.
func (n *names) normalise(a answer, since time.Time) answer {
	parts := make([]string, len(a.Parts))
	for i, part := range a.Parts {
		var o object
		if json.Unmarshal([]byte(part), &o) == nil {
			n.learn(o)
		}
		part = anyString.ReplaceAllStringFunc(part, func(s string) string {
			if name := n.name[strings.Trim(s, `"`)]; name != "" {
				return `"` + name + `"`
			}
			return s
		})
		part = requestID.ReplaceAllString(part, `"request_id":"<request>"`)
		parts[i] = created.ReplaceAllStringFunc(part, func(s string) string {
			m := timeForm.FindStringSubmatch(created.FindStringSubmatch(s)[1])
			if m == nil {
				return s
			}
			at, err := time.Parse("2006-01-02T15:04:05", m[1])
			switch {
			case err != nil, at.Before(since.Truncate(time.Microsecond)), at.After(time.Now()):
				return s
			case m[2] == "":
				return localTime
			default:
				return utcTime
			}
		})
	}
	a.Parts = parts
	return a
}

// joined returns the answer with neighbouring deltas as one.
func (a answer) joined() answer {
	parts := a.Parts
	a.Parts = nil
	for _, part := range parts {
		if m := deltaOf.FindStringSubmatch(part); m != nil && len(a.Parts) > 0 {
			last := &a.Parts[len(a.Parts)-1]
			if before := deltaOf.FindString(*last); before != "" {
				*last = strings.Replace(*last, before, strings.TrimSuffix(before, `"`)+m[1]+`"`, 1)
				continue
			}
		}
		a.Parts = append(a.Parts, part)
	}
	return a
}

// sameJSON reports whether two texts are the same but for spaces, escapes and the
// order of keys.
func sameJSON(a, b string) bool {
	var x, y any
	return json.Unmarshal([]byte(a), &x) == nil && json.Unmarshal([]byte(b), &y) == nil && cmp.Equal(x, y)
}

// compare returns how two answers differ, or "".
func compare(want, got answer) string {
	diff := cmp.Diff(want, got)
	if diff == "" || len(want.Parts) != len(got.Parts) {
		return diff
	}
	var b bytes.Buffer
	b.WriteString(diff)
	for i := range want.Parts {
		if want.Parts[i] != got.Parts[i] && sameJSON(want.Parts[i], got.Parts[i]) {
			fmt.Fprintf(&b, "part %d is the same JSON in other bytes:\n- %s\n+ %s\n", i, want.Parts[i], got.Parts[i])
		}
	}
	return b.String()
}

func TestReadEvents(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		stream string
		want   []string
		err    error
	}{
		"nothing":                   {"", nil, nil},
		"two events":                {"data: {\"a\":1}\n\ndata: {}\n\n", []string{`{"a":1}`, `{}`}, nil},
		"a comment between":         {"data: {}\n\n:\n\ndata: {}\n\n", []string{`{}`, `{}`}, nil},
		"an end within a line":      {"data: {}\n\ndata: {", []string{`{}`}, io.EOF},
		"an end before the blank":   {"data: {}\n", nil, io.EOF},
		"two lines of data":         {"data: {\ndata: }\n\n", nil, errForm},
		"no space":                  {"data:{}\n\n", nil, errForm},
		"a named event":             {"event: x\ndata: {}\n\n", nil, errForm},
		"lines that end in CRLF":    {"data: {}\r\n\r\n", nil, errForm},
		"what is not JSON":          {"data: {\n\n", nil, errForm},
		"what is not valid UTF-8":   {"data: \"\xff\"\n\n", nil, errForm},
		"a blank line between":      {"\n\ndata: {}\n\n", nil, errForm},
		"a blank line too many":     {"data: {}\n\n\ndata: {}\n\n", []string{`{}`}, errForm},
		"a comment without a blank": {":\ndata: {}\n\n", nil, errForm},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got []string
			err := readEvents(strings.NewReader(tt.stream), func(data string) bool {
				got = append(got, data)
				return true
			})
			if diff := cmp.Diff(tt.want, got); diff != "" || !errors.Is(err, tt.err) {
				t.Errorf("error %v, want %v; events (-want +got):\n%s", err, tt.err, diff)
			}
		})
	}
}

func TestNormalise(t *testing.T) {
	t.Parallel()
	now := time.Now().UTC()
	const thread = "thr_0123abcd"
	item := func(id, at string) string {
		return fmt.Sprintf(`{"item":{"id":"%s","thread_id":"%s","created_at":"%s"}}`, id, thread, at)
	}
	named := func(id, at string) string {
		return strings.ReplaceAll(item(id, at), thread, "<thread 1 of 32 bits>")
	}
	const format = "2006-01-02T15:04:05.000000"
	n := newNames()
	got := n.normalise(answer{Parts: []string{
		`{"thread":{"id":"thr_0123abcd","items":{}}}`,
		item("msg_0123abcd", now.Format(format)),
		item("msg_ABCDEFGHIJKLMNOPQRSTUVWXYZ", now.Format(format)+"Z"),
		item("msg_1", now.Format(format)+"+00:00"),
		item("msg_0123abcd", now.Format(format+"000")),
		item("msg_0123abcd", now.Add(-time.Hour).Format(format)),
		item("msg_0123abcd", now.Add(time.Hour).Format(format)+"Z"),
		`{"data":[],"after":"shcx_0123abcd"}`,
		`{"text":"thr_0123abcd \"thr_0123abcd\""}`,
	}}, now)
	want := []string{
		`{"thread":{"id":"<thread 1 of 32 bits>","items":{}}}`,
		named("<item 1 of 32 bits>", "<time without a zone>"),
		named("<item 2 of 130 bits>", "<time in UTC>"),
		named("<item 3 of an unknown form>", now.Format(format)+"+00:00"),
		named("<item 1 of 32 bits>", now.Format(format+"000")),
		named("<item 1 of 32 bits>", now.Add(-time.Hour).Format(format)),
		named("<item 1 of 32 bits>", now.Add(time.Hour).Format(format)+"Z"),
		`{"data":[],"after":"<hidden item 1 of 32 bits>"}`,
		`{"text":"thr_0123abcd \"thr_0123abcd\""}`,
	}
	if diff := cmp.Diff(want, got.Parts); diff != "" {
		t.Errorf("parts (-want +got):\n%s", diff)
	}
	if got := n.fill(t, `{"item_id":"<item 2>"}`); got != `{"item_id":"msg_ABCDEFGHIJKLMNOPQRSTUVWXYZ"}` {
		t.Errorf("filled body: %s", got)
	}
}
