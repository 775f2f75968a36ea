package openai_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"docent/internal/docs"
	"docent/internal/openai"
)

var _ docs.Searcher = (*openai.VectorStore)(nil)

const storeID = "vs_6939ad669c648191821c3a46f90cf33d"

// results is an answer with the files given, in OpenAI's form.
func results(files ...string) string {
	return `{"object":"vector_store.search_results.page","search_query":["?"],"data":[` + strings.Join(files, ",") + `],"has_more":false,"next_page":null}`
}

// file is a file in an answer.
func file(name, attributes string, texts ...string) string {
	var content []map[string]string
	for _, text := range texts {
		content = append(content, map[string]string{"type": "text", "text": text})
	}
	return encode(map[string]any{
		"file_id": "file-2b6dRdmXnzSrqiEbhVJZRU", "filename": name, "score": 0.9716,
		"attributes": json.RawMessage(attributes), "content": content,
	})
}

func encode(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

func TestVectorStore_Request(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, id        string
		query           docs.Query
		path, wantQuery string
	}{
		{"question", storeID, docs.Query{Question: "How?"}, "/v1/vector_stores/" + storeID + "/search", "How?"},
		{"question before it", storeID, docs.Query{Question: "And why?", Previous: "How?"}, "/v1/vector_stores/" + storeID + "/search", "And why?\nHow?"},
		{"ID that needs escaping", "a/../b?c#d", docs.Query{Question: "How?"}, "/v1/vector_stores/a%2F..%2Fb%3Fc%23d/search", "How?"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var got string
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				got = r.Method + " " + r.RequestURI + " " + string(body)
				io.WriteString(w, results())
			}))
			t.Cleanup(srv.Close)
			ctx, c := (&upstream{Server: srv}).client(t, "/v1", secret{value: key})
			s := &openai.VectorStore{Client: c, ID: func() string { return tt.id }}
			found, err := s.Passages(ctx, tt.query)
			if err != nil || len(found.Passages) != 0 {
				t.Errorf("%+v, %v", found, err)
			}
			want := fmt.Sprintf(`POST %s {"max_num_results":12,"query":%s,"ranking_options":{"ranker":"auto"},"rewrite_query":false}`, tt.path, encode(tt.wantQuery))
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("request (-want +got):\n%s", diff)
			}
		})
	}
}

// search returns what is found in an answer.
func search(t *testing.T, answer string) (docs.Found, error) {
	t.Helper()
	ctx, c := serve(t, answers(200, answer)).client(t, "/v1", secret{value: key})
	return (&openai.VectorStore{Client: c, ID: func() string { return storeID }}).Passages(ctx, docs.Query{Question: "How?"})
}

func TestVectorStore_Passage(t *testing.T) {
	t.Parallel()
	const score = 0.9716
	tests := []struct {
		name, file string
		want       []docs.Passage
	}{
		{
			"all attributes", file("a.md", `{"url":"https://docs.example.com/a/","title":"A","heading":"Set up","anchor":"set up","version":2,"draft":true}`, "text"),
			[]docs.Passage{{URL: "https://docs.example.com/a/#set%20up", Title: "A", Headings: []string{"Set up"}, Text: "text", Score: score}},
		},
		{"no attributes", file("guide/install.md", `{}`, "text"), []docs.Passage{{Title: "guide/install", Text: "text", Score: score}}},
		{"attributes null", file("guide/install.md", `null`, "text"), []docs.Passage{{Title: "guide/install", Text: "text", Score: score}}},
		{"name with a dot", file("node.js", `{}`, "text"), []docs.Passage{{Title: "node.js", Text: "text", Score: score}}},
		{
			"name that is a URL", file("https://docs.example.com/a.html", `{}`, "text"),
			[]docs.Passage{{URL: "https://docs.example.com/a.html", Title: "https://docs.example.com/a", Text: "text", Score: score}},
		},
		{"name with control characters", file("a\u001b[31m\n\ue200b.md", `{}`, "text"), []docs.Passage{{Title: "a[31m b", Text: "text", Score: score}}},
		{"no name", file("", `{"url":"http://docs.example.com/a"}`, "text"), []docs.Passage{{
			URL: "http://docs.example.com/a", Title: "http://docs.example.com/a", Text: "text", Score: score,
		}}},
		{"neither name nor URL", file("", `{}`, "text"), []docs.Passage{{Title: "file-2b6dRdmXnzSrqiEbhVJZRU", Text: "text", Score: score}}},
		{"attributes of other types", file("a.md", `{"url":7,"title":true}`, "text"), []docs.Passage{{Title: "a", Text: "text", Score: score}}},
		{"anchor with its sign", file("a.md", `{"url":"https://e.com/a","anchor":"#b"}`, "text"), []docs.Passage{{URL: "https://e.com/a#b", Title: "a", Text: "text", Score: score}}},
		{"URL with its own anchor", file("a.md", `{"url":"https://e.com/a#b","anchor":"c"}`, "text"), []docs.Passage{{URL: "https://e.com/a#b", Title: "a", Text: "text", Score: score}}},
		{"anchor without a URL", file("a.md", `{"anchor":"c"}`, "text"), []docs.Passage{{Title: "a", Text: "text", Score: score}}},
		{"script", file("a.md", `{"url":"javascript:alert(1)"}`, "text"), []docs.Passage{{Title: "a", Text: "text", Score: score}}},
		{"data", file("a.md", `{"url":"data:text/html,x"}`, "text"), []docs.Passage{{Title: "a", Text: "text", Score: score}}},
		{"other scheme with a host", file("a.md", `{"url":"ftp://e.com/a"}`, "text"), []docs.Passage{{Title: "a", Text: "text", Score: score}}},
		{"URL without a host", file("a.md", `{"url":"https:///a"}`, "text"), []docs.Passage{{Title: "a", Text: "text", Score: score}}},
		{"path", file("a.md", `{"url":"/a"}`, "text"), []docs.Passage{{Title: "a", Text: "text", Score: score}}},
		{"URL with a password", file("a.md", `{"url":"https://e.com:x@evil.example/a"}`, "text"), []docs.Passage{{Title: "a", Text: "text", Score: score}}},
		{"several parts", file("a.md", `{}`, "one", "two"), []docs.Passage{{Title: "a", Text: "one", Score: score}, {Title: "a", Text: "two", Score: score}}},
		{"parts without text", file("a.md", `{}`, "", " \n\u0007", "two"), []docs.Passage{{Title: "a", Text: "two", Score: score}}},
		{"a part of another type", `{"filename":"a.md","content":[{"type":"image","text":"x"}]}`, nil},
		{
			"control characters and markers",
			file("a\u001b[31m.md", `{"title":"A\u001b[2J \ue200b\n\u0000c","heading":"\ue201d\u0085"}`, "a\tb\r\n\u001b[31mred\u009b\u007f \ue200cite\ue202turn0file0\ue201. \ue203"),
			[]docs.Passage{{Title: "A[2J b c", Headings: []string{"d"}, Text: "a\tb\n[31mred citeturn0file0. \ue203", Score: score}},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			found, err := search(t, results(tt.file))
			if diff := cmp.Diff(docs.Found{Passages: tt.want}, found); diff != "" || err != nil {
				t.Errorf("%v, found (-want +got):\n%s", err, diff)
			}
		})
	}
}

func TestVectorStore_Bounds(t *testing.T) {
	t.Parallel()
	var files []string
	for i := range 12 {
		files = append(files, file(fmt.Sprintf("%d.md", i), `{}`, strings.Repeat("ä", 4001)))
	}
	found, err := search(t, results(files...))
	if err != nil || len(found.Passages) != 6 {
		t.Fatalf("%d passages, %v, want 6", len(found.Passages), err)
	}
	for i, p := range found.Passages {
		if n := utf8.RuneCountInString(p.Text); p.Title != fmt.Sprint(i) || n != 4000 {
			t.Errorf("passage %d: %s of %d characters", i, p.Title, n)
		}
	}
}

func TestVectorStore_Failures(t *testing.T) {
	t.Parallel()
	const question = "How do I leave the witness programme?"
	tests := []struct {
		name    string
		answers http.HandlerFunc
		want    failure
		calls   int32
	}{
		{
			"unknown store", says(404, "invalid_request_error", "", "Vector store with id '"+storeID+"' not found."),
			failure{
				Kind: openai.NotFound, Status: 404, Type: "invalid_request_error", Message: "Vector store with id '" + storeID + "' not found.",
				RetryAfter: defaultFor, Text: "OpenAI answered 404",
			},
			1,
		},
		{"busy", says(429, "", "", "", "Retry-After", "0"), failure{Kind: openai.Busy, Status: 429, RetryAfter: 1e9, Text: "OpenAI answered 429"}, 3},
		{
			"quoted question", says(400, "", "", "unsafe: "+question),
			failure{Kind: openai.Rejected, Status: 400, Message: "[repeats what was sent]", RetryAfter: defaultFor, Text: "OpenAI answered 400"},
			1,
		},
		{
			"quoted question before it", says(400, "", "", "unsafe: leave the witness programme?"),
			failure{Kind: openai.Rejected, Status: 400, Message: "[repeats what was sent]", RetryAfter: defaultFor, Text: "OpenAI answered 400"},
			1,
		},
		{"HTML", answers(200, "<html>"), failure{
			Status: 200, RetryAfter: defaultFor,
			Text: "OpenAI answered 200: the results are not readable: invalid character '<' looking for beginning of value",
		}, 1},
		{"other JSON", answers(200, `{"object":"list"}`), failure{Status: 200, RetryAfter: defaultFor, Text: "OpenAI answered 200: it has no list of results"}, 1},
		{"null", answers(200, `{"data":null}`), failure{Status: 200, RetryAfter: defaultFor, Text: "OpenAI answered 200: it has no list of results"}, 1},
		{"huge", answers(200, results()+strings.Repeat(" ", 2<<20)), failure{Status: 200, RetryAfter: defaultFor, Text: "OpenAI answered 200: the answer is larger than 1024 kB"}, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var calls atomic.Int32
			u := serve(t, func(w http.ResponseWriter, r *http.Request) { calls.Add(1); tt.answers(w, r) })
			ctx, c := u.client(t, "/v1", secret{value: key})
			q := docs.Query{Question: question, Previous: "And then?"}
			if strings.HasSuffix(tt.name, "before it") {
				q = docs.Query{Question: "And then?", Previous: question}
			}
			found, err := (&openai.VectorStore{Client: c, ID: func() string { return storeID }}).Passages(ctx, q)
			if diff := cmp.Diff(tt.want, failureOf(t, err)); diff != "" || len(found.Passages) != 0 {
				t.Errorf("%v, error (-want +got):\n%s", found, diff)
			}
			if n := calls.Load(); n != tt.calls {
				t.Errorf("%d calls, want %d", n, tt.calls)
			}
		})
	}
}

func FuzzVectorStore(f *testing.F) {
	f.Add([]byte(results(file("a.md", `{"url":"https://e.com/a","title":"A","heading":"B","anchor":"b"}`, "one", "two"))))
	f.Add([]byte(results(file("https://e.com/a#b", `{"title":"\u001b\ue200"}`, "\u001b[31m\ue200cite"))))
	f.Add([]byte(`{"data":[{"attributes":{"url":{}},"content":[null]},null]}`))
	var answer atomic.Pointer[[]byte]
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.Write(*answer.Load())
	}))
	f.Cleanup(srv.Close)
	c := openai.New(openai.Options{BaseURL: srv.URL, APIKey: secret{value: key}, Now: now})
	f.Cleanup(c.Close)
	s := &openai.VectorStore{Client: c, ID: func() string { return storeID }}
	f.Fuzz(func(t *testing.T, body []byte) {
		answer.Store(&body)
		found, err := s.Passages(t.Context(), docs.Query{Question: "How?"})
		if err != nil {
			failureOf(t, err)
		}
		if diff := cmp.Diff(found.Passages, docs.Bound(found.Passages)); diff != "" {
			t.Errorf("out of bounds (-got +bounded):\n%s", diff)
		}
		for _, p := range found.Passages {
			if p.Text == "" || p.URL != "" && !strings.HasPrefix(p.URL, "https://") && !strings.HasPrefix(p.URL, "http://") {
				t.Errorf("passage %+v", p)
			}
			if strings.ContainsAny(fmt.Sprint(p), "\u0000\u0007\u001b\r\u009b\ue200\ue201\ue202") {
				t.Errorf("control characters in %+v", p)
			}
		}
	})
}
