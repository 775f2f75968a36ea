//go:build unix

package check_test

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"docent/internal/check"
	"docent/internal/docs"
	"docent/internal/standin"
	"docent/internal/testkit/testindex"
)

// docsEnvironment is a valid one in which Docent answers from an index, changed by
// settings.
func docsEnvironment(t *testing.T, openai *standin.OpenAI, settings ...string) map[string]string {
	t.Helper()
	base := []string{"CHATKIT_WORKFLOW_ID=", "DOCS_INDEX=" + testindex.Write(t, testindex.Small()), "CHATKIT_DOMAIN_KEYS=docs.example.com=domain_pk_1"}
	return environmentOf(t, openai, append(base, settings...)...)
}

func TestBackend(t *testing.T) {
	t.Parallel()
	const job = "CLOUD_RUN_JOB=docent-check"
	tests := []struct {
		name     string
		settings []string
		want     string // Of the whole result.
	}{
		{"index", nil, "ok Docent, from the index; api.url is from the request's Host (http or https) with the path /api/chatkit/chat"},
		{"index on Cloud Run", []string{job}, "ok Docent, from the index; api.url is from the request's Host (https) with the path /api/chatkit/chat"},
		{
			"vector store, with an address",
			[]string{"DOCS_INDEX=", "VECTOR_STORE_ID=vs_1", "PUBLIC_URL=https://docent.example.com/"},
			"ok Docent, from the vector store; api.url is https://docent.example.com/api/chatkit/chat",
		},
		{
			"workflow first",
			[]string{"CHATKIT_WORKFLOW_ID=" + workflow, "PUBLIC_URL=https://docent.example.com"},
			"ok the hosted workflow, until OpenAI refuses it, then Docent, from the index; api.url is https://docent.example.com/api/chatkit/chat",
		},
		{
			"loopback on Cloud Run",
			[]string{job, "PUBLIC_URL=http://localhost:8787"},
			"fail PUBLIC_URL is on loopback, which for visitors is their own machine: set it to the service's address",
		},
		{"loopback elsewhere", []string{"PUBLIC_URL=http://localhost:8787"}, "ok Docent, from the index; api.url is http://localhost:8787/api/chatkit/chat"},
		{
			"turned off",
			[]string{"PUBLIC_URL=https://docent.example.com", "ANSWERS_AT_ONCE=0", "RATE_LIMIT_MESSAGES_PER_MINUTE=0", "ANSWERS_PER_DAY_PER_ADDRESS=0", "ANSWERS_PER_DAY=0"},
			"ok Docent, from the index; api.url is https://docent.example.com/api/chatkit/chat\n" +
				"ANSWERS_AT_ONCE is 0, so Docent answers no question\nRATE_LIMIT_MESSAGES_PER_MINUTE is 0, so Docent answers no question\n" +
				"ANSWERS_PER_DAY_PER_ADDRESS is 0, so Docent answers no question\nANSWERS_PER_DAY is 0, so Docent answers no question",
		},
		{
			"without limits",
			[]string{"PUBLIC_URL=https://docent.example.com", "ANSWERS_PER_DAY=unlimited"},
			"ok Docent, from the index; api.url is https://docent.example.com/api/chatkit/chat",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			openai := standin.NewOpenAI(key, workflow)
			openai.SetVectorStore("vs_1", standin.File{Name: "a.md", Text: "All the documentation."})
			settings := append([]string{"TRUSTED_PROXIES=cloud-run", "GOOGLE_CLOUD_PROJECT=docs"}, tt.settings...)
			if got := says(result(t, check.Options{Environment: docsEnvironment(t, openai, settings...)}, "backend")); got != tt.want {
				t.Errorf("%s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestDomainKeys(t *testing.T) {
	t.Parallel()
	const both = "CHATKIT_WORKFLOW_ID=" + workflow
	tests := []struct {
		name     string
		settings []string
		want     string
	}{
		{"all", nil, "ok"},
		{
			"one is missing",
			[]string{both, "ALLOWED_ORIGINS=https://docs.example.com,https://b.example.com,https://a.example.com"},
			"fail CHATKIT_DOMAIN_KEYS must have a key for a.example.com, b.example.com: add each host",
		},
		{"all are missing", []string{both, "CHATKIT_DOMAIN_KEYS="}, "fail CHATKIT_DOMAIN_KEYS must have a key for docs.example.com: add each host"},
		{"none is needed in development", []string{"CHATKIT_DOMAIN_KEYS=", "ALLOWED_ORIGINS=http://localhost:*,https://*.docs.pages.dev", "PUBLIC_URL=http://localhost:8787"}, "ok"},
		{
			"a pattern",
			[]string{"ALLOWED_ORIGINS=https://docs.example.com,https://*.docs.pages.dev,http://localhost:*"},
			"note https://*.docs.pages.dev also allows hosts without a key",
		},
		{"a port that ChatKit does not ask for", []string{"ALLOWED_ORIGINS=https://docs.example.com,https://*.docs.example.com:8443"}, "ok"},
		{
			"a secret key, which pages would show",
			[]string{"CHATKIT_DOMAIN_KEYS=docs.example.com=" + key},
			"fail CHATKIT_DOMAIN_KEYS has an API key for docs.example.com, which every page would show: revoke it",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			env := docsEnvironment(t, standin.NewOpenAI(key, workflow), tt.settings...)
			got := result(t, check.Options{Environment: env}, "domain-keys")
			expect(t, got, tt.want)
			if strings.Contains(says(got), key) {
				t.Errorf("it says a key: %s", says(got))
			}
		})
	}
}

// indexOf returns the bytes of a site's index.
func indexOf(t *testing.T, s *docs.Site) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := docs.Write(&b, s); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// withVectors is a small site with the vectors of a model.
func withVectors(t *testing.T, model string) *docs.Site {
	t.Helper()
	s := testindex.Small()
	if err := docs.Plan(s, model, 3).Run(t.Context(), sameVector{}, func(int, int) {}, func() error { return nil }); err != nil {
		t.Fatal(err)
	}
	return s
}

// sameVector gives all texts the same vector.
type sameVector struct{}

func (sameVector) Embed(_ context.Context, _ string, _ int, texts []string) ([][]float32, error) {
	vectors := make([][]float32, len(texts))
	for i := range vectors {
		vectors[i] = []float32{1, 0, 0}
	}
	return vectors, nil
}

func TestIndex_URL(t *testing.T) {
	t.Parallel()
	const signature = "?signature=0123456789abcdef"
	small := indexOf(t, testindex.Small())
	serve := func(data []byte, age time.Duration) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			if age > 0 {
				w.Header().Set("Last-Modified", time.Now().Add(-age).UTC().Format(http.TimeFormat))
			}
			w.Write(data)
		}
	}
	const words = "3 sections of 2 pages, no vectors, so the search goes by words alone"
	tests := []struct {
		name  string
		serve http.HandlerFunc
		want  string // How the whole result begins.
	}{
		{"new", serve(small, time.Minute), "ok less than an hour old, " + words},
		{"of yesterday", serve(small, 25*time.Hour), "ok 25 h old, " + words},
		{"of last week", serve(small, 7*24*time.Hour+time.Hour), "ok 7 days old, " + words},
		{"old", serve(small, 31*24*time.Hour), "ok 31 days old, " + words + "\nif the site has changed since then"},
		{"of an unknown age", serve(small, 0), "ok age unknown, " + words},
		{
			"with vectors", serve(indexOf(t, withVectors(t, "text-embedding-3-small")), time.Minute),
			"ok less than an hour old, 3 sections of 2 pages, 3 vectors (text-embedding-3-small, 3 dimensions), the embedding of a question in ",
		},
		{
			"with vectors of an unknown model", serve(indexOf(t, withVectors(t, "text-embedding-9")), time.Minute),
			"ok less than an hour old, 3 sections of 2 pages, 3 vectors (text-embedding-9, 3 dimensions)\nno embedding of a question (OpenAI answered 4",
		},
		{"missing", http.NotFound, "fail loading the index from http://127.0.0.1:PORT/docs.index: the server answers 404 Not Found: make an index"},
		{"corrupt", serve(small[:len(small)-9], time.Minute), "fail loading the index from http://127.0.0.1:PORT/docs.index: "},
		{
			"a page", func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("<!doctype html><p>Hello.")) },
			"fail loading the index from http://127.0.0.1:PORT/docs.index: the URL serves HTML, not an index",
		},
		{"without sections", serve(indexOf(t, &docs.Site{}), time.Minute), "fail the index has no sections: check the folder"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			srv := httptest.NewServer(tt.serve)
			t.Cleanup(srv.Close)
			env := docsEnvironment(t, standin.NewOpenAI(key, workflow), "DOCS_INDEX="+srv.URL+"/docs.index"+signature)
			got := strings.ReplaceAll(says(result(t, check.Options{Environment: env}, "docs-index")), srv.Listener.Addr().String(), "127.0.0.1:PORT")
			if !strings.HasPrefix(got, tt.want) || strings.Contains(got, signature) {
				t.Errorf("%s\nwant %s…, without the URL's query", got, tt.want)
			}
		})
	}
}

func TestIndex_Path(t *testing.T) {
	t.Parallel()
	o := check.Options{Environment: docsEnvironment(t, standin.NewOpenAI(key, workflow))}
	if got, want := says(result(t, o, "docs-index")), "ok less than an hour old, 3 sections of 2 pages, no vectors, so the search goes by words alone"; got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	o.Environment["DOCS_INDEX"] = filepath.Join(t.TempDir(), "absent")
	expect(t, result(t, o, "docs-index"), "fail reading the index: open "+o.Environment["DOCS_INDEX"])
	o.Environment["DOCS_INDEX"] = "sk-" + strings.Repeat("x", 20)
	expect(t, result(t, o, "docs-index"), "fail reading the index: open [redacted]")
}

func TestIndex_SlowEmbedding(t *testing.T) {
	t.Parallel()
	openai := standin.NewOpenAI(key, workflow)
	openai.SetLatency(900 * time.Millisecond)
	env := docsEnvironment(t, openai, "DOCS_INDEX="+testindex.Write(t, withVectors(t, "text-embedding-3-small")))
	got := result(t, check.Options{Environment: env}, "docs-index")
	expect(t, got, "note the embedding of a question took ")
	if openai.Embedded() != 2 {
		t.Errorf("%d embeddings, want 2: the first one opens the connection", openai.Embedded())
	}
}

// find returns what a check says of one thing, also if others have failed.
func find(t *testing.T, o check.Options, name string) check.Result {
	t.Helper()
	for _, c := range check.Run(t.Context(), o).Checks {
		if c.Name == name {
			return c
		}
	}
	t.Fatalf("no check %s", name)
	return check.Result{}
}

func TestIndex_UnusableKey(t *testing.T) {
	t.Parallel()
	openai := standin.NewOpenAI(key, workflow)
	env := docsEnvironment(t, openai, "OPENAI_API_KEY="+workflow, "DOCS_INDEX="+testindex.Write(t, withVectors(t, "text-embedding-3-small")))
	expect(t, find(t, check.Options{Environment: env}, "docs-index"), "note no embedding of a question (it needs a usable OPENAI_API_KEY)")
	if got := find(t, check.Options{Environment: env}, "answer"); got.Status != check.Skipped {
		t.Errorf("%+v, want it skipped", got)
	}
	if n := len(openai.Keys()); n != 0 {
		t.Errorf("OpenAI was asked %d times", n)
	}
}

func TestIndex_Hangs(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	t.Cleanup(srv.Close)
	env := docsEnvironment(t, standin.NewOpenAI(key, workflow), "DOCS_INDEX="+srv.URL)
	expect(t, find(t, check.Options{Environment: env, Budget: time.Second}, "docs-index"), "fail ")
}

func TestAnswer(t *testing.T) {
	t.Parallel()
	answers := func(status int, body string) func(*standin.OpenAI) {
		h := func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			w.Write([]byte(body))
		}
		return func(o *standin.OpenAI) { o.RespondWith(h, h, h) }
	}
	plays := func(kinds ...string) func(*standin.OpenAI) {
		return func(o *standin.OpenAI) { o.Play(kinds...) }
	}
	tests := []struct {
		name    string
		answer  func(*standin.OpenAI)
		setting string
		want    string
	}{
		{"whole", nil, "", "ok"},
		{"cut", plays("max-output-tokens"), "", "ok"},
		{"cut while it reasons", plays("max-output-tokens-no-text"), "ANSWER_EFFORT=high", "ok"},
		{"refused by the model", plays("refusal"), "", "ok"},
		{"filtered", plays("content-filter"), "", "ok"},
		{"down once", plays("overloaded"), "", "ok"},
		{"a refused parameter", nil, "ANSWER_MODEL=gpt-4o-mini", "ok"},

		{"unknown model", nil, "ANSWER_MODEL=gpt-0", "fail OpenAI answered 400: it does not know the model gpt-0, or the key's project may not use it: check ANSWER_MODEL"},
		{"another's model", answers(404, `{"error":{"code":"model_not_found","message":"No."}}`), "", "fail OpenAI answered 404: it does not know the model gpt-6-luna"},
		{"rejected key", func(o *standin.OpenAI) { o.SetKey("sk-another") }, "", "fail OpenAI answered 401: the API key is wrong, revoked or expired"},
		{"key without permission", answers(403, `{"error":{"message":"No."}}`), "", "fail OpenAI answered 403: the API key may not do this: give it the permission for responses"},
		{"no credit", plays("insufficient-quota"), "", "fail OpenAI answered 200: the project has no credit left"},
		{"budget reached", answers(429, `{"error":{"code":"project_spend_limit_exceeded","message":"No."}}`), "", "fail OpenAI answered 429: the project has no credit left"},
		{"rate limited", plays("rate-limited", "rate-limited", "rate-limited"), "", "fail OpenAI answered 200: the project is over its rate limit"},
		{"too many requests", answers(429, `{"error":{"message":"No."}}`), "", "fail OpenAI answered 429: the project is over its rate limit"},
		{"overloaded", plays("overloaded", "overloaded", "overloaded"), "", "fail OpenAI answered 200: OpenAI is down or overloaded"},
		{"broken", answers(500, "<html>"), "", "fail OpenAI answered 500: OpenAI is down or overloaded"},
		{"not OpenAI", answers(200, "<html>"), "", "fail OpenAI answered 200: the server that answered is not OpenAI's API"},
		{"not what was asked for", answers(400, `{"error":{"message":"No."}}`), "", "fail OpenAI answered 400: it refused the request: check ANSWER_MODEL and ANSWER_EFFORT"},
		{"no text", func(o *standin.OpenAI) { o.RespondWith(completed) }, "", "fail gpt-6-luna answered without a text"},
		{"silent", plays("hang"), "ANSWER_TIMEOUT=5s", "fail no answer from gpt-6-luna in 5s: see https://status.openai.com"},
		{"unreachable", nil, "OPENAI_BASE_URL=http://127.0.0.1:1/v1", "fail no answer (dial tcp"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			openai := standin.NewOpenAI(key, workflow)
			env := docsEnvironment(t, openai, tt.setting)
			if tt.answer != nil {
				tt.answer(openai)
			}
			expect(t, result(t, check.Options{Environment: env}, "answer"), tt.want)
			for _, r := range openai.Responses() {
				if r.MaxOutputTokens == nil || *r.MaxOutputTokens != 16 || r.Store == nil || *r.Store {
					t.Errorf("asked for %+v, want at most 16 tokens and nothing stored", r)
				}
			}
		})
	}
}

// completed streams a response that has no output.
func completed(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Write([]byte(`data: {"type":"response.completed","response":{"id":"resp_1","status":"completed","output":[]}}` + "\n\n"))
}

func TestVectorStore(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, id string
		want     string
	}{
		{"with files", "vs_full", "ok"},
		{"empty", "vs_empty", "note nothing was found, which is right only if the vector store has no files yet"},
		{"unknown", "vs_unknown", "fail OpenAI answered 404: the key's project has no such vector store: check VECTOR_STORE_ID"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			openai := standin.NewOpenAI(key, workflow)
			openai.SetVectorStore("vs_full", standin.File{Name: "a.md", Text: "All the documentation."})
			openai.SetVectorStore("vs_empty")
			env := docsEnvironment(t, openai, "DOCS_INDEX=", "VECTOR_STORE_ID="+tt.id)
			got := result(t, check.Options{Environment: env}, "vector-store")
			expect(t, got, tt.want)
			if strings.Contains(says(got), tt.id) {
				t.Errorf("it names the vector store: %s", says(got))
			}
		})
	}
}

func TestVectorStoreID(t *testing.T) {
	t.Parallel()
	for id, want := range map[string]string{
		"vs_1": "ok", "store-1": "note the IDs of vector stores begin with vs_", key: "fail set in the environment: it is an API key",
	} {
		openai := standin.NewOpenAI(key, workflow)
		openai.SetVectorStore(id, standin.File{Name: "a.md", Text: "All the documentation."})
		env := docsEnvironment(t, openai, "DOCS_INDEX=", "VECTOR_STORE_ID="+id)
		expect(t, result(t, check.Options{Environment: env}, "VECTOR_STORE_ID"), want)
	}
}

func TestInstructions(t *testing.T) {
	t.Parallel()
	const text = "Call the product Orchard, never “the app”."
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return "@" + path
	}
	tests := []struct{ name, value, want string }{
		{"in the variable", text, "ok set in the environment, 42 characters"},
		{"in a file", file("good", text+"\n"), "ok " + dir + "/good, 42 characters"},
		{"in no file", "@" + dir + "/absent", "fail open " + dir + "/absent: no such file or directory"},
		{"not a text", file("binary", text+"\xff"), "fail " + dir + "/binary is not a text in UTF-8"},
		{"too long", file("long", strings.Repeat("“", 8001)), "fail " + dir + "/long: it has more than 8000 characters: shorten it"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			env := docsEnvironment(t, standin.NewOpenAI(key, workflow), "ASSISTANT_INSTRUCTIONS="+tt.value)
			if got := says(result(t, check.Options{Environment: env}, "ASSISTANT_INSTRUCTIONS")); got != tt.want {
				t.Errorf("%s\nwant %s", got, tt.want)
			}
		})
	}
}

// Once OpenAI has ended the workflow, the service answers from the docs.
func TestOpenAI_WorkflowGone(t *testing.T) {
	t.Parallel()
	const other = "CHATKIT_WORKFLOW_ID=wf_another"
	env := docsEnvironment(t, standin.NewOpenAI(key, workflow), other)
	got := result(t, check.Options{Environment: env}, "openai")
	if want := "OpenAI refuses the workflow, so Docent answers from the docs: remove CHATKIT_WORKFLOW_ID"; got.Status != check.OK || got.Detail != want || !strings.HasPrefix(got.Notes[0], "OpenAI answered 404: ") {
		t.Errorf("%s\nwant ok %s, and why", says(got), want)
	}
	expect(t, result(t, check.Options{Environment: environment(t, other)}, "openai"), "fail OpenAI answered 404: ")
	expect(t, find(t, check.Options{Environment: docsEnvironment(t, standin.NewOpenAI("sk-another", workflow), "CHATKIT_WORKFLOW_ID="+workflow)}, "openai"), "fail OpenAI answered 401: ")
}
