package main_test

import (
	"encoding/json"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
)

// TestRefused_CostsNothing asks where a question would be embedded, and has Docent
// refuse it for every reason. Nothing may be asked of OpenAI.
func TestRefused_CostsNothing(t *testing.T) {
	t.Parallel()
	dir := smallSite(t)
	_, environment := newEmbeddings(t)
	if r := tool(t, dir, environment, "index", "--site", siteURL, "build"); r.status != 0 {
		t.Fatalf("%+v", r)
	}
	const (
		create = `{"type":"threads.create","params":{"input":{"content":[{"type":"input_text","text":"How do I install it, visitors-words?"}],"attachments":[],"inference_options":{}}}}`
		unused = "thr_AAAAAAAAAAAAAAAAAAAAAAAAAA"
	)
	inThread := strings.Replace(create, `threads.create","params":{`, `threads.add_user_message","params":{"thread_id":"`+unused+`",`, 1)
	type request struct {
		name   string
		body   string
		change func(*http.Request)
		status int
		code   string
	}
	none := func(*http.Request) {}
	without := func(name string) func(*http.Request) { return func(r *http.Request) { r.Header.Del(name) } }
	for _, tt := range []struct {
		name     string
		setting  string
		requests []request
	}{
		{"requests", "LOG_LEVEL=debug", []request{
			{"no origin", create, without("Origin"), 403, "origin_not_allowed"},
			{"another origin", create, header("Origin", "https://elsewhere.example.com"), 403, "origin_not_allowed"},
			{"no address", create, without("X-Forwarded-For"), 400, "client_address_unknown"},
			{"no token", create, without("Authorization"), 401, "session_invalid"},
			{"another token", create, header("Authorization", "Bearer ds_"+strings.Repeat("A", 100)), 401, "session_invalid"},
			{"too large", create + strings.Repeat(" ", 64<<10), none, 413, "request_too_large"},
			{"not JSON", create[1:], none, 400, "bad_request"},
			{"no text", strings.Replace(create, "How do I install it, visitors-words?", " ", 1), none, 400, "bad_request"},
			{"a long text", strings.Replace(create, "How", strings.Repeat("x", 4000), 1), none, 400, "bad_request"},
			{"an attachment", strings.Replace(create, `"attachments":[]`, `"attachments":["file_1"]`, 1), none, 400, "not_supported"},
			{"not supported", `{"type":"attachments.create","params":{"name":"a","size":1,"mime_type":"text/plain"}}`, none, 400, "not_supported"},
			{"an unknown thread", inThread, none, 404, "thread_not_found"},
			{"a retry in an unknown thread", `{"type":"threads.retry_after_item","params":{"thread_id":"` + unused + `","item_id":"x"}}`, none, 404, "thread_not_found"},
			{"a list of an unknown thread", `{"type":"items.list","params":{"thread_id":"` + unused + `"}}`, none, 404, "thread_not_found"},
		}},
		{"no messages", "RATE_LIMIT_MESSAGES_PER_MINUTE=0", []request{{"a message", create, none, 429, "rate_limited"}}},
		{"none at once", "ANSWERS_AT_ONCE=0", []request{{"a message", create, none, 429, "busy"}}},
		{"none a day", "ANSWERS_PER_DAY=0", []request{{"a message", create, none, 429, usedUp}}},
		{"none a day for an address", "ANSWERS_PER_DAY_PER_ADDRESS=0", []request{{"a message", create, none, 429, usedUp}}},
		{"no limit reached", "LOG_LEVEL=debug", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := answering(t, docs(t, "DOCS_INDEX="+filepath.Join(dir, "docs.index"), tt.setting)...)
			v := newReader(t, d)
			for _, r := range tt.requests {
				status, body := v.send(t, d, r.body, r.change)
				var refused struct{ Code string }
				if err := json.Unmarshal([]byte(body), &refused); err != nil || status != r.status || refused.Code != r.code {
					t.Errorf("%s: %d %s, want %d %s", r.name, status, body, r.status, r.code)
				}
				if keys := d.openai.Keys(); len(keys) > 0 {
					t.Fatalf("%s: OpenAI was asked: %d texts were embedded, %d responses made", r.name, d.openai.Embedded(), len(d.openai.Responses()))
				}
			}
			if tt.requests == nil { // Otherwise the test would show nothing.
				v.send(t, d, create)
				if embedded, made := d.openai.Embedded(), len(d.openai.Responses()); embedded != 1 || made != 1 {
					t.Errorf("%d texts were embedded, %d responses made", embedded, made)
				}
			}
		})
	}
}
