package httpapi_test

import (
	"context"
	"errors"
	"testing"
	"time"

	answers "docent/internal/answer"
	"docent/internal/chatkit"
	"docent/internal/httpapi"
	"docent/internal/openai"

	"github.com/google/go-cmp/cmp"
)

// The record of a message has the outcome of its answer. Only what an operator must
// change is an error.
func TestChat_Outcome(t *testing.T) {
	t.Parallel()
	told := func(code string) error { return &chatkit.StreamError{Code: code, Message: "Not now."} }
	upstream := func(kind openai.Kind) error { return &openai.Error{Kind: kind, Status: 429, Code: "a_code"} }
	tests := []struct {
		name    string
		outcome answers.Outcome
		err     error // What the responder returns.
		want    map[string]any
	}{
		{
			"answered",
			answers.Outcome{
				Code: "answered", ToPassages: 2 * time.Millisecond, ToFirst: 500 * time.Millisecond, Total: 3 * time.Second,
				Passages: 8, Citations: 3, InputTokens: 4000, CachedTokens: 1024, OutputTokens: 250,
			},
			nil,
			map[string]any{
				"severity": "INFO", "outcome": "answered", "backend": "docs", "passages_ms": 2.0, "first_delta_ms": 500.0, "answer_ms": 3000.0,
				"passages": 8.0, "citations": 3.0, "tokens_in": 4000.0, "tokens_cached": 1024.0, "tokens_out": 250.0,
			},
		},
		{"no source", answers.Outcome{Code: "no_source"}, nil, map[string]any{"severity": "INFO", "outcome": "no_source"}},
		{"cut", answers.Outcome{Code: "cut"}, nil, map[string]any{"severity": "INFO", "outcome": "cut"}},
		{
			"found by words alone",
			answers.Outcome{Code: "answered", WithoutVectors: errors.New("no vector in time")},
			nil,
			map[string]any{"severity": "WARNING", "outcome": "answered", "without_vectors": "no vector in time"},
		},
		{
			"no money",
			answers.Outcome{Code: "spending_refused", Err: upstream(openai.Spent)},
			told("spending_refused"),
			map[string]any{"severity": "ERROR", "outcome": "spending_refused", "upstream": "a_code"},
		},
		{
			"pause after that",
			answers.Outcome{Code: "assistant_unavailable"},
			told("assistant_unavailable"),
			map[string]any{"severity": "INFO", "outcome": "assistant_unavailable", "error": "Not now."},
		},
		{
			"rejected",
			answers.Outcome{Code: "upstream_rejected", Err: upstream(openai.Rejected)},
			told("upstream_rejected"),
			map[string]any{"severity": "ERROR", "outcome": "upstream_rejected"},
		},
		{
			"busy",
			answers.Outcome{Code: "upstream_busy", Err: upstream(openai.Busy)},
			told("upstream_busy"),
			map[string]any{"severity": "WARNING", "outcome": "upstream_busy"},
		},
		{
			"no search",
			answers.Outcome{Code: "search_failed", Err: errors.New("a cause")},
			told("search_failed"),
			map[string]any{"severity": "WARNING", "outcome": "search_failed", "error": "a cause"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := chats(t, func(ctx context.Context, _ chatkit.Question, a *chatkit.Answer) error {
				httpapi.Observe(ctx, tt.outcome)
				if tt.err != nil {
					return tt.err
				}
				return a.Write("Yes.")
			})
			s.chat(t, create("hello"))
			record := s.lines(t)[0]
			got := map[string]any{}
			for name := range tt.want {
				got[name] = record[name]
			}
			if upstream, ok := got["upstream"].(map[string]any); ok {
				got["upstream"] = upstream["code"]
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("record (-want +got):\n%s", diff)
			}
			if tt.outcome.ToFirst == 0 && record["first_delta_ms"] != nil {
				t.Errorf("a time that was not reached: %v", record)
			}
		})
	}
}
