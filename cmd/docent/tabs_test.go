package main_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"docent/internal/testkit/testprocess"
)

// held starts a Docent with a model that ends its answers when release is called.
// arrived is how many questions have reached it.
func held(t *testing.T, settings ...string) (d *docent, arrived <-chan struct{}, release func()) {
	t.Helper()
	d = answering(t, docs(t, settings...)...)
	at, free := make(chan struct{}, 100), make(chan struct{})
	whole := streams(delta("Run it."), completed)
	d.openai.RespondWith(slices.Repeat([]http.HandlerFunc{func(w http.ResponseWriter, r *http.Request) {
		at <- struct{}{}
		select {
		case <-free:
			whole(w, r)
		case <-r.Context().Done():
		}
	}}, 100)...)
	release = sync.OnceFunc(func() { close(free) })
	t.Cleanup(release)
	return d, at, release
}

// await waits for something that must happen soon.
func await(t *testing.T, happened <-chan struct{}) {
	t.Helper()
	select {
	case <-happened:
	case <-time.After(10 * time.Second):
		t.Fatal("a question did not reach the model")
	}
}

// tab sends a message of its own conversation and says how it ended.
func (v *reader) tab(t *testing.T, d *docent, widget bool) string {
	t.Helper()
	asker := reader{token: v.token, client: client}
	resp := asker.open(t.Context(), t, d, asker.message(installs), func(r *http.Request) {
		if !widget {
			r.Header.Del("Docent-Widget")
		}
	})
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Error(err)
	}
	var refused struct{ Code string }
	switch isJSON := json.Unmarshal(body, &refused) == nil; {
	case isJSON:
		return fmt.Sprintf("%d %s after %s s", resp.StatusCode, refused.Code, resp.Header.Get("Retry-After"))
	case strings.Contains(string(body), `"type":"error"`):
		all := events(t, string(body))
		return fmt.Sprintf("%d, %d events: %s", resp.StatusCode, len(all), all[len(all)-1].Message)
	default:
		s, _ := readShown(t, string(body), installs)
		return s.Text
	}
}

// TestTabs_OneVisitor has twenty tabs of one visitor ask: while the answers of two are
// being written, the others are refused. That costs none of the minute's messages.
func TestTabs_OneVisitor(t *testing.T) {
	t.Parallel()
	d, arrived, release := held(t, "RATE_LIMIT_MESSAGES_PER_MINUTE=5")
	testprocess.WholeMinute()
	v := newReader(t, d)
	var first, others sync.WaitGroup
	for i := range 2 {
		first.Go(func() {
			if got := v.tab(t, d, true); got != "Run it." {
				t.Errorf("tab %d: %q", i, got)
			}
		})
	}
	await(t, arrived)
	await(t, arrived)
	for i := range 18 {
		others.Go(func() {
			widget, want := true, "429 busy after 5 s"
			if i%2 == 0 {
				widget, want = false, "200, 1 events: The assistant is busy. Please try again in a moment."
			}
			if got := v.tab(t, d, widget); got != want {
				t.Errorf("tab %d: %q, want %q", i+2, got, want)
			}
		})
	}
	others.Wait()
	release()
	first.Wait()
	for n := range 3 {
		if got := v.tab(t, d, true); got != "Run it." {
			t.Errorf("message %d of the minute: %q", n+3, got)
		}
	}
	if got := v.tab(t, d, true); !strings.HasPrefix(got, "429 rate_limited") {
		t.Errorf("the sixth message of the minute: %q", got)
	}
	if n := len(d.openai.Responses()); n != 5 {
		t.Errorf("the model was asked %d times, want 5", n)
	}
}

// TestTabs_ManyVisitors has twenty visitors behind one address ask at the same time.
func TestTabs_ManyVisitors(t *testing.T) {
	t.Parallel()
	const visitors = 20
	d, arrived, release := held(t, fmt.Sprint("RATE_LIMIT_MESSAGES_PER_MINUTE=", visitors+1))
	testprocess.WholeMinute()
	var all sync.WaitGroup
	for i := range visitors {
		v := newReader(t, d)
		all.Go(func() {
			if got := v.tab(t, d, true); got != "Run it." {
				t.Errorf("visitor %d: %q", i, got)
			}
		})
	}
	for range visitors {
		await(t, arrived)
	}
	release()
	all.Wait()
	v := newReader(t, d)
	if got := v.tab(t, d, true); got != "Run it." {
		t.Errorf("one message more: %q", got)
	}
	if got := v.tab(t, d, true); !strings.HasPrefix(got, "429 rate_limited") {
		t.Errorf("two messages more: %q", got)
	}
}
