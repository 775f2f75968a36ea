package standin_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"docent/internal/docs"
	"docent/internal/openai"
	"docent/internal/standin"
)

const (
	openAIKey = "sk-test-not-a-key"
	small     = "text-embedding-3-small"
	storeID   = "vs_1"
)

// fixed is a secret that never changes.
type fixed string

func (f fixed) Get() string { return string(f) }

func (f fixed) Renew(context.Context, string) (string, bool) { return string(f), false }

// openAI returns a stand-in, and a client of it with a key.
func openAI(t *testing.T, key string) (context.Context, *standin.OpenAI, *openai.Client) {
	t.Helper()
	o := standin.NewOpenAI(openAIKey, "wf_test")
	base, stop, err := o.Listen()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop() })
	c := openai.New(openai.Options{BaseURL: base, APIKey: fixed(key), Now: time.Now})
	t.Cleanup(c.Close)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx, o, c
}

func TestOpenAI_Embeddings(t *testing.T) {
	t.Parallel()
	ctx, o, c := openAI(t, openAIKey)
	texts := []string{
		"Install Docent with Homebrew.", "How do I install docent?", "Rate limits are counted by the minute.", "?!",
	}
	for i := range 50 { // So that the answer's order is not that of the texts.
		texts = append(texts, fmt.Sprint("text ", i))
	}
	vectors, err := c.Embed(ctx, small, 512, texts)
	if err != nil {
		t.Fatal(err)
	}
	again, err := c.Embed(ctx, small, 512, texts[3:])
	if diff := cmp.Diff(vectors[3:], again); diff != "" || err != nil {
		t.Errorf("%v, the same texts have other vectors:\n%s", err, diff)
	}
	cos := func(a, b int) (sum float64) {
		for i := range vectors[a] {
			sum += float64(vectors[a][i]) * float64(vectors[b][i])
		}
		return sum
	}
	for i := range vectors {
		if length := cos(i, i); math.Abs(length-1) > 1e-5 {
			t.Errorf("vector %d has the length %g", i, length)
		}
	}
	if near, far := cos(0, 1), cos(0, 2); near < far+0.3 {
		t.Errorf("a text about the same is at %g, one about something else at %g", near, far)
	}
	if n, tokens := o.Embedded(), c.EmbeddedTokens(); n != 2*len(texts)-3 || tokens < 150 {
		t.Errorf("%d texts and %d tokens", n, tokens)
	}
}

// TestOpenAI_Refusals checks that the stand-in refuses as OpenAI does. Its errors
// are recorded, or quoted from reports of users.
func TestOpenAI_Refusals(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("word ", 8193)
	tests := []struct {
		name, path, body string
		want             string // Status, code and start of the message.
	}{
		{"one text", "/embeddings", `{"model":"` + small + `","input":"a"}`, ""},
		{"floats", "/embeddings", `{"model":"` + small + `","input":["a"],"encoding_format":"float","dimensions":1}`, ""},
		{"unknown model", "/embeddings", `{"model":"other","input":["a"]}`, "404 model_not_found The model `other` does not exist"},
		{"no text", "/embeddings", `{"model":"` + small + `","input":[]}`, "400  '$.input' is invalid."},
		{"no input", "/embeddings", `{"model":"` + small + `"}`, "400  '$.input' is invalid."},
		{"empty text", "/embeddings", `{"model":"` + small + `","input":["a",""]}`, "400  '$.input' is invalid."},
		{"too many texts", "/embeddings", `{"model":"` + small + `","input":["a"` + strings.Repeat(`,"a"`, 2048) + `]}`, "400  Invalid 'input': array length must be 2048 or less."},
		{"long text", "/embeddings", `{"model":"` + small + `","input":["` + long + `"]}`, "400  This model's maximum context length is 8192 tokens"},
		{
			"much text", "/embeddings", `{"model":"` + small + `","input":["a"` + strings.Repeat(`,"`+long[:32_000]+`"`, 40) + `]}`,
			"400 max_tokens_per_request Requested 320001 tokens, max 300000 tokens per request",
		},
		{"negative dimensions", "/embeddings", `{"model":"` + small + `","input":["a"],"dimensions":-42}`, "400  -42 is less than the minimum of 1 - 'dimensions'"},
		{"too many dimensions", "/embeddings", `{"model":"` + small + `","input":["a"],"dimensions":1537}`, "400  Invalid value for 'dimensions' = 1537."},
		{"format", "/embeddings", `{"model":"` + small + `","input":["a"],"encoding_format":"hex"}`, "400  'hex' is not one of"},
		{"unknown field", "/embeddings", `{"model":"` + small + `","input":["a"],"x":1}`, "400  We could not parse"},
		{"search", "/vector_stores/" + storeID + "/search", `{"query":"a"}`, ""},
		{"unknown vector store", "/vector_stores/vs_2/search", `{"query":"a"}`, "404  Vector store with id 'vs_2' not found."},
		{"no query", "/vector_stores/" + storeID + "/search", `{"query":""}`, "400 invalid_value Invalid 'query'."},
		{"too many results", "/vector_stores/" + storeID + "/search", `{"query":"a","max_num_results":51}`, "400 invalid_value Invalid 'max_num_results'"},
		{"unknown ranker", "/vector_stores/" + storeID + "/search", `{"query":"a","ranking_options":{"ranker":"best"}}`, "400 invalid_value Invalid value: 'best'."},
		{"unknown URL", "/vector_stores", `{}`, "404 unknown_url Invalid URL"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ctx, o, c := openAI(t, openAIKey)
			o.SetVectorStore(storeID, standin.File{Name: "a.md", Text: "a"})
			_, err := c.PostOnce(ctx, tt.path, nil, []byte(tt.body))
			if got := said(err); tt.want == "" && got != "" || !strings.HasPrefix(got, tt.want) {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

// said returns status, code and message of an error.
func said(err error) string {
	var e *openai.Error
	if !errors.As(err, &e) {
		return ""
	}
	return fmt.Sprintf("%d %s %s", e.Status, e.Code, e.Message)
}

func TestOpenAI_Faults(t *testing.T) {
	t.Parallel()
	ctx, o, c := openAI(t, openAIKey)
	embed := func() error {
		_, err := c.Embed(ctx, small, 8, []string{"a"})
		return err
	}
	o.Fail(standin.RateLimited("0"))
	if err := embed(); err != nil {
		t.Errorf("after a rate limit: %v", err)
	}
	o.Fail(standin.OutOfQuota)
	if got := said(embed()); !strings.HasPrefix(got, "429 insufficient_quota You exceeded") {
		t.Errorf("out of quota: %q", got)
	}
	o.SetLatency(50 * time.Millisecond)
	start := time.Now()
	if err := embed(); err != nil || time.Since(start) < 50*time.Millisecond {
		t.Errorf("with latency: %v after %s", err, time.Since(start))
	}
	ctx, _, c = openAI(t, "sk-test-another-key")
	if got := said(embed()); !strings.HasPrefix(got, "401 invalid_api_key Incorrect API key provided") {
		t.Errorf("another key: %q", got)
	}
}

func TestOpenAI_VectorStore(t *testing.T) {
	t.Parallel()
	ctx, o, c := openAI(t, openAIKey)
	o.SetVectorStore(
		storeID,
		standin.File{Name: "limits.md", Text: "Rate limits are counted by the minute."},
		standin.File{
			Name: "install.md", Attributes: map[string]any{"url": "https://docs.example.com/install", "title": "Install"},
			Text: "Install Docent with Homebrew. " + strings.Repeat("word ", 1000),
		},
	)
	s := &openai.VectorStore{Client: c, ID: func() string { return storeID }}
	found, err := s.Passages(ctx, docs.Query{Question: "How are rate limits counted?"})
	if err != nil || len(found.Passages) == 0 {
		t.Fatalf("%+v, %v", found, err)
	}
	want := docs.Passage{Title: "limits", Text: "Rate limits are counted by the minute.", Score: found.Passages[0].Score}
	if diff := cmp.Diff(want, found.Passages[0]); diff != "" || want.Score < 0.5 {
		t.Errorf("score %g, passage (-want +got):\n%s", want.Score, diff)
	}
	var links []string
	for _, p := range found.Passages {
		links = append(links, p.URL)
	}
	slices.Sort(links)
	const install = "https://docs.example.com/install"
	if diff := cmp.Diff([]string{"", install, install, install}, links); diff != "" {
		t.Errorf("links (-want +got):\n%s", diff)
	}
}

func TestOpenAI_ClientGone(t *testing.T) {
	t.Parallel()
	ctx, o, c := openAI(t, openAIKey)
	o.SetLatency(time.Hour)
	ctx, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	_, err := c.PostOnce(ctx, "/embeddings", http.Header{}, nil)
	var e *openai.Error
	if !errors.As(err, &e) || e.Kind != openai.Timeout {
		t.Errorf("error %v, want a timeout", err)
	}
}
