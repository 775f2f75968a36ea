package httpapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"docent/internal/chatkit"
	"docent/internal/firestore"
	"docent/internal/httpapi"
	"docent/internal/ratelimit"
	"docent/internal/testkit/testfirestore"

	"github.com/google/go-cmp/cmp"
)

// answersOf limits a site's messages a minute and answers a day.
func answersOf(messages, perAddress, site int) func(*httpapi.Options) {
	return func(o *httpapi.Options) {
		o.Chat.Messages = ratelimit.New(ratelimit.Options{Name: "messages", Limit: messages, Window: time.Minute, Log: o.Log, Now: o.Now})
		o.Chat.Answers = ratelimit.NewDay(ratelimit.DayOptions{PerAddress: perAddress, Site: site, Log: o.Log, Now: o.Now})
	}
}

// outcome sends a request and returns the status, or the code of an error.
func (s *chatSite) outcome(t *testing.T, body string, header ...string) string {
	t.Helper()
	resp, text := s.chat(t, body, header...)
	var answer struct{ Code string }
	if resp.StatusCode == http.StatusOK {
		return "answered"
	}
	if err := json.Unmarshal([]byte(text), &answer); err != nil {
		t.Errorf("%s %q: %v", resp.Status, text, err)
	}
	return answer.Code
}

func (s *chatSite) outcomes(t *testing.T, n int, body string, header ...string) (got []string) {
	t.Helper()
	for range n {
		got = append(got, s.outcome(t, body, header...))
	}
	return got
}

func retry(thread string) string {
	return `{"type":"threads.retry_after_item","params":{"thread_id":"` + thread + `","item_id":"x"}}`
}

// refuser gives the same answer for each address.
type refuser struct {
	decision ratelimit.Decision
	err      error
}

func (r refuser) Take(context.Context, ratelimit.Key) (ratelimit.Decision, error) {
	return r.decision, r.err
}

func (refuser) Refused(ratelimit.Key) (ratelimit.Decision, bool) { return ratelimit.Decision{}, false }

// counted counts what is asked of a limiter.
type counted struct {
	httpapi.Limiter

	takes *atomic.Int64
}

func (c counted) Take(ctx context.Context, key ratelimit.Key) (ratelimit.Decision, error) {
	c.takes.Add(1)
	return c.Limiter.Take(ctx, key)
}

// An address that has used up its day cannot have messages counted and given back
// without end.
func TestAnswersUsedUp_CostNothing(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		limit func(*httpapi.Options)
		takes int64 // Of 20 messages.
	}{
		"address": {answersOf(10, 2, 100), 3}, // The third finds out.
		"site":    {answersOf(10, ratelimit.Unlimited, 2), 3},
		"nothing": {answersOf(10, ratelimit.Unlimited, 0), 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var takes atomic.Int64
			s := chats(t, yes, tt.limit, func(o *httpapi.Options) { o.Chat.Messages = counted{o.Chat.Messages, &takes} })
			got := s.outcomes(t, 20, create("hello"))
			if want := "answers_used_up"; got[2] != want || got[19] != want {
				t.Errorf("outcomes: %q", got)
			}
			if n := takes.Load(); n > tt.takes {
				t.Errorf("%d messages were counted, want %d", n, tt.takes)
			}
		})
	}
}

func TestAnswersUsedUp(t *testing.T) {
	t.Parallel()
	const told = "The assistant has given all its answers for today. Please come back tomorrow."
	for name, limit := range map[string]func(*httpapi.Options){
		"address": answersOf(10, 1, 100),
		"site":    answersOf(10, ratelimit.Unlimited, 1),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := chats(t, yes, limit)
			if got := s.outcome(t, create("hello")); got != "answered" {
				t.Errorf("the first: %s", got)
			}
			s.set(noon.Add(11*time.Hour + 58*time.Minute + 500*time.Millisecond))
			resp, body := s.chat(t, create("hello"), "Authorization", s.bearer("v"))
			var answer struct {
				Error, Message, Code string
				RetryAfter           int `json:"retry_after"`
			}
			if err := json.Unmarshal([]byte(body), &answer); err != nil {
				t.Errorf("%q: %v", body, err)
			}
			want := []any{429, "120", "", told, told, "answers_used_up", 120}
			got := []any{resp.StatusCode, resp.Header.Get("Retry-After"), resp.Header.Get("RateLimit"), answer.Error, answer.Message, answer.Code, answer.RetryAfter}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("the widget gets (-want +got):\n%s", diff)
			}
			resp, body = s.chat(t, create("hello"), "Docent-Widget", "")
			if diff := cmp.Diff([]any{200, "", []event{{Type: "error", Message: told}}}, []any{resp.StatusCode, resp.Header.Get("Retry-After"), eventsIn(t, body)}); diff != "" {
				t.Errorf("ChatKit gets (-want +got):\n%s", diff)
			}
			if log := s.written(); !strings.Contains(log, `"limited_by":"`+name+`"`) || !strings.Contains(log, `"outcome":"answers_used_up"`) {
				t.Errorf("the log does not say whose day it is: %s", log)
			}
			s.set(noon.Add(12 * time.Hour))
			if got := s.outcome(t, create("hello"), "Authorization", s.bearer("v")); got != "answered" {
				t.Errorf("after midnight: %s", got)
			}
		})
	}
}

// bearer returns the header with a fresh session token.
func (s *chatSite) bearer(visitor string) string {
	sealed, _ := s.visitors.Session(visitor, time.Minute)
	return "Bearer " + sealed
}

func TestAnswersOfADay_OneAddressDoesNotUseUpTheSite(t *testing.T) {
	t.Parallel()
	s := chats(t, yes, answersOf(1000, 100, 2000))
	counts := map[string]int{}
	for _, got := range s.outcomes(t, 150, create("hello")) {
		counts[got]++
	}
	if diff := cmp.Diff(map[string]int{"answered": 100, "answers_used_up": 50}, counts); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := s.outcome(t, create("hello"), "X-Forwarded-For", "192.0.2.2"); got != "answered" {
		t.Errorf("another address: %s", got)
	}
}

// What the day refuses costs neither a message nor a slot, and nothing is asked.
func TestAnswersOfADay_GiveBack(t *testing.T) {
	t.Parallel()
	asked := 0
	s := chats(t, func(_ context.Context, _ chatkit.Question, a *chatkit.Answer) error {
		asked++
		return a.Write("Yes.")
	}, answersOf(2, 1, 100))
	want := []string{"answered", "answers_used_up", "answers_used_up", "answers_used_up", "answers_used_up"}
	if diff := cmp.Diff(want, s.outcomes(t, 5, create("hello"))); diff != "" || asked != 1 {
		t.Errorf("asked %d times (-want +got):\n%s", asked, diff)
	}
	s.set(noon.Add(12 * time.Hour))
	if got := s.outcome(t, create("hello"), "Authorization", s.bearer("v")); got != "answered" {
		t.Errorf("the next day: %s", got)
	}
}

func TestAnswersOfADay_Order(t *testing.T) {
	t.Parallel()
	unknown := add("thr_"+strings.Repeat("A", 26), "hello")
	t.Run("messages first", func(t *testing.T) {
		t.Parallel()
		s := chats(t, yes, answersOf(2, 100, 100)) // An unknown thread costs a message.
		got := append(s.outcomes(t, 3, unknown), s.outcome(t, create("hello")))
		if diff := cmp.Diff([]string{"thread_not_found", "thread_not_found", "rate_limited", "rate_limited"}, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
	t.Run("shape and thread before the day", func(t *testing.T) {
		t.Parallel()
		s := chats(t, yes, answersOf(10, 1, 100))
		got := []string{s.outcome(t, create("")), s.outcome(t, unknown), s.outcome(t, create("hello")), s.outcome(t, create("hello"))}
		if diff := cmp.Diff([]string{"bad_request", "thread_not_found", "answered", "answers_used_up"}, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
	t.Run("answers at once before the day", func(t *testing.T) {
		t.Parallel()
		p := newPausing()
		s := chats(t, p.respond, answersOf(10, 2, 100), func(o *httpapi.Options) { o.Chat.AtOnce = 1 })
		leave, _ := s.start(t, create("hello"))
		defer leave()
		<-p.begun
		if got := s.outcome(t, create("hello")); got != "busy" {
			t.Errorf("beside another answer: %s", got)
		}
		leave()
		<-p.ended
		s.await(t, 2)
		close(p.resume)
		if diff := cmp.Diff([]string{"answered", "answers_used_up"}, s.outcomes(t, 2, create("hello"))); diff != "" {
			t.Errorf("afterwards (-want +got):\n%s", diff)
		}
	})
}

func TestAnswersOfADay_RetryCounts(t *testing.T) {
	t.Parallel()
	s := chats(t, yes, answersOf(10, 2, 100))
	_, body := s.chat(t, create("hello"))
	thread := eventsIn(t, body)[0].Thread.ID
	if diff := cmp.Diff([]string{"answered", "answers_used_up"}, s.outcomes(t, 2, retry(thread))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestAnswersOfADay_RepeatDoesNotCount(t *testing.T) {
	t.Parallel()
	p := newPausing()
	s := chats(t, p.respond, answersOf(10, 1, 100))
	frame := []string{"Chatkit-Frame-Instance-Id", "f"}
	_, first := s.start(t, create("hello"), frame...)
	<-p.begun
	_, again := s.start(t, create("hello"), frame...)
	<-p.begun
	<-p.ended
	<-first
	close(p.resume)
	if got := last(t, <-again); got != "thread.item.done" {
		t.Errorf("the repeat ends with %s", got)
	}
	if got := s.outcome(t, create("hello"), frame...); got != "answers_used_up" {
		t.Errorf("another message: %s", got)
	}
}

func TestAnswersOfADay_NotCounted(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name       string
		answers    refuser
		want       string
		status     int
		retryAfter string
	}{
		{"the store is down", refuser{err: ratelimit.ErrUnavailable}, "limiter_unavailable", 200, ""},
		{"contention", refuser{decision: ratelimit.Decision{Refused: ratelimit.ByContention, Reset: time.Hour}}, "busy", 429, "5"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := chats(t, yes, answersOf(1, 0, 0), func(o *httpapi.Options) { o.Chat.Answers = tt.answers })
			for range 3 { // It has not cost the only message.
				resp, body := s.chat(t, create("hello"))
				if resp.StatusCode != tt.status || resp.Header.Get("Retry-After") != tt.retryAfter || strings.Contains(body, "rate_limited") {
					t.Errorf("%s %v %s", resp.Status, resp.Header, body)
				}
				if tt.status == 200 && eventsIn(t, body)[0].Type != "error" {
					t.Errorf("the stream has %s", body)
				}
			}
			if log := s.written(); strings.Count(log, `"outcome":"`+tt.want+`"`) != 3 {
				t.Errorf("the log has no %s: %s", tt.want, log)
			}
		})
	}
}

// waiting holds a request until its visitor leaves.
type waiting struct{ begun chan struct{} }

func (w waiting) Take(ctx context.Context, _ ratelimit.Key) (ratelimit.Decision, error) {
	w.begun <- struct{}{}
	<-ctx.Done()
	return ratelimit.Decision{}, ctx.Err()
}

func (waiting) Refused(ratelimit.Key) (ratelimit.Decision, bool) { return ratelimit.Decision{}, false }

// A visitor who leaves has had a thread read: that costs a message, but not a slot.
func TestAnswersOfADay_VisitorLeaves(t *testing.T) {
	t.Parallel()
	w := waiting{make(chan struct{})}
	s := chats(t, yes, answersOf(3, 0, 0), func(o *httpapi.Options) { o.Chat.Answers = w })
	for n := range 3 { // One more than a visitor has slots.
		leave, _ := s.start(t, create("hello"))
		<-w.begun
		leave()
		s.await(t, n+1)
	}
	if got := s.outcome(t, create("hello")); got != "rate_limited" {
		t.Errorf("the fourth: %s", got)
	}
	if log := s.written(); strings.Count(log, `"outcome":"client_gone"`) != 3 {
		t.Errorf("the log has %s", log)
	}
}

// Three instances share a day in Firestore.
func TestAnswersOfADay_ThreeInstances(t *testing.T) {
	t.Parallel()
	const limit = 200 // Leases of 2.
	options := firestore.Options{Project: testfirestore.Project(), Database: "(default)", Emulator: testfirestore.Address(t)}
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		got  = map[string]int{}
		days []*ratelimit.Day
	)
	for instance := range 3 {
		client, err := firestore.Open(t.Context(), options)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { client.Close() })
		store, err := client.Buckets("rate_limits", bytes.Repeat([]byte("k"), 32))
		if err != nil {
			t.Fatal(err)
		}
		s := chats(t, yes, func(o *httpapi.Options) {
			d := ratelimit.NewDay(ratelimit.DayOptions{
				PerAddress: ratelimit.Unlimited, Site: limit, Store: store, Deny: true, StoreTimeout: time.Minute,
				Log: slog.New(slog.DiscardHandler), Now: o.Now,
			})
			days = append(days, d)
			o.Chat.Messages, o.Chat.Answers = nil, d
		})
		for visitor := range 10 {
			wg.Go(func() {
				for range 10 {
					outcome := "busy"
					for outcome == "busy" {
						outcome = s.outcome(t, create("hello"), "Authorization", s.bearer(fmt.Sprint(visitor)), "X-Forwarded-For", fmt.Sprintf("192.0.2.%d", 10*instance+visitor))
					}
					mu.Lock()
					got[outcome]++
					mu.Unlock()
				}
			})
		}
	}
	wg.Wait()
	for _, d := range days {
		d.Drain(t.Context())
	}
	// An instance may have had one of a lease left when its visitors had enough.
	if n := got["answered"]; n > limit || n < limit-3 || n+got["answers_used_up"] != 300 {
		t.Errorf("%v, want %d answered", got, limit)
	}
}
