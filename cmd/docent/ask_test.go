package main_test

import (
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	passages "docent/internal/docs"
	"docent/internal/standin"
	"docent/internal/testkit/testindex"

	"github.com/google/go-cmp/cmp"
)

// answeringCommand returns a stand-in for OpenAI, and the environment of a command that asks
// it about a small site.
func answeringCommand(t *testing.T, settings ...string) (*standin.OpenAI, []string) {
	t.Helper()
	openai := standin.NewOpenAI(testKey, "")
	openai.SetPace(0)
	base, stop, err := openai.Listen()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop() })
	return openai, append([]string{
		"OPENAI_API_KEY=" + testKey, "OPENAI_BASE_URL=" + base, "DOCS_INDEX=" + testindex.Write(t, testindex.Small()),
	}, settings...)
}

func TestAsk(t *testing.T) {
	t.Parallel()
	openai, environment := answeringCommand(t, "ASSISTANT_INSTRUCTIONS=Be kind.", "ANSWER_MAX_TOKENS=300")
	r := tool(t, t.TempDir(), environment, "ask", "How large", "can a tree be?")
	want := run{stdout: `A tree has at most 4,000 branches.[1]

Sources:
  1  Limits – Size of a tree
     https://docs.example.com/limits#size
`}
	if diff := cmp.Diff(want, r, cmp.AllowUnexported(run{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	asked := openai.Responses()
	if len(asked) != 1 || !strings.HasSuffix(asked[0].Instructions, "Be kind.") || *asked[0].MaxOutputTokens != 300 {
		t.Errorf("asked: %+v", asked)
	}
}

func TestAsk_JSON(t *testing.T) {
	t.Parallel()
	_, environment := answeringCommand(t)
	r := tool(t, t.TempDir(), environment, "ask", "--json", "How large can a tree be?")
	var got struct {
		Answer, Outcome string
		Sources         []map[string]string
		Passages        int
		In              int     `json:"tokens_in"`
		Out             int     `json:"tokens_out"`
		First           float64 `json:"first_delta_ms"`
		Total           float64 `json:"answer_ms"`
	}
	if err := json.Unmarshal([]byte(r.stdout), &got); err != nil || r.status != 0 || r.stderr != "" {
		t.Fatalf("%v: %+v", err, r)
	}
	want := []map[string]string{{"url": "https://docs.example.com/limits#size", "title": "Limits – Size of a tree"}}
	if diff := cmp.Diff(want, got.Sources); diff != "" || got.Answer != "A tree has at most 4,000 branches." ||
		got.Outcome != "answered" || got.Passages == 0 || got.In == 0 || got.Out == 0 || got.First <= 0 || got.Total < got.First {
		t.Errorf("%+v, sources (-want +got):\n%s", got, diff)
	}
	r = tool(t, t.TempDir(), environment, "ask", "--json", "xylophone")
	if !strings.Contains(r.stdout, `"outcome":"no_source","sources":[],`) {
		t.Errorf("%+v", r)
	}
}

// A vector store, a cut answer, a model's control characters.
func TestAsk_Answers(t *testing.T) {
	t.Parallel()
	t.Run("vector store", func(t *testing.T) {
		t.Parallel()
		openai, environment := answeringCommand(t, "DOCS_INDEX=", "VECTOR_STORE_ID=vs_test")
		openai.SetVectorStore("vs_test", standin.File{Name: "limits.md", Attributes: map[string]any{"url": "https://docs.example.com/limits"}, Text: "A tree has at most 4,000 branches."})
		if r := tool(t, t.TempDir(), environment, "ask", "How many branches can a tree have?"); r.status != 0 || !strings.Contains(r.stdout, "https://docs.example.com/limits\n") {
			t.Errorf("%+v", r)
		}
	})
	t.Run("cut", func(t *testing.T) {
		t.Parallel()
		_, environment := answeringCommand(t, "ANSWER_MAX_TOKENS=16")
		r := tool(t, t.TempDir(), environment, "ask", "--", "How large can a tree be on Linux or Windows, installed by package manager or installer?")
		if r.status != 0 || r.stdout == "" || !strings.Contains(r.stderr, "cut off") {
			t.Errorf("%+v", r)
		}
	})
	t.Run("control characters", func(t *testing.T) {
		t.Parallel()
		openai, environment := answeringCommand(t)
		openai.Repeat()
		if r := tool(t, t.TempDir(), environment, "ask", "a \x1b[2Jb\u202e c\r\nd"); r.status != 0 || r.stdout != "a [2Jb c\nd\n" {
			t.Errorf("%+v", r)
		}
	})
}

func TestAsk_Failures(t *testing.T) {
	t.Parallel()
	refuse := func(status int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			w.Write([]byte(body))
		}
	}
	tests := []struct {
		name     string
		settings []string
		args     []string
		fault    http.HandlerFunc
		status   int
		want     string
	}{
		{"no question", nil, nil, nil, 2, "there is no question"},
		{"too long", nil, []string{strings.Repeat("ä", 4001)}, nil, 2, "4,000"},
		{"no key", []string{"OPENAI_API_KEY="}, []string{"hello"}, nil, 2, "OPENAI_API_KEY"},
		{"no index", []string{"DOCS_INDEX="}, []string{"hello"}, nil, 2, "--index"},
		{"index and store", []string{"VECTOR_STORE_ID=vs_1"}, []string{"hello"}, nil, 1, "VECTOR_STORE_ID"},
		{"index missing", nil, []string{"--index=nowhere", "hello"}, nil, 1, "nowhere"},
		{"bad setting", []string{"ANSWER_MAX_TOKENS=1"}, []string{"hello"}, nil, 1, "ANSWER_MAX_TOKENS"},
		{"instructions missing", []string{"ASSISTANT_INSTRUCTIONS=@nowhere"}, []string{"hello"}, nil, 1, "ASSISTANT_INSTRUCTIONS"},
		{
			"spending refused", nil,
			[]string{"hello"},
			refuse(429, `{"error":{"message":"You exceeded your current quota.","type":"insufficient_quota","param":null,"code":"insufficient_quota"}}`),
			1, "You exceeded your current quota.",
		},
		{
			"unknown model", nil,
			[]string{"hello"},
			refuse(404, `{"error":{"message":"The model does not exist.","type":"invalid_request_error","param":null,"code":"model_not_found"}}`),
			1, "The model does not exist.",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			openai, environment := answeringCommand(t, tt.settings...)
			if tt.fault != nil {
				openai.RespondWith(tt.fault)
			}
			if r := tool(t, t.TempDir(), environment, append([]string{"ask"}, tt.args...)...); r.status != tt.status || !strings.Contains(r.stderr, tt.want) || r.stdout != "" {
				t.Errorf("status %d, want %d with %q:\n%s%s", r.status, tt.status, tt.want, r.stdout, r.stderr)
			}
		})
	}
}

// On a terminal the search is a line that the answer replaces.
func TestAsk_Terminal(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("script"); err != nil {
		t.Skip("script is not installed")
	}
	site := &passages.Site{Language: "en", Pages: []passages.Page{{URL: "https://docs.example.com/", Title: "Start", Sections: []passages.Section{{Text: "Hello there."}}}}}
	openai, environment := answeringCommand(t, "DOCS_INDEX="+testindex.Write(t, site), "TERM=xterm", "PATH="+os.Getenv("PATH"), "SHELL=/bin/sh", "GORACE=atexit_sleep_ms=0")
	openai.Repeat()
	cmd := exec.CommandContext(t.Context(), "script", "--quiet", "--return", "--command", binary+" ask hello", filepath.Join(t.TempDir(), "typescript"))
	cmd.Env = environment
	output, err := cmd.CombinedOutput()
	if err != nil || string(output) != "\rSearching the docs…\x1b[K\r\x1b[Khello\r\n" {
		t.Errorf("%v: %q", err, output)
	}
}
