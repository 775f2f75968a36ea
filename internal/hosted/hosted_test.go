package hosted_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"docent/internal/hosted"
	"docent/internal/openai"
)

const (
	key = "sk-test-KEY"
	// patience is the budget of a call that should take milliseconds.
	patience = 20 * time.Second
)

// fixed is a secret that does not rotate.
type fixed string

func (f fixed) Get() string { return string(f) }

func (f fixed) Renew(context.Context, string) (string, bool) { return string(f), false }

// now is the clock of all minters.
func now() time.Time { return time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC) }

// request is what a minter sent.
type request struct {
	Method, Path, Beta, Key, Body string
}

// minter returns a minter whose every call gets one answer, its budget, and what
// it sends.
func minter(t *testing.T, o hosted.Options, status int, answer string) (context.Context, *hosted.Minter, *[]request) {
	t.Helper()
	var sent []request
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		sent = append(sent, request{r.Method, r.URL.EscapedPath(), r.Header.Get("OpenAI-Beta"), r.Header.Get("Authorization"), string(body)})
		w.WriteHeader(status)
		io.WriteString(w, answer)
	}))
	t.Cleanup(srv.Close)
	client := openai.New(openai.Options{BaseURL: srv.URL + "/v1", APIKey: fixed(key), Now: now})
	t.Cleanup(client.Close)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	o.WorkflowID, o.Now = fixed("wf_test"), now
	return ctx, hosted.New(client, o), &sent
}

// session is an answer that expires after d.
func session(d time.Duration) string {
	return fmt.Sprintf(`{"id":"cksess_1","client_secret":"ek_1","expires_at":%d}`, now().Add(d).Unix())
}

func TestMint_Request(t *testing.T) {
	t.Parallel()
	ten := 10
	tests := []struct {
		name    string
		options hosted.Options
		want    string
	}{
		{
			"OpenAI's defaults",
			hosted.Options{},
			`{"workflow":{"id":"wf_test"},"user":"visitor","chatkit_configuration":{"history":{"enabled":false},"file_upload":{"enabled":false}}}`,
		},
		{
			"everything set",
			hosted.Options{WorkflowVersion: "3", SessionTTL: 90 * time.Second, RequestsPerMinute: &ten, History: true, FileUpload: true},
			`{"workflow":{"id":"wf_test","version":"3"},"user":"visitor","expires_after":{"anchor":"created_at","seconds":90},` +
				`"rate_limits":{"max_requests_per_1_minute":10},"chatkit_configuration":{"history":{"enabled":true},"file_upload":{"enabled":true}}}`,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ctx, m, sent := minter(t, tt.options, 200, session(time.Minute))
			if _, err := m.Mint(ctx, "visitor"); err != nil {
				t.Fatal(err)
			}
			want := []request{{"POST", "/v1/chatkit/sessions", "chatkit_beta=v1", "Bearer " + key, tt.want}}
			if diff := cmp.Diff(want, *sent); diff != "" {
				t.Errorf("requests (-want +got):\n%s", diff)
			}
		})
	}
}

func TestMint_Session(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, answer string
		want         hosted.Session
		failure      string // What the error says, if it is not a session.
	}{
		{"session", session(time.Minute), hosted.Session{ID: "cksess_1", ClientSecret: "ek_1", ExpiresAt: now().Add(time.Minute)}, ""},
		{"without an ID", `{"client_secret":"ek_1","expires_at":4000000000}`, hosted.Session{ClientSecret: "ek_1", ExpiresAt: time.Unix(4000000000, 0)}, ""},
		{"expires in a second", session(time.Second), hosted.Session{ID: "cksess_1", ClientSecret: "ek_1", ExpiresAt: now().Add(time.Second)}, ""},
		{"expires now", session(0), hosted.Session{}, "the session has expired already"},
		{"without an expiry", `{"client_secret":"ek_1"}`, hosted.Session{}, "the session has expired already"},
		{"empty client secret", `{"client_secret":"","expires_at":4000000000}`, hosted.Session{}, "the session has no client_secret"},
		{"null", "null", hosted.Session{}, "the session has no client_secret"},
		{"nothing", "", hosted.Session{}, "the session is not readable: unexpected end of JSON input"},
		{"HTML", "<!doctype html>", hosted.Session{}, "the session is not readable: invalid character '<' looking for beginning of value"},
		{"two sessions", session(time.Minute) + session(time.Minute), hosted.Session{}, "the session is not readable: invalid character '{' after top-level value"},
		{
			"expiry of 10,000 digits", `{"client_secret":"ek_1","expires_at":` + strings.Repeat("1", 10_000) + `}`,
			hosted.Session{},
			"the session is not readable: json: cannot unmarshal number " + strings.Repeat("1", 441) + "…",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ctx, m, sent := minter(t, hosted.Options{}, 200, tt.answer)
			got, err := m.Mint(ctx, "visitor")
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("session (-want +got):\n%s", diff)
			}
			var e *openai.Error
			switch {
			case tt.failure == "" && err != nil:
				t.Error(err)
			case tt.failure != "" && (!errors.As(err, &e) || e.Kind != openai.Rejected || e.Error() != "OpenAI answered 200: "+tt.failure):
				t.Errorf("error %v (%T), want %s", err, err, tt.failure)
			}
			if len(*sent) != 1 {
				t.Errorf("%d calls, want 1", len(*sent))
			}
		})
	}
}

func TestMint_Failure(t *testing.T) {
	t.Parallel()
	ctx, m, _ := minter(t, hosted.Options{}, 404, "{}")
	_, err := m.Mint(ctx, "visitor")
	var e *openai.Error
	if !errors.As(err, &e) || e.Kind != openai.NotFound {
		t.Errorf("error %v (%T), want OpenAI's 404", err, err)
	}
}

func TestCancel(t *testing.T) {
	t.Parallel()
	for _, status := range []int{200, 503} {
		ctx, m, sent := minter(t, hosted.Options{}, status, "{}")
		if err := m.Cancel(ctx, "cksess_1/../x"); (err == nil) != (status == 200) {
			t.Errorf("%d: error %v", status, err)
		}
		want := []request{{"POST", "/v1/chatkit/sessions/cksess_1%2F..%2Fx/cancel", "chatkit_beta=v1", "Bearer " + key, ""}}
		if diff := cmp.Diff(want, *sent); diff != "" {
			t.Errorf("%d: requests (-want +got):\n%s", status, diff)
		}
	}
}
