package chatkit_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"docent/internal/chatkit"
	"docent/internal/testkit/testthreads"
)

func TestMemory(t *testing.T) {
	t.Parallel()
	testthreads.Run(t, func(_ *testing.T, keep time.Duration, now func() time.Time) chatkit.Store {
		return chatkit.NewMemory(keep, now)
	})
}

// has reports whether a visitor has a thread. It asks in a way that is not a use.
func has(t *testing.T, m *chatkit.Memory, visitor, id string) bool {
	t.Helper()
	threads, _, err := m.List(t.Context(), visitor, chatkit.Cursor{Limit: 20_000})
	if err != nil {
		t.Fatal(err)
	}
	for _, thread := range threads {
		if thread.ID == id {
			return true
		}
	}
	return false
}

// put stores new threads of a visitor, each of so many bytes of text.
func put(t *testing.T, m *chatkit.Memory, visitor string, updated time.Time, bytes int, ids ...string) {
	t.Helper()
	for _, id := range ids {
		testthreads.Put(t, m, visitor, testthreads.Thread(id, strings.Repeat("a", bytes), updated))
	}
}

func TestMemory_LeastRecentlyUsedGoesFirst(t *testing.T) {
	t.Parallel()
	fill := func(t *testing.T, m *chatkit.Memory, n, bytes int) {
		t.Helper()
		for i := range n {
			put(t, m, fmt.Sprintf("visitor-%d", i), noon, bytes, "thr_0")
		}
	}
	for _, tt := range []struct {
		name     string
		n, bytes int // What fills the memory, with the four threads.
	}{
		{"10,000 threads", 9_996, 0},
		{"64 MiB", 64<<2 - 4, 256<<10 - 1600},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := chatkit.NewMemory(time.Hour, func() time.Time { return noon })
			put(t, m, "a", noon, tt.bytes, "listed", "read", "written", "old")
			fill(t, m, tt.n, tt.bytes)
			if !has(t, m, "a", "listed") {
				t.Fatal("a thread is gone before the memory is full")
			}
			if _, err := m.Get(t.Context(), "a", "read"); err != nil {
				t.Fatal(err)
			}
			written, err := m.Get(t.Context(), "a", "written")
			if err != nil {
				t.Fatal(err)
			}
			testthreads.Put(t, m, "a", written)
			// Two more in the place of two.
			put(t, m, "b", noon, tt.bytes, "thr_1", "thr_2")
			for id, want := range map[string]bool{"listed": false, "read": true, "written": true, "old": false} {
				if got := has(t, m, "a", id); got != want {
					t.Errorf("the thread that was %s is there: %v", id, got)
				}
			}
			if !has(t, m, "visitor-0", "thr_0") {
				t.Error("more is gone than had to")
			}
			if _, err := m.Put(t.Context(), "a", chatkit.Thread{ID: "old", Version: 4}); !errors.Is(err, chatkit.ErrNotFound) {
				t.Errorf("Put of one that is gone: %v", err)
			}
		})
	}
}

// putTitled stores new threads of a visitor, of which four take less than 64 MiB
// and five take more. Their titles are that long: to encode as long an answer takes
// a second.
func putTitled(t *testing.T, m *chatkit.Memory, visitor string, updated time.Time, ids ...string) {
	t.Helper()
	for _, id := range ids {
		testthreads.Put(t, m, visitor, chatkit.Thread{ID: id, Title: strings.Repeat("a", 64<<20/5), Updated: updated})
	}
}

// What has expired makes room, although it was used last.
func TestMemory_ExpiredMakesRoom(t *testing.T) {
	t.Parallel()
	now := noon
	m := chatkit.NewMemory(time.Hour, func() time.Time { return now })
	putTitled(t, m, "a", noon, "expires_1", "expires_2")
	putTitled(t, m, "a", noon.Add(time.Minute), "stays_1", "stays_2")
	for _, id := range []string{"expires_1", "expires_2"} {
		if _, err := m.Get(t.Context(), "a", id); err != nil {
			t.Fatal(err)
		}
	}
	now = noon.Add(time.Hour)
	putTitled(t, m, "b", now, "new_1", "new_2")
	for _, id := range []string{"stays_1", "stays_2"} {
		if !has(t, m, "a", id) {
			t.Errorf("%s had to go", id)
		}
	}
}

// What is deleted makes room, and what grows takes it.
func TestMemory_CountsWhatIsStored(t *testing.T) {
	t.Parallel()
	m := chatkit.NewMemory(time.Hour, func() time.Time { return noon })
	putTitled(t, m, "a", noon, "thr_1", "thr_2", "thr_3", "thr_4")
	if err := m.Delete(t.Context(), "a", "thr_4"); err != nil {
		t.Fatal(err)
	}
	putTitled(t, m, "a", noon, "thr_5")
	for range 9 { // The same text again takes no more.
		thread, err := m.Get(t.Context(), "a", "thr_2")
		if err != nil {
			t.Fatal(err)
		}
		testthreads.Put(t, m, "a", thread)
	}
	if !has(t, m, "a", "thr_1") {
		t.Fatal("a thread is gone while there is room")
	}
	thread, err := m.Get(t.Context(), "a", "thr_2")
	if err != nil {
		t.Fatal(err)
	}
	thread.Title += thread.Title
	testthreads.Put(t, m, "a", thread)
	if has(t, m, "a", "thr_1") {
		t.Error("a thread that grew took no room")
	}
}
