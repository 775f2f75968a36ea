// Package testthreads is the suite of tests that every store of conversations must
// pass.
package testthreads

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"docent/internal/chatkit"
)

const (
	// Keep is how long the stores of the suite keep threads.
	Keep = time.Hour

	visitor = "visitor-1"
	other   = "visitor-2"
)

// Noon is when the suite's threads begin. It has microseconds.
var Noon = time.Date(2026, 11, 24, 12, 0, 0, 123_456_000, time.UTC)

// Thread returns a new thread with one question and one answer.
func Thread(id, text string, updated time.Time) chatkit.Thread {
	head := func(id2 string, itemType chatkit.ItemType) chatkit.Head {
		return chatkit.Head{ID: id2, ThreadID: id, Created: chatkit.TimeOf(updated), Type: itemType}
	}
	return chatkit.Thread{
		ID: id, Title: "About " + id, Created: Noon, Updated: updated,
		Items: []chatkit.Item{
			&chatkit.UserMessage{
				Head:        head("msg_1", chatkit.TypeUserMessage),
				Content:     []chatkit.UserContent{{Type: "input_text", Text: "What is it?"}},
				Attachments: []struct{}{},
			},
			&chatkit.AssistantMessage{
				Head:     head("msg_2", chatkit.TypeAssistantMessage),
				Content:  []chatkit.OutputText{{Annotations: []chatkit.Annotation{}, Text: text}},
				Feedback: chatkit.Negative,
			},
		},
	}
}

// Put writes a thread, which must succeed, and returns it with its new version.
func Put(t *testing.T, s chatkit.Store, visitor string, thread chatkit.Thread) chatkit.Thread {
	t.Helper()
	version, err := s.Put(t.Context(), visitor, thread)
	if err != nil {
		t.Fatalf("Put: %v", err)
	}
	if version == 0 {
		t.Fatal("Put returned the version of a thread that was never stored")
	}
	thread.Version = version
	return thread
}

// want checks that a thread is stored as it is.
func want(t *testing.T, s chatkit.Store, visitor string, thread chatkit.Thread) {
	t.Helper()
	got, err := s.Get(t.Context(), visitor, thread.ID)
	if err != nil {
		t.Errorf("Get: %v", err)
		return
	}
	if diff := cmp.Diff(thread, got); diff != "" {
		t.Errorf("Get (-want +got):\n%s", diff)
	}
}

// wantError checks that an error is the one of chatkit's.
func wantError(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}

// wantGone checks that a visitor has no such thread.
func wantGone(t *testing.T, s chatkit.Store, visitor, id string) {
	t.Helper()
	_, err := s.Get(t.Context(), visitor, id)
	wantError(t, "Get", err, chatkit.ErrNotFound)
	if ids := list(t, s, visitor, chatkit.Cursor{Limit: 100}); slices.Contains(ids, id) {
		t.Error("List has a thread that is gone")
	}
	if ids := list(t, s, visitor, chatkit.Cursor{After: id, Limit: 100}); len(ids) > 0 {
		t.Errorf("after a thread that is gone, List has %v", ids)
	}
	wantError(t, "Delete", s.Delete(t.Context(), visitor, id), chatkit.ErrNotFound)
}

// list returns the IDs of one page.
func list(t *testing.T, s chatkit.Store, visitor string, p chatkit.Cursor) []string {
	t.Helper()
	ids, _ := page(t, s, visitor, p)
	return ids
}

func page(t *testing.T, s chatkit.Store, visitor string, p chatkit.Cursor) (ids []string, more bool) {
	t.Helper()
	threads, more, err := s.List(t.Context(), visitor, p)
	if err != nil {
		t.Fatalf("List(%+v): %v", p, err)
	}
	if more && len(threads) == 0 {
		t.Fatalf("List(%+v): an empty page, and more", p)
	}
	for _, thread := range threads {
		ids = append(ids, thread.ID)
	}
	return ids, more
}

// Run tests what every store must do. store returns an empty one.
func Run(t *testing.T, store func(t *testing.T, keep time.Duration, now func() time.Time) chatkit.Store) {
	t.Helper()
	atNoon := func(t *testing.T) chatkit.Store {
		t.Helper()
		return store(t, Keep, func() time.Time { return Noon })
	}

	t.Run("created, read, changed, deleted", func(t *testing.T) {
		t.Parallel()
		s := atNoon(t)
		thread := Put(t, s, visitor, Thread("thr_1", "A thing.", Noon))
		want(t, s, visitor, thread)

		first := thread.Version
		thread.Title, thread.Closed, thread.Updated = "Mine", true, Noon.Add(time.Microsecond)
		thread.Items = append(thread.Items[:2:2], &chatkit.HiddenContext{
			Head:    chatkit.Head{ID: "msg_3", ThreadID: thread.ID, Created: chatkit.TimeOf(Noon), Type: chatkit.TypeHiddenContext},
			Content: "The visitor left.",
		})
		thread = Put(t, s, visitor, thread)
		if thread.Version == first {
			t.Error("another text has the same version")
		}
		want(t, s, visitor, thread)

		if err := s.Delete(t.Context(), visitor, thread.ID); err != nil {
			t.Fatalf("Delete: %v", err)
		}
		wantGone(t, s, visitor, thread.ID)
		_, err := s.Put(t.Context(), visitor, thread)
		wantError(t, "Put of a deleted thread", err, chatkit.ErrNotFound)
		wantGone(t, s, visitor, thread.ID)
	})

	t.Run("a thread without items", func(t *testing.T) {
		t.Parallel()
		s := atNoon(t)
		thread := Put(t, s, visitor, chatkit.Thread{ID: "thr_1", Created: Noon, Updated: Noon})
		thread.Items = []chatkit.Item{}
		want(t, s, visitor, thread)
	})

	t.Run("times are to the microsecond", func(t *testing.T) {
		t.Parallel()
		s := atNoon(t)
		thread := Thread("thr_1", "A thing.", Noon)
		thread.Created, thread.Updated = Noon.Add(999*time.Nanosecond), Noon.Add(1999*time.Nanosecond)
		thread = Put(t, s, visitor, thread)
		thread.Created, thread.Updated = Noon, Noon.Add(time.Microsecond)
		want(t, s, visitor, thread)
	})

	t.Run("all texts", func(t *testing.T) {
		t.Parallel()
		for name, text := range map[string]string{
			"none":       "",
			"emoji":      "\U0001F469\u200d\U0001F680 \u2028",
			"NUL":        "a\x00b",
			"HTML":       `<b>&"\</b>`,
			"near 256kB": strings.Repeat("a", chatkit.MaxBytes-1000),
			"over 256kB": strings.Repeat("\u20ac", chatkit.MaxBytes/3) + strings.Repeat("a", 128<<10),
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				s := atNoon(t)
				thread := Thread("thr_1", text, Noon)
				thread.Title = text[:min(len(text), 60)]
				thread.Title = strings.ToValidUTF8(thread.Title, "")
				thread = Put(t, s, visitor, thread)
				want(t, s, visitor, thread)
				thread.Items = thread.Items[:1]
				want(t, s, visitor, Put(t, s, visitor, thread))
			})
		}
	})

	t.Run("a stale version is a conflict", func(t *testing.T) {
		t.Parallel()
		s := atNoon(t)
		stale := Put(t, s, visitor, Thread("thr_1", "First.", Noon))
		current := Thread("thr_1", "Second.", Noon)
		current.Version = stale.Version
		current = Put(t, s, visitor, current)
		for name, thread := range map[string]chatkit.Thread{
			"of a stale version": stale,
			"of a new thread":    Thread("thr_1", "Third.", Noon),
		} {
			_, err := s.Put(t.Context(), visitor, thread)
			wantError(t, "Put "+name, err, chatkit.ErrConflict)
			want(t, s, visitor, current)
		}
	})

	t.Run("what was read can be changed", func(t *testing.T) {
		t.Parallel()
		s := atNoon(t)
		thread := Put(t, s, visitor, Thread("thr_1", "A thing.", Noon))
		read, err := s.Get(t.Context(), visitor, thread.ID)
		if err != nil {
			t.Fatal(err)
		}
		read.Items[0] = read.Items[1]
		want(t, s, visitor, thread)
	})

	t.Run("another visitor's thread", func(t *testing.T) {
		t.Parallel()
		s := atNoon(t)
		thread := Put(t, s, visitor, Thread("thr_1", "A secret.", Noon))
		for _, stranger := range []string{other, "", "visitor-1/threads", visitor + "\x00", "VISITOR-1"} {
			wantGone(t, s, stranger, thread.ID)
			changed := Thread("thr_1", "Overwritten.", Noon)
			changed.Version = thread.Version
			_, err := s.Put(t.Context(), stranger, changed)
			wantError(t, "Put", err, chatkit.ErrNotFound)
			wantGone(t, s, stranger, thread.ID)
			want(t, s, visitor, thread)
		}
		theirs := Put(t, s, other, Thread("thr_1", "Another secret.", Noon))
		want(t, s, visitor, thread)
		if err := s.Delete(t.Context(), visitor, thread.ID); err != nil {
			t.Errorf("Delete: %v", err)
		}
		want(t, s, other, theirs)
	})

	t.Run("IDs that are not a thread's", func(t *testing.T) {
		t.Parallel()
		s := atNoon(t)
		Put(t, s, visitor, Thread("thr_1", "A thing.", Noon))
		for _, id := range []string{
			"", ".", "..", "/", "a/b", "../thr_1", "thr_1/", "/thr_1", "thr_1/threads/thr_1", "__id__", "-a", "_a", "a b", "a.b", "a\x00", "\xff", "\u00e4",
			strings.Repeat("a", 65), strings.Repeat("a", 10_000),
		} {
			name := fmt.Sprintf("%.20q", id)
			_, err := s.Get(t.Context(), visitor, id)
			wantError(t, "Get "+name, err, chatkit.ErrNotFound)
			_, err = s.Put(t.Context(), visitor, Thread(id, "A thing.", Noon))
			wantError(t, "Put "+name, err, chatkit.ErrNotFound)
			wantError(t, "Delete "+name, s.Delete(t.Context(), visitor, id), chatkit.ErrNotFound)
			if ids := list(t, s, visitor, chatkit.Cursor{After: id, Limit: 9}); id != "" && len(ids) > 0 {
				t.Errorf("List after %s: %v", name, ids)
			}
		}
		for _, id := range []string{"a", "Z9", "0", "a-_-", strings.Repeat("a", 64)} {
			want(t, s, visitor, Put(t, s, visitor, Thread(id, "A thing.", Noon)))
		}
	})

	t.Run("expiry", func(t *testing.T) {
		t.Parallel()
		now := Noon
		s := store(t, Keep, func() time.Time { return now })
		first := Thread("thr_1", "A thing.", Noon)
		stale := Put(t, s, visitor, first)
		stale.Items = stale.Items[:1]
		thread := Put(t, s, visitor, stale)
		young := Put(t, s, visitor, Thread("thr_2", "A thing.", Noon.Add(time.Minute)))

		now = Noon.Add(Keep - time.Microsecond)
		want(t, s, visitor, thread)
		if diff := cmp.Diff([]string{"thr_2", "thr_1"}, list(t, s, visitor, chatkit.Cursor{Limit: 9})); diff != "" {
			t.Errorf("before (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]string{"thr_2"}, list(t, s, visitor, chatkit.Cursor{Limit: 9, After: "thr_1", Ascending: true})); diff != "" {
			t.Errorf("after it, before (-want +got):\n%s", diff)
		}

		now = Noon.Add(Keep)
		_, err := s.Put(t.Context(), visitor, stale)
		wantError(t, "Put of a stale version", err, chatkit.ErrNotFound)
		wantGone(t, s, visitor, "thr_1")
		if diff := cmp.Diff([]string{"thr_2"}, list(t, s, visitor, chatkit.Cursor{Limit: 9})); diff != "" {
			t.Errorf("at the instant (-want +got):\n%s", diff)
		}
		if ids := list(t, s, visitor, chatkit.Cursor{Limit: 9, After: "thr_1", Ascending: true}); len(ids) > 0 {
			t.Errorf("after it, at the instant: %v", ids)
		}
		want(t, s, visitor, young)

		// A turn that began in time is stored.
		now = Noon.Add(Keep + time.Minute)
		young.Updated = now
		young = Put(t, s, visitor, young)
		now = now.Add(Keep - time.Microsecond)
		want(t, s, visitor, young)
	})

	t.Run("pages", func(t *testing.T) {
		t.Parallel()
		s := atNoon(t)
		// Two were updated at once: their IDs decide.
		all := []string{"thr_5", "thr_2", "thr_3", "thr_1", "thr_4"}
		at := []int64{0, 1, 1, 2, 3} // Microseconds.
		for _, i := range []int{3, 0, 4, 2, 1} {
			Put(t, s, visitor, Thread(all[i], "A thing.", time.UnixMicro(Noon.UnixMicro()+at[i]).UTC()))
		}
		Put(t, s, other, Thread("thr_6", "A thing.", Noon))
		for _, ascending := range []bool{true, false} {
			for limit := 1; limit <= len(all)+1; limit++ {
				var ids []string
				p := chatkit.Cursor{Limit: limit, Ascending: ascending}
				for more := true; more; {
					var got []string
					if got, more = page(t, s, visitor, p); len(got) > limit || more && len(got) < limit {
						t.Fatalf("List(%+v): %d entries, more: %v", p, len(got), more)
					}
					ids = append(ids, got...)
					p.After = ids[len(ids)-1]
				}
				expected := slices.Clone(all)
				if !ascending {
					slices.Reverse(expected)
				}
				if diff := cmp.Diff(expected, ids); diff != "" {
					t.Errorf("pages of %d, ascending: %v (-want +got):\n%s", limit, ascending, diff)
				}
				if ids, more := page(t, s, visitor, p); len(ids) > 0 || more {
					t.Errorf("after the last: %v, more: %v", ids, more)
				}
			}
		}
		if ids, more := page(t, s, "visitor-3", chatkit.Cursor{Limit: 1}); len(ids) > 0 || more {
			t.Errorf("of a visitor without threads: %v, more: %v", ids, more)
		}
	})

	t.Run("a page has no items", func(t *testing.T) {
		t.Parallel()
		s := atNoon(t)
		thread := Thread("thr_1", "A thing.", Noon)
		thread.Closed = true
		thread = Put(t, s, visitor, thread)
		threads, more, err := s.List(t.Context(), visitor, chatkit.Cursor{Limit: 1})
		thread.Items = nil
		if diff := cmp.Diff([]chatkit.Thread{thread}, threads); diff != "" || more || err != nil {
			t.Errorf("more: %v, %v (-want +got):\n%s", more, err, diff)
		}
	})

	t.Run("a cursor that is not there", func(t *testing.T) {
		t.Parallel()
		s := atNoon(t)
		for _, id := range []string{"thr_1", "thr_2", "thr_3"} {
			Put(t, s, visitor, Thread(id, "A thing.", Noon))
		}
		Put(t, s, other, Thread("thr_22", "A thing.", Noon))
		if err := s.Delete(t.Context(), visitor, "thr_2"); err != nil {
			t.Fatal(err)
		}
		for name, after := range map[string]string{"unknown": "thr_0", "deleted": "thr_2", "another visitor's": "thr_22"} {
			for _, ascending := range []bool{true, false} {
				if ids, more := page(t, s, visitor, chatkit.Cursor{After: after, Limit: 9, Ascending: ascending}); len(ids) > 0 || more {
					t.Errorf("%s, ascending: %v: %v, more: %v", name, ascending, ids, more)
				}
			}
		}
	})

	t.Run("written at once, one wins", func(t *testing.T) {
		t.Parallel()
		s := atNoon(t)
		thread := Thread("thr_1", "", Noon)
		for round := range 3 { // Of a new thread, and of a stored one twice.
			thread = one(t, s, thread, round)
		}
	})
}

// one lets several write the same version, and returns the only one that was
// written.
func one(t *testing.T, s chatkit.Store, thread chatkit.Thread, round int) chatkit.Thread {
	t.Helper()
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		won  []chatkit.Thread
		gate = make(chan struct{})
	)
	for i := range 8 {
		attempt := Thread(thread.ID, fmt.Sprintf("%d of round %d", i, round), Noon)
		attempt.Version = thread.Version
		wg.Go(func() {
			<-gate
			version, err := s.Put(t.Context(), visitor, attempt)
			if err != nil {
				wantError(t, "Put", err, chatkit.ErrConflict)
				return
			}
			attempt.Version = version
			mu.Lock()
			won = append(won, attempt)
			mu.Unlock()
		})
	}
	close(gate)
	wg.Wait()
	if len(won) != 1 {
		t.Fatalf("%d of 8 were written", len(won))
	}
	want(t, s, visitor, won[0])
	return won[0]
}
