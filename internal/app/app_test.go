package app_test

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"docent/internal/app"
	"docent/internal/firestore"
	"docent/internal/ratelimit"
	"docent/internal/standin"
	"docent/internal/testkit/testfirestore"
	"docent/internal/testkit/testindex"
)

// TestRun_GivesLeaseBack stops a service that has taken a lease of the day's answers
// and used one of it. Not parallel: Run sets the process's loggers.
func TestRun_GivesLeaseBack(t *testing.T) { //nolint:paralleltest // As said.
	emulator, project := testfirestore.Address(t), testfirestore.Project()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	listening, stopped := make(chan net.Addr, 1), make(chan error, 1)
	openai, stopOpenAI, err := standin.NewOpenAI("sk-test", "").Listen()
	if err != nil {
		t.Fatal(err)
	}
	defer stopOpenAI()
	go func() {
		stopped <- app.Run(ctx, app.Process{
			Environment: map[string]string{
				"PORT": "127.0.0.1:0", "ALLOWED_ORIGINS": "http://localhost:3000", "OPENAI_API_KEY": "sk-test", "DOCS_INDEX": testindex.Write(t, testindex.Small()), "OPENAI_BASE_URL": openai,
				"IDENTITY_KEY": identityKey, "GOOGLE_CLOUD_PROJECT": project, "FIRESTORE_EMULATOR_HOST": emulator,
			},
			Stdout: io.Discard, Stderr: io.Discard,
			Listening: func(a net.Addr) { listening <- a },
		})
	}()
	var url string
	select {
	case a := <-listening:
		url = "http://" + a.String() + "/api/chatkit"
	case err := <-stopped:
		t.Fatal(err)
	}
	var session struct{ Token string }
	if err := json.Unmarshal(post(t, url+"/session?api=any", "", ""), &session); err != nil {
		t.Fatal(err)
	}
	answer := post(t, url+"/chat", "Bearer "+session.Token,
		`{"type":"threads.create","params":{"input":{"content":[{"type":"input_text","text":"hello"}],"attachments":[],"inference_options":{}}}}`)
	if !strings.Contains(string(answer), "assistant_message") {
		t.Errorf("the answer: %s", answer)
	}

	client, err := firestore.Open(t.Context(), firestore.Options{Project: project, Database: "(default)", Emulator: emulator})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	keys, err := app.DeriveKeys(identityKey, "")
	if err != nil {
		t.Fatal(err)
	}
	store, err := client.Buckets("rate_limits", keys.Buckets)
	if err != nil {
		t.Fatal(err)
	}
	counted := func() int {
		t.Helper()
		b := ratelimit.Bucket{Name: "answers-of-site", Window: ratelimit.WindowOf(time.Now(), 24*time.Hour)}
		g, err := store.Grant(t.Context(), b, ratelimit.Ask{N: 1, Limit: 0, Seen: true}) // Grants nothing.
		if err != nil {
			t.Fatal(err)
		}
		return g.Before
	}
	if n := counted(); n != 20 {
		t.Errorf("%d counted while it runs, want a lease of 20", n)
	}
	stop()
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if n := counted(); n != 1 {
		t.Errorf("%d counted after the stop, want 1", n)
	}
}

// post sends a request of a page and returns the answer.
func post(t *testing.T, url, authorization, body string) []byte {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Origin", "http://localhost:3000")
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s %s %v", url, resp.Status, answer, err)
	}
	return answer
}
