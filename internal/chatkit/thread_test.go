package chatkit_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"docent/internal/chatkit"
)

// apply applies operations, which must not fail.
func apply(t *testing.T, thread chatkit.Thread, ops ...chatkit.Operation) chatkit.Thread {
	t.Helper()
	after, err := chatkit.Apply(thread, noon, ops...)
	if err != nil {
		t.Fatal(err)
	}
	return after
}

func TestAppend_Title(t *testing.T) {
	t.Parallel()
	const word = "abcdefghi " // 10 characters.
	rocket := "\U0001F680"
	for _, tt := range []struct {
		name, question, want string
	}{
		{"short", "How do I install it?", "How do I install it?"},
		{"60 characters", strings.Repeat(word, 5) + "abcdefghij", strings.Repeat(word, 5) + "abcdefghij"},
		{"61 characters", strings.Repeat(word, 5) + "abcdefghijk", strings.TrimSpace(strings.Repeat(word, 5))},
		{"a word that ends at 60", strings.Repeat(word, 5) + "abcdefghij more", strings.Repeat(word, 5) + "abcdefghij"},
		{"one long word", strings.Repeat("a", 99), strings.Repeat("a", 60)},
		{"emoji", strings.Repeat(rocket, 61), strings.Repeat(rocket, 60)},
		{"60 emoji", strings.Repeat(rocket, 60), strings.Repeat(rocket, 60)},
		{"line breaks and spaces", "\n How\r\n\tdo  I\u2028install\u00a0it? ", "How do I install it?"},
		{"spaces alone", " \n ", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := apply(t, chatkit.Thread{}, chatkit.Append(question("msg_1", tt.question)))
			if diff := cmp.Diff(tt.want, got.Title); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	t.Run("a title is kept", func(t *testing.T) {
		t.Parallel()
		got := apply(t, chatkit.Thread{}, chatkit.Append(answer("msg_0", "Hello.")), chatkit.Append(question("msg_1", "First?")), chatkit.Append(question("msg_2", "Second?")))
		if got.Title != "First?" {
			t.Errorf("the title is %q", got.Title)
		}
	})
}

// Two instances, or one that tries again, may apply an operation twice.
func TestOperation_AppliedTwice(t *testing.T) {
	t.Parallel()
	first := []chatkit.Item{question("msg_1", "Why?"), answer("msg_2", "So."), note("msg_3", "Left.")}
	rated := answer("msg_2", "So.")
	rated.Feedback = chatkit.Positive
	for _, tt := range []struct {
		name string
		op   chatkit.Operation
		want chatkit.Thread
	}{
		{"append", chatkit.Append(answer("msg_4", "More.")), chatkit.Thread{Title: "Why?", Items: append(first[:3:3], answer("msg_4", "More."))}},
		{"append what is there", chatkit.Append(question("msg_1", "Why?")), chatkit.Thread{Title: "Why?", Items: first}},
		{"remove", chatkit.Remove("msg_2", "msg_3", "msg_9"), chatkit.Thread{Title: "Why?", Items: first[:1]}},
		{"set the title", chatkit.SetTitle("Mine"), chatkit.Thread{Title: "Mine", Items: first}},
		{"set feedback", chatkit.SetFeedback(chatkit.Positive, "msg_1", "msg_2", "msg_9"), chatkit.Thread{Title: "Why?", Items: []chatkit.Item{first[0], rated, first[2]}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			before := chatkit.Thread{Title: "Why?", Items: append([]chatkit.Item(nil), first...), Updated: noon.Add(-time.Hour)}
			tt.want.Updated = before.Updated
			if tt.name == "append" || tt.name == "remove" {
				tt.want.Updated = noon // Only what is said makes a thread newer.
			}
			if diff := cmp.Diff(tt.want, apply(t, before, tt.op)); diff != "" {
				t.Errorf("once (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.want, apply(t, apply(t, before, tt.op), tt.op)); diff != "" {
				t.Errorf("twice (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(first, before.Items); diff != "" {
				t.Errorf("the thread before was changed (-want +got):\n%s", diff)
			}
		})
	}
}

func TestThread_Updated(t *testing.T) {
	t.Parallel()
	got, err := chatkit.Apply(chatkit.Thread{}, noon.Add(1500*time.Nanosecond).In(time.FixedZone("", 3600)), chatkit.Append(question("msg_1", "Why?")))
	if err != nil {
		t.Fatal(err)
	}
	if want := noon.Add(time.Microsecond); got.Updated != want {
		t.Errorf("updated %v, want %v", got.Updated, want)
	}
}

func TestThread_Closed(t *testing.T) {
	t.Parallel()
	many := func(n int) (ops []chatkit.Operation) {
		for i := range n {
			ops = append(ops, chatkit.Append(question(fmt.Sprintf("msg_%d", i), "?")))
		}
		return ops
	}
	// large returns an item that takes n bytes in a store.
	large := func(n int) []chatkit.Operation {
		empty, err := chatkit.EncodeItems([]chatkit.Item{answer("msg_1", "")})
		if err != nil {
			t.Fatal(err)
		}
		return []chatkit.Operation{chatkit.Append(answer("msg_1", strings.Repeat("a", n-len(empty))))}
	}
	for _, tt := range []struct {
		name string
		ops  []chatkit.Operation
		want bool
	}{
		{"199 items", many(199), false},
		{"200 items", many(200), true},
		{"a byte less than 256 kB", large(256<<10 - 1), false},
		{"256 kB", large(256 << 10), true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			full := apply(t, chatkit.Thread{}, tt.ops...)
			if full.Closed != tt.want {
				t.Errorf("closed: %v", full.Closed)
			}
			// An item less does not open it again.
			if less := apply(t, full, chatkit.Remove("msg_1")); less.Closed != tt.want {
				t.Errorf("closed without an item: %v", less.Closed)
			}
		})
	}
}
