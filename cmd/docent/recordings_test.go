package main_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// recordings is where recorded streams of OpenAI's are, next to the repository. They
// are not part of it.
const recordings = "../../../shared/cassettes"

// recorded returns the files that match a pattern in the recordings, or skips the test
// where there are none.
func recorded(t *testing.T, patterns ...string) (files []string) {
	t.Helper()
	for _, pattern := range patterns {
		found, err := filepath.Glob(filepath.Join(recordings, pattern))
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, found...)
	}
	if _, err := os.Stat(recordings); errors.Is(err, fs.ErrNotExist) {
		t.Skip("no recordings on this machine")
	}
	if len(files) == 0 {
		t.Fatalf("no recordings match %q", patterns)
	}
	return files
}

// spent marks recordings after which Docent pauses.
const spent = "insufficient_quota"

// oddly streams a recording in pieces that have nothing to do with its events or
// characters.
func oddly(recording []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
		sizes := []int{1, 509, 2, 3, 1021, 5}
		for n, rest := 0, recording; len(rest) > 0; n++ {
			size := min(sizes[n%len(sizes)], len(rest))
			if _, err := w.Write(rest[:size]); err != nil {
				return
			}
			http.NewResponseController(w).Flush()
			rest = rest[size:]
		}
	}
}

var wholeMarker = regexp.MustCompile(`\x{E200}[^\x{E201}]*\x{E201}`)

// shownOf returns what a visitor is to see of a recording, from its last event. It
// knows nothing of deltas unless there is no such event, and of no citations: what the
// recordings cite is not of this site.
func shownOf(t *testing.T, recording string) shown {
	t.Helper()
	var s shown
	var deltas string
	for line := range strings.Lines(recording) {
		data, ok := strings.CutPrefix(line, "data:")
		if !ok {
			continue
		}
		var e struct {
			Type, Delta string
			Response    struct {
				Output []struct {
					Type, Phase string
					Content     []struct{ Text, Refusal string }
				}
				Details struct{ Reason string } `json:"incomplete_details"`
			}
		}
		if err := json.Unmarshal([]byte(data), &e); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		switch e.Type {
		case "response.output_text.delta":
			deltas += e.Delta
			continue
		case "response.completed", "response.incomplete":
		default:
			continue
		}
		for _, item := range e.Response.Output {
			for _, part := range item.Content {
				if item.Type == "message" && item.Phase != "commentary" {
					s.Text += part.Text + part.Refusal
				}
			}
		}
		s.Text = wholeMarker.ReplaceAllString(s.Text, "")
		switch reason := e.Response.Details.Reason; {
		case s.Text == "":
			s.Error = sayNoText
		case reason == "max_output_tokens":
			s.Notice = sayCutAtLimit
		case reason != "":
			s.Notice = sayCutByModel
		}
		return s
	}
	switch s.Text = wholeMarker.ReplaceAllString(deltas, ""); {
	case strings.Contains(recording, spent):
		s.Error = sayUnavailable
	case strings.Contains(recording, "Request too large"):
		s.Error = sayRejected
	case s.Text != "":
		s.Error = sayInterrupted
	default:
		s.Error = sayBusy
	}
	return s
}

func TestRecordings(t *testing.T) {
	t.Parallel()
	files := recorded(t, "*.sse", "synthetic/*.sse")
	var shared models
	all := shared.answering(t)
	together(t, files, filepath.Base, func(t *testing.T, file string) {
		t.Helper()
		recording, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		m, d := &shared, all
		if strings.Contains(string(recording), spent) {
			m = &models{}
			d = m.answering(t)
		}
		h := oddly(recording)
		name := fmt.Sprint("recording ", slices.Index(files, file)) // Without words of the file's name.
		m.of(name).RespondWith(h, h, h)
		got, record := newReader(t, d).watch(t, d, m.question(name))
		if diff := cmp.Diff(shownOf(t, string(recording)), got, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("(-want +got):\n%s\nthe record is %v", diff, record)
		}
	})
}

func TestRecordings_Errors(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile(recorded(t, "rest/http_errors.json")[0])
	if err != nil {
		t.Fatal(err)
	}
	type recording struct {
		URI    string
		Status int
		Body   json.RawMessage `json:"response_body"`
	}
	var all []recording
	if err := json.Unmarshal(data, &all); err != nil {
		t.Fatal(err)
	}
	together(t, all, func(r recording) string { return fmt.Sprint(r.Status) }, func(t *testing.T, r recording) {
		t.Helper()
		if !strings.HasSuffix(r.URI, "/responses") {
			t.Skip("of another endpoint")
		}
		d := answering(t, docs(t)...)
		h := answers(r.Status, string(r.Body), "Content-Type", "application/json")
		d.openai.RespondWith(h, h, h)
		want := shown{Error: sayRejected}
		if strings.Contains(string(r.Body), spent) {
			want.Error = sayUnavailable
		}
		got, record := newReader(t, d).watch(t, d, installs)
		if diff := cmp.Diff(want, got); diff != "" || len(d.openai.Responses()) != 1 {
			t.Errorf("%d calls, the record is %v (-want +got):\n%s", len(d.openai.Responses()), record, diff)
		}
	})
}
