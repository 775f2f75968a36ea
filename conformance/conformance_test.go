//go:build unix

// Package conformance compares Docent with the reference, OpenAI's own ChatKit
// server in Python. Both get the same requests, and answer with the same words: as a
// script says, or as a stand-in for OpenAI does, which plays both of them the same
// streams. What Docent does differently on purpose is a list with reasons, in
// differences_test.go. Any other difference is a failure, and so is a difference of
// the list that is gone.
//
// `make conformance` installs the reference and runs the tests.
package conformance_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"docent/internal/chatkit"
	"docent/internal/httpapi"
	"docent/internal/logging"
	"docent/internal/process"
	"docent/internal/standin"
	"docent/internal/testkit/testindex"
	"docent/internal/testkit/testprocess"
	"docent/internal/visitor"
)

var (
	python  = flag.String("python", "", "a Python that has the packages of requirements.txt")
	service string // The built service.
)

func TestMain(m *testing.M) {
	flag.Parse()
	if *python == "" {
		os.Exit(m.Run())
	}
	os.Exit(testprocess.Main("docent/cmd/docent", &service, m.Run))
}

const (
	page = "https://docs.example.com"
	// patience is how long a request may take on a busy machine.
	patience = time.Minute
)

// server is a ChatKit server.
type server struct {
	url string // Of the chat.
	// session returns the headers of a visitor who was never there before.
	session func(t *testing.T) http.Header
}

// reference starts the reference. Its model is at a base URL.
func reference(t *testing.T, model string) server {
	t.Helper()
	if *python == "" {
		t.Skip("the reference is not installed: run `make conformance`")
	}
	cmd := exec.CommandContext(context.Background(), *python, "reference.py")
	cmd.Env = []string{"TZ=UTC", "PYTHONDONTWRITEBYTECODE=1", "OPENAI_API_KEY=" + apiKey, "OPENAI_BASE_URL=" + model}
	p, err := process.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Stop(); err != nil {
			t.Errorf("stop: %v", err)
		}
		if t.Failed() && testing.Verbose() {
			t.Logf("the reference's log:\n%s", p.Output)
		}
	})
	var mu sync.Mutex
	visitors := 0
	return server{"http://" + p.Address + "/chat", func(*testing.T) http.Header {
		mu.Lock()
		defer mu.Unlock()
		visitors++
		return http.Header{"Authorization": {fmt.Sprint(visitors)}}
	}}
}

type anyOrigin struct{}

func (anyOrigin) Allows(string) bool { return true }

// library starts Docent's chat in this process, without limits. It answers as the
// scripts say.
func library(t *testing.T) server {
	t.Helper()
	signer := visitor.NewSigner(visitor.Keys{Tokens: []byte("key"), Undated: []byte("another")}, httpapi.BasePath, time.Now)
	chats := chatkit.New(chatkit.Options{
		Store:        chatkit.NewMemory(time.Hour, time.Now),
		Responder:    &scripted{attempts: map[string]int{}},
		StoreTimeout: patience,
		Now:          time.Now,
	})
	srv := httptest.NewServer(httpapi.New(httpapi.Options{
		Origins:  anyOrigin{},
		Visitors: signer,
		Chat:     &httpapi.Chat{Chats: chats, AtOnce: -1, AnswerTimeout: patience, Stopping: t.Context()},
		Timeout:  patience,
		Log:      logging.New(io.Discard, "json", slog.LevelError),
		Now:      time.Now,
	}))
	t.Cleanup(srv.Close)
	return server{srv.URL + httpapi.BasePath + "/chat", func(t *testing.T) http.Header {
		t.Helper()
		req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", nil)
		token, _ := signer.Session(signer.ID(req, ""), time.Hour)
		return http.Header{"Authorization": {"Bearer " + token}, "Origin": {page}}
	}}
}

// built starts the built service. Its model is at a base URL.
func built(t *testing.T, model string) server {
	t.Helper()
	p := testprocess.Start(t, service,
		"ALLOWED_ORIGINS="+page, "CHATKIT_DOMAIN_KEYS=docs.example.com=domain_pk_test", "OPENAI_API_KEY="+apiKey,
		"OPENAI_BASE_URL="+model, "DOCS_INDEX="+testindex.Write(t, testindex.Small()), "RATE_LIMIT_STORE=memory", "RATE_LIMIT_PER_MINUTE=1000000",
		"RATE_LIMIT_MESSAGES_PER_MINUTE=unlimited", "ANSWERS_PER_DAY_PER_ADDRESS=unlimited", "ANSWERS_PER_DAY=unlimited",
	)
	api := "http://" + p.Address + httpapi.BasePath
	return server{api + "/chat", func(t *testing.T) http.Header {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, api+"/session?api=any", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Origin", page)
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var session struct{ Token string }
		if err := json.NewDecoder(resp.Body).Decode(&session); err != nil || session.Token == "" {
			t.Fatalf("session: status %s, token %q, %v", resp.Status, session.Token, err)
		}
		return http.Header{"Authorization": {"Bearer " + session.Token}, "Origin": {page}}
	}}
}

// client is one visitor's view of a server.
type client struct {
	server

	header http.Header
	names  *names
	since  time.Time
}

func (s server) client(t *testing.T) *client {
	t.Helper()
	return &client{s, s.session(t), newNames(), time.Now()}
}

// ask sends a request and returns the answer as both servers should give it. A
// request with until is sent again until the answer has that.
func (c *client) ask(t *testing.T, q request) answer {
	t.Helper()
	body := c.names.fill(t, q.body)
	for start := time.Now(); ; {
		a, err := c.send(t, q, body)
		if err != nil {
			t.Fatalf("%s: %s: %v", q.name, c.url, err)
		}
		if strings.Contains(strings.Join(a.Parts, ""), q.until) {
			return c.names.normalise(a, c.since)
		}
		if time.Since(start) > patience {
			t.Fatalf("%s: %s: no answer has %q: %v", q.name, c.url, q.until, a)
		}
	}
}

func (c *client) send(t *testing.T, q request, body string) (answer, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	req.Header = c.header.Clone()
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "*/*")
	if q.streams() {
		req.Header.Set("Accept", "text/event-stream")
	}
	if q.widget {
		req.Header.Set("Docent-Widget", "1")
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	return read(resp, q.leave)
}

// run holds one conversation with both servers and compares their answers. It notes
// which differences of the list occurred.
func (c conversation) run(t *testing.T, ref, docent server, occurred *sync.Map) {
	t.Helper()
	theirs, ours := ref.client(t), docent.client(t)
	earlier := map[string]answer{}
	for _, q := range c {
		want, got := show(question{q, earlier}, theirs.ask(t, q)), ours.ask(t, q)
		var applied []string
		for _, d := range differences {
			next := d.rewrite(question{q, earlier}, want)
			if compare(want, next) != "" {
				applied = append(applied, d.what)
				want = next
			}
		}
		if q.joined {
			want, got = want.joined(), got.joined()
		}
		if diff := compare(want, got); diff != "" {
			t.Errorf("%s: %.400s\nafter these differences of the list: %s\n(-reference +Docent):\n%s",
				q.name, q.body, strings.Join(applied, "; "), diff)
		}
		for _, what := range applied {
			occurred.Store(what, true)
		}
		earlier[q.name] = want
	}
}

func TestConformance(t *testing.T) {
	t.Parallel()
	model := openAI(t)
	ref := reference(t, model)
	var occurred sync.Map
	t.Cleanup(func() { // When all conversations have ended.
		if flag.Lookup("test.run").Value.String() != "" {
			return // Perhaps some did not run.
		}
		for _, d := range differences {
			if _, ok := occurred.Load(d.what); !ok {
				t.Errorf("a difference of the list does not occur: %s", d.what)
			}
		}
	})
	t.Run("library", func(t *testing.T) {
		t.Parallel()
		docent := library(t)
		for _, name := range slices.Sorted(maps.Keys(conversations)) {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				conversations[name].run(t, ref, docent, &occurred)
			})
		}
	})
	t.Run("service", func(t *testing.T) {
		t.Parallel()
		docent := built(t, model)
		for _, name := range []string{"a conversation", "a thread that is unknown", "what is not valid"} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				conversations[name].run(t, ref, docent, &occurred)
			})
		}
		for _, kind := range append(standin.StreamKinds(), "usual") {
			t.Run(kind, func(t *testing.T) {
				t.Parallel()
				docent := docent
				if endings[kind] == unavailable {
					docent = built(t, model) // It answers nothing else for minutes.
				}
				answeredWith(kind).run(t, ref, docent, &occurred)
			})
		}
		t.Run("citation markers", func(t *testing.T) {
			t.Parallel()
			withMarkers.run(t, ref, docent, &occurred)
		})
	})
}
