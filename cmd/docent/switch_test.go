package main_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// forAPI says what a page of the widget knows.
func forAPI(api string) func(*http.Request) {
	return func(r *http.Request) { r.URL.RawQuery = "api=" + api }
}

// TestSwitch_InMidTraffic has OpenAI refuse the workflow while many sessions are being
// made.
func TestSwitch_InMidTraffic(t *testing.T) {
	t.Parallel()
	const visitors = 50
	for _, status := range []int{400, 403, 404, 410} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			t.Parallel()
			d := answering(t, docs(t, "CHATKIT_WORKFLOW_ID="+testWorkflow)...)
			if r := d.ask(t, http.MethodPost, sessionPath, forAPI("any")); r.StatusCode != 200 || r.ClientSecret == "" {
				t.Errorf("before: %d %s", r.StatusCode, r.body)
			}
			var together sync.WaitGroup // All are asked for before the first is refused.
			together.Add(visitors)
			for n := range visitors {
				answer := answers(status, errorBody)
				if n%2 == 0 {
					answer = answers(200, session("ek_late", time.Minute))
				}
				d.openai.Fail(func(w http.ResponseWriter, r *http.Request) {
					together.Done()
					together.Wait()
					answer(w, r)
				})
			}
			var mu sync.Mutex
			kinds := map[string]int{}
			ask := func(n int) {
				var all sync.WaitGroup
				for range n {
					all.Go(func() {
						r := d.ask(t, http.MethodPost, sessionPath, forAPI("any"))
						kind := fmt.Sprint(r.StatusCode)
						switch {
						case strings.Contains(r.body, `"token":"ds_`):
							kind += " docs"
						case strings.Contains(r.body, `"client_secret":"ek_`):
							kind += " hosted"
						}
						mu.Lock()
						defer mu.Unlock()
						kinds[kind]++
					})
				}
				all.Wait()
			}
			ask(visitors)
			if kinds["200 docs"] != visitors/2 || kinds["200 hosted"] != visitors/2 {
				t.Errorf("while it goes: %v", kinds)
			}
			calls := len(d.openai.Keys())
			ask(visitors)
			if kinds["200 docs"] != visitors/2+visitors {
				t.Errorf("from then on: %v", kinds)
			}
			if r := d.ask(t, http.MethodPost, sessionPath); r.StatusCode != 503 || r.Code != "assistant_unavailable" {
				t.Errorf("a page that knows only hosted sessions: %d %s", r.StatusCode, r.body)
			}
			if r := d.ask(t, http.MethodPost, sessionPath, forAPI("docs")); r.StatusCode != 200 || !strings.Contains(r.body, `"token":"ds_`) {
				t.Errorf("a page that stays: %d %s", r.StatusCode, r.body)
			}
			if n := len(d.openai.Keys()); n != calls || n != 1+visitors {
				t.Errorf("OpenAI was asked %d times, %d of them before it refused, want %d", n, calls, 1+visitors)
			}
			if got, record := newReader(t, d).watch(t, d, installs); record["outcome"] != "answered" || record["backend"] != "docs" {
				t.Errorf("a question: %+v, the record is %v", got, record)
			}
			if n := strings.Count(d.output.String(), `"severity":"WARNING","message":"OpenAI refuses the hosted workflow, Docent answers from the docs from now on: remove CHATKIT_WORKFLOW_ID"`); n != 1 {
				t.Errorf("%d warnings:\n%s", n, d.output)
			}
		})
	}
}

// TestSwitch_OtherFailures are those that say nothing of the workflow.
func TestSwitch_OtherFailures(t *testing.T) {
	t.Parallel()
	d := answering(t, docs(t, "CHATKIT_WORKFLOW_ID="+testWorkflow)...)
	for _, tt := range []struct{ upstream, calls, status int }{{401, 1, 502}, {422, 1, 502}, {429, 3, 503}, {500, 3, 503}} {
		for range tt.calls {
			d.openai.Fail(answers(tt.upstream, errorBody))
		}
		if r := d.ask(t, http.MethodPost, sessionPath, forAPI("any")); r.StatusCode != tt.status {
			t.Errorf("%d: %d %s, want %d", tt.upstream, r.StatusCode, r.body, tt.status)
		}
		if r := d.ask(t, http.MethodPost, sessionPath, forAPI("any")); r.StatusCode != 200 || r.ClientSecret == "" {
			t.Errorf("after %d: %d %s", tt.upstream, r.StatusCode, r.body)
		}
	}
}
