package main_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"cloud.google.com/go/firestore"
	"google.golang.org/api/iterator"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"docent/internal/testkit/testfirestore"
)

// stored returns the documents of a project: what they hold, by their paths.
func stored(t *testing.T, address, project string) map[string]string {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer owner") // The emulator lists collections for nobody else.
	client, err := firestore.NewClient(ctx, project, option.WithGRPCConn(conn))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	found := map[string]string{}
	var walk func(collections *firestore.CollectionIterator)
	walk = func(collections *firestore.CollectionIterator) {
		t.Helper()
		for {
			collection, err := collections.Next()
			if errors.Is(err, iterator.Done) {
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			documents, err := collection.DocumentRefs(ctx).GetAll() // With those that only have documents below them.
			if err != nil {
				t.Fatal(err)
			}
			for _, ref := range documents {
				document, err := ref.Get(ctx)
				if err == nil {
					_, path, _ := strings.Cut(ref.Path, "/documents/")
					found[path] = fmt.Sprint(document.Data())
				}
				walk(ref.Collections(ctx))
			}
		}
	}
	walk(client.Collections(ctx))
	return found
}

// recorder is OpenAI, and remembers what it is sent.
type recorder struct {
	next http.Handler

	mu   sync.Mutex
	sent map[string][]string // By path: method, query, headers and body of each request.
}

func (r *recorder) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	body, err := io.ReadAll(q.Body)
	if err != nil {
		return // Docent has gone.
	}
	q.Body = io.NopCloser(bytes.NewReader(body))
	r.mu.Lock()
	r.sent[q.URL.Path] = append(r.sent[q.URL.Path], fmt.Sprint(q.Method, q.URL.RawQuery, q.Header, string(body)))
	r.mu.Unlock()
	r.next.ServeHTTP(w, q)
}

// TestTexts_NowhereButInThreads uses all that there is of a conversation, and looks for
// its texts in the log, in the store and in what OpenAI is sent.
func TestTexts_NowhereButInThreads(t *testing.T) {
	t.Parallel()
	const pageWords = "page-being-read"
	dir, project := smallSite(t), testfirestore.Project()
	openai, environment := newEmbeddings(t)
	if r := tool(t, dir, environment, "index", "--site", siteURL, "build"); r.status != 0 {
		t.Fatalf("%+v", r)
	}
	sent := &recorder{next: openai, sent: map[string][]string{}}
	gateway := httptest.NewServer(sent)
	t.Cleanup(gateway.Close)
	d := answering(t, docs(t, "OPENAI_BASE_URL="+gateway.URL+"/v1", "CHATKIT_WORKFLOW_ID="+testWorkflow, "DOCS_INDEX="+filepath.Join(dir, "docs.index"),
		"FIRESTORE_EMULATOR_HOST="+testfirestore.Address(t), "GOOGLE_CLOUD_PROJECT="+project, "RATE_LIMIT_MESSAGES_PER_MINUTE=6")...)
	openai.Repeat()
	openai.SetPace(0)
	d.ask(t, http.MethodPost, sessionPath, forAPI("any"))
	openai.Fail(answers(404, errorBody))
	v := newReader(t, d)

	from := []func(*http.Request){header("Docent-Page", testOrigin+"/"+pageWords), header("X-Forwarded-For", "198.18.0.1")}
	send := func(want int, body string) string {
		t.Helper()
		status, answer := v.send(t, d, body, from...)
		if status != want {
			t.Errorf("%d %s, want %d", status, answer, want)
		}
		return answer
	}
	words := func(what string) string { return visitorsWords + " " + what + " installing linux" }
	all := events(t, send(200, v.message(words("first"))))
	v.thread = all[0].Thread.ID
	send(200, strings.Replace(v.message(words("second")), `"quoted_text":""`, `"quoted_text":"`+words("quoted")+`"`, 1))
	openai.RespondWith(echo) // OpenAI repeats the request in an error.
	send(200, v.message(words("refused by OpenAI")))
	openai.RespondWith(streams(delta(words("cut")), "{"+visitorsWords))
	send(200, v.message(words("cut off")))
	openai.Play("error-nested", "error-nested", "error-nested")
	send(200, v.message(words("busy")))
	var list struct{ Data []struct{ ID, Type string } }
	if err := json.Unmarshal([]byte(send(200, fmt.Sprintf(`{"type":"items.list","params":{"thread_id":%q,"order":"asc"}}`, v.thread))), &list); err != nil {
		t.Fatal(err)
	}
	send(200, fmt.Sprintf(`{"type":"items.feedback","params":{"thread_id":%q,"item_ids":[%q],"kind":"negative"}}`, v.thread, list.Data[1].ID))
	send(200, fmt.Sprintf(`{"type":"threads.update","params":{"thread_id":%q,"title":%q}}`, v.thread, words("title")))
	send(200, fmt.Sprintf(`{"type":"threads.retry_after_item","params":{"thread_id":%q,"item_id":"x"}}`, v.thread))
	send(429, v.message(words("too many")))
	send(400, `{"type":"`+visitorsWords+`"}`)
	send(404, fmt.Sprintf(`{"type":"threads.get_by_id","params":{"thread_id":%q}}`, visitorsWords))
	send(200, `{"type":"threads.list","params":{}}`)

	thread := regexp.MustCompile(`^visitors/[^/]+/threads/` + v.thread + `$`)
	var elsewhere, threads int
	for path, data := range stored(t, testfirestore.Address(t), project) {
		isThread := thread.MatchString(path)
		if isThread {
			threads++
		} else {
			elsewhere++
		}
		if has := strings.Contains(data, visitorsWords); has != isThread || strings.Contains(path, visitorsWords) {
			t.Errorf("%s: %s", path, data)
		}
		for _, secret := range []string{pageWords, "198.18.", v.token} {
			if strings.Contains(path+data, secret) {
				t.Errorf("%q is in %s: %s", secret, path, data)
			}
		}
	}
	if threads != 1 || elsewhere < 2 { // At least the counts of the minute and of the day.
		t.Errorf("%d threads and %d other documents", threads, elsewhere)
	}

	sent.mu.Lock()
	defer sent.mu.Unlock()
	for path, requests := range sent.sent {
		asks := slices.Contains([]string{"/v1/responses", "/v1/embeddings"}, path)
		for _, r := range requests {
			if strings.Contains(r, visitorsWords) != asks || strings.Contains(r, pageWords) || strings.Contains(r, "198.18.") {
				t.Errorf("%s was sent %s", path, r)
			}
		}
	}
	if len(sent.sent["/v1/responses"]) < 6 || len(sent.sent["/v1/embeddings"]) < 6 || len(sent.sent["/v1/chatkit/sessions"]) != 2 {
		t.Errorf("OpenAI was sent %v", sent.sent)
	}
	if output := d.output.String(); strings.Contains(output, pageWords) {
		t.Errorf("the log has the page:\n%s", output)
	}
}
