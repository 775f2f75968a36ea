package main_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// eval writes questions, one in each line, and runs an evaluation of the manual.
func eval(t *testing.T, questions string, args ...string) run {
	t.Helper()
	dir := writeIndex(t, manual())
	if err := os.WriteFile(filepath.Join(dir, "questions.jsonl"), []byte(questions), 0o644); err != nil {
		t.Fatal(err)
	}
	return tool(t, dir, nil, append([]string{"eval", "--index=docs.index", "questions.jsonl"}, args...)...)
}

const questions = "\ufeff" + `{"q":"install linux","answers":["/docs/install/#linux"]}

{"q":"install linux","answers":["/nothing-like-it/../docs/install","https://docs.example.com/docs/1/install/#linux"],"note":"second"}
{"q":"xylophone","answers":["/de/install#über-linux"]}
{"q":"install","answers":["/docs/1/install#linux"]}
`

func TestEval_JSON(t *testing.T) {
	t.Parallel()
	r := eval(t, questions, "--json")
	var got map[string]any
	if err := json.Unmarshal([]byte(r.stdout), &got); err != nil || r.status != 0 || r.stderr != "" {
		t.Fatalf("%v: %+v", err, r)
	}
	want := map[string]any{
		"n": 4.0, "recall": map[string]any{"1": 0.25, "5": 0.5, "10": 0.5}, "mrr": 0.375,
		"misses": []any{
			map[string]any{"q": "xylophone", "answers": []any{"/de/install#über-linux"}, "found": []any{}},
			map[string]any{"q": "install", "answers": []any{"/docs/1/install#linux"}, "found": []any{"/docs/install/#linux", "/docs/install/"}},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestEval_Text(t *testing.T) {
	t.Parallel()
	want := `4 questions

  recall at 1   0.250
  recall at 5   0.500
  recall at 10  0.500
  MRR           0.375

Not among the first 10:

  xylophone
    right  /de/install#über-linux
    found  nothing

  install
    right  /docs/1/install#linux
    found  /docs/install/#linux
           /docs/install/
`
	if diff := cmp.Diff(want, eval(t, questions).stdout); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestEval_Min(t *testing.T) {
	t.Parallel()
	for least, want := range map[string]run{
		"0.5":  {status: 0},
		"0.51": {status: 1, stderr: "docent: recall at 10 is 0.500, which is less than 0.51\n"},
	} {
		t.Run(least, func(t *testing.T) {
			t.Parallel()
			if r := eval(t, questions, "--min", least); r.status != want.status || r.stderr != want.stderr || !strings.Contains(r.stdout, "recall at 10  0.500\n") {
				t.Errorf("%+v, want %+v", r, want)
			}
		})
	}
}

func TestEval_Pages(t *testing.T) {
	t.Parallel()
	const page = `{"q":"hand","answers":["/docs/1/install"]}`
	if r := eval(t, `{"q":"archive","answers":["/docs/install"]}`, "--min=1"); r.status != 1 {
		t.Errorf("another section of the page counts without --pages: %+v", r)
	}
	if r := eval(t, `{"q":"archive","answers":["/docs/install"]}`, "--min=1", "--pages"); r.status != 0 {
		t.Errorf("another section of the page does not count with --pages: %+v", r)
	}
	if r := eval(t, page); r.status != 1 || !strings.Contains(r.stderr, "line 1: /docs/1/install: the page has no text before its first heading: name a heading, or use --pages\n") {
		t.Errorf("a page that begins with a heading: %+v", r)
	}
}

func TestEval_Wrong(t *testing.T) {
	t.Parallel()
	const good = `{"q":"install","answers":["/docs/install#linux"]}` + "\n"
	tests := []struct {
		name, questions, args string
		status                int
		want                  []string
	}{
		{"not JSON", good + "install", "", 1, []string{"questions.jsonl: ", `line 2 is not {"q": "…", "answers": ["…"]}: `}},
		{"another type", good + `{"q":"a","answers":"/docs/install"}`, "", 1, []string{"line 2 is not "}},
		{"no question", `{"q":" ","answers":["/docs/install"]}`, "", 1, []string{"line 1 has no question"}},
		{"no answers", `{"q":"a","answer":["/docs/install"]}`, "", 1, []string{"line 1 has no answers"}},
		{
			"unknown answers, all listed", good + `{"q":"a","answers":["/docs/install#renamed","/docs/install"]}` + "\n" + `{"q":"b","answers":["/moved","https://other.example.com/docs/install","%zz"]}`, "", 1,
			[]string{
				"line 2: /docs/install#renamed: the page has no such heading\n", "line 3: /moved: the index has no such page\n",
				"line 3: https://other.example.com/docs/install: the index has no such page\n", "line 3: %zz: the index has no such page\n",
			},
		},
		{"an empty file", "\n", "", 1, []string{"there are no questions"}},
		{"two files", good, "more.jsonl", 2, []string{"usage: docent eval"}},
		{"a share above 1", good, "--min 90", 2, []string{"usage: docent eval", "--min must be from 0 to 1"}},
		{"no number", good, "--min NaN", 2, []string{"--min must be from 0 to 1"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := eval(t, tt.questions, strings.Fields(tt.args)...)
			if r.status != tt.status || r.stdout != "" {
				t.Errorf("%+v", r)
			}
			for _, want := range tt.want {
				if !strings.Contains(r.stderr, want) {
					t.Errorf("no %q in\n%s", want, r.stderr)
				}
			}
		})
	}
	if r := tool(t, t.TempDir(), []string{"DOCS_INDEX=docs.index"}, "eval", "nowhere.jsonl"); r.status != 1 || !strings.Contains(r.stderr, "nowhere.jsonl") {
		t.Errorf("a missing file: %+v", r)
	}
}
