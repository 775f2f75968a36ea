package main_test

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"docent/internal/testkit/testfirestore"

	"github.com/google/go-cmp/cmp"
)

// The operator reads what visitors have asked the real service.
func TestThreads(t *testing.T) {
	t.Parallel()
	emulator, project := testfirestore.Address(t), testfirestore.Project()
	d := start(t, docs(t, "FIRESTORE_EMULATOR_HOST="+emulator, "GOOGLE_CLOUD_PROJECT="+project)...)
	d.openai.SetPace(0)
	const question, other = "How large can a tree be?", "Does it have a xylophone?"
	for n := range 2 {
		v := newReader(t, d)
		v.say(t, d, question)
		v.say(t, d, other)
		if n > 0 {
			continue
		}
		_, items := v.send(t, d, fmt.Sprintf(`{"type":"items.list","params":{"thread_id":%q,"order":"asc"}}`, v.thread))
		answer := regexp.MustCompile(`"msg_\w+"`).FindAllString(items, -1)[1]
		if status, body := v.send(t, d, fmt.Sprintf(`{"type":"items.feedback","params":{"thread_id":%q,"item_ids":[%s],"kind":"negative"}}`, v.thread, answer)); status != 200 {
			t.Fatalf("feedback: %s", body)
		}
	}
	environment := []string{"FIRESTORE_EMULATOR_HOST=" + emulator, "GOOGLE_CLOUD_PROJECT=" + project}
	type line struct {
		Time, Question, Answer, Feedback string
		Sources                          []string
	}
	read := func(t *testing.T, args ...string) (lines []line, stderr string) {
		t.Helper()
		r := tool(t, t.TempDir(), environment, append([]string{"threads", "--json"}, args...)...)
		if r.status != 0 {
			t.Fatalf("%+v", r)
		}
		for text := range strings.Lines(r.stdout) {
			var l line
			if err := json.Unmarshal([]byte(text), &l); err != nil || l.Time == "" {
				t.Fatalf("%s: %v", text, err)
			}
			l.Time = ""
			lines = append(lines, l)
		}
		return lines, r.stderr
	}
	found := line{Question: question, Answer: "A tree has at most 4,000 branches.", Sources: []string{"https://docs.example.com/limits#size"}}
	disliked := found
	disliked.Feedback = "negative"
	notFound := line{Question: other, Answer: "These docs do not have an answer to that. The nearest page is “Limits”.", Sources: []string{}}
	tests := []struct {
		name string
		args []string
		want []line
		says string
	}{
		{"all", nil, []line{notFound, found, notFound, disliked}, ""},
		{"negative", []string{"--feedback=negative", "--since=1h"}, []line{disliked}, ""},
		{"no source", []string{"--feedback", "no-source"}, []line{notFound, notFound}, ""},
		{"the newest", []string{"-n=1"}, []line{notFound}, "there may be more"},
		{"none", []string{"--feedback=positive"}, nil, "no such question"},
		{"too recent", []string{"--since=1ns"}, nil, "no such question"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, stderr := read(t, tt.args...)
			if diff := cmp.Diff(tt.want, got); diff != "" || !strings.Contains(stderr, tt.says) || (stderr == "") != (tt.says == "") {
				t.Errorf("stderr %q (-want +got):\n%s", stderr, diff)
			}
		})
	}
	if full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0); err == nil {
		defer full.Close()
		var stderr strings.Builder
		cmd := command(t.TempDir(), environment, "threads", "--json")
		cmd.Stdout, cmd.Stderr = full, &stderr
		if status := exitStatus(t, cmd.Run()); status != 1 || !strings.Contains(stderr.String(), "writing the output") {
			t.Errorf("on a full disk: status %d, %s", status, stderr.String())
		}
	}
	r := tool(t, t.TempDir(), environment, "threads", "--feedback=negative")
	want := regexp.MustCompile(`^\d{4}-\d\d-\d\d \d\d:\d\d  negative
    How large can a tree be\?
  → A tree has at most 4,000 branches\.
    https://docs\.example\.com/limits#size
$`)
	if !want.MatchString(r.stdout) {
		t.Errorf("printed: %s", r.stdout)
	}
}

func TestThreads_Arguments(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name        string
		environment []string
		args        []string
		status      int
		want        string
	}{
		{"unknown kind", nil, []string{"--feedback=angry"}, 2, "no-source"},
		{"no age", nil, []string{"--since=yesterday"}, 2, "7d"},
		{"a negative age", nil, []string{"--since=-1h"}, 2, "7d"},
		{"too many", nil, []string{"-n=10001"}, 2, "10000"},
		{"something else", nil, []string{"hello"}, 2, "hello"},
		{"no project", nil, nil, 2, "GOOGLE_CLOUD_PROJECT"},
		{"in memory", []string{"GOOGLE_CLOUD_PROJECT=p", "RATE_LIMIT_STORE=memory"}, nil, 1, "memory"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if r := tool(t, t.TempDir(), tt.environment, append([]string{"threads"}, tt.args...)...); r.status != tt.status || !strings.Contains(r.stderr, tt.want) {
				t.Errorf("%+v", r)
			}
		})
	}
}
