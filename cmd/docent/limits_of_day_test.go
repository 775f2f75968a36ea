package main_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"docent/internal/testkit/testfirestore"
)

// wholeDay waits for the next day (UTC) if too little is left of this one for a test.
func wholeDay() {
	const day = 24 * time.Hour
	if left := time.Until(time.Now().Truncate(day).Add(day)); left < time.Minute {
		<-time.After(left)
	}
}

// site is a number of instances that share a store.
type site struct {
	settings []string
}

func newSite(t *testing.T, settings ...string) *site {
	t.Helper()
	return &site{settings: docs(t, append(settings, "FIRESTORE_EMULATOR_HOST="+testfirestore.Address(t), "GOOGLE_CLOUD_PROJECT="+testfirestore.Project())...)}
}

// instance starts one more.
func (s *site) instance(t *testing.T) *docent {
	t.Helper()
	return answering(t, s.settings...)
}

// outcome asks a question from an address, as a visitor of its own, and returns
// "answered", the code of a 429, or what a stream says instead of an answer.
func outcome(t *testing.T, d *docent, v *reader, address string) string {
	t.Helper()
	asker := reader{token: v.token, client: client}
	resp := asker.open(t.Context(), t, d, asker.message(installs), header("X-Forwarded-For", address))
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Error(err)
	}
	if resp.StatusCode == http.StatusOK {
		all := events(t, string(body))
		last := all[len(all)-1]
		if last.Type == "thread.item.done" {
			return "answered"
		}
		return last.Message
	}
	var refused struct{ Code string }
	if err := json.Unmarshal(body, &refused); err != nil || resp.StatusCode != http.StatusTooManyRequests {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
	if refused.Code == "answers_used_up" {
		const day = 24 * time.Hour
		left := time.Until(time.Now().Truncate(day).Add(day)).Seconds()
		after, err := strconv.ParseFloat(resp.Header.Get("Retry-After"), 64)
		if err != nil || after < left-5 || after > left+5 {
			t.Errorf("Retry-After: %q, the day has %.0f s left", resp.Header.Get("Retry-After"), left)
		}
	}
	return refused.Code
}

// crowd has visitors ask at the same time, each from an address of its own and on the
// instances in turn, and counts the outcomes. Whoever is told that instances were
// counting at the same instant asks again.
func crowd(t *testing.T, from string, visitors, questions int, instances ...*docent) map[string]int {
	t.Helper()
	var mu sync.Mutex
	outcomes := map[string]int{}
	var all sync.WaitGroup
	for i := range visitors {
		v := newReader(t, instances[0])
		all.Go(func() {
			for n := range questions {
				d, address := instances[(i+n)%len(instances)], fmt.Sprintf("%s.%d", from, i)
				got := outcome(t, d, v, address)
				for attempt := 0; got == "busy" && attempt < 5; attempt++ {
					got = outcome(t, d, v, address)
				}
				mu.Lock()
				outcomes[got]++
				mu.Unlock()
			}
		})
	}
	all.Wait()
	return outcomes
}

const usedUp = "answers_used_up"

// checkDay checks the outcomes of a crowd. There are never more answers than wanted.
// There are fewer only where instances contended for a count, which Firestore may
// carry out after an instance has given up.
func checkDay(t *testing.T, what string, want, got map[string]int, instances ...*docent) {
	t.Helper()
	for _, d := range instances {
		if lost := want["answered"] - got["answered"]; lost > 0 && strings.Contains(d.output.String(), `"limited_by":"contention"`) {
			t.Logf("%s: %d answers were lost to contention", what, lost)
			got["answered"] += lost
			got[usedUp] -= lost
			break
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// TestDay_ThreeInstances uses a day up on three instances. Its leases are of one
// answer.
func TestDay_ThreeInstances(t *testing.T) {
	t.Parallel()
	wholeDay()
	s := newSite(t, "ANSWERS_PER_DAY=40", "ANSWERS_PER_DAY_PER_ADDRESS=4", "RATE_LIMIT_MESSAGES_PER_MINUTE=30")
	all := []*docent{s.instance(t), s.instance(t), s.instance(t)}
	got := crowd(t, "198.18.0", 1, 12, all...)
	checkDay(t, "one address cannot use up the site's day", map[string]int{"answered": 4, usedUp: 8}, got, all...)
	got = crowd(t, "198.18.1", 6, 4, all[0])
	checkDay(t, "one instance", map[string]int{"answered": 24}, got, all...)
	got = crowd(t, "198.18.2", 9, 3, all...)
	checkDay(t, "three at the same time", map[string]int{"answered": 12, usedUp: 15}, got, all...)
	got = crowd(t, "198.18.3", 1, 40, all...) // More than the messages of a minute.
	checkDay(t, "what the day refuses costs no message", map[string]int{usedUp: 40}, got, all...)
	for i, d := range all {
		if n := strings.Count(d.output.String(), "the site's answers of this day are used up (ANSWERS_PER_DAY)"); n != 1 {
			t.Errorf("instance %d warns %d times", i, n)
		}
	}
}

// TestDay_LeaseGivenBack stops an instance that holds a part of a day, which another
// one then uses. Leases are of four answers.
func TestDay_LeaseGivenBack(t *testing.T) {
	t.Parallel()
	wholeDay()
	s := newSite(t, "ANSWERS_PER_DAY=400", "ANSWERS_PER_DAY_PER_ADDRESS=40", "RATE_LIMIT_MESSAGES_PER_MINUTE=unlimited")
	first, second, third := s.instance(t), s.instance(t), s.instance(t)
	all := []*docent{first, second, third}
	checkDay(t, "the first takes four", map[string]int{"answered": 1}, crowd(t, "198.18.0", 1, 1, first), all...)
	checkDay(t, "the second alone", map[string]int{"answered": 360}, crowd(t, "198.18.1", 12, 30, second), all...)
	got := crowd(t, "198.18.2", 12, 4, second, third)
	checkDay(t, "while the first holds three", map[string]int{"answered": 36, usedUp: 12}, got, all...)
	if err := first.process.Stop(); err != nil {
		t.Error(err)
	}
	got = crowd(t, "198.18.3", 8, 1, s.instance(t))
	checkDay(t, "after the first has stopped", map[string]int{"answered": 3, usedUp: 5}, got, all...)
}
