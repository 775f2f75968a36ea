package openai_test

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"docent/internal/docs"
	"docent/internal/openai"
)

var _ docs.Embedder = (*openai.Client)(nil)

const model = "text-embedding-3-small"

// embeddingsRequest is what OpenAI gets.
type embeddingsRequest struct {
	Model          string   `json:"model"`
	Input          []string `json:"input"`
	EncodingFormat string   `json:"encoding_format"`
	Dimensions     int      `json:"dimensions"`
}

// pack encodes a vector as OpenAI does.
func pack(v ...float32) string {
	var b []byte
	for _, x := range v {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
	}
	return base64.StdEncoding.EncodeToString(b)
}

// vectors is an answer with the objects given, in OpenAI's form.
func vectors(data ...string) string {
	return `{"object":"list","data":[` + strings.Join(data, ",") + `],"model":"` + model + `","usage":{"prompt_tokens":4,"total_tokens":4}}`
}

// item is a vector's object in an answer.
func item(index any, embedding string) string {
	return fmt.Sprintf(`{"object":"embedding","index":%v,"embedding":%s}`, index, embedding)
}

func quoted(s string) string { return `"` + s + `"` }

// TestEmbed_Recorded has the first three numbers of a vector that OpenAI made.
func TestEmbed_Recorded(t *testing.T) {
	t.Parallel()
	var got string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got = r.Method + " " + r.URL.Path + " " + string(body)
		io.WriteString(w, vectors(item(0, quoted("vNOcvEgxz7ztmOG6"))))
	}))
	t.Cleanup(srv.Close)
	ctx, c := (&upstream{Server: srv}).client(t, "/v1", secret{value: key})
	vectors, err := c.Embed(ctx, model, 3, []string{"Hello, world!"})
	if err != nil {
		t.Fatal(err)
	}
	want := [][]float32{{-0.019143932, -0.025292054, -0.0017211713}}
	if diff := cmp.Diff(want, vectors, cmp.Comparer(func(a, b float32) bool { return math.Abs(float64(a-b)) < 1e-9 })); diff != "" {
		t.Errorf("vectors (-want +got):\n%s", diff)
	}
	const request = `POST /v1/embeddings {"dimensions":3,"encoding_format":"base64","input":["Hello, world!"],"model":"` + model + `"}`
	if diff := cmp.Diff(request, got); diff != "" {
		t.Errorf("request (-want +got):\n%s", diff)
	}
	if n := c.EmbeddedTokens(); n != 4 {
		t.Errorf("%d tokens, want 4", n)
	}
}

func TestEmbed_Answers(t *testing.T) {
	t.Parallel()
	var (
		a, b = quoted(pack(1, 2)), quoted(pack(3, 4))
		nan  = float32(math.NaN())
		inf  = float32(math.Inf(-1))
	)
	tests := []struct {
		name, answer string
		want         string // In the error, or "" if the vectors are right.
	}{
		{"in order", vectors(item(0, a), item(1, b)), ""},
		{"out of order", vectors(item(1, b), item(0, a)), ""},
		{"arrays of numbers", vectors(item(0, "[1, 2.0]"), item(1, "[ 3,\n4e0 ]")), ""},
		{"escaped base64", vectors(item(0, strings.ReplaceAll(a, "A", `\u0041`)), item(1, b)), ""},
		{"no usage", `{"data":[` + item(0, a) + "," + item(1, b) + `]}`, ""},
		{"negative usage", `{"data":[` + item(0, a) + "," + item(1, b) + `],"usage":{"prompt_tokens":-1}}`, ""},
		{"too few", vectors(item(0, a)), "it has 1 vectors for 2 texts"},
		{"too many", vectors(item(0, a), item(1, b), item(2, b)), "it has 3 vectors for 2 texts"},
		{"none", vectors(), "it has 0 vectors for 2 texts"},
		{"index twice", vectors(item(1, a), item(1, b)), "two vectors have the index 1"},
		{"index out of range", vectors(item(0, a), item(2, b)), "a vector has the index 2 of 2 texts"},
		{"negative index", vectors(item(0, a), item(-1, b)), "a vector has the index -1 of 2 texts"},
		{"no index", vectors(item(0, a), `{"embedding":`+b+`}`), "a vector has no index"},
		{"too short", vectors(item(0, a), item(1, quoted(pack(1)))), "vector 1: it has 1 dimensions instead of 2"},
		{"too long", vectors(item(0, a), item(1, quoted(pack(1, 2, 3)))), "vector 1: it has 3 dimensions instead of 2"},
		{"empty", vectors(item(0, a), item(1, `""`)), "vector 1: it has 0 dimensions instead of 2"},
		{"null", vectors(item(0, a), item(1, "null")), "vector 1: it has 0 dimensions instead of 2"},
		{"not a number", vectors(item(0, a), item(1, quoted(pack(1, nan)))), "vector 1: it has a number that is not finite"},
		{"infinite", vectors(item(0, a), item(1, quoted(pack(inf, 1)))), "vector 1: it has a number that is not finite"},
		{"number above a float's", vectors(item(0, a), item(1, "[1,1e39]")), "the vectors are not readable"},
		{"zero", vectors(item(0, a), item(1, quoted(pack(0, 0)))), "vector 1: it is zero"},
		{"cut base64", vectors(item(0, a), item(1, b[:8]+`"`)), "the vectors are not readable"},
		{"base64 of half a number", vectors(item(0, a), item(1, quoted("AAAAAAAAAAAA"[:8]))), "the vectors are not readable: a vector has 6 bytes"},
		{"not base64", vectors(item(0, a), item(1, `"?!"`)), "the vectors are not readable"},
		{"HTML", "<html>", "the vectors are not readable"},
		{"nothing", "", "the vectors are not readable"},
		{"other JSON", `{"object":"list"}`, "it has 0 vectors for 2 texts"},
		{"huge", vectors(item(0, a), item(1, b)) + strings.Repeat(" ", 2<<20), "the answer is larger than 1024 kB"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			u := serve(t, answers(200, tt.answer, "X-Request-Id", "req_1"))
			ctx, c := u.client(t, "/v1", secret{value: key})
			got, err := c.Embed(ctx, model, 2, []string{"one", "two"})
			u.wantCalls(t, "/v1/embeddings "+key)
			if n := c.EmbeddedTokens(); n < 0 {
				t.Errorf("%d tokens", n)
			}
			if tt.want == "" {
				if diff := cmp.Diff([][]float32{{1, 2}, {3, 4}}, got); diff != "" || err != nil {
					t.Errorf("%v, vectors (-want +got):\n%s", err, diff)
				}
				return
			}
			if got != nil {
				t.Errorf("vectors %v in spite of the error", got)
			}
			if f := failureOf(t, err); f.Kind != openai.Rejected || f.RequestID != "req_1" || !strings.HasPrefix(f.Text, "OpenAI answered 200: "+tt.want) {
				t.Errorf("%+v, want %q", f, tt.want)
			}
		})
	}
}

// TestEmbed_EndlessAnswer has a server that never ends its answer. It is not read to
// the end of the budget.
func TestEmbed_EndlessAnswer(t *testing.T) {
	t.Parallel()
	ctx, c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		for spaces := bytes.Repeat([]byte(" "), 64<<10); ; {
			if _, err := w.Write(spaces); err != nil {
				return
			}
		}
	}).client(t, "/v1", secret{value: key})
	_, err := c.Embed(ctx, model, 2, []string{"one"})
	if f := failureOf(t, err); f.Text != "OpenAI answered 200: the answer is larger than 1024 kB" {
		t.Errorf("error %q", f.Text)
	}
}

// TestEmbed_Refused has arguments for which no request is made.
func TestEmbed_Refused(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name       string
		dimensions int
		texts      []string
		want       string
	}{
		{"no text", 2, nil, ""},
		{"empty text", 2, []string{"one", ""}, "text 2 of 2 to embed is empty"},
		{"no dimensions", 0, []string{"one"}, "vectors cannot have 0 dimensions"},
		{"negative dimensions", -16, []string{"one"}, "vectors cannot have -16 dimensions"},
		{"too many dimensions", 1 << 30, []string{"one"}, "vectors cannot have 1073741824 dimensions"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			u := serve(t, answers(200, vectors(item(0, quoted(pack(1, 2))))))
			ctx, c := u.client(t, "/v1", secret{value: key})
			got, err := c.Embed(ctx, model, tt.dimensions, tt.texts)
			if len(got) != 0 || (err != nil) != (tt.want != "") || err != nil && err.Error() != tt.want {
				t.Errorf("%v, %v, want the error %q", got, err, tt.want)
			}
			u.wantCalls(t)
		})
	}
}

// embedder is a server that gives each text the vector of its length.
func embedder(t *testing.T, asked func(embeddingsRequest)) *upstream {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var req embeddingsRequest
		if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
			t.Error(err)
		}
		asked(req)
		items := make([]string, len(req.Input))
		for i, text := range req.Input {
			v := make([]float32, req.Dimensions)
			v[0] = float32(len(text))
			items[i] = item(i, quoted(pack(v...)))
		}
		slices.Reverse(items)
		io.WriteString(w, vectors(items...))
	}))
	t.Cleanup(srv.Close)
	return &upstream{Server: srv}
}

func TestEmbed_Requests(t *testing.T) {
	t.Parallel()
	repeat := func(n int, text string) (texts []string) { return slices.Repeat([]string{text}, n) }
	tests := []struct {
		name       string
		dimensions int
		texts      []string
		want       []int // How many texts each request has.
		lengths    []int // Of the first text of each, in bytes.
	}{
		{"as many as one takes", 2, repeat(2048, "a"), []int{2048}, []int{1}},
		{"one more", 2, repeat(2049, "a"), []int{2048, 1}, []int{1, 1}},
		{"as long as one takes", 2, repeat(3, strings.Repeat("a", 8192)), []int{3}, []int{8192}},
		{"300,000 bytes", 2, repeat(300, strings.Repeat("a", 1000)), []int{300}, []int{1000}},
		{"more than 300,000 bytes", 2, append(repeat(300, strings.Repeat("a", 1000)), "b"), []int{300, 1}, []int{1000, 1}},
		{"a text that is too long", 2, []string{strings.Repeat("a", 8193)}, []int{1}, []int{8192}},
		{"a character on the bound", 2, []string{"a" + strings.Repeat("語", 4000)}, []int{1}, []int{8191}},
		{"answers of 8 MB", 3072, repeat(100, "a"), []int{84, 16}, []int{1, 1}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			var counts, lengths []int
			u := embedder(t, func(r embeddingsRequest) {
				mu.Lock()
				defer mu.Unlock()
				counts, lengths = append(counts, len(r.Input)), append(lengths, len(r.Input[0]))
				for _, text := range r.Input {
					if !utf8.ValidString(text) || strings.ContainsRune(text, utf8.RuneError) {
						t.Error("a text is cut within a character")
					}
				}
			})
			ctx, c := u.client(t, "/v1", secret{value: key})
			got, err := c.Embed(ctx, model, tt.dimensions, tt.texts)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([][]int{tt.want, tt.lengths}, [][]int{counts, lengths}); diff != "" {
				t.Errorf("requests (-want +got):\n%s", diff)
			}
			if len(got) != len(tt.texts) {
				t.Fatalf("%d vectors, want %d", len(got), len(tt.texts))
			}
			for i, v := range got {
				if want := min(len(tt.texts[i]), 8192); int(v[0]) > want || int(v[0]) < want-3 {
					t.Errorf("vector %d is that of a text of %g bytes, want %d", i, v[0], want)
				}
			}
			if n := c.EmbeddedTokens(); n != 4*int64(len(tt.want)) {
				t.Errorf("%d tokens, want %d", n, 4*len(tt.want))
			}
		})
	}
}

// TestEmbed_Arrays has a gateway that sends numbers as text. The answer is larger
// than others may be.
func TestEmbed_Arrays(t *testing.T) {
	t.Parallel()
	const texts, dimensions = 256, 512
	array := "[" + strings.TrimSuffix(strings.Repeat("\n        -0.0191439308226108551,", dimensions), ",") + "]"
	var items []string
	for i := range texts {
		items = append(items, item(i, array))
	}
	ctx, c := serve(t, answers(200, vectors(items...))).client(t, "/v1", secret{value: key})
	got, err := c.Embed(ctx, model, dimensions, slices.Repeat([]string{"a"}, texts))
	if err != nil || len(got) != texts {
		t.Errorf("%d vectors, %v", len(got), err)
	}
}

func TestEmbed_Retry(t *testing.T) {
	t.Parallel()
	good := answers(200, vectors(item(0, quoted(pack(1)))))
	tests := []struct {
		name    string
		answers []http.HandlerFunc // One for each call that is expected.
		status  int                // In the error, if there is one.
	}{
		{"rate limit", []http.HandlerFunc{says(429, "tokens", "rate_limit_exceeded", "", "Retry-After", "0"), good}, 0},
		{"down", []http.HandlerFunc{answers(503, "<html>"), good}, 0},
		{"key renewed", []http.HandlerFunc{says(401, "", "invalid_api_key", ""), good}, 0},
		{"quota", []http.HandlerFunc{says(429, "insufficient_quota", "insufficient_quota", "")}, 429},
		{"unknown model", []http.HandlerFunc{says(404, "invalid_request_error", "model_not_found", "")}, 404},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var calls atomic.Int32
			u := serve(t, func(w http.ResponseWriter, r *http.Request) {
				tt.answers[min(int(calls.Add(1)), len(tt.answers))-1](w, r)
			})
			ctx, c := u.client(t, "/v1", secret{key, func(string) (string, bool) { return otherKey, true }})
			_, err := c.Embed(ctx, model, 1, []string{"one"})
			if (err != nil) != (tt.status != 0) || err != nil && failureOf(t, err).Status != tt.status {
				t.Errorf("error %v, want one of status %d", err, tt.status)
			}
			if n := int(calls.Load()); n != len(tt.answers) {
				t.Errorf("%d calls, want %d", n, len(tt.answers))
			}
		})
	}
}

// TestEmbed_LaterFailure has a second request fail: there are no vectors at all, but
// the first one is counted.
func TestEmbed_LaterFailure(t *testing.T) {
	t.Parallel()
	first := make([]string, 2048)
	for i := range first {
		first[i] = item(i, quoted(pack(1)))
	}
	var calls atomic.Int32
	u := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if calls.Add(1) == 1 {
			answers(200, vectors(first...))(w, r)
			return
		}
		says(400, "invalid_request_error", "", "")(w, r)
	})
	ctx, c := u.client(t, "/v1", secret{value: key})
	got, err := c.Embed(ctx, model, 1, slices.Repeat([]string{"a"}, 2049))
	if f := failureOf(t, err); got != nil || f.Status != 400 || c.EmbeddedTokens() != 4 {
		t.Errorf("%d vectors, %+v, %d tokens", len(got), f, c.EmbeddedTokens())
	}
}

// TestEmbed_QuotedText has servers that repeat what they were sent.
func TestEmbed_QuotedText(t *testing.T) {
	t.Parallel()
	const question = "How do I get out\nof the “witness” programme?"
	tests := []struct {
		name    string
		answers http.HandlerFunc
	}{
		{"message", says(400, "", "", "bad input: "+question)},
		{"a part of it", says(400, "", "", "bad input: the “witness” programme…")},
		{"in one line", says(400, "", "", strings.ReplaceAll(question, "\n", " "))},
		{"lines in one", says(400, "", "", "bad input: of the witness box")},
		{"type and code", says(400, question, question, "")},
		{"request ID", answers(400, "{}", "X-Request-Id", "of the “witness” programme")},
		{"a short text", says(400, "", "", "no witness!")},
		{"not HTTP", raw("HTTP/1.1 get out of the “witness” programme\r\n\r\n")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ctx, c := serve(t, tt.answers).client(t, "/v1", secret{value: key})
			_, err := c.Embed(ctx, model, 1, []string{"another text", question, "witness!", "of\nthe\nwitness\nbox"})
			if err == nil {
				t.Fatal("no error")
			}
			for e := err; e != nil; e = errors.Unwrap(e) {
				if text := fmt.Sprintf("%v %+v", e, e); strings.Contains(text, "witness") {
					t.Errorf("the error quotes the text: %s", text)
				}
			}
			if record := logged(err); strings.Contains(record, "witness") {
				t.Errorf("the log quotes the text: %s", record)
			}
		})
	}
	t.Run("other words", func(t *testing.T) {
		t.Parallel()
		ctx, c := serve(t, says(400, "", "", "How do I know?")).client(t, "/v1", secret{value: key})
		_, err := c.Embed(ctx, model, 1, []string{question})
		if got := failureOf(t, err).Message; got != "How do I know?" {
			t.Errorf("message %q, want OpenAI's", got)
		}
	})
}

func FuzzEmbed(f *testing.F) {
	f.Add([]byte(vectors(item(0, quoted(pack(1, 2))), item(1, "[3,4]"))))
	f.Add([]byte(vectors(item(1, `"?"`), item(1, "[1e39]"))))
	f.Add([]byte(`{"data":[{"index":0,"embedding":{}}],"usage":{"prompt_tokens":-1}}`))
	var answer atomic.Pointer[[]byte]
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.Write(*answer.Load())
	}))
	f.Cleanup(srv.Close)
	c := openai.New(openai.Options{BaseURL: srv.URL, APIKey: secret{value: key}, Now: now})
	f.Cleanup(c.Close)
	f.Fuzz(func(t *testing.T, body []byte) {
		answer.Store(&body)
		before := c.EmbeddedTokens()
		got, err := c.Embed(t.Context(), model, 2, []string{"one", "two"})
		if c.EmbeddedTokens() < before {
			t.Error("tokens were given back")
		}
		var e *openai.Error
		if err != nil {
			if got != nil || !errors.As(err, &e) {
				t.Errorf("%v, %v (%T)", got, err, err)
			}
			return
		}
		if len(got) != 2 {
			t.Fatalf("%d vectors", len(got))
		}
		for _, v := range got {
			var p docs.Piece
			if len(v) != 2 || !p.SetVector(v) {
				t.Errorf("vector %v", v)
			}
		}
	})
}
